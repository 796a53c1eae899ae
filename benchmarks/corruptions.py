"""How long the 15 corruptions take for the test images of CIFAR-10: in batches, and image by image.

    python benchmarks/corruptions.py [NAME...] [--severity 5] [--images 10000] [--slice 100]
                                     [--dataset cifar10 | --large FOLDER]

Prints CSV: seconds of CPU time, all threads together, in batches; of NumPy, SciPy and Pillow image by image
(tests/data/corruptions/per_image.py, on as many images as --slice says, scaled to all); their ratio. With --large the
images are FOLDER's photographs at 224 x 224, repeated. The last row is all named corruptions together.
"""

import argparse
import csv
import itertools
import runpy
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from PIL import Image, ImageOps

from pictorch import data
from pictorch.data import corruptions
from pictorch.data.corruptions import frosting
from pictorch.data.corruptions.draws import generator

COLUMNS = ("corruption", "severity", "images", "seconds_in_batches", "seconds_one_by_one", "ratio")
REFERENCE = Path(__file__).parents[1] / "tests" / "data" / "corruptions" / "per_image.py"
per_image = SimpleNamespace(**runpy.run_path(str(REFERENCE)))


def photographs(folder: Path, number: int) -> torch.Tensor:
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))
    if not paths:
        sys.exit(f"{folder}: no JPEG files below it")
    opened = (Image.open(path).convert("RGB") for path in itertools.islice(paths, number))
    images = [torch.from_numpy(np.array(ImageOps.fit(image, (224, 224)))).permute(2, 0, 1) for image in opened]
    return torch.stack([images[i % len(images)] for i in range(number)])


def in_batches(images: torch.Tensor, name: str, severity: int, batch: int = 1000) -> float:
    corruptions.corrupt(images[:2], name, severity, seed=1)  # what is made once: kernels, matrices, textures
    start = time.process_time()
    for first in range(0, len(images), batch):
        corruptions.corrupt(images[first : first + batch], name, severity, seed=1, start=first)
    return time.process_time() - start


def one_by_one(images: torch.Tensor, name: str, severity: int) -> float:
    height, width = images.shape[2:]
    small = min(height, width) <= corruptions.LARGEST_SMALL
    ice = frosting.photographs(None, height, width, small=small, grey=images.shape[1] == 1)
    pixels = images.permute(0, 2, 3, 1).contiguous().numpy()
    start = time.process_time()
    for position, image in enumerate(pixels):
        per_image.corrupt(image, name, severity, generator(1, name, severity, position), ice)
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=corruptions.NAMES)
    parser.add_argument("--severity", type=int, default=5)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--slice", type=int, default=100)
    parser.add_argument("--dataset", default="cifar10")
    parser.add_argument("--large", type=Path, metavar="FOLDER")
    options = parser.parse_args()
    images = (
        photographs(options.large, options.images)
        if options.large
        else data.open(options.dataset, root=data.root()).test.images
    )
    images = images[: options.images]
    out = csv.writer(sys.stdout, lineterminator="\n")
    out.writerow(COLUMNS)
    totals = [0.0, 0.0]
    for name in options.names:
        piece = images[: options.slice]
        batched = in_batches(images, name, options.severity)
        single = one_by_one(piece, name, options.severity) * len(images) / len(piece)
        totals = [totals[0] + batched, totals[1] + single]
        out.writerow(row(name, options.severity, len(images), batched, single))
        sys.stdout.flush()
    out.writerow(row("all", options.severity, len(images), *totals))


def row(name: str, severity: int, number: int, batched: float, single: float) -> tuple[str | int, ...]:
    return name, severity, number, f"{batched:.2f}", f"{single:.2f}", f"{single / batched:.1f}"


if __name__ == "__main__":
    main()
