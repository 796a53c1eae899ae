"""Intervals and verdicts, against SciPy and numbers worked out by hand."""

import math
import statistics

import numpy as np
import pytest
from scipy import stats as scipy_stats

from pictorch.experiments.stats import (
    MOST_SEEDS,
    Reported,
    equivalent,
    half_width,
    holm,
    judge,
    margin,
    mcnemar,
    median_interval,
    median_variance,
    paired,
    t_factor,
    t_interval,
)

ERRORS = [6.41, 6.55, 6.48, 6.62, 6.39]


@pytest.mark.parametrize("level", [0.5, 0.9, 0.95, 0.99])
def test_students_t_is_scipys(level: float) -> None:
    for degrees in (*range(1, 40), 101, 102):
        assert t_factor(level, degrees) == pytest.approx(scipy_stats.t.ppf((1 + level) / 2, degrees), rel=1e-9)


def test_the_interval_of_the_mean_is_scipys() -> None:
    expected = scipy_stats.t.interval(0.95, len(ERRORS) - 1, np.mean(ERRORS), scipy_stats.sem(ERRORS))
    assert t_interval(ERRORS) == pytest.approx(expected, rel=1e-9)
    assert t_interval([6.5]) is None


def test_the_interval_of_the_median_is_the_bootstraps() -> None:
    found = scipy_stats.bootstrap((ERRORS,), np.median, method="percentile", n_resamples=20_000, rng=1)
    assert median_interval(ERRORS) == pytest.approx(tuple(found.confidence_interval), abs=0.01)
    assert median_interval(ERRORS) == median_interval(ERRORS)
    assert median_interval([1.0, 2.0]) == (1.0, 2.0)  # of four equally likely draws, one is 1, 1 and one 2, 2
    assert median_interval([6.5]) is None


def test_the_variance_of_a_median_is_the_textbooks() -> None:
    """Of 1, 3, 5 and 7 normal values (Sarhan and Greenberg 1962, table 10C.2)."""
    for n, expected in ((1, 1.0), (2, 1.0), (3, 0.4487), (4, 0.4487), (5, 0.2868), (7, 0.2104)):
        assert median_variance(n) == pytest.approx(expected, abs=1e-4)


def test_the_margin_is_that_of_the_test_images() -> None:
    """1.96 standard errors of a share of 10,000: 0.067 of it at 8.0%, by hand."""
    assert margin(8.0, 10_000) == pytest.approx(1.95996 * 100 * math.sqrt(0.08 * 0.92 / 10_000), rel=1e-5)
    assert margin(8.0, 2_500) == pytest.approx(2 * margin(8.0, 10_000))


def test_the_test_is_two_one_sided_t_tests_where_the_published_number_has_its_spread() -> None:
    """With both spreads it is Schuirmann's: both of SciPy's one-sided pooled t-tests reject at 5%, or do not."""
    mean, spread, n = 6.61, 0.16, 5
    theirs = mean + spread * np.array(scipy_stats.zscore([-2, -1, 0, 1, 2], ddof=1))
    for bound in (0.1, 0.2, 0.25, 0.3, 0.5):
        below = scipy_stats.ttest_ind(np.add(ERRORS, -bound), theirs, alternative="less").pvalue
        above = scipy_stats.ttest_ind(np.add(ERRORS, bound), theirs, alternative="greater").pvalue
        found = judge(ERRORS, Reported(mean, "mean", n, spread), bound)
        assert (found.word == "reproduced") == (max(below, above) < 0.05), bound


def test_a_single_published_run_widens_the_interval_by_its_own_variance() -> None:
    """d = -0.11, s = 0.0964; a single run: 2.1318 s sqrt(1/5 + 1); a median of 3: 2.1318 s sqrt(1/5 + 0.4487)."""
    for reported, variance in (
        (Reported(6.6), 1.0),
        (Reported(6.6, "median", 3), 0.448671),
        (Reported(6.6, n=3), 1 / 3),
    ):
        found = judge(ERRORS, reported, 0.5)
        half = 2.131847 * statistics.stdev(ERRORS) * math.sqrt(0.2 + variance)
        assert (found.low, found.high) == pytest.approx((-0.11 - half, -0.11 + half), abs=1e-6)
        assert found.word == "reproduced"


@pytest.mark.parametrize(
    ("shift", "word"), [(-2.0, "better"), (2.0, "worse"), (0.0, "reproduced"), (0.5, "undecided"), (-0.5, "undecided")]
)
def test_the_words_are_those_of_the_interval(shift: float, word: str) -> None:
    found = judge([error + shift for error in ERRORS], Reported(6.49), 0.5)
    assert found.word == word
    assert (found.more is None) or word == "undecided"


