"""WebDataset shards: tar files of images and their labels, on the disk or behind URLs.

A sample is what follows one another in a tar under one key, the name up to the first dot of its last part: `a/17.jpg`
and `a/17.cls` are sample `a/17`. Its image is a jpg, jpeg, png or webp; its label stands in a cls (class number), json
(a number, a name, or an object with one of them as `label`) or txt (a number or a name), the first of them that is
there. Class names are those of a `classes.txt` (one a line) or `classes.json` (a list) beside the shards, else the
names that the labels have, sorted, else the numbers.

Shards on the disk are indexed: each image can be read at any time, and an epoch is that of a folder. Shards behind URLs
are read from beginning to end in each epoch, in a random order of shards, and each sample waits for a random time.
"""

import hashlib
import importlib
import json
import tarfile
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from glob import glob, has_magic
from itertools import groupby
from pathlib import Path
from typing import IO, Any, NamedTuple, final

import torch
from torch import Tensor

from pictorch.config.errors import UserError

IMAGES = ("jpg", "jpeg", "png", "webp")
LABELS = ("cls", "json", "txt")
# A sample from a URL is held back for up to this many others: at 100 kB each, photographs take 0.4 GB.
BUFFER = 4096
MOST_LABEL_BYTES = 1 << 20
Label = int | str
Decode = Callable[[bytes], Tensor]
# What curl's exit status says of a shard (man curl).
CURL = {
    6: "the host is not known",
    7: "the host takes no connection",
    18: "the transfer broke off",
    22: "the server refuses it, with a status of 400 or more (404: it is not there)",
    28: "the connection took too long",
}
# How a command ends whose reader has gone: curl's own status, the shell's, the signal's.
CUT_SHORT = (23, 141, -13)


class Sample(NamedTuple):
    """An image in a shard: where its bytes lie, or, from a stream, they themselves."""

    name: str
    offset: int
    size: int
    label: Label
    raw: bytes = b""


@dataclass(frozen=True, eq=False)
class Index:
    """What the shards hold: for each image its shard, offset and size in it int64 [n,3], and its label int64 [n].

    `checksum` is the sha256, in hex, of name, size and label of each image, shard by shard. It does not see the pixels.
    """

    shards: tuple[str, ...]
    places: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    checksum: str


@final
class LocalShards:
    """Shards on the disk: `read` for a StreamingLoader, which gives the image uint8 [C,h,w] of a number."""

    def __init__(self, index: Index, *, decode: Decode) -> None:
        self.index, self.decode = index, decode

    def __call__(self, index: int) -> Tensor:
        """Return the decoded image. Raises UserError naming shard and image."""
        shard, offset, _ = self.index.places[index].tolist()
        raw = self.raw(index)
        try:
            return self.decode(raw)
        except ValueError as error:
            path = self.index.shards[shard]
            name = next((sample.name for sample in scan(path) if sample.offset == offset), f"image at byte {offset:,}")
            raise UserError(f"{path}: {name}: {error}") from None

    def raw(self, index: int) -> bytes:
        """Return the image file as it stands in the shard. Raises UserError for a shard that is no longer the same."""
        shard, offset, size = self.index.places[index].tolist()
        path = self.index.shards[shard]
        try:
            with open(path, "rb") as file:
                file.seek(offset)
                raw = file.read(size)
        except OSError as error:
            raise UserError(f"{path}: this shard cannot be read: {error.strerror or error}") from None
        if len(raw) < size:
            raise UserError(f"{path}: this shard is shorter than it was when the run began")
        return raw


