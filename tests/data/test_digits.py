"""The shipped digits: equal to scikit-learn's, scaled invertibly, split without chance, with their true statistics."""

import io
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from pictorch import data
from pictorch.config.errors import UserError
from pictorch.data import digits, files
from pictorch.data.dataset import SHIPPED

SPEC = data.find("digits")
DATASET = data.open("digits", root=Path("unused"))


def read(folder: Path, **arrays: np.ndarray) -> dict:
    archive = io.BytesIO()
    np.savez(archive, **arrays)
    return read_raw(folder, archive.getvalue())


def read_raw(folder: Path, raw: bytes) -> dict:
    (folder / "digits.npz").write_bytes(raw)
    return digits.read(files.read_all(SPEC, folder))


def test_the_file_is_scikit_learns_and_small() -> None:
    path = SHIPPED / "digits.npz"
    theirs = load_digits()
    with np.load(path) as ours:
        assert (ours["images"] == theirs.images).all()
        assert (ours["labels"] == theirs.target).all()
        assert ours["images"].dtype == ours["labels"].dtype == np.uint8
    assert path.stat().st_size <= 45_000


def test_opened_it_is_every_image_of_it_in_order() -> None:
    theirs = load_digits()
    position = [0] * 10
    train, test = [], []
    for counts, label in zip(theirs.images.astype(int), theirs.target.tolist(), strict=True):
        (test if position[label] % 5 == 4 else train).append((counts, label))
        position[label] += 1
    assert (len(train), len(test)) == (1442, 355)
    for expected, part in ((train, DATASET.train), (test, DATASET.test)):
        assert part.labels.tolist() == [label for _, label in expected]
        counts = digits.to_counts(part.images[:, 0].numpy())
        assert (counts == np.stack([counts for counts, _ in expected])).all()


def test_the_split_is_stratified() -> None:
    train, test = (part.labels.bincount().tolist() for part in (DATASET.train, DATASET.test))
    assert test == [(a + b) // 5 for a, b in zip(train, test, strict=True)]


def test_the_scale_is_invertible_and_spans_the_bytes() -> None:
    counts = np.arange(17, dtype=np.uint8)
    pixels = digits.to_pixels(counts)
    assert pixels.tolist() == [int(k * 255 / 16 + 0.5) for k in range(17)]
    assert (digits.to_counts(pixels) == counts).all()
    every = np.arange(256, dtype=np.uint8)
    assert digits.to_counts(every).tolist() == [round(p * 16 / 255) for p in range(256)]


def test_statistics() -> None:
    images = DATASET.train.images.double() / 255
    assert f"{images.mean():.4f}" == f"{SPEC.mean[0]:.4f}"
    assert f"{images.std(correction=0):.4f}" == f"{SPEC.std[0]:.4f}"


def test_it_is_official_and_stays_what_it_is() -> None:
    assert DATASET.official
    assert DATASET.name == "digits"
    assert DATASET.checksum.startswith("b9198586")


IMAGES = np.full((10, 8, 8), 16, np.uint8)
LABELS = np.zeros(10, np.uint8)


def test_another_file_of_the_format_is_read(tmp_path: Path) -> None:
    parts = read(tmp_path, images=IMAGES, labels=LABELS)
    assert (len(parts["train"].labels), len(parts["test"].labels)) == (8, 2)


@pytest.mark.parametrize(
    ("arrays", "why"),
    [
        ({"images": IMAGES}, "no readable archive"),
        ({"images": IMAGES + 1, "labels": LABELS}, "not bytes 0..16"),
        ({"images": IMAGES[:, :7], "labels": LABELS}, "not bytes 0..16"),
        ({"images": IMAGES.astype(float), "labels": LABELS}, "not bytes 0..16"),
        ({"images": IMAGES, "labels": LABELS[:9]}, "9 labels for 10 images"),
        ({"images": IMAGES, "labels": LABELS + 10}, "its labels go from 10 to 10"),
        ({"images": IMAGES[:0], "labels": LABELS[:0]}, "it has no images"),
        ({"images": np.array([{}]), "labels": LABELS}, "no readable archive"),
    ],
)
def test_another_structure_is_refused(arrays: dict, why: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=why):
        read(tmp_path, **arrays)


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    raw = (SHIPPED / "digits.npz").read_bytes()
    for wrong in (b"", b"text", raw[:1000], raw[:2000] + b"\0\0\0\0" + raw[2004:]):
        with pytest.raises(UserError, match=r"digits\.npz: it is no readable archive.*(?s:.*)reinstall"):
            read_raw(tmp_path, wrong)
