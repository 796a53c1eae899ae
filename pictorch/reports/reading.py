"""Run directories read for a report: what each says, and of those that cannot be reported, why."""

import contextlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from pictorch import runs
from pictorch.config import Config, UserError, config_hash, load, to_dict
from pictorch.config.files import YamlLoader
from pictorch.config.schema import flatten
from pictorch.runs import RunDir, RunError

Point = dict[str, float]


@dataclass(frozen=True, eq=False)
class Run:
    """One run directory as a report needs it.

    `settings` is the configuration as {dotted key: plain value}; `rows` are the whole lines of metrics.jsonl by their
    epochs, `left_out` the number of its other lines; `result` is None until the run is finished.
    """

    directory: RunDir
    config: Config
    hash: str
    settings: dict[str, Any]
    env: dict[str, Any]
    result: dict[str, Any] | None
    rows: list[Point]
    left_out: int

    @property
    def place(self) -> str:
        return printable(self.directory.path)

    @property
    def complete(self) -> bool:
        """Whether its error is a result: it trained all its epochs and was tested on all images."""
        return self.result is not None and bool(self.result["complete"])

    @property
    def seed(self) -> int:
        return self.config.train.seed

    @property
    def own_split(self) -> bool:
        """Whether its seed decides which images are held out, too."""
        return self.config.data.split_seed == "run"

    @property
    def recipe(self) -> str:
        return str((self.result or self.env).get("recipe", "custom"))

    @property
    def dataset(self) -> str:
        """The data set's name, with `@checksum` where the files are not the official ones."""
        return str((self.result or self.env).get("dataset", self.config.data.name))

    @property
    def error(self) -> float:
        """Test error in per cent, of a finished run."""
        assert self.result is not None
        return float(self.result["test_error"])

    @cached_property
    def evaluation(self) -> dict[str, Any]:
        """What `pictorch eval` left in the directory; nothing where it was not called, or left something else."""
        try:
            return runs.read_json(self.directory.evaluation)
        except RunError:
            return {}

    @property
    def hardware(self) -> str:
        resumed = self.env.get("resumed")
        sessions = [self.env, *(resumed if isinstance(resumed, list) else [])]
        last = {**self.env, **(sessions[-1] if isinstance(sessions[-1], dict) else {})}
        return f"{last.get('gpu') or last.get('cpu') or 'unknown'}, {self.env.get('precision', 'precision unknown')}"


class QuickLoader(getattr(yaml, "CSafeLoader", YamlLoader)):  # type: ignore[misc]
    """Reads our YAML by libyaml, where PyYAML was built with it."""

    yaml_implicit_resolvers = YamlLoader.yaml_implicit_resolvers


def printable(text: object) -> str:
    """Return a text with the bytes of a file name that are no UTF-8 escaped."""
    return str(text).encode("utf-8", "backslashreplace").decode()


def read_all(places: Sequence[Path]) -> tuple[list[Run], list[tuple[str, str]]]:
    """Return the runs at or below the places, by their paths, and (directory, reason) of those not reported.

    Raises UserError where there is no run to report, naming where it was looked for.
    """
    found: list[Run] = []
    refused: list[tuple[str, str]] = []
    for directory in inside(places):
        try:
            found.append(read(directory))
        except UserError as error:
            refused.append((printable(directory.path), printable(error).removeprefix(f"{directory.path}/")))
    looked = ", ".join(printable(place) for place in places)
    if not found and refused:
        reasons = "".join(f"\n  {place}: {reason}" for place, reason in refused[:10])
        raise UserError(f"{looked}: none of the {len(refused)} run directories here can be reported:{reasons}")
    if not found:
        raise UserError(f"{looked}: there is no run directory here or below; `pictorch train` makes one in runs/")
    return found, refused


def inside(places: Sequence[Path]) -> list[RunDir]:
    """Return the directories at or below the places that are runs, or that have a run's result, each once."""
    for place in places:
        if not place.is_dir():
            runs.open(place)  # says what is there instead
    with runs.explained(places[0], "read"):
        whole = [run.path for run in runs.collect(places)]
        damaged = [path.parent for place in places for path in place.rglob(RunDir(place).result.name)]
    once = {path.resolve(): path for path in reversed([*whole, *damaged])}
    return [RunDir(path) for path in sorted(once.values())]


def read(directory: RunDir) -> Run:
    """Return a run. Raises UserError where a file is missing, damaged, or of another version."""
    env = runs.read_json(directory.env)
    if not directory.config.is_file():
        raise RunError(f"{directory.config}: this file of the run is missing")
    config = read_config(directory.config)
    result = runs.read_result(directory) if directory.result.exists() else None
    if result and not math.isfinite(result["test_error"]):
        raise RunError(f"{directory.result}: test_error: expected a number, got {result['test_error']}")
    rows, left_out = read_rows(directory)
    return Run(directory, config, config_hash(config), flatten(to_dict(config)), env, result, rows, left_out)


def read_config(path: Path) -> Config:
    """Return a run's configuration. Raises ConfigError, with the line of each mistake, where it is none of ours.

    `load` says where each value was written, and takes 20 times as long.
    """
    with contextlib.suppress(OSError, UnicodeDecodeError, yaml.YAMLError, ValidationError, RecursionError):
        return Config.model_validate(yaml.load(path.read_text(encoding="utf-8"), Loader=QuickLoader))
    return load(path).config


def read_rows(directory: RunDir) -> tuple[list[Point], int]:
    """Return the rows of metrics.jsonl in the order of their epochs, and how many of its lines are none."""
    rows: dict[int, Point] = {}
    for row in runs.read_metrics(directory):
        with contextlib.suppress(ValueError, OverflowError):  # an epoch that is not finite, a number beyond any float
            rows[int(row["epoch"])] = {key: float(value) for key, value in row.items()}
    if not directory.metrics.exists():
        return [], 0
    lines = directory.metrics.read_text(encoding="utf-8", errors="replace").splitlines()
    return [rows[epoch] for epoch in sorted(rows)], sum(1 for line in lines if line.strip()) - len(rows)
