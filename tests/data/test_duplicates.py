"""Near-duplicates by the definition, against SciPy's transform, on changed copies, and in CIFAR-10."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.fft import dctn
from torch import Tensor

from pictorch import data
from pictorch.config import UserError
from pictorch.data import duplicates
from pictorch.data.duplicates import closest, fingerprints, near_duplicates, overlap
from pictorch.data.parts import Images, Split


def scenes(n: int, *, size: int = 64, channels: int = 3, seed: int = 0) -> Tensor:
    """Return smooth random images, which photographs resemble more than noise does."""
    draws = torch.Generator().manual_seed(seed)
    coarse = torch.rand(n, channels, 9, 9, generator=draws) * 200 + 20
    return F.interpolate(coarse, (size, size), mode="bicubic").clamp(0, 255).to(torch.uint8)


@pytest.mark.parametrize(("channels", "size"), [(1, 32), (3, 48)])
def test_the_fingerprint_is_the_weighted_transform_of_16_by_16_means(channels: int, size: int) -> None:
    images = scenes(3, size=size, channels=channels)
    step = size // 16
    for image, found in zip(images.numpy().astype(float), fingerprints(images).numpy(), strict=True):
        means = image.reshape(channels, 16, step, 16, step).mean(axis=(2, 4))
        kept = np.stack([dctn(plane, norm="ortho")[:8, :8] for plane in means])
        u, v = np.mgrid[:8, :8]
        weighted = (kept * np.hypot(u, v)).reshape(-1)
        assert np.allclose(found, weighted / np.linalg.norm(weighted), atol=1e-5)


def test_changed_copies_are_found_and_other_pictures_are_not() -> None:
    images = scenes(40)
    copies = {
        "darker": (images.float() * 0.6).to(torch.uint8),
        "less contrast": (images.float() * 0.5 + 60).to(torch.uint8),
        "smaller": F.interpolate(images, (24, 24), mode="bilinear", antialias=True),
        "shaded": (images.float() * torch.linspace(0.8, 1, 64)).to(torch.uint8),
        "noisy": (images + torch.randint(0, 9, images.shape, generator=torch.Generator().manual_seed(1))).to(
            torch.uint8
        ),
    }
    for name, copy in copies.items():
        places, cosines = near_duplicates(copy, images)
        assert sorted(places.tolist()) == [[i, i] for i in range(40)], name
        assert cosines.min() >= 0.9
    assert near_duplicates(images.flip(3), images).places.tolist() == []


def test_each_image_is_paired_with_its_nearest_and_each_pair_comes_once() -> None:
    images = scenes(6)
    images[4], images[5] = images[1], (images[2].float() * 0.9).to(torch.uint8)
    places, cosines = near_duplicates(images)
    assert places.tolist() == [[1, 4], [2, 5]]
    assert cosines[0] == pytest.approx(1, abs=1e-6)
    assert cosines.tolist() == sorted(cosines.tolist(), reverse=True)
    many = images[:1].expand(500, -1, -1, -1)
    assert len(near_duplicates(many).places) <= 500


def test_blocks_do_not_change_the_answer() -> None:
    prints = fingerprints(scenes(2500, size=16, channels=1))
    prints[2400] = prints[3]
    similar = prints @ prints.T
    similar.fill_diagonal_(-1)
    expected = {tuple(sorted((i, int(similar[i].argmax())))) for i in range(2500) if similar[i].max() >= 0.8}
    assert {tuple(pair) for pair in closest(prints, least_cosine=0.8).places.tolist()} == expected
    assert (3, 2400) in expected


def test_plain_images_resemble_nothing_and_no_images_are_no_pairs() -> None:
    plain = torch.arange(5, dtype=torch.uint8)[:, None, None, None].expand(5, 3, 30, 30) * 40
    assert len(near_duplicates(plain).places) == 0
    assert len(near_duplicates(plain[:0]).places) == len(near_duplicates(plain, plain[:0]).places) == 0


@pytest.mark.real_data
@pytest.mark.slow
def test_known_pairs_of_cifar_10() -> None:
    """The first pairs (test image, training image) of duplicates_cifar10.csv of Barz and Denzler (arXiv:1902.00423)."""
    try:
        dataset = data.open("cifar10", root=data.root())
    except UserError as error:
        pytest.skip(str(error).splitlines()[0])
    places, _ = near_duplicates(dataset.test.images, dataset.train.images)
    assert {(6611, 49007), (159, 25768), (7293, 9640), (6080, 9148)} <= {tuple(pair) for pair in places.tolist()}
    assert len(places) == 224


def as_parts(images: Tensor) -> list[Split | Images]:
    """Return images as a part in memory, and as one that is read."""
    labels = torch.zeros(len(images), dtype=torch.int64)
    return [Split(images, labels), Images(lambda i: images[i], labels, lambda i: Path(str(i)))]


@pytest.mark.parametrize("in_memory", [True, False])
def test_overlap_counts_equal_and_similar_test_images(in_memory: bool) -> None:
    train, test = scenes(30), scenes(10, seed=1)
    test[3], test[7] = train[12], (train[5].float() * 0.8).to(torch.uint8)
    found = overlap(as_parts(train)[0], as_parts(test)[0 if in_memory else 1])
    assert found.equal.tolist() == [3]
    assert found.near.places.tolist() == [[3, 12], [7, 5]]
    assert found.why_not == ""


def test_overlap_of_grey_images_is_that_of_pixels_alone() -> None:
    train = scenes(5, channels=1)
    found = overlap(as_parts(train)[0], as_parts(train[2:4])[0])
    assert found.equal.tolist() == [0, 1]
    assert len(found.near.places) == 0


def test_overlap_says_why_it_was_not_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    memory, read = as_parts(scenes(6))
    monkeypatch.setattr(duplicates, "MOST_DECODED", 5)
    assert "`pictorch data verify` does" in overlap(memory, read).why_not
    assert overlap(memory, memory).why_not == ""
    monkeypatch.setattr(duplicates, "MOST_COMPARED", 11)
    assert overlap(memory, memory).why_not == "more than 11 images are not compared"
