"""The benchmark's numbers, severities 1 to 5: of CIFAR-10-C for small images, of ImageNet-C for large ones.

From ImageNet-C/create_c/make_cifar_c.py and make_imagenet_c.py of github.com/hendrycks/robustness. Lengths are pixels,
noise and light fractions of the range 0..1, unless said otherwise.
"""

from typing import Any

import numpy as np

# Images of 32 and of 224 are the benchmark's; others take the nearer of the two in proportion: sqrt(32 * 224) = 84.7.
LARGEST_SMALL = 84
IMAGENET_SIDE = 224
# In ImageNet-C's elastic transform 244 stands where 224 was meant, its author says; the published images have it.
ELASTIC_SIDE = 244

Rows = tuple[tuple[Any, ...], ...]


def zooms(*steps: tuple[float, float]) -> Rows:
    """Return factors from 1 up to `end` in steps, for each (end, step).

    As np.arange makes them: its rounding decides whether the end is one, and that 26 pixels times 1.25 become 33.
    """
    return tuple((tuple(np.arange(1, end, step).tolist()),) for end, step in steps)


def singles(*values: float) -> Rows:
    return tuple((value,) for value in values)


SMALL: dict[str, Rows] = {
    "gaussian_noise": singles(0.04, 0.06, 0.08, 0.09, 0.10),
    "shot_noise": singles(500, 250, 100, 75, 50),
    "impulse_noise": singles(0.01, 0.02, 0.03, 0.05, 0.07),
    "defocus_blur": ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)),
    "glass_blur": ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2)),
    "motion_blur": ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)),
    "zoom_blur": zooms((1.06, 0.01), (1.11, 0.01), (1.16, 0.01), (1.21, 0.01), (1.26, 0.01)),
    "snow": (
        (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
        (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
        (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
        (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
        (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
    ),
    "frost": ((1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45)),
    "fog": ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)),
    "brightness": singles(0.05, 0.1, 0.15, 0.2, 0.3),
    "contrast": singles(0.75, 0.5, 0.4, 0.3, 0.15),
    # Fractions of the image's side.
    "elastic_transform": ((0, 0, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05), (0.1, 0.03, 0.03)),
    "pixelate": singles(0.95, 0.9, 0.85, 0.75, 0.65),
    "jpeg_compression": singles(80, 65, 58, 50, 40),
}

LARGE: dict[str, Rows] = {
    "gaussian_noise": singles(0.08, 0.12, 0.18, 0.26, 0.38),
    "shot_noise": singles(60, 25, 12, 5, 3),
    "impulse_noise": singles(0.03, 0.06, 0.09, 0.17, 0.27),
    "defocus_blur": ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5)),
    "glass_blur": ((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2)),
    "motion_blur": ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15)),
    "zoom_blur": zooms((1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03)),
    "snow": (
        (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
        (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
        (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
        (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
        (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
    ),
    "frost": ((1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75)),
    "fog": ((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4)),
    "brightness": singles(0.1, 0.2, 0.3, 0.4, 0.5),
    "contrast": singles(0.4, 0.3, 0.2, 0.1, 0.05),
    # Fractions of the image's side times 244 / 224.
    "elastic_transform": ((2, 0.7, 0.1), (2, 0.08, 0.2), (0.05, 0.01, 0.02), (0.07, 0.01, 0.02), (0.12, 0.01, 0.02)),
    "pixelate": singles(0.6, 0.5, 0.4, 0.3, 0.25),
    "jpeg_compression": singles(25, 18, 15, 10, 7),
}


def row(name: str, severity: int, height: int, width: int) -> tuple[Any, ...]:
    """Return a corruption's numbers for images of this size."""
    side = min(height, width)
    small = side <= LARGEST_SMALL
    numbers = (SMALL if small else LARGE)[name][severity - 1]
    if name == "elastic_transform":
        reach = float(side) if small else side * ELASTIC_SIDE / IMAGENET_SIDE
        return tuple(reach * share for share in numbers)
    return (*numbers, small) if name == "frost" else numbers
