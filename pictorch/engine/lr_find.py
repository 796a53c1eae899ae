"""Learning-rate range test (Smith, arXiv:1506.01186, section 3.3): real steps with rising rates, and their losses.

The rates rise exponentially, the loss is a bias-corrected moving average and the test stops when that has grown to a
multiple of its least, as in S. Gugger's "How do you find a good learning rate" (2018).
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

import numpy as np

from pictorch.config import UserError
from pictorch.data.pipeline import Batch
from pictorch.data.streams import generator
from pictorch.engine.build import Job
from pictorch.engine.loop import compiled, seed_network
from pictorch.engine.memory import enough_memory
from pictorch.engine.step import train_step

STEPS = 100
# Share of the moving average that each loss leaves. Gugger's 0.98 is for several hundred steps: over 100 on the digits
# (the default recipe, seeds 1 to 3) it finds the least loss at rates from 0.40 to 4.3; with 0.9 all three are at 0.35.
SMOOTHING = 0.9
# The loss has diverged when the average is so many times its least.
DIVERGED = 4.0


@dataclass(frozen=True)
class Finding:
    """A range test's rates with the loss and the average loss at each, to where it diverged or to the highest rate.

    `minimum` is the rate of the least average loss, `steepest` that of its steepest fall over the rate's logarithm.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    averages: tuple[float, ...]
    steepest: float
    minimum: float
    diverged: bool

    @property
    def suggestion(self) -> float:
        """A tenth of `minimum`, in two digits. `steepest` moves more with the seed."""
        return float(f"{self.minimum / 10:.1e}")


def find(job: Job, *, lowest: float = 1e-5, highest: float = 10.0, steps: int = STEPS) -> Finding:
    """Return what the losses of at most `steps` training steps are at rates from `lowest` up to `highest`.

    The job's own schedule plays no part. Nothing is written, and the job is used up. Raises UserError for rates that do
    not rise, too few steps, and when the loss falls at no rate.
    """
    if not 0 < lowest < highest < math.inf:
        raise UserError(f"expected a lowest rate above 0 and a higher highest one, got {lowest:g} and {highest:g}")
    if steps < 10:
        raise UserError(f"a range test needs at least 10 steps, got {steps}")
    rates = [lowest * (highest / lowest) ** (step / (steps - 1)) for step in range(steps)]
    with enough_memory(job.config):
        losses = []
        averages: list[float] = []
        for loss, average in trained(job, rates):
            if not math.isfinite(loss):
                break
            losses.append(loss)
            averages.append(average)
            if average > DIVERGED * min(averages):
                break
    least = int(np.argmin(averages)) if averages else 0
    if least == 0:
        raise UserError(
            f"the loss fell at no learning rate from {lowest:g} to {highest:g}: begin lower, or look at the data"
        )
    slopes = np.gradient(averages[: least + 1])
    return Finding(
        rates=tuple(rates[: len(losses)]),
        losses=tuple(losses),
        averages=tuple(averages),
        steepest=rates[int(np.argmin(slopes))],
        minimum=rates[least],
        diverged=len(losses) < steps or averages[-1] > DIVERGED * min(averages),
    )


def trained(job: Job, rates: list[float]) -> Iterator[tuple[float, float]]:
    """Yield the loss and the average loss of a training step at each rate."""
    forward, batches = compiled(job), endless(job)
    total = 0.0
    for step, (lr, batch) in enumerate(zip(rates, batches, strict=False)):
        seed_network(job.device, generator(job.config.train.seed, "step", step).initial_seed())
        device_loss, _ = train_step(forward, job.optimizer, batch, lr=lr, update=job.update)
        loss = device_loss.item()  # whether to go on depends on it
        total = SMOOTHING * total + (1 - SMOOTHING) * loss
        yield loss, total / (1 - SMOOTHING ** (step + 1))


def endless(job: Job) -> Iterator[Batch]:
    """Yield the training batches of one epoch after the other."""
    return (batch for epoch in count() for batch in job.train_loader.epoch(epoch))
