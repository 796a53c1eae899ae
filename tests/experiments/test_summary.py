"""What a sweep's runs say: the best cell and how it is chosen, differences to it over the same seeds, corrected."""

import json
import statistics
from typing import Any

import pytest

from pictorch.config import Config
from pictorch.experiments import summary
from pictorch.experiments.plan import Cell
from pictorch.experiments.stats import holm, paired
from pictorch.experiments.summary import Line, Summary


def line(number: int, errors: dict[int, float], val_errors: dict[int, float] | None = None, wanted: int = 3) -> Line:
    config = Config()
    config = config.model_copy(update={"optim": config.optim.model_copy(update={"lr": number / 10})})
    cell = Cell(number, f"lr={number / 10}", config, "recipe", ("recipe", "optim.lr=0.1"), {"optim.lr": number / 10})

    def row(seed: int) -> dict[str, Any]:
        val = 100 - val_errors[seed] if val_errors else None
        return {"test_error": errors[seed], "val_top1": val, "complete": True, "train_seconds": 2.0}

    return Line(cell, {seed: row(seed) for seed in errors}, wanted)


A = {1: 5.0, 2: 5.2, 3: 5.1}
B = {1: 6.1, 2: 6.0, 3: 6.3}
C = {1: 5.3, 2: 5.1, 3: 5.4}


def test_each_cell_is_held_against_the_best_over_the_same_seeds() -> None:
    found = summary.compared([line(1, B), line(2, A), line(3, C), line(4, {2: 9.0, 3: 9.5}), line(5, {})])
    assert [one.best for one in found.lines] == [False, True, False, False, False]
    b, a, c, some, none = found.lines
    assert (a.against, a.p, none.against, none.p) == (None, None, None, None)
    assert b.against == paired(list(A.values()), list(B.values()))
    assert some.against == paired([5.2, 5.1], [9.0, 9.5])
    chances = [one.against.p for one in (b, c, some) if one.against]
    assert [b.p, c.p, some.p] == holm([p for p in chances if p is not None])
    assert (b.p or 0) > (chances[0] or 0)


def test_the_best_has_as_many_runs_as_any() -> None:
    found = summary.compared([line(1, A), line(2, {1: 0.1})])
    assert [one.best for one in found.lines] == [True, False]


def test_one_seed_has_no_test() -> None:
    found = summary.compared([line(1, {1: 5.0}), line(2, {1: 6.0})])
    other = found.lines[1]
    assert other.against
    assert (other.against.difference, other.p, other.interval, other.spread) == (1.0, None, None, None)


def test_validation_chooses_where_there_is_a_validation_part() -> None:
    found = summary.compared([line(1, A, val_errors=B), line(2, B, val_errors=A)])
    assert [one.best for one in found.lines] == [False, True]
    assert found.by == "validation"
    assert found.caution().startswith("The best of 2 cells is chosen by its validation error, so its test error is")
    assert found.lines[0].val_error == pytest.approx(statistics.fmean(B.values()))


def test_the_best_by_test_error_is_said_to_be_optimistic() -> None:
    found = summary.compared([line(1, A), line(2, B), line(3, {})])
    assert found.by == "test"
    assert "The best of 2 cells is chosen by the test error itself, so that error is optimistic" in found.caution()
    mixed = summary.compared([line(1, A), line(2, B, val_errors=A)])
    assert mixed.by == "test"


def test_one_cell_was_not_chosen() -> None:
    assert summary.compared([line(1, A), line(2, {})]).caution() == ""


def test_nothing_finished_has_no_best() -> None:
    assert summary.compared([line(1, {}), line(2, {})]) == Summary((line(1, {}), line(2, {})), None)


def test_lines_as_json() -> None:
    found = summary.compared([line(1, A), line(2, B)])
    value = json.loads(json.dumps(summary.as_values(found.lines[1])))
    assert (value["cell"], value["n"], value["runs"], value["settings"]) == (2, 3, 3, {"optim.lr": 0.2})
    assert value["test_errors"] == list(B.values())
    assert (value["median"], value["seeds"], value["best"], value["complete"]) == (6.1, [1, 2, 3], False, True)
    assert value["difference"] == pytest.approx(1.033, abs=1e-3)
    assert value["p_holm"] == found.lines[1].p
    assert summary.as_values(line(3, {}))["median"] is None
