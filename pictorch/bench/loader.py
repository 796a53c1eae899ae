"""Images a second: the resident loader against the textbook one at its best number of workers."""

import itertools
import os
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch

from pictorch import data
from pictorch.bench import ledger, textbook
from pictorch.bench.cifar import Images
from pictorch.bench.rounds import synchronise
from pictorch.data.erasing import Cutout, RandomErasing
from pictorch.data.loader import ResidentLoader
from pictorch.data.mix import Mixup
from pictorch.data.pipeline import Mix, Pipeline, Step

BATCH = 128
OURS_BATCHES, BASELINE_BATCHES = 390, 60
VARIANTS = ("crop_flip", "crop_flip_cutout", "crop_flip_erasing", "crop_flip_mixup")


def measure(
    images: Images, device: torch.device, *, rounds: int, quick: bool, skip: Callable[[Mapping[str, Any]], bool]
) -> Iterator[dict[str, Any]]:
    """Yield a row for each of VARIANTS: images a second of both, medians of interleaved rounds, and their ratio.

    `spread` is the range of the rounds' ratios divided by their median. `skip` says of a name, opponent and batch size
    that there is a row already.
    """
    split = data.open("cifar10", root=images.root).train
    assert isinstance(split, data.Split)
    cores = os.cpu_count() or 1
    counts = (20, 3) if quick else (OURS_BATCHES, BASELINE_BATCHES)
    mean, std = data.find("cifar10").mean, data.find("cifar10").std
    pixels = np.ascontiguousarray(split.images.numpy().transpose(0, 2, 3, 1))
    for name in VARIANTS:
        key = {"name": name, "against": "textbook", "batch_size": BATCH}
        if skip(key):
            continue
        ours = partial(rate, our_batches(split, name, mean, std, device), counts[0], device)
        makers = partial(
            baseline, pixels, split.labels.tolist(), name, np.array(mean, np.float32), np.array(std, np.float32)
        )
        loaders = {workers: textbook.forever(makers(workers)) for workers in range(1 if quick else cores + 1)}
        speeds = {n: max(rate(batches, counts[1]) for _ in range(rounds)) for n, batches in loaders.items()}
        best = max(speeds, key=lambda workers: speeds[workers])
        for workers in loaders.keys() - {best}:
            loaders[workers].close()  # its worker processes would compete with what is measured
        ours()
        pairs = [(ours(), rate(loaders[best], counts[1])) for _ in range(rounds)]
        loaders[best].close()
        ratios = [a / b for a, b in pairs]
        yield {
            **key,
            "device": device.type,
            "dtype": "float32",
            "ours": round(statistics.median(a for a, _ in pairs)),
            "baseline": round(statistics.median(b for _, b in pairs)),
            "unit": "images/s",
            "ratio": round(statistics.median(ratios), 2),
            "spread": round((max(ratios) - min(ratios)) / statistics.median(ratios), 3),
            "baseline_workers": best,
            "rounds": rounds,
            "images": images.what,
            "hardware": ledger.hardware(device),
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


def rate(batches: Iterator[Any], count: int, device: torch.device | None = None) -> float:
    """Return images a second over the next `count` batches, the first few not timed."""
    for _ in itertools.islice(batches, 5):
        pass
    if device:
        synchronise(device)
    started = time.perf_counter()
    for _ in itertools.islice(batches, count):
        pass
    if device:
        synchronise(device)
    return count * BATCH / (time.perf_counter() - started)
