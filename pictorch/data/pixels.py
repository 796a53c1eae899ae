"""Pillow's operations on whole batches of uint8 images, equal in every pixel, and the colour jitter made of them.

Images are uint8 [B,C,S,S] with one or three channels, in any memory order; plain contiguous order is the fastest, for
what looks at a channel or a row at a time. Parameters are tensors of one number per image. The arithmetic, and where
it rounds, is that of Pillow's ImageEnhance, ImageOps, Image.transform and libImaging (Blend.c, Convert.c, Filter.c,
Geometry.c), as built for x86-64, without fused multiply-adds.
"""

from collections.abc import Callable
from functools import cache
from typing import final

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

# Larger pieces need memory that is fetched anew from the system each time: AugMix of 128 images of CIFAR-10 takes 21 ms
# on one thread in such pieces, 31 ms without.
CPU_IMAGES = 64


def on_(chosen: Tensor, images: Tensor, function: Callable[..., Tensor], *parameters: Tensor) -> None:
    """Put `function(images, *parameters)` in the place of those images that are chosen; bool [B].

    On the CPU only these are computed; elsewhere all, as their number may not be read back from the device.
    """
    (on_rows_ if images.device.type == "cpu" else on_all_)(chosen, images, function, *parameters)


def on_rows_(chosen: Tensor, images: Tensor, function: Callable[..., Tensor], *parameters: Tensor) -> None:
    rows = chosen.nonzero()[:, 0]
    for start in range(0, len(rows), CPU_IMAGES):
        piece = rows[start : start + CPU_IMAGES]
        new = function(images.index_select(0, piece), *(parameter[piece] for parameter in parameters))
        images.index_copy_(0, piece, new)


def on_all_(chosen: Tensor, images: Tensor, function: Callable[..., Tensor], *parameters: Tensor) -> None:
    images.copy_(torch.where(chosen[:, None, None, None], function(images, *parameters), images))


def whole(numbers: Tensor) -> Tensor:
    """Return numbers in 0..255 as uint8, without what stands behind the point."""
    # Straight to uint8 takes three times as long.
    return numbers.to(torch.int16).to(torch.uint8)


def blend_(start: Tensor, numbers: Tensor, factors: Tensor) -> Tensor:
    """Make `numbers` start + factor * (numbers - start), cut off to whole numbers in 0..255: Pillow's Image.blend.

    numbers: float32 [B,C,S,S]; start: float32 that fits it.
    """
    return numbers.sub_(start).mul_(factors.float()[:, None, None, None]).add_(start).clamp_(0, 255).floor_()


def luma(numbers: Tensor) -> Tensor:
    """Return the luma of ITU-R 601-2, whole numbers [B,1,S,S], of whole numbers float32 [B,C,S,S]."""
    if numbers.shape[1] == 1:
        return numbers.clone()
    # Below 2**24, so that float32 is exact.
    red, green, blue = (numbers[:, channel : channel + 1] for channel in range(3))
    total = (red * 19595).add_(green, alpha=38470).add_(blue, alpha=7471)
    return total.add_(2**15).mul_(2**-16).floor_()


def mean(luma: Tensor) -> Tensor:
    """Return the rounded mean of each image, float32 [B,1,1,1]; luma: whole numbers float32 [B,1,S,S]."""
    # The sums of rows are below 2**24; those of images may not be.
    total = luma.sum(3, keepdim=True).double().sum(2, keepdim=True)
    return total.div_(total.new_full((), luma.shape[2] * luma.shape[3])).add_(0.5).floor_().float()


def brightness(images: Tensor, factors: Tensor) -> Tensor:
    """Return the images between black (factor 0) and themselves (1), or beyond."""
    numbers = images.float()
    return whole(blend_(numbers.new_zeros(()), numbers, factors))


def contrast(images: Tensor, factors: Tensor) -> Tensor:
    """Return the images between the grey of their mean luma (factor 0) and themselves (1), or beyond."""
    numbers = images.float()
    return whole(blend_(mean(luma(numbers)), numbers, factors))


def color(images: Tensor, factors: Tensor) -> Tensor:
    """Return the images between their luma (factor 0) and themselves (1), or beyond; nothing for one channel."""
    numbers = images.float()
    return whole(blend_(luma(numbers), numbers, factors))


def sharpness(images: Tensor, factors: Tensor) -> Tensor:
    """Return the images between smoothed by 3x3 (factor 0) and themselves (1), or beyond; the outermost pixels stay."""
    return whole(blend_(smooth(images).float(), images.float(), factors))


def smooth(images: Tensor) -> Tensor:
    """Return the mean of each pixel, of weight 5, and its eight neighbours, rounded: Pillow's ImageFilter.SMOOTH."""
    if images.shape[2] < 3:
        return images
    numbers = images.to(torch.int16)
    across = numbers[..., :-2] + numbers[..., 1:-1] + numbers[..., 2:]
    total = across[:, :, :-2] + across[:, :, 1:-1] + across[:, :, 2:] + 4 * numbers[:, :, 1:-1, 1:-1]
    # No sum lies halfway between two multiples of 13, so that the rounding of float32 decides nothing.
    out = images.clone()
    out[:, :, 1:-1, 1:-1] = whole(total.float().mul_(1 / 13).add_(0.5))
    return out


