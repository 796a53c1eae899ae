"""Cutout, Dual-Cutout and Random Erasing against loops over single pixels, against the published programs written per
image, and against the published areas."""

import math
import random
from collections.abc import Iterator

import pytest
import torch
from scipy import stats
from torch import Tensor

from pictorch.data.erasing import Cutout, DualCutout, RandomErasing, noise
from pictorch.data.streams import generator

LAST = torch.channels_last
FILLS = pytest.mark.parametrize("fill", ["pixel", "mean", "one"])
SHAPES = pytest.mark.parametrize("shape", [(9, 3, 8, 8), (9, 1, 7, 7), (9, 5, 6, 6), (9, 3, 1, 1)])
MANY = 20_000
CHANCE = 1e-4  # among forty comparisons of what is equal, p-values of 0.001 are met


def values(*shape: int) -> Tensor:
    return torch.randn(shape, generator=generator("values")).contiguous(memory_format=LAST)


def pixels(*shape: int) -> Tensor:
    return torch.randint(256, shape, dtype=torch.uint8, generator=generator("pixels")).contiguous(memory_format=LAST)


def covered(box: Tensor, size: int) -> Iterator[tuple[int, int]]:
    """Yield the pixels of an image that lie in a box, clipped at the border."""
    top, left, height, width = box.tolist()
    for y in range(max(top, 0), min(top + height, size)):
        for x in range(max(left, 0), min(left + width, size)):
            yield y, x


def slow_cutout(images: Tensor, boxes: Tensor) -> Tensor:
    out = images.clone()
    for image, box in zip(out, boxes, strict=True):
        for y, x in covered(box, images.shape[2]):
            image[:, y, x] = 0
    return out


def areas(cutout: Cutout, size: int) -> float:
    """Return the mean number of pixels that a Cutout covers, over all places it draws, each as likely as any other."""
    places = cutout.draw(MANY, size, generator(0))[0][:, 0].unique().tolist()
    boxes = torch.tensor([[top, left, cutout.size, cutout.size] for top in places for left in places])
    return float((cutout(torch.ones(len(boxes), 1, size, size), boxes) == 0).sum() / len(boxes))


@SHAPES
@pytest.mark.parametrize(
    "cutout", [Cutout(size=4), Cutout(size=3, prob=0.5), Cutout(size=1, inside=True), Cutout(size=40)]
)
def test_cutout(shape: tuple[int, ...], cutout: Cutout) -> None:
    images = values(*shape)
    (boxes,) = cutout.draw(len(images), shape[2], generator(0))
    before = images.clone()
    out = cutout(images, boxes)
    assert torch.equal(out, slow_cutout(images, boxes))
    assert not out[out == 0].signbit().any()  # a product with 0 would leave -0 there, whose reciprocal is not that of 0
    assert out.is_contiguous(memory_format=LAST)
    assert torch.equal(images, before)


# The areas of both programs: sides of 16 and 8 on CIFAR's 32 pixels, 12 and 14 on FashionMNIST's 28.
@pytest.mark.parametrize(
    ("program", "size", "image_size", "area"),
    [
        ("seed1", 16, 32, 190.94),
        ("seed1", 8, 32, 54.67),
        ("seed1", 12, 28, 111.34),
        ("seed1", 14, 28, 145.66),
        ("authors", 16, 32, 196.00),
        ("authors", 8, 32, 56.25),
        ("authors", 12, 28, 114.80),
        ("authors", 14, 28, 150.06),
    ],
)
def test_mean_area_of_cutout(program: str, size: int, image_size: int, area: float) -> None:
    assert areas(Cutout(size=size, program=program), image_size) == pytest.approx(area, abs=0.005)


