"""Holding out a part of a data set: fixed by the seed, in proportion by class, of the exact size asked for."""

import torch

from pictorch.config.errors import UserError
from pictorch.data.streams import generator


def split(
    labels: torch.Tensor, fraction: float, seed: int, *, stratified: bool = True, part: str = "validation"
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the indices (train, val) of a random split of `labels` int64 [N]: disjoint, sorted, int64, N together.

    val has round(N * fraction) images; if `stratified`, each class has its share of them but for rounding. The split
    depends on nothing but the arguments. Raises UserError, which calls it the `part` part, if a side would be empty.
    """
    count = round(len(labels) * fraction)
    if not 0 < count < len(labels):
        raise UserError(
            f"a {part} part of {fraction:g} of {len(labels):,} images has {count:,} images and leaves "
            f"{len(labels) - count:,} for training; both need at least one"
        )
    held_out = choose(labels if stratified else torch.zeros_like(labels), count, generator(seed, "split"))
    everything = torch.arange(len(labels))
    return everything[~held_out], everything[held_out]


def subset(labels: torch.Tensor, fraction: float, seed: int) -> torch.Tensor:
    """Return the sorted indices int64 of round(N * fraction) of N images, in proportion by class but for rounding.

    A class whose share rounds to nothing is absent. Raises UserError if no image, or more than all, would be kept.
    """
    count = round(len(labels) * fraction)
    if not 0 < count <= len(labels):
        raise UserError(
            f"a fraction of {fraction:g} of {len(labels):,} images is {count:,} images; "
            "expected at least one and at most all"
        )
    return torch.arange(len(labels))[choose(labels, count, generator(seed, "subset"))]


def choose(labels: torch.Tensor, count: int, draws: torch.Generator) -> torch.Tensor:
    """Return a mask bool [N] of `count` images: of each class its quota, those that come first in a random order."""
    order = torch.randperm(len(labels), generator=draws)
    mask = torch.zeros(len(labels), dtype=torch.bool)
    sizes = torch.bincount(labels)
    quotas = torch.tensor(apportion(sizes.tolist(), count))
    by_class = order[labels[order].argsort(stable=True)]
    rank = torch.arange(len(labels)) - (sizes.cumsum(0) - sizes).repeat_interleave(sizes)
    mask[by_class[rank < quotas.repeat_interleave(sizes)]] = True
    return mask


def apportion(sizes: list[int], count: int) -> list[int]:
    """Return `count` shared out in proportion to `sizes` by the largest remainders; the earlier class wins a tie."""
    total = sum(sizes)
    quotas = [size * count // total for size in sizes]
    by_remainder = sorted(range(len(sizes)), key=lambda k: -(sizes[k] * count % total))
    for k in by_remainder[: count - sum(quotas)]:
        quotas[k] += 1
    return quotas
