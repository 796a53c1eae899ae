"""What runs say: intervals, comparisons of two recipes, and whether a published number is theirs within a margin.

A number that was published is a run of its own, or the mean or median of a few, and so has an error of its own; the
test counts it. Assumed is that the runs of both sides scatter normally and alike. Errors, spreads and margins are in
per cent of the test images, "points".
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np

LEVEL = 0.95  # of the intervals of our runs
TEST_LEVEL = 0.90  # of the interval of the difference: two one-sided tests of 5% each (Schuirmann 1987)
MOST_SEEDS = 100  # beyond it a number of further seeds is no plan
RESAMPLES = 10_000
NEVER = f"{MOST_SEEDS} more seeds would not decide: the published number itself is too uncertain for this difference"


@dataclass(frozen=True)
class Reported:
    """A published test error: what it is of, of how many runs (None: not said), and their standard deviation."""

    error: float
    of: Literal["run", "mean", "median", "best"] = "run"
    n: int | None = None
    spread: float | None = None

    @property
    def runs(self) -> int:
        """How many runs it is taken for: those it says, else the fewest that it can be of."""
        return self.n or (1 if self.spread is None else 2)

    @property
    def variance(self) -> float:
        """Its variance, over that of a single run."""
        return median_variance(self.runs) if self.of == "median" else 1 / self.runs

    @property
    def degrees(self) -> int:
        """Degrees of freedom of its standard deviation."""
        return 0 if self.spread is None else self.runs - 1


@dataclass(frozen=True)
class Verdict:
    """What runs say of a published error.

    `low` and `high` bound the true difference, ours - published, with TEST_LEVEL; None without any spread. `more` is
    the number of further seeds that would decide at this difference and spread; None where none up to MOST_SEEDS would,
    and once it is decided. `reason` says in words why it is undecided.
    """

    word: Literal["reproduced", "better", "worse", "undecided", "not run"]
    margin: float
    low: float | None = None
    high: float | None = None
    more: int | None = None
    reason: str = ""


@cache
def t_factor(level: float, degrees: int) -> float:
    """Return Student's t below which |T| is with probability `level`, to ten digits.

    Its distribution function is the closed one of Abramowitz and Stegun, 26.7.3 and 26.7.4.
    """
    low, high = 0.0, 1.0
    while t_within(high, degrees) < level:
        high *= 2
    while high - low > 1e-11 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if t_within(middle, degrees) < level else (low, middle)
    return (low + high) / 2


def t_within(t: float, degrees: int) -> float:
    """Return the probability that |T| is below `t`, for Student's T of `degrees` degrees of freedom."""
    angle = math.atan(t / math.sqrt(degrees))
    odd = degrees % 2
    term = math.cos(angle) if odd else 1.0
    total = term if degrees > 1 else 0.0
    for k in range(3 if odd else 2, degrees - 1, 2):
        term *= math.cos(angle) ** 2 * (k - 1) / k
        total += term
    total *= math.sin(angle)
    return 2 / math.pi * (angle + total) if odd else total


def t_interval(values: Sequence[float], level: float = LEVEL) -> tuple[float, float] | None:
    """Return Student's interval of the mean; None for fewer than two values."""
    n = len(values)
    if n < 2:
        return None
    half = t_factor(level, n - 1) * statistics.stdev(values) / math.sqrt(n)
    return statistics.fmean(values) - half, statistics.fmean(values) + half


