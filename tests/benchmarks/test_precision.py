"""The study of bf16 against fp32: its interval, its verdict, and which rows it pairs."""

import importlib.util
from pathlib import Path

import pytest
from scipy import stats

specification = importlib.util.spec_from_file_location(
    "precision", Path(__file__).parents[2] / "benchmarks" / "precision.py"
)
assert specification is not None
assert specification.loader is not None
precision = importlib.util.module_from_spec(specification)
specification.loader.exec_module(precision)


@pytest.mark.parametrize("n", [2, 5, precision.MOST_SEEDS])
def test_the_interval_is_students(n: int) -> None:
    differences = [0.3 - 0.07 * i + 0.01 * i * i for i in range(n)]
    expected = stats.ttest_rel(differences, [0.0] * n).confidence_interval(0.9)
    assert precision.interval(differences) == pytest.approx(tuple(expected), abs=1e-3)


def test_the_verdict_is_what_the_whole_interval_says() -> None:
    cases = [(-0.4, 0.4), (0.6, 0.9), (-0.9, -0.6), (-0.6, 0.1), precision.interval([0.1])]
    expected = ["equivalent", "different", "different", "undecided", "undecided"]
    assert [precision.verdict(low, high) for low, high in cases] == expected


def test_rows_are_paired_by_seed_and_a_lone_one_waits(tmp_path: Path) -> None:
    ledger = tmp_path / "precision.csv"
    for seed, name, error in ((2, "fp32", 20.5), (1, "bf16", 19.0), (2, "bf16", 20.0), (1, "fp32", 20.0)):
        precision.append(
            ledger, dict.fromkeys(precision.COLUMNS, "") | {"seed": seed, "precision": name, "test_error": error}
        )
    precision.append(ledger, dict.fromkeys(precision.COLUMNS, "") | {"seed": 3, "precision": "bf16", "test_error": 1.0})
    assert precision.differences(precision.read(ledger)) == [-1.0, -0.5]
    assert precision.read(tmp_path / "none.csv") == []
