"""A run that was stopped, at any moment and in any way, ends with the bits of the uninterrupted one.

kill -9 is in tests/cli/test_verify_resume.py.
"""

import os
import random
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from conftest import PressCtrlC, same, small_config, state_of

from pictorch import api, runs
from pictorch.config import UserError
from pictorch.engine import checkpoint, loop
from pictorch.engine.build import Job
from pictorch.engine.evaluate import Evaluation
from pictorch.engine.interrupt import Interrupted, Stop
from pictorch.engine.progress import Silent


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


def test_every_flipped_bit_is_seen() -> None:
    run = stopped_run()
    whole = run.last_checkpoint.read_bytes()
    before = checkpoint.load(run.last_checkpoint)
    chance = random.Random(0)
    for _ in range(60):
        flipped = bytearray(whole)
        flipped[chance.randrange(len(whole))] ^= 1 << chance.randrange(8)
        run.last_checkpoint.write_bytes(flipped)
        try:
            loaded = checkpoint.load(run.last_checkpoint)
        except UserError:
            continue
        assert same(loaded, before)  # the bit was in the archive's padding, say


def files_of(run: runs.RunDir) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in run.path.iterdir() if path.is_file()}


def refused(run: runs.RunDir) -> str:
    """Return the one sentence with which the run is not continued; its files must be as they were."""
    before = files_of(run)
    with pytest.raises(UserError) as error:
        api.resume(run.path)
    assert files_of(run) == before
    return str(error.value)


def change_checkpoint(run: runs.RunDir, **values: Any) -> None:
    torch.save(checkpoint.load(run.last_checkpoint) | values, run.last_checkpoint)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"step": -5}, "its position is not one of the run's"),
        ({"step": 16}, "its position is not one of the run's"),
        ({"epoch": 7}, "its position is not one of the run's"),
        ({"epoch": 3}, "its position is not one of the run's"),
        ({"epoch": None}, "this file is not a checkpoint"),
        ({"format": 99}, "this file is not a checkpoint"),
        ({"model": 3}, "this file is not a checkpoint"),
        ({"seconds": {}}, "seconds.epoch is missing"),
        ({"seconds": {"epoch": "x", "total": 1.0}}, "seconds.epoch is str, expected float"),
        ({"seconds": {"epoch": 1.0, "total": float("nan")}}, "its seconds are not a time"),
        ({"meter": {}}, "meter.losses is missing"),
        ({"best": 3}, "this file is not a checkpoint"),
        ({"best": {"x": 1}}, "best is dict, expected NoneType"),
        ({"optimizer": {0: {"momentum_buffer": torch.zeros(2)}}}, "its optimizer is not one of these parameters"),
        ({"optimizer": {0: {"momentum_buffer": "x"}}}, "its optimizer is not one of these parameters"),
        ({"optimizer": {999: {}}}, "its optimizer is not one of these parameters"),
        ({"optimizer": {0: 3}}, "its optimizer is not one of these parameters"),
    ],
)
def test_a_checkpoint_that_makes_no_sense_is_refused(change: dict[str, Any], message: str) -> None:
    run = stopped_run()
    change_checkpoint(run, **change)
    assert f"last.ckpt: {message}" in refused(run).replace("its content does not fit this run: ", "")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("steps", 10**6, "its position is not one of the run's"),
        ("steps", "x", "meter.steps is str, expected int"),
        ("losses", torch.zeros(1), r"meter.losses is float32 [1], expected float32 [11]"),
    ],
)
def test_a_meter_that_makes_no_sense_is_refused(key: str, value: Any, message: str) -> None:
    run = stopped_run()
    change_checkpoint(run, meter=checkpoint.load(run.last_checkpoint)["meter"] | {key: value})
    assert f"last.ckpt: its content does not fit this run: {message}; nothing was changed" in refused(run)


@pytest.mark.parametrize("where", ["model", "optimizer"])
def test_a_checkpoint_with_a_nan_is_refused(where: str) -> None:
    run = stopped_run()
    saved = checkpoint.load(run.last_checkpoint)
    variance = next(tensor for name, tensor in saved["model"].items() if name.endswith("running_var"))
    (variance if where == "model" else saved["optimizer"][0]["momentum_buffer"]).view(-1)[0] = float("nan")
    torch.save(saved, run.last_checkpoint)
    assert "last.ckpt: its content does not fit this run: its weights or the optimizer's moments are not" in refused(
        run
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"resumed": 3}, "resumed: expected a list of objects, got 3"),
        ({"resumed": [3]}, "resumed: expected a list of objects, got [3]"),
        ({"threads": "x"}, "threads: expected a whole number from 1 to 1024, got 'x'"),
        ({"threads": 0}, "threads: expected a whole number from 1 to 1024, got 0"),
        ({"threads": 10**9}, "threads: expected a whole number from 1 to 1024, got 1000000000"),
        ({"precision": "x"}, "precision: expected fp32, bf16 or half, got 'x'"),
        ({"precision": ["fp32"]}, "precision: expected fp32, bf16 or half, got ['fp32']"),
        ({"recipe": None}, "recipe: expected a text, got None"),
    ],
)
def test_a_damaged_environment_is_refused(change: dict[str, Any], message: str) -> None:
    run = stopped_run()
    runs.write_json(run.env, runs.read_json(run.env) | change)
    assert f"env.json: {message}" in refused(run)


