"""The plan: cells and their words, how far runs are, what they cost, and what a budget leaves."""

import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import SMALL, rewrite

from pictorch import api, runs
from pictorch.config import Config, ConfigError, UserError, config_hash, dump, to_dict
from pictorch.experiments import grid, plan
from pictorch.experiments.executors import Task
from pictorch.experiments.plan import Cost, Run, Study

SMALL_WORDS = list(SMALL)
COST = Cost(2.0, 0.5, 4.0, steps_per_epoch=10, peak_memory_bytes=2**30)


def study(text: str, *overrides: str) -> Study:
    path = Path("grid.yaml")
    path.write_text(f"extends: digits/resnet_preact_8\n{text}\n")
    return plan.study(grid.load(path), overrides, api.load_checked)


def test_cells_are_complete_and_named_by_what_varies() -> None:
    found = study(
        """
zip:
  train.batch_size: [64, 32]
  optim.momentum: [0.9, 0.9]
grid:
  schedule.name: [cosine, constant]
  augment.cutout.size: [2, 4]
constraints: ["train.batch_size > 32 or augment.cutout.size == 2"]
""",
        "train.epochs=8",
    )
    assert (len(found.cells), found.left_out) == (6, 2)
    assert [cell.number for cell in found.cells] == [1, 2, 3, 4, 5, 7]
    cell = found.cells[-1]
    assert cell.name == "batch_size=32 schedule.name=constant cutout.size=2"
    assert cell.settings == {"train.batch_size": 32, "schedule.name": "constant", "augment.cutout.size": 2}
    assert cell.words[0] == "digits/resnet_preact_8"
    assert api.load_config(cell.words[0], cell.words[1:]) == cell.config
    assert (cell.config.train.epochs, cell.recipe) == (8, "digits/resnet_preact_8")


def test_cells_of_several_recipes_are_named_by_them() -> None:
    Path("grid.yaml").write_text("extends: [digits/resnet_preact_8, other]\ngrid: {optim.lr: [0.1, 0.2]}\n")
    Path("other.yaml").write_text("extends: digits/resnet_preact_8\nmodel: {depth: 14}\n")
    first, *_, last = plan.study(grid.load(Path("grid.yaml")), ["train.epochs=2"], api.load_checked).cells
    assert (first.name, first.recipe) == ("digits/resnet_preact_8 lr=0.1", "digits/resnet_preact_8")
    assert last.name == "other.yaml lr=0.2"
    assert last.settings == {"recipe": "other.yaml", "optim.lr": 0.2}
    assert api.load_config(last.words[0], last.words[1:]) == last.config
    assert last.config.model.options["depth"] == 14


def test_fewer_epochs_scale_what_a_cell_counts_in_epochs() -> None:
    text = "cells:\n  - {schedule.name: multistep, schedule.milestones_epochs: [10, 20]}\n  - {}"
    first, second = study(text, "train.epochs=3").cells
    assert first.config.schedule.milestones_epochs == (1.0, 2.0)  # type: ignore[union-attr]
    assert api.load_config(first.words[0], first.words[1:]) == first.config
    assert second.config.schedule.warmup_epochs == 0.2
    kept = study(text.replace("20]", "20], schedule.scale: false"), "train.epochs=40").cells[0]
    assert kept.config.schedule.milestones_epochs == (10, 20)  # type: ignore[union-attr]


def test_all_mistakes_of_all_cells_are_told_with_their_cells() -> None:
    with pytest.raises(ConfigError) as caught:
        study("grid: {optim.lr: [0.1, -1, 0.2, -2]}")
    first, second = str(caught.value).splitlines()
    assert first.startswith("grid: cell 2: optim.lr: expected a value above 0, got -1")
    assert second.startswith("grid: cell 4: optim.lr: ")


def test_what_is_wrong_with_every_cell_is_told_once() -> None:
    with pytest.raises(ConfigError, match=r"^command line: train\.epochs: expected [^\n]*$"):
        study("grid: {optim.lr: [0.1, 0.2]}", "train.epochs=no")


