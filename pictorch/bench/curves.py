"""What work costs as there is more of it: batch size, depth, image size, images, classes, replicas.

A curve has points, each a piece of work of known size, done by the code that a run uses: the median seconds of
a few turns, divided by the size. Where nothing grows faster than the work, these quotients fall or stay. The images are
noise, generated in the files' own formats, so that sets are opened, checked and put on the device as real ones are.
"""

import itertools
import math
import os
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image

from pictorch import config, data, models, optim
from pictorch.bench.rounds import synchronise
from pictorch.config import Config
from pictorch.data.duplicates import closest
from pictorch.data.loader import ResidentLoader
from pictorch.data.split import split
from pictorch.engine import checkpoint, loop
from pictorch.engine.build import Job, build
from pictorch.engine.graphs import own_stream
from pictorch.engine.interrupt import Stop

# Turns of a point: at least the first, and up to the second as long as they have taken less than these seconds.
LEAST_TURNS, MOST_TURNS, ENOUGH_SECONDS = 3, 15, 2.0
# Calls that are not timed: on CUDA a step is called twice, and captured by the third call.
WARM_UP = {"cpu": 1, "cuda": 4}
FOLDER_IMAGES = 4608
BATCH = 128


class Work(NamedTuple):
    """A piece of work: what does it, how many units it is, and how many images (None: it is done on none)."""

    do: Callable[[], object]
    units: float
    images: int | None = None


