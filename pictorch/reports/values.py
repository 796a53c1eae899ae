"""A report as plain values: what the page, the tables and `--json` show, from runs that were read."""

import base64
import math
import os
import statistics
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from pictorch import runs
from pictorch.config import Config, UserError, load, recipes, to_dict
from pictorch.config.schema import flatten
from pictorch.reports import answers, thinning
from pictorch.reports.configurations import Configuration, Grid, Interval, grids, group, shown
from pictorch.reports.protocol import card
from pictorch.reports.reading import Run

# The names of the classes of a run's data set, and PNG bytes of some of its test images, {place: bytes}. The second
# raises UserError where they cannot be had: what is said in their place.
ClassNames = Callable[[Run], Sequence[str] | None]
Pictures = Callable[[Run, Sequence[int]], Mapping[int, bytes]]

MOST_PICTURE_BYTES = 600_000  # of all in a page, as base64; those of the best configurations come first
# The keys of `data` that decide which images the test part is, and in which order.
OPENING = ("name", "image_size", "channels", "test", "test_fraction", "split_seed", "stratified")
RESULT_KEYS = tuple(key for key in runs.RESULT if key not in ("recipe", "dataset"))


@dataclass(frozen=True, eq=False)
class Report:
    """Runs that were read, grouped; `refused` are (directory, reason) of those that could not be."""

    places: list[str]
    runs: list[Run]
    configurations: list[Configuration]
    grids: list[Grid]
    refused: list[tuple[str, str]]

    @property
    def ranked(self) -> list[Configuration]:
        return [c for c in self.configurations if c.summary]

    @property
    def incomplete(self) -> list[Run]:
        return [run for run in self.runs if not run.complete]

    @property
    def datasets(self) -> list[str]:
        """The data sets, that of the most runs first."""
        return [name for name, _ in Counter(run.dataset for run in self.runs).most_common()]


@dataclass
class Gallery:
    """Pictures that the page holds, each once, as long as there is room: {set: {place: base64 of a PNG}}."""

    pictures: Pictures
    held: dict[str, dict[str, str]] = field(default_factory=dict)
    size: int = 0

    def add(self, run: Run, places: Sequence[int]) -> tuple[str, str]:
        """Hold the pictures of a run's test images; return the name of their set, and why there are none, or ""."""
        settings = [str(getattr(run.config.data, key)) for key in OPENING]
        name = " ".join([run.dataset, *settings, *([str(run.seed)] if run.own_split else [])])
        held = self.held.setdefault(name, {})
        missing = [place for place in places if str(place) not in held]
        if missing and self.size > MOST_PICTURE_BYTES:
            return name, "left out, to keep the page small: report fewer runs to see them"
        try:
            found = {str(place): encoded(png) for place, png in self.pictures(run, missing).items()} if missing else {}
        except UserError as error:
            return name, str(error)
        held.update(found)
        self.size += sum(map(len, found.values()))
        return name, ""


def encoded(png: bytes) -> str:
    return base64.b64encode(png).decode()


def make(found: Sequence[Run], refused: list[tuple[str, str]], places: Sequence[str], interval: Interval) -> Report:
    """Group runs; `interval` gives the 95% interval of the mean of errors."""
    configurations = group(found, interval)
    return Report(list(places), list(found), configurations, grids(configurations), refused)


def tables(report: Report) -> dict[str, Any]:
    """Return leaderboard, incomplete and refused runs, notes and the protocol: what `--json` prints."""
    return {
        "places": report.places,
        "configurations": [row(c) for c in report.configurations],
        "incomplete": [unfinished(run) for run in report.incomplete],
        "not_reported": [{"run": place, "reason": reason} for place, reason in report.refused],
        "notes": list(notes(report)),
        "protocol": {name: protocol([r for r in report.runs if r.dataset == name]) for name in report.datasets},
    }


