"""Snow, frost, fog and brightness."""

import numpy as np
import torch
from torch import Tensor

from pictorch.data.corruptions.draws import Array, Generators, drawn
from pictorch.data.corruptions.filters import clipped_zoom, motion, plasma
from pictorch.data.corruptions.noise import levels


def snow(
    images: Tensor,
    rngs: Generators,
    mean: float,
    deviation: float,
    zoom: float,
    threshold: float,
    radius: float,
    sigma: float,
    kept: float,
) -> Tensor:
    """Whiten the image, and add flakes and the same flakes turned by 180 degrees.

    Flakes are N(mean, deviation**2) per pixel, magnified, 0 below the threshold, blurred along U(-135, -45) degrees,
    in 8 bits. The whitening takes the light's luma (for grey images the light itself).
    """
    shape = images.shape[2:]

    def draw(rng: np.random.Generator) -> Array:
        return rng.normal(size=shape, loc=mean, scale=deviation)

    layer = clipped_zoom(drawn(draw, images.device, rngs)[:, None], zoom)
    angles = [rng.uniform(-135, -45) for rng in rngs]
    flakes = motion(levels(layer.where(layer >= threshold, layer.new_zeros(()))), radius, sigma, angles)
    layer = flakes.double().div_(255)
    light = images.float().div_(255)
    white = torch.maximum(light, luma(light).mul_(1.5).add_(0.5)).mul_(1 - kept)
    light = white.add_(light * kept)
    return levels(light.double().add_(layer).add_(layer.flip(2, 3)))


def luma(light: Tensor) -> Tensor:
    """Return the luma [N,1,H,W] of light float32, as OpenCV weighs it; a copy of grey light."""
    if light.shape[1] == 1:
        return light.clone()
    red, green, blue = (light[:, channel : channel + 1] for channel in range(3))
    return (red * 0.299).add_(green, alpha=0.587).add_(blue, alpha=0.114)


def frost(
    images: Tensor, rngs: Generators, kept: float, added: float, small: bool, *, photographs: list[Array]
) -> Tensor:
    """Add a random part of one of the photographs uint8 [H,W,C] to the dimmed image.

    The programs scale the photographs to a fifth for CIFAR-10-C, with OpenCV's bilinear resize, which at that scale
    takes every fifth pixel, from the third on, of every fifth row. They choose among the first five photographs of
    their six.
    """
    height, width = images.shape[2:]
    scaled = [photograph[2::5, 2::5] if small else photograph for photograph in photographs]

    def draw(rng: np.random.Generator) -> Array:
        photograph = scaled[rng.integers(len(scaled))]
        top = rng.integers(0, photograph.shape[0] - height)
        left = rng.integers(0, photograph.shape[1] - width)
        return photograph[top : top + height, left : left + width]

    layer = drawn(draw, images.device, rngs).permute(0, 3, 1, 2)
    return (images.double().mul_(kept) + layer.double().mul_(added)).clamp_(0, 255).to(torch.int16).to(torch.uint8)


def fog(images: Tensor, rngs: Generators, amount: float, decay: float) -> Tensor:
    """Add plasma, then scale so that the image's largest value with all the plasma would become that value.

    The plasma's side is the least power of two that is not below the image's longer side: 32 and 256 in the benchmark.
    """
    height, width = images.shape[2:]
    side = 1 << (max(height, width) - 1).bit_length()
    uniform = drawn(lambda rng: rng.random(side * side - 1), images.device, rngs)
    light = images.double().div_(255)
    largest = light.amax((1, 2, 3), keepdim=True)
    light += plasma(uniform, decay)[:, None, :height, :width].mul(amount)
    return levels(light.mul_(largest).div_(largest + amount))


def brightness(images: Tensor, rngs: Generators, added: float) -> Tensor:
    """Add to the value of hue, saturation and value, by scikit-image's formulas; to grey light itself."""
    light = images.double().div_(255)
    if images.shape[1] == 1:
        return levels(light.add_(added))
    value = light.amax(1)
    delta = value - light.amin(1)
    red, green, blue = light.unbind(1)
    # Greys have 0 / 0 here; their saturation of 0 makes the hue indifferent.
    hue = torch.where(green == value, (blue - red) / delta + 2, (green - blue) / delta)
    hue = torch.where(blue == value, (red - green) / delta + 4, hue).div_(6).remainder_(1)
    grey = delta == 0
    saturation = (delta / value).masked_fill_(grey, 0)
    turn = hue.masked_fill_(grey, 0).mul_(6)
    value = (value + added).clamp_(0, 1)
    sextant = turn.floor()
    part = turn.sub_(sextant)
    low = value * (1 - saturation)
    falling = value * (1 - part * saturation)
    rising = value * (1 - (1 - part) * saturation)
    # Which of the four stands for red, green and blue in each sixth of the circle.
    choices = torch.stack([value, falling, low, rising])
    table = torch.tensor([[0, 1, 2, 2, 3, 0], [3, 0, 0, 1, 2, 2], [2, 2, 3, 0, 0, 1]], device=images.device)
    sextant = sextant.long().remainder_(6)
    return levels(torch.stack([choices.gather(0, row[sextant][None])[0] for row in table], 1))