def posterize(images: Tensor, bits: Tensor) -> Tensor:
    """Return the images with the highest `bits` of each number, 0..8, the others 0."""
    kept = (2**8 - 2.0 ** (8 - bits)).to(torch.uint8)
    return images & kept[:, None, None, None]


def solarize(images: Tensor, thresholds: Tensor) -> Tensor:
    """Return the images with the numbers that are not below the threshold, 0..256, inverted."""
    below = images < thresholds.ceil().to(torch.int16)[:, None, None, None]
    return images ^ below.view(torch.uint8).sub(1)  # all bits set where it is not below: torch.where is slower


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
    return whole(upper + (row(top + 1) - upper) * low_part) * inside[:, None]


def hue(images: Tensor, turns: Tensor) -> Tensor:
    """Return the images with the hue turned by this part of a circle, in [-0.5, 0.5]; nothing for one channel.

    The way through Pillow's uint8 HSV and back changes most images even for a turn of 0, as torchvision's adjust_hue
    on Pillow images does.
    """
    if images.shape[1] == 1:
        return images
    shifts = (turns.double() * 255).int().bitwise_and_(255).to(torch.uint8)
    hues, saturation, value = hsv(images)
    return rgb(hues + shifts[:, None, None], saturation, value)


def hsv(images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return hue, saturation and value, uint8 [B,S,S] each, of images of three channels."""
    red, green, blue = images.unbind(1)
    value, low = red.maximum(green).maximum(blue), red.minimum(green).minimum(blue)
    saturation = whole((value - low).float().mul_(255).div_(value.clamp(min=1).float()))
    red, green, blue = images.int().unbind(1)
    place = (red * 511).sub_(green, alpha=510).sub_(blue).add_(255 * 512)
    return hue_table(images.device).index_select(0, place.view(-1)).view(value.shape), saturation, value


@cache
def hue_table(device: torch.device) -> Tensor:
    """Return uint8 [511 * 511], Pillow's hue of every pair of red - green and green - blue, on which alone it depends.

    On another device the first call copies it there, which a CUDA graph cannot record: one step must come before.
    """
    # In arithmetic of torch's it takes 25 operations more on each image, three of them in float64.
    difference = torch.arange(-255, 256)
    green = difference.expand(511, 511)
    colours = torch.stack([difference[:, None] + green, green, torch.zeros_like(green)], 2)
    colours = (colours - colours.amin(2, keepdim=True)).clamp_(max=255).to(torch.uint8)
    hues = np.asarray(Image.fromarray(colours.numpy()).convert("HSV"))[:, :, 0]
    return torch.from_numpy(hues.flatten()).to(device)


def rgb(hues: Tensor, saturation: Tensor, value: Tensor) -> Tensor:
    """Return the images of what `hsv` gives, uint8 [B,3,S,S]."""
    hues, saturation, value = hues.float().mul_(6), saturation.float(), value.float()
    # What a channel falls below the value is a part of value * saturation, in units of 1 / 65025. All are whole numbers
    # below 2**24, and the quotient differs from a whole number by 1 / 65025 at least, which float32 tells apart below
    # 256. It is what Pillow's floating point comes to, for every hue, saturation and value.
    unit = value.new_full((), 255**2)
    depth, top = value * saturation, (value * unit).add_(255**2 // 2)
    parts = (510 - (hues - 765).abs_(), (hues - 510).abs_().sub_(255), (hues - 1020).abs_().sub_(255))
    channels = [whole((top - part.clamp_(0, 255).mul_(depth)).div_(unit)) for part in parts]
    return torch.stack(channels, 1)


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
        numbers = images.contiguous().float()
        places = {name: place for place, name in enumerate(self.ranges)}
        for turn in order.unbind(1):
            factor = factors.gather(1, turn[:, None])[:, 0]
            now = {name: turn == places.get(name, -1) for name in ("contrast", "saturation", "hue")}
            # All images at once, from whichever start is theirs: a third of the time of each kind's own images.
            grey = luma(numbers)
            level = mean(grey) * flags(now["contrast"])
            start = grey.mul_(flags(now["saturation"])).add_(level)
            blend_(start, numbers, factor.masked_fill(now["hue"], 1))
            if "hue" in places:
                on_(now["hue"], numbers, turned, factor)
        return whole(numbers).contiguous(memory_format=torch.channels_last)


def flags(chosen: Tensor) -> Tensor:
    return chosen.float()[:, None, None, None]


def turned(numbers: Tensor, turns: Tensor) -> Tensor:
    return hue(whole(numbers), turns).float()
