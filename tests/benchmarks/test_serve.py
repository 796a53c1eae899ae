"""The load on `pictorch serve`: no error, no growth; a moment of it always, 20 seconds among the slow tests."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pictorch import api

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "serve.py"


def measured(run_dir: Path, *words: str) -> dict[str, str]:
    """Return the row that the command prints."""
    command = [sys.executable, str(SCRIPT), str(run_dir), *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=os.environ, check=False)
    assert done.returncode == 0, done.stderr
    [row] = csv.DictReader(done.stdout.splitlines())
    return row


def check(row: dict[str, str], clients: int) -> None:
    assert int(row["errors"]) == 0
    assert int(row["requests"]) > clients
    assert 0 < float(row["p50_ms"]) <= float(row["p99_ms"]) <= float(row["max_ms"])
    assert 1 <= float(row["mean_batch"]) <= 32
    assert int(row["open_files"]) < 40, "connections are given back"


@pytest.mark.parametrize("kind", ["png", "jpeg"])
def test_a_moment_of_it(small_run: api.Result, kind: str) -> None:
    row = measured(small_run.run_dir, "--seconds", "1", "--warm-up", "0.5", "--clients", "8", "--kind", kind)
    check(row, 8)
    assert (row["clients"], row["kind"]) == ("8", kind)


@pytest.mark.slow
def test_thirty_two_clients_leave_no_memory_behind(tmp_path: Path) -> None:
    """ResNet-preact-20 on images of CIFAR-10's size; its weights do not matter."""
    settings = ["data.name=digits", "train.max_steps=2", "track.tensorboard=false", "model.depth=20"]
    config = api.load_config("digits/resnet_preact_8", [*settings, "model.base_channels=16"])
    run = api.train_one(config, recipe="serve", out=tmp_path / "run").run_dir
    row = measured(run, "--seconds", "20")
    print(row)
    check(row, 32)
    assert float(row["p99_ms"]) < 5000
    assert float(row["memory_after_mib"]) < float(row["memory_before_mib"]) + 8
