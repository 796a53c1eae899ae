"""Defocus, glass, motion and zoom blur. Grey images become what each channel of a grey RGB image would become."""

import math
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pictorch.data.corruptions.draws import Array, Generators, drawn
from pictorch.data.corruptions.filters import clipped_zoom, gaussian, motion
from pictorch.data.corruptions.noise import levels


@cache
def disk(radius: float, alias_blur: float) -> Array:
    """Return float32 [2r+1,2r+1]: a disk, summing to 1, smoothed by a small Gaussian, without its margin of zeros.

    The smoothing's window is 3 x 3, or 5 x 5 for radii above 8, and mirrors at the array's edge, which disks of radius
    8 and 10 reach: all as OpenCV does it, in float32.
    """
    reach, window = (8, 3) if radius <= 8 else (int(radius), 5)
    across = np.arange(-reach, reach + 1)
    inside = (across**2 + across[:, None] ** 2 <= radius**2).astype(np.float32)
    inside /= inside.sum()
    half = window // 2
    weights = np.exp(-(np.arange(-half, half + 1) ** 2) / (2 * alias_blur**2))
    weights = (weights / weights.sum()).astype(np.float32)
    for axis in (1, 0):
        padded = np.pad(inside, [(half, half) if axis == side else (0, 0) for side in (0, 1)], "reflect")
        size = inside.shape[axis]
        shifted = [padded.take(range(start, start + size), axis) for start in range(window)]
        inside = weights[half] * inside
        for distance in range(1, half + 1):
            inside = inside + weights[half + distance] * (shifted[half - distance] + shifted[half + distance])
    used = int(np.abs(across)[(inside > 0).any(0)].max())
    return inside[reach - used : reach + used + 1, reach - used : reach + used + 1]


def defocus_blur(images: Tensor, rngs: Generators, radius: float, alias_blur: float) -> Tensor:
    """Correlate with a disk; the image is mirrored at its edge, without the edge: OpenCV's filter2D in float64."""
    kernel = torch.from_numpy(disk(radius, alias_blur)).to(images.device).double()
    reach = len(kernel) // 2
    padded = F.pad(images.double().div_(255), [reach] * 4, "reflect")
    if reach > 2:
        # Image by image, so that the transform's rounding does not depend on the batch.
        return levels(torch.stack([by_fourier(image, kernel) for image in padded]))
    height, width = images.shape[2:]
    total = padded.new_zeros(images.shape)
    for top, left in kernel.nonzero().tolist():
        total.add_(padded[:, :, top : top + height, left : left + width] * kernel[top, left])
    return levels(total)


def by_fourier(image: Tensor, kernel: Tensor) -> Tensor:
    """Return the part of the correlation [C,H,W] of an image [C,H+K-1,W+K-1] for which no pixel is missing."""
    sides = image.shape[-2:]
    length = len(kernel) - 1
    spectrum = torch.fft.rfft2(image) * torch.fft.rfft2(kernel, s=sides).conj()
    correlated: Tensor = torch.fft.irfft2(spectrum, s=sides)
    return correlated[:, : sides[0] - length, : sides[1] - length]


def glass_blur(images: Tensor, rngs: Generators, sigma: float, reach: int, rounds: int) -> Tensor:
    """Blur, replace pixels by near ones, blur.

    The program means to swap a pixel with one up to `reach` rows and columns before it or `reach` - 1 after it, from
    the last row and column to the first. What it swaps are views of one array, so that the second assignment copies
    back what the first has just copied: the pixel takes the other's value, the other keeps its own. The outermost
    `reach` rows and columns (below and right, one less) take part as sources alone.
    """
    height, width = images.shape[2:]
    blurred = whole(gaussian(images.double().div_(255), sigma))
    rows, columns = np.arange(height - reach, reach, -1), np.arange(width - reach, reach, -1)
    if len(rows) and len(columns):
        shape = (rounds, len(rows), len(columns), 2)
        shifts = drawn(lambda rng: rng.integers(-reach, reach, size=shape), images.device, rngs)
        at = torch.from_numpy(rows[:, None] * width + columns).to(images.device).view(-1)
        values = blurred.flatten(2)
        for turn in range(rounds):
            source = at + (shifts[:, turn, ..., 1] * width + shifts[:, turn, ..., 0]).flatten(1)
            places = taken_from(at, source, height * width)
            values = values.gather(2, places[:, None].expand(-1, images.shape[1], -1))
        blurred = values.view(images.shape)
    return levels(gaussian(blurred.double().div_(255), sigma))


def whole(values: Tensor) -> Tensor:
    """Return values that no rounding error brings above 1 by more than 1 / 255 as uint8, not clipped, cut off."""
    return values.mul_(255).to(torch.int16).to(torch.uint8)


def taken_from(at: Tensor, source: Tensor, pixels: int) -> Tensor:
    """Return int64 [N,P]: whose first value each pixel has after pixels `at` [M] took that of `source` [N,M] in turn.

    `at` falls. A source that comes later in the image has had its turn, and hands on what it took: chains that are
    followed for all pixels at once, twice as far each time.
    """
    n = len(source)
    # Places 0..P-1 stand for what a pixel has in the end, P..2P-1 for what it had at the beginning.
    table = torch.arange(2 * pixels, device=at.device).repeat(n, 1)
    table[:, :pixels] += pixels
    done = torch.zeros(pixels, dtype=torch.bool, device=at.device)
    done[at] = True
    table[:, at] = torch.where((source > at) & done[source], source, source + pixels)
    for _ in range(math.ceil(math.log2(pixels))):
        if bool((table[:, :pixels] >= pixels).all()):
            break
        table = table.gather(1, table)
    return table[:, :pixels] - pixels


def motion_blur(images: Tensor, rngs: Generators, radius: float, sigma: float) -> Tensor:
    """Blur along an angle of U(-45, 45) degrees from the right, y downwards."""
    return motion(images, radius, sigma, [rng.uniform(-45, 45) for rng in rngs])


def zoom_blur(images: Tensor, rngs: Generators, factors: tuple[float, ...]) -> Tensor:
    """Take the mean of the image and of it magnified by each factor, of which the first is 1; summed in float32."""
    # In this order of memory the zooms take half the time.
    single = images.float().div_(255).contiguous(memory_format=torch.channels_last)
    exact = single.double()
    total = torch.zeros_like(single)
    for factor in factors:
        total.add_(clipped_zoom(exact, factor).float())
    return levels((single + total).div_(len(factors) + 1))
