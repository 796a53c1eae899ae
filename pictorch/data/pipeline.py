"""Pixels in, a batch out: crop and flip, steps on pixels, normalising, steps on values, mixes, in this order.

Both loaders, resident and streaming, finish their batches here, so that an image goes through the same whatever it was
read from. Every random number is a function of (seed, epoch, position of the image in the epoch), or for mixes of
(seed, epoch, batch): `draw` makes those of a whole epoch, the call uses the rows of one batch.
"""

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple, Protocol, final

import numpy as np
import torch
from torch import Tensor

from pictorch.data.augment import (
    coefficients,
    crop_flip,
    draw_alternating_flips,
    draw_crop_offsets,
    draw_flips,
    normalise,
    pad,
)
from pictorch.data.erasing import Cutout, RandomErasing
from pictorch.data.mix import smooth
from pictorch.data.streams import generator, numpy_generator

IMAGES_AT_ONCE = 4096
# What document 1's program drew from NumPy in its loader's workers, which is what `repeat_draws` is about.
REPEATED = {Cutout.name, RandomErasing.name}

Flip = Literal[False, True, "alternating"]


class Batch(NamedTuple):
    """Images float32 [V*B,C,H,W] in channels_last order, target distributions float32 [B,K], labels int64 [B].

    V is the number of views of each image, 1 but where a loss compares several: all first views, all second ...
    """

    images: Tensor
    targets: Tensor
    labels: Tensor