def test_without_runs_or_spread_nothing_is_decided() -> None:
    assert judge([], Reported(6.5), 0.5).word == "not run"
    assert judge([6.5], Reported(6.5), 0.5).reason == "one run has no spread: at least 1 more seed"
    assert "the runs do not differ" in judge([6.5, 6.5], Reported(6.5), 0.5).reason
    assert judge([6.5], Reported(6.5, "mean", 10, 0.05), 0.5).word == "reproduced"  # the published spread serves
    best = judge(ERRORS, Reported(6.4, "best"), 0.5)
    assert (best.word, best.more, best.reason) == (
        "undecided",
        None,
        "the best of several runs is no mean to compare with",
    )


def test_so_many_more_seeds_decide_and_not_one_fewer() -> None:
    three = [6.41, 6.55, 6.70]
    reported, bound = Reported(6.52, "median", 3), 0.3
    found = judge(three, reported, bound)
    assert (found.word, found.reason) == ("undecided", f"{found.more} more seeds would decide at this spread")
    assert found.more
    gap, spread = bound - abs(statistics.fmean(three) - 6.52), statistics.stdev(three)
    assert half_width(3 + found.more, spread, reported) < gap <= half_width(3 + found.more - 1, spread, reported)


def test_a_published_number_can_be_too_uncertain_for_any_number_of_seeds() -> None:
    found = judge([6.2, 6.5, 6.8], Reported(6.5), 0.3)  # 1.66 * 0.3 * sqrt(1 / 103 + 1) = 0.50 > 0.3
    assert (found.word, found.more) == ("undecided", None)
    assert found.reason.startswith(f"{MOST_SEEDS} more seeds would not decide")


OTHERS = [6.21, 6.50, 6.31, 6.40, 6.33]


def test_a_paired_comparison_is_scipys() -> None:
    found, theirs = paired(ERRORS, OTHERS), scipy_stats.ttest_rel(OTHERS, ERRORS)
    interval = theirs.confidence_interval(0.95)
    assert (found.n, found.difference) == (5, pytest.approx(-0.14))
    assert (found.low, found.high, found.p) == pytest.approx((interval.low, interval.high, theirs.pvalue), rel=1e-8)
    assert paired(OTHERS, ERRORS).p == found.p


def test_pairs_without_a_spread_of_their_differences() -> None:
    one = paired([6.5], [6.0])
    assert (one.n, one.difference, one.low, one.p) == (1, -0.5, None, None)
    assert paired(ERRORS, ERRORS).p == 1.0
    assert paired([1.0, 2.0], [2.0, 3.0]).p is None  # one apart both times: no spread, no test
    with pytest.raises(ValueError):
        paired([1.0, 2.0], [1.0])


@pytest.mark.parametrize("margin", [0.05, 0.1, 0.2, 0.25, 0.5])
def test_equivalence_is_two_one_sided_tests_of_scipy(margin: float) -> None:
    differences = np.subtract(OTHERS, ERRORS)
    below = scipy_stats.ttest_1samp(differences, margin, alternative="less").pvalue
    above = scipy_stats.ttest_1samp(differences, -margin, alternative="greater").pvalue
    assert (equivalent(ERRORS, OTHERS, margin) is True) == (max(below, above) < 0.05)


def test_equivalence_has_three_answers() -> None:
    shifted = [error + 2 for error in OTHERS]
    assert [equivalent(ERRORS, OTHERS, 0.5), equivalent(ERRORS, shifted, 0.5)] == [True, False]
    assert equivalent(ERRORS, OTHERS, 0.1) is None
    assert equivalent([6.5], [6.5], 1.0) is None


@pytest.mark.parametrize("counts", [(0, 0), (1, 0), (3, 9), (9, 3), (25, 31), (480, 520), (1200, 900)])
def test_mcnemar_is_the_exact_binomial_test(counts: tuple[int, int]) -> None:
    expected = scipy_stats.binomtest(counts[0], sum(counts)).pvalue if sum(counts) else 1.0
    assert mcnemar(*counts) == pytest.approx(expected, rel=1e-9)


def test_holm_adjusts_as_in_a_worked_example() -> None:
    """0.005 and 0.01 by 4 and 3, 0.03 by 2, 0.04 by 1, none below the one before it."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []
