"""Schedules against their definitions written out."""

import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch.optim import lr_scheduler

from pictorch.config import OptionError
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


# The nine training defaults of github.com/hysts/pytorch_image_classification at da2bdcf: epochs, base rate, updates an
# epoch, milestones with their factor (None: the cosine).
SEED1 = {
    "vgg": (160, 0.1, 390, (80, 120), 0.1),
    "resnet": (160, 0.1, 390, (80, 120), 0.1),
    "resnet_preact": (160, 0.1, 390, (80, 120), 0.1),
    "se_resnet_preact": (160, 0.1, 390, (80, 120), 0.1),
    "wrn": (200, 0.1, 390, (60, 120, 160), 0.2),
    "densenet": (300, 0.1, 781, (150, 225), 0.1),
    "pyramidnet": (300, 0.1, 390, (150, 225), 0.1),
    "resnext": (300, 0.1, 390, (150, 225), 0.1),
    "shake_shake": (1800, 0.2, 390, None, 0.0),
}


@pytest.mark.parametrize("row", [row for row in SEED1 if row != "shake_shake"])
def test_the_2018_programs_multistep_to_the_last_digit(row: str) -> None:
    """Epoch e, from 1, has base * gamma^(milestones <= e - 1): it falls at the start of epochs 81, 121 and so on."""
    epochs, lr, updates, milestones, gamma = SEED1[row]
    assert milestones
    factor = schedules.create(
        "multistep", epochs=epochs, steps_per_epoch=updates, milestones_epochs=milestones, gamma=gamma
    )
    for epoch in range(1, epochs + 1):
        expected = lr * gamma ** sum(milestone <= epoch - 1 for milestone in milestones)
        for step in ((epoch - 1) * updates, epoch * updates - 1):
            assert lr * factor(step) == expected
    falls = [e for e in range(2, epochs + 1) if factor((e - 1) * updates) < factor((e - 1) * updates - 1)]
    assert falls == [milestone + 1 for milestone in milestones]


def test_the_2018_programs_cosine_to_the_last_digit() -> None:
    """Update t of T, from 1, has 0.2 * (1 + cos(pi t/T)) / 2; the last has 0.

    The position is (t / 390) / 1800 here and t / 702000 there: the same number at the end of each epoch, and a rounding
    apart at most within one.
    """
    epochs, lr, updates, *_ = SEED1["shake_shake"]
    factor = schedules.create("cosine", epochs=epochs, steps_per_epoch=updates, position="after")
    total = epochs * updates

    def program(t: int) -> float:
        return lr * (0.5 * (1 + math.cos(t / total * math.pi)))

    for epoch in range(1, epochs + 1):
        assert lr * factor(epoch * updates - 1) == program(epoch * updates)
    assert lr * factor(total - 1) == 0.0
    for t in range(1, total + 1, 997):
        assert abs(lr * factor(t - 1) - program(t)) <= 2**-53
    first = [f"{lr * factor(step):.12g}" for step in range(3)]
    assert first == [f"{program(t):.12g}" for t in (1, 2, 3)] == ["0.199999999999", "0.199999999996", "0.199999999991"]


