"""Rotation and the random resized crop against Pillow, image by image, and torchvision's algorithm as a loop."""

import math
import random

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats
from torch import Tensor

from pictorch.data.geometry import (
    ResizedCrop,
    Rotate,
    boxes,
    draw_boxes,
    evaluation_crop,
    fixed_point,
    resample,
    resample_one,
)
from pictorch.data.streams import generator

LAST = torch.channels_last
BILINEAR = Image.Resampling.BILINEAR
CHANNELS = pytest.mark.parametrize("channels", [1, 3])
MANY = 20_000
CHANCE = 1e-4  # among many comparisons of what is equal, p-values of 0.001 are met


def noise(*shape: int) -> Tensor:
    return torch.randint(256, shape, dtype=torch.uint8, generator=generator("noise")).contiguous(memory_format=LAST)


def photo(*shape: int) -> Tensor:
    """Return noise that is smooth, as what lies in photographs, and reaches both ends of the scale."""
    n, channels, height, width = shape
    coarse = torch.rand(n, channels, 6, 6, generator=generator("photo"))
    smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic")
    return (smooth * 300 - 20).clamp(0, 255).to(torch.uint8)


def to_pillow(image: Tensor) -> Image.Image:
    return Image.fromarray(image[0].numpy() if len(image) == 1 else image.permute(1, 2, 0).numpy())


def from_pillow(image: Image.Image) -> Tensor:
    array = np.array(image)
    return torch.from_numpy(array[None] if array.ndim == 2 else array.transpose(2, 0, 1))


def apart(a: Tensor, b: Tensor) -> Tensor:
    assert a.shape == b.shape
    assert a.dtype == b.dtype == torch.uint8
    return (a.short() - b.short()).abs()


@CHANNELS
@pytest.mark.parametrize("size", [1, 8, 28, 32, 33])
def test_rotation_is_pillows(size: int, channels: int) -> None:
    images = noise(150, channels, size, size)
    angles = 360 * torch.rand(150, dtype=torch.float64, generator=generator("angles")) - 180
    angles[:5] = torch.tensor([0.0, 90, -90, 180, 45])
    before = images.clone()
    out = Rotate(degrees=180)(images, fixed_point(angles, size))
    for image, angle, rotated in zip(images, angles.tolist(), out, strict=True):
        expected = to_pillow(image).rotate(angle, resample=Image.Resampling.NEAREST, fillcolor=0)
        assert torch.equal(rotated, from_pillow(expected))
    assert out.is_contiguous(memory_format=LAST)
    assert torch.equal(images, before)


def test_rotation_is_counter_clockwise_about_the_centre() -> None:
    images = noise(1, 3, 7, 7)
    for quarters in range(4):
        out = Rotate(degrees=180)(images, fixed_point(torch.tensor([90.0 * quarters], dtype=torch.float64), 7))
        assert torch.equal(out, torch.rot90(images, quarters, (2, 3)))


@pytest.mark.parametrize("degrees", [15.0, 180.0, 0.0])
def test_angles_are_uniform(degrees: float) -> None:
    (rotations,) = Rotate(degrees=degrees).draw(MANY, 32, generator(0, 0, "rotate"))
    assert rotations.dtype == torch.int32
    angles = torch.rad2deg(torch.atan2(-rotations[:, 1].double(), rotations[:, 0].double()))
    numbers = random.Random(0)
    if degrees == 0:
        assert not angles.any()
    else:
        assert stats.ks_2samp(angles, [numbers.uniform(-degrees, degrees) for _ in range(MANY)]).pvalue > CHANCE
        assert stats.kstest(angles / degrees / 2 + 0.5, "uniform").pvalue > CHANCE


def test_impossible_rotation() -> None:
    with pytest.raises(ValueError) as error:
        Rotate(degrees=181)
    assert str(error.value) == "rotate: expected degrees in [0, 180], got 181"