@pytest.mark.parametrize("content", ["", "[" * 100_000, '{"epoch": 1, "lr": "x"}'])
def test_rows_that_are_no_longer_there_are_told(content: str) -> None:
    run = stopped_run()
    run.metrics.write_text(content)
    assert "metrics.jsonl: expected one row for each of the 1 epochs that last.ckpt has trained" in refused(run)


@pytest.mark.parametrize("name", ["metrics.jsonl", "env.json", "last.ckpt", "result.json"])
def test_a_directory_in_the_place_of_a_file_is_told(name: str) -> None:
    run = stopped_run()
    (run.path / name).unlink(missing_ok=True)
    (run.path / name).mkdir()
    assert f"{name}: cannot read this" in refused(run)


def test_the_best_weights_are_looked_at_before_the_run_goes_on() -> None:
    overrides = ("data.val_fraction=0.2", "train.select=best-val")
    with pytest.raises(Interrupted):
        api.train(small_config(*overrides), out=Path("run"), progress=PressCtrlC(15))
    run = runs.open(Path("run"))
    change_checkpoint(run, best={"x": 1})
    assert "best.epoch is missing" in refused(run)
    change_checkpoint(run, best={"epoch": 1, "val_top1": 10.0})
    whole = run.best_checkpoint.read_bytes()
    run.best_checkpoint.write_bytes(whole[:1000])
    assert "best.ckpt: this checkpoint is truncated" in refused(run)
    run.best_checkpoint.unlink()
    assert "best.ckpt: this checkpoint is missing" in refused(run)
    run.best_checkpoint.write_bytes(whole)
    assert api.resume(run.path).row["best_epoch"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("precision: fp32", "precision: bf16", "train.precision is bf16, but the run began with fp32 and keeps it"),
        ("threads: auto", "threads: 7", "train.threads is 7, but the run began with 1 and keeps it"),
    ],
)
def test_an_edit_that_would_have_no_effect_is_told(old: str, new: str, message: str) -> None:
    run = stopped_run()
    edit_config(run, old, new)
    assert f"config.yaml: {message}; nothing was changed" in refused(run)


def test_a_damaged_result_is_told_and_can_be_written_again(small_run: api.Result) -> None:
    run = runs.open(shutil.copytree(small_run.run_dir, "copy"))
    runs.write_json(run.result, {"test_error": 1.0})
    assert "result.json: recipe, config_hash," in refused(run)
    run.result.unlink()
    assert api.resume(run.path).test_error == small_run.test_error


def test_a_checkpoint_of_another_seed_is_refused() -> None:
    run = stopped_run()
    edit_config(run, "seed: 1", "seed: 2")
    with pytest.raises(UserError, match=r"last\.ckpt: this checkpoint belongs to configuration .* with seed 1, not to"):
        api.resume(run.path)


def test_a_checkpoint_of_another_network_is_refused() -> None:
    run = stopped_run()
    saved = checkpoint.load(run.last_checkpoint)
    saved["model"]["classifier.weight"] = torch.zeros(3, 3)
    torch.save(saved, run.last_checkpoint)
    with pytest.raises(UserError, match=r"last\.ckpt: its content does not fit this run"):
        api.resume(run.path)


def test_other_data_are_refused() -> None:
    run = stopped_run()
    runs.write_json(run.env, runs.read_json(run.env) | {"data_checksum": "0" * 64})
    with pytest.raises(UserError, match=r"the files now have .* nothing was changed"):
        api.resume(run.path)


def test_other_circumstances_are_said_and_threads_and_precision_are_kept() -> None:
    class Notes(Silent):
        said: ClassVar[list[str]] = []
        threads = 0
        precision = ""

        def note(self, text: str) -> None:
            self.said.append(text)

        def start(self, job: Job, run: runs.RunDir) -> None:
            self.threads, self.precision = torch.get_num_threads(), job.precision.name

    run = stopped_run()
    edit_config(run, "precision: fp32", "precision: auto")
    runs.write_json(run.env, runs.read_json(run.env) | {"threads": 2, "torch": "2.0.0"})
    notes = Notes()
    result = api.resume(run.path, progress=notes)
    assert notes.said == [f"torch is {torch.__version__}, the run began with 2.0.0: its last bits may differ"]
    assert notes.precision == result.row["precision"] == "fp32"
    assert runs.read_json(run.env)["resumed"][0]["threads"] == 2
    assert result.row["torch"] == torch.__version__


