"""`pictorch serve`: a finished run answers over HTTP."""

import importlib.util
import os
import signal
from pathlib import Path
from urllib.parse import urlsplit

from pictorch.cli.text import say
from pictorch.config import UserError
from pictorch.runs import RunDir

PACKAGES = ("fastapi", "uvicorn", "python_multipart", "prometheus_client")


def serve(
    run_dir: str,
    *,
    host: str,
    port: int,
    threads: int | None,
    max_megabytes: int,
    max_megapixels: float,
    max_images: int,
    allow_urls: bool,
    allow_hosts: list[str],
    allow_origins: list[str],
) -> None:
    """Serve the run until Ctrl-C or SIGTERM."""
    check_packages()
    from pictorch import runs
    from pictorch.deploy.predict import Predictor
    from pictorch.deploy.server import application, listening
    from pictorch.deploy.server.limits import Limits, MiB, allowed_hosts, is_loopback

    body_bytes = max_megabytes * MiB
    limits = Limits(
        body_bytes=body_bytes,
        held_bytes=max(Limits.held_bytes, 2 * body_bytes),
        pixels=int(max_megapixels * 1e6),
        images=max_images,
        waiting_images=max(Limits.waiting_images, 2 * max_images),
    )
    for origin in allow_origins:
        check_origin(origin)
    run = runs.open(run_dir)
    predictor = Predictor(Path(run.path))
    threads = threads or default_threads()
    settings = application.Settings(
        threads=threads,
        hosts=allowed_hosts(host, allow_hosts),
        origins=tuple(allow_origins),
        fetch=application.fetcher(limits) if allow_urls else None,
        protocol=protocol_of(run),
    )
    app = application.create(run, predictor, limits, settings)
    with listening.listen(host, port) as listener:
        if not is_loopback(host):
            say(f"warning: everyone who reaches this machine on {host} can use this server; it asks for no password")
        say(f"{run.path}: {predictor.metadata['model']} on {predictor.metadata['dataset']}, {threads} thread(s)")
        link = f"open {listening.address(listener)} (Ctrl-C stops)"
        asked = listening.serve(app, listener, limits, ready=lambda: say(link))
    if asked == signal.SIGINT:
        raise KeyboardInterrupt("stopped; what was under way is answered")
    say("stopped; what was under way is answered")


def protocol_of(run: RunDir) -> dict[str, str]:
    """Return the run's protocol card; nothing where its directory does not say enough any more."""
    from pictorch.reports import protocol, reading

    try:
        return protocol.card(reading.read(run))
    except UserError:
        return {}


def check_origin(origin: str) -> None:
    """Raise UserError unless a browser would send this as a page's origin."""
    parts = urlsplit(origin)
    if (
        parts.scheme not in ("http", "https")
        or not parts.netloc
        or origin != f"{parts.scheme}://{parts.netloc}".lower()
    ):
        raise UserError(f"--allow-origin {origin}: expected an origin such as https://example.org, without a path")


def default_threads() -> int:
    """Return torch's threads: the cores that this process may use but one, which reads, decodes and writes."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores - 1)


def check_packages() -> None:
    """Raise UserError unless what a server needs is installed."""
    for package in PACKAGES:
        if importlib.util.find_spec(package) is None:
            raise UserError(f"{package} is missing; `python -m pip install 'pictorch[serve]'`")
