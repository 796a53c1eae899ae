"""Learning curves for a page: the mean and range of a configuration's seeds, thinned, and written small."""

import base64
from collections.abc import Sequence
from typing import Any

import numpy as np

from pictorch.reports.reading import Run

SERIES = ("train_error", "val_error", "test_error", "train_loss", "val_loss", "test_loss", "lr")
MOST_POINTS = 200
LEAST_POINTS = 60
POINTS_OF_ALL = 60_000  # of all curves of one series together, so that a page of hundreds stays small
LARGEST = 1e30  # what diverged this far has no place on an axis

Values = np.ndarray[Any, np.dtype[np.float64]]


def most_points(curves: int) -> int:
    """Return how many points each of so many curves keeps: MOST_POINTS, fewer where there are hundreds."""
    return max(LEAST_POINTS, min(MOST_POINTS, POINTS_OF_ALL // max(1, curves)))


def mean_curve(runs: Sequence[Run], most: int = MOST_POINTS) -> tuple[list[int], dict[str, list[Values]]]:
    """Return the epochs [E], and of each series there is its mean [E], and lowest and highest [E] where they differ.

    Of each epoch count the seeds that have it; not a number where none has. At most `most` epochs are kept.
    """
    epochs = sorted({int(row["epoch"]) for run in runs for row in run.rows})
    series = {key: statistics_of(table(runs, epochs, key)) for key in SERIES}
    there = {key: values for key, values in series.items() if np.isfinite(values[0]).any()}
    if not there:
        return [], {}
    chosen = kept([values[0] for values in there.values()], most)
    return [epochs[i] for i in chosen], {key: [value[chosen] for value in values] for key, values in there.items()}


def table(runs: Sequence[Run], epochs: Sequence[int], key: str) -> Values:
    """Return a series of the runs [R,E], not a number where a run has none."""
    place = {epoch: column for column, epoch in enumerate(epochs)}
    values = np.full((len(runs), len(epochs)), np.nan)
    for line, run in zip(values, runs, strict=True):
        for row in run.rows:
            line[place[int(row["epoch"])]] = row.get(key, np.nan)
    values[~(np.abs(values) < LARGEST)] = np.nan
    return values


def statistics_of(values: Values) -> list[Values]:
    """Return mean, lowest and highest of a table's columns; the mean alone where they are all the same."""
    counted = np.isfinite(values)
    n = counted.sum(axis=0)
    mean = np.where(n > 0, np.where(counted, values, 0.0).sum(axis=0) / np.maximum(n, 1), np.nan)
    low = np.where(n > 0, np.where(counted, values, np.inf).min(axis=0, initial=np.inf), np.nan)
    high = np.where(n > 0, np.where(counted, values, -np.inf).max(axis=0, initial=-np.inf), np.nan)
    return [mean] if np.array_equal(low, high, equal_nan=True) else [mean, low, high]


def kept(series: Sequence[Values], most: int) -> list[int]:
    """Return the places of at most `most` points of curves [E] of one length: first, last, extremes, and evenly spaced.

    Those between are taken where the most curves have a value: not every epoch is evaluated.
    """
    length = len(series[0])
    if length <= most:
        return list(range(length))
    chosen = {0, length - 1}
    for values in series:
        finite = np.flatnonzero(np.isfinite(values))
        if len(finite):
            chosen |= {int(finite[values[finite].argmin()]), int(finite[values[finite].argmax()]), int(finite[-1])}
    there = np.isfinite(np.stack(series)).sum(axis=0)
    full = np.flatnonzero(there == there.max())
    between = np.linspace(0, len(full) - 1, max(0, most - len(chosen)))
    return sorted(chosen | {int(full[i]) for i in between.round().astype(int)})


def pack(values: Values) -> str:
    """Return numbers as base64 of three bytes each: float32 without its last byte, right to five digits."""
    bits = values.astype("<f4").view("<u4").astype(np.uint64)
    rounded = ((bits + 0x80) >> 8).astype("<u4")
    return base64.b64encode(rounded.view(np.uint8).reshape(-1, 4)[:, :3].tobytes()).decode()