@pytest.mark.parametrize(
    ("text", "overrides", "message"),
    [
        (
            "grid: {train.seed: [1, 2]}",
            [],
            r"cells 1 and 2 are one experiment: they differ in train\.seed alone.*seeds: N",
        ),
        ("grid: {optim.lr: [0.1, 0.2]}", ["optim.lr=0.3"], r"cells 1 and 2 are one experiment: they are equal"),
        ("cells: [{}, {optim.momentum: 0.9}]", [], r"grid: cells 1 and 2 are one experiment"),
        ("grid: {optim.lr: [0.1]}", ["train.replicas=3"], r"train\.replicas: the runs of a sweep"),
        ("constraints: [optim.lr > 1]", [], r"the constraints leave none of the 1 cells"),
    ],
)
def test_grids_that_are_no_study(text: str, overrides: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        study(text, *overrides)


def test_of_cells_that_are_cut_to_the_same_the_first_stays() -> None:
    path = Path("grid.yaml")
    path.write_text("extends: digits/resnet_preact_8\ngrid: {train.batch_size: [64, 128, 32]}\n")

    def cut(config: Config) -> tuple[Config, list[str]]:
        size = min(64, config.train.batch_size)
        train = config.train.model_copy(update={"batch_size": size})
        return config.model_copy(update={"train": train}), [f"train.batch_size={size}"]

    found = plan.study(grid.load(path), [], api.load_checked, cut)
    assert ([cell.number for cell in found.cells], found.alike, found.left_out) == ([1, 3], 1, 0)
    assert found.cells[0].words[-2:] == ("train.batch_size=64", "train.batch_size=64")


def test_runs_go_seed_by_seed_into_directories_named_by_their_hash(tmp_path: Path) -> None:
    found = study("grid: {optim.lr: [0.1, 0.2]}", "train.seed=5")
    planned = plan.all_runs(found.cells, 2, tmp_path)
    assert [(run.cell.number, run.seed) for run in planned] == [(1, 5), (2, 5), (1, 6), (2, 6)]
    assert [run.directory.path.name for run in planned[::2]] == [f"{planned[0].cell.hash}-seed{n}" for n in (5, 6)]
    assert {run.state for run in planned} == {"new"}
    for run in planned:
        assert config_hash(run.config) == run.cell.hash
        assert api.load_config(run.words[0], run.words[1:]) == run.config


@pytest.fixture
def one(small_run: api.Result, tmp_path: Path) -> Run:
    """The only run of a study, finished."""
    [run] = plan.all_runs(study("", *SMALL_WORDS).cells, 1, tmp_path)
    shutil.copytree(small_run.run_dir, run.directory.path)
    return run


def again(run: Run) -> Run:
    return plan.look(run.cell, run.seed, run.directory.path.parent)


def test_how_far_a_run_is_stands_in_its_directory_alone(one: Run) -> None:
    assert again(one).state == "finished"
    one.directory.result.unlink()
    begun = again(one)
    assert (begun.state, begun.epochs_done, begun.left) == ("begun", 3, True)
    with runs.lock(one.directory):
        assert again(one).state == "elsewhere"
    assert not plan.held(runs.RunDir(Path("nowhere")))
    one.directory.config.unlink()
    assert again(one).state == "new"


def test_a_begun_run_goes_on_as_it_began(one: Run) -> None:
    """Where it is executed is its own; that it is the same experiment is checked."""
    one.directory.result.unlink()
    began = one.config.model_copy(update={"train": one.config.train.model_copy(update={"threads": 2})})
    runs.write_text(one.directory.config, dump(to_dict(began)))
    assert again(one).config == began


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (lambda run: rewrite(run.directory.result, config_hash="0" * 12), "this run is not the one that its name says"),
        (lambda run: rewrite(run.directory.result, test_error="x"), "test_error: missing or of another type"),
        (
            lambda run: (run.directory.result.unlink(), run.directory.config.write_text("trian: {}")),
            "unknown key; did you mean 'train'",
        ),
        (
            lambda run: (run.directory.result.unlink(), run.directory.config.write_text("train: {epochs: 9}")),
            "this run is not the one that its name says",
        ),
    ],
)
def test_a_directory_of_another_version_is_told_and_left(one: Run, damage: Any, why: str) -> None:
    damage(one)
    found = again(one)
    assert (found.state, found.left) == ("broken", False)
    assert why in found.why


