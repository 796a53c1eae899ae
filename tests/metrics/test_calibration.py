"""Calibration against loops, scikit-learn and known answers."""

import math

import pytest
import torch
from sklearn import metrics as oracle
from torch import Tensor

from pictorch.metrics.calibration import (
    BINS,
    COLDEST,
    HOTTEST,
    binned,
    equally_full,
    equally_wide,
    scores,
    temperature,
)


def drawn(n: int = 600, classes: int = 7, seed: int = 0, scale: float = 3.0) -> tuple[Tensor, Tensor]:
    """Return logits and labels that are drawn by them: a calibrated network's."""
    generator = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(n, classes, generator=generator)
    return logits, torch.multinomial(logits.softmax(dim=1), 1, generator=generator)[:, 0]


def test_scores_are_scikit_learns() -> None:
    logits, labels = drawn()
    found, probabilities = scores(logits, labels), logits.double().softmax(dim=1)
    assert float(found.nll.mean()) == pytest.approx(oracle.log_loss(labels, probabilities, labels=range(7)), rel=1e-9)
    assert float(found.brier.mean()) == pytest.approx(
        sum(
            float(sum((p - (k == y)) ** 2 for k, p in enumerate(row)))
            for row, y in zip(probabilities.tolist(), labels.tolist(), strict=True)
        )
        / len(labels)
    )
    assert float(found.right.mean()) == oracle.accuracy_score(labels, logits.argmax(dim=1))
    torch.testing.assert_close(found.confidence, probabilities.max(dim=1).values)


def slow_error(confidence: list[float], right: list[float], bounds: list[float]) -> float:
    total = 0.0
    for low, high in zip([-math.inf, *bounds], [*bounds, math.inf], strict=True):
        inside = [i for i, value in enumerate(confidence) if low < value <= high]
        if inside:
            total += abs(sum(right[i] for i in inside) - sum(confidence[i] for i in inside))
    return total / len(confidence)


@pytest.mark.parametrize("bins", [1, 10, BINS])
@pytest.mark.parametrize("scale", [0.3, 3.0, 60.0])
def test_calibration_errors_are_those_of_a_loop(bins: int, scale: float) -> None:
    found = scores(*drawn(scale=scale))
    confidence, right = found.confidence.tolist(), found.right.tolist()
    wide = binned(found, equally_wide(found.confidence, bins), bins)
    assert wide.error == pytest.approx(slow_error(confidence, right, [b / bins for b in range(1, bins)]), abs=1e-12)
    full = binned(found, equally_full(found.confidence, bins), bins)
    bounds = [float(torch.quantile(found.confidence, b / bins)) for b in range(1, bins)]
    assert full.error == pytest.approx(slow_error(confidence, right, bounds), abs=1e-12)
    assert int(wide.images.sum()) == int(full.images.sum()) == 600


def test_adaptive_bins_are_equally_full_and_keep_equal_values_together() -> None:
    found = scores(*drawn(n=1500))
    assert set(binned(found, equally_full(found.confidence)).images.tolist()) == {100}
    places = equally_full(torch.tensor([0.2, 0.5, *[1.0] * 28], dtype=torch.float64))
    assert len(set(places[2:].tolist())) == 1
    assert places[0] < places[2]


def test_bounds_of_equally_wide_bins_belong_to_the_lower_one() -> None:
    values = torch.tensor([0.0, 0.1, 0.5, 0.50001, 1.0], dtype=torch.float64)
    assert equally_wide(values, 2).tolist() == [0, 0, 0, 1, 1]


@pytest.mark.parametrize("true", [0.25, 1.0, 3.0, 17.0])
def test_the_temperature_is_found_again_and_is_the_best_of_a_grid(true: float) -> None:
    logits, labels = drawn(n=20_000)
    found = temperature(true * logits, labels)
    assert found == pytest.approx(true, rel=0.03)
    least = float(scores(true * logits, labels, found).nll.mean())
    for factor in (0.9, 0.99, 0.999, 1.001, 1.01, 1.1):
        assert least <= float(scores(true * logits, labels, found * factor).nll.mean())


def test_a_temperature_that_has_no_best_value_is_a_bound() -> None:
    logits, _ = drawn(n=50)
    assert temperature(logits, logits.argmax(dim=1)) == pytest.approx(COLDEST, rel=1e-3)
    assert temperature(logits, logits.argmin(dim=1)) == pytest.approx(HOTTEST, rel=1e-3)
    assert COLDEST <= temperature(torch.zeros(50, 7), torch.zeros(50, dtype=torch.int64)) <= HOTTEST


def test_very_sure_answers_stay_finite() -> None:
    logits = torch.tensor([[900.0, -900.0], [900.0, -900.0], [-900.0, 900.0]])
    labels = torch.tensor([0, 1, 1])
    found = scores(logits, labels)
    assert found.nll.tolist() == [0, 1800, 0]
    assert found.brier.tolist() == [0, 2, 0]
    assert math.isfinite(temperature(logits, labels))
