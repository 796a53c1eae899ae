"""Learning rates as text and as pictures."""

import io

import numpy as np
import pytest
from PIL import Image

from pictorch.reports.schedule import Phase, describe_schedule, draw_range_test, draw_schedule, phases, sparkline

# A warm-up of two epochs to 0.1, and three stretches, two points an epoch.
WARMED = [*((k / 2, 0.025 * (k + 1)) for k in range(4)), *((k / 2, 0.1) for k in range(4, 8))]
STEPS = [*WARMED, *((k / 2, 0.01) for k in range(8, 12)), *((k / 2, 0.001) for k in range(12, 14))]


def test_phases_are_the_stretches_of_one_direction() -> None:
    assert phases(STEPS) == [
        Phase(0.0, "rises", 0.025, 0.1),
        Phase(2.0, "stays", 0.1, 0.1),
        Phase(4.0, "stays", 0.01, 0.01),
        Phase(6.0, "stays", 0.001, 0.001),
    ]


def test_a_restart_begins_a_phase() -> None:
    rows = [(float(k), rate) for k, rate in enumerate([1.0, 0.5, 0.1, 1.0, 0.8, 0.5, 0.2])]
    assert phases(rows) == [Phase(0.0, "falls", 1.0, 0.1), Phase(3.0, "falls", 1.0, 0.2)]


@pytest.mark.parametrize(
    ("rates", "kinds"), [([1.0], ["stays"]), ([1.0, 0.5], ["falls"]), ([1.0, 0.5, 0.5], ["stays", "stays"])]
)
def test_the_shortest_runs_have_phases(rates: list[float], kinds: list[str]) -> None:
    assert [phase.kind for phase in phases(list(enumerate(rates)))] == kinds


def test_the_description_names_each_phases_epoch_and_rate() -> None:
    assert describe_schedule(STEPS).splitlines() == [
        "▃▅▆█████▂▂▂▂▁▁",
        "  from epoch 0      0.025, rises to 0.1",
        "  from epoch 2      0.1",
        "  from epoch 4      0.01",
        "  from epoch 6      0.001",
    ]


def test_a_long_description_is_cut() -> None:
    rows = [(float(k), 1.0 - (k % 5) / 10) for k in range(100)]
    assert describe_schedule(rows).splitlines()[-1] == "  and 8 more"


def test_the_bars_go_from_nothing_to_the_highest_and_fill_a_line_at_most() -> None:
    assert sparkline([0.0, 0.5, 1.0]) == "▁▅█"
    assert sparkline([0.0, 0.0]) == "▁▁"
    assert len(sparkline([1.0] * 1000)) == 60


def test_the_schedule_is_a_picture_with_something_on_it() -> None:
    with Image.open(io.BytesIO(draw_schedule([(k / 1000, 1 / (k + 1)) for k in range(50_000)], "a title"))) as image:
        assert image.size == (840, 504)
        assert len(np.unique(np.asarray(image.convert("L")))) > 10


@pytest.mark.parametrize(("kind", "magic"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")])
def test_a_range_test_is_drawn_in_each_format(kind: str, magic: bytes) -> None:
    rates = [10.0**k for k in range(-5, 1)]
    losses = [2.3, 2.2, 2.0, 1.0, 0.5, 4.0]
    drawn = draw_range_test(rates, losses, losses, marks={"minimum": 0.1, "suggestion": 0.01}, title="a", kind=kind)
    assert drawn.startswith(magic)
