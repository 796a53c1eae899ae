"""Bootstrap intervals: against normal theory, a loop, and how often they hold."""

import math

import numpy as np
import pytest
import torch

from pictorch.metrics.bootstrap import RESAMPLES, calibration_interval, mean_interval, share_interval
from pictorch.metrics.calibration import BINS, binned, equally_wide, scores


def test_the_interval_of_an_accuracy_is_about_the_normal_one() -> None:
    right = torch.zeros(10_000)
    right[:9_200] = 1
    low, high = mean_interval(right)
    half = 1.96 * math.sqrt(0.92 * 0.08 / 10_000)
    assert (low, high) == (pytest.approx(0.92 - half, abs=4e-4), pytest.approx(0.92 + half, abs=4e-4))
    assert mean_interval(right) == (low, high)


def test_the_interval_is_that_of_resampling_one_by_one() -> None:
    values = torch.rand(37, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    draws = np.random.RandomState(0)
    means = [float(values[torch.from_numpy(draws.randint(37, size=37))].mean()) for _ in range(RESAMPLES)]
    low, high = np.quantile(means, [0.025, 0.975])
    assert mean_interval(values) == (pytest.approx(low, rel=1e-9), pytest.approx(high, rel=1e-9))


def test_shares_of_none_and_all_have_an_interval_too() -> None:
    hits = torch.ones(100)
    low, high = share_interval(hits)
    assert high == 1
    assert abs(1 - low) == pytest.approx(1.959964 * math.sqrt(low * (1 - low) / 100), rel=1e-5)
    assert share_interval(1 - hits) == pytest.approx((0, 1 - low))
    hits[:10] = 0
    assert share_interval(hits) == mean_interval(hits)


def test_intervals_hold_about_as_often_as_they_say() -> None:
    generator = torch.Generator().manual_seed(1)
    held = 0
    for _ in range(200):
        low, high = mean_interval(torch.rand(300, generator=generator) < 0.8)
        held += low <= 0.8 <= high
    assert 0.90 <= held / 200 <= 0.99


def test_the_interval_of_a_calibration_error_is_around_it_where_the_percentiles_are_not() -> None:
    generator = torch.Generator().manual_seed(2)
    logits = 2 * torch.randn(2_000, 10, generator=generator)
    labels = torch.multinomial(logits.softmax(dim=1), 1, generator=generator)[:, 0]
    found = scores(logits, labels)
    places = equally_wide(found.confidence)
    error = binned(found, places).error
    low, high = calibration_interval(found.confidence, found.right, places, BINS)
    assert 0 <= low <= error <= high
    drawn = [torch.randint(2_000, (2_000,), generator=generator) for _ in range(200)]
    resampled = sorted(binned(type(found)(*(column[rows] for column in found)), places[rows]).error for rows in drawn)
    assert resampled[100] > error  # the bias that the basic interval takes away
