"""A finished run on one's own images: any file that Pillow opens, the run's preprocessing, names and probabilities."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from pictorch import runs
from pictorch.config import UserError
from pictorch.data.decode import explained, open_upright, upright
from pictorch.data.geometry import evaluation_crop
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
    """A finished run's network, preprocessing and views of an image, ready for images.

    Raises UserError when the run has no weights.
    """

    def __init__(self, run_dir: Path) -> None:
        run = runs.open(run_dir)
        self.model, self.metadata = weights.load(run.weights)
        self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        with torch.inference_mode():
            self.network = fold(self.model)
        self.views = self.metadata.get("config", {}).get("evaluation", {}).get("views", "one")

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
        return [
            prediction
            for start in range(0, len(images), BATCH)
            for prediction in self.predict_batch(images[start : start + BATCH], top_k)
        ]

    def predict_batch(self, images: Sequence[Path | Image.Image], top_k: int) -> list[Prediction]:
        batch = torch.stack([self.prepare(image) for image in images]).contiguous(memory_format=torch.channels_last)
        with torch.inference_mode():
            logits = views.answer(self.network, batch, self.views)
        classes = logits.argsort(dim=1, descending=True, stable=True)[:, :top_k]
        probabilities = logits.softmax(dim=1).gather(1, classes)
        names = self.metadata["classes"]
        return [
            Prediction(name_of(image), tuple(names[k] for k in ks), tuple(ps))
            for image, ks, ps in zip(images, classes.tolist(), probabilities.tolist(), strict=True)
        ]

    def prepare(self, source: Path | Image.Image) -> Tensor:
        """Return one image as the network was trained to see it: float32 [C,H,W], normalised.

        A network of one's own images gets the crop of its evaluation; one of a known set the image whose shorter side
        is scaled to the network's size, and the centre of it. Raises UserError naming the image.
        """
        size, channels = self.metadata["image_size"], self.metadata["in_channels"]
        image = decode(source, channels)
        if resize := self.metadata.get("resize"):
            pixels = evaluation_crop(as_tensor(image, channels), size, resize)
        else:
            pixels = as_tensor(ImageOps.fit(image, (size, size), Image.Resampling.BICUBIC), channels)
        mean, std = (torch.tensor(self.metadata[key])[:, None, None] for key in ("mean", "std"))
        if "mean_image" in self.metadata:
            mean = torch.tensor(self.metadata["mean_image"])
        return (pixels.to(torch.float32) / 255 - mean) / std


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
