"""A finished run on one's own images: any file that Pillow opens, the run's preprocessing, names and probabilities."""

import stat
import warnings
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
        batch = torch.stack([self.prepare(image) for image in images])
        with torch.inference_mode():
            logits = self.model(batch)
        classes = logits.argsort(dim=1, descending=True, stable=True)[:, :top_k]
        probabilities = logits.softmax(dim=1).gather(1, classes)
        names = self.metadata["classes"]
        return [
            Prediction(name_of(image), tuple(names[k] for k in ks), tuple(ps))
            for image, ks, ps in zip(images, classes.tolist(), probabilities.tolist(), strict=True)
        ]

    def prepare(self, source: Path | Image.Image) -> Tensor:
        """Return one image as the network was trained to see it: float32 [C,H,W], normalised.

        The shorter side is scaled to the network's size and the centre cut out. Raises UserError naming the image.
        """
        size, channels = self.metadata["image_size"], self.metadata["in_channels"]
        image = ImageOps.fit(decode(source, channels), (size, size), Image.Resampling.BICUBIC)
        pixels = torch.from_numpy(np.array(image)).reshape(size, size, channels).permute(2, 0, 1)
        mean, std = (torch.tensor(self.metadata[key])[:, None, None] for key in ("mean", "std"))
        return (pixels.to(torch.float32) / 255 - mean) / std


def name_of(source: Path | Image.Image) -> str:
    """Return the file's name, or where the image came from no file, its description by Pillow."""
    return str(source if isinstance(source, Path) else getattr(source, "filename", "") or source)


def decode(source: Path | Image.Image, channels: int) -> Image.Image:
    """Return a file's or Pillow's image, of a file with several the first, as `upright` does.

    Raises UserError naming the image.
    """
    try:
        # Pillow warns of what it reads all the same: images of more than 89 million pixels, torn EXIF data.
        with warnings.catch_warnings(action="ignore"):
            if not isinstance(source, Path):
                return upright(source, channels)
            check_regular(source)
            with Image.open(source) as image:
                return upright(image, channels)
    except UserError:
        raise
    except UnidentifiedImageError:
        raise UserError(f"{name_of(source)}: this is not an image file that Pillow knows") from None
    # Damaged bytes end in almost any exception of Pillow's readers, from SyntaxError to struct.error.
    except Exception as error:
        why = str(error) or type(error).__name__
        raise UserError(f"{name_of(source)}: this image cannot be read: {why}") from None


def check_regular(path: Path) -> None:
    """Raise UserError unless `path` is a regular file: opening a pipe or a device could wait for ever."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such file") from None
    except OSError as error:
        raise UserError(f"{path}: this file cannot be read: {error.strerror}") from None
    if stat.S_ISDIR(mode):
        raise UserError(f"{path}: this is a directory; expected image files, for example those in it")
    if not stat.S_ISREG(mode):
        raise UserError(f"{path}: this is a pipe or a device; expected an image file")


def upright(image: Image.Image, channels: int) -> Image.Image:
    """Return the image turned as its EXIF data say, as 8-bit grey (1 channel) or RGB (3 channels).

    What is transparent lies over white. Grey of more than 8 bits is scaled as `to_8_bit` says.
    Raises ValueError for an image without pixels, of a mode without conversion, or with values of no known range.
    """
    if 0 in image.size:
        raise ValueError("it has no pixels")
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith(("I", "F")):
        image = to_8_bit(image)
    if image.has_transparency_data:
        paper = Image.new("RGBA", image.size, "white")
        paper.alpha_composite(image.convert("RGBA"))
        image = paper
    # Pillow converts L*a*b* to RGB alone.
    return (image.convert("RGB") if image.mode == "LAB" else image).convert("L" if channels == 1 else "RGB")


def to_8_bit(image: Image.Image) -> Image.Image:
    """Return a grey image of more than 8 bits as 8-bit grey; Pillow's own conversion clips at 255.

    Whole numbers (modes I;16 and I) are taken as 16-bit values, 65535 being white. Floats (mode F) are taken as 0..1 if
    all lie there, else as 0..255. Raises ValueError for values outside and for NaN and infinity.
    """
    pixels = np.asarray(image, dtype=np.float32)
    if not np.isfinite(pixels).all():
        raise ValueError("some of its values are not finite numbers")
    low, high = float(pixels.min()), float(pixels.max())
    if image.mode.startswith("I"):
        white, expected = 65535, "0..65535"
    else:
        white, expected = (1 if high <= 1 else 255), "0..1 or 0..255"
    if low < 0 or high > white:
        raise ValueError(f"its values go from {low:g} to {high:g}; expected {expected}")
    return Image.fromarray((pixels * (255 / white)).round().astype(np.uint8))
