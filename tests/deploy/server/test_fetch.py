"""Images by address: public hosts alone, whatever names, notations and redirects lead elsewhere; bounded in all."""

import http.server
import ipaddress
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from pictorch import api
from pictorch.deploy.server.fetch import Address, Fetcher, is_public
from pictorch.deploy.server.limits import Limits, Refused
from tests.deploy.server.serving import picture, serving

LIMITS = replace(Limits(), fetch_seconds=2.0, body_bytes=100_000)


class Site(http.server.BaseHTTPRequestHandler):
    """A site that answers as its path says."""

    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        if self.path.startswith("/to/"):
            self.send_response(302)
            self.send_header("Location", self.path[4:])
            self.end_headers()
        elif self.path == "/gone":
            self.send_error(404)
        elif self.path == "/trickle":
            self.send_response(200)
            self.end_headers()
            try:
                for _ in range(100):
                    self.wfile.write(b"x")
                    time.sleep(0.1)
            except OSError:
                pass
        else:
            content = bytes(200_000) if self.path == "/huge" else picture()
            self.send_response(200)
            if self.path == "/cut":
                self.send_header("Content-Length", str(len(content) + 9))
            self.end_headers()
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def site() -> Iterator[str]:
    Site.asked = []
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Site) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def anything(address: Address) -> bool:
    return True


def refused(fetch: Fetcher, url: str) -> str:
    with pytest.raises(Refused) as caught:
        fetch(url)
    assert caught.value.status == 422
    return str(caught.value).removeprefix(url)


def test_an_image_also_behind_redirects(site: str) -> None:
    fetch = Fetcher(LIMITS, public=anything, ports=None)
    assert fetch(f"{site}/image") == picture()
    assert fetch(f"{site}/to//to//image?a=b") == picture()
    assert fetch(f"{site}/to/{site}/image") == picture()
    assert Site.asked[-1] == "/image"


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("/gone", ": expected an image there, got status 404"),
        ("/to//to//to//to//to//image", ": leads on more than 3 times"),
        ("/to/file:///etc/passwd", ": expected an address that begins with http:// or https:// and a host"),
        ("/to/ftp://127.0.0.1/", ": expected an address that begins with http:// or https:// and a host"),
        ("/cut", ": cannot be fetched (IncompleteRead)"),
        ("/trickle", ": was not here within 2 seconds"),
    ],
)
def test_what_cannot_be_fetched(site: str, path: str, why: str) -> None:
    began = time.monotonic()
    assert refused(Fetcher(LIMITS, public=anything, ports=None), site + path) == why
    assert time.monotonic() - began < 5


def test_a_large_one_is_not_read_to_its_end(site: str) -> None:
    with pytest.raises(Refused) as caught:
        Fetcher(LIMITS, public=anything, ports=None)(f"{site}/huge")
    assert caught.value.status == 413


def test_this_machine_is_not_asked_by_any_name(site: str) -> None:
    port = site.rpartition(":")[2]
    fetch = Fetcher(LIMITS, ports=None)
    for host in (
        "127.0.0.1",
        "localhost",
        "0.0.0.0",
        "127.1",
        "2130706433",
        "0x7f000001",
        "[::1]",
        "[::ffff:127.0.0.1]",
    ):
        why = refused(fetch, f"http://{host}:{port}/image")
        assert why in (": this host is not on the open network, and is not asked", ": there is no such host"), host
    assert Site.asked == []


def test_a_redirect_to_this_machine_is_not_followed(site: str) -> None:
    """The first host is let through, as a public one would be; the one that it leads to is looked at anew."""
    looked = []

    def first_only(address: Address) -> bool:
        looked.append(address)
        return len(looked) == 1

    fetch = Fetcher(LIMITS, public=first_only, ports=None)
    assert refused(fetch, f"{site}/to/{site}/image") == ": this host is not on the open network, and is not asked"
    assert Site.asked == [f"/to/{site}/image"]


def test_the_connection_goes_to_the_address_that_was_checked(site: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that leads to a public address when it is checked, and here when it is asked again, is not asked again."""
    port = int(site.rpartition(":")[2])
    answers = [[(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, port))] for host in ("93.184.215.14", "127.0.0.1")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answers.pop(0))
    assert ": " in refused(Fetcher(replace(LIMITS, fetch_seconds=0.5), ports=None), f"http://twofaced.example:{port}/x")
    assert len(answers) == 1
    assert Site.asked == []


@pytest.mark.parametrize(
    "address",
    [
        *(
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "224.0.0.1",
        ),
        *("255.255.255.255", "198.18.0.1", "192.0.2.1", "::1", "::", "fe80::1", "fc00::1", "ff02::1", "2001:db8::1"),
        *("::ffff:10.0.0.1", "64:ff9b::a9fe:a9fe", "2002:7f00:1::", "2001:0:7f00:1::", "::ffff:0:127.0.0.1"),
    ],
)
def test_addresses_that_are_not_public(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", ["93.184.215.14", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"])
def test_addresses_that_are_public(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("ftp://example.org/a.png", ": expected an address that begins with http:// or https:// and a host"),
        ("http:///a.png", ": expected an address that begins with http:// or https:// and a host"),
        ("http://user:secret@example.org/", ": expected an address that begins with http:// or https:// and a host"),
        ("http://example.org:22/", ": expected port 80 or 443, got 22"),
        ("http://example.org:99999/", ": this is no address of the web"),
        ("http://[::1/", ": this is no address of the web"),
        ("http://ex ample.org/", ": an address has no spaces"),
        ("http://no.such.name.invalid/", ": there is no such host"),
    ],
)
def test_addresses_that_are_none(url: str, why: str) -> None:
    assert refused(Fetcher(LIMITS), url) == why


def test_through_the_server(site: str, small_run: api.Result) -> None:
    fetch = Fetcher(LIMITS, public=anything, ports=None)
    with serving(small_run.run_dir, fetch=fetch) as served, served.client() as client:
        words = {"urls": [f"{site}/image", f"{site}/gone"], "images": ["aGk="]}
        found = client.post("/predict", json=words).json()["predictions"]
        assert [one["source"] for one in found] == ["images[0]", f"{site}/image", f"{site}/gone"]
        assert [one.get("status") for one in found] == [415, None, 422]
    with serving(small_run.run_dir, fetch=Fetcher(LIMITS, ports=None)) as served, served.client() as client:
        answer = client.post("/predict", json={"urls": [f"{site}/image"]})
        assert answer.status_code == 422
        assert answer.json() == {"error": f"{site}/image: this host is not on the open network, and is not asked"}
