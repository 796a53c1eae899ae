"""Every operation against Pillow's own, pixel for pixel, and the colour jitter against it in the drawn order."""

from collections.abc import Callable
from itertools import permutations

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageFilter, ImageOps
from scipy import stats
from torch import Tensor

from pictorch.data import pixels
from pictorch.data.pixels import Jitter
from pictorch.data.streams import generator

SIZES = pytest.mark.parametrize("size", [1, 2, 8, 28, 32, 33])
CHANNELS = pytest.mark.parametrize("channels", [1, 3])
FACTORS = (0.0, 0.01, 0.1, 0.3, 0.37, 0.5, 0.73, 0.9, 0.99, 1.0, 1.01, 1.27, 1.9, 1.99, 2.0, 5.0)
NEAREST, BILINEAR = Image.Resampling.NEAREST, Image.Resampling.BILINEAR


def samples(channels: int, size: int) -> Tensor:
    """Return uint8 [13,C,S,S]: noise, noise in a narrow range, flat images, two and few values, ramps, one pixel."""
    draws = generator("pixels", size)
    noise = torch.randint(256, (13, channels, size, size), dtype=torch.uint8, generator=draws)
    noise[2] = 100 + noise[2] % 20
    noise[3] = 250 + noise[3] % 6
    noise[4], noise[5], noise[6] = 0, 255, 77
    noise[7] = noise[7] // 128 * 255
    noise[8] = noise[8] // 64 * 50 + 7
    noise[9] = torch.linspace(0, 255, size).to(torch.uint8)
    noise[10] = torch.linspace(30, 200, size).to(torch.uint8)[:, None]
    noise[11] = noise[11, :1]
    noise[12] = 10
    noise[12, :, size // 2, size // 3] = 200
    return noise


def picture(image: Tensor) -> Image.Image:
    array = image.permute(1, 2, 0).contiguous().numpy()
    return Image.fromarray(array[..., 0] if array.shape[2] == 1 else array)


def tensor(picture: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(picture)).view(*picture.size, -1).permute(2, 0, 1)


def assert_same(ours: Tensor, images: Tensor, theirs: Callable[[Image.Image, int], Image.Image]) -> None:
    assert ours.dtype == torch.uint8
    expected = torch.stack([tensor(theirs(picture(image), i)) for i, image in enumerate(images)])
    torch.testing.assert_close(ours, expected, rtol=0, atol=0)


def assert_each(
    function: Callable[[Tensor, Tensor], Tensor],
    theirs: Callable[[Image.Image, float], Image.Image],
    values: tuple[float, ...],
    images: Tensor,
) -> None:
    """Check every value on every image, in one batch, in both memory orders, leaving what was given as it was."""
    images = images.repeat(len(values), 1, 1, 1)
    numbers = torch.tensor(values, dtype=torch.float64).repeat_interleave(len(images) // len(values))
    before = images.clone()
    ours = function(images, numbers)
    assert torch.equal(images, before)
    assert_same(ours, images, lambda image, i: theirs(image, float(numbers[i])))
    assert torch.equal(function(images.contiguous(memory_format=torch.channels_last), numbers), ours)


@pytest.mark.parametrize(
    ("function", "enhancer"),
    [
        (pixels.brightness, ImageEnhance.Brightness),
        (pixels.contrast, ImageEnhance.Contrast),
        (pixels.color, ImageEnhance.Color),
        (pixels.sharpness, ImageEnhance.Sharpness),
    ],
)
@SIZES
@CHANNELS
def test_enhancers(
    function: Callable[[Tensor, Tensor], Tensor], enhancer: type[ImageEnhance.Color], size: int, channels: int
) -> None:
    assert_each(function, lambda image, factor: enhancer(image).enhance(factor), FACTORS, samples(channels, size))


@SIZES
@CHANNELS
def test_smooth(size: int, channels: int) -> None:
    images = samples(channels, size)
    if size >= 3:
        assert_same(pixels.smooth(images), images, lambda image, _: image.filter(ImageFilter.SMOOTH))
    else:
        assert torch.equal(pixels.smooth(images), images)


@pytest.mark.parametrize("channels", [1, 3])
def test_bits_and_thresholds(channels: int) -> None:
    images = samples(channels, 8)
    images[0, :, :, :] = torch.arange(64, dtype=torch.uint8).view(8, 8) * 4
    assert_each(pixels.posterize, lambda image, bits: ImageOps.posterize(image, int(bits)), tuple(range(1, 9)), images)
    thresholds = (0, 1, 8.5, 85, 127.5, 128, 128.01, 255, 256)
    assert_each(pixels.solarize, lambda image, at: ImageOps.solarize(image, at), thresholds, images)
    assert_same(pixels.invert(images), images, lambda image, _: ImageOps.invert(image))


@pytest.mark.parametrize(
    ("function", "theirs"), [(pixels.autocontrast, ImageOps.autocontrast), (pixels.equalize, ImageOps.equalize)]
)
@SIZES
@CHANNELS
def test_tables(
    function: Callable[[Tensor], Tensor], theirs: Callable[[Image.Image], Image.Image], size: int, channels: int
) -> None:
    images = samples(channels, size)
    before = images.clone()
    ours = function(images)
    assert torch.equal(images, before)
    assert_same(ours, images, lambda image, _: theirs(image))
    assert torch.equal(function(images.contiguous(memory_format=torch.channels_last)), ours)


def test_autocontrast_of_every_range() -> None:
    pairs = torch.tensor([[low, high] for low in range(256) for high in range(low, 256, 5)], dtype=torch.uint8)
    between = (pairs[:, :1].float() + (pairs[:, 1:].float() - pairs[:, :1].float()) * torch.linspace(0, 1, 14)).byte()
    images = torch.cat([pairs, between], 1).view(-1, 1, 4, 4)
    assert_same(pixels.autocontrast(images), images, lambda image, _: ImageOps.autocontrast(image))


def test_equalize_of_few_values() -> None:
    # Counts around 255 are where the step of the table is 0, 1 or 2, and its end beyond 255.
    counts = [(n, 33 * 33 - n) for n in (1, 254, 255, 256, 509, 510, 511, 834, 835, 1088)]
    images = torch.stack([torch.cat([torch.full((a,), 90), torch.full((b,), 170)]) for a, b in counts])
    images = images.to(torch.uint8).view(-1, 1, 33, 33)
    assert_same(pixels.equalize(images), images, lambda image, _: ImageOps.equalize(image))


SHIFTS = (-40.0, -32.0, -7.0, -1.0, 0.0, 1.0, 3.0, 14.0, 31.0, 33.0)
SHEARS = (-0.99, -0.3, -0.1, -0.033, 0.0, 0.01, 0.2, 0.25, 0.5, 0.99, 1.0)


@pytest.mark.parametrize(("function", "resample"), [(pixels.affine, NEAREST), (pixels.affine_bilinear, BILINEAR)])
@SIZES
@CHANNELS
def test_affine(
    function: Callable[[Tensor, Tensor], Tensor], resample: Image.Resampling, size: int, channels: int
) -> None:
    numbers = [(1, s, 0, 0, 1, 0) for s in SHEARS] + [(1, 0, 0, s, 1, 0) for s in SHEARS]
    numbers += [(1, 0, s, 0, 1, 0) for s in SHIFTS] + [(1, 0, 0, 0, 1, s) for s in SHIFTS]
    numbers += [(0.8, 0.3, -2.4, -0.2, 1.1, 3.7), (0, 1, 0, -1, 0, size), (0.5, 0, 0.25, 0, 2, -3.5)]
    images = samples(channels, size)[[0, 9, 12]].repeat_interleave(len(numbers), 0)
    matrices = torch.tensor(numbers, dtype=torch.float64).repeat(3, 1)

    def theirs(image: Image.Image, i: int) -> Image.Image:
        return image.transform(image.size, Image.Transform.AFFINE, matrices[i].tolist(), resample)

    before = images.clone()
    ours = function(images, matrices)
    assert torch.equal(images, before)
    assert_same(ours, images, theirs)


HUES = (-0.5, -0.499, -0.3, -0.004, -0.003, 0.0, 0.003, 0.004, 0.1, 0.25, 0.5)


def turned(image: Image.Image, turn: float) -> Image.Image:
    """Return the image with int(turn * 255) added to its Pillow hue, modulo 256, as torchvision does it."""
    if image.mode == "L":
        return image
    hue, saturation, value = image.convert("HSV").split()
    hue = hue.point(lambda h: (h + int(turn * 255)) % 256)
    return Image.merge("HSV", (hue, saturation, value)).convert("RGB")


@SIZES
@CHANNELS
def test_hue(size: int, channels: int) -> None:
    assert_each(pixels.hue, turned, HUES, samples(channels, size))


@pytest.mark.slow
@pytest.mark.parametrize("part", range(4))
def test_hue_of_every_colour(part: int) -> None:
    red, rest = torch.arange(part * 64, part * 64 + 64), torch.arange(256)
    colours = torch.cartesian_prod(red, rest, rest).to(torch.uint8).view(-1, 512, 512, 3).permute(0, 3, 1, 2)
    turns = torch.linspace(-0.5, 0.5, len(colours), dtype=torch.float64)
    assert_same(pixels.hue(colours, turns), colours, lambda image, i: turned(image, float(turns[i])))


def test_only_the_chosen_are_touched() -> None:
    images = samples(3, 8)
    chosen = torch.arange(13) % 3 == 1
    factors = torch.linspace(0, 2, 13)
    out = images.clone()
    pixels.on_(chosen, out, pixels.brightness, factors)
    assert torch.equal(out[~chosen], images[~chosen])
    assert torch.equal(out[chosen], pixels.brightness(images, factors)[chosen])


ENHANCE = {
    "brightness": lambda image, x: ImageEnhance.Brightness(image).enhance(x),
    "contrast": lambda image, x: ImageEnhance.Contrast(image).enhance(x),
    "saturation": lambda image, x: ImageEnhance.Color(image).enhance(x),
    "hue": turned,
}


@pytest.mark.parametrize(
    "strengths",
    [
        {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1},
        {"brightness": 2.0, "contrast": 1.0, "saturation": 5.0, "hue": 0.5},
        {"contrast": 0.7, "hue": 0.2},
        {"saturation": 0.5},
    ],
)
@CHANNELS
@pytest.mark.parametrize("size", [28, 32])
def test_jitter(strengths: dict[str, float], channels: int, size: int) -> None:
    jitter = Jitter(**strengths)
    images = samples(channels, size).repeat(6, 1, 1, 1).contiguous(memory_format=torch.channels_last)
    before = images.clone()
    factors, order = jitter.draw(len(images), size, generator("jitter"))
    ours = jitter(images, factors, order)
    assert torch.equal(images, before)
    assert ours.is_contiguous(memory_format=torch.channels_last)

    def theirs(image: Image.Image, i: int) -> Image.Image:
        for turn in order[i].tolist():
            image = ENHANCE[list(strengths)[turn]](image, float(factors[i, turn]))
        return image

    assert_same(ours, images, theirs)


def test_jitter_of_nothing_changes_nothing() -> None:
    images = samples(3, 8)
    jitter = Jitter()
    assert torch.equal(jitter(images, *jitter.draw(13, 8, generator(0))), images)


def test_jitter_draws_uniform_factors_in_every_order() -> None:
    jitter = Jitter(brightness=0.4, contrast=2.0, saturation=0.3, hue=0.2)
    factors, order = jitter.draw(20_000, 32, generator("jitter"))
    assert factors.dtype == torch.float32
    for values, (low, high) in zip(factors.T, [(0.6, 1.4), (0, 3), (0.7, 1.3), (-0.2, 0.2)], strict=True):
        assert low - 1e-6 <= float(values.min()) < float(values.max()) <= high + 1e-6
        assert stats.kstest(values.double().numpy(), "uniform", (low, high - low)).pvalue > 0.01
    orders = {order: i for i, order in enumerate(permutations(range(4)))}
    counts = np.bincount([orders[tuple(row)] for row in order.tolist()], minlength=24)
    assert stats.chisquare(counts).pvalue > 0.01


@pytest.mark.parametrize(
    "strengths", [{"brightness": -0.1}, {"contrast": float("inf")}, {"saturation": float("nan")}, {"hue": 0.6}]
)
def test_jitter_that_is_impossible(strengths: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"jitter: expected brightness, contrast and saturation of at least 0 and hue"):
        Jitter(**strengths)