def test_an_environment_without_what_a_resume_needs_is_refused() -> None:
    run = stopped_run()
    env = runs.read_json(run.env)
    del env["threads"]
    runs.write_json(run.env, env)
    with pytest.raises(UserError, match=r"env\.json: threads: expected a whole number from 1 to 1024, it is missing"):
        api.resume(run.path)


@pytest.mark.parametrize("step", [15, 14])
def test_ctrl_c_at_the_last_of_max_steps(step: int) -> None:
    overrides = ("train.max_steps=15", "data.val_fraction=0.2", "train.select=best-val", "train.save_every_epochs=5")
    reference = api.train(small_config(*overrides), out=Path("reference"))
    with pytest.raises(Interrupted):
        api.train(small_config(*overrides), out=Path("run"), progress=PressCtrlC(step))
    result = api.resume(Path("run"))
    assert same(state_of(Path("run")), state_of(Path("reference")))
    assert result.row["best_epoch"] == reference.row["best_epoch"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method`:DeprecationWarning")  # torch's own compiler
@pytest.mark.parametrize("drop_last", ["true", "false"])
def test_a_compiled_run_resumes_to_the_same_bits(drop_last: str) -> None:
    overrides = ("train.compile=true", f"data.drop_last={drop_last}", "train.epochs=2", "data.fraction=0.4")
    api.train(small_config(*overrides), out=Path("reference"))
    torch._dynamo.reset()
    with pytest.raises(Interrupted):
        api.train(small_config(*overrides), out=Path("run"), progress=PressCtrlC(3))
    torch._dynamo.reset()
    api.resume(Path("run"))
    assert same(state_of(Path("run")), state_of(Path("reference")))


class Crash(BaseException):
    """Nobody catches it: what was to come after it does not happen, as in a kill."""


@pytest.mark.parametrize("stride", [pytest.param(1, marks=pytest.mark.slow), 9])
def test_a_crash_at_every_file_operation(stride: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Break off before and after each replace and fsync of a run in turn; the resumed run ends with the same bits."""
    overrides = ("data.val_fraction=0.2", "train.select=best-val", "train.epochs=4", "train.save_every_epochs=2")
    config = small_config(*overrides, "data.fraction=0.3")
    api.train(config, out=Path("reference"))
    expected, weights = state_of(Path("reference")), Path("reference/model.safetensors").read_bytes()
    countdown = [0]

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def tick() -> None:
            countdown[0] -= 1
            if countdown[0] == 0:
                raise Crash

        def wrapper(*arguments: Any) -> Any:
            tick()
            answer = function(*arguments)
            tick()
            return answer

        return wrapper

    for name in ("replace", "fsync"):
        monkeypatch.setattr(os, name, counted(getattr(os, name)))
    # A kill runs no clean-up either.
    monkeypatch.setattr(Path, "unlink", lambda *_, **__: None)
    for crashes in range(1, 1000, stride):
        run = Path(f"run{crashes}")
        countdown[0] = crashes
        try:
            api.train(config, out=run)
            break
        except Crash:
            countdown[0] = 0
        if (run / "config.yaml").exists():
            api.resume(run)
        else:
            api.train(config, out=run)
        assert same(state_of(run), expected), crashes
        assert (run / "model.safetensors").read_bytes() == weights
    assert crashes > 40


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


class PressCtrlCAtTheStart(Silent):
    def start(self, job: Job, run: runs.RunDir) -> None:
        os.kill(os.getpid(), signal.SIGINT)


def test_ctrl_c_before_the_first_step(small_run: api.Result) -> None:
    with pytest.raises(Interrupted, match="continue with `pictorch train --resume run`"):
        api.train(small_config(), recipe="small", out=Path("run"), progress=PressCtrlCAtTheStart())
    assert checkpoint.load(Path("run/last.ckpt"))["step"] == 0
    with pytest.raises(Interrupted, match="continue with `pictorch train --resume run`"):
        api.resume("run", progress=PressCtrlCAtTheStart())
    api.resume("run")
    assert same(state_of(Path("run")), state_of(small_run.run_dir))


def test_ctrl_c_while_the_results_are_written(small_run: api.Result, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first lets them be finished, which takes a moment; a second breaks off, and says how to go on."""
    npz, presses = Evaluation.npz, 1

    def press_ctrl_c(evaluation: Evaluation) -> bytes:
        for _ in range(presses):
            os.kill(os.getpid(), signal.SIGINT)
        return npz(evaluation)

    with monkeypatch.context() as patch:
        patch.setattr(Evaluation, "npz", press_ctrl_c)
        assert api.train(small_config(), recipe="small", out=Path("finished")).test_error == small_run.test_error
        presses = 2
        with pytest.raises(Interrupted, match="continue with `pictorch train --resume run`"):
            api.train(small_config(), recipe="small", out=Path("run"))
    assert not Path("run/result.json").exists()
    assert api.resume("run").test_error == small_run.test_error
    assert Path("run/model.safetensors").read_bytes() == (small_run.run_dir / "model.safetensors").read_bytes()
