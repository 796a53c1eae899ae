"""SVHN's .mat files, as scipy writes them: pixels and labels in their places, damaged and other files refused."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.io import savemat

from pictorch import data
from pictorch.config.errors import UserError
from pictorch.data import files, read_svhn
from pictorch.data.checks import Arrays
from pictorch.data.specs import find

SPEC = find("svhn")
# As in the official files: [row, column, channel, image], labels 1 to 10 in a column.
X = np.random.default_rng(0).integers(0, 256, (32, 32, 3, 5), dtype=np.uint8)
Y = np.array([[10], [1], [9], [10], [5]], np.uint8)


def mat(compressed: bool = True, **arrays: object) -> bytes:
    stream = io.BytesIO()
    savemat(stream, arrays, do_compression=compressed)
    return stream.getvalue()


def read(raw: bytes, folder: Path) -> Arrays:
    path = folder / "train_32x32.mat"
    path.write_bytes(raw)
    return read_svhn.read_file(files.read(SPEC, SPEC.files[0], SPEC.files[0].forms[0], path))


def refusal(raw: bytes, folder: Path) -> str:
    with pytest.raises(UserError) as caught:
        read(raw, folder)
    assert str(folder / "train_32x32.mat") in str(caught.value)
    assert "md5 e26dedcc434d2e4c54c9b2d4a06d8373" in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("compressed", [True, False])
def test_pixels_and_labels(compressed: bool, tmp_path: Path) -> None:
    images, labels = read(mat(compressed, X=X, y=Y), tmp_path)
    assert (images.dtype, images.shape, labels.dtype) == (np.uint8, (5, 3, 32, 32), np.int64)
    assert labels.tolist() == [0, 1, 9, 0, 5]
    for n, c, row, column in [(0, 0, 0, 0), (4, 2, 31, 31), (1, 2, 3, 30), (3, 0, 17, 2)]:
        assert images[n, c, row, column] == X[row, column, c, n]


def test_other_arrays_of_bytes_do_no_harm(tmp_path: Path) -> None:
    other = np.ones((3, 1), np.uint8)
    assert len(read(mat(a_name_of_some_length=other, X=X, y=Y, z=other), tmp_path).images) == 5


def test_open_joins_the_extra_images_behind_the_training_images(tmp_path: Path) -> None:
    (tmp_path / "SVHN").mkdir()
    for number, name in enumerate(["train", "extra", "test"], 1):
        array = np.full((32, 32, 3, number), number, np.uint8)
        raw = mat(X=array, y=np.full((number, 1), number, np.uint8))
        (tmp_path / f"SVHN/{name}_32x32.mat").write_bytes(raw)
    plain, extra = (data.open(name, root=tmp_path) for name in ("svhn", "svhn_extra"))
    assert plain.train.labels.tolist() == [1]
    assert extra.train.labels.tolist() == [1, 2, 2]
    assert extra.train.images[:, 0, 0, 0].tolist() == [1, 2, 2]
    assert plain.test.labels.tolist() == extra.test.labels.tolist() == [3, 3, 3]
    assert plain.name == f"svhn@{plain.checksum[:8]}"


@pytest.mark.parametrize(
    ("arrays", "why"),
    [
        ({"y": Y}, "it has no array 'X'"),
        ({"X": X}, "it has no array 'y'"),
        ({"X": X[:, :, :2], "y": Y}, "its images have shape (32, 32, 2, 5), not (32, 32, 3, N)"),
        ({"X": X[..., 0], "y": Y}, "its images have shape (32, 32, 3), not (32, 32, 3, N)"),
        ({"X": X.astype(np.float32), "y": Y}, "its array b'X' is not of bytes"),
        ({"X": X, "y": Y.astype(np.int32)}, "its array b'y' is not of bytes"),
        ({"X": X.astype(np.int8), "y": Y}, "its array b'X' is not of bytes"),
        ({"X": {"a": 1}, "y": Y}, "its array b'X' is not of bytes"),
        ({"X": X, "y": Y[:-1]}, "it has 4 labels for 5 images"),
        ({"X": X, "y": Y + 1}, "its labels go from 0 to 11"),
        ({"X": X[..., :0], "y": Y[:0]}, "it has no images"),
    ],
)
def test_another_content_is_refused(arrays: dict[str, object], why: str, tmp_path: Path) -> None:
    assert why in refusal(mat(**arrays), tmp_path)


@pytest.mark.parametrize("raw", [b"", b"MATLAB 7.3 MAT-file" + bytes(400), mat(X=X, y=Y).replace(b"\x01IM", b"\x01MI")])
def test_another_kind_of_file_is_refused(raw: bytes, tmp_path: Path) -> None:
    assert "its header is another one" in refusal(raw, tmp_path)


@pytest.mark.parametrize("keep", [129, 140, 5000, -1])
def test_a_truncated_file_is_refused(keep: int, tmp_path: Path) -> None:
    assert "no readable MATLAB file" in refusal(mat(X=X, y=Y)[:keep], tmp_path)


def test_what_unfolds_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = zlib.compress(bytes(1 << 20))
    raw = mat(X=X)[:128] + struct.pack("<II", 15, len(bomb)) + bomb
    monkeypatch.setattr(files, "MOST_BYTES", 1 << 19)
    assert "unfolds to more than the 524,288 bytes" in refusal(raw, tmp_path)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=st.lists(st.tuples(st.integers(124, 330), st.integers(0, 255)), min_size=1, max_size=3))
def test_any_damage_is_either_harmless_or_refused(changes: list[tuple[int, int]], tmp_path: Path) -> None:
    raw = bytearray(mat(compressed=False, y=Y, X=X[..., :5]))
    for at, value in changes:
        raw[at] = value
    try:
        images, labels = read(bytes(raw), tmp_path)
    except UserError:
        return
    assert images.shape == (len(labels), 3, 32, 32)


@pytest.mark.real_data
@pytest.mark.parametrize(("name", "train"), [("svhn", 73_257), ("svhn_extra", 604_388)])
def test_real_counts_and_statistics(name: str, train: int) -> None:
    try:
        dataset = data.open(name, root=data.root())
    except UserError as error:
        pytest.skip(str(error).splitlines()[0])
    assert (len(dataset.train), len(dataset.test)) == (train, 26_032)
    if name == "svhn" and dataset.official:
        values = torch.arange(256, dtype=torch.float64) / 255
        for channel, expected in enumerate(zip(SPEC.mean, SPEC.std, strict=True)):
            counts = dataset.train.images[:, channel].flatten().bincount(minlength=256)
            mean = (counts * values).sum() / counts.sum()
            std = ((counts * (values - mean) ** 2).sum() / counts.sum()).sqrt()
            assert (f"{mean:.4f}", f"{std:.4f}") == tuple(f"{number:.4f}" for number in expected)
