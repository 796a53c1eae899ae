"""Grids: many runs that differ from one recipe in a few keys, written as a small YAML file (`configs/grids/`).

    extends: seed2/cifar10/resnet_preact_20     the recipe, or a YAML file beside this one; or a list of some
    cells:                                      these very combinations of dotted keys
      - {schedule.final_factor: 0}
      - {schedule.name: multistep, schedule.milestones_epochs: [100, 150]}
    zip:                                        lists of one length, taken together
      train.batch_size: [128, 64]
      optim.lr: [0.1, 0.05]
    grid:                                       every value of each with every one of the others
      augment.cutout.size: [8, 16]
      optim.weight_decay: {from: 1e-4, to: 1e-3, steps: 3, scale: log}
    constraints:                                of a cell's whole configuration; a cell that breaks one is left out
      - optim.lr <= train.batch_size / 640
    seeds: 5                                    runs of each cell

The cells are the product of the three for each recipe, those of `cells` outermost, then `zip`, then `grid` with its
last key fastest. A range (`from`, `to`, `steps`, and `scale`: linear or log) can stand wherever `zip` and `grid` have
a list.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from math import prod
from pathlib import Path
from typing import Any, NoReturn

from pictorch.config import ConfigError, UserError, nearest, recipes
from pictorch.config.explain import known_keys, near_key
from pictorch.config.files import Layer, parse, read_yaml, shown
from pictorch.config.keywords import show
from pictorch.config.load import find_parent
from pictorch.experiments.constraints import Constraint

KEYS = ("extends", "cells", "zip", "grid", "constraints", "seeds")
RANGE = ("from", "to", "steps", "scale")
DIGITS = 6  # of what a range computes
MOST_CELLS = 10_000
MOST_SEEDS = 1000

Cell = dict[str, Any]  # dotted key -> value


@dataclass(frozen=True)
class Grid:
    """The cells, a recipe's name (or the YAML file in its place) with overrides each, and how many seeds each has.

    `constraints` are on a cell's whole configuration; whoever loads it leaves out the cells that break one.
    """

    name: str
    cells: tuple[tuple[str | Path, tuple[str, ...]], ...]
    seeds: int = 1
    constraints: tuple[Constraint, ...] = ()


def load(source: str | Path) -> Grid:
    """Return a shipped grid (`grids/seed1_mnist`) or that of a YAML file, with its cells in their order.

    Raises UserError for an unknown grid, ConfigError naming file and line for a file that is not one.
    """
    path = Path(source).expanduser() if str(source).endswith((".yaml", ".yml")) else find(str(source))
    return Reading(path).grid()


def find(name: str) -> Path:
    """Return the file of a shipped grid. Raises UserError with the nearest names for an unknown one."""
    full = name if name.startswith(recipes.GRIDS) else recipes.GRIDS + name
    if full in recipes.grids():
        return recipes.directory() / f"{full}.yaml"
    if name in recipes.names():
        raise UserError(f"{name} is a recipe, not a grid of runs: `pictorch train {name}` trains it")
    raise UserError(f"no grid {show(name)}{nearest(full, recipes.grids())}\na file is given by its path, NAME.yaml")


class Reading:
    """A grid's file as it is read, which knows where each key stands."""

    def __init__(self, path: Path) -> None:
        self.path = path
        layer: Layer = read_yaml(path)
        self.tree, self.origins = layer
        for key in self.tree:
            if key not in KEYS:
                self.refuse(key, f"unknown key of a grid{nearest(key, KEYS)}")

    def refuse(self, key: str, problem: str) -> NoReturn:
        """Raise ConfigError with the place of a key."""
        raise ConfigError(f"{self.origins.get(key, shown(self.path))}: {key}: {problem}")

    def grid(self) -> Grid:
        varied, cells, zipped, grid = self.recipes(), self.cells(), self.zipped(), self.lists("grid")
        self.check_apart(cells, zipped, grid)
        count = len(varied) * len(cells) * len(zipped) * prod(map(len, grid.values()))
        if count > MOST_CELLS:
            raise ConfigError(f"{shown(self.path)}: expected a grid of at most {MOST_CELLS:,} cells, got {count:,}")
        values = [dict(zip(grid, row, strict=True)) for row in product(*grid.values())]
        written = [overrides(a | b | c) for a, b, c in product(cells, zipped, values)]
        for i, cell in enumerate(written):
            if cell in written[:i]:
                raise ConfigError(f"{shown(self.path)}: this cell stands twice in the grid: {' '.join(cell)}")
        return Grid(self.path.stem, tuple(product(varied, written)), self.seeds(), self.constraints())

    def recipes(self) -> list[str | Path]:
        """Return the recipes that the runs vary."""
        given = self.tree.get("extends")
        names = given if isinstance(given, tuple) and given else (given,)
        for name in names:
            if not isinstance(name, str):
                self.refuse("extends", f"expected the recipe that the runs vary, or a list of some, got {show(name)}")
            if names.count(name) > 1:
                self.refuse("extends", f"{name} stands twice in the list")
        known, place = recipes.names(), self.origins["extends"]
        return [name if name in known else find_parent(name, self.path.parent, place) for name in names]

    def seeds(self) -> int:
        seeds = self.tree.get("seeds", 1)
        if type(seeds) is not int or not 1 <= seeds <= MOST_SEEDS:
            self.refuse("seeds", f"expected a whole number from 1 to {MOST_SEEDS:,}, got {show(seeds)}")
        return seeds

    def constraints(self) -> tuple[Constraint, ...]:
        texts = self.tree.get("constraints", ())
        if not isinstance(texts, tuple) or not all(isinstance(text, str) for text in texts):
            self.refuse(
                "constraints", "expected a list of comparisons, for example - optim.lr <= train.batch_size / 64"
            )
        place = self.origins.get("constraints", shown(self.path))
        return tuple(Constraint.read(text, f"{place}: constraints") for text in texts)

    def cells(self) -> list[Cell]:
        """Return the combinations under `cells`, a single empty one where there are none."""
        cells = self.tree.get("cells", ({},))
        if not isinstance(cells, tuple) or not cells or not all(isinstance(cell, dict) for cell in cells):
            self.refuse("cells", "expected a list of mappings, for example - {optim.lr: 0.1, train.batch_size: 128}")
        for i, cell in enumerate(cells, start=1):
            for key, value in cell.items():
                self.check_key(key, "cells", f"cell {i}: ")
                self.check_value(value, "cells", f"cell {i}: {key}: ")
        return list(cells)

    def zipped(self) -> list[Cell]:
        """Return the rows under `zip`, a single empty one where there are none."""
        lists = self.lists("zip")
        if len({len(values) for values in lists.values()}) > 1:
            lengths = ", ".join(f"{key} has {len(values)}" for key, values in lists.items())
            self.refuse("zip", f"expected lists of one length, but {lengths}")
        return [dict(zip(lists, row, strict=True)) for row in zip(*lists.values(), strict=True)] or [{}]

    def lists(self, block: str) -> dict[str, tuple[Any, ...]]:
        """Return {dotted key: values} of `grid` or `zip`."""
        lists = self.tree.get(block, {})
        if not isinstance(lists, dict):
            self.refuse(block, f"expected keys with a list of values each, got {show(lists)}")
        return {key: self.axis(f"{block}.{key}", key, values) for key, values in lists.items()}

    def axis(self, place: str, key: str, values: Any) -> tuple[Any, ...]:
        """Return the values of a key: a list's, or those of a range."""
        self.check_key(key, place)
        if isinstance(values, dict) and "from" in values:
            return self.spread(place, values)
        if not isinstance(values, tuple) or not values:
            self.refuse(place, f"expected a list of values or a range {{from: A, to: B, steps: N}}, got {show(values)}")
        for value in values:
            self.check_value(value, place)
        return values

    def spread(self, place: str, given: Mapping[str, Any]) -> tuple[float, ...]:
        """Return the values of a range, its ends among them: at equal distances, or with scale log at equal ratios."""
        for key in given:
            if key not in RANGE:
                self.refuse(f"{place}.{key}", f"unknown key of a range{nearest(key, RANGE)}")
        whole = {"to": None, "steps": None, "scale": "linear", **given}
        low, high, steps, scale = (whole[key] for key in RANGE)
        for key, value in (("from", low), ("to", high)):
            if type(value) not in (int, float) or not math.isfinite(value):
                self.refuse(f"{place}.{key}", f"expected a number, got {show(value)}")
        if type(steps) is not int or not 2 <= steps <= MOST_CELLS:
            self.refuse(f"{place}.steps", f"expected a whole number from 2 to {MOST_CELLS:,}, got {show(steps)}")
        if scale not in ("linear", "log"):
            self.refuse(f"{place}.scale", f"expected linear or log, got {show(scale)}")
        if scale == "log" and min(low, high) <= 0:
            self.refuse(place, f"a log scale goes from a number above 0 to another, got {show(low)} and {show(high)}")
        if low == high:
            self.refuse(place, f"expected a range from a number to another, got {show(low)} twice")
        return between(low, high, steps, log=scale == "log")

    def check_key(self, key: str, place: str, prefix: str = "") -> None:
        if key not in known_keys() and not re.fullmatch(r"model\.\w+", key):
            self.refuse(place, f"{prefix}{key} is no key of a configuration{near_key(key, {})}")

    def check_value(self, value: Any, place: str, prefix: str = "") -> None:
        if isinstance(value, Mapping):
            self.refuse(place, f"{prefix}expected a plain value; keys of a block are written with dots")

    def check_apart(self, cells: list[Cell], zipped: list[Cell], grid: Mapping[str, Any]) -> None:
        """Raise ConfigError for a key that stands in two of `cells`, `zip` and `grid`."""
        keys = [*{key for cell in cells for key in cell}, *zipped[0], *grid]
        for key in keys:
            if keys.count(key) > 1:
                raise ConfigError(f"{shown(self.path)}: {key}: this key stands under two of cells, zip and grid")


def between(low: float, high: float, steps: int, *, log: bool) -> tuple[float, ...]:
    """Return `steps` numbers from `low` to `high`, rounded to six digits; whole numbers where all are."""
    parts = [i / (steps - 1) for i in range(1, steps - 1)]
    inner = [low * (high / low) ** t if log else low + (high - low) * t for t in parts]
    numbers = [low, *inner, high]
    if type(low) is type(high) is int and all(math.isclose(n, round(n), rel_tol=1e-12) for n in numbers):
        return tuple(round(n) for n in numbers)
    return (float(low), *(float(f"{n:.{DIGITS}g}") for n in inner), float(high))


def overrides(cell: Cell) -> tuple[str, ...]:
    """Return a cell as the command line writes it: `key=value`, without blanks."""
    return tuple(f"{key}={written(value)}" for key, value in cell.items())


def written(value: Any) -> str:
    """Return a value as YAML that reads back as itself, a list without blanks."""
    if isinstance(value, tuple):
        return f"[{','.join(map(written, value))}]"
    plain = isinstance(value, str) and re.fullmatch(r"[\w./:+-]+", value) and parse(value, str)[0] == value
    return str(value) if plain else show(value)
