"""Runs of the same settings together: how many seeds, what they say, which settings tell one group from another."""

import json
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, NamedTuple, TypeGuard

from pictorch.config.load import SCALED
from pictorch.config.schema import EXECUTION_KEYS
from pictorch.reports.reading import Run

Interval = Callable[[Sequence[float]], tuple[float, float] | None]
SILENT = EXECUTION_KEYS | {"as_published", "schedule.scale"}  # change no result, or only while recipes are loaded
SCALED_KEYS = frozenset(f"{block}.{leaf}" for block, leaf in SCALED)
MOST_GRIDS = 12
LEAST_FILLED = 0.5  # of a heat-map's cells


@dataclass(frozen=True)
class Summary:
    """Errors of n seeds in per cent: median, mean, standard deviation and 95% interval of the mean (None for one)."""

    n: int
    median: float
    mean: float
    sd: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, eq=False)
class Configuration:
    """The runs of one configuration on one data set.

    `counted` are its complete runs, of each seed the first one that was finished; `summary` is of their test errors,
    None without any. `varying` are its values of the settings in which configurations of its recipe that have results
    differ (all of its recipe, where none has).
    """

    hash: str
    recipe: str
    dataset: str
    runs: list[Run]
    counted: list[Run]
    summary: Summary | None
    varying: dict[str, Any]

    @property
    def name(self) -> str:
        words = [f"{key}={shown(value)}" for key, value in self.varying.items()]
        return " ".join([self.recipe, *words])

    @property
    def errors(self) -> list[float]:
        return [run.error for run in self.counted]

    @property
    def median_run(self) -> Run:
        """The counted run with the median error; of an even number, the lower of the two."""
        ranked = sorted(self.counted, key=lambda run: run.error)
        return ranked[(len(ranked) - 1) // 2]


@dataclass(frozen=True)
class Grid:
    """Configurations of one data set over two settings: `cells` are {(x value, y value): configuration}.

    `fixed` are the settings that vary elsewhere in the report and have one value here.
    """

    dataset: str
    recipe: str
    x: str
    y: str
    fixed: dict[str, Any]
    cells: dict[tuple[float, float], Configuration]


class Plane(NamedTuple):
    """Two settings, the values of the others that vary, and {(x value, y value): which of the members}."""

    x: str
    y: str
    fixed: dict[str, Any]
    cells: dict[tuple[float, float], int]


def shown(value: object) -> str:
    """Return a setting's value as it is written on the command line."""
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list):
        return "[" + ", ".join(shown(part) for part in value) + "]"
    return json.dumps(value)


def summarise(errors: Sequence[float], interval: Interval) -> Summary | None:
    """Return what errors of different seeds say; `interval` gives the 95% interval of their mean."""
    if not errors:
        return None
    low, high = interval(errors) or (None, None)
    sd = statistics.stdev(errors) if len(errors) > 1 else None
    return Summary(len(errors), statistics.median(errors), statistics.fmean(errors), sd, low, high)


def group(runs: Sequence[Run], interval: Interval) -> list[Configuration]:
    """Return the configurations of the runs: by data set, those with results first, by their mean errors."""
    together: dict[tuple[str, str], list[Run]] = defaultdict(list)
    for run in runs:
        together[run.dataset, run.hash].append(run)
    with_results = [members for members in together.values() if any(run.complete for run in members)]
    varying = varying_keys(with_results or list(together.values()))
    found = []
    for (dataset, name), members in together.items():
        members.sort(key=lambda run: (run.seed, run.place))
        counted = first_of_each_seed(members)
        first = members[0]
        found.append(
            Configuration(
                hash=name,
                recipe=first.recipe,
                dataset=dataset,
                runs=members,
                counted=counted,
                summary=summarise([run.error for run in counted], interval),
                varying={key: first.settings.get(key) for key in varying.get((dataset, first.recipe), [])},
            )
        )
    return sorted(found, key=lambda c: (c.dataset, c.summary is None, c.summary.mean if c.summary else 0.0, c.hash))


