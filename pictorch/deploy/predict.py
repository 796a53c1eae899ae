"""A finished run on one's own images: any file that Pillow opens, the run's preprocessing, names and probabilities."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from pictorch import runs
from pictorch.config import UserError
from pictorch.models import weights

BATCH = 256


@dataclass(frozen=True)
class Prediction:
    """The most probable classes of one image, best first, with their probabilities."""

    source: str
    classes: tuple[str, ...]
    probabilities: tuple[float, ...]


class Predictor:
    """A finished run's network and preprocessing, ready for images. Raises UserError when the run has no weights."""

    def __init__(self, run_dir: Path) -> None:
        run = runs.open(run_dir)
        self.model, self.metadata = weights.load(run.weights)

    def __call__(self, images: Sequence[Path | Image.Image], *, top_k: int = 5) -> list[Prediction]:
        """Return a Prediction for each image (a file or a Pillow image), in order.

        Raises UserError naming the file that cannot be read as an image.
        """
        return [
            prediction
            for start in range(0, len(images), BATCH)
            for prediction in self.predict_batch(images[start : start + BATCH], top_k)
        ]

    def predict_batch(self, images: Sequence[Path | Image.Image], top_k: int) -> list[Prediction]:
        batch = torch.stack([self.prepare(image) for image in images])
        with torch.inference_mode():
            logits = self.model(batch)
        classes = logits.argsort(dim=1, descending=True, stable=True)[:, :top_k]
        probabilities = logits.softmax(dim=1).gather(1, classes)
        names = self.metadata["classes"]
        return [
            Prediction(str(getattr(image, "filename", image)), tuple(names[k] for k in ks), tuple(ps))
            for image, ks, ps in zip(images, classes.tolist(), probabilities.tolist(), strict=True)
        ]

    def prepare(self, source: Path | Image.Image) -> Tensor:
        """Return one image as the network was trained to see it: float32 [C,H,W], normalised.

        The shorter side is scaled to the network's size and the centre cut out.
        """
        size, channels = self.metadata["image_size"], self.metadata["in_channels"]
        image = upright(source if isinstance(source, Image.Image) else read(source), channels)
        image = ImageOps.fit(image, (size, size), Image.Resampling.BICUBIC)
        pixels = torch.from_numpy(np.array(image)).reshape(size, size, channels).permute(2, 0, 1)
        mean, std = (torch.tensor(self.metadata[key])[:, None, None] for key in ("mean", "std"))
        return (pixels.to(torch.float32) / 255 - mean) / std


def read(path: Path) -> Image.Image:
    """Return the decoded image of a file. Raises UserError naming the file."""
    try:
        with Image.open(path) as image:
            image.load()
            return image
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such file") from None
    except UnidentifiedImageError:
        raise UserError(f"{path}: this is not an image file that Pillow knows") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(f"{path}: this image file cannot be decoded: {error}") from None


def upright(image: Image.Image, channels: int) -> Image.Image:
    """Return the image turned as its EXIF data say, as 8-bit grey (1 channel) or RGB (3 channels)."""
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith(("I", "F")):  # 16-bit grey: Pillow's own conversion clips at 255 instead of scaling
        pixels = np.asarray(image, dtype=np.float64)
        image = Image.fromarray((pixels * (255 / max(65535, pixels.max()))).round().astype(np.uint8))
    return image.convert("L" if channels == 1 else "RGB")