def box_of_torchvision(
    uniform: list[float], height: int, width: int, area: tuple[float, float], aspect: tuple[float, float]
) -> tuple[int, int, int, int]:
    """Return top, left, height and width as torchvision's RandomResizedCrop.get_params computes them."""
    for share, ratio in zip(uniform[:10], uniform[10:20], strict=True):
        target = height * width * (area[0] + (area[1] - area[0]) * share)
        w_by_h = math.exp(math.log(aspect[0]) + (math.log(aspect[1]) - math.log(aspect[0])) * ratio)
        w, h = round(math.sqrt(target * w_by_h)), round(math.sqrt(target / w_by_h))
        if 0 < w <= width and 0 < h <= height:
            return int(uniform[20] * (height - h + 1)), int(uniform[21] * (width - w + 1)), h, w
    h, w = height, width
    if width / height < aspect[0]:
        h = max(1, round(width / aspect[0]))
    elif width / height > aspect[1]:
        w = max(1, round(height * aspect[1]))  # torchvision has 0 here for a line of one pixel
    return (height - h) // 2, (width - w) // 2, h, w


@pytest.mark.parametrize(
    ("height", "width"), [(32, 32), (28, 28), (8, 8), (1, 1), (375, 500), (20, 300), (300, 20), (97, 96)]
)
@pytest.mark.parametrize("ranges", [((0.08, 1.0), (3 / 4, 4 / 3)), ((0.5, 0.5), (1.0, 1.0)), ((0.9, 1.0), (0.2, 0.3))])
def test_boxes(height: int, width: int, ranges: tuple[tuple[float, float], tuple[float, float]]) -> None:
    area, aspect = ranges
    drawn = draw_boxes(300, generator("boxes"))
    out = boxes(drawn, height, width, area=area, aspect=aspect)
    expected = [box_of_torchvision(row, height, width, area, aspect) for row in drawn.tolist()]
    assert out.tolist() == [list(box) for box in expected]
    assert (out[:, 2:] > 0).all()


def test_boxes_of_images_of_many_sizes() -> None:
    crop = ResizedCrop(area=(0.2, 0.9))
    heights, widths = torch.randint(1, 400, (2, 200), generator=generator("sizes"))
    (drawn,) = crop.draw(200, 32, generator(0))
    one_by_one = [crop.boxes(drawn[i : i + 1], int(heights[i]), int(widths[i])) for i in range(200)]
    assert torch.equal(crop.boxes(drawn, heights, widths), torch.cat(one_by_one))


def test_distribution_of_boxes() -> None:
    crop, numbers = ResizedCrop(), random.Random(0)
    ours = crop.boxes(*crop.draw(MANY, 32, generator(0, 0, "resized_crop")), 32, 32)
    rows = ([numbers.random() for _ in range(22)] for _ in range(MANY))
    theirs = torch.tensor([box_of_torchvision(row, 32, 32, crop.area, crop.aspect) for row in rows])
    for column in range(4):
        table = torch.stack([b[:, column].bincount(minlength=33) for b in (ours, theirs)])
        assert stats.chi2_contingency(table[:, table.sum(0) >= 10].numpy()).pvalue > CHANCE
    for of in (lambda b: b[:, 2] * b[:, 3], lambda b: b[:, 3] / b[:, 2], lambda b: b[:, 0] + 33 * b[:, 2]):
        assert stats.ks_2samp(of(ours), of(theirs)).pvalue > CHANCE


@CHANNELS
@pytest.mark.parametrize(
    ("height", "width", "size"), [(32, 32, 32), (28, 28, 28), (64, 48, 16), (40, 56, 24), (9, 9, 33)]
)
def test_resample_is_pillows(height: int, width: int, size: int, channels: int) -> None:
    images = noise(70, channels, height, width)
    before = images.clone()
    crop = ResizedCrop()
    parts = crop.boxes(*crop.draw(70, size, generator(0)), height, width)
    out = crop(images, parts, size)
    for image, (top, left, h, w), resized in zip(images, parts.tolist(), out, strict=True):
        part = to_pillow(image).crop((left, top, left + w, top + h))
        # Pillow 13 begins with the columns where that is cheaper; ours are always the lines.
        assert torch.equal(resized, from_pillow(part.resize((size, h), BILINEAR).resize((size, size), BILINEAR)))
        assert apart(resized, from_pillow(part.resize((size, size), BILINEAR))).max() <= 1
        assert apart(resized, resample_one(image, (top, left, h, w), size)).max() <= 1
    assert out.is_contiguous(memory_format=LAST)
    assert torch.equal(images, before)


def test_a_whole_image_of_its_own_size_stays_as_it_is() -> None:
    images = noise(3, 3, 16, 16)
    parts = torch.tensor([[0, 0, 16, 16]] * 3)
    assert torch.equal(resample(images, parts, 16), images)
    assert torch.equal(resample_one(images[0], (0, 0, 16, 16), 16), images[0])
    assert torch.equal(evaluation_crop(images[0], 16, 16), images[0])


def test_a_part_takes_nothing_from_outside_itself() -> None:
    images = torch.full((1, 1, 12, 12), 255, dtype=torch.uint8)
    images[:, :, 3:9, 2:10] = 7
    for size in (3, 8, 20):
        assert (resample(images, torch.tensor([[3, 2, 6, 8]]), size) == 7).all()
        assert (resample_one(images[0], (3, 2, 6, 8), size) == 7).all()


@CHANNELS
@pytest.mark.parametrize(
    ("height", "width", "size", "resize"),
    [(60, 80, 24, 32), (81, 60, 24, 27), (50, 50, 64, 73), (37, 200, 32, 32), (33, 20, 19, 20)],
)
def test_evaluation_crop(height: int, width: int, size: int, resize: int, channels: int) -> None:
    for image in (noise(1, channels, height, width)[0], photo(1, channels, height, width)[0]):
        out = evaluation_crop(image, size, resize)
        # torchvision's Resize and CenterCrop
        if width <= height:
            wide, high = resize, int(resize * height / width)
        else:
            wide, high = int(resize * width / height), resize
        top, left = round((high - size) / 2.0), round((wide - size) / 2.0)
        resized = to_pillow(image).resize((wide, high), BILINEAR)
        expected = from_pillow(resized.crop((left, top, left + size, top + size)))
        assert apart(out, expected).max() <= 1
        assert (apart(out, expected) == 0).double().mean() > 0.9


def test_an_evaluation_crop_larger_than_the_image() -> None:
    with pytest.raises(ValueError) as error:
        evaluation_crop(noise(1, 3, 50, 50)[0], 33, 32)
    assert str(error.value) == "no crop of 33 pixels fits into an image whose shorter side is 32"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"area": (0.0, 1.0)}, "got area (0.0, 1.0) and aspect (0.75, 1.3333333333333333)"),
        ({"area": (0.5, 1.1)}, "expected 0 < lowest <= highest for area (at most 1) and aspect, got area (0.5, 1.1)"),
        ({"aspect": (2.0, 1.0)}, "and aspect (2.0, 1.0)"),
    ],
)
def test_impossible_resized_crop(options: dict[str, tuple[float, float]], message: str) -> None:
    with pytest.raises(ValueError) as error:
        ResizedCrop(**options)
    assert message in str(error.value)


def test_nothing_is_read_back_from_the_device() -> None:
    # Tensors on "meta" have no values: to read one is an error.
    images = noise(6, 3, 8, 8).to("meta")
    rotate, crop = Rotate(degrees=15), ResizedCrop()
    (rotations,) = rotate.draw(6, 8, generator(0))
    parts = crop.boxes(*crop.draw(6, 8, generator(0)), 8, 8)
    assert rotate(images, rotations.to("meta")).shape == (6, 3, 8, 8)
    assert crop(images, parts.to("meta"), 5).shape == (6, 3, 5, 5)
