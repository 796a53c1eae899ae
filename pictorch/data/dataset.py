"""A data set that was opened: bytes on disk -> tensors, with a checksum that says which bytes they were."""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from pictorch.data import digits, files, read_cifar, read_idx, read_svhn, specs
from pictorch.data.checks import Arrays
from pictorch.data.files import Content
from pictorch.data.parts import Part, Split
from pictorch.data.specs import DatasetSpec, ImagesSpec

READERS: dict[str, Callable[[Iterable[Content]], dict[str, Arrays]]] = {
    "cifar": read_cifar.read,
    "idx": read_idx.read,
    "svhn": read_svhn.read,
    "digits": digits.read,
}
SHIPPED = Path(__file__).parent


@dataclass(frozen=True, eq=False)
class Dataset:
    """The parts of a set of images; `val` is None where it has no validation part of its own.

    `checksum` says which bytes they were: of a published set the sha256, in hex, of the sha256 digests of its files'
    uncompressed bytes in the specification's order (whether they lie compressed, where and since when do not matter).
    `official` is False where a file is not the published one, or nobody has published any; `deviations` has a line for
    each such file: its path, and the size and md5 that were expected and found. `notes` say what else is worth knowing.
    """

    spec: ImagesSpec
    train: Part
    test: Part
    checksum: str
    deviations: tuple[str, ...] = ()
    val: Part | None = None
    notes: tuple[str, ...] = ()

    @property
    def official(self) -> bool:
        """Whether every file has its published md5."""
        return isinstance(self.spec, DatasetSpec) and not self.deviations

    @property
    def name(self) -> str:
        """The set's name, with the checksum's first 8 digits behind it where the files are not the official ones."""
        return self.spec.name if self.official else f"{self.spec.name}@{self.checksum[:8]}"


def open(name: str, *, root: Path) -> Dataset:
    """Read the data set `name` from the data root; each file is read once, and what is parsed is what is hashed.

    Files of the right structure that are not the official ones open too, under a name that says so, and are listed.
    Raises UserError for an unknown name, and for missing, unreadable or damaged files, naming them.
    """
    spec = specs.find(name)
    digests: list[bytes] = []
    deviations: list[str] = []

    def witnessed() -> Iterator[Content]:
        for content in files.read_all(spec, SHIPPED if spec.shipped else root):
            digests.append(hashlib.sha256(content.raw).digest())
            if content.deviation:
                deviations.append(content.deviation)
            yield content

    parts = READERS[spec.format](witnessed())
    train, test = (Split(*map(torch.from_numpy, parts[part])) for part in ("train", "test"))
    return Dataset(
        spec=spec,
        train=train,
        test=test,
        checksum=hashlib.sha256(b"".join(digests)).hexdigest(),
        deviations=tuple(deviations),
    )
