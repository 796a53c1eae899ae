"""What every loader has, and the one of a data set that lies on the device, whole, as uint8.

The resident loader has no workers and copies nothing but one gather a batch.
"""

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Generator
from typing import final

import torch
from torch import Tensor

from pictorch.config.errors import UserError
from pictorch.data.geometry import ResizedCrop
from pictorch.data.parts import Split
from pictorch.data.pipeline import WHOLE, Batch, Feed, Pipeline, Share
from pictorch.data.streams import generator


class Loader(ABC):
    """Images with their labels, and the epochs over them, as `pipeline` makes them.

    An epoch is a pure function of (seed, epoch), the seed being the pipeline's. `shuffle` draws the order; without it
    and with a pipeline that augments nothing a loader serves evaluation: every image once, in order. Of each batch it
    gives the `share` of one of several processes, as that part of the whole batch is.
    """

    def __init__(
        self,
        *,
        labels: Tensor,
        pipeline: Pipeline,
        batch_size: int,
        shuffle: bool,
        drop_last: bool,
        share: Share = WHOLE,
    ) -> None:
        """Put the labels int64 [n] on the pipeline's device.

        Raises UserError for a batch larger than the data where `drop_last` would leave no batch at all, ValueError for
        labels that are not of the pipeline's classes.
        """
        n = len(labels)
        if n == 0 or batch_size < 1:
            raise UserError(f"batches of {batch_size:,} of {n:,} images: both must be at least 1")
        if drop_last and batch_size > n:
            raise UserError(
                f"batches of {batch_size:,} images, but there are {n:,} and drop_last drops a batch that is not full: "
                f"none would be left; expected at most {n:,}, or data.drop_last=false"
            )
        # On the device such a label is an index error far from here, or on CUDA the end of the process.
        if not 0 <= int(labels.min()) <= int(labels.max()) < len(pipeline.targets):
            raise ValueError(f"labels outside 0..{len(pipeline.targets) - 1}")
        self.labels = labels.to(pipeline.device)
        self.pipeline, self.batch_size, self.drop_last, self.shuffle = pipeline, batch_size, drop_last, shuffle
        self.share = share

    def __len__(self) -> int:
        """Return the number of batches in an epoch."""
        batches, rest = divmod(len(self.labels), self.batch_size)
        return batches + (rest > 0 and not self.drop_last)

    @property
    def images_per_epoch(self) -> int:
        """The number of images in an epoch, without those that `drop_last` drops."""
        return min(len(self) * self.batch_size, len(self.labels))

    def order(self, epoch: int) -> Tensor:
        """Return int64 [n], on the CPU: the image at each position of an epoch."""
        n, seed = len(self.labels), self.pipeline.seed
        return torch.randperm(n, generator=generator(seed, epoch, "order")) if self.shuffle else torch.arange(n)

    def epoch(self, epoch: int, start_batch: int = 0) -> Generator[Batch, None, None]:
        """Yield the batches of epoch number `epoch` (from 0) from `start_batch` on, as the whole epoch has them."""
        with contextlib.closing(self.feeds(epoch, start_batch)) as feeds:
            yield from map(self.batch, feeds)

    def positions(self, batch: int) -> slice:
        """Return the positions of an epoch that a batch is made of here: of a mixture all, since any two may meet."""
        first = batch * self.batch_size
        n = min(self.batch_size, len(self.labels) - first)
        at = (WHOLE if self.pipeline.mixes else self.share).positions(n)
        return slice(first + at.start, first + at.stop)

    def images_in(self, feed: Feed) -> int:
        """Return the number of images of the batch that `feed` is a part of."""
        return len(feed.labels) * (1 if self.pipeline.mixes else self.share.of)

    def own(self, batch: Batch) -> Batch:
        """Return this process's part of what the pipeline made of `positions`."""
        if not self.pipeline.mixes or self.share == WHOLE:
            return batch
        return self.share.take(batch, self.pipeline.views)

    @abstractmethod
    def feeds(self, epoch: int, start_batch: int = 0) -> Generator[Feed, None, None]:
        """Yield what each of these batches is made of."""

    @abstractmethod
    def batch(self, feed: Feed) -> Batch:
        """Return the batch made of `feed`: a function of its tensors that runs on the device alone."""


@final
class ResidentLoader(Loader):
    """A split on the device and the epochs over it.

    With `resized_crop` each image gives a random part of itself, resized; else the pipeline's crop out of its padding.
    """

    # No workers and nothing fetched ahead: CIFAR-10 with crop and flip, in batches of 128, comes at 240,000 to 267,000
    # images/s (0.5 ms a batch) from two otherwise idle CPU threads with AVX-512, torch 2.13, eager.

    def __init__(
        self,
        *,
        split: Split,
        pipeline: Pipeline,
        batch_size: int,
        shuffle: bool,
        drop_last: bool,
        resized_crop: ResizedCrop | None = None,
        share: Share = WHOLE,
    ) -> None:
        """Put the split on the pipeline's device.

        Raises as Loader does, and ValueError for images that the pipeline is not for.
        """
        super().__init__(
            labels=split.labels,
            pipeline=pipeline,
            batch_size=batch_size,
            shuffle=shuffle,
            drop_last=drop_last,
            share=share,
        )
        _, channels, height, width = split.images.shape
        if not height == width == pipeline.image_size or pipeline.channels != channels:
            raise ValueError(
                f"images of {height} x {width} pixels with {channels} channels for a pipeline of "
                f"{pipeline.image_size} pixels and {pipeline.channels} channels"
            )
        assert resized_crop is None or not pipeline.crop_padding
        self.resized_crop = resized_crop
        images = split.images.to(pipeline.device)
        self.source = images if resized_crop else pipeline.source(images)

    def feeds(self, epoch: int, start_batch: int = 0) -> Generator[Feed, None, None]:
        assert 0 <= start_batch <= len(self)
        n, device = len(self.labels), self.pipeline.device
        order = self.order(epoch)
        drawn = self.pipeline.draw(epoch, order, size_of_set=n, batch_size=self.batch_size)
        boxes = self.boxes(epoch)
        order = order.to(device)
        labels = self.labels[order]
        for batch in range(start_batch, len(self)):
            at = self.positions(batch)
            yield Feed(order[at], labels[at], None if boxes is None else boxes[at], drawn.rows(at, batch))

    def batch(self, feed: Feed) -> Batch:
        source, chosen = self.source, feed.images
        if feed.boxes is not None and self.resized_crop is not None:
            parts = self.resized_crop(self.source[chosen], feed.boxes, self.pipeline.image_size)
            source = self.pipeline.source(parts)
            chosen = torch.arange(len(parts), device=parts.device)
        return self.own(self.pipeline(source, chosen, feed.labels, feed.rows))

    def boxes(self, epoch: int) -> Tensor | None:
        """Return int64 [n,4], on the device: the part of the image at each position; None where it is the whole."""
        if self.resized_crop is None:
            return None
        n, size = len(self.labels), self.pipeline.image_size
        drawn = self.resized_crop.draw(n, size, generator(self.pipeline.seed, epoch, self.resized_crop.name))
        return self.resized_crop.boxes(*drawn, size, size).to(self.pipeline.device)