@final
class UrlShards:
    """Shards that are read from beginning to end: `read` for a StreamingLoader (its InOrder)."""

    def __init__(self, index: Index, *, decode: Decode) -> None:
        self.index, self.decode = index, decode

    def order(self, draws: torch.Generator) -> Tensor:
        """Return int64 [n]: the shards in random order, each sample of them up to BUFFER places later than it comes.

        So no more than about BUFFER samples wait at a time, and which they are is known before anything is read.
        """
        shards = self.index.places[:, 0]
        ranks = torch.randperm(len(self.index.shards), generator=draws)
        sequence = ranks[shards].argsort(stable=True)
        late = BUFFER * torch.rand(len(shards), generator=draws, dtype=torch.float64)
        return sequence[(torch.arange(len(shards)) + late).argsort(stable=True)]

    def reads(self, order: Tensor, start: int) -> Generator[Callable[[], Tensor], None, None]:
        """Yield, for each position of `order` from `start` on, a call that decodes the image.

        Samples of earlier positions are passed over undecoded, shards that hold nothing else are not opened.
        Raises UserError naming the shard that cannot be read or holds other samples than its index.
        """
        wanted = set(order[start:].tolist())
        held: dict[int, Sample] = {}
        with closing(self.samples(order, wanted)) as coming:
            for image in order[start:].tolist():
                while image not in held:
                    number, sample = next(coming)
                    if number in wanted:
                        held[number] = sample
                shard = self.index.shards[int(self.index.places[image, 0])]
                yield partial(self.decoded, shard, held.pop(image))

    def samples(self, order: Tensor, wanted: set[int]) -> Generator[tuple[int, Sample], None, None]:
        """Yield the samples, with their numbers, of the shards that hold one of `wanted`, in the order of shards."""
        shards = self.index.places[:, 0].contiguous()
        # Samples come late by equal times on average, so the mean place of a shard's own gives back its place.
        ranks = torch.zeros(len(self.index.shards), dtype=torch.float64)
        ranks.scatter_reduce_(
            0, shards[order], torch.arange(len(order), dtype=torch.float64), "mean", include_self=False
        )
        first = torch.searchsorted(shards, torch.arange(len(ranks) + 1)).tolist()
        for shard in ranks.argsort(stable=True).tolist():
            numbers = range(first[shard], first[shard + 1])
            if wanted.isdisjoint(numbers):
                continue
            with closing(stream(self.index.shards[shard], pixels=True)) as samples:
                for number in numbers:
                    sample = next(samples, None)
                    if sample is None or sample.size != self.index.places[number, 2]:
                        raise UserError(
                            f"{self.index.shards[shard]}: this shard is not what it was when it was indexed"
                        )
                    yield number, sample

    def decoded(self, shard: str, sample: Sample) -> Tensor:
        try:
            return self.decode(sample.raw)
        except ValueError as error:
            raise UserError(f"{shard}: {sample.name}: {error}") from None


def open_shards(
    pattern: str | Sequence[str],
    *,
    decode: Decode,
    classes: Sequence[str] | None = None,
    index_file: Path | None = None,
) -> LocalShards | UrlShards:
    """Index the shards that `pattern` names, and return them ready to read.

    pattern: paths, folders of .tar files, globs, brace ranges such as `train-{000000..000146}.tar`, URLs (http, https
    and what webdataset opens) and commands (`pipe:`); decode: an image file's bytes -> uint8 [C,h,w], raises ValueError
    with the reason; classes: names in the order of their numbers, those of the training part for another part, for
    example. Local shards are indexed by their headers; each shard behind a URL is read once, whole, to count it, so
    that the length of an epoch is exact. `index_file` keeps what was found for the next time; it counts as long as the
    names of the shards, and of local ones sizes and times, are the same.

    Raises UserError for what is missing, is no tar, or has samples without image or label, naming shard and sample.
    """
    shards = expand([pattern] if isinstance(pattern, str) else pattern)
    where = pattern if isinstance(pattern, str) else f"{pattern[0]} ..."
    remote = any(is_url(shard) for shard in shards)
    stamps = [stamp(shard) for shard in shards]
    listing = kept(index_file, stamps) if index_file else None
    if listing is None:
        listing = list_samples(shards, remote=remote)
        if index_file:
            keep(listing, index_file, stamps)
    if not listing.labels:
        raise UserError(f"{where}: its {len(shards):,} shards hold no images with labels")
    names = tuple(classes or classes_beside(shards[0]) or classes_of(listing.labels, where=where))
    index = Index(
        shards=tuple(shards),
        places=torch.tensor(listing.places),
        labels=torch.tensor(numbered(listing.labels, names, where=where)),
        classes=names,
        checksum=listing.checksum,
    )
    return UrlShards(index, decode=decode) if remote else LocalShards(index, decode=decode)


class Listing(NamedTuple):
    """Of each image shard, offset and size, and its label as it stands there; `checksum` is that of the Index."""

    places: list[tuple[int, int, int]]
    labels: list[Label]
    checksum: str


def list_samples(shards: Sequence[str], *, remote: bool) -> Listing:
    """Read through the shards: 12,000 samples a second on one core (EPYC, Python 3.11) from a warm disk."""
    digest = hashlib.sha256()
    places: list[tuple[int, int, int]] = []
    labels: list[Label] = []
    for number, shard in enumerate(shards):
        for sample in stream(shard, pixels=False) if remote else scan(shard):
            places.append((number, sample.offset, sample.size))
            labels.append(sample.label)
            digest.update(json.dumps([sample.name, sample.size, sample.label]).encode())
    return Listing(places, labels, digest.hexdigest())


def stamp(shard: str) -> list[Any]:
    """Return by what a shard is known again: its name, and of a local one size in bytes and time in nanoseconds."""
    if is_url(shard):
        return [shard]
    status = Path(shard).stat()
    return [shard, status.st_size, status.st_mtime_ns]


