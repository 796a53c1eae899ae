"""A real server of a run in a thread of the tests' process, and images to send to it."""

import base64
import contextlib
import io
import struct
import threading
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from PIL import Image

from pictorch import runs
from pictorch.deploy.predict import Predictor
from pictorch.deploy.server import application, listening
from pictorch.deploy.server.application import Settings
from pictorch.deploy.server.limits import Limits, allowed_hosts


@dataclass
class Serving:
    """A server that answers at `url`."""

    url: str
    server: listening.Server
    predictor: Predictor

    @property
    def port(self) -> int:
        return int(self.url.rstrip("/").rpartition(":")[2])

    def client(self, **options: Any) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=30, trust_env=False, **options)

    def metric(self, name: str) -> float:
        with self.client() as client:
            lines = client.get("/metrics").text.splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))


@contextlib.contextmanager
def serving(run_dir: Path, limits: Limits | None = None, **settings: Any) -> Iterator[Serving]:
    limits = limits or Limits()
    predictor = Predictor(run_dir)
    asked = Settings(**{"hosts": allowed_hosts("127.0.0.1", ()), **settings})
    app = application.create(runs.open(run_dir), predictor, limits, asked)
    with listening.listen("127.0.0.1", 0) as listener:
        server = listening.server_of(app, limits)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            until(lambda: server.started or not thread.is_alive())
            yield Serving(listening.address(listener), server, predictor)
        finally:
            server.should_exit = True
            thread.join(30)
            assert not thread.is_alive(), "the server ends"


def until(condition: Any, seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to be in time"
        time.sleep(0.01)


def picture(seed: int = 0, size: tuple[int, int] = (8, 8), mode: str = "L", kind: str = "PNG", **options: Any) -> bytes:
    """Return a file of noise."""
    shape = size[::-1] if mode == "L" else (*size[::-1], 3)
    pixels = np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format=kind, **options)
    return buffer.getvalue()


def text_of(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def bomb(width: int = 60_000, height: int = 60_000) -> bytes:
    """Return a PNG of so many pixels in few bytes."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    content = zlib.compress(bytes(min(width * height, 10_000_000)), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", content) + chunk(b"IEND", b"")
