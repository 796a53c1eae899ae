"""Images that show the same picture: same pixels, or the same shot after scaling, re-coding or another treatment.

Definition. An image's fingerprint is made of its mean over 16 x 16 equal areas, per channel: the lowest 8 x 8
coefficients of the two-dimensional discrete cosine transform (which pHash takes, too: C. Zauner, Implementation and
Benchmarking of Perceptual Image Hash Functions, 2010), each times its frequency (u^2 + v^2)^(1/2), scaled to length 1.
Two images are near-duplicates if the cosine between their fingerprints is at least 0.9. The weight makes it the
correlation of gradients, to which brightness and contrast are nothing and smooth shading is little; other colours,
cropping and mirroring do change it.

What it finds in CIFAR-10, and how that compares with the published list of B. Barz and J. Denzler (Do We Train on Test
Data? Purging CIFAR of Near-Duplicates, arXiv:1902.00423), stands in docs/folders.md.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

AREAS, KEPT, LEAST_COSINE = 16, 8, 0.9
# Of similarities at a time: 1,024 rows of 60,000 take 250 MB.
ROWS = 1024


class Pairs(NamedTuple):
    """Places int64 [m,2] of images that resemble each other, and their cosines float32 [m], the largest first."""

    places: Tensor
    cosines: Tensor


def near_duplicates(images: Tensor, other: Tensor | None = None, *, least_cosine: float = LEAST_COSINE) -> Pairs:
    """Return the near-duplicates of `images` uint8 [N,C,H,W] among themselves, or of each in `other` uint8 [M,C,h,w].

    Each image is paired with the one that resembles it most, so that there are at most N pairs however many copies
    there are: (image, image in `other`), or without `other` two of `images`, the earlier first, each pair once.
    """
    return closest(fingerprints(images), None if other is None else fingerprints(other), least_cosine=least_cosine)


def fingerprints(images: Tensor) -> Tensor:
    """Return the fingerprints float32 [N,64C] of images uint8 [N,C,H,W]; that of one colour alone is 0."""
    n = torch.arange(AREAS, dtype=torch.float32)
    transform = (math.pi / AREAS * (n[None] + 0.5) * n[:KEPT, None]).cos()
    transform[0] /= math.sqrt(2)
    frequency = (n[:KEPT, None] ** 2 + n[None, :KEPT] ** 2).sqrt()
    chunks = []
    for start in range(0, len(images), 4 * ROWS):
        means = F.adaptive_avg_pool2d(images[start : start + 4 * ROWS].to(torch.float32), AREAS)
        chunks.append((frequency * (transform @ means @ transform.T)).flatten(1))
    prints = torch.cat(chunks) if chunks else torch.empty(0, images.shape[1] * KEPT**2)
    lengths = prints.norm(dim=1, keepdim=True)
    # What is left of one colour alone after rounding is no picture: steps of one grey level give lengths above 1.
    return torch.where(lengths > 0.1, prints / lengths, 0)


def closest(prints: Tensor, other: Tensor | None = None, *, least_cosine: float = LEAST_COSINE) -> Pairs:
    """Return what `near_duplicates` does, from fingerprints float32 [N,F] and [M,F]."""
    against = prints if other is None else other
    if not len(prints) or not len(against):
        return Pairs(torch.empty(0, 2, dtype=torch.int64), torch.empty(0))
    cosines, nearest = torch.empty(len(prints)), torch.empty(len(prints), dtype=torch.int64)
    for start in range(0, len(prints), ROWS):
        at = slice(start, start + ROWS)
        block = prints[at] @ against.T
        if other is None:
            block.diagonal(start).fill_(-1)
        cosines[at], nearest[at] = block.max(dim=1)
    numbers = torch.arange(len(prints))
    places = torch.stack([numbers, nearest], dim=1)
    kept = cosines >= least_cosine
    if other is None:
        places = places.sort(dim=1).values
        kept &= (numbers < nearest) | (nearest[nearest] != numbers)
    order = cosines[kept].argsort(descending=True, stable=True)
    return Pairs(places[kept][order], cosines[kept][order])
