"""The files of a data set: where they lie, what they hold, whether they are the official ones, what to do if not."""

import hashlib
import os
import shlex
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pictorch.config.errors import UserError
from pictorch.data.specs import DatasetSpec, File, Form

# The largest file of a known set unfolds to 1.6 GB; without a bound, a few MB of .gz can unfold to fill the memory.
MOST_BYTES = 2 << 30

# zlib's names for the two containers.
GZIP, ZLIB = 31, 15

DEFAULT_ROOT = "~/.cache/pictorch/data"
GIVEN, VARIABLE, DEFAULT = "--data-dir (or data.dir)", "PICTORCH_DATA", "the default data root"


def root(dir: str | None = None) -> Path:
    """Return the data root: `dir`, else the environment variable PICTORCH_DATA, else ~/.cache/pictorch/data.

    Raises UserError, naming the setting, for the home directory of an unknown user and for what is no path.
    """
    variable = os.environ.get("PICTORCH_DATA")
    setting, text = (GIVEN, dir) if dir else (VARIABLE, variable) if variable else (DEFAULT, DEFAULT_ROOT)
    if "\0" in text:
        raise UserError(f"{setting}: expected a path, which has no NUL character, got {text!r}")
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise UserError(f"{setting}: {text}: no home directory is known for {Path(text).parts[0]}") from None


def setting_of(root: Path) -> str:
    """Return which setting gave a data root."""
    for setting, text in ((VARIABLE, os.environ.get("PICTORCH_DATA")), (DEFAULT, DEFAULT_ROOT)):
        if text and root == Path(os.path.expanduser(text)):
            return setting
    return GIVEN


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

    @property
    def deviation(self) -> str | None:
        """What was expected and found, in a line that names the file; None for an official file."""
        if self.official:
            return None
        found = describe(Form(self.form.path, self.size, self.md5))
        return f"{self.path}: expected {describe(self.form)}; found {found}"

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
    # Path.is_file raises for a folder that may not be entered and for a name that is too long.
    return next((form for form in file.forms if os.path.isfile(root / form.path)), None)


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
        raw = decompress(stored, wbits=GZIP) if path.suffix == ".gz" else stored
    except ValueError as error:
        raise damaged(spec, path, form, str(error), size=size, md5=md5) from None
    return Content(path=path, spec=spec, file=file, form=form, raw=raw, size=size, md5=md5)


def decompress(stored: bytes | memoryview, *, wbits: int) -> bytes:
    """Return what a gzip file of one member, or a zlib stream, holds, at most MOST_BYTES. Raises ValueError."""
    stream = zlib.decompressobj(wbits=wbits)
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


def missing(spec: DatasetSpec, root: Path, *, by_hand: bool = False) -> UserError:
    """Return the error that names the right root if it is near, else lists the files that are there and are not.

    It names the command that downloads them, unless they are to be had `by_hand` alone.
    """
    setting = setting_of(root)
    if not spec.shipped and (right := nearby(spec, root)):
        change = f"--data-dir {right}" if setting == DEFAULT else f"{setting} to {right}"
        return UserError(f"{spec.name}: its files lie under {right}, not under {root}; set {change}")
    rows = []
    for file in spec.files:
        mark = "found  " if locate(file, root) else "missing"
        rows.append(f"  {mark}  " + "  or  ".join(f"{form.path} ({describe(form)})" for form in file.forms))
    place = f"{root}{state(root)}"
    there = f" --data-dir {shlex.quote(str(root))}" if setting == GIVEN else ""
    command = "" if by_hand or spec.shipped else f"`pictorch data prepare {spec.name}{there}` downloads them. By hand: "
    advice = f"{command}{spec.obtain}." + ("" if spec.shipped else f"\n{describe_root(setting)}")
    return UserError(f"{spec.name}: files are missing under {place}:\n" + "\n".join(rows) + f"\n{advice}")


def nearby(spec: DatasetSpec, root: Path) -> Path | None:
    """Return the folder one or two levels above `root`, or one below it, that holds all files of the set, or None."""
    below = sorted(root.glob("*/")) if os.path.isdir(root) else []
    folders = [*root.absolute().parents[:2], *below]
    return next((folder for folder in folders if all(locate(file, folder) for file in spec.files)), None)


def state(root: Path) -> str:
    """Return what keeps a data root from being a folder, in parentheses, or nothing."""
    if os.path.isdir(root):
        return ""
    return " (this is a file, not a folder)" if os.path.exists(root) else " (there is no such folder)"


def describe_root(setting: str) -> str:
    """Return where a data root comes from, and how to set another."""
    if setting == GIVEN:
        return "This data root was given by --data-dir or data.dir; without them it is that of PICTORCH_DATA."
    if setting == VARIABLE:
        return "This data root is that of the environment variable PICTORCH_DATA; --data-dir or data.dir go before it."
    return "This is the default data root; --data-dir, data.dir or the environment variable PICTORCH_DATA set another."


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
