"""`pictorch serve` as a user types it: what it prints, how it ends, and one sentence for a mistake."""

import importlib.util
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from pictorch import api
from pictorch.cli import serve
from pictorch.config import UserError
from tests.deploy.server.serving import picture

OPTIONS: dict[str, Any] = {
    "host": "127.0.0.1", "port": 0, "threads": 1, "max_megabytes": 32, "max_megapixels": 50.0, "max_images": 32,
    "allow_urls": False, "allow_hosts": [], "allow_origins": [],
}  # fmt: skip


@contextmanager
def command(*words: str) -> Iterator[subprocess.Popen[str]]:
    program = [sys.executable, "-m", "pictorch", "serve", *words]
    with subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def link(process: subprocess.Popen[str]) -> tuple[list[str], str]:
    """Return what is printed before the address, and the address."""
    assert process.stdout
    said = []
    for line in process.stdout:
        if line.startswith("open "):
            return said, line.split()[1]
        said.append(line.rstrip())
    raise AssertionError(said, process.stderr.read() if process.stderr else "")


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_it_prints_a_link_answers_and_ends(small_run: api.Result, number: int, status: int) -> None:
    with command(str(small_run.run_dir), "--port", "0") as process:
        said, url = link(process)
        assert said == [f"{small_run.run_dir}: resnet_preact on digits, 1 thread(s)"]
        headers = {"content-type": "image/png"}
        assert httpx.post(f"{url}predict", content=picture(), headers=headers, trust_env=False).status_code == 200
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
        assert process.returncode == status
        assert (out + err).strip() == "stopped; what was under way is answered"


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_once_the_link_is_there_a_signal_is_heard(small_run: api.Result, number: int, status: int) -> None:
    with command(str(small_run.run_dir), "--port", "0") as process:
        link(process)
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
        assert (process.returncode, (out + err).strip()) == (status, "stopped; what was under way is answered")


def test_elsewhere_than_on_this_machine_it_warns(small_run: api.Result) -> None:
    with command(str(small_run.run_dir), "--port", "0", "--host", "0.0.0.0", "--allow-urls") as process:
        said, url = link(process)
        assert said[0].startswith("warning: everyone who reaches this machine on 0.0.0.0 can use this server")
        assert url.startswith("http://127.0.0.1:")
        assert httpx.get(f"{url}health", headers={"host": "any.name"}, trust_env=False).json()["urls"] is True


def test_mistakes_are_one_sentence(small_run: api.Result, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"port {port} of 127.0.0.1 is taken by another program"):
            serve.serve(str(small_run.run_dir), **{**OPTIONS, "port": port})
    with pytest.raises(UserError, match="there is no such run directory"):
        serve.serve(str(tmp_path / "none"), **OPTIONS)
    with pytest.raises(UserError, match=r"--allow-origin example\.org: expected an origin such as https:"):
        serve.serve(str(small_run.run_dir), **{**OPTIONS, "allow_origins": ["example.org"]})


def test_a_missing_package_is_named_with_its_extra(small_run: api.Result, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "uvicorn" else find(name))
    with pytest.raises(UserError, match=r"uvicorn is missing; `python -m pip install 'pictorch\[serve\]'`"):
        serve.serve(str(small_run.run_dir), **OPTIONS)
