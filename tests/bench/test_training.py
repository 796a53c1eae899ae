"""Rows of steps and epochs: complete, of the right seconds, and not measured twice."""

from dataclasses import replace
from typing import Any

import pytest

from pictorch import models
from pictorch.bench import training
from pictorch.bench.cifar import Images
from pictorch.bench.rounds import Spent
from pictorch.bench.training import Machine, Plan, Timing

ON = Machine("Abacus", "beads", {"fp32": 1e9, "bf16": 2e9})


@pytest.fixture
def fixed_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ours trains an epoch in 2 s and evaluates in 1, everybody else needs 10 and 5."""

    def timed(programs: Any, plan: Plan, *, epochs: bool) -> list[Timing]:
        train, evaluation = [Spent(2, 4), Spent(10, 20)], [Spent(1, 1), Spent(5, 5)]
        sides = [int(index >= len(programs) // 2) for index in range(len(programs))]
        return [Timing([train[side]], [evaluation[side]] if epochs else []) for side in sides]

    monkeypatch.setattr(training, "timed", timed)


@pytest.mark.parametrize("what", ["epoch", "step"])
def test_a_row_is_made_by_both_programs(what: str, plan: Plan, small_images: Images) -> None:
    whole = what == "epoch"
    plan = replace(plan, what=what, against=["textbook"] if whole else training.AGAINST, whole=whole)
    rows = list(training.measure(plan, small_images, ON))
    assert [(row["name"], row["against"]) for row in rows] == (
        [("resnet_preact_20", "textbook"), ("resnet_preact_20 (whole)", "textbook")]
        if whole
        else [("resnet_preact_20", "textbook"), ("resnet_preact_20", "timm-style")]
    )
    for row in rows:
        assert row["ratio"] == pytest.approx(row["ours"] / row["baseline"], rel=0.01)
        assert row["spread"] == 0
        assert (row["device"], row["batch_size"], row["unit"]) == ("cpu", 8, "images/s")
        assert row["images"].startswith("random images")
        assert (row["evaluation_ratio"] is None) == (what == "step")
        assert (row["scaling_ours"] is None) == ("whole" not in row["name"])


@pytest.mark.usefixtures("fixed_seconds")
def test_what_a_row_says_of_given_seconds(plan: Plan, small_images: Images) -> None:
    (row,) = training.measure(replace(plan, against=["textbook"]), small_images, ON)
    assert (row["ours"], row["baseline"], row["ratio"]) == (333.3, 66.67, 5.0)
    assert (row["train_ratio"], row["evaluation_ratio"]) == (5.0, 5.0)
    assert (row["ours_wall_s"], row["ours_cpu_s"], row["baseline_wall_s"], row["baseline_cpu_s"]) == (3, 5, 15, 25)
    assert (row["must"], row["stretch"]) == (2.5, 3.7)
    assert row["bf16_matmul_ratio"] == 2.0
    macs = 40_813_184  # of an image's forward pass; a training step does thrice that, two operations each
    assert row["of_peak"] == pytest.approx(6 * macs * 500 / ON.flops[row["dtype"]], rel=0.01)
    (row,) = training.measure(replace(plan, what="step", against=["textbook"]), small_images, ON)
    assert (row["ours"], row["baseline"], row["must"]) == (500, 100, None)


@pytest.mark.usefixtures("fixed_seconds")
def test_what_is_there_is_not_measured_again(plan: Plan, small_images: Images) -> None:
    rows = training.measure(plan, small_images, ON, skip=lambda key: key["against"] == "textbook")
    assert [row["against"] for row in rows] == ["timm-style"]


def test_every_family_has_a_network_to_measure() -> None:
    names = training.families()
    assert [models.resolve(name).family for name in names] == list(models.families())


def test_goals_are_of_networks_that_exist() -> None:
    for goals in training.GOALS.values():
        assert goals.keys() <= {*models.list_models()}
    assert training.GOALS["cpu", "textbook"].keys() == {*training.NETWORKS}


@pytest.mark.parametrize(
    ("number", "text"), [(123456.0, "123500.0"), (0.00123456, "0.001235"), (2.0, "2.0"), (0, "0.0")]
)
def test_four_digits(number: float, text: str) -> None:
    assert str(training.rounded(number)) == text
