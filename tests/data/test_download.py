"""Downloading from a server in a thread that breaks off, stalls, lies and refuses, as real ones do."""

import errno
import hashlib
import http.server
import os
import random
import re
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pictorch.config.errors import UserError
from pictorch.data import download

CONTENT = random.Random(0).randbytes(300_000)
SIZE, MD5, SHA256 = len(CONTENT), hashlib.md5(CONTENT).hexdigest(), hashlib.sha256(CONTENT).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves CONTENT; the path's first word says what goes wrong."""

    requests: list[tuple[str, str | None]]

    def do_GET(self) -> None:
        kind, asked = self.path.split("/")[1], self.headers["Range"]
        self.requests.append((kind, asked))
        times = sum(k == kind for k, _ in self.requests)
        begin = int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0
        if kind.isdigit():
            return self.send_error(int(kind))
        if kind == "busy" and times < 3:
            return self.send_error(503)
        if kind == "moved":
            self.send_response(302)
            self.send_header("Location", "/good/file")
            return self.end_headers()
        content = {"wrong": bytes(SIZE), "short": CONTENT[:1000], "login": b"<html>"}.get(kind, CONTENT)
        if kind == "changed" and times > 1:
            content = bytes(SIZE) if times == 2 else CONTENT
        if kind in ("no-range", "no-length", "breaks-no-range"):
            begin = 0
        body = content[begin:]
        self.send_response(206 if begin else 200)
        if kind not in ("no-length", "endless"):
            self.send_header("Content-Length", str(len(body)))
        if begin:
            at = 7 if kind == "other-range" else begin
            self.send_header("Content-Range", f"bytes {at}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        if kind == "endless":
            body += b"more"
        if kind in ("breaks", "changed", "stalls") or (
            kind in ("breaks-once", "breaks-no-range", "other-range") and times == 1
        ):
            body = body[:100_000]
        if kind == "dead":
            body = b""
        self.wfile.write(body)
        if kind == "stalls":
            time.sleep(0.3)
        return None

    def log_message(self, format: str, *args: Any) -> None: ...


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "WAITS_SECONDS", (0.0, 0.0, 0.0))
    monkeypatch.setenv("no_proxy", "*")


class Server:
    def __init__(self) -> None:
        self.requests: list[tuple[str, str | None]] = []
        handler = type("Here", (Handler,), {"requests": self.requests})
        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    def url(self, kind: str) -> str:
        return f"http://127.0.0.1:{self.http.server_port}/{kind}/file"

    def asked(self, kind: str) -> list[str | None]:
        return [header for k, header in self.requests if k == kind]


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.http.shutdown()
    server.http.server_close()
    server.thread.join()


def fetch(path: Path, *urls: str, **options: Any) -> None:
    download.fetch(urls, path, **({"size": SIZE, "md5": MD5} | options))


def refusal(path: Path, *urls: str, **options: Any) -> str:
    with pytest.raises(UserError) as caught:
        fetch(path, *urls, **options)
    assert not path.exists()
    return str(caught.value)


@pytest.mark.parametrize("kind", ["good", "moved", "no-length", "busy", "breaks", "breaks-once", "breaks-no-range"])
def test_a_server_that_gives_the_file_in_the_end(kind: str, server: Server, folder: Path) -> None:
    path = folder / "new" / "file"
    fetch(path, server.url(kind))
    assert path.read_bytes() == CONTENT
    assert os.listdir(path.parent) == ["file"]


def test_a_broken_download_goes_on_where_it_stopped(server: Server, folder: Path) -> None:
    told: list[tuple[int, int]] = []
    fetch(folder / "file", server.url("breaks"), progress=lambda done, total: told.append((done, total)))
    assert server.asked("breaks") == [None, "bytes=100000-", "bytes=200000-"]
    assert told[-1] == (SIZE, SIZE)
    assert [done for done, _ in told] == sorted({done for done, _ in told})


@pytest.mark.parametrize("kind", ["good", "no-range"])
def test_a_download_of_an_earlier_run_goes_on(kind: str, server: Server, folder: Path) -> None:
    (folder / "file.part").write_bytes(CONTENT[:123_456])
    fetch(folder / "file", server.url(kind), sha256=SHA256)
    assert (folder / "file").read_bytes() == CONTENT
    assert server.asked(kind) == ["bytes=123456-"]


@pytest.mark.parametrize("begun", [bytes(1000), bytes(SIZE), bytes(SIZE + 1)], ids=["shorter", "as long", "longer"])
def test_another_files_beginning_is_thrown_away(begun: bytes, server: Server, folder: Path) -> None:
    (folder / "file.part").write_bytes(begun)
    fetch(folder / "file", server.url("good"))
    assert (folder / "file").read_bytes() == CONTENT
    assert server.asked("good")[-1] is None


