"""Opening by name: tensors, checksum, official or not; and the real sets, where their files are."""

import dataclasses
import gzip
import hashlib
import os
import pickle
import struct
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from pictorch import data
from pictorch.config.errors import UserError
from pictorch.data import files
from pictorch.data.specs import Form

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 3072), dtype=np.uint8)


@pytest.fixture
def cifar(tmp_path: Path) -> Path:
    (tmp_path / "cifar-10-batches-py").mkdir()
    for file in data.find("cifar10").files:
        (tmp_path / file.forms[0].path).write_bytes(pickle.dumps({"data": PIXELS, "labels": list(range(6))}, 2))
    return tmp_path


def write_idx(folder: Path, *, gz: bool) -> None:
    (folder / "MNIST" / "raw").mkdir(parents=True)
    for file in data.find("mnist").files:
        shape = (6, 28, 28) if file.holds == "images" else (6,)
        raw = struct.pack(f">{1 + len(shape)}I", 0x800 + len(shape), *shape)
        raw += np.zeros(shape, np.uint8).tobytes()
        (folder / file.forms[gz].path).write_bytes(gzip.compress(raw) if gz else raw)


def test_tensors(cifar: Path) -> None:
    dataset = data.open("cifar10", root=cifar)
    assert (len(dataset.train), len(dataset.test)) == (30, 6)
    for part in (dataset.train, dataset.test):
        assert part.images.shape == (len(part), 3, 32, 32)
        assert (part.images.dtype, part.labels.dtype) == (torch.uint8, torch.int64)
        assert part.images.is_contiguous()
    assert torch.equal(dataset.test.images.view(6, -1), torch.from_numpy(PIXELS))


def test_select(cifar: Path) -> None:
    train = data.open("cifar10", root=cifar).train
    some = train.select(torch.tensor([4, 0, 11]))
    assert some.labels.tolist() == [4, 0, 5]
    assert torch.equal(some.images[2], train.images[11])


def test_valid_files_that_are_not_the_official_ones_open_under_another_name(cifar: Path) -> None:
    dataset = data.open("cifar10", root=cifar)
    assert not dataset.official
    assert len(dataset.checksum) == 64
    assert dataset.name == f"cifar10@{dataset.checksum[:8]}"