@pytest.mark.parametrize(("position", "milestones"), [("after", (70, 130, 190)), ("before", (69, 129, 189))])
def test_the_45000_image_programs_rates_by_epoch(position: str, milestones: tuple[int, ...]) -> None:
    """Epochs 1 to 10 have 0.01, 0.02 ... 0.10, epoch e after them 0.1 * 0.1^((e - 10) // 60).

    0.1 * (7/10) is 0.06999999999999999, so that the warm-up is compared in 12 digits, the rest exactly.
    """
    factor = schedules.create(
        "multistep",
        epochs=200,
        steps_per_epoch=352,
        milestones_epochs=milestones,
        warmup_epochs=10,
        per="epoch",
        position=position,  # type: ignore[arg-type]
    )
    rates = [0.1 * factor(epoch * 352) for epoch in range(200)]
    assert [0.1 * factor(epoch * 352 + 351) for epoch in range(200)] == rates
    assert [f"{rate:.12g}" for rate in rates[:10]] == [*(f"0.0{k}" for k in range(1, 10)), "0.1"]
    assert rates[10:] == [0.1 * 0.1 ** ((epoch - 10) // 60) for epoch in range(11, 201)]
    assert [f"{rates[e - 1]:.12g}" for e in (69, 70, 129, 130, 189, 190, 200)] == [
        *("0.1", "0.01", "0.01", "0.001", "0.001", "0.0001", "0.0001")
    ]


@pytest.mark.parametrize(("kind", "exponent"), [("linear", 1), ("exponential", 4)])
def test_the_2020_programs_warm_up(kind: str, exponent: int) -> None:
    """Step t of n, from 0, has s + (1 - s)(t/n)^exponent, and the cosine with its least factor fills the rest."""
    factor = schedules.create(
        "cosine",
        epochs=20,
        steps_per_epoch=12,
        warmup_epochs=5,
        warmup=kind,  # type: ignore[arg-type]
        warmup_start_factor=1e-3,
        final_factor=1e-3,
    )
    for t in range(60):
        assert factor(t) == pytest.approx(1e-3 + (1 - 1e-3) * (t / 60) ** exponent, rel=1e-14)
    for t in range(181):
        assert factor(60 + t) == pytest.approx(1e-3 + (1 - 1e-3) * 0.5 * (1 + math.cos(math.pi * t / 180)), rel=1e-12)


def test_an_exponential_warm_up_without_a_start_ends_at_the_full_rate_at_its_last_step() -> None:
    factor = schedules.create("constant", epochs=4, steps_per_epoch=5, warmup_epochs=2, warmup="exponential")
    assert [factor(step) for step in range(11)] == pytest.approx([*((k / 10) ** 4 for k in range(1, 11)), 1])


def test_after_an_update_a_warm_up_ends_with_its_last_step() -> None:
    factor = schedules.create(
        "constant", epochs=3, steps_per_epoch=5, warmup_epochs=1, warmup_start_factor=0.5, position="after"
    )
    assert [factor(step) for step in range(6)] == pytest.approx([0.6, 0.7, 0.8, 0.9, 1, 1])


def test_a_warm_up_over_the_whole_run_ends_at_the_full_rate() -> None:
    factor = schedules.create("cosine", epochs=2, steps_per_epoch=5, warmup_epochs=2, position="after")
    assert factor(9) == 1.0


def test_sgdr_restarts_at_10_30_and_70() -> None:
    """T_0 = 10 and T_mult = 2; in the first cycle 1, .9755, .5 and .0245 at epochs 0, 1, 5 and 9."""
    factor = schedules.create("sgdr", epochs=70, steps_per_epoch=1, first_cycle_epochs=10, cycle_factor=2)
    assert [round(factor(epoch), 4) for epoch in (0, 1, 5, 9)] == [1.0, 0.9755, 0.5, 0.0245]
    assert [epoch for epoch in range(70) if factor(epoch) == 1.0] == [0, 10, 30]
    for start, length in ((0, 10), (10, 20), (30, 40)):
        for at in range(length):
            assert factor(start + at) == pytest.approx(0.5 * (1 + math.cos(math.pi * at / length)), rel=1e-12)


def test_sgdr_after_an_update_ends_each_cycle_at_its_least_rate() -> None:
    factor = schedules.create(
        "sgdr", epochs=3, steps_per_epoch=390, first_cycle_epochs=1, final_factor=1e-3, position="after"
    )
    assert [step for step in range(3 * 390) if factor(step) == 1e-3] == [389, 779, 1169]
    assert factor(390) == pytest.approx(1e-3 + (1 - 1e-3) * 0.5 * (1 + math.cos(math.pi / 390)), rel=1e-12)


def test_sgdr_restarts_on_the_step_where_a_cycle_of_a_tenth_of_an_epoch_ends() -> None:
    """The sum of three tenths is not three tenths: no restart is a step late for that."""
    factor = schedules.create("sgdr", epochs=2, steps_per_epoch=390, first_cycle_epochs=0.1)
    assert [step for step in range(780) if factor(step) == 1.0] == list(range(0, 780, 39))


def test_sgdr_begins_where_the_warm_up_ends_and_may_be_cut_by_the_end() -> None:
    factor = schedules.create("sgdr", epochs=15, steps_per_epoch=2, first_cycle_epochs=10, warmup_epochs=1)
    assert [step for step in range(30) if factor(step) == 1.0] == [1, 2, 22]
    assert factor(29) == pytest.approx(0.5 * (1 + math.cos(math.pi * 0.35)))


def test_one_cycle_with_lines_is_airbenchs_triangle() -> None:
    """np.interp over [0, peak, total] of [start, 1, end], with its 0.2, 0.23 and 0.07."""
    factor = schedules.create(
        "one_cycle", epochs=10, steps_per_epoch=100, peak=0.23, start_factor=0.2, final_factor=0.07, shape="linear"
    )
    expected = np.interp(np.arange(1001), [0, 230, 1000], [0.2, 1, 0.07])
    assert [factor(step) for step in range(1001)] == pytest.approx(list(expected), rel=1e-12)


EPOCHS, STEPS = 30, 4
TOTAL = EPOCHS * STEPS


def torch_factors(create: Callable[[torch.optim.Optimizer], Any], *, steps: int) -> list[float]:
    """Return the rates that a scheduler of torch gives from a base rate of 1."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0, momentum=0.9)
    scheduler, rates = create(optimizer), []
    for _ in range(steps):
        rates.append(float(optimizer.param_groups[0]["lr"]))
        optimizer.step()
        scheduler.step()
    return rates


@pytest.mark.parametrize(
    ("name", "options", "theirs"),
    [
        ("constant", {}, lambda o: lr_scheduler.ConstantLR(o, factor=1.0)),
        ("linear", {"final_factor": 0.1}, lambda o: lr_scheduler.LinearLR(o, 1.0, 0.1, total_iters=TOTAL)),
        (
            "constant",
            {"warmup_epochs": 5, "warmup_start_factor": 0.25},
            lambda o: lr_scheduler.LinearLR(o, 0.25, 1.0, total_iters=5 * STEPS),
        ),
        (
            "multistep",
            {"milestones_epochs": (10, 20), "gamma": 0.2},
            lambda o: lr_scheduler.MultiStepLR(o, [10 * STEPS, 20 * STEPS], gamma=0.2),
        ),
        ("cosine", {"final_factor": 0.01}, lambda o: lr_scheduler.CosineAnnealingLR(o, TOTAL, eta_min=0.01)),
        (
            "sgdr",
            {"first_cycle_epochs": 4, "cycle_factor": 2.0, "final_factor": 0.1},
            lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 4 * STEPS, 2, eta_min=0.1),
        ),
        # Its peak is on step pct_start * total_steps - 1, its end on step total_steps - 1.
        *(
            (
                "one_cycle",
                {"peak": 0.3, "start_factor": 0.04, "final_factor": 0.004, "shape": shape},
                lambda o, strategy=strategy: lr_scheduler.OneCycleLR(
                    o,
                    max_lr=1.0,
                    total_steps=TOTAL + 1,
                    pct_start=(0.3 * TOTAL + 1) / (TOTAL + 1),
                    div_factor=25,
                    final_div_factor=10,
                    anneal_strategy=strategy,
                ),
            )
            for shape, strategy in (("linear", "linear"), ("cosine", "cos"))
        ),
        ("polynomial", {"power": 1.5}, lambda o: lr_scheduler.PolynomialLR(o, TOTAL, power=1.5)),
        ("exponential", {"gamma": 0.9}, lambda o: lr_scheduler.ExponentialLR(o, 0.9 ** (1 / STEPS))),
    ],
)
def test_the_factors_are_those_of_torch(
    name: str, options: dict[str, Any], theirs: Callable[[torch.optim.Optimizer], Any]
) -> None:
    expected = torch_factors(theirs, steps=TOTAL)
    before = schedules.create(name, epochs=EPOCHS, steps_per_epoch=STEPS, **options)
    assert [before(step) for step in range(TOTAL)] == pytest.approx(expected, rel=1e-9, abs=1e-12)
    if name != "sgdr":  # whose cycles then end with the update that torch's begin on
        after = schedules.create(name, epochs=EPOCHS, steps_per_epoch=STEPS, position="after", **options)
        assert [after(step) for step in range(TOTAL - 1)] == pytest.approx(expected[1:], rel=1e-9, abs=1e-12)


SHAPES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("constant", {}),
    ("linear", {}),
    ("linear", {"final_factor": 0.3}),
    ("multistep", {"milestones_epochs": (2, 3.5)}),
    ("cosine", {"final_factor": 0.1}),
    ("sgdr", {"first_cycle_epochs": 1, "cycle_factor": 1.5, "final_factor": 0.1}),
    ("one_cycle", {}),
    ("one_cycle", {"shape": "linear"}),
    ("polynomial", {"power": 0.9}),
    ("exponential", {"gamma": 1.0}),
)


@pytest.mark.parametrize(("name", "options"), SHAPES)
@pytest.mark.parametrize("per", ["step", "epoch"])
@pytest.mark.parametrize("position", ["before", "after"])
@pytest.mark.parametrize("warmup", [{}, {"warmup_epochs": 0.7}, {"warmup_epochs": 2, "warmup_start_factor": 0.0}])
def test_every_factor_lies_between_0_and_1_and_is_pure(
    name: str, options: dict[str, Any], per: Any, position: Any, warmup: dict[str, float]
) -> None:
    if name == "one_cycle":
        warmup = {}
    factor = schedules.create(name, epochs=5, steps_per_epoch=9, per=per, position=position, **warmup, **options)
    forward = [factor(step) for step in range(50)]
    assert [factor(step) for step in reversed(range(50))] == forward[::-1]
    assert all(math.isfinite(value) and 0 <= value <= 1 for value in forward)


def test_the_least_rate_is_exact_at_the_end() -> None:
    """With 0.1 + 0.9 * 0 and the like: no rate ends a rounding off what was asked for."""
    for name in ("linear", "cosine", "polynomial", "one_cycle"):
        factor = schedules.create(name, epochs=7, steps_per_epoch=11, final_factor=0.1, position="after")
        assert factor(76) == 0.1


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("cosin", {}, "cosin: unknown schedule; did you mean 'cosine'?"),
        ("cosine", {"final_lr": 0.1}, "cosine: final_lr: unknown option; did you mean 'final_factor'?"),
        ("cosine", {"final_factor": "0.1"}, "cosine: final_factor: expected a number, got '0.1'"),
        ("cosine", {"per": "steps"}, "cosine: per: expected 'step' or 'epoch', got 'steps'"),
        (
            "cosine",
            {"warmup_epochs": 6},
            "cosine: warmup_epochs: 6 epochs of warm-up do not fit into 5 epochs of training",
        ),
        (
            "multistep",
            {"milestones_epochs": (3, 2)},
            "multistep: milestones_epochs: expected rising epochs, got [3, 2]",
        ),
        (
            "sgdr",
            {"first_cycle_epochs": 0.5, "per": "epoch"},
            "sgdr: first_cycle_epochs: a cycle of 0.5 epochs is shorter than the 1 between two changes",
        ),
        ("sgdr", {"cycle_factor": 0.5}, "sgdr: cycle_factor: expected a number of at least 1, got 0.5"),
        (
            "one_cycle",
            {"warmup_epochs": 1},
            "one_cycle: warmup_epochs: one_cycle rises by itself, from start_factor; set this to 0",
        ),
    ],
)
def test_keywords_that_do_not_go_together_are_named(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError) as caught:
        schedules.create(name, epochs=5, steps_per_epoch=9, **options)
    assert str(caught.value) == message


def test_a_factor_takes_microseconds() -> None:
    """About half a microsecond; a list walked or cycles counted at each step would take a thousand times that."""
    for name, options in SHAPES:
        factor = schedules.create(name, epochs=100_000, steps_per_epoch=390, **options)
        started = time.perf_counter()
        for step in range(20_000_000, 20_001_000):
            factor(step)
        assert time.perf_counter() - started < 0.1


def test_late_boundaries_take_effect_one_update_later() -> None:
    """The newest program of document 2: at a milestone still the old rate, at a restart the lowest of the cycle."""
    drop = schedules.create("multistep", epochs=3, steps_per_epoch=10, milestones_epochs=[1, 2], late=True)
    assert [drop(step) for step in (9, 10, 11, 20, 21)] == pytest.approx([1, 1, 0.1, 0.1, 0.01])
    cycles = schedules.create("sgdr", epochs=70, steps_per_epoch=39, cycle_factor=2.0, final_factor=0.1, late=True)
    assert cycles(0) == 1
    for restart in (10, 30):
        assert cycles(restart * 39) == pytest.approx(0.1)
        assert 0.99 < cycles(restart * 39 + 1) < 1
    uneven = schedules.create("multistep", epochs=3, steps_per_epoch=3, milestones_epochs=[1 / 3, 2 / 3], late=True)
    assert [uneven(step) for step in (1, 2, 3)] == pytest.approx([1, 0.1, 0.01])
