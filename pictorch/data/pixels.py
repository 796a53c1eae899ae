"""Pillow's operations on whole batches of uint8 images, equal in every pixel, and the colour jitter made of them.

Images are uint8 [B,C,S,S] with one or three channels, in any memory order; plain contiguous order is the fastest, for
what looks at a channel or a row at a time. Parameters are tensors of one number per image. The arithmetic, and where
it rounds, is that of Pillow's ImageEnhance, ImageOps, Image.transform and libImaging (Blend.c, Convert.c, Filter.c,
Geometry.c), as built for x86-64, without fused multiply-adds.
"""

from collections.abc import Callable
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor

# Larger pieces need memory that is fetched anew from the system each time.
CPU_IMAGES = 32


def on(chosen: Tensor, images: Tensor, function: Callable[..., Tensor], *parameters: Tensor) -> Tensor:
    """Return the images with `function(images, *parameters)` in place of those that are chosen; bool [B].

    On the CPU only these are computed; elsewhere all, as their number may not be read back from the device.
    """
    if images.device.type != "cpu":
        return function(images, *parameters).where(chosen[:, None, None, None], images)
    rows = chosen.nonzero()[:, 0]
    if not len(rows):
        return images
    out = images.clone()
    for start in range(0, len(rows), CPU_IMAGES):
        piece = rows[start : start + CPU_IMAGES]
        out[piece] = function(images[piece], *(parameter[piece] for parameter in parameters))
    return out


def blend(start: Tensor, images: Tensor, factors: Tensor) -> Tensor:
    """Return start + factor * (images - start), cut off to whole numbers in 0..255: Pillow's Image.blend."""
    start = start.float()
    out = (images.float() - start).mul_(factors.float()[:, None, None, None]).add_(start)
    return out.clamp_(0, 255).to(torch.uint8)


def grey(images: Tensor) -> Tensor:
    """Return the luma of ITU-R 601-2, uint8 [B,1,S,S]; images of one channel as they are."""
    if images.shape[1] == 1:
        return images
    # Whole numbers below 2**24, so that float32 is exact.
    red, green, blue = images.float().unbind(1)
    luma = (red * 19595).add_(green * 38470).add_(blue * 7471).add_(2**15).mul_(2**-16)
    return luma.to(torch.uint8)[:, None]


def brightness(images: Tensor, factors: Tensor) -> Tensor:
    """Return the images between black (factor 0) and themselves (1), or beyond."""
    return blend(images.new_zeros(1), images, factors)


def contrast(images: Tensor, factors: Tensor) -> Tensor:
    """Return the images between the grey of their mean luma (factor 0) and themselves (1), or beyond."""
    luma = grey(images).flatten(1)
    count = luma.shape[1]
    mean = (2 * luma.sum(1) + count) // (2 * count)
    return blend(mean[:, None, None, None], images, factors)


def color(images: Tensor, factors: Tensor) -> Tensor:
    """Return the images between their grey (factor 0) and themselves (1), or beyond; nothing for one channel."""
    return images if images.shape[1] == 1 else blend(grey(images), images, factors)


def sharpness(images: Tensor, factors: Tensor) -> Tensor:
    """Return the images between smoothed by 3x3 (factor 0) and themselves (1), or beyond; the outermost pixels stay."""
    return blend(smooth(images), images, factors)


def smooth(images: Tensor) -> Tensor:
    """Return the mean of each pixel, of weight 5, and its eight neighbours, rounded: Pillow's ImageFilter.SMOOTH."""
    if images.shape[2] < 3:
        return images
    numbers = images.to(torch.int16)
    across = numbers[..., :-2] + numbers[..., 1:-1] + numbers[..., 2:]
    total = across[:, :, :-2] + across[:, :, 1:-1] + across[:, :, 2:] + 4 * numbers[:, :, 1:-1, 1:-1]
    # No sum lies halfway between two multiples of 13, so that the rounding of float32 decides nothing.
    out = images.clone()
    out[:, :, 1:-1, 1:-1] = total.float().mul_(1 / 13).add_(0.5).to(torch.uint8)
    return out


def posterize(images: Tensor, bits: Tensor) -> Tensor:
    """Return the images with the highest `bits` of each number, 0..8, the others 0."""
    kept = (2**8 - 2.0 ** (8 - bits)).to(torch.uint8)
    return images & kept[:, None, None, None]


def solarize(images: Tensor, thresholds: Tensor) -> Tensor:
    """Return the images with the numbers that are not below the threshold, 0..256, inverted."""
    lowest = thresholds.ceil().to(torch.int16)[:, None, None, None]
    return images.where(images < lowest, ~images)


