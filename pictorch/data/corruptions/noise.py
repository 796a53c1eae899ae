"""Gaussian, shot and impulse noise: each value of each pixel and channel by itself, in float64 as NumPy does it.

Grey images have one draw a pixel, so that they stay grey.
"""

import numpy as np
import torch
from torch import Tensor

from pictorch.data.corruptions.draws import Array, Generators, drawn


def levels(values: Tensor) -> Tensor:
    """Return values of 0..1 as uint8: clipped, times 255, without what stands behind the point. Changes `values`.

    The benchmark's programs end with np.uint8, which does not round.
    """
    return values.clamp_(0, 1).mul_(255).to(torch.int16).to(torch.uint8)


def by_pixel(images: Tensor) -> Tensor:
    """Return uint8 [N,H,W,C], the order in which the programs draw; a view where it can be."""
    return images.permute(0, 2, 3, 1)


def gaussian_noise(images: Tensor, rngs: Generators, scale: float) -> Tensor:
    """Add independent N(0, scale**2)."""
    pixels = by_pixel(images)
    shape = pixels.shape[1:]
    noise = drawn(lambda rng: rng.normal(size=shape, scale=scale), images.device, rngs)
    return levels(noise.add_(pixels.double().div_(255))).permute(0, 3, 1, 2)


def shot_noise(images: Tensor, rngs: Generators, rate: float) -> Tensor:
    """Take Poisson counts of `rate` times the light, over `rate`."""
    rates = by_pixel(images).double().div_(255).mul_(rate).cpu().numpy()

    def draw(rng: np.random.Generator, rates: Array) -> Array:
        return rng.poisson(rates)

    return levels(drawn(draw, images.device, rngs, rates).double().div_(rate)).permute(0, 3, 1, 2)


def impulse_noise(images: Tensor, rngs: Generators, amount: float) -> Tensor:
    """Make this share of the values 0 or 255, with equal chances: scikit-image's random_noise, "s&p"."""

    def draw(rng: np.random.Generator, pixels: Array) -> Array:
        flipped = np.less_equal(rng.random(pixels.shape), amount)
        salted = np.less_equal(rng.random(pixels.shape), 0.5)
        new = pixels.copy()
        new[flipped] = np.where(salted[flipped], 255, 0)
        return new

    return drawn(draw, images.device, rngs, by_pixel(images).cpu().numpy()).permute(0, 3, 1, 2)
