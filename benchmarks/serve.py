"""How many requests `pictorch serve` answers, how late the last of a hundred is, and whether its memory grows.

    python benchmarks/serve.py RUN_DIR [--clients 32] [--seconds 60] [--threads N] [--kind png]

Starts the command in a process of its own and asks it from this one: each client sends one image of the network's size
(noise, another for each request) as the body of POST /predict, waits for the answer, and sends the next. Prints CSV:
one row. The first `--warm-up` seconds do not count. Memory is the server's resident set, as its /metrics says it,
after the warm-up and at the end; its threads and open files are those at the end.
"""

import argparse
import asyncio
import contextlib
import csv
import io
import os
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pictorch.runs import RunDir

COLUMNS = (
    "clients", "seconds", "kind", "cores", "threads", "requests", "requests_per_second", "p50_ms", "p99_ms", "max_ms",
    "errors", "mean_batch", "memory_before_mib", "memory_after_mib", "server_threads", "open_files",
)  # fmt: skip
IMAGES = 64


@contextlib.contextmanager
def serving(run_dir: Path, *options: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Yield the address of `pictorch serve` in a process of its own, and the process; end it by SIGTERM."""
    command = [sys.executable, "-m", "pictorch", "serve", str(run_dir), "--port", "0", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            link = next((m for line in process.stdout if (m := re.search(r"http://\S+/", line))), None)
            if link is None:
                raise SystemExit("the server did not start")
            yield link[0], process
        finally:
            process.terminate()
            process.stdout.close()
            process.wait(timeout=60)


def images(size: int, channels: int, kind: str) -> list[bytes]:
    """Return files of noise, all different."""
    draws = np.random.default_rng(0)
    files = []
    for _ in range(IMAGES):
        pixels = draws.integers(0, 256, (size, size, channels), np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(pixels[:, :, 0] if channels == 1 else pixels).save(buffer, format=kind.upper())
        files.append(buffer.getvalue())
    return files


@contextlib.asynccontextmanager
async def connected(host: str, port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection(host, port)
    try:
        yield reader, writer
    finally:
        writer.close()


async def client(host: str, port: int, requests: Sequence[bytes], end: float, took: list[Any]) -> None:
    """Ask until the end; append (when, seconds, status) of each request. A library would take half of the cores."""
    place = 0
    while time.perf_counter() < end:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            async with connected(host, port) as (reader, writer):
                while (began := time.perf_counter()) < end:
                    status = 0
                    try:
                        writer.write(requests[place % len(requests)])
                        head = await reader.readuntil(b"\r\n\r\n")
                        length = re.search(rb"(?i)content-length: (\d+)", head)
                        assert length is not None
                        body = await reader.readexactly(int(length[1]))
                        status = int(head.split(b" ", 2)[1]) if b"predictions" in body else 0
                    finally:
                        took.append((began, time.perf_counter() - began, status))
                    place += 1


async def load(url: str, files: Sequence[bytes], kind: str, clients: int, seconds: float) -> list[Any]:
    host, port = url.removeprefix("http://").rstrip("/").split(":")
    head = f"POST /predict HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: image/{kind}\r\nContent-Length: "
    requests = [f"{head}{len(file)}\r\n\r\n".encode() + file for file in files]
    took: list[Any] = []
    end = time.perf_counter() + seconds
    turned = [requests[i % IMAGES :] + requests[: i % IMAGES] for i in range(clients)]
    await asyncio.gather(*(client(host, int(port), turned[i], end, took) for i in range(clients)))
    return took


def metric(url: str, name: str) -> float:
    """Return a number of the server's /metrics."""
    with urllib.request.urlopen(f"{url}metrics") as response:
        found = re.search(rf"^{name} (\S+)", response.read().decode(), re.MULTILINE)
    assert found is not None, name
    return float(found[1])


def measure(
    run_dir: Path, *, clients: int, seconds: float, warm_up: float, kind: str, options: Sequence[str]
) -> dict[str, Any]:
    """Return one row of COLUMNS."""
    from pictorch.deploy.predict import Predictor

    metadata = Predictor(run_dir).metadata
    files = images(metadata["image_size"], metadata["in_channels"], kind)
    with serving(run_dir, *options) as (url, process):
        asyncio.run(load(url, files, kind, clients, warm_up))
        names = ("process_resident_memory_bytes", "pictorch_batch_images_sum", "pictorch_batch_images_count")
        memory, summed, batches = (metric(url, name) for name in names)
        began = time.perf_counter()
        took = asyncio.run(load(url, files, kind, clients, seconds))
        lasted = time.perf_counter() - began
        memory_after, summed_after, batches_after = (metric(url, name) for name in names)
        with urllib.request.urlopen(f"{url}health") as response:
            threads = re.search(rb'"threads":(\d+)', response.read())
        assert threads is not None
        status = Path(f"/proc/{process.pid}/status").read_text()
        open_files = len(os.listdir(f"/proc/{process.pid}/fd"))
    times = sorted(1000 * each[1] for each in took)
    server_threads = re.search(r"Threads:\s+(\d+)", status)
    assert server_threads is not None
    return {
        "clients": clients,
        "seconds": round(lasted, 1),
        "kind": kind,
        "cores": len(os.sched_getaffinity(0)),
        "threads": int(threads[1]),
        "requests": len(took),
        "requests_per_second": round(len(took) / lasted, 1),
        "p50_ms": round(times[len(times) // 2], 1),
        "p99_ms": round(times[int(len(times) * 0.99)], 1),
        "max_ms": round(times[-1], 1),
        "errors": sum(each[2] != 200 for each in took),
        "mean_batch": round((summed_after - summed) / max(batches_after - batches, 1), 2),
        "memory_before_mib": round(memory / 2**20, 1),
        "memory_after_mib": round(memory_after / 2**20, 1),
        "server_threads": int(server_threads[1]),
        "open_files": open_files,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run_dir", type=Path)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--warm-up", type=float, default=5.0)
    parser.add_argument("--kind", choices=("png", "jpeg"), default="png")
    parser.add_argument("--threads", help="torch's, of the server (default: its own choice)")
    given = parser.parse_args()
    run = RunDir(given.run_dir)
    options = ["--threads", given.threads] if given.threads else []
    row = measure(
        run.path, clients=given.clients, seconds=given.seconds, warm_up=given.warm_up, kind=given.kind, options=options
    )
    writer = csv.DictWriter(sys.stdout, COLUMNS)
    writer.writeheader()
    writer.writerow(row)


if __name__ == "__main__":
    main()
