"""One file from the first of its mirrors that gives it: resumed where it broke off, checked before it gets its name.

The bytes gather in PATH.part, which outlives the process. What was begun may go on from another mirror, or after the
file was changed there: the checksum of the whole decides, and a wrong one means once more from the start. Proxies are
those of the environment (http_proxy, https_proxy, no_proxy).
"""

import contextlib
import errno
import hashlib
import http.client
import os
import socket
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from io import FileIO
from pathlib import Path

from pictorch.config.errors import UserError

Progress = Callable[[int, int], None]

CHUNK_BYTES = 1 << 18
TIMEOUT_SECONDS = 30.0
# Before the second, third and fourth attempt at a mirror; bytes that came in between make them count anew.
WAITS_SECONDS = (1.0, 3.0, 9.0)
# Answers of a server that may be another one in a moment.
PASSING = (408, 416, 425, 429, 500, 502, 503, 504)


class DownloadError(UserError):
    """No mirror gave the file; the message has what each of them said."""


class Failure(Exception):
    """Why a mirror did not give the file."""


class Broken(Failure):
    """Why an attempt ended; another one may get further."""


def fetch(
    urls: Sequence[str],
    path: Path,
    *,
    size: int,
    md5: str | None = None,
    sha256: str | None = None,
    progress: Progress = lambda done, total: None,
) -> None:
    """Download a file of `size` bytes and a known checksum to `path`; a file that is there stays as it is.

    `urls` (http, https or file) are tried in order; `progress` gets the bytes that are there and `size`. Raises
    DownloadError with what every mirror said, and UserError when the file cannot be written or another process is
    downloading it.
    """
    part = path.with_name(f"{path.name}.part")
    with alone(part) as file:
        if path.exists():
            return
        said = []
        for url in urls:
            try:
                obtain(file, url, size, ("sha256", sha256) if sha256 else ("md5", md5), progress)
            except Failure as failure:
                said.append(f"  {url}: {failure}")
                continue
            os.fsync(file.fileno())
            os.replace(part, path)
            return
        kept = f"\n{length(file):,} of {size:,} bytes are kept for the next attempt" if length(file) else ""
        raise DownloadError(f"{path.name} could not be downloaded:\n" + "\n".join(said) + kept)


@contextlib.contextmanager
def alone(part: Path) -> Iterator[FileIO]:
    """Open the file for this process alone; remove it afterwards if it is empty. Raises UserError."""
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        file = FileIO(part, "a+")
    except OSError as error:
        raise unwritable(part, error) from None
    with file:
        lock(file, part)
        try:
            yield file
        finally:
            if part.exists() and not length(file):
                part.unlink()


def lock(file: FileIO, part: Path) -> None:
    """Keep other processes from the file until it is closed. Raises UserError where another one has it."""
    try:
        import fcntl
    except ImportError:  # Windows: two processes at the same download end with a wrong checksum, not with a wrong file.
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        ours = part.exists() and os.path.samestat(os.fstat(file.fileno()), part.stat())
    except BlockingIOError:
        ours = False
    except OSError:  # a file system without locks
        return
    if not ours:
        raise UserError(f"{part}: another process is downloading this file; wait for it")


def obtain(file: FileIO, url: str, size: int, checksum: tuple[str, str | None], progress: Progress) -> None:
    """Bring the file to its size and checksum. Raises Failure, with the file empty where the checksum is wrong."""
    name, expected = checksum
    assert expected
    for last in (False, True):
        in_one_piece = complete(file, url, size, progress)
        file.seek(0)
        found = hashlib.file_digest(file, name).hexdigest()
        if found == expected:
            return
        file.truncate(0)
        if in_one_piece or last:
            raise Failure(f"its {name} is {found}, not {expected}")


def complete(file: FileIO, url: str, size: int, progress: Progress) -> bool:
    """Bring the file to its size, in as many attempts as get further; return if it was one. Raises Failure."""
    in_one_piece, most, waits = not length(file), length(file), iter(WAITS_SECONDS)
    while length(file) != size:
        try:
            attempt(file, url, size, progress)
        except Broken:
            if length(file) > most:
                most, waits = length(file), iter(WAITS_SECONDS)
            if (wait := next(waits, None)) is None:
                raise
            in_one_piece = False
            time.sleep(wait)
    return in_one_piece


def attempt(file: FileIO, url: str, size: int, progress: Progress) -> None:
    """Append what the file lacks. Raises Failure, which is Broken where trying again makes sense."""
    if length(file) > size:
        file.truncate(0)
    headers = {"User-Agent": "pictorch", "Accept-Encoding": "identity"}
    if begun := length(file):
        headers["Range"] = f"bytes={begun}-"
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT_SECONDS) as response:
            receive(response, file, size, progress)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416:
            file.truncate(0)
        raise (Broken if error.code in PASSING else Failure)(f"{error.code} {error.reason}") from None
    except urllib.error.URLError as error:
        raise Failure(no_connection(error.reason)) from None
    except TimeoutError:
        raise Broken(f"no data for {TIMEOUT_SECONDS:g} s after {length(file):,} of {size:,} bytes") from None
    except (OSError, http.client.HTTPException):
        raise broken_off(file, size) from None


def receive(response: http.client.HTTPResponse, file: FileIO, size: int, progress: Progress) -> None:
    """Write the answer's body to the file, behind what is there if that was asked for and given. Raises Failure."""
    given = response.headers.get("Content-Range", "")
    if length(file) and not (response.status == 206 and given.startswith(f"bytes {length(file)}-")):
        file.truncate(0)
        if response.status == 206:
            raise Broken(f"it sent other bytes than it was asked for ({given})")
    total = given.rpartition("/")[2] if response.status == 206 else response.headers.get("Content-Length", "*")
    if total.isdigit() and int(total) != size:
        raise Failure(f"its file has {int(total):,} bytes, not {size:,}")
    # Not read(), which loses what it has gathered when the line goes silent.
    while chunk := response.read1(CHUNK_BYTES):
        if length(file) + len(chunk) > size:
            file.truncate(0)
            raise Failure(f"its file has more than {size:,} bytes")
        write(file, chunk, size)
        progress(length(file), size)
    if length(file) < size:
        raise broken_off(file, size)


def write(file: FileIO, chunk: bytes, size: int) -> None:
    """Append all of the chunk. Raises UserError for a full disk and the like."""
    left = memoryview(chunk)
    try:
        while left:
            left = left[file.write(left) :]
    except OSError as error:
        missing = f"; {size - length(file):,} more bytes are needed"
        raise unwritable(Path(os.fsdecode(file.name)), error, missing * (error.errno == errno.ENOSPC)) from None


def length(file: FileIO) -> int:
    return os.fstat(file.fileno()).st_size


def broken_off(file: FileIO, size: int) -> Broken:
    return Broken(f"the connection broke off after {length(file):,} of {size:,} bytes")


def no_connection(reason: object) -> str:
    """Return in words why there is no connection."""
    match reason:
        case ssl.SSLCertVerificationError():
            return f"TLS: its certificate is not accepted: {reason.verify_message}"
        case ssl.SSLError():
            return f"TLS: {reason.reason or reason}"
        case socket.gaierror():
            return f"no such host, or no network: {reason.strerror}"
        case TimeoutError():
            return f"no connection within {TIMEOUT_SECONDS:g} s"
        case OSError():
            return f"no connection: {reason.strerror or reason}"
        case _:
            return str(reason)


def unwritable(path: Path, error: OSError, more: str = "") -> UserError:
    return UserError(f"{path} cannot be written: {error.strerror or error}{more}")
