"""What several corruptions are made of: Gaussian and motion blur, zooms, plasma, as the benchmark's libraries do them.

Images are [N,C,H,W]. Where a library computes in float64, so is it here, in the same order of operations: the programs
cut off what stands behind the point at the end, so that the last bit decides the level of flat areas.
"""

import math
from collections.abc import Sequence
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pictorch.data.corruptions.draws import Array


def gaussian_weights(sigma: float, truncate: float) -> Array:
    """Return float64 [2r+1], r = int(truncate * sigma + 0.5), summing to 1: scipy.ndimage's kernel."""
    reach = int(truncate * sigma + 0.5)
    if not reach:
        return np.ones(1)
    weights: Array = np.exp(-0.5 / (sigma * sigma) * np.arange(-reach, reach + 1) ** 2)
    weights /= weights.sum()
    return weights


def gaussian(images: Tensor, sigma: float) -> Tensor:
    """Return float64 images blurred, the edge's pixels repeated outside: scikit-image's `gaussian` by its defaults."""
    weights = gaussian_weights(sigma, 4)
    for axis in (2, 3):
        images = along(images, weights, axis)
    return images


def along(images: Tensor, weights: Array, axis: int) -> Tensor:
    """Correlate one axis with a symmetrical kernel: the centre first, then pairs from the outermost, as SciPy adds."""
    reach = len(weights) // 2
    size = images.shape[axis]
    padded = F.pad(images, [0, 0, reach, reach] if axis == 2 else [reach, reach, 0, 0], "replicate")
    total = images * float(weights[reach])
    for distance in range(reach, 0, -1):
        pair = padded.narrow(axis, reach - distance, size) + padded.narrow(axis, reach + distance, size)
        total.add_(pair.mul_(float(weights[reach - distance])))
    return total


@cache
def reflected_gaussian(size: int, sigma: float) -> Tensor:
    """Return float64 [size,size]: SciPy's Gaussian along one axis, truncated at 3 sigma, mirrored with the edge.

    With a matrix a kernel that is wider than the image (1,025 taps for 224 pixels) costs no more than a narrow one.
    """
    weights = gaussian_weights(sigma, 3)
    reach = len(weights) // 2
    at = np.arange(size)[:, None] + np.arange(-reach, reach + 1)
    folded = at % (2 * size)
    folded = np.minimum(folded, 2 * size - 1 - folded)
    matrix = np.zeros((size, size))
    np.add.at(matrix, (np.arange(size)[:, None], folded), weights)
    return torch.from_numpy(matrix)


def motion(images: Tensor, radius: float, sigma: float, degrees: Sequence[float]) -> Tensor:
    """Return uint8 images blurred along each one's angle, as ImageMagick's MotionBlurImage does it.

    The kernel is one-sided: weight exp(-i**2 / (2 sigma**2)), over the sum, for the pixel that lies i steps ahead, i
    from 0 to 2 * ceil(radius); a step is (ceil(i cos - 1/2), ceil(i sin - 1/2)) in (x, y), y downwards; the edge's
    pixels are repeated outside. Sums are rounded to 16 bits, then to 8. (ImageMagick 6 from October 2019 on,
    6.9.10-69, cuts off instead of the second rounding; the benchmark was published before.)
    """
    return eight_bits(motion_quanta(images, radius, sigma, degrees))


def motion_quanta(images: Tensor, radius: float, sigma: float, degrees: Sequence[float]) -> Tensor:
    """Return the sums of `motion` rounded to 0..65535, float32."""
    n, channels, height, width = images.shape
    steps = np.arange(2 * math.ceil(radius) + 1)
    weights = np.exp(-(steps**2) / (2 * sigma * sigma))
    weights *= 257 / weights.sum()
    across, down = (torch.from_numpy(shifts).to(images.device) for shifts in offsets(degrees, len(steps)))
    reach = len(steps) - 1
    padded = F.pad(images.float(), [reach] * 4, "replicate").to(torch.uint8)
    high, wide = padded.shape[2:]
    # A line of a shifted image is one stretch of memory, and index_select copies it whole.
    lines = padded.view(-1).as_strided((padded.numel() - width + 1, width), (1, 1))
    planes = torch.arange(n * channels, device=images.device).view(n, channels, 1) * high
    first = (planes + torch.arange(height, device=images.device) + reach) * wide + reach
    total = torch.zeros(n * channels * height, width, device=images.device)
    for step, weight in enumerate(weights.tolist()):
        start = first + (down[:, step] * wide + across[:, step])[:, None, None]
        total.add_(lines.index_select(0, start.view(-1)).float(), alpha=weight)
    return total.add_(0.5).floor_().view(n, channels, height, width)