def invert(images: Tensor) -> Tensor:
    """Return 255 minus the images."""
    return ~images


def lookup(images: Tensor, tables: Tensor) -> Tensor:
    """Return each number's entry in its image's and channel's table; tables: uint8 [B,C,256]."""
    return tables.gather(2, images.flatten(2).long()).view(images.shape)


def autocontrast(images: Tensor) -> Tensor:
    """Return the images with each channel stretched to 0..255; a channel of a single value stays."""
    values = images.flatten(2)
    low, high = (side[:, :, None].double() for side in (values.amin(2), values.amax(2)))
    flat = high <= low
    levels = torch.arange(256, dtype=torch.float64, device=images.device)
    # Divided by a tensor: of a number, torch takes the reciprocal, which rounds twice.
    scale = levels[255] / (high - low).masked_fill(flat, 1)
    stretched = (levels * scale + -low * scale).clamp_(0, 255)
    return lookup(images, levels.where(flat, stretched).to(torch.uint8))


def equalize(images: Tensor) -> Tensor:
    """Return the images with each channel's histogram made as even as a table can; a channel of few values may stay."""
    values = images.flatten(2).long()
    pixels = values.shape[2]
    one = torch.ones((), dtype=torch.int32, device=images.device)
    counts = torch.zeros(*values.shape[:2], 256, dtype=torch.int32, device=images.device)
    counts.scatter_add_(2, values, one.expand_as(values))
    step = (pixels - counts.gather(2, values.amax(2, keepdim=True))) // 255
    below = counts.cumsum(2, dtype=torch.int32) - counts
    table = ((below + step // 2) // step.clamp(min=1)).clamp_(max=255)
    levels = torch.arange(256, dtype=torch.int32, device=images.device)
    return lookup(images, levels.where(step == 0, table).to(torch.uint8))


def affine(images: Tensor, matrices: Tensor) -> Tensor:
    """Return the images whose pixel (x, y) is the one at (a x + b y + c, d x + e y + f), black where that is outside.

    matrices: float64 [B,6], (a, b, c, d, e, f). Image.transform with AFFINE and NEAREST, for sides and shifts together
    below 32,768 pixels.
    """
    size = images.shape[2]
    a, b, c, d, e, f = matrices.unbind(1)
    corner = torch.stack([a, b, c + a * 0.5 + b * 0.5, d, e, f + d * 0.5 + e * 0.5])
    a, b, c, d, e, f = (corner * 65536 + 0.5).floor().int()[:, :, None, None].unbind()
    across = torch.arange(size, dtype=torch.int32, device=images.device)
    down = across[:, None]
    x = (c + b * down + a * across).bitwise_right_shift_(16).clamp_(-1, size)
    y = (f + e * down + d * across).bitwise_right_shift_(16).clamp_(-1, size)
    # A black border takes in all places outside, so that the gather needs no mask.
    place = ((y + 1) * (size + 2) + (x + 1)).long().flatten(1)[:, None].expand(-1, images.shape[1], -1)
    return F.pad(images, [1] * 4).flatten(2).gather(2, place).view(images.shape)


def affine_bilinear(images: Tensor, matrices: Tensor) -> Tensor:
    """Return what `affine` does with BILINEAR: a mean of four pixels, in float64, cut off to whole numbers."""
    size = images.shape[2]
    a, b, c, d, e, f = matrices[:, :, None, None].unbind(1)
    across = torch.arange(size, dtype=torch.float64, device=images.device) + 0.5
    down = across[:, None]
    x, y = a * across + b * down + c, d * across + e * down + f
    inside = (x >= 0) & (x < size) & (y >= 0) & (y < size)
    x, y = x - 0.5, y - 0.5
    left, top = x.floor(), y.floor()
    right_part, low_part = (x - left)[:, None], (y - top)[:, None]
    pixels = images.flatten(2)

    def row(top: Tensor) -> Tensor:
        first = top.clamp(0, size - 1).long() * size
        at = (first + (left + step).clamp(0, size - 1).long() for step in (0, 1))
        near, far = (pixels.gather(2, place.flatten(1)[:, None].expand(-1, images.shape[1], -1)) for place in at)
        near, far = near.view(images.shape).double(), far.view(images.shape).double()
        return near + (far - near) * right_part

    upper = row(top)
    return (upper + (row(top + 1) - upper) * low_part).to(torch.uint8) * inside[:, None]


def hue(images: Tensor, turns: Tensor) -> Tensor:
    """Return the images with the hue turned by this part of a circle, in [-0.5, 0.5]; nothing for one channel.

    The way through Pillow's uint8 HSV and back changes most images even for a turn of 0, as torchvision's adjust_hue
    on Pillow images does.
    """
    if images.shape[1] == 1:
        return images
    shifts = (turns.double() * 255).to(torch.int32)[:, None, None]
    hues, saturation, value = hsv(images)
    return rgb((hues + shifts) & 255, saturation, value)


def hsv(images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return hue, int32, and saturation and value, float32: whole numbers in 0..255, each [B,S,S]."""
    numbers = images.float()
    red, green, _ = numbers.unbind(1)
    value, low = numbers.amax(1), numbers.amin(1)
    spread = (value - low).clamp_(min=1)  # where it is 0, all three differences are 0 and so are hue and saturation
    r, g, b = ((value[:, None] - numbers) / spread[:, None]).unbind(1)
    hues = torch.where(green == value, (2.0 + r.double() - b).float(), (4.0 + g.double() - r).float())
    hues = torch.where(red == value, b - g, hues)
    hues = (hues.double().div_(6).add_(1).remainder_(1)).float()
    saturation = ((value - low) / value.clamp(min=1)).double().mul_(255).floor_().float()
    return hues.double().mul_(255).int(), saturation, value


def rgb(hues: Tensor, saturation: Tensor, value: Tensor) -> Tensor:
    """Return the images of what `hsv` gives, uint8 [B,3,S,S]."""
    sixths = hues.double().mul_(6).div_(255)
    sector = sixths.floor()
    part = (sixths - sector).float()
    strength = (saturation.double() / 255).float()
    sector = sector.to(torch.uint8)
    full = value.to(torch.uint8)
    least, falling, rising = (
        (value * (1.0 - lack.double())).add_(0.5).to(torch.uint8)
        for lack in (strength, strength * part, strength.double() * (1.0 - part.double()))
    )
    # Which of the four a channel takes in sectors 0..6; green is red two sectors later, blue four.
    red = select(sector, (full, falling, least, least, rising, full, full))
    green = select(sector, (rising, full, full, falling, least, least, rising))
    blue = select(sector, (least, least, rising, full, full, falling, least))
    return torch.stack([red, green, blue], 1)


def select(index: Tensor, values: tuple[Tensor, ...]) -> Tensor:
    """Return values[i] where `index` is i, pixel by pixel."""
    out = values[0]
    for i, value in enumerate(values):
        if value is not values[0]:
            out = value.where(index == i, out)
    return out


JITTERS = {"brightness": brightness, "contrast": contrast, "saturation": color, "hue": hue}


@final
class Jitter:
    """Random brightness, contrast, saturation and hue, in a random order for each image: torchvision's ColorJitter.

    The factors of the first three are uniform in [max(0, 1 - x), 1 + x], the turn of the hue in [-x, x]. What is 0 is
    left out. Images of one channel have no saturation and no hue.
    """

    name = "jitter"
    stage = "pixels"

    def __init__(
        self, *, brightness: float = 0.0, contrast: float = 0.0, saturation: float = 0.0, hue: float = 0.0
    ) -> None:
        """Raise ValueError for negative numbers and for a hue above 0.5."""
        factors = {"brightness": brightness, "contrast": contrast, "saturation": saturation}
        if not all(0 <= x < float("inf") for x in factors.values()) or not 0 <= hue <= 0.5:
            raise ValueError(
                "jitter: expected brightness, contrast and saturation of at least 0 and hue in [0, 0.5], "
                f"got {brightness:g}, {contrast:g}, {saturation:g} and {hue:g}"
            )
        self.ranges = {name: (max(0.0, 1 - x), 1 + x) for name, x in factors.items() if x}
        if hue:
            self.ranges["hue"] = (-hue, hue)

    def draw(self, n: int, image_size: int, draws: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return factors float32 [n,K] of the K operations that are on, and int64 [n,K]: which of them comes when."""
        uniform = torch.rand(n, len(self.ranges), generator=draws)
        low, high = torch.tensor(list(self.ranges.values())).view(-1, 2).unbind(1)
        order = torch.rand(n, len(self.ranges), generator=draws).argsort(1)
        return low + (high - low) * uniform, order

    def __call__(self, images: Tensor, factors: Tensor, order: Tensor) -> Tensor:
        """Return the images, uint8 [B,C,S,S] in channels_last order."""
        images = images.contiguous()
        for turn in order.unbind(1):
            for i, name in enumerate(self.ranges):
                images = on(turn == i, images, JITTERS[name], factors[:, i])
        return images.contiguous(memory_format=torch.channels_last)
