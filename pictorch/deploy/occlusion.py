"""What becomes of an answer when parts of the image are covered: maps of it, and tests of anybody's heat-map by it.

Occlusion: "Visualizing and Understanding Convolutional Networks", M. Zeiler, R. Fergus, arXiv:1311.2901, section 4.2.
Deletion and insertion: "RISE", V. Petsiuk, A. Das, K. Saenko, arXiv:1806.07421, section 4.3; here in cells, not pixels.

Images are normalised, [C,S,S]; what is covered is 0 in them: the mean of the training images. `answers` is a function
of images [N,C,S,S] that returns the probability [N] of the class in question.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise, product

import torch
from torch import Tensor

Answers = Callable[[Tensor], Tensor]

BATCH = 64
CELLS = 8  # a side of the image, for deletion and insertion
STEPS = 16  # from the whole image to none of it
ORDERS = 4  # random ones that a heat-map's is held against


@dataclass(frozen=True)
class Occlusion:
    """A square of `patch` pixels at each of `positions` x `positions`: how far the probability falls, drops [n,n]."""

    drops: Tensor
    positions: tuple[int, ...]
    patch: int
    size: int

    def pixels(self) -> Tensor:
        """Return float32 [S,S]: for each pixel the mean drop of the squares that cover it."""
        total, count = torch.zeros(2, self.size, self.size)
        for (i, top), (j, left) in product(enumerate(self.positions), repeat=2):
            total[top : top + self.patch, left : left + self.patch] += self.drops[i, j]
            count[top : top + self.patch, left : left + self.patch] += 1
        mean: Tensor = total / count
        return mean

    def under(self, heat: Tensor) -> Tensor:
        """Return the mean [n,n] of a map [S,S] under each square."""
        squares = [
            heat[top : top + self.patch, left : left + self.patch].mean()
            for top, left in product(self.positions, repeat=2)
        ]
        return torch.stack(squares).view_as(self.drops)


@dataclass(frozen=True)
class Check:
    """Whether a heat-map says what the network goes by.

    `agreement` is the rank correlation with the drops of an occlusion, 0 where one of them is flat, None for the map
    of that occlusion itself. `deletion` and `insertion` are the mean probability while the image is covered, or
    uncovered, the hottest cells first; `random_...` the mean of the same over random orders, and a flat map's, too.
    """

    agreement: float | None
    deletion: float
    insertion: float
    random_deletion: float
    random_insertion: float

    @property
    def holds(self) -> dict[str, bool]:
        """Which tests are passed: it agrees with occlusion, falls sooner and rises sooner than in random orders."""
        passed = {
            "deletion": self.deletion < self.random_deletion,
            "insertion": self.insertion > self.random_insertion,
        }
        return passed if self.agreement is None else {"agreement": self.agreement > 0, **passed}


def occlude(answers: Answers, image: Tensor, patch: int | None = None) -> Occlusion:
    """Cover each square of `patch` pixels (a quarter of the side unless given), half a square further each time."""
    size = image.shape[2]
    patch = patch or max(size // 4, 1)
    assert patch <= size
    # The last one ends with the image, so that every pixel is covered.
    positions = (*range(0, size - patch, max(patch // 2, 1)), size - patch)

    def covered(top: int, left: int) -> Tensor:
        other = image.clone()
        other[:, top : top + patch, left : left + patch] = 0
        return other

    images = [image, *(covered(top, left) for top, left in product(positions, repeat=2))]
    whole, *others = in_batches(answers, images)
    drops = torch.stack([whole - other for other in others]).view(len(positions), len(positions))
    return Occlusion(drops, positions, patch, size)


def check(answers: Answers, image: Tensor, heat: Tensor, occlusion: Occlusion | None) -> Check:
    """Return the tests of a heat-map [S,S] of the image; without an occlusion, those of the other kind."""
    size = image.shape[2]
    cells = cells_of(size)
    values = torch.stack([heat[rows, columns].mean() for rows, columns in cells])
    draws = torch.Generator().manual_seed(0)
    orders = [values.argsort(descending=True, stable=True)]
    orders += [torch.randperm(len(cells), generator=draws) for _ in range(ORDERS)]
    images = [path for order in orders for path in (*deleted(image, cells, order), *inserted(image, cells, order))]
    probabilities = torch.stack(in_batches(answers, images)).view(len(orders), 2, -1)
    areas = torch.trapezoid(probabilities, dx=1 / (probabilities.shape[2] - 1), dim=2)
    random = areas[1:].mean(0)
    # A flat map gives no order: what would be tested is that of the rows.
    own = areas[0] if heat.min() < heat.max() else random
    agreement = rank_correlation(occlusion.under(heat), occlusion.drops) if occlusion is not None else None
    return Check(agreement, *own.tolist(), *random.tolist())


def in_batches(answers: Answers, images: Iterable[Tensor]) -> list[Tensor]:
    """Return the probability of each image, as many at a time as BATCH."""
    batches = torch.split(torch.stack(list(images)), BATCH)
    return [each for batch in batches for each in answers(batch).unbind()]


def cells_of(size: int) -> list[tuple[slice, slice]]:
    """Return the image in CELLS x CELLS squares, or where it has no more pixels in so many, row by row."""
    count = min(CELLS, size)
    edges = [round(i * size / count) for i in range(count + 1)]
    parts = [slice(low, high) for low, high in pairwise(edges)]
    return [(rows, columns) for rows in parts for columns in parts]


def counts(cells: int) -> list[int]:
    """Return how many cells are covered at each of the steps, from none to all."""
    steps = min(STEPS, cells)
    return [round(step * cells / steps) for step in range(steps + 1)]


def deleted(image: Tensor, cells: list[tuple[slice, slice]], order: Tensor) -> list[Tensor]:
    """Return the image with no cell covered, then more and more of them in their order, then all."""
    return [with_cells(image, torch.zeros_like(image), cells, order[:count]) for count in counts(len(cells))]


def inserted(image: Tensor, cells: list[tuple[slice, slice]], order: Tensor) -> list[Tensor]:
    """Return nothing of the image, then more and more of its cells in their order, then all."""
    return [with_cells(torch.zeros_like(image), image, cells, order[:count]) for count in counts(len(cells))]


def with_cells(image: Tensor, other: Tensor, cells: list[tuple[slice, slice]], chosen: Tensor) -> Tensor:
    """Return the image with the chosen cells of the other."""
    mixed = image.clone()
    for cell in chosen.tolist():
        rows, columns = cells[cell]
        mixed[:, rows, columns] = other[:, rows, columns]
    return mixed


def rank_correlation(one: Tensor, other: Tensor) -> float:
    """Return Spearman's rank correlation of two maps, equal values sharing their mean rank; 0 where one is flat."""
    ranks = torch.stack([ranked(one.flatten()), ranked(other.flatten())])
    ranks = ranks - ranks.mean(1, keepdim=True)
    lengths = ranks.norm(dim=1)
    return float(ranks[0] @ ranks[1] / lengths.prod()) if bool(lengths.all()) else 0.0


def ranked(values: Tensor) -> Tensor:
    """Return the rank of each value, float64 from 1; equal ones have the mean of theirs."""
    _, places, together = torch.unique(values, return_inverse=True, return_counts=True)
    last = together.cumsum(0)
    ranks: Tensor = (last - (together - 1) / 2).double()[places]
    return ranks