class Share(NamedTuple):
    """The part `number` (from 0) of `of` consecutive ones, as equal as can be."""

    number: int
    of: int

    def positions(self, n: int) -> slice:
        """Return which of n this is."""
        return slice(self.number * n // self.of, (self.number + 1) * n // self.of)

    def take(self, batch: Batch, views: int) -> Batch:
        """Return the part of a batch, with all `views` of its images."""
        at = self.positions(len(batch.labels))
        images = [view[at] for view in batch.images.chunk(views)]
        return Batch(torch.cat(images) if views > 1 else images[0], batch.targets[at], batch.labels[at])


WHOLE = Share(0, 1)


class Step(Protocol):
    """An augmentation of each image on its own.

    Steps of the stage "pixels" take uint8 [B,C,H,W] after the crop and flip, those of the stage "values" take the
    normalised float32. `draw` returns tensors whose row i is for position i of an epoch of n; the call takes the rows
    of one batch, on the images' device, and is pure. A step with `views` returns that many times the images.
    """

    name: str
    stage: str

    def draw(self, n: int, image_size: int, draws: torch.Generator) -> tuple[Tensor, ...]: ...

    @property
    def __call__(self) -> Callable[..., Tensor]: ...  # of images and what was drawn


class Mix(Protocol):
    """A mixture of the images of a batch with one another, and of their targets.

    `draw` returns tensors whose row b is for batch b of the epoch.
    """

    name: str

    def draw(
        self, batches: int, batch_size: int, image_size: int, numbers: np.random.Generator
    ) -> tuple[Tensor, ...]: ...

    @property
    def __call__(self) -> Callable[..., tuple[Tensor, Tensor]]: ...  # of images, targets and what was drawn


class Rows(NamedTuple):
    """The random numbers of a batch: crop offsets [B,2], flips [B] and rows of each step; the mix that it gets (its
    index, on the host) and that one's row."""

    offsets: Tensor
    flips: Tensor
    steps: tuple[tuple[Tensor, ...], ...]
    choice: int
    mix: tuple[Tensor, ...]


class Drawn(NamedTuple):
    """The random numbers of an epoch: per position crop offsets [n,2], flips [n] and rows of each step; per batch the
    mix that it gets (its index, on the host) and the rows of each mix."""

    offsets: Tensor
    flips: Tensor
    steps: tuple[tuple[Tensor, ...], ...]
    choices: tuple[int, ...]
    mixes: tuple[tuple[Tensor, ...], ...]

    def rows(self, at: slice, batch: int) -> Rows:
        """Return those of batch number `batch`, its positions `at`."""
        choice = self.choices[batch]
        return Rows(
            offsets=self.offsets[at],
            flips=self.flips[at],
            steps=tuple(tuple(tensor[at] for tensor in tensors) for tensors in self.steps),
            choice=choice,
            mix=tuple(tensor[batch] for tensor in self.mixes[choice]) if self.mixes else (),
        )


class Feed(NamedTuple):
    """All that a batch is made of, on the device: what the loader reads images by (int64 [B], their numbers) or the
    images themselves (uint8 [B,C,S,S]), labels int64 [B], the part of each that is cut out (int64 [B,4], or None), and
    the random numbers. Which batch of an epoch it is shows in the tensors' values alone, so that a captured step takes
    the next one by copying it over the last."""

    images: Tensor
    labels: Tensor
    boxes: Tensor | None
    rows: Rows


@final
class Pipeline:
    """What becomes of images between the data set and the network. Without a keyword but the first five: evaluation.

    `mean` and `std` are of images in [0, 1]; `mean` is per channel, or an image [C,H,W] that is subtracted pixel by
    pixel from what the crop gives. A crop has `crop_size` pixels a side, the image's own without. With `repeat_draws`
    Cutout and Random Erasing draw what so many loader workers do that nobody seeds: worker w of W makes the batches w,
    w + W, w + 2 W ..., and each of them, in every epoch, goes through the same numbers.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        image_size: int,
        mean: Sequence[float] | Tensor,
        std: Sequence[float],
        device: torch.device | str,
        seed: int = 0,
        crop_padding: int = 0,
        crop_size: int | None = None,
        padding_mode: str = "constant",
        flip: Flip = False,
        steps: Sequence[Step] = (),
        mixes: Sequence[Mix] = (),
        label_smoothing: float = 0.0,
        repeat_draws: int | None = None,
    ) -> None:
        self.device, self.seed = torch.device(device), seed
        self.image_size, self.crop_padding, self.padding_mode, self.flip = image_size, crop_padding, padding_mode, flip
        if len(std) != len(mean):
            raise ValueError(f"{len(mean)} means, {len(std)} stds")
        self.channels = len(std)
        means, stds = (torch.as_tensor(each, dtype=torch.float32) for each in (mean, std))
        self.crop_size, self.repeat_draws = crop_size or image_size, repeat_draws
        assert self.crop_size <= image_size + 2 * crop_padding
        self.scale, self.shift = (each.to(self.device) for each in coefficients(means, stds, self.crop_size))
        order = {"pixels": 0, "values": 1}
        self.steps = sorted(steps, key=lambda step: order[step.stage])
        self.mixes = tuple(mixes)
        self.views = max((getattr(step, "views", 1) for step in self.steps), default=1)
        self.targets = smooth(torch.eye(num_classes, device=self.device), label_smoothing)

    def draw(self, epoch: int, order: Tensor, *, size_of_set: int, batch_size: int) -> Drawn:
        """Return the random numbers of epoch number `epoch`; order: int64 [n], the image at each position."""
        n, size = len(order), self.crop_size
        batches = -(-n // batch_size)
        choices = (0,) * batches
        if len(self.mixes) > 1:
            chosen = numpy_generator(self.seed, epoch, "mix").integers(len(self.mixes), size=batches)
            choices = tuple(chosen.tolist())
        crops, larger = generator(self.seed, epoch, "crop"), self.crop_size - self.image_size
        return Drawn(
            offsets=draw_crop_offsets(n, self.crop_padding, crops, larger=larger).to(self.device),
            flips=self.draw_flips(epoch, order, size_of_set).to(self.device),
            steps=tuple(self.placed(self.draw_step(step, epoch, n, batch_size)) for step in self.steps),
            choices=choices,
            mixes=tuple(
                self.placed(mix.draw(batches, batch_size, size, numpy_generator(self.seed, epoch, mix.name)))
                for mix in self.mixes
            ),
        )

    def draw_step(self, step: Step, epoch: int, n: int, batch_size: int) -> tuple[Tensor, ...]:
        """Return what a step draws for the n positions of an epoch."""
        if self.repeat_draws is None or step.name not in REPEATED:
            return step.draw(n, self.crop_size, generator(self.seed, epoch, step.name))
        # Position p is number p % batch_size of its batch, which is its worker's batch number p // (workers * batch).
        positions = torch.arange(n)
        rows = positions // (self.repeat_draws * batch_size) * batch_size + positions % batch_size
        drawn = step.draw(int(rows.max()) + 1, self.crop_size, generator(self.seed, step.name))
        return tuple(tensor[rows] for tensor in drawn)

    def placed(self, drawn: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return tuple(tensor.to(self.device) for tensor in drawn)

    def draw_flips(self, epoch: int, order: Tensor, size_of_set: int) -> Tensor:
        """Return bool [n], on the CPU: whether the image at each position is mirrored."""
        if self.flip == "alternating":
            return draw_alternating_flips(order, epoch, size_of_set, generator(self.seed, "flip"))
        return draw_flips(len(order), generator(self.seed, epoch, "flip")) & self.flip

    def source(self, images: Tensor) -> Tensor:
        """Return images uint8 [M,C,S,S] on the device as the call needs them: padded, and with their mirror images."""
        n, channels, side = len(images), self.channels, self.image_size + 2 * self.crop_padding
        source = torch.empty(
            (2 * n if self.flip else n, channels, side, side),
            dtype=torch.uint8,
            device=images.device,
            memory_format=torch.channels_last,
        )
        # Piece by piece into its place: padding and mirroring all of CIFAR-10 at once held 0.4 GB more for a moment.
        for start in range(0, n, IMAGES_AT_ONCE):
            padded = pad(images[start : start + IMAGES_AT_ONCE], self.crop_padding, self.padding_mode)
            source[start : start + len(padded)] = padded
            if self.flip:
                source[n + start : n + start + len(padded)] = padded.flip(3)
        return source

    def __call__(self, source: Tensor, index: Tensor, labels: Tensor, rows: Rows) -> Batch:
        """Return a batch.

        source: what `source` made of the images; index: int64 [B], which of them; labels: int64 [B].
        """
        flips = rows.flips if self.flip else None
        images = crop_flip(source, index, rows.offsets, flips, self.crop_size)
        for step, row in zip(self.steps, rows.steps, strict=True):
            if step.stage == "pixels":
                images = step(images, *row)
        values = normalise(images, self.scale, self.shift)
        for step, row in zip(self.steps, rows.steps, strict=True):
            if step.stage == "values":
                values = step(values, *row)
        targets = self.targets[labels]
        if self.mixes:
            values, targets = self.mixes[rows.choice](values, targets, *rows.mix)
        return Batch(values, targets, labels)
