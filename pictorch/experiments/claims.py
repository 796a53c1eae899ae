"""Published numbers and our runs: which runs count for which number, and what they say of it.

A run counts where its decisive settings are those of the number's recipe and overrides, its data the official files,
and its code that of a commit; of each seed the first.
"""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from pictorch.config import load, recipes
from pictorch.config.comparable import Network, comparable_hash, decisive_settings
from pictorch.experiments import stats
from pictorch.experiments.ledger import Run
from pictorch.experiments.published import Published

Label = Literal["as published", "as the paper", "ours"]
Settings = Mapping[str, Any]
SHOWN = 3  # differing keys of a run that counts for nothing


@dataclass(frozen=True)
class Group:
    """Runs of one configuration beside a published number; no verdict where the cell is empty."""

    label: Label
    runs: tuple[Run, ...]
    verdict: stats.Verdict | None


@dataclass(frozen=True)
class Claim:
    """A published number with the runs that count for it."""

    published: Published
    groups: tuple[Group, ...]

    @property
    def verdict(self) -> str:
        """The first group's verdict in a word: runs as published come before those with the paper's network."""
        if self.published.value is None:
            return ""
        own = next((group.verdict for group in self.groups if group.label != "as the paper"), None)
        return own.word if own else "not run"


@dataclass(frozen=True)
class Other:
    """A run that counts for no published number, and why."""

    run: Run
    reason: str


def match(published: Sequence[Published], ours: Sequence[Run], network: Network) -> list[Claim]:
    """Return each published number with the runs that count for it."""
    return [Claim(row, tuple(groups(row, ours, network))) for row in published]


def others(published: Sequence[Published], ours: Sequence[Run], network: Network) -> list[Other]:
    """Return the runs that count for no published number, and why."""
    if not ours:
        return []
    wanted = [(row.id, settings) for row in published for settings in configurations(row, network).values()]
    known = {comparable_hash(settings) for _, settings in wanted}
    reasons = [why_not(run, ours) if run.comparable in known else nearest(run, wanted) for run in ours]
    return [Other(run, reason) for run, reason in zip(ours, reasons, strict=True) if reason]


def groups(row: Published, ours: Sequence[Run], network: Network) -> Iterator[Group]:
    """Yield the runs of each of a published number's configurations, where there are any."""
    for label, settings in configurations(row, network).items() if ours else ():
        if found := counting(ours, comparable_hash(settings)):
            yield Group(label, tuple(found), judge(row, found))


def counting(ours: Sequence[Run], comparable: str) -> list[Run]:
    """Return the runs of a configuration that count: the first of each seed, with sound data and code."""
    first: dict[int, Run] = {}
    for run in ours:
        if run.comparable == comparable and run.data_official and not run.dirty:
            first.setdefault(run.seed, run)
    return list(first.values())


def configurations(row: Published, network: Network) -> dict[Label, Settings]:
    """Return the decisive settings that a number is held against: as its program had them, and as the paper has them.

    There are one and the same where no `as_published` is among its overrides, or where it changes nothing.
    """
    published = settings_of(row.recipe, row.overrides, network)
    without = tuple(word for word in row.overrides if not word.startswith("as_published="))
    paper = settings_of(row.recipe, without, network)
    return {"ours": published} if published == paper else {"as published": published, "as the paper": paper}


@cache
def settings_of(recipe: str, overrides: tuple[str, ...], network: Network) -> Settings:
    """Return the decisive settings of a recipe with overrides."""
    return decisive_settings(load(recipe_file(recipe), overrides).config, network)


@cache
def recipe_file(recipe: str) -> Path:
    """Return a recipe's file; the recipes are listed once for each name, not for each of its published numbers."""
    return recipes.find(recipe)


def judge(row: Published, ours: Sequence[Run]) -> stats.Verdict | None:
    """Return what runs say of a published number; an accuracy is judged as the error that it leaves."""
    if row.value is None:
        return None
    reported = reported_of(row, row.value)
    errors = [error_of(row.metric, run.metric(row.metric)) for run in ours]
    return stats.judge(errors, reported, stats.margin(reported.error, ours[0].test_images))