@pytest.mark.parametrize(
    ("cutout", "places"),
    [
        (Cutout(size=16), range(-8, 25)),  # centres 0..32
        (Cutout(size=15), range(-7, 25)),  # centres 0..31
        (Cutout(size=16, inside=True), range(17)),
        (Cutout(size=15, inside=True), range(18)),
        (Cutout(size=16, program="authors"), range(-8, 24)),  # centres 0..31
        (Cutout(size=15, program="authors"), range(-7, 25)),
    ],
)
def test_place_of_cutout_is_uniform(cutout: Cutout, places: range) -> None:
    (boxes,) = cutout.draw(MANY, 32, generator(0, 0, "cutout"))
    corners = boxes[:, :2] - places.start
    cells = (corners[:, 0] * len(places) + corners[:, 1]).bincount(minlength=len(places) ** 2)
    assert len(cells) == len(places) ** 2
    assert stats.chisquare(cells.numpy()).pvalue > CHANCE


def test_an_odd_cutout_keeps_its_size_but_in_the_authors_program() -> None:
    assert areas(Cutout(size=15, inside=True), 32) == 225
    assert areas(Cutout(size=15, inside=True, program="authors"), 32) == 196


def program_of_cutout(size: int, image_size: int, prob: float, numbers: random.Random) -> tuple[int, int] | None:
    """Return the height and width that the program of seed document 1 covers, image by image."""
    if numbers.random() > prob:
        return None
    sides = []
    for _ in range(2):
        centre = numbers.randrange(image_size + (size % 2 == 0))
        sides.append(min(centre - size // 2 + size, image_size) - max(centre - size // 2, 0))
    return sides[0], sides[1]


@pytest.mark.parametrize(("size", "prob"), [(16, 0.7), (9, 0.3)])
def test_distribution_of_cutout(size: int, prob: float) -> None:
    (boxes,) = Cutout(size=size, prob=prob).draw(MANY, 32, generator(0, 0, "cutout"))
    end = (boxes[:, :2] + boxes[:, 2:]).clamp(0, 32)
    sides = end - boxes[:, :2].clamp(0, 32)
    ours = [None if side == 0 else min(h, w) for side, (h, w) in zip(boxes[:, 2].tolist(), sides.tolist(), strict=True)]
    numbers = random.Random(0)
    theirs = [sides and min(sides) for sides in (program_of_cutout(size, 32, prob, numbers) for _ in range(MANY))]
    kinds = {kind: i for i, kind in enumerate(sorted({*ours, *theirs}, key=lambda kind: kind or -1))}
    table = torch.stack(
        [torch.tensor([kinds[k] for k in drawn]).bincount(minlength=len(kinds)) for drawn in (ours, theirs)]
    )
    assert stats.chi2_contingency(table.numpy()).pvalue > CHANCE


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 0}, "cutout: expected a size of at least 1 and a prob in [0, 1], got 0 and 1"),
        ({"size": 4, "prob": 1.5}, "got 4 and 1.5"),
    ],
)
@pytest.mark.parametrize("kind", [Cutout, DualCutout])
def test_impossible_cutouts(kind: type, options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError) as error:
        kind(**options)
    assert message in str(error.value)


def test_a_cutout_that_does_not_fit_inside() -> None:
    Cutout(size=8, inside=True).draw(2, 8, generator(0))
    with pytest.raises(ValueError) as error:
        Cutout(size=9, inside=True).draw(2, 8, generator(0))
    assert str(error.value) == "cutout: no square of 9 pixels fits inside an image of 8"


@SHAPES
def test_dual_cutout(shape: tuple[int, ...]) -> None:
    images = values(*shape)
    dual = DualCutout(size=4, prob=0.8)
    first, second = dual.draw(len(images), shape[2], generator(0))
    out = dual(images, first, second)
    assert torch.equal(out, torch.cat([slow_cutout(images, first), slow_cutout(images, second)]))
    assert out.is_contiguous(memory_format=LAST)
    assert dual.views == 2


def test_the_two_cutouts_are_independent() -> None:
    first, second = DualCutout(size=16, prob=0.5).draw(MANY, 32, generator(0, 0, "dual_cutout"))
    for column in (0, 2):
        a, b = first[:, column].clamp(-8, 24) // 4 + 2, second[:, column].clamp(-8, 24) // 4 + 2
        table = (a * 9 + b).bincount(minlength=81).view(9, 9)
        table = table[table.any(1)][:, table.any(0)]
        assert stats.chi2_contingency(table.numpy()).pvalue > CHANCE