def median_interval(values: Sequence[float], level: float = LEVEL) -> tuple[float, float] | None:
    """Return the percentile bootstrap's interval of the median, the same at each call; None for fewer than two.

    Of few values it is about their range (Efron and Tibshirani 1993, chapter 13).
    """
    n = len(values)
    if n < 2:
        return None
    drawn = np.random.RandomState(0).randint(n, size=(RESAMPLES, n))  # the one stream that NumPy promises to keep
    low, high = np.quantile(np.median(np.asarray(values)[drawn], axis=1), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


@dataclass(frozen=True)
class Paired:
    """What the same n seeds say of two recipes: the mean of second - first, its interval, and the chance of it.

    `p` is the probability of a mean difference at least as large in size if the recipes were the same (two-sided
    paired t test); 1 for differences that are all zero. None, as the interval, for fewer than two pairs or equal
    differences.
    """

    n: int
    difference: float
    low: float | None
    high: float | None
    p: float | None


def paired(first: Sequence[float], second: Sequence[float], level: float = LEVEL) -> Paired:
    """Return what errors of the same seeds, in the same order, say of the difference second - first."""
    differences = [b - a for a, b in zip(first, second, strict=True)]
    n, mean = len(differences), statistics.fmean(differences)
    interval, spread = t_interval(differences, level), statistics.stdev(differences) if n > 1 else 0.0
    if interval is None or spread == 0:
        return Paired(n, mean, None, None, 1.0 if n > 1 and mean == 0 else None)
    return Paired(n, mean, *interval, 1 - t_within(abs(mean) / (spread / math.sqrt(n)), n - 1))


def equivalent(first: Sequence[float], second: Sequence[float], margin: float) -> bool | None:
    """Return whether errors of the same seeds show two recipes to be the same within the margin.

    Two one-sided paired t tests of 5% each (Schuirmann 1987): True where the TEST_LEVEL interval of the difference lies
    within the margin, False where it lies outside, None where neither is shown.
    """
    found = paired(first, second, TEST_LEVEL)
    if found.low is None or found.high is None:
        return None
    if -margin < found.low and found.high < margin:
        return True
    return False if found.low > margin or found.high < -margin else None


def mcnemar(first_only: int, second_only: int) -> float:
    """Return the exact two-sided p value of McNemar's test, from the images that only the first or second has right.

    The probability of counts at least as uneven if each such image were as likely one's as the other's
    (McNemar 1947; the binomial form); 1 without any.
    """
    n, fewer = first_only + second_only, min(first_only, second_only)
    # In whole numbers: of 10,000 images they are far beyond a float.
    ways = at_most = 1
    for k in range(fewer):
        ways = ways * (n - k) // (k + 1)
        at_most += ways
    return min(1.0, float(2 * at_most / 2**n))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the p values adjusted for their number, so that 5% bounds the chance of any false alarm (Holm 1979)."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = largest
    return adjusted


@cache
def median_variance(n: int) -> float:
    """Return the variance of the median of n normal values, over that of one; of an even n, that of n - 1.

    The integral of the order statistic's density.
    """
    half = (n - 1) // 2
    x, step = np.linspace(-9, 9, 3601, retstep=True)
    density = np.exp(-(x**2) / 2) / math.sqrt(2 * math.pi)
    below = np.array([statistics.NormalDist().cdf(value) for value in x])
    ways = math.factorial(2 * half + 1) / math.factorial(half) ** 2
    return float((x**2 * ways * (below * (1 - below)) ** half * density).sum() * step)


def margin(error: float, images: int) -> float:
    """Return how far apart two errors are the same: the 95% half-interval of `error` over draws of the test images."""
    share = error / 100
    return 100 * statistics.NormalDist().inv_cdf(0.975) * math.sqrt(share * (1 - share) / images)


def judge(errors: Sequence[float], reported: Reported, margin: float) -> Verdict:
    """Return whether the test errors of our runs, each of another seed, are the published one within the margin.

    The TEST_LEVEL interval of the difference of the true means, with the spread pooled of ours and of a published one,
    lies within the margin (reproduced), below it (better) or above it (worse); all else is undecided.
    """
    if not errors:
        return Verdict("not run", margin)
    if reported.of == "best":
        return Verdict("undecided", margin, reason="the best of several runs is no mean to compare with")
    n, degrees = len(errors), len(errors) - 1 + reported.degrees
    squares = (n - 1) * statistics.variance(errors) if n > 1 else 0.0
    squares += reported.degrees * (reported.spread or 0.0) ** 2
    if degrees == 0 or squares == 0:
        why = "one run has no spread" if n == 1 else "the runs do not differ, so that their spread is not known"
        return Verdict("undecided", margin, more=1, reason=f"{why}: at least 1 more seed")
    spread, difference = math.sqrt(squares / degrees), statistics.fmean(errors) - reported.error
    half = half_width(n, spread, reported)
    low, high = difference - half, difference + half
    if -margin < low and high < margin:
        return Verdict("reproduced", margin, low, high)
    if high < -margin or low > margin:
        return Verdict("better" if high < 0 else "worse", margin, low, high)
    more = seeds_to_decide(n, difference, spread, reported, margin)
    reason = f"{more} more seed{'s' * (more > 1)} would decide at this spread" if more else NEVER
    return Verdict("undecided", margin, low, high, more, reason)


def half_width(n: int, spread: float, reported: Reported) -> float:
    """Return half the width of the interval of the difference between the mean of n runs and a published number."""
    factor = t_factor(TEST_LEVEL, n - 1 + reported.degrees)
    return factor * spread * math.sqrt(1 / n + reported.variance)


def seeds_to_decide(n: int, difference: float, spread: float, reported: Reported, margin: float) -> int | None:
    """Return how many seeds beside the n there are would decide, if difference and spread stayed; None: too many."""
    gap = abs(abs(difference) - margin)
    found = (more for more in range(1, MOST_SEEDS + 1) if half_width(n + more, spread, reported) < gap)
    return next(found, None)
