"""The corruptions of one image at a time, in NumPy, SciPy and Pillow: slow, obvious, and with numbers of their own.

    per_image.corrupt(image, "fog", 3, rng, photographs)     uint8 [H,W,C] in and out

Written from the facts of make_cifar_c.py and make_imagenet_c.py (github.com/hendrycks/robustness), np.random
replaced by `rng`. benchmarks/corruptions.py takes its times as those of the way without batches.
"""

from io import BytesIO
from typing import Any

import numpy as np
from matplotlib.colors import hsv_to_rgb, rgb_to_hsv
from PIL import Image
from scipy import ndimage

Array = np.ndarray[Any, Any]
Rng = np.random.Generator

ROWS: dict[str, tuple[list[Any], list[Any]]] = {
    "gaussian_noise": ([0.04, 0.06, 0.08, 0.09, 0.1], [0.08, 0.12, 0.18, 0.26, 0.38]),
    "shot_noise": ([500, 250, 100, 75, 50], [60, 25, 12, 5, 3]),
    "impulse_noise": ([0.01, 0.02, 0.03, 0.05, 0.07], [0.03, 0.06, 0.09, 0.17, 0.27]),
    "defocus_blur": (
        [(0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)],
        [(3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5)],
    ),
    "glass_blur": (
        [(0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2)],
        [(0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2)],
    ),
    "motion_blur": (
        [(6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)],
        [(10, 3), (15, 5), (15, 8), (15, 12), (20, 15)],
    ),
    "zoom_blur": (
        [(1.06, 0.01), (1.11, 0.01), (1.16, 0.01), (1.21, 0.01), (1.26, 0.01)],
        [(1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03)],
    ),
    "snow": (
        [
            (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
            (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
            (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
            (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
            (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
        ],
        [
            (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
            (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
            (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
            (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
            (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
        ],
    ),
    "frost": (
        [(1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45)],
        [(1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75)],
    ),
    "fog": (
        [(0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)],
        [(1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4)],
    ),
    "brightness": ([0.05, 0.1, 0.15, 0.2, 0.3], [0.1, 0.2, 0.3, 0.4, 0.5]),
    "contrast": ([0.75, 0.5, 0.4, 0.3, 0.15], [0.4, 0.3, 0.2, 0.1, 0.05]),
    "elastic_transform": (
        [(0, 0, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05), (0.1, 0.03, 0.03)],
        [(2, 0.7, 0.1), (2, 0.08, 0.2), (0.05, 0.01, 0.02), (0.07, 0.01, 0.02), (0.12, 0.01, 0.02)],
    ),
    "pixelate": ([0.95, 0.9, 0.85, 0.75, 0.65], [0.6, 0.5, 0.4, 0.3, 0.25]),
    "jpeg_compression": ([80, 65, 58, 50, 40], [25, 18, 15, 10, 7]),
}


def corrupt(image: Array, name: str, severity: int, rng: Rng, photographs: list[Array]) -> Array:
    small = min(image.shape[:2]) <= 84
    row = ROWS[name][0 if small else 1][severity - 1]
    if name == "frost":
        new = frost(image, *row, rng, [p[2::5, 2::5] for p in photographs] if small else photographs)
    elif name == "elastic_transform":
        side = min(image.shape[:2]) * (1 if small else 244 / 224)
        new = elastic_transform(image, *(side * share for share in row), rng)
    else:
        new = FUNCTIONS[name](image, *(row if isinstance(row, tuple) else (row,)), rng)
    return np.uint8(new)


def gaussian_noise(image: Array, scale: float, rng: Rng) -> Array:
    return np.clip(image / 255 + rng.normal(size=image.shape, scale=scale), 0, 1) * 255


def shot_noise(image: Array, rate: float, rng: Rng) -> Array:
    return np.clip(rng.poisson(image / 255 * rate) / rate, 0, 1) * 255


def impulse_noise(image: Array, amount: float, rng: Rng) -> Array:
    flipped = rng.random(image.shape) <= amount
    salted = rng.random(image.shape) <= 0.5
    new = image.copy()
    new[flipped & salted] = 255
    new[flipped & ~salted] = 0
    return new


def defocus_blur(image: Array, radius: float, alias_blur: float, rng: Rng) -> Array:
    reach, half = (8, 1) if radius <= 8 else (radius, 2)
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    disk = (x**2 + y**2 <= radius**2).astype(np.float32)
    disk /= disk.sum()
    window = np.exp(-(np.arange(-half, half + 1) ** 2) / (2 * alias_blur**2))
    for axis in (0, 1):
        disk = ndimage.correlate1d(disk, window / window.sum(), axis, mode="mirror")
    channels = [ndimage.correlate(channel / 255, disk, mode="mirror") for channel in np.moveaxis(image, 2, 0)]
    return np.clip(np.stack(channels, 2), 0, 1) * 255


def blurred(image: Array, sigma: float) -> Array:
    return ndimage.gaussian_filter(image / 255, (sigma, sigma, 0), mode="nearest", truncate=4)


def glass_blur(image: Array, sigma: float, reach: int, rounds: int, rng: Rng) -> Array:
    new = np.uint8(blurred(image, sigma) * 255)
    height, width = new.shape[:2]
    for _ in range(rounds):
        for y in range(height - reach, reach, -1):
            for x in range(width - reach, reach, -1):
                dx, dy = rng.integers(-reach, reach, size=2)
                new[y, x], new[y + dy, x + dx] = new[y + dy, x + dx], new[y, x]
    return np.clip(blurred(new, sigma), 0, 1) * 255


def along(image: Array, radius: float, sigma: float, degrees: float) -> Array:
    steps = 2 * int(np.ceil(radius)) + 1
    weights = np.exp(-(np.arange(steps) ** 2) / (2 * sigma**2))
    height, width = image.shape[:2]
    total = np.zeros(image.shape)
    y, x = steps * np.sin(np.pi * degrees / 180), steps * np.cos(np.pi * degrees / 180)
    for i, weight in enumerate(weights / weights.sum()):
        down = int(np.ceil(i * y / np.hypot(y, x) - 0.5))
        across = int(np.ceil(i * x / np.hypot(y, x) - 0.5))
        rows = np.clip(np.arange(height) + down, 0, height - 1)
        columns = np.clip(np.arange(width) + across, 0, width - 1)
        total += weight * image[rows][:, columns]
    return np.uint8(np.floor(np.floor(total * 257 + 0.5) / 257 + 0.5))


def motion_blur(image: Array, radius: float, sigma: float, rng: Rng) -> Array:
    return along(image, radius, sigma, rng.uniform(-45, 45))


def magnified(image: Array, factor: float) -> Array:
    """Return the middle of the image as large as the image."""
    sides = image.shape[:2]
    cut = [int(np.ceil(side / factor)) for side in sides]
    top, left = ((side - length) // 2 for side, length in zip(sides, cut, strict=True))
    new = ndimage.zoom(image[top : top + cut[0], left : left + cut[1]], (factor, factor, 1), order=1)
    top, left = ((length - side) // 2 for side, length in zip(sides, new.shape[:2], strict=True))
    return new[top : top + sides[0], left : left + sides[1]]


def zoom_blur(image: Array, end: float, step: float, rng: Rng) -> Array:
    light = image.astype(np.float32) / np.float32(255)
    factors = np.arange(1, end, step)
    return np.clip((light + sum(magnified(light, factor) for factor in factors)) / (len(factors) + 1), 0, 1) * 255


def snow(
    image: Array,
    mean: float,
    deviation: float,
    zoom: float,
    threshold: float,
    radius: float,
    sigma: float,
    kept: float,
    rng: Rng,
) -> Array:
    light = np.float32(image) / np.float32(255)
    layer = magnified(rng.normal(size=image.shape[:2], loc=mean, scale=deviation)[..., None], zoom)
    layer[layer < threshold] = 0
    layer = along(np.uint8(np.clip(layer, 0, 1) * 255), radius, sigma, rng.uniform(-135, -45)) / 255
    grey = light if light.shape[2] == 1 else (light @ np.float32([0.299, 0.587, 0.114]))[..., None]
    light = kept * light + (1 - kept) * np.maximum(light, grey * 1.5 + 0.5)
    return np.clip(light + layer + np.rot90(layer, 2), 0, 1) * 255


def frost(image: Array, kept: float, added: float, rng: Rng, photographs: list[Array]) -> Array:
    photograph = photographs[rng.integers(5)]
    height, width = image.shape[:2]
    top = rng.integers(0, photograph.shape[0] - height)
    left = rng.integers(0, photograph.shape[1] - width)
    return np.clip(kept * image + added * photograph[top : top + height, left : left + width], 0, 255)


def plasma(size: int, decay: float, rng: Rng) -> Array:
    """Return a diamond-square map float64 [size,size], point by point."""
    heights = np.zeros((size, size))
    step, wibble = size, 100.0
    while step >= 2:
        half = step // 2
        for dy, dx in ((half, half), (0, half), (half, 0)):
            around = [(-half, -half), (-half, half), (half, -half), (half, half)]
            if not (dy and dx):
                around = [(-half, 0), (half, 0), (0, -half), (0, half)]
            new = {}
            for y in range(dy, size, step):
                for x in range(dx, size, step):
                    total = sum(heights[(y + up) % size, (x + left) % size] for up, left in around)
                    new[y, x] = total / 4 + wibble * rng.uniform(-wibble, wibble)
            for place, value in new.items():
                heights[place] = value
        step, wibble = half, wibble / decay
    heights -= heights.min()
    return heights / heights.max()


def fog(image: Array, amount: float, decay: float, rng: Rng) -> Array:
    height, width = image.shape[:2]
    size = 1
    while size < max(height, width):
        size *= 2
    light = image / 255
    largest = light.max()
    light += amount * plasma(size, decay, rng)[:height, :width, None]
    return np.clip(light * largest / (largest + amount), 0, 1) * 255


def brightness(image: Array, added: float, rng: Rng) -> Array:
    colours = np.repeat(image, 4 - image.shape[2], 2)[..., :3] / 255
    hsv = rgb_to_hsv(colours)
    hsv[..., 2] = np.clip(hsv[..., 2] + added, 0, 1)
    return np.clip(hsv_to_rgb(hsv), 0, 1)[..., : image.shape[2]] * 255


def contrast(image: Array, factor: float, rng: Rng) -> Array:
    light = image / 255
    mean = light.mean((0, 1), keepdims=True)
    return np.clip((light - mean) * factor + mean, 0, 1) * 255


def elastic_transform(image: Array, strength: float, sigma: float, reach: float, rng: Rng) -> Array:
    light = np.float32(image) / np.float32(255)
    height, width = image.shape[:2]
    third = min(height, width) // 3
    before = np.array([width // 2, height // 2]) + third * np.array([[1, 1], [1, -1], [-1, -1]])
    after = np.float32(before) + np.float32(rng.uniform(-reach, reach, size=(3, 2)))
    # The matrix takes (x, y, 1) of a new pixel to (x, y) of the old one; places are rounded to 1/32, halves up.
    matrix = np.linalg.solve(np.column_stack([np.float64(after), np.ones(3)]), np.float64(before)).T
    y, x = np.mgrid[:height, :width]
    old_x, old_y = (
        (np.rint((row[1] * y + row[2]) * 1024) + np.rint(row[0] * x * 1024) + 16) // 32 / 32 for row in matrix
    )
    light = taken(light, old_y, old_x)
    dx, dy = (np.float32(smooth(rng.uniform(-1, 1, size=(height, width)), sigma) * strength) for _ in range(2))
    moved = taken(light, outside(y + dy, height), outside(x + dx, width))
    return np.clip(moved, 0, 1) * 255


def taken(light: Array, y: Array, x: Array) -> Array:
    places = np.broadcast_arrays(y[..., None], x[..., None], np.arange(light.shape[2]))
    return ndimage.map_coordinates(light, places, order=1, mode="mirror")


def outside(places: Array, size: int) -> Array:
    """Return places as SciPy before 1.6 replaced those outside in mode "reflect", before it took pixels by "mirror"."""
    places = np.where(places < 0, -1 - places, places)
    return np.where(places >= size, 2 * size - 1 - places, places)


def smooth(field: Array, sigma: float) -> Array:
    return ndimage.gaussian_filter(field, sigma, mode="reflect", truncate=3)


def opened(image: Array) -> Image.Image:
    return Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)


def pixelate(image: Array, share: float, rng: Rng) -> Array:
    height, width = image.shape[:2]
    smaller = opened(image).resize((int(width * share), int(height * share)), Image.Resampling.BOX)
    return np.asarray(smaller.resize((width, height), Image.Resampling.BOX)).reshape(image.shape)


def jpeg_compression(image: Array, quality: int, rng: Rng) -> Array:
    opened(image).save(file := BytesIO(), "JPEG", quality=quality)
    return np.asarray(Image.open(file)).reshape(image.shape)


FUNCTIONS = {name: globals()[name] for name in ROWS}
