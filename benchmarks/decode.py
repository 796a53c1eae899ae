"""How many JPEGs of 400 x 500 a core decodes and resizes to 224 x 224, by one way and another, and what that changes.

    python benchmarks/decode.py [FOLDER]          photographs below FOLDER, cut to 400 x 500; without, generated images

Ways of packages that are not installed are left out (`python -m pip install simplejpeg opencv-python-headless
kornia-rs`, in an environment of its own if you like). Prints CSV: images per second of CPU time on one thread, the
median, lowest and highest of interleaved rounds; the largest and the mean difference of the resized pixels (0..255)
from those of Pillow alone, and the largest of the decoded ones where they have the same size.
"""

import argparse
import csv
import importlib
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps

from pictorch.data.decode import decode, decoder_name

HEIGHT, WIDTH, SIZE = 400, 500, 224
Pixels = np.ndarray[Any, np.dtype[np.uint8]]


def samples(folder: Path | None, number: int) -> list[bytes]:
    """Return JPEG files of quality 90 with 4:2:0: of photographs, or of smooth colour with some grain."""
    if folder:
        images = (ImageOps.fit(Image.open(path).convert("RGB"), (WIDTH, HEIGHT)) for path in photographs(folder))
    else:
        draws = torch.Generator().manual_seed(0)
        images = (Image.fromarray(grainy(draws)) for _ in range(number))
    files = []
    for _, image in zip(range(number), images, strict=False):
        image.save(file := BytesIO(), "JPEG", quality=90)
        files.append(file.getvalue())
    return files


def photographs(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))


def grainy(draws: torch.Generator) -> Pixels:
    smooth = F.interpolate(torch.rand(1, 3, 25, 32, generator=draws), (HEIGHT, WIDTH), mode="bicubic")[0]
    grain = 8 * torch.randn(3, HEIGHT, WIDTH, generator=draws)
    return (255 * smooth + grain).clamp(0, 255).to(torch.uint8).permute(1, 2, 0).numpy()


def pillow(raw: bytes) -> Pixels:
    return np.array(Image.open(BytesIO(raw)))


def pillow_draft(raw: bytes) -> Pixels:
    image = Image.open(BytesIO(raw))
    image.draft("RGB", (SIZE, SIZE))
    return np.array(image)


def ours(raw: bytes) -> Pixels:
    return decode(raw, channels=3).permute(1, 2, 0).numpy()


def by_pillow(pixels: Pixels) -> Pixels:
    return np.array(Image.fromarray(pixels).resize((SIZE, SIZE), Image.Resampling.BILINEAR))


def by_torch(pixels: Pixels) -> Pixels:
    image = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    return F.interpolate(image, (SIZE, SIZE), mode="bilinear", antialias=True)[0].permute(1, 2, 0).numpy()


Way = tuple[Callable[[bytes], Pixels], Callable[[Pixels], Pixels]]


def ways() -> Iterator[tuple[str, Way]]:
    """Yield the name of each way that is installed, how it decodes and how it resizes."""
    yield "Pillow, Pillow's bilinear resize", (pillow, by_pillow)
    yield "Pillow with draft, Pillow's bilinear resize", (pillow_draft, by_pillow)
    yield "Pillow, torch's antialiased resize (default)", (pillow, by_torch)
    if simplejpeg := installed("simplejpeg"):
        exact = {"fastdct": False, "fastupsample": False}
        fast = {"fastdct": True, "fastupsample": True}
        smaller = {"min_height": SIZE, "min_width": SIZE}
        yield "simplejpeg exact, Pillow's bilinear resize", (decoder(simplejpeg, exact), by_pillow)
        yield "simplejpeg exact, torch's antialiased resize (extra fast)", (decoder(simplejpeg, exact), by_torch)
        yield "simplejpeg fast flags, torch's antialiased resize", (decoder(simplejpeg, fast), by_torch)
        yield "simplejpeg fast flags, scaled, torch's resize", (decoder(simplejpeg, fast | smaller), by_torch)
    yield f"pictorch's decode here ({decoder_name()}), torch's resize", (ours, by_torch)
    if cv2 := installed("cv2"):
        cv2.setNumThreads(1)

        def opencv(raw: bytes) -> Pixels:
            return cv2.imdecode(np.frombuffer(raw, np.uint8), cv2.IMREAD_COLOR_RGB)

        yield "OpenCV, INTER_AREA", (opencv, lambda pixels: cv2.resize(pixels, (SIZE, SIZE), interpolation=3))
        yield "OpenCV, INTER_LINEAR (aliased)", (opencv, lambda pixels: cv2.resize(pixels, (SIZE, SIZE)))
        yield "OpenCV, torch's antialiased resize", (opencv, by_torch)
    if kornia_rs := installed("kornia_rs"):
        jpeg = getattr(kornia_rs, "io", kornia_rs)

        def kornia(raw: bytes) -> Pixels:
            return np.asarray(jpeg.decode_image_jpeg(raw))

        yield "kornia-rs, torch's antialiased resize", (kornia, by_torch)


def installed(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def decoder(simplejpeg: Any, options: dict[str, Any]) -> Callable[[bytes], Pixels]:
    return lambda raw: simplejpeg.decode_jpeg(raw, "RGB", **options)


def difference(found: Pixels, expected: Pixels) -> tuple[int, float]:
    gap = np.abs(found.astype(np.int16) - expected)
    return int(gap.max()), float(gap.mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    torch.set_num_threads(1)
    files = samples(options.folder, options.images)
    table = dict(ways())
    speeds: dict[str, list[float]] = {name: [] for name in table}
    for _ in range(options.rounds):
        for name, (read, resize) in table.items():
            start = time.process_time()
            for raw in files:
                resize(read(raw))
            speeds[name].append(len(files) / (time.process_time() - start))
    expected = [(pillow(raw), by_pillow(pillow(raw))) for raw in files]
    out = csv.writer(sys.stdout)
    out.writerow(("way", "images_per_second", "lowest", "highest", "max_resized", "mean_resized", "max_decoded"))
    for name, (read, resize) in table.items():
        decoded = [read(raw) for raw in files]
        resized = [difference(resize(one), whole[1]) for one, whole in zip(decoded, expected, strict=True)]
        whole = [
            difference(one, other)[0]
            for one, (other, _) in zip(decoded, expected, strict=True)
            if one.shape == other.shape
        ]
        least, most = min(speeds[name]), max(speeds[name])
        row = (round(statistics.median(speeds[name])), round(least), round(most), max(gap for gap, _ in resized))
        out.writerow((name, *row, f"{statistics.mean(mean for _, mean in resized):.2f}", max(whole, default="")))


if __name__ == "__main__":
    main()
