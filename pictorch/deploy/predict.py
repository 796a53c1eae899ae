"""A finished run on one's own images: any file that Pillow opens, the run's preprocessing, names and probabilities."""

import contextlib
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from pictorch import metrics, runs
from pictorch.config import UserError
from pictorch.data.decode import explained, open_upright, upright
from pictorch.data.geometry import evaluation_crop
from pictorch.data.streaming import cores
from pictorch.models import views, weights
from pictorch.models.fold import fold

BATCH = 256


@dataclass(frozen=True)
class Prediction:
    """The most probable classes of one image, best first, with their probabilities."""

    source: str
    classes: tuple[str, ...]
    probabilities: tuple[float, ...]


class Predictor:
    """A finished run's network, what its images go through before it, and its views of an image.

    `model` is the network as it was trained, in eval mode; `metadata` what its weights' file says of it, which may be
    given in the place of the run. Raises UserError when the run has no weights.
    """

    def __init__(self, place: Path) -> None:
        is_file = place.suffix == ".safetensors" and place.is_file()
        self.model, self.metadata = weights.load(place if is_file else runs.open(place).weights)
        self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        with torch.inference_mode():
            self.network = fold(self.model)
        self.classes: tuple[str, ...] = tuple(self.metadata["classes"])
        self.views = self.metadata.get("config", {}).get("evaluation", {}).get("views", "one")
        self.mean, self.std = normalisation(self.metadata)

    def __call__(self, images: Sequence[Path | Image.Image], *, top_k: int = 5) -> list[Prediction]:
        """Return a Prediction for each image (a file or a Pillow image), in order.

        Raises UserError naming the file that cannot be read as an image, and for arguments of another kind.
        """
        if top_k < 1:
            raise UserError(f"top_k: expected at least 1, got {top_k}")
        if isinstance(images, (str, Path, Image.Image)):
            raise UserError(f"images: expected a list, got one {type(images).__name__}; write [image]")
        for number, image in enumerate(images):
            if not isinstance(image, (Path, Image.Image)):
                raise UserError(
                    f"images[{number}]: expected a pathlib.Path or a Pillow image, got {type(image).__name__}; "
                    "PIL.Image.fromarray makes an image of a NumPy array"
                )
        predictions = []
        with contextlib.closing(self.each(images, top_k=top_k)) as found:
            for prediction in found:
                if isinstance(prediction, UserError):
                    raise prediction
                predictions.append(prediction)
        return predictions

    def each(
        self, images: Iterable[Path | Image.Image], *, top_k: int = 5
    ) -> Generator[Prediction | UserError, None, None]:
        """Yield a Prediction for each image, in order, or in its place the error that says why it cannot be read.

        Threads decode a batch while the network answers the one before.
        """
        sources = iter(images)

        def read(source: Path | Image.Image) -> Tensor | UserError:
            try:
                return self.pixels(source)
            except UserError as error:
                return error

        with ThreadPoolExecutor(cores()) as pool:

            def started() -> list[tuple[str, Future[Tensor | UserError]]]:
                return [(name_of(source), pool.submit(read, source)) for source in islice(sources, BATCH)]

            batch = started()
            try:
                while batch:
                    following = started()
                    yield from self.answered([(name, future.result()) for name, future in batch], top_k)
                    batch = following
            finally:
                pool.shutdown(wait=False, cancel_futures=True)

    def answered(self, batch: Sequence[tuple[str, Tensor | UserError]], top_k: int) -> Iterator[Prediction | UserError]:
        """Yield what `each` does of one batch of (name, pixels or error)."""
        readable = [(name, pixels) for name, pixels in batch if isinstance(pixels, Tensor)]
        found: Iterator[Prediction | UserError] = iter(())
        if readable:
            names, pixels = zip(*readable, strict=True)
            logits = self.logits(torch.stack(pixels))
            told = zip(self.predictions(names, logits, top_k), logits.isfinite().all(dim=1).tolist(), strict=True)
            found = (
                each if finite else UserError(f"{each.source}: the network's answer to this image is not finite")
                for each, finite in told
            )
        for _, read in batch:
            yield read if isinstance(read, UserError) else next(found)

    def pixels(self, source: Path | Image.Image) -> Tensor:
        """Return one image as uint8 [C,S,S], of the size and the channels that the network was trained on.

        A network of one's own images gets the crop of its evaluation; one of a known set the image whose shorter side
        is scaled to the network's size, and the centre of it. Raises UserError naming the image.
        """
        size, channels = self.metadata["image_size"], self.metadata["in_channels"]
        image = decode(source, channels)
        if resize := self.metadata.get("resize"):
            return evaluation_crop(as_tensor(image, channels), size, resize)
        return as_tensor(ImageOps.fit(image, (size, size), Image.Resampling.BICUBIC), channels)

    def normalised(self, pixels: Tensor) -> Tensor:
        """Return uint8 [...,C,S,S] as float32, as the network was trained to see it."""
        return (pixels.to(torch.float32) / 255 - self.mean) / self.std

    def logits(self, pixels: Tensor) -> Tensor:
        """Return float32 [N,K] for images uint8 [N,C,S,S], of the run's views."""
        images = self.normalised(pixels).contiguous(memory_format=torch.channels_last)
        with torch.inference_mode():
            return views.answer(self.network, images, self.views)

    def predictions(self, sources: Sequence[str], logits: Tensor, top_k: int) -> list[Prediction]:
        """Return a Prediction for each of the named images from logits [N,K]."""
        classes, probabilities = metrics.ranked(logits, top_k)
        return [
            Prediction(source, tuple(self.classes[k] for k in ks), tuple(ps))
            for source, ks, ps in zip(sources, classes.tolist(), probabilities.tolist(), strict=True)
        ]


def normalisation(metadata: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
    """Return what images in [0, 1] are normalised with: the mean float32 [C,1,1] or [C,S,S], and std [C,1,1]."""
    mean, std = (torch.tensor(metadata[key])[:, None, None] for key in ("mean", "std"))
    return (torch.tensor(metadata["mean_image"]) if metadata.get("mean_image") else mean), std


def as_tensor(image: Image.Image, channels: int) -> Tensor:
    """Return uint8 [C,h,w] of a grey (1 channel) or RGB image."""
    return torch.from_numpy(np.array(image)).reshape(image.height, image.width, channels).permute(2, 0, 1)


def name_of(source: Path | Image.Image) -> str:
    """Return the file's name, or where the image came from no file, its description by Pillow."""
    return str(source if isinstance(source, Path) else getattr(source, "filename", "") or source)


def decode(source: Path | Image.Image, channels: int) -> Image.Image:
    """Return a file's or Pillow's image, of a file with several the first, as `upright` does.

    Raises UserError naming the image.
    """
    if isinstance(source, Path):
        return open_upright(source, channels=channels)
    with explained(f"{name_of(source)}: "):
        return upright(source, channels)