def first_of_each_seed(runs: Sequence[Run]) -> list[Run]:
    """Return the complete runs, of each seed the first one that was finished: the same seed twice is not two seeds."""
    first: dict[int, Run] = {}
    for run in sorted((run for run in runs if run.complete), key=lambda run: (run.result or {})["finished"]):
        first.setdefault(run.seed, run)
    return [first[seed] for seed in sorted(first)]


def varying_keys(groups: Sequence[Sequence[Run]]) -> dict[tuple[str, str], list[str]]:
    """Return, of each (data set, recipe), the settings in which its configurations differ; lists of values last."""
    members: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for runs in groups:
        members[runs[0].dataset, runs[0].recipe].append(runs[0].settings)
    varying = {}
    for place, settings in members.items():
        keys = [key for key in dict.fromkeys(key for one in settings for key in one) if key not in SILENT]
        values = {key: {json.dumps(one.get(key)) for one in settings} for key in keys}
        several = [key for key in keys if len(values[key]) > 1 and not is_scaled(settings, key)]
        varying[place] = sorted(several, key=lambda key: any(text.startswith("[") for text in values[key]))
    return varying


def is_scaled(settings: Sequence[Mapping[str, Any]], key: str) -> bool:
    """Return whether a setting only goes along with the number of epochs, as the loader makes it."""
    return key in SCALED_KEYS and follows(settings, key, ("schedule.name", "train.epochs"))


def grids(configurations: Sequence[Configuration]) -> list[Grid]:
    """Return the grids over two varying numbers that configurations with results form, the largest first."""
    places: dict[tuple[str, str], list[Configuration]] = defaultdict(list)
    for configuration in configurations:
        if configuration.summary:
            places[configuration.dataset, configuration.recipe].append(configuration)
    found = [grid for members in places.values() for grid in grids_of(members)]
    return sorted(found, key=lambda grid: -len(grid.cells))[:MOST_GRIDS]


def grids_of(members: Sequence[Configuration]) -> Iterator[Grid]:
    """Yield the grids of one recipe's configurations."""
    for x, y, fixed, places in planes([member.varying for member in members]):
        cells = {place: members[i] for place, i in places.items()}
        yield Grid(members[0].dataset, members[0].recipe, x, y, fixed, cells)


def planes(settings: Sequence[Mapping[str, Any]]) -> Iterator[Plane]:
    """Yield each two numbers of settings with the same keys that form a grid, for each value of the others."""
    keys = list(settings[0])
    numeric = [key for key in keys if all(is_number(one.get(key)) for one in settings) and differs(settings, key)]
    for x, y in combinations(numeric, 2):
        rest = [key for key in keys if key not in (x, y) and not follows(settings, key, (x, y))]
        parts: dict[str, list[int]] = defaultdict(list)
        for i, one in enumerate(settings):
            parts[json.dumps([one.get(key) for key in rest])].append(i)
        for part in parts.values():
            cells = {(float(settings[i][x]), float(settings[i][y])): i for i in part}
            if len(cells) == len(part) and is_grid(cells):
                yield Plane(x, y, {key: settings[part[0]].get(key) for key in rest}, cells)


def is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def differs(settings: Sequence[Mapping[str, Any]], key: str) -> bool:
    return len({one[key] for one in settings}) > 1


def follows(settings: Sequence[Mapping[str, Any]], key: str, from_keys: tuple[str, str]) -> bool:
    """Return whether a setting is the same wherever those two are."""
    values: dict[str, str] = {}
    pairs = [(json.dumps([one.get(k) for k in from_keys]), json.dumps(one.get(key))) for one in settings]
    return all(values.setdefault(place, value) == value for place, value in pairs)


def is_grid(cells: Mapping[tuple[float, float], object]) -> bool:
    """Return whether positions have two values or more of either number, and fill half of the rectangle."""
    columns, rows = ({position[axis] for position in cells} for axis in (0, 1))
    return min(len(columns), len(rows)) > 1 and len(cells) >= max(4, LEAST_FILLED * len(columns) * len(rows))
