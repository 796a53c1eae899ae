"""Malformed requests by the thousand, from random bytes to bombs: no 500, and nothing grows in the server's process."""

import asyncio
import base64
import json
import os
import random
import re
import runpy
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest

from pictorch import api
from tests.deploy.server.serving import bomb, picture

benchmark = SimpleNamespace(**runpy.run_path(str(Path(__file__).parents[3] / "benchmarks" / "serve.py")))

INTENDED = {400, 403, 404, 405, 408, 413, 415, 422, 429, 503, 504}
BOUNDARY = b"xyz"


@dataclass
class Process:
    """`pictorch serve` in a process of its own."""

    url: str
    pid: int

    @property
    def port(self) -> int:
        return int(self.url.rstrip("/").rpartition(":")[2])

    def memory_mib(self) -> float:
        return float(benchmark.metric(self.url, "process_resident_memory_bytes")) / 2**20

    def threads(self) -> int:
        found = re.search(r"Threads:\s+(\d+)", Path(f"/proc/{self.pid}/status").read_text())
        assert found is not None
        return int(found[1])

    def open_files(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/fd"))


@pytest.fixture(scope="module")
def process(small_run: api.Result) -> Iterator[Process]:
    with benchmark.serving(small_run.run_dir) as (url, running):
        yield Process(url, running.pid)
        assert running.poll() is None, "the server is still there"


def request(body: bytes, kind: str, *headers: str, path: str = "/predict", length: int | None = None) -> bytes:
    """Return a request as bytes; `length` is what it says of its body, which may be untrue."""
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", f"Content-Type: {kind}", *headers]
    lines.append(f"Content-Length: {len(body) if length is None else length}")
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def form(*parts: tuple[bytes, bytes], end: bytes = b"--") -> bytes:
    """Return multipart/form-data of (Content-Disposition, content)."""
    pieces = [b"--" + BOUNDARY + b"\r\nContent-Disposition: " + what + b"\r\n\r\n" + c + b"\r\n" for what, c in parts]
    return b"".join(pieces) + b"--" + BOUNDARY + end + b"\r\n"


FORM = f"multipart/form-data; boundary={BOUNDARY.decode()}"
FILE = b'form-data; name="files"; filename="a.png"'


def noise(draws: random.Random, most: int = 2000) -> bytes:
    return draws.randbytes(draws.randrange(most))


def bytes_that_are_not_http(draws: random.Random) -> bytes:
    return draws.choice([b"", b"GET ", b"POST /predict HTTP/1.1\r\n"]) + noise(draws) + b"\r\n\r\n"


def an_image_of_noise(draws: random.Random) -> bytes:
    start = draws.choice(
        [b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"GIF89a", b"BM", b"II*\0", b"RIFF\x20\0\0\0WEBPVP8 "]
    )
    return request(start + noise(draws), "image/png", path=draws.choice(["/predict", "/explain"]))


def a_damaged_image(draws: random.Random) -> bytes:
    kind = draws.choice(["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "AVIF"])
    raw = bytearray(picture(draws.randrange(9), (40, 40), "RGB", kind))
    for _ in range(draws.randrange(1, 30)):
        raw[draws.randrange(len(raw))] = draws.randrange(256)
    return request(bytes(raw[: draws.randrange(1, len(raw))]), f"image/{kind.lower()}")


def a_bomb(draws: random.Random) -> bytes:
    raw = bomb(draws.choice([60_000, 2**31 - 1, 100_000]), draws.choice([60_000, 1, 2**31 - 1]))
    return (
        request(raw, "image/png")
        if draws.random() < 0.7
        else request(form((FILE, raw), (FILE, raw), (FILE, raw)), FORM)
    )


def a_torn_form(draws: random.Random) -> bytes:
    whole = form((FILE, picture()), (b'form-data; name="top_k"', b"3"))
    cut = whole[: draws.randrange(len(whole))]
    return request(cut + draws.choice([b"", noise(draws, 50)]), FORM)


def an_odd_form(draws: random.Random) -> bytes:
    what = draws.choice(
        [b"", b"form-data", FILE[:-5], b'form-data; name="\xff\xfe"', b"form-data; name=" + noise(draws, 99)]
    )
    kind = draws.choice(
        [FORM, "multipart/form-data", "multipart/form-data; boundary=", "multipart/form-data; boundary=" + "b" * 500]
        + [
            f"{FORM}; charset={c}"
            for c in ("undefined", "utf-16", "zlib", "rot13", "idna", "no-such", "\xff", "unicode_escape")
        ]
    )
    return request(form((what, noise(draws, 200)), (b'form-data; name="top_k"', noise(draws, 9))), kind)


def thousands_of_parts(draws: random.Random) -> bytes:
    what = draws.choice([FILE, b'form-data; name="a"', b'form-data; name="top_k"'])
    return request(form(*[(what, b"x")] * draws.choice([40, 5000])), FORM)


def odd_json(draws: random.Random) -> bytes:
    deep = draws.choice([500, 100_000])
    text = draws.choice([
        "[" * deep, '{"images":' * deep, "[" * deep + "]" * deep, '{"images": ["' + "A" * 100_001 + '"]}',
        '{"images": NaN}', '{"top_k": NaN, "images": ["aGk="]}', '{"top_k": 1e999, "images": ["aGk="]}',
        '{"top_k": ' + "9" * 5000 + ', "images": ["aGk="]}', '{"images": ["\\ud800"]}', '{"images": [null]}', "null",
        '{"images": ["aGk="], "images": ["aGk=", "aGk="]}', json.dumps({"images": ["data:,"] * 40}), "\ufeff{}",
        json.dumps({"urls": ["http://127.0.0.1/"]}), json.dumps({"images": [base64.b64encode(noise(draws)).decode()]}),
    ])  # fmt: skip
    charset = draws.choice(["", "; charset=utf-16", "; charset=\xff", "; charset=" + "u" * 3000])
    return request(text.encode("utf-8", "surrogatepass"), f"application/json{charset}")


def bad_utf8(draws: random.Random) -> bytes:
    return request(b'{"images": ["' + noise(draws, 99) + b'"]}', "application/json")


def an_untrue_length(draws: random.Random) -> bytes:
    body = picture()
    return request(body, "image/png", length=draws.choice([0, 1, len(body) - 1, len(body) + 1, 10**6, 10**15]))


def odd_headers(draws: random.Random) -> bytes:
    more = draws.choice([
        "Content-Length: 5", "Content-Length: -1", "Transfer-Encoding: chunked", "Transfer-Encoding: gzip, chunked",
        "A: " + "x" * 70_000, "Content-Encoding: gzip", "Expect: 200-maybe", "Host: other", "Origin: \xff", ": x",
        "Upgrade: websocket\r\nConnection: Upgrade", "Range: bytes=0-", "Cookie: " + "c=1;" * 500, " folded",
        "Content-Type: text/html", "X-Y: z\r\n" * 200 + "A: b",
    ])  # fmt: skip
    return request(picture(), "image/png", more)


def odd_chunks(draws: random.Random) -> bytes:
    head = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\nTransfer-Encoding: chunked\r\n\r\n"
    sizes = [b"zz", b"-1", b"ffffffffffffffff", b"5;ext=1", b"5", b"0x5", b"", b"9" * 99]
    return head + b"".join(draws.choice(sizes) + b"\r\n" + noise(draws, 20) + b"\r\n" for _ in range(3)) + b"0\r\n\r\n"


def odd_queries(draws: random.Random) -> bytes:
    what = draws.choice(["0", "-1", "1e9", "nan", "9" * 400, "%00", "%ff", "5&top_k=6", "", "5.0", "[]", "\xc3\xa9"])
    name = draws.choice(["top_k", "class_index"])
    return request(picture(), "image/png", path=f"/{draws.choice(['predict', 'explain'])}?{name}={what}")


def odd_paths(draws: random.Random) -> bytes:
    path = draws.choice([
        "//", "/../../etc/passwd", "/%2e%2e/", "/predict/", "/\xff", "/%00", "*", "http://evil/", "/" + "a" * 60_000,
        "/?" + "&" * 9999, "/openapi.json/", "/docs",
    ])  # fmt: skip
    method = draws.choice(["GET", "POST", "HEAD", "TRACE", "OPTIONS", "CONNECT", "X"])
    return f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode("latin-1")


KINDS: tuple[Callable[[random.Random], bytes], ...] = (
    bytes_that_are_not_http, an_image_of_noise, a_damaged_image, a_bomb, a_torn_form, an_odd_form, thousands_of_parts,
    odd_json, bad_utf8, an_untrue_length, odd_headers, odd_chunks, odd_queries, odd_paths,
)  # fmt: skip


async def send(port: int, raw: bytes, patience: float = 1.0) -> list[int]:
    """Send bytes on a connection of their own, and half-close it; return the statuses that come back."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    got = b""
    try:
        writer.write(raw)
        await writer.drain()
        async with asyncio.timeout(patience):
            while chunk := await reader.read(65536):
                got += chunk
                # An answer that is whole; the connection is kept for the next request.
                if (head := re.search(rb"content-length: (\d+)", got)) and len(got.partition(b"\r\n\r\n")[2]) >= int(
                    head[1]
                ):
                    break
    except (TimeoutError, OSError):
        pass
    finally:
        writer.close()
    statuses = re.findall(rb"^HTTP/1.1 (\d+)", got, re.MULTILINE)
    for error in re.findall(rb'\{"error": ?".*?"\}', got):
        json.loads(error)
    return [int(status) for status in statuses if status != b"100"]


def attack(process: Process, seed: int, each: int, *, together: int = 8) -> Counter[int]:
    """Send `each` requests of every kind, in a random order, several at a time; count the statuses."""
    draws = random.Random(seed)
    requests = [kind(draws) for kind in KINDS for _ in range(each)]
    draws.shuffle(requests)

    async def main() -> Counter[int]:
        gate = asyncio.Semaphore(together)

        async def one(raw: bytes) -> list[int]:
            async with gate:
                return await send(process.port, raw)

        found = await asyncio.gather(*(one(raw) for raw in requests))
        return Counter(status for statuses in found for status in statuses)

    return asyncio.run(main())


def whole(process: Process) -> None:
    """Assert that the server answers a good request as ever."""
    headers = {"content-type": "image/png"}
    answer = httpx.post(f"{process.url}predict", content=picture(), headers=headers, trust_env=False, timeout=30)
    assert answer.status_code == 200
    assert len(answer.json()["predictions"][0]["classes"]) == 5


def test_every_kind_of_nonsense_is_refused_without_a_500(process: Process) -> None:
    seen = attack(process, seed=0, each=5)
    assert seen.keys() <= INTENDED | {200}
    assert {400, 413, 415, 422} <= seen.keys()
    whole(process)


@pytest.mark.slow
def test_two_thousand_malformed_requests_leave_nothing_behind(process: Process) -> None:
    attack(process, seed=1, each=40)  # what is taken once: buffers, plug-ins, threads of the pools
    time.sleep(1.5)
    before = process.memory_mib(), process.threads(), process.open_files()
    seen = attack(process, seed=2, each=80) + attack(process, seed=3, each=80)
    assert seen.total() > 1500
    assert seen.keys() <= INTENDED | {200}
    time.sleep(1.5)
    after = process.memory_mib(), process.threads(), process.open_files()
    print(dict(seen), before, after)
    assert after[0] < before[0] + 16
    assert after[1] <= before[1]
    assert after[2] <= before[2]
    whole(process)


@pytest.mark.slow
def test_others_are_answered_beside_slow_ones(process: Process) -> None:
    """Slowloris: heads and bodies that come a byte at a time hold nobody up, and are hung up on."""

    async def slow(raw: bytes, ended: list[float]) -> None:
        began = time.monotonic()
        reader, writer = await asyncio.open_connection("127.0.0.1", process.port)
        try:
            for byte in raw:
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(0.25)
                if reader.at_eof():
                    break
        except OSError:
            pass
        ended.append(time.monotonic() - began)
        writer.close()

    async def main() -> tuple[list[float], list[float]]:
        ended: list[float] = []
        tasks = [asyncio.create_task(slow(b"POST /predict HTTP/1.1\r\nX: " + b"x" * 500, ended)) for _ in range(60)]
        took = []
        async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
            for _ in range(20):
                began = time.monotonic()
                headers = {"content-type": "image/png"}
                answer = await client.post(f"{process.url}predict", content=picture(), headers=headers)
                assert answer.status_code == 200
                took.append(time.monotonic() - began)
        await asyncio.gather(*tasks)
        return took, ended

    took, ended = asyncio.run(main())
    assert sorted(took)[10] < 1
    assert max(ended) < 25, "ten seconds are given to a head, and some to a busy machine"
    whole(process)
