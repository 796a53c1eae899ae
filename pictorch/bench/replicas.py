"""K runs of one recipe at once against one alone, by the command that users give: `pictorch train train.replicas=K`."""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch

from pictorch.bench import ledger
from pictorch.bench.cifar import Images
from pictorch.bench.training import Plan
from pictorch.config import UserError
from pictorch.engine.precision import choose

RECIPE = "cifar10/resnet_preact_20"
# K = 5 in at most 1.6 times the time of one, on a GPU.
MUST = {("cuda", 5): 5 / 1.6}


def measure(
    plan: Plan, images: Images, count: int | None, skip: Callable[[Mapping[str, Any]], bool]
) -> Iterator[dict[str, Any]]:
    """Yield the row: images a second of `count` runs at once (None: five on a GPU, a core each elsewhere) and of one
    alone, medians of interleaved rounds.

    What an epoch takes is the difference of long and short runs, so that starting is left out; raises UserError where
    there is none.
    """
    device = plan.device
    count = count or (5 if device.type == "cuda" else os.cpu_count() or 1)
    epochs = (0, 1) if plan.quick else (2, 22) if device.type == "cuda" else (1, 3)
    settings = ["train.threads=1"] if plan.quick else []
    key = {"name": f"resnet_preact_20 x{count}", "against": "one alone", "batch_size": plan.batch_size}
    if skip(key):
        return
    settings += [f"train.batch_size={plan.batch_size}"]

    def epoch_seconds(replicas: int) -> float:
        fewer, more = (train(replicas, n, images, device, settings) if n else 0.0 for n in epochs)
        if more <= fewer:
            raise UserError(
                f"replicas: {epochs[1]} epochs took no longer than {epochs[0]}: starting varies more than the epochs "
                "take; measure when the machine does nothing else"
            )
        return (more - fewer) / (epochs[1] - epochs[0])

    pairs = [(epoch_seconds(count), epoch_seconds(1)) for _ in range(plan.rounds)]
    gains = [count * alone / together for together, alone in pairs]
    together, alone = (statistics.median(side) for side in zip(*pairs, strict=True))
    yield {
        **key,
        "device": device.type,
        "dtype": choose("auto", device).name,
        "ours": round(count * images.train / together),
        "baseline": round(images.train / alone),
        "unit": "images/s",
        "ratio": round(statistics.median(gains), 3),
        "spread": round((max(gains) - min(gains)) / statistics.median(gains), 3),
        "must": MUST.get((device.type, count)),
        "time_of_one": round(count / statistics.median(gains), 3),
        "rounds": plan.rounds,
        "images": images.what,
        "hardware": ledger.hardware(device),
    }


def train(replicas: int, epochs: int, images: Images, device: torch.device, settings: Sequence[str]) -> float:
    """Return the seconds of a `pictorch train` with so many replicas. Raises UserError where it fails."""
    overrides = [f"train.replicas={replicas}", f"train.epochs={epochs}", f"train.device={device}"]
    command = [sys.executable, "-m", "pictorch", "train", RECIPE, *overrides, *settings, "track.tensorboard=false"]
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        done = subprocess.run([*command, "--data-dir", str(images.root)], cwd=folder, capture_output=True, text=True)
        seconds = time.perf_counter() - started
    if done.returncode:
        raise UserError(f"`{' '.join(command[2:])}` ended with status {done.returncode}: {done.stderr.strip()[-500:]}")
    return seconds
