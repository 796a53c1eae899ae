"""A run that was stopped, at any moment and in any way, ends with the bits of the uninterrupted one."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from conftest import SMALL, small_config

from pictorch import api, runs
from pictorch.config import UserError
from pictorch.engine import checkpoint, loop
from pictorch.engine.build import Job
from pictorch.engine.evaluate import Evaluation
from pictorch.engine.interrupt import Interrupted, Stop
from pictorch.engine.progress import Silent

TIMES = ("seconds", "images_per_second")


def state_of(run_dir: Path) -> dict[str, Any]:
    """Return what must be equal to the bit: weights, optimiser, position, and the rows without their clock."""
    run = runs.open(run_dir)
    saved = checkpoint.load(run.last_checkpoint)
    rows = [{k: v for k, v in row.items() if k not in TIMES} for row in runs.read_metrics(run)]
    return {**{key: saved[key] for key in ("model", "optimizer", "epoch", "step", "best")}, "rows": rows}


def same(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


class PressCtrlC(Silent):
    """Send this process the signal after so many steps of the session."""

    def __init__(self, after: int, number: int = signal.SIGINT) -> None:
        self.left, self.number = after, number

    def due(self) -> bool:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), self.number)
        return False


def test_the_comparison_sees_one_bit(small_run: api.Result) -> None:
    state = state_of(small_run.run_dir)
    assert same(state, state_of(small_run.run_dir))
    changed = state_of(small_run.run_dir)
    changed["model"]["classifier.bias"][3] += 1e-7
    assert not same(state, changed)


@pytest.mark.parametrize("step", [1, 5, 11, 12, 22, 32, 33])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_at_a_step(step: int, number: int, small_run: api.Result) -> None:
    """Also at the last step of an epoch (11, 22) and of the run (33), where only the evaluation is left to do."""
    with pytest.raises(Interrupted, match="continue with `pictorch train --resume run`"):
        api.train(small_config(), recipe="small", out=Path("run"), progress=PressCtrlC(step, number))
    run = runs.open(Path("run"))
    assert not run.result.exists()
    assert checkpoint.load(run.last_checkpoint)["step"] == step
    result = api.resume(Path("run"))
    assert same(state_of(Path("run")), state_of(small_run.run_dir))
    assert result.test_error == small_run.test_error
    assert len(runs.read_json(run.env)["resumed"]) == 1


def test_many_stops_with_validation_and_rare_checkpoints() -> None:
    overrides = ("data.val_fraction=0.2", "train.select=best-val", "train.epochs=6", "train.save_every_epochs=4")
    reference = api.train(small_config(*overrides), out=Path("reference"))
    with pytest.raises(Interrupted):
        api.train(small_config(*overrides), out=Path("run"), progress=PressCtrlC(7))
    for after in (3, 9, 1, 20):
        with pytest.raises(Interrupted):
            api.resume(Path("run"), progress=PressCtrlC(after))
    result = api.resume(Path("run"))
    assert same(state_of(Path("run")), state_of(Path("reference")))
    for key in ("test_error", "best_epoch", "val_top1", "steps", "config_hash"):
        assert result.row[key] == reference.row[key]


def test_a_finished_run_is_returned_as_it_is(small_run: api.Result) -> None:
    before = {path: path.read_bytes() for path in small_run.run_dir.iterdir()}
    assert api.resume(small_run.run_dir).row == small_run.row
    assert {path: path.read_bytes() for path in small_run.run_dir.iterdir()} == before


def test_resuming_under_another_configuration_is_refused(small_run: api.Result) -> None:
    with pytest.raises(
        UserError, match=r"another configuration; nothing was changed:\n  optim.lr: 0.1 in the run, 0.3"
    ):
        api.resume(small_run.run_dir, expected=small_config("optim.lr=0.3"))
    assert api.resume(small_run.run_dir, expected=small_config()).row == small_run.row


def stopped_run() -> runs.RunDir:
    with pytest.raises(Interrupted):
        api.train(small_config(), recipe="small", out=Path("run"), progress=PressCtrlC(15))
    return runs.open(Path("run"))


def edit_config(run: runs.RunDir, old: str, new: str) -> None:
    text = run.config.read_text()
    assert old in text
    run.config.write_text(text.replace(old, new))


def test_a_checkpoint_of_another_configuration_is_refused() -> None:
    run = stopped_run()
    edit_config(run, "weight_decay: 0.0005", "weight_decay: 0.0001")
    before = run.last_checkpoint.read_bytes()
    with pytest.raises(UserError, match=r"last\.ckpt: this checkpoint belongs to configuration"):
        api.resume(run.path)
    assert run.last_checkpoint.read_bytes() == before


@pytest.mark.parametrize("keep", [0, 1, 100, 0.5, 0.999])
def test_a_truncated_checkpoint_is_named_and_kept(keep: float) -> None:
    run = stopped_run()
    whole = run.last_checkpoint.read_bytes()
    run.last_checkpoint.write_bytes(whole[: int(keep if keep >= 1 else keep * len(whole))])
    before = run.last_checkpoint.read_bytes()
    with pytest.raises(UserError, match=r"last\.ckpt: this checkpoint is truncated or damaged.*nothing was changed"):
        api.resume(run.path)
    assert run.last_checkpoint.read_bytes() == before


class Payload:
    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, ("executed",))


@pytest.mark.parametrize("content", [Payload(), {"format": 1}, [1, 2], {"format": 99}])
def test_a_foreign_checkpoint_is_refused_and_never_executed(content: Any) -> None:
    run = stopped_run()
    torch.save(content, run.last_checkpoint)
    with pytest.raises(UserError, match=r"last\.ckpt: this (checkpoint holds something else|file is not a checkpoint)"):
        api.resume(run.path)
    assert not Path("executed").exists()


def test_a_checkpoint_of_another_network_is_refused() -> None:
    run = stopped_run()
    saved = checkpoint.load(run.last_checkpoint)
    saved["model"]["classifier.weight"] = torch.zeros(3, 3)
    torch.save(saved, run.last_checkpoint)
    with pytest.raises(UserError, match=r"last\.ckpt: its tensors do not fit this run"):
        api.resume(run.path)


def test_other_data_are_refused() -> None:
    run = stopped_run()
    runs.write_json(run.env, runs.read_json(run.env) | {"data_checksum": "0" * 64})
    with pytest.raises(UserError, match=r"the files now have .* nothing was changed"):
        api.resume(run.path)


def test_other_circumstances_are_said() -> None:
    class Notes(Silent):
        said: ClassVar[list[str]] = []

        def note(self, text: str) -> None:
            self.said.append(text)

    run = stopped_run()
    runs.write_json(run.env, runs.read_json(run.env) | {"threads": 77})
    api.resume(run.path, progress=Notes())
    assert Notes.said == ["threads is 1, the run began with 77: its last bits may differ"]


def test_ctrl_c_in_the_last_evaluation_leaves_the_last_state(monkeypatch: pytest.MonkeyPatch) -> None:
    """The selected weights are in the network then, and are not those of the last epoch."""
    overrides = ("data.val_fraction=0.2", "train.select=best-val", "train.epochs=4")
    api.train(small_config(*overrides), out=Path("reference"))
    evaluate_part = loop.evaluate_part

    def press_ctrl_c(job: Job, part: str, stop: Stop) -> Evaluation:
        if part == "test":
            os.kill(os.getpid(), signal.SIGINT)
        return evaluate_part(job, part, stop)

    monkeypatch.setattr(loop, "evaluate_part", press_ctrl_c)
    with pytest.raises(Interrupted):
        api.train(small_config(*overrides), out=Path("run"))
    assert same(state_of(Path("run")), state_of(Path("reference")))


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "pictorch", "train", *words]


def kill_and_resume(kills: int, epochs: int, chance: random.Random, numbers: list[int]) -> int:
    """Train in processes that are killed at random moments, resumed, and at last left alone; a reference beside it.

    Returns how many were killed before they had ended by themselves.
    """
    overrides = [*SMALL, f"train.epochs={epochs}", "data.val_fraction=0.1"]
    killed = 0
    subprocess.run(command(*overrides, "--out", "reference"), check=True, capture_output=True)
    for _ in range(kills):
        words = ["--resume", "run"] if Path("run").exists() else [*overrides, "--out", "run"]
        process = subprocess.Popen(command(*words), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        if Path("run").exists() and rows() >= epochs - 2:
            # Near the end the moment is one of starting, finishing, or anything between.
            time.sleep(chance.uniform(0, 4))
        else:
            enough = rows() + chance.randrange(3)
            while rows() < enough and process.poll() is None:
                time.sleep(0.01)
            time.sleep(chance.uniform(0, 0.3))
        process.send_signal(number := chance.choice(numbers))
        _, errors = process.communicate(timeout=60)
        assert process.returncode in (-number, 130, 0), errors
        killed += process.returncode != 0
    subprocess.run(command("--resume", "run"), check=True, capture_output=True)
    return killed


def rows() -> int:
    """Return how many epochs the run under way has written."""
    path = Path("run/metrics.jsonl")
    return len(path.read_bytes().splitlines()) if path.exists() else 0


def test_kill_9_at_random_moments() -> None:
    assert kill_and_resume(3, 12, random.Random(0), [signal.SIGKILL]) == 3
    assert same(state_of(Path("run")), state_of(Path("reference")))


@pytest.mark.slow
def test_twenty_stops_of_all_kinds_at_random_moments() -> None:
    assert kill_and_resume(20, 30, random.Random(1), [signal.SIGKILL, signal.SIGINT, signal.SIGTERM]) >= 15
    assert same(state_of(Path("run")), state_of(Path("reference")))
