"""The 15 common corruptions of images at 5 severities, in batches: those of CIFAR-10-C and of ImageNet-C.

    corrupted = corrupt(images, "fog", 3, seed=1, start=first)

Hendrycks and Dietterich, "Benchmarking Neural Network Robustness to Common Corruptions and Perturbations", ICLR 2019,
arXiv:1903.12261. Definitions, sources and what is not the benchmark's: docs/corruptions.md.
"""

from collections.abc import Callable
from functools import partial
from numbers import Integral
from pathlib import Path

import torch
from torch import Tensor

from pictorch.config.errors import UserError, nearest
from pictorch.data.corruptions import blur, digital, frosting, noise, parameters, weather
from pictorch.data.corruptions.draws import generator
from pictorch.data.corruptions.parameters import LARGEST_SMALL

__all__ = ["GROUPS", "LARGEST_SMALL", "NAMES", "SEVERITIES", "SMALLEST", "corrupt"]

GROUPS: dict[str, tuple[str, ...]] = {
    "noise": ("gaussian_noise", "shot_noise", "impulse_noise"),
    "blur": ("defocus_blur", "glass_blur", "motion_blur", "zoom_blur"),
    "weather": ("snow", "frost", "fog", "brightness"),
    "digital": ("contrast", "elastic_transform", "pixelate", "jpeg_compression"),
}
NAMES = tuple(name for names in GROUPS.values() for name in names)
SEVERITIES = (1, 2, 3, 4, 5)
SMALLEST = 8

# How many values are worked on at once: what stays in a core's cache, and what fills a GPU.
CPU_VALUES = 2**18
GPU_VALUES = 2**25

FUNCTIONS: dict[str, Callable[..., Tensor]] = {
    **{name: getattr(noise, name) for name in GROUPS["noise"]},
    **{name: getattr(blur, name) for name in GROUPS["blur"]},
    **{name: getattr(weather, name) for name in GROUPS["weather"]},
    **{name: getattr(digital, name) for name in GROUPS["digital"]},
}


def corrupt(
    images: Tensor,
    name: str,
    severity: int,
    *,
    seed: int,
    start: int = 0,
    frost_dir: str | Path | None = None,
) -> Tensor:
    """Return the images corrupted: uint8, of the same shape, device and memory order; `images` stay as they are.

    images: uint8 [N,C,H,W], RGB or grey, sides of at least 8 pixels; name: one of NAMES; severity: 1 to 5; start: the
    position of the first image in its set. The numbers for an image are a function of (seed, name, severity,
    position), so that no batch size, order or device changes what becomes of it. frost_dir: a folder with the
    benchmark's photographs of frost; without it `frost` lays a computed texture over the images, and is not the
    benchmark's.

    Images whose shorter side is up to 84 pixels get the numbers of CIFAR-10-C, larger ones those of ImageNet-C. Raises
    UserError for other images, names, severities, positions, or photographs that cannot be used.
    """
    check(images, name, severity, seed, start)
    severity, seed, start = int(severity), int(seed), int(start)
    height, width = images.shape[2:]
    function = FUNCTIONS[name]
    row = parameters.row(name, severity, height, width)
    if name == "frost":
        small = min(height, width) <= LARGEST_SMALL
        photographs = frosting.photographs(frost_dir, height, width, small=small, grey=images.shape[1] == 1)
        function = partial(function, photographs=photographs)
    out = torch.empty_like(images)
    values = CPU_VALUES if images.device.type == "cpu" else GPU_VALUES
    step = max(1, values // images[0].numel()) if len(images) else 1
    with torch.no_grad():
        for first in range(0, len(images), step):
            chunk = images[first : first + step].contiguous()
            positions = range(start + first, start + first + len(chunk))
            rngs = [generator(seed, name, severity, position) for position in positions]
            out[first : first + step] = function(chunk, rngs, *row)
    return out


def check(images: Tensor, name: str, severity: int, seed: int, start: int) -> None:
    """Raise UserError for what `corrupt` does not take."""
    if name not in NAMES:
        raise UserError(f"no corruption is called {name!r}{nearest(str(name), NAMES)}")
    if isinstance(severity, bool) or severity not in SEVERITIES:
        raise UserError(f"{name}: expected a severity of 1, 2, 3, 4 or 5, got {severity!r}")
    numbers: dict[str, object] = {"seed": seed, "start": start}
    for what, number in numbers.items():
        if isinstance(number, bool) or not isinstance(number, Integral) or not 0 <= int(number) < 2**63:
            raise UserError(f"{name}: expected a whole number from 0 to 2**63 - 1 for `{what}`, got {number!r}")
    if not isinstance(images, Tensor):
        raise UserError(f"{name}: expected images as a tensor, uint8 [N,C,H,W], got {type(images).__name__}")
    if images.ndim != 4 or images.dtype != torch.uint8:
        kind = str(images.dtype).removeprefix("torch.")
        raise UserError(f"{name}: expected images as uint8 [N,C,H,W], got {kind} {list(images.shape)}")
    channels, height, width = images.shape[1:]
    if channels not in (1, 3):
        raise UserError(f"{name}: expected images of 1 channel (grey) or 3 (RGB), got {channels}")
    if min(height, width) < SMALLEST:
        raise UserError(f"{name}: expected images of at least {SMALLEST} x {SMALLEST} pixels, got {height} x {width}")
