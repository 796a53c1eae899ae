"""`benchmarks/gpu_reproduce.sh`: its studies run, and go on where they were cut off."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pictorch import data, runs
from pictorch.config import UserError

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gpu_reproduce.sh"


def start(*words: str | Path, seconds: int = 1000, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        ["bash", SCRIPT, *words],
        env={"PYTHON": sys.executable, "GPU_SECONDS": str(seconds), "PATH": "/usr/bin:/bin", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,  # as a terminal's foreground job, which Ctrl-C is sent to
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    output, errors = process.communicate(timeout=500)
    return process.returncode, output, errors


def on_real_data() -> dict[str, str]:
    """Return what the environment says of the data and of this machine; skip, with the reason, without CIFAR-10."""
    try:
        data.open("cifar10", root=data.root())
    except UserError as error:
        pytest.skip(str(error).splitlines()[0])
    return {"PICTORCH_DATA": str(data.root()), "OMP_NUM_THREADS": "1"}


def test_mistakes_and_no_time() -> None:
    assert finish(start("g")) == (2, "", "no study 'g': expected a, b, c, d, e or f\n")
    assert list(Path.cwd().iterdir()) == []
    status, output, _ = finish(start("b", "train.epochs=3", seconds=0))
    assert (status, list(Path.cwd().glob("*/*/*"))) == (1, [Path.cwd() / "runs/gpu/b"])
    assert output.strip() == (
        "no time left for: pictorch sweep seed1_resnet_110 as_published=seed1 --out . train.epochs=3"
    )


@pytest.mark.slow
@pytest.mark.real_data
@pytest.mark.parametrize(("study", "count"), [("a", 1), ("b", 2), ("e", 4), ("f", 5)])
def test_a_study_looks_at_each_of_its_runs_on_the_cpu(study: str, count: int) -> None:
    """Of one step each: the networks are large. The runs of studies c and d are cells of grids, as those of b."""
    words = ("--quick", study, "out", "train.device=cpu", "track.tensorboard=false")
    status, output, errors = finish(start(*words, PICTORCH_MAX_STEPS="1", **on_real_data()))
    assert status == 0, output + errors
    found = runs.collect([Path(f"out/{study}-quick")])
    assert len(found) == count
    assert all(run.result.exists() for run in found)


ON_DIGITS = ("train.device=cpu", "data.name=digits")


@pytest.mark.slow
def test_seeds_that_were_interrupted_go_on_and_all_five_are_trained() -> None:
    words = ("a", "out", *ON_DIGITS, "train.epochs=4")
    process = start(*words, OMP_NUM_THREADS="1")
    while process.poll() is None and not list(Path("out/a").glob("runs/*/*/last.ckpt")):
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)
    status, output, errors = finish(process)
    assert status == 130, output + errors
    unfinished = [run for run in runs.collect([Path("out/a")]) if not run.result.exists()]
    assert unfinished
    status, output, errors = finish(start(*words, OMP_NUM_THREADS="1"))
    assert status == 0, output + errors
    found = [runs.read_result(run) for run in runs.collect([Path("out/a")])]
    assert sorted(row["seed"] for row in found) == [1, 2, 3, 4, 5]
    assert all(runs.read_json(run.env)["resumed"] for run in unfinished)


@pytest.mark.slow
def test_what_a_network_that_does_not_fit_would_take_is_written_down_once() -> None:
    words = ("f", "out", *ON_DIGITS, "train.batch_size=2")
    for _ in range(2):
        status, output, errors = finish(start(*words, FIT="1s", OMP_NUM_THREADS="1"))
        assert status == 0, output + errors
        assert output.count("takes about") == 5
    assert "no run fits into" in Path("out/f/wrn_28_10.txt").read_text()