def test_every_file_that_deviates_is_named_with_expected_and_found(
    cifar: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = cifar / "cifar-10-batches-py" / "data_batch_3"
    whole = path.read_bytes()
    spec = data.find("cifar10")
    form = Form("cifar-10-batches-py/data_batch_3", len(whole), hashlib.md5(whole).hexdigest())
    same = tuple(
        dataclasses.replace(file, forms=(dataclasses.replace(form, path=file.forms[0].path),)) for file in spec.files
    )
    monkeypatch.setitem(data.SPECS, "cifar10", dataclasses.replace(spec, files=same))
    assert data.open("cifar10", root=cifar).deviations == ()
    assert data.open("cifar10", root=cifar).name == "cifar10"
    batch = pickle.loads(whole)
    batch["data"][0, 0] ^= 1
    flipped = pickle.dumps(batch, 2)
    path.write_bytes(flipped)
    dataset = data.open("cifar10", root=cifar)
    found = hashlib.md5(flipped).hexdigest()
    assert dataset.deviations == (
        f"{path}: expected {len(whole):,} bytes, md5 {form.md5}; found {len(whole):,} bytes, md5 {found}",
    )
    assert not dataset.official


def test_checksum_follows_the_content_and_nothing_else(cifar: Path) -> None:
    first = data.open("cifar10", root=cifar).checksum
    path = cifar / "cifar-10-batches-py" / "data_batch_3"
    os.utime(path, (0, 0))
    assert data.open("cifar10", root=cifar).checksum == first
    batch = pickle.loads(path.read_bytes())
    batch["data"][0, 0] ^= 1
    path.write_bytes(pickle.dumps(batch, 2))
    assert data.open("cifar10", root=cifar).checksum != first


def test_compressed_or_not_is_the_same_data(tmp_path: Path) -> None:
    for gz in (False, True):
        write_idx(tmp_path / str(gz), gz=gz)
    raw, packed = (data.open("mnist", root=tmp_path / str(gz)) for gz in (False, True))
    assert raw.checksum == packed.checksum
    assert raw.name == packed.name


def test_every_file_is_read_once(cifar: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read, count = Path.read_bytes, dict.fromkeys(range(0), 0)

    def counted(path: Path) -> bytes:
        count[path.name] = count.get(path.name, 0) + 1
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", counted)
    data.open("cifar10", root=cifar)
    assert sorted(count.values()) == [1] * 6


def test_missing_and_unknown(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cifar10: files are missing under"):
        data.open("cifar10", root=tmp_path)
    with pytest.raises(UserError, match="did you mean 'cifar10'"):
        data.open("cifar-10", root=tmp_path)


@cache
def opened(name: str) -> data.Dataset:
    """The real data set, or a skip that says what is missing."""
    if "PICTORCH_DATA" not in os.environ:
        pytest.skip("the environment variable PICTORCH_DATA is not set")
    spec = data.find(name)
    absent = [file.forms[0].path for file in spec.files if files.locate(file, data.root()) is None]
    if absent:
        pytest.skip(f"PICTORCH_DATA lacks {', '.join(absent)}")
    return data.open(name, root=data.root())


# name -> images in train and test, images per class in train and test
COUNTS: dict[str, tuple[int, int, list[int], list[int]]] = {
    "cifar10": (50_000, 10_000, [5000] * 10, [1000] * 10),
    "cifar100": (50_000, 10_000, [500] * 100, [100] * 100),
    "mnist": (
        60_000,
        10_000,
        [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949],
        [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009],
    ),
    "fashion_mnist": (60_000, 10_000, [6000] * 10, [1000] * 10),
    "kmnist": (60_000, 10_000, [6000] * 10, [1000] * 10),
}


@pytest.mark.real_data
@pytest.mark.parametrize("name", COUNTS)
def test_real_counts(name: str) -> None:
    dataset, (train, test, train_classes, test_classes) = opened(name), COUNTS[name]
    spec = dataset.spec
    assert dataset.train.images.shape == (train, spec.in_channels, spec.image_size, spec.image_size)
    assert dataset.test.images.shape == (test, spec.in_channels, spec.image_size, spec.image_size)
    assert dataset.train.labels.bincount().tolist() == train_classes
    assert dataset.test.labels.bincount().tolist() == test_classes
    assert dataset.name == (name if dataset.official else f"{name}@{dataset.checksum[:8]}")


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "checksum"), [("cifar10", "6021eca8"), ("mnist", "e9914cff"), ("fashion_mnist", "4d8e31d2")]
)
def test_real_checksums(name: str, checksum: str) -> None:
    dataset = opened(name)
    if not dataset.official:
        pytest.skip(f"{dataset.name} is not the official data set")
    assert dataset.checksum.startswith(checksum)


@pytest.mark.real_data
@pytest.mark.parametrize("name", COUNTS)
def test_real_statistics_to_the_last_digit(name: str) -> None:
    dataset = opened(name)
    if not dataset.official:
        pytest.skip(f"{dataset.name} is not the official data set")
    values = np.arange(256) / 255
    for channel, (mean, std) in enumerate(zip(dataset.spec.mean, dataset.spec.std, strict=True)):
        parts = dataset.train.images[:, channel].numpy()
        counts = sum(np.bincount(part.ravel(), minlength=256) for part in np.array_split(parts, 20))
        found_mean = (counts * values).sum() / counts.sum()
        found_std = np.sqrt((counts * (values - found_mean) ** 2).sum() / counts.sum())
        assert (f"{found_mean:.4f}", f"{found_std:.4f}") == (f"{mean:.4f}", f"{std:.4f}")
