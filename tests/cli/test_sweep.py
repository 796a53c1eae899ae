"""`pictorch sweep`: what it trains and what it leaves alone, what it says, and what is left when things end early."""

import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import SMALL, same, small_config, state_of

from pictorch import api, runs
from pictorch.cli.sweep import sweep, worker
from pictorch.config import UserError, config_hash
from pictorch.data.streaming import cores
from pictorch.engine.interrupt import Stop
from pictorch.engine.replicas import Processes
from pictorch.experiments.executors import Task
from pictorch.runs import RunDir
from tests.cli.test_commands import refused

GRID = """
extends: digits/resnet_preact_8
grid:
  optim.lr: [0.1, 0.02]
seeds: 2
"""
SETTINGS = (*SMALL, "train.epochs=1", "data.fraction=0.3")


@pytest.fixture(autouse=True)
def grid(in_a_directory_of_its_own: None, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A study of two cells and two seeds, in the directory of the test."""
    monkeypatch.setenv("COLUMNS", "140")
    path = Path("study.yaml")
    path.write_text(GRID)
    return path


def directories(out: str = "runs/study") -> list[RunDir]:
    return runs.collect([Path(out)])


def test_a_part_of_a_grid_is_trained_and_the_whole_takes_its_runs_over(capsys: pytest.CaptureFixture[str]) -> None:
    sweep(["study.yaml", *SETTINGS], where="optim.lr < 0.05", seeds=1)
    assert "study: 1 cell, 1 seed each" in (said := capsys.readouterr().out)
    assert "1 of 2 cells break a constraint and are left out" in said
    assert len(directories()) == 1
    sweep(["study.yaml", *SETTINGS], dry_run=True)
    assert "1 finished, 1 new" in capsys.readouterr().out


def test_a_study_is_planned_trained_summed_up_and_never_trained_again(capsys: pytest.CaptureFixture[str]) -> None:
    sweep(["study.yaml", *SETTINGS])
    said = capsys.readouterr().out
    assert said.startswith("study: 2 cells, 2 seeds each, in runs/study\nmeasuring 1 kind of runs, 20 steps each\n")
    assert "2 new" in said
    assert "4 runs to train: " in said
    assert "4/4 lr=0." in said
    assert "The best of 2 cells is chosen by the test error itself" in said
    lines = [line for line in said.splitlines() if " seed " in line]
    assert len(lines) == 4
    configs = [small_config(*SETTINGS[len(SMALL) :], f"optim.lr={lr}", "train.threads=1") for lr in (0.1, 0.02)]
    hashes = [config_hash(config) for config in configs]
    assert {run.path.name for run in directories()} == {f"{h}-seed{seed}" for h in hashes for seed in (1, 2)}
    for run in directories():
        assert runs.read_result(run)["complete"]
        assert runs.read_json(run.env)["recipe"] == "digits/resnet_preact_8"
    alone = api.train_one(configs[1], recipe="digits/resnet_preact_8", out="alone").run_dir
    assert same(state_of(alone), state_of(Path(f"runs/study/{hashes[1]}-seed1")))

    before = [run.result.stat().st_mtime_ns for run in directories()]
    sweep(["study.yaml", *SETTINGS], as_json=True)
    again = capsys.readouterr()
    rows = json.loads(again.out)
    assert "to train" not in again.err
    assert "measuring" not in again.err
    assert [(row["n"], row["runs"], row["settings"]) for row in rows] == [
        (2, 2, {"optim.lr": lr}) for lr in (0.1, 0.02)
    ]
    assert sum(row["best"] for row in rows) == 1
    assert [run.result.stat().st_mtime_ns for run in directories()] == before

    # One more seed has the price of those that are there: nothing is measured.
    sweep(["study.yaml", *SETTINGS], seeds=3, dry_run=True)
    said = capsys.readouterr().out
    assert "measuring" not in said
    assert "2 finished, 1 new" in said
    assert len(directories()) == 4


def test_a_dry_run_leaves_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    sweep(["study.yaml", *SETTINGS], dry_run=True, out="there")
    said = capsys.readouterr().out
    assert "MiB" in said
    assert "4 runs to train" in said
    assert not Path("there").exists()


def test_a_budget_that_nothing_fits_names_the_cheapest(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match=r"--budget: no run fits into .* the cheapest, [0-9a-f]{12}-seed1, takes about"):
        sweep(["study.yaml", *SETTINGS, "train.epochs=100000"], budget="60s")
    assert directories() == []


def test_what_a_budget_leaves_out_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    """A finished run of another length has the price of those to come."""
    sweep(["study.yaml", *SETTINGS], seeds=1)
    capsys.readouterr()
    sweep(["study.yaml", *SETTINGS, "train.epochs=1"], seeds=1000, budget="1m", dry_run=True)
    said = capsys.readouterr().out
    assert "left out, beyond the budget: " in said
    assert ", the first of them lr=0.1 seed " in said


def test_a_run_that_another_process_trains_is_left_to_it(capsys: pytest.CaptureFixture[str]) -> None:
    sweep(["study.yaml", *SETTINGS], seeds=1)
    run = directories()[0]
    run.result.unlink()
    capsys.readouterr()
    with runs.lock(run):
        sweep(["study.yaml", *SETTINGS], seeds=1)
    said = capsys.readouterr().out
    assert "another process trains it: left to that one" in said
    assert not run.result.exists()


def test_what_fails_is_told_at_the_end_and_the_others_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    """A directory of another version, one with something else in it, and a rate that diverges."""
    Path("study.yaml").write_text(GRID.replace("0.02]", "0.02, 1.0e+30]"))
    configs = [small_config(*SETTINGS[len(SMALL) :], f"optim.lr={lr}") for lr in (0.1, 0.02)]
    other, foreign = (Path(f"runs/study/{config_hash(config)}-seed1") for config in configs)
    other.mkdir(parents=True)
    (other / "config.yaml").write_text("trian: {epochs: 1}\n")
    foreign.mkdir()
    (foreign / "notes.txt").write_text("mine")
    with pytest.raises(SystemExit) as ended:
        sweep(["study.yaml", *SETTINGS])
    assert ended.value.code == 1
    said = capsys.readouterr().out
    failed = [line for line in said.splitlines() if line.startswith("failed: ")]
    assert len(failed) == 4
    assert "lr=0.1 seed 1" in failed[0]
    assert "trian: unknown key; did you mean 'train'" in failed[0]
    assert any("lr=0.02 seed 1" in line and "not empty and not a run" in line for line in failed)
    assert sum("training diverged" in line for line in failed) == 2
    assert sum(run.result.exists() for run in directories()) == 2
    assert (foreign / "notes.txt").read_text() == "mine"
    assert (other / "config.yaml").read_text().startswith("trian")


def test_a_quick_study_is_a_look_that_is_found_again(capsys: pytest.CaptureFixture[str]) -> None:
    sweep(["study.yaml", *SMALL, "train.epochs=100"], quick=True)
    said = capsys.readouterr().out
    assert "2 cells, 1 seed each" in said
    assert "these are no results" in said
    assert [runs.read_result(run)["complete"] for run in directories()] == [False, False]
    sweep(["study.yaml", *SMALL, "train.epochs=100"], quick=True)
    assert "to train" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["study.yml"], "study.yml: cannot read this configuration: No such file"),
        (["seed1_mnits"], "no grid 'seed1_mnits'; did you mean 'grids/seed1_mnist'"),
        (["study.yaml", "--job", "3"], "--job: unknown option; did you mean '--jobs'"),
        (["study.yaml", "train.epoch=3"], "command line: train.epoch: unknown key; did you mean 'epochs'"),
        (["study.yaml", "--executor", "slrum"], "--executor: unknown executor 'slrum'; did you mean 'slurm'"),
        (["study.yaml", "--where", "optim.lr <"], "command line: --where: 'optim.lr <'"),
        (["study.yaml", "--where", "optim.lr > 1"], "study: the constraints leave none of the 2 cells"),
        (["study.yaml", "--address", "auto"], "--address names a Ray cluster: add --executor ray"),
        (["study.yaml", "--budget", "soon"], "--budget: expected a time, for example 6h, 90m or 1h30m, got 'soon'"),
        (["study.yaml", "--jobs", "0"], "--jobs"),
        (["study.yaml", "train.replicas=3"], "train.replicas: the runs of a sweep are trained beside each other"),
        (["study.yaml", "data.name=cifar10", "--data-dir", "nowhere"], "nowhere"),
        (["study.yaml", "train.batch_size=5000"], "lr=0.1: train.batch_size: "),
    ],
)
def test_mistakes(words: list[str], message: str) -> None:
    assert message in refused("sweep", *words)
    assert not Path("runs").exists()


def test_without_slurm_nothing_is_begun() -> None:
    said = refused("sweep", "study.yaml", *SETTINGS, "--executor", "slurm", PATH=os.path.dirname(sys.executable))
    assert "there is no sbatch here" in said
    assert not Path("runs").exists()


# What ends early


@pytest.fixture
def processes() -> Iterator[Processes]:
    made = Processes(api.REPLICA, together=1)
    yield made
    made.close()


def task(*words: str) -> Task:
    config = small_config("train.threads=1", *words)
    return Task(RunDir(Path("runs/one")), config, "small", (), 1.0)


def kill_at_epochs(processes: Processes, run: RunDir, epochs: list[int]) -> threading.Thread:
    """Kill the process that trains whenever so many epochs are done."""

    def watch() -> None:
        for epoch in epochs:
            while len(runs.read_metrics(run)) < epoch or processes.running[-1].poll() is not None:
                time.sleep(0.005)
            processes.running[-1].kill()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    return thread


@pytest.mark.slow
def test_a_run_whose_process_is_killed_goes_on_from_its_last_checkpoint(processes: Processes) -> None:
    said: list[str] = []
    one = task("train.epochs=40")
    watch = kill_at_epochs(processes, one.run, [2, 6])
    end = worker(processes, said.append, Stop())(one)
    watch.join()
    assert (end.failure, end.stopped) == (None, False)
    assert len(said) == 2
    assert said[0].startswith(
        "one: its process was killed by SIGKILL; continue with `pictorch train --resume runs/one`"
    )
    alone = api.train_one(one.config, recipe="small", out="alone").run_dir
    assert same(state_of(alone), state_of(one.run.path))


@pytest.mark.slow
def test_a_run_whose_process_is_killed_again_and_again_is_given_up(processes: Processes) -> None:
    said: list[str] = []
    one = task("train.epochs=400")
    kill_at_epochs(processes, one.run, [1, 2, 3])
    end = worker(processes, said.append, Stop())(one)
    assert "was killed by SIGKILL" in str(end.failure)
    assert str(end.failure).endswith("(3 times)")
    following = Task(RunDir(Path("runs/next")), small_config("train.epochs=1"), "small", (), 1.0)
    assert worker(processes, said.append, Stop())(following).failure is None


def start(*words: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "pictorch", "sweep", "study.yaml", *SMALL, *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_ctrl_c_saves_all_and_the_same_command_goes_on() -> None:
    words = ("train.epochs=60", "data.fraction=0.3")
    process = start(*words)
    while process.poll() is None and sum(bool(runs.read_metrics(run)) for run in directories()) < min(2, cores()):
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err.strip()) == (130, "stopped on request; the same command goes on"), err
    begun = directories()
    assert begun
    epochs = [len(runs.read_metrics(run)) for run in begun]
    for run in begun:
        assert not run.result.exists()
        with runs.lock(run):
            assert run.last_checkpoint.exists()
    process = start(*words)
    out, err = process.communicate(timeout=240)
    assert (process.returncode, err) == (0, ""), err
    assert "begun" in out
    assert all(run.result.exists() for run in directories())
    assert len(directories()) == 4
    for run, before in zip(begun, epochs, strict=True):
        assert runs.read_json(run.env)["resumed"], before


@pytest.mark.slow
def test_a_full_disk_fails_the_runs_with_its_message_and_loses_nothing() -> None:
    """A limit on the size of files, which the system refuses as it does a full disk."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    command = [sys.executable, "-m", "pictorch", "sweep", "study.yaml", *SETTINGS]
    done = subprocess.run(command, capture_output=True, text=True, preexec_fn=limit, check=False)
    assert done.returncode == 1, done.stderr
    assert done.stdout.count("free some room and continue with --resume") >= 4
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert sum(run.result.exists() for run in directories()) == 4


@pytest.mark.slow
def test_thirty_small_cells_cost_little_more_than_their_training() -> None:
    """In CPU seconds, so that it says the same on a busy machine: all that the sweep took, to what its runs count."""
    rates = [round(0.01 * n, 2) for n in range(1, 31)]
    Path("study.yaml").write_text(f"extends: digits/resnet_preact_8\ngrid: {{optim.lr: {rates}}}\n")
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "pictorch", "sweep", "study.yaml", "train.epochs=2", "--jobs", "2"]
    subprocess.run(command, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    trained = sum(runs.read_result(run)["train_seconds"] for run in directories())
    assert len(directories()) == 30
    # Two processes' imports, the command's own and the measuring take some 15 s together, whatever the cells.
    assert spent < 1.5 * trained + 20
