"""Contrast, elastic transform, pixelation and JPEG."""

from functools import cache
from io import BytesIO

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from pictorch.data.corruptions.draws import Array, Generators, drawn, each
from pictorch.data.corruptions.filters import reflected_gaussian
from pictorch.data.corruptions.noise import levels


def contrast(images: Tensor, rngs: Generators, factor: float) -> Tensor:
    """Scale the differences from each channel's mean."""
    light = images.double().div_(255)
    # Summed in whole numbers, which no order of adding changes.
    mean = images.sum((2, 3), keepdim=True, dtype=torch.int64).double() / (images.shape[2] * images.shape[3]) / 255
    return levels(light.sub_(mean).mul_(factor).add_(mean))


def elastic_transform(images: Tensor, rngs: Generators, strength: float, sigma: float, reach: float) -> Tensor:
    """Move three points, and the image with them, by U(-reach, reach); then displace each pixel by a smooth field.

    The field is U(-1, 1) per pixel and direction, blurred by `sigma` and multiplied by `strength`.
    """
    height, width = images.shape[2:]

    def draw(rng: np.random.Generator) -> Array:
        return np.concatenate([rng.uniform(-reach, reach, 6), rng.uniform(-1, 1, 2 * height * width)])

    numbers = drawn(draw, torch.device("cpu"), rngs)
    light = images.float().div_(255)
    light = warp(light, matrices(numbers[:, :6].view(-1, 3, 2).numpy(), height, width))
    if strength:
        field = numbers[:, 6:].to(images.device).view(-1, 2, height, width)
        down, across = (reflected_gaussian(size, sigma).to(images.device) for size in (height, width))
        field = (down @ field @ across.T).mul_(strength).float()
        light = displaced(light, field[:, 1], field[:, 0])
    return levels(light)


