"""Schedules against their definitions written out."""

import math

import pytest

from pictorch.optim import schedules


def test_constant_stays() -> None:
    factor = schedules.create("constant", epochs=3, steps_per_epoch=4)
    assert [factor(step) for step in range(12)] == [1.0] * 12


def test_multistep_drops_at_the_first_step_of_a_milestone() -> None:
    factor = schedules.create("multistep", epochs=4, steps_per_epoch=10, milestones_epochs=[2, 3], gamma=0.1)
    assert [factor(step) for step in (0, 19, 20, 29, 30, 39)] == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01], rel=1e-15)


def test_multistep_takes_milestones_within_an_epoch() -> None:
    factor = schedules.create("multistep", epochs=2, steps_per_epoch=10, milestones_epochs=[0.5], gamma=0.5)
    assert [factor(step) for step in (4, 5)] == [1, 0.5]


def test_cosine_is_half_a_cosine_per_step() -> None:
    """SGDR, arXiv:1608.03983, equation 5; the factors at 0, 1, 5 and 9 of 10 epochs."""
    factor = schedules.create("cosine", epochs=10, steps_per_epoch=1)
    assert [round(factor(step), 4) for step in (0, 1, 5, 9)] == [1.0, 0.9755, 0.5, 0.0245]
    fine = schedules.create("cosine", epochs=10, steps_per_epoch=7, final_factor=0.2)
    for step in range(70):
        assert fine(step) == pytest.approx(0.2 + 0.8 * 0.5 * (1 + math.cos(math.pi * step / 70)), rel=1e-12)


def test_cosine_begins_where_the_warm_up_ends() -> None:
    factor = schedules.create("cosine", epochs=10, steps_per_epoch=5, warmup_epochs=2)
    assert factor(10) == 1.0
    assert factor(30) == pytest.approx(0.5, rel=1e-12)


def test_linear_warm_up_reaches_the_full_rate_at_its_last_step() -> None:
    factor = schedules.create("constant", epochs=4, steps_per_epoch=5, warmup_epochs=2)
    assert [factor(step) for step in range(11)] == pytest.approx([*(k / 10 for k in range(1, 11)), 1])


def test_a_warm_up_of_a_part_of_a_step_does_nothing_beyond_it() -> None:
    factor = schedules.create("constant", epochs=4, steps_per_epoch=5, warmup_epochs=0.1)
    assert [factor(step) for step in range(3)] == [1, 1, 1]


def test_per_epoch_holds_the_factor_of_the_epochs_start() -> None:
    """A warm-up of 10 epochs to 0.1 by epoch is 0.01, 0.02 ... 0.10."""
    factor = schedules.create("constant", epochs=20, steps_per_epoch=7, warmup_epochs=10, per="epoch")
    rates = [0.1 * factor(epoch * 7 + 3) for epoch in range(12)]
    assert rates == pytest.approx([0.01 * k for k in range(1, 11)] + [0.1, 0.1])
    stepped = schedules.create("cosine", epochs=10, steps_per_epoch=7, per="epoch")
    assert len({stepped(step) for step in range(14, 21)}) == 1
