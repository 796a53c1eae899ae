"""The Slurm executor against a stand-in `sbatch`, which runs every task of the array as Slurm would."""

import json
import os
import re
import shlex
import stat
from pathlib import Path

import pytest
from conftest import SMALL, small_config

from pictorch import runs
from pictorch.config import UserError, config_hash
from pictorch.experiments import slurm
from pictorch.experiments.executors import Task
from pictorch.runs import RunDir

STAND_IN = """#!/bin/bash
[ "$1" = --parsable ] || exit 9
last=$(sed -n 's/^#SBATCH --array=0-\\([0-9]*\\).*/\\1/p' "$2")
for i in $(seq 0 "$last"); do
    SLURM_ARRAY_TASK_ID=$i bash "$2" > "$HOME/task-$i.log" 2>&1 || echo "task $i: $?" >> "$HOME/failed"
done
echo "4711;cluster"
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a stand-in for sbatch first on PATH; its tasks' output lies in the directory that is returned."""
    sbatch = tmp_path / "bin" / "sbatch"
    sbatch.parent.mkdir()
    sbatch.write_text(STAND_IN)
    sbatch.chmod(sbatch.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{sbatch.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def task(out: Path, *words: str, seconds: float = 600) -> Task:
    config = small_config("train.threads=1", *words)
    name = f"{config_hash(config)}-seed{config.train.seed}"
    every = ("digits/resnet_preact_8", *SMALL, "train.threads=1", *words)
    return Task(RunDir(out / name), config, "digits/resnet_preact_8", every, seconds)


@pytest.mark.slow
def test_every_task_of_the_array_trains_its_run_and_goes_on_where_one_was_begun(home: Path) -> None:
    out = Path("a study")  # a blank in the path
    tasks = [task(out, "train.epochs=1", "train.seed=1"), task(out, "train.epochs=1", "train.seed=2")]
    assert slurm.submit(tasks, out, name="study", jobs=2, memory_bytes=2**28) == "4711"
    assert not (home / "failed").exists(), [path.read_text() for path in home.glob("task-*.log")]
    for one in tasks:
        row = runs.read_result(one.run)
        assert (row["config_hash"], row["seed"]) == (config_hash(one.config), one.config.train.seed)
    before = tasks[1].run.weights.read_bytes()
    tasks[1].run.result.unlink()
    tasks[1].run.weights.unlink()
    slurm.submit(tasks, out, name="study", jobs=None, memory_bytes=0)
    assert not (home / "failed").exists()
    # What the first array's tasks read while they wait is as it was.
    assert len((out / "commands.txt").read_text().splitlines()) == 2
    assert "commands-2.txt" in (out / "sweep-2.sbatch").read_text()
    assert tasks[1].run.weights.read_bytes() == before
    assert json.loads(tasks[1].run.env.read_text())["resumed"]


def test_what_the_script_asks_for(home: Path) -> None:
    tasks = [task(Path("out"), "train.device=cpu"), task(Path("out"), "optim.lr=0.2", seconds=7200)]
    options = slurm.options(tasks, Path("/x/out"), "study", 4, 3 * 2**29)
    assert options == [
        "--job-name=study",
        "--array=0-1%4",
        "--time=240",
        "--ntasks=1",
        "--cpus-per-task=1",
        "--mem=3072M",
        "--requeue",
        "--signal=B:TERM@120",
        "--output=/x/out/slurm-%A_%a.log",
        f"--chdir={shlex.quote(os.getcwd())}",
    ]
    on_gpu = tasks[0].config.train.model_copy(update={"device": "cuda", "threads": 3})
    gpu = Task(tasks[0].run, tasks[0].config.model_copy(update={"train": on_gpu}), "r", (), 1.0)
    options = slurm.options([gpu], Path("/x"), "study", None, 0)
    assert {"--gpus=1", "--cpus-per-task=3", "--array=0-0", "--time=15"} <= set(options)
    assert not [option for option in options if option.startswith("--mem")]


def test_a_command_can_be_typed_as_it_stands() -> None:
    words = slurm.command(task(Path("out"), "data.dir=~/sets"))
    assert words[1:4] == ["-m", "pictorch", "train"]
    assert words[-4:-2] == ["--data-dir", os.path.expanduser("~/sets")]
    assert words[-2] == "--out"
    assert os.path.isabs(words[-1])


def test_without_slurm_it_says_so_and_writes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(UserError, match="--executor slurm: there is no sbatch here: start this on a node"):
        slurm.submit([task(Path("out"))], Path("out"), name="study", jobs=None, memory_bytes=0)
    assert not Path("out").exists()


def test_what_sbatch_says_is_passed_on(home: Path) -> None:
    (home / "bin" / "sbatch").write_text("#!/bin/sh\necho 'sbatch: error: invalid partition' >&2\nexit 1\n")
    with pytest.raises(UserError, match=re.escape("sweep.sbatch: sbatch: error: invalid partition")):
        slurm.submit([task(Path("out"))], Path("out"), name="study", jobs=None, memory_bytes=0)
