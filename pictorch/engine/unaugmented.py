"""The images of a finished run's data set as its network sees them, but for normalising: uint8, of its size."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor

from pictorch import data
from pictorch.config import Config, UserError
from pictorch.data import own
from pictorch.data.pipeline import Pipeline
from pictorch.data.streaming import StreamingLoader
from pictorch.data.streams import generator
from pictorch.engine import inputs

BATCH = 250  # images of up to 64 pixels a side; of larger ones as many as have the same number of pixels
SMALLEST_BATCH = 16


@dataclass(frozen=True, eq=False)
class Unaugmented:
    """The first `images` images of a part: batches of uint8 [B,C,S,S] and labels int64 [B], the same each time.

    Larger images of one's own are scaled and cut as their evaluation does, and read when their turn comes.
    """

    part: data.Part
    spec: data.ImagesSpec
    workers: int
    images: int

    @property
    def batch_size(self) -> int:
        return min(BATCH, max(SMALLEST_BATCH, BATCH * 64**2 // self.spec.image_size**2))

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        labels = torch.split(self.part.labels[: self.images], self.batch_size)
        for pixels, of_batch in zip(self.pixels(), labels, strict=False):
            yield pixels[: len(of_batch)], of_batch

    def pixels(self) -> Iterator[Tensor]:
        if isinstance(self.part, data.Split):
            yield from torch.split(self.part.images, self.batch_size)
            return
        spec = self.spec
        pipeline = Pipeline(
            num_classes=len(spec.classes), image_size=spec.image_size, mean=spec.mean, std=spec.std, device="cpu"
        )
        resize = own.evaluation_resize(spec.image_size)
        reader = inputs.loader(self.part, pipeline, batch_size=self.batch_size, workers=self.workers, resize=resize)
        assert isinstance(reader, StreamingLoader)
        batches = reader.images(torch.arange(len(self.part)), (), 0)
        try:
            yield from islice(batches, -(-self.images // self.batch_size))
        finally:
            batches.close()


def parts(
    dataset: data.Dataset, config: Config, *, test_images: int | None, training_images: int
) -> tuple[Unaugmented, Unaugmented | None]:
    """Return the test images of a finished run's data set, and some that it was trained on (None for 0 of them).

    `test_images` of them are evenly spaced over the test part; None means all. Those of training are drawn by the
    run's seed from its training part, of which validation images are none. Images that can only be read one after
    another are the first ones. Raises UserError for more test images than there are.
    """
    test = dataset.test
    count = len(test) if test_images is None else test_images
    if not 1 <= count <= len(test):
        raise UserError(f"test images: expected at most {len(test):,}, all that there are, got {count:,}")
    if count < len(test):
        test = chosen(test, torch.arange(count) * len(test) // count)
    workers = inputs.workers(config)
    of_training = None
    if training_images:
        train, _ = inputs.training_parts(config, dataset)
        draws = generator(config.train.seed, "calibration")
        part = chosen(train, torch.randperm(len(train), generator=draws)[:training_images].sort().values)
        of_training = Unaugmented(part, dataset.spec, workers, min(training_images, len(part)))
    return Unaugmented(test, dataset.spec, workers, count), of_training


def chosen(part: data.Part, indices: Tensor) -> data.Part:
    """Return the images at these places; of images that can only be read one after another, all of them."""
    if isinstance(part, data.Images) and (not callable(part.read) or part.source is None):
        return part
    return part.select(indices)
