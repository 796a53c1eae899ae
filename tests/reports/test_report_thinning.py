"""Learning curves on a page: means and ranges, at most 200 points with the ones that matter, packed and unpacked."""

import base64
from pathlib import Path

import numpy as np
import pytest

from pictorch.reports import reading, thinning
from tests.reports.runs_on_disk import write_run


def unpack(text: str) -> np.ndarray:
    """What the page's script does."""
    raw = np.frombuffer(base64.b64decode(text), np.uint8).reshape(-1, 3)
    return np.pad(raw, ((0, 0), (1, 0))).copy().view("<f4")[:, 0]


def test_numbers_come_back_to_five_digits() -> None:
    values = np.array([7.12, 90.03, 1e-4, 0.0, 123456.0, 3.2e-6, 100.0])
    assert unpack(thinning.pack(values)) == pytest.approx(values, rel=1e-5)
    assert np.isnan(unpack(thinning.pack(np.array([np.nan]))))[0]


def test_first_last_and_extremes_are_kept() -> None:
    values = np.linspace(90, 6, 1000)
    values[437] = 3.0
    values[612] = 99.0
    chosen = thinning.kept([values], 200)
    assert {0, 437, 612, 999} <= set(chosen)
    assert len(chosen) <= 200
    assert chosen == sorted(chosen)
    assert max(np.diff(chosen)) < 10


def test_epochs_that_were_evaluated_come_before_others() -> None:
    losses = np.linspace(2, 1, 1000)
    errors = np.full(1000, np.nan)
    errors[9::10] = np.linspace(90, 5, 100)
    chosen = thinning.kept([losses, errors], 120)
    assert len(chosen) <= 120
    assert sum(np.isfinite(errors[chosen])) >= 100


def test_short_curves_stay_whole_and_hundreds_are_shorter() -> None:
    assert thinning.kept([np.arange(200.0)], 200) == list(range(200))
    assert [thinning.most_points(n) for n in (1, 300, 500, 5000)] == [200, 200, 120, 60]


def test_mean_and_range_over_seeds(tmp_path: Path) -> None:
    for seed in (1, 2, 3):
        write_run(tmp_path / str(seed), f"train.seed={seed}", error=4.0 + seed)
    found, _ = reading.read_all([tmp_path])
    epochs, series = thinning.mean_curve(found)
    mean, low, high = series["test_error"]
    assert epochs == [1, 2, 3, 4]
    assert (mean[-1], low[-1], high[-1]) == (6.0, 5.0, 7.0)
    assert len(series["lr"]) == 1, "the same for all seeds"
    assert "val_error" not in series


def test_what_diverged_has_no_place_on_an_axis(tmp_path: Path) -> None:
    directory = write_run(tmp_path / "a")
    lines = directory.metrics.read_text().splitlines()
    lines[1] = lines[1].replace('"train_loss": ', '"train_loss": 1e300, "was": ')
    lines[2] = lines[2].replace('"train_loss": ', '"train_loss": Infinity, "was": ')
    directory.metrics.write_text("\n".join(lines))
    [run], _ = reading.read_all([tmp_path])
    _, series = thinning.mean_curve([run])
    assert np.isfinite(series["train_loss"][0]).tolist() == [True, False, False, True]
    assert thinning.mean_curve([]) == ([], {})
