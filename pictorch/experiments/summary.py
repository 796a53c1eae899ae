"""What the finished runs of a sweep say of its cells, each against the best, with the number of cells counted."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from pictorch import runs
from pictorch.config import UserError
from pictorch.experiments.plan import Cell, Run
from pictorch.experiments.stats import Paired, holm, paired, t_interval

Row = dict[str, Any]  # a result.json


@dataclass(frozen=True)
class Line:
    """A cell: its finished runs by their seeds, and how it compares with the best cell.

    `against` is this cell - the best one in test error, over the seeds of both; `p` its chance, after Holm's correction
    for the number of cells; None where there is no spread to judge by, and for the best itself.
    """

    cell: Cell
    results: dict[int, Row]
    wanted: int
    best: bool = False
    against: Paired | None = None
    p: float | None = None

    @property
    def errors(self) -> list[float]:
        """Test errors, per cent, by seed."""
        return [float(self.results[seed]["test_error"]) for seed in sorted(self.results)]

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95% t interval of the mean."""
        return t_interval(self.errors)

    @property
    def spread(self) -> float | None:
        """The standard deviation; None of fewer than two runs."""
        return statistics.stdev(self.errors) if len(self.errors) > 1 else None

    @property
    def val_error(self) -> float | None:
        """Mean validation error; None where a run has no validation part."""
        accuracies = [row["val_top1"] for row in self.results.values()]
        if not accuracies or None in accuracies:
            return None
        return 100 - statistics.fmean(map(float, accuracies))


@dataclass(frozen=True)
class Summary:
    """A line for each cell, in the grid's order; `by` is what chose the best one (None: no run is finished)."""

    lines: tuple[Line, ...]
    by: str | None

    @property
    def whole(self) -> bool:
        """Whether every finished run was trained and tested in full."""
        return all(row["complete"] for line in self.lines for row in line.results.values())

    def caution(self) -> str:
        """Return what a reader must know of the best of several cells; nothing where only one has been tried."""
        tried = sum(bool(line.results) for line in self.lines)
        if tried < 2:
            return ""
        if self.by == "validation":
            return (
                f"The best of {tried} cells is chosen by its validation error, so its test error is an honest estimate."
            )
        return (
            f"The best of {tried} cells is chosen by the test error itself, so that error is optimistic: some of it is "
            "luck. Choose with data.val_fraction, or train the best again with other seeds."
        )


def summarise(planned: Sequence[Run]) -> Summary:
    """Return what the finished runs say."""
    cells = {run.cell.number: run.cell for run in planned}
    results: dict[int, dict[int, Row]] = {number: {} for number in cells}
    wanted = dict.fromkeys(cells, 0)
    for run in planned:
        wanted[run.cell.number] += 1
        if run.directory.result.exists():
            try:
                results[run.cell.number][run.seed] = runs.read_result(run.directory)
            except UserError:
                continue  # told where the run's state is
    lines = [Line(cell, results[number], wanted[number]) for number, cell in cells.items()]
    return compared(lines)


def compared(lines: Sequence[Line]) -> Summary:
    """Return the lines with each held against the best one: of those with the most runs, the least mean error.

    By validation where all runs have a validation part.
    """
    most = max((len(line.results) for line in lines), default=0)
    if not most:
        return Summary(tuple(lines), None)
    by_validation = all(line.val_error is not None for line in lines if line.results)

    def merit(line: Line) -> float:
        return float(line.val_error or 0) if by_validation else statistics.fmean(line.errors)

    best = min((line for line in lines if len(line.results) == most), key=merit)
    against = {line.cell.number: held_against(best, line) for line in lines if line is not best}
    p_values = {number: pairs.p for number, pairs in against.items() if pairs and pairs.p is not None}
    adjusted = dict(zip(p_values, holm(list(p_values.values())), strict=True))
    found = (
        replace(line, best=line is best, against=against.get(line.cell.number), p=adjusted.get(line.cell.number))
        for line in lines
    )
    return Summary(tuple(found), "validation" if by_validation else "test")


def held_against(best: Line, line: Line) -> Paired | None:
    """Return the cell's test error - the best one's over the seeds of both; None without a common seed."""
    seeds = sorted(best.results.keys() & line.results.keys())
    if not seeds:
        return None
    first, second = ([float(one.results[seed]["test_error"]) for seed in seeds] for one in (best, line))
    return paired(first, second)


def as_values(line: Line) -> dict[str, Any]:
    """Return a line as plain values, for JSON; errors in per cent, differences in points."""
    errors, pairs = line.errors, line.against
    low, high = line.interval or (None, None)
    return {
        "cell": line.cell.number,
        "name": line.cell.name,
        "settings": dict(line.cell.settings),
        "config_hash": line.cell.hash,
        "recipe": line.cell.recipe,
        "command": list(line.cell.words),
        "runs": line.wanted,
        "n": len(errors),
        "seeds": sorted(line.results),
        "test_errors": errors,
        "median": statistics.median(errors) if errors else None,
        "mean": statistics.fmean(errors) if errors else None,
        "sd": line.spread,
        "low": low,
        "high": high,
        "val_error": line.val_error,
        "best": line.best,
        "difference": pairs.difference if pairs else None,
        "difference_low": pairs.low if pairs else None,
        "difference_high": pairs.high if pairs else None,
        "p_holm": line.p,
        "train_seconds": sum(float(row["train_seconds"]) for row in line.results.values()),
        "complete": bool(line.results) and all(row["complete"] for row in line.results.values()),
    }