def offsets(degrees: Sequence[float], steps: int) -> tuple[Array, Array]:
    """Return int64 [N,steps] across and down, by ImageMagick's arithmetic."""
    angles = np.pi * np.asarray(degrees)[:, None] / 180
    y, x = steps * np.sin(angles), steps * np.cos(angles)
    length = np.hypot(y, x)
    i = np.arange(steps)
    across, down = (np.ceil(i * part / length - 0.5).astype(np.int64) for part in (x, y))
    return across, down


def eight_bits(quanta: Tensor) -> Tensor:
    """Return whole numbers of 0..65535 as the nearest of 0..255, uint8."""
    numbers = quanta.int().add_(128)
    return numbers.sub_(numbers >> 8).bitwise_right_shift_(8).to(torch.uint8)


def clipped_zoom(images: Tensor, factor: float) -> Tensor:
    """Return the float64 images' centre magnified by `factor` of at least 1, of the same size.

    The middle ceil(side / factor) pixels are spread over round(that * factor) ones, corners on corners, linearly, and
    the middle of these taken: scipy.ndimage.zoom, of order 1. Where the last place comes to lie outside by a rounding
    error (16 of 3,003 pairs of a side of 8..84 and a factor of the benchmark's, none with 32) SciPy puts 0 there, and
    so does this.
    """
    sides = images.shape[2:]
    cut = [math.ceil(side / factor) for side in sides]
    spread = [round(length * factor) for length in cut]
    top, left = ((side - length) // 2 for side, length in zip(sides, cut, strict=True))
    middle = images[:, :, top : top + cut[0], left : left + cut[1]]
    zoomed = F.interpolate(middle, spread, mode="bilinear", align_corners=True)
    for axis, (length, wide) in enumerate(zip(cut, spread, strict=True), start=2):
        if wide > 1 and (wide - 1) * ((length - 1) / (wide - 1)) > length - 1:
            zoomed.select(axis, wide - 1).zero_()
    top, left = ((wide - side) // 2 for side, wide in zip(sides, spread, strict=True))
    return zoomed[:, :, top : top + sides[0], left : left + sides[1]]


def plasma(uniform: Tensor, decay: float) -> Tensor:
    """Return float64 [N,S,S] in 0..1: diamond-square maps that join at their edges, S a power of two.

    uniform: float64 [N,S*S-1] in 0..1, in the order of use. From one point at 0, each level halves the grid: the
    squares' middles, then those of the horizontal and of the vertical edges, become the mean of the four points around
    plus w * U(-w, w), where w is 100 and is divided by `decay` after each level. At the end the map is stretched to
    0..1.
    """
    n, total = uniform.shape
    size = math.isqrt(total + 1)
    heights = uniform.new_zeros(n, size, size)
    used, step, wibble = 0, size, 100.0

    def wibbled(total: Tensor) -> Tensor:
        nonlocal used
        count = total[0].numel()
        noise = uniform[:, used : used + count].view_as(total).mul(2 * wibble).sub_(wibble).mul_(wibble)
        used += count
        return (total / 4).add_(noise)

    while step >= 2:
        half = step // 2
        corners, middles = heights[:, ::step, ::step], heights[:, half::step, half::step]
        sides = corners + corners.roll(-1, 1)
        middles.copy_(wibbled(sides + sides.roll(-1, 2)))
        heights[:, ::step, half::step] = wibbled((middles + middles.roll(1, 1)) + (corners + corners.roll(-1, 2)))
        heights[:, half::step, ::step] = wibbled((middles + middles.roll(1, 2)) + (corners + corners.roll(-1, 1)))
        step, wibble = half, wibble / decay
    heights.sub_(heights.amin((1, 2), keepdim=True))
    return heights.div_(heights.amax((1, 2), keepdim=True))
