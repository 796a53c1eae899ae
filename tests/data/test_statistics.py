"""The fast pipeline does what the slow one does: 20,000 augmentations of one image by each, read off the pixels.

The slow side is the textbook's, one image after the other with NumPy and its global generator, or Pillow. What is
compared are distributions, with fixed seeds, by chi-square tests of homogeneity and two-sample Kolmogorov-Smirnov
tests.
"""

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image
from scipy import stats

from pictorch.bench import textbook
from pictorch.data import Split
from pictorch.data.erasing import Cutout, RandomErasing
from pictorch.data.geometry import Rotate
from pictorch.data.loader import ResidentLoader
from pictorch.data.mix import CutMix, Mixup
from pictorch.data.pipeline import Pipeline
from pictorch.data.streams import numpy_generator

N, SIZE = 20_000, 15
Array = npt.NDArray[Any]
# Some twenty tests at this level fail by chance once in fifty; a centre that is off by one fails at 1e-100.
LEVEL = 0.001
# Every pixel has a grey of its own, and none is black.
IMAGE = np.arange(1, SIZE * SIZE + 1, dtype=np.uint8).reshape(SIZE, SIZE)

pytestmark = pytest.mark.slow


def ours(image: Array = IMAGE, **options: Any) -> Array:
    """Return N augmentations of the image by the pipeline, float32 [N,S,S] in grey levels."""
    pipeline = Pipeline(num_classes=2, image_size=SIZE, mean=(0.0,), std=(1 / 255,), device="cpu", seed=1, **options)
    images = torch.from_numpy(image)[None, None].expand(N, 1, SIZE, SIZE)
    split = Split(images, torch.zeros(N, dtype=torch.int64))
    loader = ResidentLoader(split=split, pipeline=pipeline, batch_size=500, shuffle=True, drop_last=False)
    return torch.cat([batch.images for batch in loader.epoch(0)])[:, 0].numpy()


def theirs(*transforms: Callable[[Array], Array], image: Array = IMAGE) -> Array:
    """Return N augmentations of the image by per-image transforms of [H,W,C], as floats [N,S,S]."""
    np.random.seed(2)
    results = np.empty((N, SIZE, SIZE), np.float32)
    for result in results:
        single = image[:, :, None]
        for transform in transforms:
            single = transform(single)
        result[:] = single[:, :, 0]
    return results


def assert_same_counts(first: Array, second: Array) -> None:
    """Chi-square test that two samples of whole numbers are of one distribution; rare values are taken together."""
    low = int(min(first.min(), second.min()))
    counts = np.stack([np.bincount(sample.astype(np.int64) - low, minlength=1) for sample in pad(first, second, low)])
    often = counts.sum(0) >= 20
    table = np.concatenate([counts[:, often], counts[:, ~often].sum(1, keepdims=True)], axis=1)
    assert stats.chi2_contingency(table[:, table.sum(0) > 0]).pvalue > LEVEL


def pad(first: Array, second: Array, low: int) -> tuple[Array, Array]:
    """Return both samples with one largest value in each, so that their counts have one length."""
    most = max(first.max(), second.max())
    return np.append(first, most), np.append(second, most)


def test_crop_offsets_and_flips() -> None:
    """The grey in the middle tells where the crop was taken, that beside it which way round."""
    middle = SIZE // 2
    ways = [
        images[:, middle, middle] + 256 * (images[:, middle, middle + 1] < images[:, middle, middle])
        for images in (
            ours(crop_padding=3, flip=True).round(),
            theirs(lambda image: textbook.random_crop(image, 3), textbook.random_flip),
        )
    ]
    assert len(np.unique(ways[0])) == 2 * 7 * 7
    assert_same_counts(*ways)


@pytest.mark.parametrize("size", [4, 5])
def test_the_place_and_area_of_cutout(size: int) -> None:
    covered = [
        images == 0 for images in (ours(steps=[Cutout(size=size)]), theirs(lambda image: textbook_cutout(image, size)))
    ]
    assert_same_counts(*(mask.sum((1, 2)) for mask in covered))
    for axis in (1, 2):
        assert_same_counts(*(mask.any(axis).argmax(1) for mask in covered))


def textbook_cutout(image: Array, size: int) -> Array:
    """As seed document 1's program: an even square has one centre more than there are pixels, an odd one not."""
    if size % 2 == 0:
        return textbook.cutout(image, size)
    height, width, _ = image.shape
    top, left = np.random.randint(height) - size // 2, np.random.randint(width) - size // 2
    image = image.copy()
    image[max(0, top) : max(0, top + size), max(0, left) : max(0, left + size)] = 0
    return image


def test_the_place_and_area_of_random_erasing() -> None:
    grey = np.full((SIZE, SIZE), 255, np.uint8)
    covered = [
        images != 255
        for images in (
            ours(grey, steps=[RandomErasing(fill="one")]),
            theirs(textbook.random_erasing, image=grey.astype(np.float32)),
        )
    ]
    areas = [mask.sum((1, 2)) for mask in covered]
    assert_same_counts(*areas)
    assert abs((areas[0] == 0).mean() - 0.5) < 0.02
    for axis in (1, 2):
        assert_same_counts(*(mask.any(axis).argmax(1)[mask.any((1, 2))] for mask in covered))


@pytest.mark.parametrize("place", [(2, 7), (7, 12), (1, 1)])
def test_the_angle_of_rotation(place: tuple[int, int]) -> None:
    """Which pixel comes to a place far from the centre tells the angle."""
    draws, image = random.Random(3), Image.fromarray(IMAGE)
    rotated = [np.asarray(image.rotate(draws.uniform(-15, 15)))[place] for _ in range(N)]
    assert_same_counts(ours(steps=[Rotate(degrees=15)]).round()[:, *place], np.array(rotated))


@pytest.mark.parametrize("alpha", [0.2, 1.0])
def test_lambda(alpha: float) -> None:
    reference = np.random.default_rng(4).beta(alpha, alpha, N)
    _, kept = Mixup(alpha=alpha).draw(N, 2, 32, numpy_generator(0))
    # Ours are float32, in which the largest are 1.
    assert stats.ks_2samp(kept.numpy(), reference.astype(np.float32)).pvalue > LEVEL


def test_the_share_that_cutmix_keeps() -> None:
    """The authors' rand_bbox, written out."""
    draws = np.random.default_rng(5)
    reference = []
    for _ in range(N):
        share = np.sqrt(1 - draws.beta(1, 1))
        side, y, x = int(32 * share), draws.integers(32), draws.integers(32)
        height = np.clip(y + side // 2, 0, 32) - np.clip(y - side // 2, 0, 32)
        width = np.clip(x + side // 2, 0, 32) - np.clip(x - side // 2, 0, 32)
        reference.append(1 - height * width / 1024)
    _, boxes = CutMix().draw(N, 2, 32, numpy_generator(0))
    kept = 1 - (boxes[:, 2] * boxes[:, 3]).numpy() / 1024
    assert stats.ks_2samp(kept, reference).pvalue > LEVEL
