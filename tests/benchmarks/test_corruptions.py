"""The benchmark of the corruptions: a row for each, and one for all."""

import csv
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "corruptions.py"


def test_rows() -> None:
    options = ["fog", "glass_blur", "--dataset", "digits", "--images", "20", "--slice", "5", "--severity", "2"]
    found = subprocess.run([sys.executable, str(SCRIPT), *options], capture_output=True, text=True, check=True).stdout
    rows = list(csv.DictReader(found.splitlines()))
    assert [row["corruption"] for row in rows] == ["fog", "glass_blur", "all"]
    assert {(row["severity"], row["images"]) for row in rows} == {("2", "20")}
    for column in ("seconds_in_batches", "seconds_one_by_one"):
        times = [float(row[column]) for row in rows]
        assert abs(times[0] + times[1] - times[2]) <= 0.011
