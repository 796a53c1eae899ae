"""Runs of the same settings together: which count, which settings tell them apart, which form a grid."""

from pathlib import Path

import pytest

from pictorch.experiments.stats import t_interval
from pictorch.reports import configurations, reading
from pictorch.reports.configurations import Configuration
from tests.reports.runs_on_disk import write_run


def grouped(folder: Path) -> list[Configuration]:
    return configurations.group(reading.read_all([folder])[0], t_interval)


def test_seeds_of_one_configuration_are_summed_up(tmp_path: Path) -> None:
    for seed, error in ((1, 5.0), (2, 7.0), (3, 6.5)):
        write_run(tmp_path / f"a{seed}", f"train.seed={seed}", error=error)
        write_run(tmp_path / f"b{seed}", f"train.seed={seed}", "optim.lr=0.2", error=error - 1)
    best, second = grouped(tmp_path)
    assert [c.varying for c in (best, second)] == [{"optim.lr": 0.2}, {"optim.lr": 0.1}]
    assert best.name == "digits/resnet_preact_8 optim.lr=0.2"
    assert second.summary is not None
    assert (second.summary.n, second.summary.median) == (3, 6.5)
    assert second.summary.mean == pytest.approx(18.5 / 3)
    assert second.summary.sd == pytest.approx(1.0408329997)
    assert (second.summary.low, second.summary.high) == t_interval(second.errors)
    assert second.median_run.seed == 3


def test_only_complete_runs_count_and_of_each_seed_the_first(tmp_path: Path) -> None:
    write_run(tmp_path / "second", "train.seed=1", error=9.0, finished="2026-11-21T13:00:00+00:00")
    write_run(tmp_path / "z-first", "train.seed=1", error=5.0, finished="2026-11-21T11:00:00+00:00")
    write_run(tmp_path / "begun", "train.seed=2", error=None)
    write_run(tmp_path / "short", "train.seed=3", error=1.0, complete=False)
    [one] = grouped(tmp_path)
    assert one.errors == [5.0]
    assert len(one.runs) == 4
    assert one.summary is not None
    assert (one.summary.n, one.summary.sd, one.summary.low) == (1, None, None)


def test_a_configuration_without_results_comes_last(tmp_path: Path) -> None:
    write_run(tmp_path / "a", "optim.lr=0.5", error=None)
    write_run(tmp_path / "b", error=80.0)
    assert [c.summary is None for c in grouped(tmp_path)] == [False, True]


def test_what_only_an_incomplete_run_has_otherwise_does_not_vary(tmp_path: Path) -> None:
    for lr in (0.1, 0.2):
        write_run(tmp_path / str(lr), f"optim.lr={lr}")
    write_run(tmp_path / "begun", "model.depth=14", error=None)
    assert [list(c.varying) for c in grouped(tmp_path)] == [["optim.lr"]] * 3


def test_what_is_no_setting_of_the_experiment_tells_nothing_apart(tmp_path: Path) -> None:
    write_run(tmp_path / "a", "train.threads=1", "data.workers=1")
    write_run(tmp_path / "b", "train.threads=2", "train.seed=2")
    [one] = grouped(tmp_path)
    assert one.varying == {}


def test_other_data_are_another_configuration(tmp_path: Path) -> None:
    write_run(tmp_path / "a", dataset="digits@01234567")
    write_run(tmp_path / "b", "train.seed=2")
    assert [c.dataset for c in grouped(tmp_path)] == ["digits", "digits@01234567"]


def test_two_numbers_form_a_grid_also_where_milestones_follow_them(tmp_path: Path) -> None:
    for epochs in (4, 8):
        for lr in (0.1, 0.2, 0.4):
            words = ("schedule=multistep", "schedule.milestones_epochs=[1,2]", f"optim.lr={lr}")
            if epochs == 8:
                words = (words[0], "schedule.milestones_epochs=[2,4]", words[2])
            write_run(tmp_path / f"{epochs}-{lr}", *words, epochs=epochs, error=10 * lr + epochs)
    [grid] = configurations.grids(grouped(tmp_path))
    assert (grid.x, grid.y, grid.fixed) == ("optim.lr", "train.epochs", {})
    assert sorted(grid.cells) == [(0.1, 4), (0.1, 8), (0.2, 4), (0.2, 8), (0.4, 4), (0.4, 8)]
    assert grid.cells[0.2, 8].errors == [10.0]


def test_a_third_setting_makes_a_grid_each(tmp_path: Path) -> None:
    for schedule in ("cosine", "constant"):
        for lr in (0.1, 0.2):
            for size in (64, 128):
                words = (f"schedule={schedule}", f"optim.lr={lr}", f"train.batch_size={size}")
                write_run(tmp_path / f"{schedule}-{lr}-{size}", *words)
    found = configurations.grids(grouped(tmp_path))
    assert [(grid.x, grid.y) for grid in found] == [("optim.lr", "train.batch_size")] * 2
    assert {grid.fixed["schedule.name"] for grid in found} == {"cosine", "constant"}


def test_settings_that_go_along_form_no_grid(tmp_path: Path) -> None:
    """The linear scaling rule: a learning rate for each batch size."""
    for size in (32, 64, 128, 256, 512):
        write_run(tmp_path / str(size), f"train.batch_size={size}", f"optim.lr={size / 1280}")
    assert configurations.grids(grouped(tmp_path)) == []