def lowbias32(x: int) -> int:
    """Wellons' hash, as published for unsigned 32-bit numbers."""
    x ^= x >> 16
    x = x * 0x7FEB352D % 2**32
    x ^= x >> 15
    x = x * 0x846CA68B % 2**32
    return x ^ x >> 16


@SHAPES
@FILLS
def test_random_erasing(shape: tuple[int, ...], fill: str) -> None:
    images = pixels(*shape) if fill == "pixel" else values(*shape)
    erasing = RandomErasing(prob=0.8, fill=fill)
    n, channels, size, _ = shape
    boxes, *made_of = erasing.draw(n, size, generator(0))
    before = images.clone()
    out = erasing(images, boxes, *made_of)
    expected = images.clone()
    for i in range(n):
        for y, x in covered(boxes[i], size):
            for c in range(channels):
                byte = (y * size + x) * channels + c
                if fill == "pixel":
                    word = lowbias32((int(made_of[0][i]) + byte // 4 * 0x9E3779B9) % 2**32)
                    expected[i, c, y, x] = word >> 8 * (byte % 4) & 255
                else:
                    expected[i, c, y, x] = made_of[0][i] if fill == "one" else 0
    assert size == 1 or not torch.equal(expected, images)
    assert torch.equal(out, expected)
    assert out.dtype == images.dtype
    assert out.is_contiguous(memory_format=LAST)
    assert torch.equal(images, before)
    assert erasing.stage == ("pixels" if fill == "pixel" else "values")


@FILLS
def test_an_image_gets_the_same_in_every_batch(fill: str) -> None:
    images = pixels(40, 3, 9, 9) if fill == "pixel" else values(40, 3, 9, 9)
    erasing = RandomErasing(fill=fill)
    drawn = erasing.draw(40, 9, generator(0))
    parts = [erasing(images[at : at + 7], *(rows[at : at + 7] for rows in drawn)) for at in range(0, 40, 7)]
    assert torch.equal(torch.cat(parts), erasing(images, *drawn))


def test_noise_is_uniform_and_independent() -> None:
    seeds = torch.arange(-500, 500, dtype=torch.int32)  # neighbours, which a weak hash would show
    table = noise(seeds, 300)
    assert stats.chisquare(table.flatten().bincount(minlength=256).numpy()).pvalue > CHANCE
    coarse = table.long() // 16
    for a, b in (
        (coarse[:, :-1], coarse[:, 1:]),  # channels of a pixel
        (coarse[:, :-3], coarse[:, 3:]),  # neighbouring pixels
        (coarse[:, :-96], coarse[:, 96:]),  # neighbouring lines
        (coarse[:-1], coarse[1:]),  # images
    ):
        cells = (a * 16 + b).flatten().bincount(minlength=256)
        assert stats.chisquare(cells.numpy()).pvalue > CHANCE


def program_of_erasing(
    program: str, size: int, aspect: str, numbers: random.Random
) -> tuple[int, int, int, int] | None:
    """Return top, left, height and width of one attempt: seed document 1's program, the authors', or torchvision's
    log-uniform aspect in either."""
    area = numbers.uniform(0.02, 0.4) * size**2
    ratio = numbers.uniform(0.3, 1 / 0.3)
    if aspect == "log-uniform":
        ratio = math.exp(numbers.uniform(math.log(0.3), math.log(1 / 0.3)))
    whole = int if program == "seed1" else round
    height, width = whole(math.sqrt(area * ratio)), whole(math.sqrt(area / ratio))
    if height >= size or width >= size:
        return None
    far = 0 if program == "seed1" else 1
    return numbers.randrange(size - height + far), numbers.randrange(size - width + far), height, width


@pytest.mark.parametrize("program", ["seed1", "authors"])
@pytest.mark.parametrize("aspect", ["uniform", "log-uniform"])
def test_distribution_of_random_erasing(program: str, aspect: str) -> None:
    numbers = random.Random(0)
    erasing = RandomErasing(prob=1.0, aspect=aspect, program=program)
    boxes = erasing.draw(MANY, 32, generator(0, 0, "random_erasing"))[0]
    drawn = (program_of_erasing(program, 32, aspect, numbers) for _ in iter(int, 1))
    theirs = torch.tensor([box for box, _ in zip(filter(None, drawn), range(MANY), strict=False)])
    for column in range(4):
        table = torch.stack([b[:, column].bincount(minlength=32) for b in (boxes, theirs)])
        table = table[:, table.sum(0) >= 10]
        assert stats.chi2_contingency(table.numpy()).pvalue > CHANCE
    assert stats.ks_2samp(boxes[:, 2] * boxes[:, 3], theirs[:, 2] * theirs[:, 3]).pvalue > CHANCE
    assert stats.ks_2samp(boxes[:, 2] / boxes[:, 3], theirs[:, 2] / theirs[:, 3]).pvalue > CHANCE
    assert int((boxes[:, :2] + boxes[:, 2:]).max()) == (31 if program == "seed1" else 32)


@pytest.mark.parametrize(("program", "fits", "share"), [("seed1", 0.956, 0.189), ("authors", 0.947, 0.201)])
def test_one_attempt_of_random_erasing(program: str, fits: float, share: float) -> None:
    boxes = RandomErasing(prob=1.0, max_attempt=1, program=program).draw(400_000, 32, generator(1))[0]
    erased = (boxes[:, 2] * boxes[:, 3]).double()
    # Four standard errors of 400,000 draws, and the half of a last digit.
    assert float((erased > 0).double().mean()) == pytest.approx(fits, abs=0.0005 + 4 * 0.00035)
    assert float(erased[erased > 0].mean()) / 32**2 == pytest.approx(share, abs=0.0005 + 4 * 0.00018)


def test_probability_of_random_erasing() -> None:
    boxes, made_of = RandomErasing(prob=0.25, fill="one").draw(MANY, 32, generator(0, 0, "random_erasing"))
    assert stats.binomtest(int((boxes[:, 2] > 0).sum()), MANY, 0.25).pvalue > CHANCE
    assert stats.kstest(made_of.numpy(), "uniform").pvalue > CHANCE
    assert not RandomErasing(prob=0.0).draw(MANY, 32, generator(0))[0].any()


def test_no_box_where_none_fits() -> None:
    boxes = RandomErasing(prob=1.0, area=(1.0, 1.0), max_attempt=3).draw(50, 8, generator(0))[0]
    assert not boxes.any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"prob": -0.1},
            "expected prob in [0, 1], min_aspect in (0, 1] and a max_attempt of at least 1, got -0.1, 0.3",
        ),
        ({"min_aspect": 0.0}, "got 0.5, 0 and 20"),
        ({"max_attempt": 0}, "got 0.5, 0.3 and 0"),
        ({"area": (0.5, 0.2)}, "expected 0 <= lowest <= highest <= 1 for area, got (0.5, 0.2)"),
    ],
)
def test_impossible_random_erasing(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError) as error:
        RandomErasing(**options)
    assert message in str(error.value)


@pytest.mark.parametrize(
    "step", [Cutout(size=4), DualCutout(size=4), *(RandomErasing(fill=fill) for fill in ("pixel", "mean", "one"))]
)
def test_nothing_is_read_back_from_the_device(step: Cutout | DualCutout | RandomErasing) -> None:
    # Tensors on "meta" have no values: to read one is an error.
    images = pixels(6, 3, 8, 8) if step.stage == "pixels" else values(6, 3, 8, 8)
    drawn = [tensor.to("meta") for tensor in step.draw(6, 8, generator(0))]
    assert step(images.to("meta"), *drawn).shape == (6 * getattr(step, "views", 1), 3, 8, 8)