def reported_of(row: Published, value: float) -> stats.Reported:
    """Return a published number as what the statistics take: "mean of 10" and the like are read from its words."""
    first = row.statistic.partition(" ")[0]
    of: Literal["run", "mean", "median", "best"]
    if first in ("mean", "median", "best"):
        of = first  # type: ignore[assignment]
    else:
        of = "run"
    return stats.Reported(error_of(row.metric, value), of, row.n, row.spread)


def error_of(metric: str, value: float) -> float:
    return value if metric == "test_error" else 100 - value


def why_not(run: Run, ours: Sequence[Run]) -> str:
    """Return why a run of a published configuration does not count: its code, its data, its seed; empty: it does."""
    if run.dirty:
        return f"its code differed from commit {run.commit[:12]}"
    if not run.data_official:
        return f"its data are not the official files: checksum {run.data_checksum[:12]}"
    counted = next(other for other in counting(ours, run.comparable) if other.seed == run.seed)
    return "" if counted == run else f"seed {run.seed} is counted already, by run {counted.run}"


def nearest(run: Run, wanted: Sequence[tuple[str, Settings]]) -> str:
    """Return the published number whose settings differ least, and the first keys in which they do."""
    if not wanted:
        return "nothing is published"
    on_its_images = [pair for pair in wanted if pair[1]["data.name"] == run.decisive["data.name"]]
    id, settings = min(on_its_images or wanted, key=lambda pair: len(differing(run.decisive, pair[1])))
    found = differing(run.decisive, settings)
    shown = [f"{key} {one} instead of {other}" for key, (one, other) in list(found.items())[:SHOWN]]
    more = [f"{len(found) - SHOWN} more"] if len(found) > SHOWN else []
    return f"nearest {id}: {', '.join(shown + more)}"


def differing(one: Settings, other: Settings) -> dict[str, tuple[Any, Any]]:
    """Return {key: (value in one, value in other)} where they differ; "default" where a key is not written."""
    keys = sorted(key for key in one.keys() | other.keys() if one.get(key) != other.get(key))
    return {key: (one.get(key, "default"), other.get(key, "default")) for key in keys}


def as_row(claim: Claim) -> dict[str, Any]:
    """Return a claim as plain values: the published number, and what each group of our runs says of it."""
    return {
        **asdict(claim.published),
        "overrides": list(claim.published.overrides),
        "verdict": claim.verdict,
        "ours": [group_row(group, claim.published.metric) for group in claim.groups],
    }


def group_row(group: Group, metric: str) -> dict[str, Any]:
    values = [run.metric(metric) for run in group.runs]
    verdict = group.verdict
    return {
        "label": group.label,
        "n": len(values),
        "median": statistics.median(values),
        "mean": statistics.fmean(values),
        "sd": statistics.stdev(values) if len(values) > 1 else None,
        "interval": stats.t_interval(values),
        "median_interval": stats.median_interval(values),
        "verdict": verdict.word if verdict else "",
        "margin": verdict.margin if verdict else None,
        "difference": (verdict.low, verdict.high) if verdict and verdict.low is not None else None,
        "more": verdict.more if verdict else None,
        "reason": verdict.reason if verdict else "",
        "protocol": "; ".join(sorted({run.protocol for run in group.runs})),
        "seconds": statistics.median(run.seconds for run in group.runs),
        "hardware": sorted({run.hardware for run in group.runs}),
        "values": values,
        "seeds": [run.seed for run in group.runs],
        "runs": [run.run for run in group.runs],
    }


def other_row(other: Other) -> dict[str, Any]:
    """Return a run that counts for no published number as plain values."""
    run = other.run
    kept = ("run", "recipe", "dataset", "model", "seed", "epochs", "test_error", "top1", "top5", "protocol", "hardware")
    return {**{key: getattr(run, key) for key in kept}, "reason": other.reason}