def test_a_whole_file_that_lacks_only_its_name_is_not_asked_for_again(server: Server, folder: Path) -> None:
    (folder / "file.part").write_bytes(CONTENT)
    fetch(folder / "file", server.url("404"))
    assert server.requests == []


@pytest.mark.parametrize("kind", ["changed", "other-range"])
def test_a_file_that_changes_on_the_way_is_begun_anew(kind: str, server: Server, folder: Path) -> None:
    fetch(folder / "file", server.url(kind))
    assert (folder / "file").read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("403", "403 Forbidden"),
        ("404", "404 Not Found"),
        ("500", "500 Internal Server Error"),
        ("wrong", f"its md5 is {hashlib.md5(bytes(SIZE)).hexdigest()}, not {MD5}"),
        ("short", "its file has 1,000 bytes, not 300,000"),
        ("login", "its file has 6 bytes, not 300,000"),
        ("endless", "its file has more than 300,000 bytes"),
        ("dead", "the connection broke off after 0 of 300,000 bytes"),
    ],
)
def test_what_a_mirror_says_is_told_and_the_next_one_is_asked(
    kind: str, said: str, server: Server, folder: Path
) -> None:
    path = folder / "file"
    message = refusal(path, server.url(kind), server.url("404"))
    assert message.splitlines() == [
        "file could not be downloaded:",
        f"  {server.url(kind)}: {said}",
        f"  {server.url('404')}: 404 Not Found",
    ]
    assert os.listdir(folder) == []
    assert len(server.asked(kind)) == {"500": 4, "dead": 4}.get(kind, 2 if kind == "404" else 1)
    fetch(path, server.url(kind), server.url("good"))
    assert path.read_bytes() == CONTENT


def test_a_server_that_stalls_is_told_and_what_came_is_kept(
    server: Server, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "TIMEOUT_SECONDS", 0.1)
    monkeypatch.setattr(download, "WAITS_SECONDS", ())
    message = refusal(folder / "file", server.url("stalls"))
    assert f"{server.url('stalls')}: no data for 0.1 s after 100,000 of 300,000 bytes" in message
    assert message.endswith("\n100,000 of 300,000 bytes are kept for the next attempt")
    assert (folder / "file.part").read_bytes() == CONTENT[:100_000]


def test_no_server_no_host_no_file(folder: Path) -> None:
    path = folder / "file"
    message = refusal(path, "http://127.0.0.1:1/file", "http://no.such.host.invalid/file", f"file://{folder}/none")
    assert "http://127.0.0.1:1/file: no connection: Connection refused" in message
    assert "http://no.such.host.invalid/file: no such host, or no network: " in message
    assert re.search(r"file://.*/none: .*No such file", message)


def test_a_file_of_this_machine(folder: Path) -> None:
    (folder / "a").write_bytes(CONTENT)
    fetch(folder / "b", f"file://{folder}/a")
    assert (folder / "b").read_bytes() == CONTENT


def test_tls_errors_are_named(server: Server, folder: Path) -> None:
    plain = server.url("good").replace("http:", "https:")
    assert re.search(r"https://\S+: TLS: .*(WRONG_VERSION|RECORD|HTTP)", refusal(folder / "file", plain))
    reason = ssl.SSLCertVerificationError(1, "failed")
    reason.verify_message = "certificate has expired"
    assert download.no_connection(reason) == "TLS: its certificate is not accepted: certificate has expired"


def test_a_file_that_is_there_stays(server: Server, folder: Path) -> None:
    (folder / "file").write_bytes(b"mine")
    fetch(folder / "file", server.url("good"))
    assert (folder / "file").read_bytes() == b"mine"
    assert server.requests == []
    assert os.listdir(folder) == ["file"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_named(server: Server, folder: Path) -> None:
    (folder / "file.part").symlink_to("/dev/full")
    message = refusal(folder / "file", server.url("good"))
    assert message == (
        f"{folder / 'file.part'} cannot be written: {os.strerror(errno.ENOSPC)}; 300,000 more bytes are needed"
    )


def test_a_folder_that_cannot_be_made_is_named(folder: Path) -> None:
    (folder / "a").write_bytes(b"")
    message = refusal(folder / "a" / "b" / "file", "http://127.0.0.1:1/file")
    assert message.startswith(f"{folder / 'a' / 'b' / 'file.part'} cannot be written: ")


def test_a_second_download_of_the_same_file_is_told(folder: Path) -> None:
    with download.alone(folder / "file.part") as file:
        file.write(b"begun")
        assert refusal(folder / "file", "http://127.0.0.1:1/") == (
            f"{folder / 'file.part'}: another process is downloading this file; wait for it"
        )
    assert (folder / "file.part").read_bytes() == b"begun"
