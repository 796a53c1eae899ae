"""What a run would cost, from a few real steps of it: nothing is written, and the job is used up."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count, islice

import torch
from torch import Tensor

from pictorch import optim
from pictorch.engine.build import Job
from pictorch.engine.graphs import own_stream
from pictorch.engine.loop import compiled, create_step
from pictorch.engine.memory import enough_memory, peak_memory_bytes
from pictorch.metrics import TrainMeter

WARM_UP, MEASURED = 3, 8


@dataclass(frozen=True)
class Estimate:
    """Seconds of the first step (with any compilation), of a later one, of an evaluation, of the whole run; and the
    most memory held."""

    updates: int
    steps_per_epoch: int
    first_step_seconds: float
    step_seconds: float
    evaluation_seconds: float
    run_seconds: float
    images_per_second: float
    peak_memory_bytes: int


def estimate(job: Job, *, warm_up: int = WARM_UP, measured: int = MEASURED) -> Estimate:
    """Return what the job's run would take, from the medians of `measured` training steps and of evaluation batches."""
    train, loader = job.config.train, job.train_loader
    meter = TrainMeter(steps=warm_up + measured, device=job.device)
    feeds = (feed for epoch in count() for feed in loader.feeds(epoch))
    train_step = create_step(job, compiled(job))
    optim.set_lr(job.optimizer, 0.0)

    def step() -> None:
        feed = next(feeds)
        meter.add(*train_step(feed), images=len(feed.labels))

    with enough_memory(job.config), own_stream(job.device):
        steps = [seconds(step, job.device) for _ in range(warm_up + measured)]
    evaluation_loader = job.val_loader or job.test_loader
    job.model.eval()
    with torch.inference_mode(), job.precision.autocast():
        timed = [
            seconds(lambda images=batch.images: job.model(images), job.device)  # type: ignore[misc]
            for batch in islice(evaluation_loader.epoch(0), 3)
        ]
    updates = job.updates
    step_seconds, batch_seconds = statistics.median(steps[warm_up:]), statistics.median(timed)
    evaluations = -(-updates // len(loader) // train.eval_every_epochs)
    evaluation_seconds = len(evaluation_loader) * batch_seconds
    return Estimate(
        updates=updates,
        steps_per_epoch=len(loader),
        first_step_seconds=steps[0],
        step_seconds=step_seconds,
        evaluation_seconds=evaluation_seconds,
        run_seconds=updates * step_seconds + evaluations * evaluation_seconds,
        images_per_second=train.batch_size / step_seconds,
        peak_memory_bytes=peak_memory_bytes(job.device),
    )


def seconds(work: Callable[[], Tensor | None], device: torch.device) -> float:
    """Return the wall seconds of `work`, with all that it left running on the device."""
    started = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started
