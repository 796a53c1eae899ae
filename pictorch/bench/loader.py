"""Images a second: the resident loader against the textbook one at its best number of workers."""

import itertools
import os
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch

from pictorch import data
from pictorch.bench import textbook
from pictorch.config.errors import UserError
from pictorch.data.erasing import Cutout, RandomErasing
from pictorch.data.loader import ResidentLoader
from pictorch.data.mix import Mixup
from pictorch.data.pipeline import Mix, Pipeline, Step

BATCH = 128
OURS_BATCHES, BASELINE_BATCHES = 390, 60
ROUNDS = 5
VARIANTS = ("crop_flip", "crop_flip_cutout", "crop_flip_erasing", "crop_flip_mixup")


def images_to_load(root: Any) -> tuple[data.Split, str]:
    """Return CIFAR-10's training images, or as many random ones where the files are missing, and which they are."""
    try:
        train = data.open("cifar10", root=root).train
    except UserError:
        draws = torch.Generator().manual_seed(0)
        pixels = torch.randint(256, (50_000, 3, 32, 32), dtype=torch.uint8, generator=draws)
        return data.Split(pixels, torch.arange(50_000) % 10), "random images"
    assert isinstance(train, data.Split)
    return train, "CIFAR-10"


def measure(split: data.Split, device: torch.device) -> Iterator[dict[str, Any]]:
    """Yield a row for each of VARIANTS: images a second of both, medians of interleaved rounds, and their ratio.

    `spread` is the range of the rounds' ratios divided by their median.
    """
    mean, std = data.find("cifar10").mean, data.find("cifar10").std
    pixels = np.ascontiguousarray(split.images.numpy().transpose(0, 2, 3, 1))
    for name in VARIANTS:
        ours = partial(rate, our_batches(split, name, mean, std, device), OURS_BATCHES, device)
        makers = partial(
            baseline, pixels, split.labels.tolist(), name, np.array(mean, np.float32), np.array(std, np.float32)
        )
        loaders = {workers: forever(makers(workers)) for workers in range((os.cpu_count() or 1) + 1)}
        speeds = {n: max(rate(batches, BASELINE_BATCHES) for _ in range(ROUNDS)) for n, batches in loaders.items()}
        best = max(speeds, key=lambda workers: speeds[workers])
        for workers in loaders.keys() - {best}:
            loaders[workers].close()  # its worker processes would compete with what is measured
        ours()
        pairs = [(ours(), rate(loaders[best], BASELINE_BATCHES)) for _ in range(ROUNDS)]
        loaders[best].close()
        ratios = [a / b for a, b in pairs]
        yield {
            "name": name,
            "device": device.type,
            "dtype": "float32",
            "ours": round(statistics.median(a for a, _ in pairs)),
            "baseline": round(statistics.median(b for _, b in pairs)),
            "unit": "images/s",
            "ratio": round(statistics.median(ratios), 2),
            "spread": round((max(ratios) - min(ratios)) / statistics.median(ratios), 3),
            "baseline_workers": best,
        }


def our_batches(split: data.Split, name: str, mean: Any, std: Any, device: torch.device) -> Iterator[Any]:
    steps: list[Step] = []
    mixes: list[Mix] = []
    if name.endswith("cutout"):
        steps.append(Cutout(size=16))
    elif name.endswith("erasing"):
        steps.append(RandomErasing())
    elif name.endswith("mixup"):
        mixes.append(Mixup(alpha=1.0))
    pipeline = Pipeline(
        num_classes=10,
        image_size=32,
        mean=mean,
        std=std,
        device=device,
        seed=1,
        crop_padding=4,
        flip=True,
        steps=steps,
        mixes=mixes,
    )
    loader = ResidentLoader(split=split, pipeline=pipeline, batch_size=BATCH, shuffle=True, drop_last=True)
    return (batch for epoch in itertools.count() for batch in loader.epoch(epoch))


def baseline(pixels: Any, labels: list[int], name: str, mean: Any, std: Any, workers: int) -> Iterable[Any]:
    transforms: list[textbook.Transform] = [
        textbook.random_crop,
        textbook.random_flip,
        partial(textbook.normalise, mean=mean, std=std),
    ]
    extra: dict[str, Callable[[Any], Any]] = {"cutout": textbook.cutout, "erasing": textbook.random_erasing}
    transforms += [transform for ending, transform in extra.items() if name.endswith(ending)]
    collate = textbook.mixup if name.endswith("mixup") else None
    images = textbook.Images(pixels, labels, transforms)
    return textbook.loader(images, batch_size=BATCH, workers=workers, collate=collate)


def forever(loader: Iterable[Any]) -> Any:
    """Yield the loader's batches, epoch after epoch."""
    while True:
        yield from loader


def rate(batches: Iterator[Any], count: int, device: torch.device | None = None) -> float:
    """Return images a second over the next `count` batches, the first few not timed."""
    for _ in itertools.islice(batches, 5):
        pass
    synchronise(device)
    started = time.perf_counter()
    for _ in itertools.islice(batches, count):
        pass
    synchronise(device)
    return count * BATCH / (time.perf_counter() - started)


def synchronise(device: torch.device | None) -> None:
    if device is not None and device.type == "cuda":
        torch.cuda.synchronize(device)
