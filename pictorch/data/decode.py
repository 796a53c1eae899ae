"""An image file of any kind -> uint8 [C,h,w]: upright, grey or RGB, over white; the same in training and prediction.

Pillow decodes. Where simplejpeg is installed (`pip install "pictorch[fast]"`), it decodes plain JPEGs in its exact
mode: the pixels are those of Pillow, bit for bit, in less time (docs/decode.md).
"""

import importlib
import importlib.util
import stat
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from io import BytesIO
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from pictorch.config.errors import UserError

SIMPLEJPEG: Any = importlib.import_module("simplejpeg") if importlib.util.find_spec("simplejpeg") else None
ROTATED = range(2, 9)  # values of EXIF's orientation that turn or mirror an image


class ImageError(UserError):
    """An image that cannot be decoded; the message is one line."""


def decoder_name() -> str:
    """Return what decodes JPEGs here, with its version: "simplejpeg 1.9.0", or "pillow 13.0.0"."""
    return f"simplejpeg {version('simplejpeg')}" if SIMPLEJPEG else f"pillow {version('pillow')}"


def decode(raw: bytes, *, channels: int) -> torch.Tensor:
    """Return the image in a file's bytes, uint8 [C,h,w] with C = `channels`, 1 (grey) or 3 (RGB), in [h,w,C] order.

    It is turned as its EXIF data say; transparent parts lie over white; of several frames the first counts; `to_8_bit`
    says how more than 8 bits become 8. Raises ImageError, also for more pixels than Pillow's bound against bombs
    (179 million).
    """
    with explained(""):
        return tensor(pixels(BytesIO(raw), channels))


def decode_file(path: Path | str, *, channels: int) -> torch.Tensor:
    """Return the image of a file, as `decode` does. Raises ImageError naming the file."""
    with explained(f"{path}: "):
        check_regular(Path(path))
        with open(path, "rb") as file:
            return tensor(pixels(file, channels))


def open_upright(path: Path, *, channels: int) -> Image.Image:
    """Return the image of a file as Pillow's, of mode L or RGB, as `decode` does. Raises ImageError naming the file."""
    with explained(f"{path}: "):
        check_regular(path)
        with open(path, "rb") as file:
            return Image.fromarray(pixels(file, channels))


def tensor(array: npt.NDArray[np.uint8]) -> torch.Tensor:
    """Return uint8 [h,w] or [h,w,C] as [C,h,w], without a copy."""
    image = torch.from_numpy(array)
    return image[None] if image.ndim == 2 else image.permute(2, 0, 1)


def pixels(file: IO[bytes], channels: int) -> npt.NDArray[np.uint8]:
    """Return the image in an open file as uint8 [h,w] (1 channel) or [h,w,3]. Raises almost any exception."""
    assert channels in (1, 3)
    with Image.open(file) as image:
        if SIMPLEJPEG and is_plain(image, channels):
            file.seek(0)
            # What is cut or damaged goes on to Pillow, which says what is wrong, or reads it all the same.
            try:
                decoded: npt.NDArray[np.uint8] = SIMPLEJPEG.decode_jpeg(
                    file.read(), "RGB" if channels == 3 else "GRAY", fastdct=False, fastupsample=False
                )
                return decoded if channels == 3 else decoded[..., 0]
            except ValueError:
                file.seek(0)
                return np.array(upright(Image.open(file), channels))
        return np.array(upright(image, channels))


def is_plain(image: Image.Image, channels: int) -> bool:
    """Return whether the file is a JPEG, upright, that becomes grey or RGB without arithmetic on its pixels.

    CMYK is left to Pillow, because simplejpeg does not see that Adobe's files are inverted; so is grey from colour,
    which in a JPEG is another grey (the file's own) than that of the RGB pixels.
    """
    plain = image.format == "JPEG" and (image.mode == "L" or (image.mode == "RGB" and channels == 3))
    return plain and image.getexif().get(ExifTags.Base.Orientation) not in ROTATED


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


def check_regular(path: Path) -> None:
    """Raise ImageError unless `path` is a regular file: opening a pipe or a device could wait for ever."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        raise ImageError(f"{path}: there is no such file") from None
    except OSError as error:
        raise ImageError(f"{path}: this file cannot be read: {error.strerror}") from None
    if stat.S_ISDIR(mode):
        raise ImageError(f"{path}: this is a directory; expected image files, for example those in it")
    if not stat.S_ISREG(mode):
        raise ImageError(f"{path}: this is a pipe or a device; expected an image file")


@contextmanager
def explained(name: str) -> Iterator[None]:
    """Turn what Pillow raises into an ImageError of one line with `name` in front, and keep its warnings quiet."""
    try:
        with quiet():
            yield
    except UserError:
        raise
    except UnidentifiedImageError:
        raise ImageError(f"{name}this is not an image file that Pillow knows") from None
    # Damaged bytes end in almost any exception of Pillow's readers, from SyntaxError to struct.error.
    except Exception as error:
        why = " ".join(str(error).split()) or type(error).__name__
        raise ImageError(f"{name}this image cannot be read: {why}") from None


# Python's filters are the process's: two threads that each put back what they found could leave them changed.
lock = threading.Lock()
inside = 0
caught = warnings.catch_warnings()


@contextmanager
def quiet() -> Iterator[None]:
    """Ignore Pillow's warnings of what it reads all the same: more than 89 million pixels, torn EXIF data.

    The first thread that comes changes the filters, the last one that goes puts them back.
    """
    global inside, caught
    with lock:
        inside += 1
        if inside == 1:
            caught = warnings.catch_warnings()
            caught.__enter__()
            warnings.filterwarnings("ignore", module=r"PIL\.|pictorch\.data\.decode")
    try:
        yield
    finally:
        with lock:
            inside -= 1
            if inside == 0:
                caught.__exit__(None, None, None)
