"""`benchmarks/gpu.sh`: all of it runs, and goes on where it was cut off."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gpu.sh"


def gpu(folder: Path, *options: str, seconds: int) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", SCRIPT, folder, *options],
        env={"PYTHON": sys.executable, "GPU_SECONDS": str(seconds), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )


def test_without_time_each_part_is_named(tmp_path: Path) -> None:
    done = gpu(tmp_path / "rows", seconds=0)
    assert done.returncode == 1
    assert done.stdout.splitlines()[0] == (
        "no time left for: epoch --device cuda --rounds 3 --networks resnet_preact_20"
    )
    assert len(done.stdout.splitlines()) == 9
    assert not (tmp_path / "rows").exists()


@pytest.mark.slow
def test_all_of_it_runs_on_the_cpu(tmp_path: Path) -> None:
    done = gpu(tmp_path, "--quick", "--device", "cpu", "--threads", "1", "--batch-size", "8", seconds=1000)
    assert done.returncode == 0, done.stdout + done.stderr
    (epochs,) = tmp_path.glob("speed-epoch-*.csv")
    assert len(epochs.read_text().splitlines()) == 2 + 9
    assert len(list(tmp_path.glob("speed-*.csv"))) == 3
