"""Unpacking of .tar, .tar.gz, .tgz, .zip and .gz files that nobody need trust.

Only plain files are written, by our own hand, below a folder of our own; nothing in an archive decides on anything
else. `tarfile`'s filter "data" would let links pass, which no data set needs, and sets no bound to what unfolds.
"""

import contextlib
import gzip
import os
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Collection, Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO, NamedTuple

from pictorch.config.errors import UserError

# ImageNet's training part, the largest that is unpacked here, has 148 GB.
MOST_BYTES = 1 << 38
DAMAGED = (tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, EOFError, RuntimeError)

Stream = IO[bytes] | gzip.GzipFile


class Member(NamedTuple):
    """A file in an archive: its path there, and what its bytes are read from before the next one is asked for."""

    name: str
    stream: Stream


def unpack(archive: Path, target: Path, *, wanted: Collection[str] | None = None, most: int = MOST_BYTES) -> None:
    """Unpack an archive into the new folder `target`, which appears when it is complete.

    Of the `wanted` paths every one must be there, and only they are unpacked. Raises UserError, and leaves nothing
    behind, for a damaged archive, for one whose files would lie elsewhere, for links and devices, and for more than
    `most` bytes.
    """
    found = set()
    with explained(archive), appearing(target) as folder:
        for member in members(archive):
            if wanted is None or member.name in wanted:
                most = write(member, folder / member.name, archive, most)
                found.add(member.name)
        if missing := sorted(set(wanted or ()) - found):
            raise UserError(f"{archive} lacks {', '.join(missing)}")


def add(archive: Path, folder: Path, *, wanted: Collection[str]) -> None:
    """Unpack the `wanted` files below a folder that is there; each appears when all are unpacked. As `unpack`."""
    with explained(archive), tempfile.TemporaryDirectory(prefix=f".{archive.name}-", dir=folder) as around:
        unpack(archive, new := Path(around) / "unpacked", wanted=wanted)
        for name in wanted:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (new / name).replace(folder / name)


@contextlib.contextmanager
def explained(archive: Path) -> Iterator[None]:
    """Turn what goes wrong with the archive, or with the disk that it is unpacked to, into a UserError."""
    try:
        yield
    except DAMAGED as error:
        raise UserError(f"{archive} is damaged, or no such archive: {error}") from None
    except OSError as error:
        place = "" if error.filename in (None, str(archive)) else f"{error.filename}: "
        raise UserError(f"{archive} cannot be unpacked: {place}{error.strerror or error}") from None


@contextlib.contextmanager
def appearing(target: Path) -> Iterator[Path]:
    """Yield a new folder that becomes `target` in the end, or is removed. Raises UserError where there is one."""
    if os.path.lexists(target):
        raise UserError(f"{target} is there already")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{target.name}-", suffix=".part", dir=target.parent) as around:
        folder = Path(around) / "unpacked"  # with the permissions of any folder, which a temporary one has not
        folder.mkdir()
        yield folder
        folder.rename(target)


def members(archive: Path) -> Iterator[Member]:
    """Yield the files of an archive one after the other. Raises UserError for a member that is refused."""
    if archive.name.endswith((".tar", ".tar.gz", ".tgz")):
        yield from tar_members(archive)
    elif archive.suffix == ".zip":
        yield from zip_members(archive)
    else:
        with gzip.open(archive) as stream:
            yield Member(archive.stem, stream)


def tar_members(archive: Path, stream: Stream | None = None) -> Iterator[Member]:
    """Yield the files of a .tar; with `stream`, of the one that it reads, within the archive of that name."""
    with tarfile.open(archive, fileobj=stream) as tar:
        for info in tar:
            name = inside(info.name, archive)
            if info.isdir():
                continue
            if not info.isreg():
                raise refused(archive, info.name, "is a link or a device")
            content = tar.extractfile(info)
            assert content
            yield Member(name, content)


def zip_members(archive: Path) -> Iterator[Member]:
    with zipfile.ZipFile(archive) as whole:
        for info in whole.infolist():
            name, kind = inside(info.filename, archive), stat.S_IFMT(info.external_attr >> 16)
            if info.is_dir():
                continue
            if kind not in (0, stat.S_IFREG):
                raise refused(archive, info.filename, "is a link or a device")
            with whole.open(info) as stream:
                yield Member(name, stream)


def inside(name: str, archive: Path) -> str:
    """Return a member's path, plain. Raises UserError where it leads out of the folder on any system."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or PureWindowsPath(name).drive:
        raise refused(archive, name, "would lie outside the folder")
    return str(path)


def write(member: Member, path: Path, archive: Path, most: int) -> int:
    """Write a file; return how many of the `most` bytes are left. Raises UserError where they do not suffice."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with path.open("xb") as file:
            while chunk := member.stream.read(1 << 20):
                if (most := most - len(chunk)) < 0:
                    raise refused(archive, member.name, "makes it unfold to more than it may")
                file.write(chunk)
    except FileExistsError:
        raise refused(archive, member.name, "is there twice") from None
    return most


def refused(archive: Path, name: str, why: str) -> UserError:
    return UserError(f"{archive} is refused, nothing was unpacked: its member {name!r} {why}")
