"""Schedules: pure functions of the step that give the learning rate's factor. Nothing to save, nothing to resume.

docs/schedules.md has each one's formula and source.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from math import cos, pi
from typing import Any, Literal, NamedTuple

from pictorch.config import OptionError, nearest
from pictorch.config.keywords import check_keywords

Factor = Callable[[int], float]
Shape = Callable[[float], float]

# In epochs: less than any step, more than the rounding of a sum of cycles.
SLACK = 1e-9


class Span(NamedTuple):
    """What a shape covers, in epochs: from the warm-up's end to the run's, in units of a step or an epoch.

    `after`: the shape is asked for the position after an update, so that a cycle's end belongs to the cycle. `late`: it
    does for the position before an update, too, and a milestone to what lies before it.
    """

    start: float
    end: float
    unit: float
    after: bool
    late: bool = False

    def progress(self, position: float) -> float:
        """Return how much of the span lies behind `position`, from 0 to 1."""
        return min(1.0, (position - self.start) / (self.end - self.start)) if self.end > self.start else 0.0


def create(
    name: str,
    *,
    epochs: float,
    steps_per_epoch: int,
    warmup_epochs: float = 0.0,
    warmup: Literal["linear", "exponential"] = "linear",
    warmup_start_factor: float | None = None,
    warmup_exponent: float = 4.0,
    per: Literal["step", "epoch"] = "step",
    position: Literal["before", "after"] = "before",
    late: bool = False,
    **options: Any,
) -> Factor:
    """Return the schedule `name` as a function: step (0 before the first update) -> factor of the base learning rate.

    An update has the factor of the position "before" it (0 at the first of the run), or "after" it (the run's end at
    the last). With `per="epoch"` that is the position before or after its whole epoch. An update right at a milestone,
    or where a cycle ends and the next begins, has the new rate, if `late` still the old one. `options` are the shape's.

    The warm-up rises from `warmup_start_factor` s by s + (1 - s) x, or s + (1 - s) x^`warmup_exponent` if exponential,
    where x is the position as a part of the warm-up. With None, s is 0 and x that of the position after the update: the
    first of n steps (or epochs) has 1/n and the last the full rate (Goyal et al., arXiv:1706.02677, section 2.2).

    Raises OptionError for a name or keyword that is not known, and for keywords that do not go together.
    """
    if name not in SHAPES:
        raise OptionError(name, None, f"unknown schedule{nearest(name, SHAPES)}")
    check_keywords(create, {"warmup": warmup, "per": per, "position": position, "late": late}, owner=name)
    check_keywords(SHAPES[name], options, owner=name, given=frozenset({"span"}))
    if warmup_epochs > epochs:
        detail = f"{warmup_epochs:g} epochs of warm-up do not fit into {epochs:g} epochs of training"
        raise OptionError(name, "warmup_epochs", detail)
    unit = steps_per_epoch if per == "epoch" else 1
    ahead = unit if position == "after" else 0
    span = Span(warmup_epochs, epochs, unit / steps_per_epoch, position == "after" or late, late)
    shape = SHAPES[name](span, **options)
    low, warmup_ahead = (0.0, unit) if warmup_start_factor is None else (warmup_start_factor, ahead)
    exponent = warmup_exponent if warmup == "exponential" else 1.0

    def factor(step: int) -> float:
        start = step // unit * unit
        at = (start + ahead) / steps_per_epoch
        if at < warmup_epochs:
            done = min(1.0, (start + warmup_ahead) / (warmup_epochs * steps_per_epoch))
            return float(low + (1 - low) * done**exponent)
        return shape(at)

    return factor


def constant(span: Span) -> Shape:
    """Return 1 throughout."""
    return lambda position: 1.0


def multistep(span: Span, *, milestones_epochs: Sequence[float], gamma: float = 0.1) -> Shape:
    """Return `gamma` to the power of the milestones reached, counted from the start of the run."""
    if list(milestones_epochs) != sorted(set(milestones_epochs)):
        listed = ", ".join(f"{m:g}" for m in milestones_epochs)
        raise OptionError("multistep", "milestones_epochs", f"expected rising epochs, got [{listed}]")

    def reached(position: float) -> int:
        # One that is met exactly, but for the rounding of quotients, is not reached yet where it takes effect late.
        return (
            bisect_left(milestones_epochs, position - SLACK) if span.late else bisect_right(milestones_epochs, position)
        )

    return lambda position: float(gamma ** reached(position))


def polynomial(span: Span, *, power: float = 2.0, final_factor: float = 0.0) -> Shape:
    """Return what is left of the span to the `power`, from 1 down to `final_factor`."""
    return lambda position: float(final_factor + (1 - final_factor) * (1 - span.progress(position)) ** power)


def linear(span: Span, *, final_factor: float = 0.0) -> Shape:
    """Return a straight line from 1 down to `final_factor`."""
    return polynomial(span, power=1.0, final_factor=final_factor)


def exponential(span: Span, *, gamma: float = 0.95) -> Shape:
    """Return `gamma` to the power of the epochs since the warm-up."""
    return lambda position: float(gamma ** (position - span.start))


def half_cosine(progress: float, low: float) -> float:
    """Return 1 at progress 0, `low` at 1, and half a cosine between them."""
    return low + (1 - low) * 0.5 * (1 + cos(pi * progress))


def cosine(span: Span, *, final_factor: float = 0.0) -> Shape:
    """Return half a cosine from 1 down to `final_factor` (SGDR, arXiv:1608.03983, equation 5, without restarts)."""
    return lambda position: half_cosine(span.progress(position), final_factor)


def sgdr(
    span: Span, *, first_cycle_epochs: float = 10.0, cycle_factor: float = 1.0, final_factor: float = 0.0
) -> Shape:
    """Return half cosines one after another (SGDR, arXiv:1608.03983, equation 5); the run's end may cut the last one.

    Cycle i, from 0, has `first_cycle_epochs` (the paper's T_0) times `cycle_factor` (T_mult) to the power of i epochs.
    """
    if first_cycle_epochs < span.unit:
        detail = f"a cycle of {first_cycle_epochs:g} epochs is shorter than the {span.unit:.3g} between two changes"
        raise OptionError("sgdr", "first_cycle_epochs", detail)
    if cycle_factor < 1:
        raise OptionError("sgdr", "cycle_factor", f"expected a number of at least 1, got {cycle_factor:g}")
    starts, length = [span.start], first_cycle_epochs
    while starts[-1] + length < span.end - SLACK:
        starts.append(starts[-1] + length)
        length *= cycle_factor
    slack = -SLACK if span.after else SLACK

    def shape(position: float) -> float:
        cycle = max(0, bisect_right(starts, position + slack) - 1)
        progress = (position - starts[cycle]) / (first_cycle_epochs * cycle_factor**cycle)
        return half_cosine(min(1.0, max(0.0, progress)), final_factor)

    return shape


def one_cycle(
    span: Span,
    *,
    peak: float = 0.3,
    start_factor: float = 0.04,
    final_factor: float = 0.0,
    shape: Literal["linear", "cosine"] = "cosine",
) -> Shape:
    """Return the way up from `start_factor` to 1 at `peak` of the run and down to `final_factor` (arXiv:1708.07120)."""
    if span.start:
        detail = "one_cycle rises by itself, from start_factor; set this to 0"
        raise OptionError("one_cycle", "warmup_epochs", detail)
    top = peak * span.end

    def factor(position: float) -> float:
        up = position < top
        low = start_factor if up else final_factor
        fall = 1 - position / top if up else min(1.0, (position - top) / (span.end - top))
        return half_cosine(fall, low) if shape == "cosine" else low + (1 - low) * (1 - fall)

    return factor


SHAPES: dict[str, Callable[..., Shape]] = {
    "constant": constant,
    "linear": linear,
    "multistep": multistep,
    "cosine": cosine,
    "sgdr": sgdr,
    "one_cycle": one_cycle,
    "polynomial": polynomial,
    "exponential": exponential,
}