class Place(NamedTuple):
    """Where curves are measured: a folder for generated data, and a device."""

    folder: Path
    device: torch.device

    def folder_of_images(self) -> Path:
        """Return a folder of two classes of noise, 32 x 32, and a test part; one file, linked under many names."""
        root = self.folder / "noise"
        if not root.exists():
            parts = {"train": FOLDER_IMAGES // 2, "test": 5}
            pixels = np.random.default_rng(0).integers(256, size=(32, 32, 3), dtype=np.uint8)
            self.folder.mkdir(exist_ok=True)
            Image.fromarray(pixels).save(self.folder / "noise.png")
            for part, name in itertools.product(parts, "ab"):
                (root / part / name).mkdir(parents=True)
                for number in range(parts[part]):
                    os.link(self.folder / "noise.png", root / part / name / f"{number}.png")
        return root

    def images(self, *, train: int, test: int) -> Path:
        """Return a data root whose MNIST has so many images of noise."""
        root = self.folder / f"mnist-{train}-{test}"
        if root.exists():
            return root
        draws = np.random.default_rng(0)
        for file in data.find("mnist").files:
            count = train if file.part == "train" else test
            path = root / file.forms[0].path
            path.parent.mkdir(parents=True, exist_ok=True)
            if file.holds == "images":
                pixels = draws.integers(256, size=(count, 28, 28), dtype=np.uint8)
                path.write_bytes(struct.pack(">4I", 0x803, count, 28, 28) + pixels.tobytes())
            else:
                path.write_bytes(struct.pack(">2I", 0x801, count) + (np.arange(count) % 10).astype(np.uint8).tobytes())
        return root

    def job(self, *overrides: str) -> Job:
        return build(self.config(*overrides))

    def config(self, *overrides: str) -> Config:
        """Return ResNet-preact-20's recipe with these settings on this device."""
        settings = (f"train.device={self.device}", "track.tensorboard=false", *overrides)
        return config.load("cifar10/resnet_preact_20", settings).config

    def job_on_folder(self, *overrides: str) -> Job:
        return self.job(f"data.name={self.folder_of_images()}", "data.image_size=32", *overrides)

    def job_on_set(self, train: int, test: int = 100) -> Job:
        """Return a job on so many images, whose network is so small that what grows with the images is seen."""
        network = "model={name: resnet_preact, depth: 8, base_channels: 4}"
        root = self.images(train=train, test=test)
        return self.job("data.name=mnist", f"data.dir={root}", network, f"train.batch_size={BATCH}")


def training(job: Job) -> Callable[[], object]:
    """Return what takes one training step of the job at each call, batch included."""
    step = loop.create_step(job, loop.compiled(job))
    feeds = (feed for epoch in itertools.count() for feed in job.train_loader.feeds(epoch))
    optim.set_lr(job.optimizer, 0.0)  # noise teaches nothing, and must not diverge
    return lambda: step(next(feeds))


def batch_size(place: Place, size: int) -> Work:
    job = place.job_on_folder(f"train.batch_size={size}")
    return Work(training(job), size, size)


def depth(place: Place, layers: int, size: int = 16) -> Work:
    job = place.job_on_folder(f"train.batch_size={size}", deep(layers))
    return Work(training(job), size * job.complexity.macs, size)


def deep(layers: int) -> str:
    return f"model={{name: resnet_preact, depth: {layers}, block_type: bottleneck}}"


def image_size(place: Place, side: int, size: int = 8) -> Work:
    few = f"data.fraction={8 * size / FOLDER_IMAGES}"
    network = "model={name: resnet_preact, depth: 20, stem: cifar}"
    job = place.job_on_folder(f"data.image_size={side}", few, network, f"train.batch_size={size}")
    return Work(training(job), size * side**2, size)


def set_open(place: Place, n: int) -> Work:
    root = place.images(train=n, test=100)
    return Work(lambda: data.open("mnist", root=root), n, n)


def set_resident(place: Place, n: int) -> Work:
    """The padded images and their mirror images, put on the device."""
    train = data.open("mnist", root=place.images(train=n, test=100)).train
    assert isinstance(train, data.Split)
    pipeline = place.job_on_set(1000).train_loader.pipeline
    create = partial(ResidentLoader, pipeline=pipeline, batch_size=BATCH, shuffle=True, drop_last=True)
    return Work(lambda: create(split=train), n, n)


def set_start(place: Place, n: int) -> Work:
    """What an epoch draws, up to its first batch."""
    loader = place.job_on_set(n).train_loader
    epochs = itertools.count()
    return Work(lambda: next(loader.epoch(next(epochs))), n, n)


def set_loader(place: Place, n: int) -> Work:
    """A whole epoch of batches, augmented, without a network."""
    loader = place.job_on_set(n).train_loader
    epochs = itertools.count()

    def epoch() -> None:
        for _ in loader.epoch(next(epochs)):
            pass

    return Work(epoch, n, n)


def set_step(place: Place, n: int) -> Work:
    """A training step on a batch of 128 out of n images."""
    job = place.job_on_set(n)
    return Work(training(job), BATCH, BATCH)


def evaluation(place: Place, n: int) -> Work:
    job = place.job_on_set(1000, test=n)
    return Work(lambda: loop.evaluate_part(job, "test", Stop()), n, n)


def building(place: Place, layers: int) -> Work:
    """`engine.build.build`: network, initialisation, count of multiply-adds, optimiser."""
    settings = place.config("data.name=mnist", f"data.dir={place.images(train=1000, test=100)}", deep(layers))
    return Work(lambda: build(settings), layers)


def saving(place: Place, layers: int) -> Work:
    """A network's and an optimiser's checkpoint, written and read with its checks."""
    model = models.create("resnet_preact", depth=layers, block_type="bottleneck").to(place.device)
    empty: dict[str, Any] = {"optimizer": {}, "average": {}, "meter": {}, "best": None, "seconds": {}}
    state = {"config_hash": "", "seed": 1, "epoch": 1, "step": 1, "model": model.state_dict(), **empty}
    file = place.folder / "last.ckpt"

    def save() -> None:
        checkpoint.save(file, state)
        checkpoint.load(file)

    return Work(save, sum(tensor.numel() for tensor in model.state_dict().values()))


def splitting(place: Place, n: int, classes: int = 10) -> Work:
    labels = torch.arange(n) % classes
    return Work(lambda: split(labels, 0.1, 0), n)


def classes(place: Place, count: int) -> Work:
    """The split of 100,000 images of so many classes: the work is the images'."""
    return splitting(place, 100_000, count)


def replicas(place: Place, count: int) -> Work:
    """So many runs of the default recipe, shortened to ten epochs, at once, by the command; starts included."""
    settings = ("train.epochs=10", f"train.replicas={count}", f"train.device={place.device}", "track.tensorboard=false")
    numbers = itertools.count()

    def train() -> None:
        folder = place.folder / f"replicas-{count}-{next(numbers)}"
        folder.mkdir()
        command = [sys.executable, "-m", "pictorch", "train", "digits/resnet_preact_8", *settings]
        subprocess.run(command, check=True, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    return Work(train, count, count * 10 * 1442)


def duplicates(place: Place, n: int) -> Work:
    """The search for near-duplicates, which compares each of n images with every other."""
    prints = torch.nn.functional.normalize(torch.randn(n, 192, generator=torch.Generator().manual_seed(0)))
    return Work(lambda: closest(prints), n**2)


class Curve(NamedTuple):
    """A curve: what the points are numbers of, what a unit of work is, what makes the work, the points."""

    along: str
    unit: str
    work: Callable[[Place, int], Work]
    points: Sequence[int]


SIZES = (1_000, 10_000, 100_000, 1_000_000)
DEPTHS = (20, 56, 110, 218, 434, 1001)
CURVES = {
    "batch_size": Curve("images in a batch", "image", batch_size, (8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)),
    "depth": Curve("layers", "multiply-add", depth, DEPTHS),
    "image_size": Curve("pixels a side", "pixel", image_size, (32, 64, 96, 128, 160, 192, 224)),
    "set_open": Curve("images", "image", set_open, SIZES),
    "set_resident": Curve("images", "image", set_resident, SIZES),
    "set_start": Curve("images", "image", set_start, SIZES),
    "set_loader": Curve("images", "image", set_loader, SIZES),
    "set_step": Curve("images", "image of the batch", set_step, SIZES),
    "evaluation": Curve("images", "image", evaluation, SIZES[:3]),
    "building": Curve("layers", "layer", building, DEPTHS),
    "saving": Curve("layers", "number saved", saving, DEPTHS),
    "splitting": Curve("images", "image", splitting, SIZES),
    "classes": Curve("classes", "image", classes, (10, 100, 1_000)),
    "replicas": Curve("runs at once", "run", replicas, (1, 2, 4, 8)),
    "duplicates": Curve("images", "pair", duplicates, (1_000, 2_000, 4_000, 8_000, 16_000)),
}


def measure(names: Sequence[str], device: torch.device, done: set[tuple[str, str]]) -> Iterator[dict[str, Any]]:
    """Yield a row for each point of the curves that is not among those `done`, (curve, at), as soon as it is measured.

    `spread` is the range of the turns' seconds divided by their median.
    """
    with tempfile.TemporaryDirectory() as folder, own_stream(device):
        place = Place(Path(folder), device)
        for name in names:
            curve = CURVES[name]
            for at in curve.points:
                if (name, str(at)) not in done:
                    yield row(name, at, curve.work(place, at), device)


def row(name: str, at: int, work: Work, device: torch.device) -> dict[str, Any]:
    seconds = turns(work.do, device)
    middle = statistics.median(seconds)
    return {
        "curve": name,
        "at": at,
        "units": work.units,
        "seconds": f"{middle:.6g}",
        "nanoseconds_per_unit": f"{1e9 * middle / work.units:.4g}",
        "images_per_second": f"{work.images / middle:.4g}" if work.images else "",
        "spread": round((max(seconds) - min(seconds)) / middle, 3),
        "device": device.type,
    }


def turns(do: Callable[[], object], device: torch.device) -> list[float]:
    """Return the seconds of each of a few turns, after some that are not timed."""
    for _ in range(WARM_UP[device.type]):
        do()
    seconds: list[float] = []
    while len(seconds) < LEAST_TURNS or (len(seconds) < MOST_TURNS and sum(seconds) < ENOUGH_SECONDS):
        synchronise(device)
        started = time.perf_counter()
        do()
        synchronise(device)
        seconds.append(time.perf_counter() - started)
    return seconds


def exponent(units: Sequence[float], seconds: Sequence[float]) -> float | None:
    """Return the power of the work that the time grows with: the slope of log seconds over log units.

    It is taken over the points with at least a thirtieth of the most work, where what every call costs has least say.
    None where these are not three points of different work.
    """
    largest = [(math.log(u), math.log(s)) for u, s in zip(units, seconds, strict=True) if u >= max(units) / 30]
    if len({u for u, _ in largest}) < 3:
        largest = sorted((math.log(u), math.log(s)) for u, s in zip(units, seconds, strict=True))[-3:]
    if len({u for u, _ in largest}) < 2:
        return None
    xs, ys = zip(*largest, strict=True)
    return statistics.linear_regression(xs, ys).slope


def exponent_of(name: str, rows: Iterable[Mapping[str, str]]) -> float | None:
    """Return the exponent of a curve among a ledger's rows; None where it has not three points.

    Where the work is the same at all points, it is the power of what they are numbers of: 0 if that costs nothing.
    """
    points = [row for row in rows if row["curve"] == name]
    along = "units" if len({row["units"] for row in points}) > 1 else "at"
    seconds = [float(row["seconds"]) for row in points]
    return exponent([float(row[along]) for row in points], seconds) if len(points) > 2 else None
