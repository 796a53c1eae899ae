"""The images of the benchmarks: CIFAR-10, or random ones in its files' format where it is missing."""

import contextlib
import pickle
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pictorch import data


class Images(NamedTuple):
    """Where the files of CIFAR-10 lie, what they hold, in words, and how many training images."""

    root: Path
    what: str
    train: int


@contextlib.contextmanager
def images(root: Path | None, *, per_file: int = 10_000) -> Iterator[Images]:
    """Yield CIFAR-10 under the data root; where it is missing, or with None, files of `per_file` random images for the
    time being."""
    spec = data.find("cifar10")
    if root and all(data.files.locate(file, root) for file in spec.files):
        yield Images(root, "CIFAR-10", 50_000)
        return
    draws = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        for file in spec.files:
            path = Path(folder) / file.forms[0].path
            path.parent.mkdir(exist_ok=True)
            pixels = draws.integers(0, 256, (per_file, 3072), dtype=np.uint8)
            path.write_bytes(pickle.dumps({"data": pixels, "labels": [i % 10 for i in range(per_file)]}, protocol=4))
        yield Images(Path(folder), "random images: CIFAR-10 is missing" if root else "random images", 5 * per_file)