def kept(file: Path, stamps: list[list[Any]]) -> Listing | None:
    """Return what an index file holds; None where there is none, it is damaged or of other shards."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        content = json.loads(file.read_text(encoding="utf-8"))
        if content["stamps"] == stamps:
            return Listing(content["places"], content["labels"], content["checksum"])
    return None


def keep(listing: Listing, file: Path, stamps: list[list[Any]]) -> None:
    """Write an index file, whole or not at all. Raises UserError where that cannot be."""
    unfinished = file.with_name(f"{file.name}.part")
    try:
        unfinished.write_text(json.dumps({"stamps": stamps, **listing._asdict()}), encoding="utf-8")
        unfinished.replace(file)
    except OSError as error:
        raise UserError(f"{file}: the index of the shards cannot be written: {error.strerror or error}") from None


def is_url(shard: str) -> bool:
    return "://" in shard or shard.startswith("pipe:")


def expand(patterns: Sequence[str]) -> list[str]:
    """Return the shards that paths, folders, globs, brace ranges and URLs name. Raises UserError for missing ones."""
    shards: list[str] = []
    for pattern in patterns:
        for name in braces(pattern):
            if is_url(name):
                shards.append(name)
            elif Path(name).is_dir():
                shards += sorted(map(str, Path(name).glob("*.tar")))
            else:
                shards += sorted(glob(name)) if has_magic(name) else [name]
    if not shards:
        raise UserError(f"{' '.join(patterns)}: no shards there; expected .tar files")
    missing = [shard for shard in shards if not is_url(shard) and not Path(shard).is_file()]
    if missing:
        more = f" and {len(missing) - 1:,} more" if len(missing) > 1 else ""
        raise UserError(f"there is no shard {missing[0]}{more}")
    return shards


def braces(pattern: str) -> list[str]:
    """Return the names of a brace range: `{00..02}` counts with leading zeros. Raises UserError for a broken one."""
    # A command may have braces of its own.
    if "{" not in pattern or pattern.startswith("pipe:"):
        return [pattern]
    try:
        return list(webdataset().shardlists.expand_urls(pattern))
    except ValueError as error:
        raise UserError(f"{pattern}: expected a brace range such as {{000000..000146}}: {error}") from None


def webdataset() -> Any:
    """Return the package webdataset. Raises UserError naming the extra where it is not installed."""
    try:
        return importlib.import_module("webdataset")
    except ImportError:
        raise UserError(
            "brace ranges and URLs of shards need the package webdataset: pip install 'pictorch[shards]'"
        ) from None


def scan(path: str) -> Iterator[Sample]:
    """Yield the samples of a shard on the disk, where they lie and their labels. Raises UserError naming the shard."""
    with naming(path), open(path, "rb") as file, tarfile.open(fileobj=file, mode="r:") as archive:
        yield from samples_of(archive, pixels=False)
        # A file that was cut between two members, or in a header, ends for tarfile like a whole one.
        file.seek(archive.offset)
        if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise tarfile.ReadError("its end is missing")


def stream(shard: str, *, pixels: bool) -> Generator[Sample, None, None]:
    """Yield the samples of a shard as it is read from beginning to end, with the images' bytes if `pixels`.

    Raises UserError naming the shard that cannot be opened or ends too early.
    """
    try:
        source: IO[bytes] = webdataset().gopen(shard)
    except FileNotFoundError as error:
        raise UserError(f"{shard}: to read it needs the program {error.filename}") from None
    except ValueError as error:
        raise UserError(f"{shard}: webdataset cannot open it: {error}") from None
    try:
        with naming(shard), tarfile.open(fileobj=source, mode="r|") as archive:
            yield from samples_of(archive, pixels=pixels)
        # What stands behind the last member is nothing but zeros; only then it is known how the transfer ended.
        while source.read(1 << 16):
            pass
        source.close()
    except (OSError, UserError) as error:
        with suppress(OSError):
            source.close()
        status = getattr(source, "status", None)
        if status and status not in CUT_SHORT:
            why = CURL.get(status) if "://" in shard else None
            raise UserError(f"{shard}: {why or f'its command ended with status {status}'}") from None
        raise error if isinstance(error, UserError) else UserError(f"{shard}: {error}") from None
    finally:
        # A command that is cut short may complain.
        with suppress(OSError):
            source.close()


@contextmanager
def naming(shard: str) -> Iterator[None]:
    """Turn what is wrong with an archive into a UserError that names it."""
    try:
        yield
    except tarfile.TarError as error:
        packed = "; a compressed one has to be unpacked first" if shard.endswith(("gz", "xz", "bz2", "zst")) else ""
        raise UserError(f"{shard}: this is not a whole tar file ({error}){packed}") from None
    except OSError as error:
        raise UserError(f"{shard}: this shard cannot be read: {error.strerror or error}") from None
    except ValueError as error:
        raise UserError(f"{shard}: {error}") from None


def samples_of(archive: tarfile.TarFile, *, pixels: bool) -> Iterator[Sample]:
    """Yield the samples of an open archive. Raises ValueError naming the sample that lacks its image or its label."""
    for key, members in groupby((member for member in archive if member.isreg()), lambda member: split_name(member)[0]):
        if key.rpartition("/")[2].startswith(("__", ".")):
            continue
        image: Sample | None = None
        texts: dict[str, bytes] = {}
        for member in members:
            extension = split_name(member)[1]
            if extension in IMAGES:
                if image:
                    raise ValueError(f"sample {key!r} has two images, {image.name} and {member.name}")
                raw = contents(archive, member) if pixels else b""
                image = Sample(member.name, member.offset_data, member.size, 0, raw)
            elif extension in LABELS:
                texts[extension] = contents(archive, member) if member.size <= MOST_LABEL_BYTES else b""
        if image and texts:
            yield image._replace(label=label_of(key, texts))
        elif image or "cls" in texts:
            missing = f"label ({', '.join(LABELS)})" if image else f"image ({', '.join(IMAGES)})"
            raise ValueError(f"sample {key!r} has no {missing}")


def split_name(member: tarfile.TarInfo) -> tuple[str, str]:
    """Return key and extension of a member: the extension, in lower case, begins at the first dot of the last part."""
    folder, slash, name = member.name.rpartition("/")
    stem, _, extension = name.partition(".")
    return folder + slash + stem, extension.lower()


def contents(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = archive.extractfile(member)
    assert file is not None
    return file.read()


def label_of(key: str, texts: dict[str, bytes]) -> Label:
    """Return the class number or name of a sample. Raises ValueError for a label that is neither."""
    extension = next(extension for extension in LABELS if extension in texts)
    text = texts[extension].decode("utf-8", "replace").strip()
    value: Any = text
    if extension == "json":
        with suppress(json.JSONDecodeError):
            value = json.loads(text)
            value = value.get("label") if isinstance(value, dict) else value
    if isinstance(value, str) and value.isdecimal():
        value = int(value)
    named = isinstance(value, str) and value and extension != "cls" and "\n" not in value
    if not named and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
        expected = "a class number from 0 on" + ("" if extension == "cls" else ", or a class name")
        raise ValueError(f"the label of sample {key!r}, its {extension}: expected {expected}, got {text[:40]!r}")
    return value  # type: ignore[no-any-return]


def classes_beside(shard: str) -> tuple[str, ...]:
    """Return the class names of `classes.txt` or `classes.json` beside a shard; none where there is no such file."""
    if shard.startswith("pipe:"):
        return ()
    for name in ("classes.txt", "classes.json"):
        place = f"{shard.rpartition('/')[0]}/{name}" if is_url(shard) else str(Path(shard).parent / name)
        try:
            with open(place, "rb") if not is_url(place) else webdataset().gopen(place) as file:
                text = file.read().decode("utf-8")
        except (OSError, UnicodeDecodeError):
            continue
        names = parsed_classes(text, place)
        if names:
            return names
    return ()


def parsed_classes(text: str, place: str) -> tuple[str, ...]:
    """Return the names of a list of classes. Raises UserError for another thing and for a name that comes twice."""
    names: Any = [line.strip() for line in text.splitlines() if line.strip()]
    if place.endswith("json"):
        with suppress(json.JSONDecodeError):
            names = json.loads(text)
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UserError(f'{place}: expected a list of class names, ["ant", "bee"]')
    if len(set(names)) < len(names):
        raise UserError(f"{place}: a class name comes twice: {next(n for n in names if names.count(n) > 1)!r}")
    return tuple(names)


def classes_of(labels: Iterable[Label], *, where: str) -> tuple[str, ...]:
    """Return the names that labels have, sorted, or the numbers 0 to the largest. Raises UserError for a mixture."""
    seen = set(labels)
    names = sorted(label for label in seen if isinstance(label, str))
    numbers = [label for label in seen if isinstance(label, int)]
    if names and numbers:
        raise UserError(
            f"{where}: some labels are class names ({names[0]!r}) and some numbers ({numbers[0]}); "
            "a classes.txt beside the shards, one name a line, says which is which"
        )
    return tuple(names) or tuple(map(str, range(max(numbers) + 1)))


def numbered(labels: list[Label], classes: Sequence[str], *, where: str) -> list[int]:
    """Return the class number of each label. Raises UserError for one that is not of the classes."""
    numbers: dict[Label, int] = {name: number for number, name in enumerate(classes)}
    numbers |= {number: number for number in range(len(classes))}
    for label in dict.fromkeys(labels):
        if label not in numbers:
            raise UserError(
                f"{where}: the label {label!r} is not of its {len(classes):,} classes, 0 to {len(classes) - 1}"
            )
    return [numbers[label] for label in labels]
