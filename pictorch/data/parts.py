"""A part of a set of images, for training, validation or test: in memory, or read when needed."""

from collections.abc import Callable, Generator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from pictorch.config.errors import UserError

Read = Callable[[], Tensor]


class InOrder(Protocol):
    """Images that can only be read one after another, such as those of shards behind a URL.

    `order` returns a random order int64 [n] that suits how they are read; `reads` yields, for each position of `order`
    from `start` on, a call that returns the decoded image. The calls are made in worker threads.
    """

    def order(self, draws: torch.Generator) -> Tensor: ...
    def reads(self, order: Tensor, start: int) -> Generator[Read, None, None]: ...


@dataclass(frozen=True, eq=False)
class Split:
    """Images uint8 [N,C,H,W] and labels int64 [N], on the CPU and contiguous."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def select(self, indices: Tensor) -> "Split":
        """Return the images and labels at `indices` int64 [M], in that order."""
        return Split(self.images[indices], self.labels[indices])


@dataclass(frozen=True, eq=False)
class Images:
    """Labels int64 [N], and images that are read when they are needed: `read` gives the one of a number, decoded.

    What it returns is uint8 [C,h,w], of any size; `source` gives the file that it is read from, or its bytes. Images
    that come one after another (`InOrder`) have no sources and cannot be selected.
    """

    read: Callable[[int], Tensor] | InOrder
    labels: Tensor
    source: Callable[[int], Path | BytesIO] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def select(self, indices: Tensor) -> "Images":
        """Return the images and labels at `indices` int64 [M], in that order. Raises UserError where that cannot be."""
        read, source, numbers = self.read, self.source, indices.tolist()
        if not callable(read) or source is None:
            raise UserError("images behind a URL come one after another and cannot be split; give each part its shards")
        return Images(lambda i: read(numbers[i]), self.labels[indices], lambda i: source(numbers[i]))


Part = Split | Images
