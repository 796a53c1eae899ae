"""Which images are measured on, and that the rows say so."""

from pathlib import Path

import pytest

from pictorch import data
from pictorch.bench import cifar


def test_random_images_where_cifar_is_missing(tmp_path: Path) -> None:
    with cifar.images(tmp_path, per_file=30) as found:
        dataset = data.open("cifar10", root=found.root)
        assert (len(dataset.train), len(dataset.test), found.train) == (150, 30, 150)
        assert found.what == "random images: CIFAR-10 is missing"
        assert dataset.train.images.float().mean() == pytest.approx(127.5, abs=1)  # type: ignore[union-attr]
        assert set(dataset.train.labels.tolist()) == set(range(10))
    assert not found.root.exists()


def test_files_that_are_there_are_taken(tmp_path: Path) -> None:
    for file in data.find("cifar10").files:
        path = tmp_path / file.forms[0].path
        path.parent.mkdir(exist_ok=True)
        path.touch()
    with cifar.images(tmp_path) as found:
        assert found == (tmp_path, "CIFAR-10", 50_000)
