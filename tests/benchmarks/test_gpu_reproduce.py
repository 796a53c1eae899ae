"""`benchmarks/gpu_reproduce.sh`: its studies run, and go on where they were cut off."""

import subprocess
import sys
from pathlib import Path

import pytest

from pictorch import data, runs
from pictorch.config import UserError

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gpu_reproduce.sh"


def reproduce(*words: str | Path, seconds: int = 1000, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", SCRIPT, *words],
        env={"PYTHON": sys.executable, "GPU_SECONDS": str(seconds), "PATH": "/usr/bin:/bin", **environment},
        capture_output=True,
        text=True,
    )


def on_real_data() -> dict[str, str]:
    """Return what the environment says of the data and of this machine; skip, with the reason, without CIFAR-10."""
    try:
        data.open("cifar10", root=data.root())
    except UserError as error:
        pytest.skip(str(error).splitlines()[0])
    return {"PICTORCH_DATA": str(data.root()), "OMP_NUM_THREADS": "1"}


def test_mistakes_and_no_time(tmp_path: Path) -> None:
    unknown = reproduce("g", tmp_path)
    assert (unknown.returncode, unknown.stderr) == (2, "no study 'g': expected a, b, c, d, e or f\n")
    late = reproduce("b", tmp_path, seconds=0)
    assert late.returncode == 1
    assert late.stdout.startswith("no time left for: pictorch sweep seed1_resnet_110 as_published=seed1 --out .")


@pytest.mark.slow
@pytest.mark.real_data
@pytest.mark.parametrize(("study", "count"), [("a", 1), ("b", 2), ("e", 4), ("f", 5)])
def test_a_study_looks_at_each_of_its_runs_on_the_cpu(study: str, count: int, tmp_path: Path) -> None:
    """Of one step each: the networks are large. The runs of studies c and d are cells of grids, as those of b."""
    words = ("--quick", study, tmp_path, "train.device=cpu", "track.tensorboard=false")
    done = reproduce(*words, PICTORCH_MAX_STEPS="1", **on_real_data())
    assert done.returncode == 0, done.stdout + done.stderr
    found = runs.collect([tmp_path / study])
    assert len(found) == count
    assert all(run.result.exists() for run in found)


@pytest.mark.slow
@pytest.mark.real_data
def test_replicas_that_were_cut_off_go_on(tmp_path: Path) -> None:
    environment = on_real_data()
    words = ("a", tmp_path, "train.device=cpu", "data.fraction=0.05", "train.epochs=3", "evaluation.max_images=100")
    cut = reproduce(*words, seconds=35, **environment)
    assert cut.returncode == 1, cut.stdout + cut.stderr
    assert "stopped: pictorch train" in cut.stdout
    done = reproduce(*words, **environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert sum(run.result.exists() for run in runs.collect([tmp_path / "a"])) >= 2
