"""An image's bytes -> the pixels that the network sees: of few formats, of bounded size, before anything is decoded."""

import ctypes
import re
import sys
from io import BytesIO

from PIL import Image, ImageFile, UnidentifiedImageError
from torch import Tensor

from pictorch.config import UserError
from pictorch.data.decode import explained
from pictorch.deploy.predict import Predictor
from pictorch.deploy.server.limits import Limits, Refused

# Those that cameras and browsers write and that Pillow decodes in C. Not among them: EPS, which starts ghostscript;
# PPM, XPM and others that are read in Python; JPEG 2000, which takes seconds; containers such as ICNS, FITS and HDF5.
FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")
LONGEST_NAME = 120
LARGE = 4_000_000  # pixels; for fewer it is not worth while
SCAN = b"\xff\xda"


def available() -> tuple[str, ...]:
    """Return those of FORMATS that this Pillow reads; AVIF is missing in builds without it."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def pixels(predictor: Predictor, raw: bytes | bytearray, name: str, limits: Limits) -> Tensor:
    """Return an image as uint8 [C,S,S], as `Predictor.pixels` does.

    Raises Refused: 415 for what is no image of FORMATS, 413 for one of too many pixels, 422 for one that is damaged.
    """
    name = shown(name)
    if not raw:
        raise Refused(422, f"{name}: expected an image, got no bytes")
    try:
        with explained(f"{name}: "), opened(raw, name) as image:
            check_size(image, raw, name, limits)
            assert isinstance(image, ImageFile.ImageFile)
            image.filename = name  # what Pillow's complaints begin with
            size = image.width * image.height
            try:
                return predictor.pixels(image)
            finally:
                image.close()
                if size > LARGE:
                    give_back()
    except Refused:
        raise
    except UserError as error:
        raise Refused(422, str(error)) from None


def give_back() -> None:
    """Return freed memory to the system, where the C library is glibc.

    Pillow's blocks of 16 MiB come to lie where free memory is kept: after one WebP of 49 million pixels the process
    kept 562 MiB, and 11 with this.
    """
    if sys.platform == "linux" and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)):
        trim(0)


def opened(raw: bytes | bytearray, name: str) -> Image.Image:
    """Return the image with its header read. Raises Refused."""
    try:
        return Image.open(BytesIO(raw), formats=available())
    except UnidentifiedImageError:
        raise Refused(415, f"{name}: this is no image of a kind that is taken here: {', '.join(FORMATS)}") from None
    except Image.DecompressionBombError:
        raise Refused(413, f"{name}: this image has more pixels than are taken here") from None


def check_size(image: Image.Image, raw: bytes | bytearray, name: str, limits: Limits) -> None:
    """Raise Refused for an image that would take too long, or too much memory, to decode."""
    size = image.width * image.height
    if size > limits.pixels:
        raise Refused(
            413, f"{name}: expected at most {limits.pixels:,} pixels, got {image.width} x {image.height} = {size:,}"
        )
    if image.format in ("JPEG", "MPO") and (scans := raw.count(SCAN)) * size > limits.scanned_pixels:
        raise Refused(413, f"{name}: this JPEG of {image.width} x {image.height} has {scans} scans, too many to decode")
    if image.format == "BMP" and image.info.get("compression"):
        # Pillow reads them in Python, which would keep everybody else waiting.
        raise Refused(415, f"{name}: this BMP is compressed; expected one that is not, or another kind of image")


def shown(name: str) -> str:
    """Return a name that a stranger gave, fit for a message: printable, and not long."""
    clean = re.sub(r"\s+", " ", "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in name)).strip()
    return (clean if len(clean) <= LONGEST_NAME else clean[: LONGEST_NAME - 1] + "\N{HORIZONTAL ELLIPSIS}") or "image"