def row(configuration: Configuration) -> dict[str, Any]:
    """Return a configuration as a row of the leaderboard; its numbers are means over the counted runs."""
    counted = configuration.counted
    results = [run.result or {} for run in counted]

    def mean(key: str) -> float | None:
        known = [float(result[key]) for result in results if result[key] is not None]
        return statistics.fmean(known) if known else None

    summary = asdict(configuration.summary) if configuration.summary else {"n": 0}
    last = (counted or configuration.runs)[-1]
    return {
        "configuration": configuration.name,
        "hash": configuration.hash,
        "recipe": configuration.recipe,
        "dataset": configuration.dataset,
        "varying": {key: plain(value) for key, value in configuration.varying.items()},
        **summary,
        "seeds": [run.seed for run in counted],
        "errors": configuration.errors,
        "top5": mean("test_top5"),
        "val_top1": mean("val_top1"),
        "train_seconds": mean("train_seconds"),
        "params": results[0]["params"] if results else None,
        "macs": results[0]["macs"] if results else None,
        "epochs": last.config.train.epochs,
        "hardware": sorted({run.hardware for run in counted or configuration.runs}),
        "runs": len(configuration.runs),
        "repeated": sum(run.complete for run in configuration.runs) - len(counted),
    }


def plain(value: object) -> float | int | str:
    """Return a setting's value as a number, or as it is written."""
    return value if isinstance(value, int | float) and not isinstance(value, bool) else shown(value)


def unfinished(run: Run) -> dict[str, Any]:
    """Return a run that counts for nothing, and why."""
    epochs = run.config.train.epochs
    done = int(run.rows[-1]["epoch"]) if run.rows else 0
    if run.result is None:
        why = f"epoch {done} of {epochs}: under way, or stopped; `{run.directory.resume_command()}` goes on"
    elif run.config.train.max_steps is not None or run.config.evaluation.max_images is not None:
        why = f"cut short to {run.result['steps']} steps and {run.result['test_images']} test images"
    else:
        why = f"it did not train its {epochs} epochs to their end"
    error = None if run.result is None else run.error
    return {
        "run": run.place,
        "recipe": run.recipe,
        "dataset": run.dataset,
        "seed": run.seed,
        "why": why,
        "error": error,
    }


def notes(report: Report) -> Iterator[str]:
    """Yield what is not as it should be, and was reported nevertheless."""
    for run in report.runs:
        if run.left_out:
            lines = "line is" if run.left_out == 1 else "lines are"
            kept = "epoch" if len(run.rows) == 1 else "epochs"
            yield (
                f"{run.place}/{run.directory.metrics.name}: {run.left_out} {lines} damaged and left out; "
                f"{len(run.rows)} {kept} are reported"
            )
    for configuration in report.configurations:
        if repeated := row(configuration)["repeated"]:
            yield (
                f"{configuration.name}: {repeated} further {'run' if repeated == 1 else 'runs'} of a seed that is "
                "counted already: of each seed the first counts"
            )


def protocol(members: Sequence[Run]) -> list[str]:
    """Return in words how the complete runs of a data set came to their errors; all runs, where none is complete.

    Where they differ, each way is told with the number of its runs.
    """
    members = [run for run in members if run.complete] or members
    cards = [card(run) for run in members]
    sentences = []
    for aspect in cards[0]:
        counts = Counter(of_run[aspect] for of_run in cards)
        for text, n in counts.most_common():
            sentences.append(text if len(counts) == 1 else f"{text} ({n} of {len(members)} runs)")
    return sentences


def page_values(report: Report, class_names: ClassNames, pictures: Pictures) -> dict[str, Any]:
    """Return what the page shows, as values for JSON; numbers that are none are null."""
    most = thinning.most_points(len(report.configurations))
    axes: dict[tuple[int, ...], int] = {}
    places = {id(run): place for place, run in enumerate(report.runs)}
    gallery, names = Gallery(pictures), Names(class_names)
    told: list[str] = []
    configurations = [
        row(c)
        | {"members": [places[id(run)] for run in c.runs], "curve": curve(c, most, axes)}
        | of_answers(c, names, gallery, places, told)
        for c in report.configurations
    ]
    numbers = {id(c): number for number, c in enumerate(report.configurations)}
    bases = Bases()
    values = tables(report) | {
        "datasets": report.datasets,
        "configurations": configurations,
        "axes": [list(axis) for axis in axes],
        "grids": [grid_values(grid, numbers) for grid in report.grids],
        "classes": {name: list(found) for name, found in names.known.items() if found},
        "pictures": gallery.held,
        "result_keys": RESULT_KEYS,
        "runs": [of_run(run, bases) for run in report.runs],
        "settings": bases.settings,
        "environments": bases.environments,
    }
    values["notes"] += told
    return dict(without_nan(values))


