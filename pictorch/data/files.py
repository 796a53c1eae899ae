"""The files of a data set: where they lie, what they hold, whether they are the official ones, what to do if not."""

import hashlib
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pictorch.config.errors import UserError
from pictorch.data.specs import DatasetSpec, File, Form

# The largest file of a known set has 155 MB; without a bound, a few MB of .gz can unfold to fill the memory.
MOST_BYTES = 1 << 30


@dataclass(frozen=True)
class Content:
    """A file that was read: `raw` are its uncompressed bytes; `size` and `md5` are those of the file on the disk."""

    path: Path
    spec: DatasetSpec
    file: File
    form: Form
    raw: bytes
    size: int
    md5: str

    @property
    def official(self) -> bool:
        """Whether the file, or what is compressed in it, has an md5 that the specification lists."""
        if self.md5 == self.form.md5:
            return True
        known = {form.md5 for form in self.file.forms} - {None}
        return self.path.suffix == ".gz" and hashlib.md5(self.raw).hexdigest() in known

    def damaged(self, why: str) -> UserError:
        """Return the error that names the file, what is wrong, what was expected and found, and what to do."""
        return damaged(self.spec, self.path, self.form, why, size=self.size, md5=self.md5)


def read_all(spec: DatasetSpec, root: Path) -> Iterator[Content]:
    """Yield the files of a data set in the specification's order, each read when it is asked for.

    Raises UserError, before the first, if one is missing, and for one that cannot be read or decompressed.
    """
    located = [locate(file, root) for file in spec.files]
    if None in located:
        raise missing(spec, root)
    for file, form in zip(spec.files, located, strict=True):
        assert form is not None
        yield read(spec, file, form, root / form.path)


def locate(file: File, root: Path) -> Form | None:
    """Return the first form of `file` that is there, or None."""
    return next((form for form in file.forms if (root / form.path).is_file()), None)


def read(spec: DatasetSpec, file: File, form: Form, path: Path) -> Content:
    """Read one file, whole, and decompress it if its name ends in .gz. Raises UserError."""
    try:
        if (size := path.stat().st_size) > MOST_BYTES:
            raise damaged(spec, path, form, f"it is larger than the {MOST_BYTES:,} bytes a file may have", size=size)
        stored = path.read_bytes()
    except OSError as error:
        raise UserError(f"{spec.name}: {path} cannot be read: {error.strerror or error}") from None
    size, md5 = len(stored), hashlib.md5(stored).hexdigest()
    try:
        raw = decompress(stored) if path.suffix == ".gz" else stored
    except ValueError as error:
        raise damaged(spec, path, form, str(error), size=size, md5=md5) from None
    return Content(path=path, spec=spec, file=file, form=form, raw=raw, size=size, md5=md5)


def decompress(stored: bytes) -> bytes:
    """Return what a gzip file of one member holds, at most MOST_BYTES. Raises ValueError with the reason."""
    stream = zlib.decompressobj(wbits=31)
    try:
        raw = stream.decompress(stored, MOST_BYTES)
    except zlib.error as error:
        raise ValueError(f"its compression is damaged ({error})") from None
    if stream.unconsumed_tail:
        raise ValueError(f"it unfolds to more than the {MOST_BYTES:,} bytes a file may have")
    if not stream.eof:
        raise ValueError("it ends in the middle of its compressed data")
    if stream.unused_data:
        raise ValueError(f"{len(stream.unused_data):,} bytes follow the end of its compressed data")
    return raw


def missing(spec: DatasetSpec, root: Path) -> UserError:
    """Return the error that lists every file of the set, those that are there and those that are not."""
    rows = []
    for file in spec.files:
        mark = "found  " if locate(file, root) else "missing"
        rows.append(f"  {mark}  " + "  or  ".join(f"{form.path} ({describe(form)})" for form in file.forms))
    place = f"{root}" if root.is_dir() else f"{root} (there is no such folder)"
    advice = f"{spec.obtain}." if spec.shipped else f"{spec.obtain}.\n{ROOT_ADVICE}"
    return UserError(f"{spec.name}: files are missing under {place}:\n" + "\n".join(rows) + f"\n{advice}")


def damaged(spec: DatasetSpec, path: Path, form: Form, why: str, *, size: int, md5: str | None = None) -> UserError:
    found = describe(Form(form.path, size, md5))
    return UserError(
        f"{spec.name}: {path}: {why}.\n"
        f"  expected: {describe(form)}\n  found:    {found}\n"
        f"Delete the file and put the official one in its place. {spec.obtain}."
    )


def describe(form: Form) -> str:
    size = "size not known" if form.size is None else f"{form.size:,} bytes"
    return f"{size}, md5 {form.md5 or 'not known'}"


ROOT_ADVICE = (
    "The data root is set by --data-dir, else by the environment variable PICTORCH_DATA, "
    "else it is ~/.cache/pictorch/data."
)
