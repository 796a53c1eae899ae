"""Images by address (`--allow-urls`): http and https, public hosts alone, bounded in size, time and redirects.

A server that fetches what strangers name can be made to ask machines that only it reaches: itself, its neighbours, the
cloud's own services (server-side request forgery, OWASP). So the host is looked up here, every address that it has is
checked, and the connection goes to one of those addresses and not to the name, which could by then lead elsewhere; for
each redirect anew. No proxy of the environment is used.
"""

import contextlib
import http.client
import ipaddress
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from typing import final
from urllib.parse import SplitResult, urljoin, urlsplit

from pictorch import __version__
from pictorch.deploy.server.images import shown
from pictorch.deploy.server.limits import Limits, Refused, mebibytes

PORTS = {"http": 80, "https": 443}
REDIRECTS = 3
REDIRECTED = (301, 302, 303, 307, 308)
CHUNK = 2**16
# Addresses of IPv6 that stand for one of IPv4, which may be a private one (RFC 6052).
NAT64 = ipaddress.ip_network("64:ff9b::/96")
UNICAST = ipaddress.ip_network("2000::/3")  # all that is given out of IPv6 (IANA)
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def is_public(address: Address) -> bool:
    """Return whether an address is one of the open network, whatever notation hides another in it."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if address in NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(inner)
        if address.teredo is not None or address not in UNICAST:
            return False
    return address.is_global and not address.is_multicast


@final
class Fetcher:
    """Fetches images by address. `public` decides which addresses of the network may be asked, `ports` which ports."""

    def __init__(
        self,
        limits: Limits,
        *,
        public: Callable[[Address], bool] = is_public,
        ports: frozenset[int] | None = frozenset(PORTS.values()),
    ) -> None:
        self.limits, self.public, self.ports = limits, public, ports

    def __call__(self, url: str) -> bytes:
        """Return what is at an address. Raises Refused (422; 413 where it is too large) with the address in front."""
        name = shown(url)
        stop = Deadline(self.limits.fetch_seconds)
        try:
            with stop:
                content = self.follow(url, name, stop)
                if stop.passed:
                    raise TimeoutError
                return content
        except Refused:
            raise
        # http.client raises more kinds than OSError and its own: ValueError for what a header should not have.
        except (OSError, http.client.HTTPException, ValueError) as error:
            if stop.passed:
                seconds = self.limits.fetch_seconds
                raise Refused(422, f"{name}: was not here within {seconds:g} seconds") from None
            raise Refused(422, f"{name}: cannot be fetched ({type(error).__name__})") from None

    def follow(self, url: str, name: str, stop: "Deadline") -> bytes:
        for _ in range(REDIRECTS + 1):
            place = self.checked(url, name)
            with self.connected(place, name, stop) as connection:
                path = (place.path or "/") + (f"?{place.query}" if place.query else "")
                headers = {"User-Agent": f"pictorch/{__version__}", "Accept": "image/*", "Connection": "close"}
                connection.request("GET", path, headers=headers)
                with contextlib.closing(connection.getresponse()) as response:
                    if response.status == 200:
                        return self.read(response, name)
                    location = response.headers.get("Location")
                    if response.status not in REDIRECTED or not location:
                        raise Refused(422, f"{name}: expected an image there, got status {response.status}")
                url = urljoin(url, location)
        raise Refused(422, f"{name}: leads on more than {REDIRECTS} times")

    def checked(self, url: str, name: str) -> SplitResult:
        """Return the parts of an address that may be asked. Raises Refused."""
        try:
            place = urlsplit(url)
            port = place.port or PORTS.get(place.scheme, 0)
            host = (place.hostname or "").encode("idna").decode()
        except ValueError:
            raise Refused(422, f"{name}: this is no address of the web") from None
        if place.scheme not in PORTS or not host or place.username is not None or not url.isascii():
            raise Refused(422, f"{name}: expected an address that begins with http:// or https:// and a host")
        if any(c <= " " or c == "\x7f" for c in url):
            raise Refused(422, f"{name}: an address has no spaces")
        if self.ports is not None and port not in self.ports:
            raise Refused(422, f"{name}: expected port 80 or 443, got {port}")
        return place

    @contextlib.contextmanager
    def connected(self, place: SplitResult, name: str, stop: "Deadline") -> Iterator[http.client.HTTPConnection]:
        """Yield a connection to an address of the host that was checked. Raises Refused where one is not public."""
        host, port = str(place.hostname), place.port or PORTS[place.scheme]
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            raise Refused(422, f"{name}: there is no such host") from None
        if not all(self.public(ipaddress.ip_address(str(entry[4][0]).partition("%")[0])) for entry in found):
            raise Refused(422, f"{name}: this host is not on the open network, and is not asked")
        family, kind, protocol, _, where = found[0]
        with socket.socket(family, kind, protocol) as plain:
            plain.settimeout(stop.seconds)
            stop.closes(plain)
            plain.connect(where)
            connection = http.client.HTTPConnection(host, port)
            connection.sock = plain
            with contextlib.closing(connection):
                if place.scheme == "https":
                    secure = ssl.create_default_context().wrap_socket(
                        plain, server_hostname=host, do_handshake_on_connect=False
                    )
                    connection.sock = secure
                    stop.closes(secure)
                    secure.do_handshake()
                yield connection

    def read(self, response: http.client.HTTPResponse, name: str) -> bytes:
        """Return the body, of at most as many bytes as a request may have. Raises Refused."""
        most = self.limits.body_bytes
        content = bytearray()
        while chunk := response.read1(CHUNK):
            content += chunk
            if len(content) > most:
                raise Refused(413, f"{name}: expected at most {mebibytes(most)}, there is more")
        if response.length:
            raise http.client.IncompleteRead(b"", response.length)
        return bytes(content)


@final
class Deadline:
    """A time after which a socket is closed under whoever waits for it, so that a trickle does not keep a thread."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.passed = False
        self.sock: socket.socket | None = None
        self.timer = threading.Timer(seconds, self.close)
        self.timer.daemon = True

    def __enter__(self) -> None:
        self.timer.start()

    def __exit__(self, *_: object) -> None:
        self.timer.cancel()

    def closes(self, sock: socket.socket) -> None:
        """Name the socket that is now waited for."""
        self.sock = sock
        if self.passed:
            self.close()

    def close(self) -> None:
        self.passed = True
        if self.sock is not None:
            with contextlib.suppress(OSError):
                self.sock.shutdown(socket.SHUT_RDWR)
