"""Schedules: pure functions of the step that give the learning rate's factor. Nothing to save, nothing to resume."""

from collections.abc import Callable, Sequence
from math import cos, pi

Factor = Callable[[int], float]


def create(
    name: str,
    *,
    epochs: float,
    steps_per_epoch: int,
    warmup_epochs: float = 0.0,
    per: str = "step",
    milestones_epochs: Sequence[float] = (),
    gamma: float = 0.1,
    final_factor: float = 0.0,
) -> Factor:
    """Return the schedule `name` as a function: step (0 before the first update) -> factor of the base learning rate.

    The warm-up is linear, (t + 1) / warm-up at the t-th step (or epoch) of it, so that its last step has the full rate
    (Goyal et al., arXiv:1706.02677, section 2.2). With `per="epoch"` the factor is that of the epoch's start throughout
    the epoch.
    """
    shapes: dict[str, Callable[[float], float]] = {
        "constant": lambda position: 1.0,
        "multistep": lambda position: multistep(position, milestones_epochs, gamma),
        "cosine": lambda position: cosine(position, warmup_epochs, epochs, final_factor),
    }
    shape = shapes[name]
    unit = steps_per_epoch if per == "epoch" else 1

    def factor(step: int) -> float:
        start = step // unit * unit
        position = start / steps_per_epoch
        if position < warmup_epochs:
            return min(1.0, (start + unit) / (warmup_epochs * steps_per_epoch))
        return float(shape(position))

    return factor


def multistep(position: float, milestones: Sequence[float], gamma: float) -> float:
    """Return gamma to the power of the milestones reached at `position` (all in epochs)."""
    return float(gamma ** sum(position >= m for m in milestones))


def cosine(position: float, start: float, end: float, final_factor: float) -> float:
    """Return half a cosine from 1 at `start` to `final_factor` at `end` (SGDR, arXiv:1608.03983, equation 5)."""
    progress = min(1.0, (position - start) / (end - start)) if end > start else 1.0
    return final_factor + (1 - final_factor) * 0.5 * (1 + cos(pi * progress))