def matrices(shifts: Array, height: int, width: int) -> Array:
    """Return float64 [N,2,3] that map where a pixel goes to where it comes from. shifts: [N,3,2] of (x, y).

    The points are the image's centre and a third of its shorter side from it: both plus, plus and minus, both minus.
    """
    square = min(height, width) // 3
    signs = np.array([[1, 1], [1, -1], [-1, -1]])
    before = (np.array([width // 2, height // 2]) + square * signs).astype(np.float32)
    after = (before + shifts.astype(np.float32)).astype(np.float64)
    sources = np.concatenate([before.astype(np.float64), np.ones((3, 1))], 1)
    (a, b, c), (d, e, f) = np.linalg.solve(sources, after).transpose(2, 1, 0)
    # Inverted as OpenCV does it.
    scale = 1 / (a * e - b * d)
    a, b, d, e = e * scale, -b * scale, -d * scale, a * scale
    return np.stack([np.stack([a, b, -a * c - b * f], 1), np.stack([d, e, -d * c - e * f], 1)], 1)


def warp(light: Tensor, matrices: Array) -> Tensor:
    """Return float32 light whose pixel (x, y) is the one at matrix @ (x, y, 1), mirrored outside without the edge.

    OpenCV's warpAffine before version 5: places are rounded to 1/32 of a pixel, in fixed point, and four
    pixels weighed by these fractions.
    """
    height, width = light.shape[2:]
    x, y = np.arange(width), np.arange(height)
    fixed = []
    for row in matrices.transpose(1, 0, 2)[..., None]:
        along, down, shift = row[:, 0], row[:, 1], row[:, 2]
        start = np.rint((down * y + shift) * 1024).astype(np.int64) + 16
        fixed.append((start[:, :, None] + np.rint(along * x * 1024).astype(np.int64)[:, None]) >> 5)
    across, under = (torch.from_numpy(places).to(light.device) for places in fixed)
    parts = [(places & 31).float().div_(32)[:, None] for places in (under, across)]
    firsts = (under >> 5, across >> 5)
    rows, columns = (
        [mirrored(first + step, size) for step in (0, 1)] for first, size in zip(firsts, (height, width), strict=True)
    )
    return blend(light, rows, columns, *parts)


def mirrored(places: Tensor, size: int) -> Tensor:
    """Return the places within 0..size-1 that stand for these, the image mirrored without repeating its edge."""
    folded = places.remainder(2 * size - 2)
    return torch.minimum(folded, 2 * size - 2 - folded)


def reflected(places: Tensor, size: int) -> Tensor:
    """Return the places above -1 and below `size`, float64, that stand for these, the image mirrored with its edge."""
    folded = places.remainder(2 * size)
    return torch.where(folded < size, folded, 2 * size - 1 - folded)


def blend(light: Tensor, rows: list[Tensor], columns: list[Tensor], down: Tensor, across: Tensor) -> Tensor:
    """Return the mean of the pixels at two rows and columns [N,H,W], weighed by the parts [N,1,H,W] of the second."""
    n, channels = light.shape[:2]
    values = light.flatten(2)
    total = torch.zeros_like(light)
    for row, part_down in zip(rows, (1 - down, down), strict=True):
        for column, part_across in zip(columns, (1 - across, across), strict=True):
            place = (row * light.shape[3] + column).view(n, 1, -1).expand(-1, channels, -1)
            total += values.gather(2, place).view(light.shape) * (part_down * part_across)
    return total


def displaced(light: Tensor, down: Tensor, across: Tensor) -> Tensor:
    """Return float32 light whose pixel (y, x) is the one at (y + down, x + across), displacements float32 [N,H,W].

    SciPy's map_coordinates of order 1, mode "reflect", before version 1.6, in float64. Outside, a place becomes one
    that is mirrored with the edge, and then, less than a pixel from the edge, lies between two pixels that are
    mirrored without it (1.6 mended that: https://github.com/scipy/scipy/pull/12767). The benchmark is older.
    """
    sides = light.shape[2:]
    # Added in float64: the program's whole-number grid makes it so.
    y = torch.arange(sides[0], device=light.device, dtype=torch.float64)[:, None] + down
    x = torch.arange(sides[1], device=light.device, dtype=torch.float64) + across
    places = [reflected(place, size) for place, size in zip((y, x), sides, strict=True)]
    firsts = [place.floor() for place in places]
    parts = [(place - first)[:, None] for place, first in zip(places, firsts, strict=True)]
    rows, columns = (
        [mirrored(first.long() + step, size) for step in (0, 1)] for first, size in zip(firsts, sides, strict=True)
    )
    return blend(light.double(), rows, columns, *parts).float()


def pixelate(images: Tensor, rngs: Generators, share: float) -> Tensor:
    """Resize to this share of the sides, cut off to whole pixels, and back: Pillow's BOX, both times."""
    for sides in ([int(side * share) for side in images.shape[2:]], list(images.shape[2:])):
        for axis, size in ((3, sides[1]), (2, sides[0])):
            matrix = box(images.shape[axis], size).to(images.device)
            numbers = images.double()
            total = numbers @ matrix.T if axis == 3 else matrix @ numbers
            images = total.add_(2**21).mul_(2**-22).floor_().clamp_(0, 255).to(torch.int16).to(torch.uint8)
    return images


@cache
def box(size: int, new_size: int) -> Tensor:
    """Return float64 [new_size,size]: Pillow's weights for BOX, whole numbers of 2**-22.

    In float64 their products with 8 bits are exact, whatever the order in which they are added.
    """
    scale = size / new_size
    reach = 0.5 * max(scale, 1)
    matrix = np.zeros((new_size, size))
    for row in range(new_size):
        centre = (row + 0.5) * scale
        first, last = max(int(centre - reach + 0.5), 0), min(int(centre + reach + 0.5), size)
        at = (np.arange(first, last) - centre + 0.5) / max(scale, 1)
        weights = ((at > -0.5) & (at <= 0.5)).astype(np.float64)
        matrix[row, first:last] = np.floor(weights / weights.sum() * 2**22 + 0.5)
    return torch.from_numpy(matrix)


def jpeg_compression(images: Tensor, rngs: Generators, quality: int) -> Tensor:
    """Write and read each image as a JPEG of this quality with Pillow: 4:2:0, or grey for grey images."""
    pixels = images.permute(0, 2, 3, 1).cpu().numpy()
    channels = images.shape[1]

    def coded(image: Array) -> Array:
        Image.fromarray(image[..., 0] if channels == 1 else image).save(file := BytesIO(), "JPEG", quality=quality)
        return np.asarray(Image.open(file)).reshape(image.shape)

    return torch.from_numpy(np.stack(each(coded, pixels))).to(images.device).permute(0, 3, 1, 2)
