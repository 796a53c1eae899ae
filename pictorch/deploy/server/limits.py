"""What a server takes, and how it says no."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import final

from pictorch.config import UserError

MiB = 2**20
LOOPBACK = ("localhost", "127.0.0.1", "::1")


@final
@dataclass(frozen=True)
class Limits:
    """The bounds of one server; docs/serve.md says what happens beyond each. Times are in seconds."""

    body_bytes: int = 32 * MiB  # of a request
    held_bytes: int = 256 * MiB  # of all requests' bodies that are in memory together
    pixels: int = 50_000_000  # of an image, as its header says
    images: int = 32  # of a request
    waiting_images: int = 256  # admitted and not answered yet
    batch_images: int = 32  # that the network computes together
    decoders: int = 2  # threads that decode
    top_k: int = 1000
    connections: int = 512
    requests: int = 128  # under way
    client_requests: int = 64  # under way, of one address
    head_seconds: float = 10.0  # for a request's first line and headers, and between requests
    read_seconds: float = 20.0  # for its body
    answer_seconds: float = 20.0  # from the last byte of the body to the answer
    stop_seconds: float = 25.0  # for what is under way when the server is asked to stop
    fetch_seconds: float = 8.0  # for one address, redirects included

    # A JPEG may have any number of scans, and each goes through all of its pixels: an image of ten scans, as programs
    # write them, may have all the pixels, one of 100 a fifth of them.
    @property
    def scanned_pixels(self) -> int:
        """How many pixels a JPEG's scans may go through together."""
        return 20 * self.pixels


@final
class Refused(UserError):
    """A request, or one image of it, that is not answered; the message is one sentence.

    `retry_seconds` is when to ask again, where that helps.
    """

    def __init__(self, status: int, message: str, *, retry_seconds: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.retry_seconds = retry_seconds

    def headers(self) -> dict[str, str]:
        """Return the headers that go with it."""
        return {} if self.retry_seconds is None else {"Retry-After": str(self.retry_seconds)}


def allowed_hosts(host: str, named: Iterable[str]) -> frozenset[str] | None:
    """Return the names by which a server that listens on `host` may be called; None for any.

    A server for this machine alone answers to this machine's names, so that a web page whose own name is made to
    lead here (DNS rebinding) is refused. One that listens elsewhere answers to any name, unless some are `named`.
    """
    names = frozenset(name.lower().strip("[]") for name in named)
    if is_loopback(host):
        return names | {*LOOPBACK, host.lower()}
    return names or None


def is_loopback(host: str) -> bool:
    """Return whether only this machine reaches what listens on `host`."""
    return host.lower() in LOOPBACK or host.startswith("127.")


def mebibytes(number: int) -> str:
    """Return a number of bytes as people read it, for example "32 MiB"; below 1 MiB "512 bytes"."""
    return f"{number / MiB:g} MiB" if number >= MiB else f"{number} bytes"
