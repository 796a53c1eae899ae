"""What each augmentation and mix costs in a training step of ResNet-preact-20 on CIFAR-10.

    python benchmarks/methods.py

Prints CSV: milliseconds of a step (batch and update) with crop and flip alone and with the method added, medians of
interleaved rounds, and their ratio. What needs several passes by definition (Dual-Cutout, SAM, AugMix's consistency)
stands below the line.
"""

import argparse
import itertools
import statistics
import time
from collections.abc import Iterator

import torch

from pictorch.api import load_config
from pictorch.engine.build import Job, build
from pictorch.engine.loop import compiled
from pictorch.engine.step import train_step

METHODS = {
    "rotate": "augment.rotate={}",
    "resized_crop": "augment={crop: null, resized_crop: {}}",
    "jitter": "augment.jitter={brightness: 0.4, contrast: 0.4, saturation: 0.4, hue: 0.1}",
    "cutout": "augment.cutout={}",
    "random_erasing": "augment.random_erasing={}",
    "mixup": "augment.mixup={}",
    "cutmix": "augment.cutmix={prob: 1.0}",
    "ricap": "augment.ricap={}",
    "resizemix": "augment.resizemix={}",
    "label_smoothing": "augment.label_smoothing=0.1",
    "autoaugment": "augment.policy=autoaugment",
    "randaugment": "augment.policy=randaugment",
    "trivialaugment": "augment.policy=trivialaugment",
    "augmix": "augment.policy=augmix",
    "dual_cutout (two passes)": "augment.dual_cutout={}",
    "augmix (three views)": "augment.policy={name: augmix, consistency: true}",
    "sam (two passes)": "optim=sam",
}


def job_of(*overrides: str) -> tuple[Job, Iterator[None]]:
    """Return a job and an iterator that takes one training step each time."""
    job = build(load_config("cifar10/resnet_preact_20", [*overrides, "track.tensorboard=false"]))
    forward = compiled(job)

    def steps() -> Iterator[None]:
        for epoch in itertools.count():
            for batch in job.train_loader.epoch(epoch):
                train_step(forward, job.optimizer, batch, lr=0.01, update=job.update)
                yield

    return job, steps()


def milliseconds(steps: Iterator[None], count: int, device: torch.device) -> float:
    started = time.perf_counter()
    for _ in itertools.islice(steps, count):
        pass
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return 1000 * (time.perf_counter() - started) / count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds (default: 5)")
    parser.add_argument("--steps", type=int, default=10, help="steps a round (default: 10)")
    parser.add_argument("--threads", type=int, help="CPU threads (default: torch's)")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    plain_job, plain = job_of()
    milliseconds(plain, 3, plain_job.device)
    print("method,plain_ms,with_ms,ratio", flush=True)
    for name, override in METHODS.items():
        job, steps = job_of(override)
        milliseconds(steps, 3, job.device)
        pairs = [
            (
                milliseconds(plain, arguments.steps, job.device),
                milliseconds(steps, arguments.steps, job.device),
            )
            for _ in range(arguments.rounds)
        ]
        before, after = (statistics.median(side) for side in zip(*pairs, strict=True))
        ratio = statistics.median(b / a for a, b in pairs)
        print(f"{name},{before:.1f},{after:.1f},{ratio:.3f}", flush=True)


if __name__ == "__main__":
    main()
