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

import hashlib
import math
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from pictorch.data.parts import Part, Split

AREAS, KEPT, LEAST_COSINE = 16, 8, 0.9
# Of similarities at a time: 1,024 rows of 60,000 take 250 MB.
ROWS = 1024
# Each with each: 60,000 take 20 s on two cores, 100,000 a minute, ImageNet hours.
MOST_COMPARED = 100_000
MOST_DECODED = 10_000  # of files that are opened for nothing else: half a minute of photographs


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


class Overlap(NamedTuple):
    """Test images that are among the training images, too: places int64 [e] of those with equal pixels, and the
    near-duplicates (test image, training image); or why nobody looked, as `why_not` ("" if somebody did)."""

    equal: Tensor
    near: Pairs
    why_not: str = ""


def overlap(train: Part, test: Part) -> Overlap:
    """Return which images of the test part are in the training part, by their pixels and by `near_duplicates`.

    Grey images are compared by their pixels alone: four fifths of the digits of MNIST resemble another one that much.
    """
    nobody = Overlap(torch.empty(0, dtype=torch.int64), Pairs(torch.empty(0, 2, dtype=torch.int64), torch.empty(0)))
    if len(train) + len(test) > MOST_COMPARED:
        return nobody._replace(why_not=f"more than {MOST_COMPARED:,} images are not compared")
    if sum(len(part) for part in (train, test) if not isinstance(part, Split)) > MOST_DECODED:
        why = f"more than {MOST_DECODED:,} files are not decoded for it; `pictorch data verify` does"
        return nobody._replace(why_not=why)
    try:
        known, prints = looked_at(train)
        digests, mine = looked_at(test)
    except LookupError:
        return nobody._replace(why_not="the images come one after another and cannot be compared")
    among = set(known)
    equal = torch.tensor([i for i, digest in enumerate(digests) if digest in among], dtype=torch.int64)
    if mine.shape[1] != 3 * KEPT**2:
        return nobody._replace(equal=equal)
    return Overlap(equal, closest(mine, prints))


def looked_at(part: Part) -> tuple[list[bytes], Tensor]:
    """Return digest and fingerprint [N,64C] of each image of a part. Raises LookupError where it has no places."""

    def digest(image: Tensor) -> bytes:
        return hashlib.sha256(str(tuple(image.shape)).encode() + image.contiguous().numpy().tobytes()).digest()

    if isinstance(part, Split):
        return [digest(image) for image in part.images], fingerprints(part.images)
    read = part.read
    if not callable(read):
        raise LookupError
    with ThreadPoolExecutor(max_workers=2) as pool:
        rows = list(pool.map(lambda i: (digest(image := read(i)), fingerprints(image[None])), range(len(part))))
    return [row[0] for row in rows], torch.cat([row[1] for row in rows])