def test_a_step_costs_the_same_whatever_the_rate_but_not_whatever_the_batch() -> None:
    first, *others = study(
        """
cells:
  - {}
  - {optim.lr: 0.2, train.epochs: 3, train.seed: 4, schedule.name: constant, optim.weight_decay: 0}
  - {train.batch_size: 32}
  - {augment.cutout.size: 2}
  - {augment.cutout.size: 3}
"""
    ).cells
    kinds = [plan.cost_class(cell.config) == plan.cost_class(first.config) for cell in others]
    assert kinds == [True, False, False, False]
    assert plan.cost_class(others[2].config) == plan.cost_class(others[3].config)


def test_the_price_is_of_what_is_left() -> None:
    [cell] = study("", "train.epochs=8", "train.eval_every_epochs=3").cells
    assert COST.seconds(cell.config) == 2 + 80 * 0.5 + 3 * 4
    assert COST.seconds(cell.config, epochs_done=6) == 2 + 20 * 0.5 + 4
    assert COST.seconds(cell.config, epochs_done=8) == 2
    [cell] = study("", "train.max_steps=5").cells
    assert COST.seconds(cell.config) == 2 + 5 * 0.5 + 4


def test_a_finished_run_is_a_price(one: Run) -> None:
    [cost] = plan.known_costs([again(one)]).values()
    row, rows = runs.read_result(one.directory), runs.read_metrics(one.directory)
    assert cost.steps_per_epoch == 11
    assert cost.step_seconds == pytest.approx(sum(r["seconds"] for r in rows) / 33)
    assert cost.peak_memory_bytes == row["peak_memory_bytes"]
    whole = cost.seconds(one.config) - cost.start_seconds
    assert whole == pytest.approx(row["train_seconds"])
    rewrite(one.directory.result, complete=False)
    assert plan.known_costs([again(one)]) == {}


def tasks(*seconds: float) -> list[Task]:
    run = runs.RunDir(Path("run"))
    return [Task(run, Config(), "recipe", (), n) for n in seconds]


def test_wall_time_is_that_of_the_last_to_end() -> None:
    assert plan.wall_seconds([3, 1, 1, 2], 1) == 7
    assert plan.wall_seconds([3, 1, 1, 2], 2) == 4
    assert plan.wall_seconds([3, 1], 5) == 3
    assert plan.wall_seconds([], 2) == 0


def test_a_budget_takes_runs_in_order_while_they_fit() -> None:
    given = tasks(3, 1, 9, 2, 4)
    assert plan.within(given, 2, 4) == [given[0], given[1], given[3]]
    assert plan.within(given, 1, math.inf) == given
    assert plan.within(given, 2, 0.5) == []


@pytest.mark.parametrize(
    ("text", "seconds"), [("6h", 21600), ("90m", 5400), ("45s", 45), ("1h30m", 5400), ("1h 5s", 3605), ("0.5H", 1800)]
)
def test_budgets(text: str, seconds: float) -> None:
    assert plan.budget_seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "6", "h", "6d", "-1h", "0s", "30m1h", "1h1h", "nanh", "1e3s"])
def test_what_is_no_budget(text: str) -> None:
    with pytest.raises(UserError, match="--budget: expected a time, for example 6h, 90m or 1h30m, got"):
        plan.budget_seconds(text)


def test_labels_are_short_and_tell_keys_apart() -> None:
    keys = ["optim.lr", "augment.cutout.size", "augment.dual_cutout.size", "schedule.name", "model.depth"]
    assert list(plan.labels(keys).values()) == ["lr", "cutout.size", "dual_cutout.size", "schedule.name", "depth"]


def test_costs_of_several_runs_are_their_mean() -> None:
    found = plan.mean([COST, replace(COST, step_seconds=1.5, peak_memory_bytes=2**31)])
    assert (found.step_seconds, found.peak_memory_bytes) == (1.0, 2**31)