def curve(configuration: Configuration, most: int, axes: dict[tuple[int, ...], int]) -> dict[str, Any] | None:
    """Return a configuration's learning curves, of its runs so far where none counts yet; None without any epoch."""
    members = configuration.counted or configuration.runs
    epochs, series = thinning.mean_curve(members, most)
    if not epochs:
        return None
    axis = axes.setdefault(tuple(epochs), len(axes))
    packed = {key: [thinning.pack(value) for value in values] for key, values in series.items()}
    return {"axis": axis, "n": len(members), "series": packed}


@dataclass
class Names:
    """The names of each data set's classes, asked for once; numbers where they are not known."""

    ask: ClassNames
    known: dict[str, Sequence[str] | None] = field(default_factory=dict)

    def of(self, run: Run) -> Sequence[str]:
        if run.dataset not in self.known:
            self.known[run.dataset] = self.ask(run)
        found = self.known[run.dataset]
        if found is None:
            labels, given = answers.answered(run)
            return [str(number) for number in range(1 + int(max(labels.max(), given.max())))]
        return found


def of_answers(
    configuration: Configuration, names: Names, gallery: Gallery, places: Mapping[int, int], told: list[str]
) -> dict[str, Any]:
    """Return classes and mistakes of a configuration with results; what cannot be had is told."""
    found: dict[str, Any] = {}
    if not configuration.counted:
        return found
    try:
        known = names.of(configuration.counted[0])
        found["answers"] = answers.of_classes(answers.confusion(configuration.counted, len(known)), known)
    except UserError as error:
        told.append(str(error))
    run = configuration.median_run
    try:
        listed = answers.mistakes(run)
    except UserError as error:
        told.append(str(error))
        return found
    album, why = gallery.add(run, [mistake.index for mistake in listed])
    rows = [[m.index, m.label, m.predicted, round(m.probability, 4)] for m in listed]
    return found | {"mistakes": {"run": places[id(run)], "rows": rows, "album": album, "why": why}}


def grid_values(grid: Grid, numbers: Mapping[int, int]) -> dict[str, Any]:
    cells = [[x, y, numbers[id(c)]] for (x, y), c in sorted(grid.cells.items())]
    fixed = {key: shown(value) for key, value in grid.fixed.items()}
    return {"dataset": grid.dataset, "recipe": grid.recipe, "x": grid.x, "y": grid.y, "fixed": fixed, "cells": cells}


class Bases:
    """Settings and environments that many runs share, each told once: of a run only what differs is."""

    def __init__(self) -> None:
        self.recipes = frozenset(recipes.names())
        self.settings: dict[str, dict[str, Any]] = {}
        self.environments: list[dict[str, Any]] = []

    def of_recipe(self, name: str) -> dict[str, Any]:
        """Return a recipe's settings; the defaults for what is no recipe of ours."""
        name = name if name in self.recipes else ""
        if name not in self.settings:
            self.settings[name] = flatten(to_dict(load(name).config if name else Config()))
        return self.settings[name]

    def environment(self, env: dict[str, Any]) -> dict[str, Any]:
        """Return the environment that others are told against: that of the first run."""
        if not self.environments:
            self.environments.append(env)
        return self.environments[0]


def of_run(run: Run, bases: Bases) -> dict[str, Any]:
    """Return a run's own section: what it differs in from its recipe and from the first run's environment."""
    base = bases.of_recipe(run.recipe)
    with runs.explained(run.directory.path, "read"), os.scandir(run.directory.path) as entries:
        files = sorted((entry.name, entry.stat().st_size) for entry in entries if entry.is_file())
    return {
        "place": run.place,
        "hash": run.hash,
        "dataset": run.dataset,
        "seed": run.seed,
        "complete": run.complete,
        "base": run.recipe if run.recipe in bases.recipes else "",
        "recipe": run.recipe,
        "settings": apart(run.settings, base),
        "environment": apart(run.env, bases.environment(run.env)),
        "result": [run.result.get(key) for key in RESULT_KEYS] if run.result else None,
        "epochs": [int(run.rows[-1]["epoch"]) if run.rows else 0, run.config.train.epochs],
        "left_out": run.left_out,
        "files": [list(file) for file in files],
    }


def apart(this: Mapping[str, Any], base: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of `this` differs from `base`; null for what it lacks."""
    keys = dict.fromkeys([*this, *base])
    return {key: this.get(key) for key in keys if this.get(key) != base.get(key)}


def without_nan(value: Any) -> Any:
    """Return plain values with null for numbers that JSON has none for."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: without_nan(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(inner) for inner in value]
    return value
