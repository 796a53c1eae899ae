"""Training on the official data sets. PICTORCH_DATA names the folder they lie in."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pictorch import data, runs
from pictorch.config import UserError


def needs(name: str) -> None:
    """Skip, with the reason, where the files are not there."""
    try:
        data.open(name, root=data.root())
    except UserError as error:
        pytest.skip(f"PICTORCH_DATA={os.environ.get('PICTORCH_DATA')}: {str(error).splitlines()[0]}")


@pytest.mark.slow
@pytest.mark.real_data
@pytest.mark.parametrize(
    ("recipe", "fraction", "most_error"),
    [
        ("cifar10/resnet_preact_20", 0.4, 62.0),
        ("mnist/resnet_preact_20", 0.4, 4.0),
        ("fashion_mnist/resnet_preact_20", 0.4, 25.0),
    ],
)
def test_a_short_run_learns(recipe: str, fraction: float, most_error: float) -> None:
    dataset = recipe.split("/")[0]
    needs(dataset)
    # Two workers of two threads each would wait for each other at every operation (docs/log.md).
    settings = ["train.epochs=1", f"data.fraction={fraction}", "train.threads=1"]
    command = [sys.executable, "-m", "pictorch", "train", recipe, *settings, "--out", "run"]
    subprocess.run(command, check=True)
    row = runs.read_json(Path("run/result.json"))
    assert row["complete"]
    assert row["dataset"] == dataset
    assert row["test_images"] == 10_000
    assert row["test_error"] < most_error
