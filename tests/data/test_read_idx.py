"""IDX files: round trips, raw and compressed, and every way in which a header can be wrong."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from pictorch.config.errors import UserError
from pictorch.data import files, read_idx
from pictorch.data.checks import Arrays
from pictorch.data.specs import find

SPEC = find("mnist")
PIXELS = np.random.default_rng(0).integers(0, 256, (5, 28, 28), dtype=np.uint8)
LABELS = np.array([9, 0, 3, 3, 1], np.uint8)


def idx(array: np.ndarray, *, magic: int | None = None, count: int | None = None) -> bytes:
    sizes = (len(array) if count is None else count, *array.shape[1:])
    header = (0x00000800 + array.ndim if magic is None else magic, *sizes)
    return struct.pack(f">{len(header)}I", *header) + array.tobytes()


def read(
    folder: Path, *, images: bytes = idx(PIXELS), labels: bytes = idx(LABELS), gz: bool = False
) -> dict[str, Arrays]:
    (folder / "MNIST" / "raw").mkdir(parents=True, exist_ok=True)
    for file in SPEC.files:
        raw = images if file.holds == "images" else labels
        path = folder / file.forms[gz].path
        path.write_bytes(gzip.compress(raw) if gz else raw)
    return read_idx.read(files.read_all(SPEC, folder))


@pytest.mark.parametrize("gz", [False, True])
def test_round_trip(gz: bool, tmp_path: Path) -> None:
    parts = read(tmp_path, gz=gz)
    assert list(parts) == ["train", "test"]
    for images, labels in parts.values():
        assert images.shape == (5, 1, 28, 28)
        assert (images[:, 0] == PIXELS).all()
        assert (images.dtype, labels.dtype) == (np.uint8, np.int64)
        assert labels.tolist() == LABELS.tolist()


@pytest.mark.parametrize(
    ("images", "why"),
    [
        (b"", "it has 0 bytes where its header alone has 16"),
        (idx(PIXELS)[:15], "it has 15 bytes where its header alone has 16"),
        (idx(LABELS) + bytes(16), "its magic number is 0x00000801, that of images is 0x00000803"),
        (idx(PIXELS, magic=0x00000D03), "its magic number is 0x00000d03"),
        (struct.pack("<4I", 0x803, 5, 28, 28) + PIXELS.tobytes(), "its magic number is 0x03080000"),
        (idx(PIXELS[:, :27]), "its images are of (27, 28) pixels, not (28, 28)"),
        (idx(PIXELS)[:-1], "its header announces 5 items in 3,936 bytes, there are 3,935"),
        (idx(PIXELS) + b"\0", "its header announces 5 items in 3,936 bytes, there are 3,937"),
        (idx(PIXELS, count=2**32 - 1), "its header announces 4,294,967,295 items"),
    ],
)
def test_wrong_images_are_refused(images: bytes, why: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        read(tmp_path, images=images)
    assert why in str(caught.value)
    assert str(tmp_path / "MNIST/raw/train-images-idx3-ubyte") in str(caught.value)
    assert "md5 6bbc9ace898e44ae57da46a324031adb" in str(caught.value)


@pytest.mark.parametrize(
    ("labels", "why"),
    [
        (idx(LABELS[:4]), "it has 4 labels for 5 images"),
        (idx(LABELS + 1), "its labels go from 1 to 10"),
        (idx(PIXELS), "its magic number is 0x00000803, that of labels is 0x00000801"),
        (idx(LABELS, count=6), "its header announces 6 items in 14 bytes, there are 13"),
    ],
)
def test_wrong_labels_are_refused(labels: bytes, why: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        read(tmp_path, labels=labels)
    assert why in str(caught.value)
    assert str(tmp_path / "MNIST/raw/train-labels-idx1-ubyte") in str(caught.value)


def test_no_images_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="it has no images"):
        read(tmp_path, images=idx(PIXELS[:0]), labels=idx(LABELS[:0]))
