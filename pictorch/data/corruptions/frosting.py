"""What frost is made of: the benchmark's photographs from the user's folder, or a computed texture of ice.

The photographs lie in the repository of the benchmark's program without a word on where they come from, so they are not
ours to pass on. The texture takes from them only how bright and how varied they are.
"""

from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from pictorch.config.errors import UserError
from pictorch.data.corruptions.draws import Array

# The programs name a sixth, frost6.jpg, and never choose it.
FILES = ("frost1.png", "frost2.png", "frost3.png", "frost4.jpg", "frost5.jpg")
# Mean and standard deviation of red, green and blue in these five; the second and the third are one image.
COLOURS = (
    ((77.7, 149.1, 165.7), (26.9, 16.5, 15.3)),
    ((200.8, 205.4, 214.5), (21.4, 22.1, 22.6)),
    ((200.8, 205.4, 214.5), (21.4, 22.1, 22.6)),
    ((137.6, 152.8, 165.2), (28.5, 28.5, 29.9)),
    ((112.4, 123.4, 134.8), (44.4, 43.3, 41.7)),
)
SMALLEST_TEXTURE = 640
# Wavelength in pixels and weight of what the texture adds up.
OCTAVES = ((3, 0.25), (6, 0.5), (12, 0.9), (24, 1.0), (48, 0.8), (96, 0.8), (192, 0.8), (384, 0.8))


def photographs(folder: str | Path | None, height: int, width: int, *, small: bool, grey: bool) -> list[Array]:
    """Return five images uint8 [H,W,C], a fifth of whose size (if `small`), or all, is above height x width.

    Without a folder they are computed. Raises UserError where a file is missing, unreadable or too small.
    """
    scale = 5 if small else 1
    if folder is None:
        sides = [max(SMALLEST_TEXTURE, scale * side * 3 // 2) for side in (height, width)]
        return [texture(number, *sides, grey) for number in range(len(FILES))]
    folder = Path(folder).expanduser()
    images = [read(folder / name, grey) for name in FILES]
    for name, image in zip(FILES, images, strict=True):
        room = image[2::scale, 2::scale] if small else image
        if room.shape[0] <= height or room.shape[1] <= width:
            size = f"{room.shape[0]} x {room.shape[1]}" + (" at a fifth of its size" if small else "")
            raise UserError(
                f"frost: {folder / name} is {size}, too small for images of {height} x {width}: without a frost "
                "folder a texture of any size is computed"
            )
    return images


def read(path: Path, grey: bool) -> Array:
    """Return a photograph uint8 [H,W,C] as OpenCV reads it: upright, its transparency ignored; grey by ITU-R 601."""
    try:
        return decoded(path, path.stat().st_mtime_ns, grey)
    except FileNotFoundError:
        raise UserError(f"frost: there is no {path}: the folder must hold {', '.join(FILES)}") from None
    except (OSError, SyntaxError, ValueError) as error:
        raise UserError(f"frost: {path} cannot be read as an image: {error}") from None


@lru_cache(maxsize=2 * len(FILES))
def decoded(path: Path, changed: int, grey: bool) -> Array:
    with Image.open(path) as image:
        return layers(ImageOps.exif_transpose(image).convert("RGB"), grey)


def layers(image: Image.Image, grey: bool) -> Array:
    pixels = np.asarray(image.convert("L") if grey else image)
    return pixels[..., None] if grey else pixels


@lru_cache(maxsize=2 * len(FILES))
def texture(number: int, height: int, width: int, grey: bool) -> Array:
    """Return the computed image of this number in the place of the photograph, uint8 [H,W,C].

    Ridges, 1 - |z| of Gaussian noise z between two wavelengths, from 3 to 384 pixels, added up, and given the mean and
    the standard deviation of each of the photograph's colours.
    """
    rng = np.random.Generator(np.random.PCG64(number))
    down, across = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)
    frequency = np.hypot(down, across)
    total = np.zeros((height, width))
    for wavelength, weight in OCTAVES:
        centre = wavelength * frequency
        band = np.where((centre > 0.5) & (centre < 2), 1.0, 0.0)
        z = np.fft.irfft2(np.fft.rfft2(rng.normal(size=(height, width))) * band, s=(height, width))
        ridges = -np.abs(z)
        total += weight * (ridges - ridges.mean()) / ridges.std()
    total /= total.std()
    mean, deviation = (np.array(values) for values in COLOURS[number])
    pixels = np.clip(np.rint(mean + deviation * total[..., None]), 0, 255).astype(np.uint8)
    return layers(Image.fromarray(pixels), grey)
