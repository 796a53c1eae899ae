"""Studies of our own: runs of the ledger that vary one recipe, and how its variants differ over the same seeds."""

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pictorch.config.comparable import whole_settings
from pictorch.experiments import stats
from pictorch.experiments.ledger import Run
from pictorch.experiments.plan import labels


@dataclass(frozen=True)
class Variant:
    """Runs of one configuration: its settings that vary over the study, and its test errors by seed, in per cent."""

    settings: Mapping[str, Any]
    errors: Mapping[int, float]
    seconds: float
    """Median training time"""
    against: stats.Paired | None = None
    """The difference to the baseline over the seeds of both; None of the baseline, and without two common seeds"""
    p: float | None = None
    """Its p value after Holm's correction for the number of variants"""


@dataclass(frozen=True)
class Study:
    """Variants of a recipe that were trained for so many epochs; the first is the baseline."""

    recipe: str
    dataset: str
    epochs: int
    hardware: str
    variants: tuple[Variant, ...]

    @property
    def varying(self) -> tuple[str, ...]:
        return tuple(self.variants[0].settings)


def find(ours: Sequence[Run]) -> list[Study]:
    """Return the studies among runs: those of one recipe, data and length, of two configurations or more.

    Runs of changed code and second runs of a seed are left out.
    """
    together: dict[tuple[str, str, str, int], list[Run]] = {}
    for run in ours:
        if not run.dirty:
            together.setdefault((run.recipe, run.dataset, run.data_checksum, run.epochs), []).append(run)
    found = (study(runs) for runs in together.values())
    return [one for one in found if len(one.variants) > 1]


def study(runs: Sequence[Run]) -> Study:
    """Return the study that runs of one recipe are; its baseline is what sets the fewest settings."""
    together: dict[str, list[Run]] = {}
    for run in runs:
        together.setdefault(run.comparable, []).append(run)
    written = {name: group[0].decisive for name, group in together.items()}
    keys = sorted({key for one in written.values() for key in one})
    apart = [key for key in keys if len({json.dumps(one.get(key)) for one in written.values()}) > 1]
    varying = [key for key in apart if not any(other.startswith(f"{key}.") for other in apart)]  # "on" says less
    whole = {name: whole_settings(one) for name, one in written.items()}

    def place(name: str) -> tuple[int, list[tuple[bool, float, str]]]:
        return len(written[name]), [in_order(whole[name].get(key)) for key in varying]

    groups = [together[name] for name in sorted(together, key=place)]
    variants = compared([variant(group, varying) for group in groups])
    hardware = " and ".join(sorted({run.hardware for run in runs}))
    return Study(runs[0].recipe, runs[0].dataset, runs[0].epochs, hardware, tuple(variants))


def in_order(value: Any) -> tuple[bool, float, str]:
    """Return what a setting is sorted by: none first, then numbers."""
    number = float(value) if isinstance(value, int | float) else math.inf
    return value is not None, number, str(value)


def variant(runs: Sequence[Run], varying: Sequence[str]) -> Variant:
    first: dict[int, Run] = {}
    for run in runs:
        first.setdefault(run.seed, run)
    settings = whole_settings(runs[0].decisive)
    return Variant(
        {key: settings.get(key) for key in varying},
        {seed: first[seed].test_error for seed in sorted(first)},
        statistics.median(run.seconds for run in first.values()),
    )


def compared(variants: Sequence[Variant]) -> list[Variant]:
    """Return the variants, each but the first with its difference to the first."""
    baseline, *others = (replace(one, against=against(variants[0], one)) for one in variants)
    p_values = {place: one.against.p for place, one in enumerate(others) if one.against and one.against.p is not None}
    adjusted = dict(zip(p_values, stats.holm(list(p_values.values())), strict=True))
    return [replace(baseline, against=None), *(replace(one, p=adjusted.get(i)) for i, one in enumerate(others))]


def against(baseline: Variant, one: Variant) -> stats.Paired | None:
    """Return a variant's errors - the baseline's over the seeds of both; None for fewer than two."""
    seeds = sorted(baseline.errors.keys() & one.errors.keys())
    if len(seeds) < 2:
        return None
    return stats.paired([baseline.errors[seed] for seed in seeds], [one.errors[seed] for seed in seeds])


def as_row(study: Study) -> dict[str, Any]:
    """Return a study as plain values."""
    return {
        "recipe": study.recipe,
        "dataset": study.dataset,
        "epochs": study.epochs,
        "hardware": study.hardware,
        "labels": labels(study.varying),
        "variants": [variant_row(one) for one in study.variants],
    }


def variant_row(one: Variant) -> dict[str, Any]:
    errors = list(one.errors.values())
    return {
        "settings": dict(one.settings),
        "n": len(errors),
        "median": statistics.median(errors),
        "mean": statistics.fmean(errors),
        "sd": statistics.stdev(errors) if len(errors) > 1 else None,
        "seconds": one.seconds,
        "difference": one.against.difference if one.against else None,
        "difference_interval": (one.against.low, one.against.high)
        if one.against and one.against.low is not None
        else None,
        "p": one.p,
    }
