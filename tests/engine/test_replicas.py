"""Several runs at once: each ends as the run that it is alone, and what befalls one leaves the others as they are."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import SMALL, PressCtrlC, same, small_config, state_of

import pictorch
from pictorch import api, runs
from pictorch.config import Config, UserError, config_hash
from pictorch.config.schema import Model
from pictorch.data.streaming import cores
from pictorch.engine import checkpoint, replicas
from pictorch.engine.build import Job, build
from pictorch.engine.interrupt import Interrupted, Stop, StopRequested, catch_signals
from pictorch.engine.progress import Progress, Silent
from pictorch.engine.replicas import Needs, Outcome, Quiet, Replica
from pictorch.runs import RunDir

ONE_THREAD = ("train.threads=1", "data.fraction=0.3", "train.epochs=2")
DROPOUT = (
    "model.name=wrn",
    "model.depth=10",
    "model.widening_factor=1",
    "model.base_channels=8",
    "model.drop_rate=0.3",
)
CLOCK = {"train_seconds", "images_per_second", "peak_memory_bytes", "finished", "started"}
CODE = {"commit", "dirty", "source_sha256"}  # of a checkout that may change while it is tested


BROKEN_NETWORK = """
from torch import nn
class Net(nn.Module):
    def __init__(self, *, num_classes, in_channels, image_size):
        super().__init__()
        self.head = nn.Linear(in_channels * image_size**2, num_classes)
    def forward(self, images):
        if self.training:
            raise ZeroDivisionError("out of order")
        return self.head(images.flatten(1))
"""


def of(*overrides: str) -> Config:
    return small_config(*ONE_THREAD, *overrides)


def in_threads(config: Config, listener: replicas.Listener | None = None) -> list[Outcome]:
    with catch_signals() as stop, replicas.reserved(config, "small") as group:
        return api.in_threads(group, "small", listener or Quiet(), stop)


def same_as_alone(run_dir: Path, config: Config) -> None:
    """Assert that a replica's directory is that of a run alone, but for its clock and the note in env.json."""
    alone = api.train_one(config, recipe="small", out=f"alone-{run_dir.name}").run_dir
    assert same(state_of(run_dir), state_of(alone))
    for name in ("config.yaml", "model.safetensors", "predictions.npz", "mistakes.json"):
        assert (run_dir / name).read_bytes() == (alone / name).read_bytes(), name
    assert {path.name for path in run_dir.iterdir()} == {path.name for path in alone.iterdir()}
    for name, differing in (("result.json", set[str]()), ("env.json", {"replicas"})):
        one, other = (runs.read_json(place / name) for place in (run_dir, alone))
        assert one.keys() == other.keys()
        assert {key for key in one if one[key] != other[key]} - CLOCK - CODE == differing
    assert other["replicas"] == 1


def test_the_configuration_of_each_is_that_of_the_run_alone() -> None:
    config = small_config("train.seed=4", "train.replicas=3")
    alone = replicas.configurations(config)
    assert alone == {f"seed {seed}": small_config(f"train.seed={seed}") for seed in (4, 5, 6)}
    assert {config_hash(one) for one in alone.values()} == {config_hash(config)} == {config_hash(small_config())}
    rates = replicas.configurations(small_config("train.replica_lrs=[0.05, 0.1]"))
    assert rates == {f"lr {lr}": small_config(f"optim.lr={lr}") for lr in (0.05, 0.1)}


def test_processes_end_with_the_bits_of_the_runs_alone() -> None:
    config = small_config("data.fraction=0.3", "train.epochs=2", "train.replicas=2", "train.seed=7")
    results = pictorch.train(config)
    assert isinstance(results, list)
    assert [result.row["seed"] for result in results] == [7, 8]
    for result, seed in zip(results, (7, 8), strict=True):
        assert result.run_dir.parent == Path("runs/custom")
        assert result.run_dir.name.endswith(f"-seed{seed}")
        assert runs.read_json(result.run_dir / "env.json")["replicas"] == 2
        env = runs.read_json(result.run_dir / "env.json")
        runs.write_json(result.run_dir / "env.json", env | {"recipe": "small"})
        row = runs.read_json(result.run_dir / "result.json")
        runs.write_json(result.run_dir / "result.json", row | {"recipe": "small"})
        same_as_alone(result.run_dir, of(f"train.seed={seed}"))
        assert api.resume(result.run_dir).test_error == result.test_error


def test_threads_end_with_the_bits_of_the_runs_alone() -> None:
    outcomes = in_threads(of("train.replicas=3", "ema.decay=0.9", "augment.mixup.alpha=1", "train.precision=bf16"))
    assert [outcome.failure for outcome in outcomes] == [None] * 3
    for outcome in outcomes:
        same_as_alone(outcome.replica.run.path, outcome.replica.config)


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        (DROPOUT, "the network draws random numbers in training"),
        (("augment.dual_cutout.size=4", "train.precision=bf16"), "each step casts the weights once for two passes"),
    ],
)
def test_what_a_process_has_once_is_used_by_one_replica_after_another(settings: Sequence[str], why: str) -> None:
    class Listening(Quiet):
        def start(self, job: Job, group: Sequence[Replica], at_once: int) -> None:
            assert at_once == 1
            assert job.notes[-1].startswith(f"the replicas are trained one after another: {why}")

    for outcome in in_threads(of(*settings, "train.replicas=2"), Listening()):
        same_as_alone(outcome.replica.run.path, outcome.replica.config)


def test_a_network_that_draws_is_told_from_one_that_does_not() -> None:
    for settings, draws in ((DROPOUT, True), ((), False), (("model.name=shake_shake", "model.depth=8"), True)):
        needed = replicas.needs(build(of(*settings)))
        assert needed.draws is draws
        assert needed.own_bytes > 0


def test_threads_share_one_copy_of_the_images() -> None:
    with replicas.reserved(of("train.replicas=3", "augment.crop.padding=1"), "small") as group:
        jobs = list(replicas.build_all(group).values())
    assert len({job.train_loader.source.data_ptr() for job in jobs}) == 1  # type: ignore[attr-defined]
    assert len({job.test_loader.labels.data_ptr() for job in jobs}) == 1
    assert len({next(job.model.parameters()).data_ptr() for job in jobs}) == 3
    assert list(Path.cwd().iterdir()) == []  # nothing was trained: no directory is left


def test_threads_with_splits_of_their_own_have_images_of_their_own() -> None:
    config = of("train.replicas=2", "data.val_fraction=0.2", "data.split_seed=run", "train.epochs=1")
    for outcome in in_threads(config):
        same_as_alone(outcome.replica.run.path, outcome.replica.config)


def test_learning_rates_and_one_that_diverges() -> None:
    with pytest.raises(replicas.Failed) as caught:
        api.train_replicas(of("train.replica_lrs=[0.1, 1.0e+30]"), recipe="small")
    failed = caught.value
    good, bad = failed.outcomes
    assert failed.mistake
    assert str(failed).startswith(f"1 of 2 replicas failed:\n  lr 1e+30 in {bad.replica.run.path}: training diverged: ")
    same_as_alone(good.replica.run.path, of("optim.lr=0.1"))


def work_of(processes: replicas.Processes, listener: replicas.Listener) -> Callable[[Replica], dict[str, Any]]:
    return lambda replica: processes.train(replica.config, replica.run, "small", listener.of(replica))


def test_a_process_trains_one_run_after_another_to_the_bits_of_each_alone() -> None:
    """A mistake in one leaves the process to the others; what it measures changes nothing."""
    processes = replicas.Processes(api.REPLICA, together=2)
    other = of("train.seed=5", "model.base_channels=4", "train.batch_size=64", "ema.decay=0.9")
    assert processes.measure(other)[1].updates == 12
    for config, name in ((of(), "first"), (other, "second")):
        row = processes.train(config, RunDir(Path(name)), "small", Silent())
        assert row == runs.read_result(RunDir(Path(name)))
        with pytest.raises(UserError, match="batches of 2,000 images"):
            processes.train(of("train.batch_size=2000"), RunDir(Path("third")), "small", Silent())
    assert len(processes.running) == 1
    processes.close()
    assert processes.running[0].returncode == 0
    same_as_alone(Path("first"), of())
    same_as_alone(Path("second"), other)


def test_a_run_that_was_begun_goes_on_in_a_process() -> None:
    with pytest.raises(Interrupted):
        api.train_one(of("train.epochs=4"), recipe="small", out="run", progress=PressCtrlC(5))
    processes = replicas.Processes(api.REPLICA, together=1)
    processes.train(of("train.epochs=4"), RunDir(Path("run")), "small", Silent())
    processes.close()
    same_as_alone_after_resume(Path("run"), of("train.epochs=4"))


def test_a_fault_of_ours_in_a_process_is_told_and_the_next_run_has_another() -> None:
    """Its network fails in training."""
    Path("broken.py").write_text(BROKEN_NETWORK)
    processes = replicas.Processes((*api.REPLICA[:1], *api.REPLICA[2:]), together=1)
    config = of().model_copy(update={"model": Model(name="broken:Net")})
    with pytest.raises(replicas.Broken, match="ZeroDivisionError: out of order"):
        processes.train(config, RunDir(Path("run")), "small", Silent())
    processes.train(of("train.epochs=1"), RunDir(Path("next")), "small", Silent())
    assert len(processes.running) == 2
    processes.close()


def test_after_a_request_to_stop_nothing_is_begun() -> None:
    processes = replicas.Processes(api.REPLICA, together=1)
    processes.ask_to_stop()
    with pytest.raises(StopRequested):
        processes.train(of(), RunDir(Path("run")), "small", Silent())
    assert processes.running == []
    processes.close()


class Kills(Quiet):
    """Kill the process of "seed 1" after its first epoch."""

    processes: replicas.Processes

    def of(self, replica: Replica) -> Progress:
        class Killing(Silent):
            def epoch(_, row: dict[str, Any]) -> None:
                [process] = self.processes.running[-1:]
                process.kill()

        return Killing() if replica.name == "seed 1" else Silent()


@pytest.mark.slow
def test_a_replica_that_is_killed_is_named_and_the_others_go_on() -> None:
    listener = Kills()
    with replicas.reserved(of("train.replicas=2"), "small") as group:
        processes = replicas.Processes(api.REPLICA, together=2)
        listener.processes = processes
        outcomes = replicas.train_all(group, work_of(processes, listener), at_once=1, stop=Stop(), listener=listener)
        processes.close()
    killed = group[0].run
    assert [outcome.row is not None for outcome in outcomes] == [False, True]
    with pytest.raises(replicas.Failed) as caught:
        replicas.finished(outcomes)
    assert not caught.value.mistake
    assert (
        f"seed 1 in {killed.path}: its process was killed by SIGKILL; continue with `{killed.resume_command()}`"
        in str(caught.value)
    )
    api.resume(killed.path)
    same_as_alone_after_resume(killed.path, group[0].config)


def same_as_alone_after_resume(run_dir: Path, config: Config) -> None:
    alone = api.train_one(config, recipe="small", out=f"alone-{run_dir.name}").run_dir
    assert same(state_of(run_dir), state_of(alone))


def test_a_fault_in_one_leaves_the_others(capsys: pytest.CaptureFixture[str]) -> None:
    def work(replica: Replica) -> dict[str, Any]:
        return {"seconds": 1 // (replica.config.train.seed - 2)}

    with replicas.reserved(of("train.replicas=3"), "small") as group:
        outcomes = replicas.train_all(group, work, at_once=2, stop=Stop(), listener=Quiet())
    assert [outcome.failure for outcome in outcomes][::2] == [None, None]
    assert "ZeroDivisionError" in str(outcomes[1].failure)
    assert "ZeroDivisionError" in capsys.readouterr().err


class PressCtrlCInOne(Quiet):
    def of(self, replica: Replica) -> Progress:
        return PressCtrlC(2) if replica.name == "seed 2" else Silent()


def test_ctrl_c_stops_all_threads_and_each_goes_on() -> None:
    outcomes = in_threads(of("train.replicas=3", "train.epochs=9"), PressCtrlCInOne())
    assert all(outcome.stopped for outcome in outcomes)
    with pytest.raises(Interrupted) as caught:
        replicas.finished(outcomes)
    for outcome in outcomes:
        run = outcome.replica.run
        assert f"\n  `{run.resume_command()}` ({outcome.replica.name})" in str(caught.value)
        assert checkpoint.load(run.last_checkpoint)["step"] < 9 * 3
    api.resume(run.path)
    same_as_alone_after_resume(run.path, outcome.replica.config)


def test_what_is_said_of_each_after_a_stop() -> None:
    with replicas.reserved(of("train.replicas=4"), "small") as group:
        for replica in group[:3]:
            replica.run.config.write_text("")
        done, failed, stopped, waiting = group
        outcomes = [
            Outcome(done, row={"test_error": 1.0}),
            Outcome(failed, failure="training diverged", mistake=True),
            Outcome(stopped),
            Outcome(waiting),
        ]
        assert str(replicas.interrupted(outcomes)) == (
            "stopped on request; continue each with\n"
            f"  `pictorch train --resume {stopped.run.path}` (seed 3)\n"
            f"failed: seed 2 in {failed.run.path}: training diverged\n"
            f"finished: seed 1 in {done.run.path}\n"
            "not begun: seed 4"
        )
        assert str(replicas.interrupted([Outcome(waiting)])) == ""


def start_two(epochs: int) -> tuple[subprocess.Popen[str], list[RunDir]]:
    """Start two replicas by the command line, and return once both have trained an epoch."""
    words = [*SMALL, "train.threads=1", f"train.epochs={epochs}", "train.replicas=2"]
    command = [sys.executable, "-m", "pictorch", "train", *words]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    started: list[RunDir] = []
    while len(started) < min(2, cores()) and process.poll() is None:
        time.sleep(0.02)
        started = [run for run in runs.collect([Path("runs")]) if runs.read_metrics(run)]
    return process, started


@pytest.mark.slow
@pytest.mark.parametrize("numbers", [(signal.SIGINT,), (signal.SIGTERM,), (signal.SIGINT, signal.SIGINT)])
def test_signals_to_the_command_stop_all_processes(numbers: tuple[int, ...]) -> None:
    """A second one breaks off at once; what the last epochs left is there all the same."""
    process, started = start_two(500)
    for number in numbers:
        process.send_signal(number)
        time.sleep(0.05)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 130, said
    assert said.startswith("stopped on request; continue each with\n")
    for run in started:
        assert f"`{run.resume_command()}`" in said
        with runs.lock(run):  # nobody trains there any more
            assert checkpoint.load(run.last_checkpoint)["step"] >= 11


@pytest.mark.slow
def test_replicas_outlive_no_parent() -> None:
    process, started = start_two(500)
    process.kill()
    process.communicate()
    for run in started:
        until = time.monotonic() + 60
        while time.monotonic() < until:
            try:
                with runs.lock(run):
                    break
            except runs.RunError:
                time.sleep(0.05)
        else:
            pytest.fail("still training")
        assert checkpoint.load(run.last_checkpoint)["step"] >= 11


@pytest.mark.slow
def test_a_script_needs_no_guard() -> None:
    """A replica's process does not import the script that began it, nor read its standard input."""
    script = (
        "import sys, pictorch\n"
        f"config = pictorch.load_config(None, {[*SMALL, *ONE_THREAD, 'train.replicas=2', 'train.epochs=1']})\n"
        "print(sorted(result.row['seed'] for result in pictorch.train(config)))\n"
    )
    Path("script.py").write_text(script)
    done = subprocess.run([sys.executable, "script.py"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "[1, 2]\n", "")


def test_what_does_not_fit_is_said_with_what_does() -> None:
    device, needed = torch.device("cuda"), Needs(shared_bytes=2**30, own_bytes=2**29, draws=False)
    replicas.refuse_too_many(14, needed, 10 * 2**30, device)
    with pytest.raises(UserError) as caught:
        replicas.refuse_too_many(15, needed, 10 * 2**30, device)
    assert str(caught.value) == (
        "15 replicas need about 9.5 GiB, and cuda has 10 GiB free, of which 90% can be used: expected at most 14"
    )


def test_what_is_wrong_with_all_is_told_once_and_leaves_nothing() -> None:
    with pytest.raises(UserError, match="batches of 2,000 images, but there are"):
        api.train_replicas(of("train.batch_size=2000", "train.replicas=2"))
    assert list(Path.cwd().iterdir()) == []


def test_a_directory_or_a_listener_of_one_run_is_refused() -> None:
    with pytest.raises(UserError, match="out: each replica has a run directory of its own"):
        api.train(of("train.replicas=2"), out="run")
    with pytest.raises(UserError, match=r"progress: this listens to one run; `api.train_replicas` takes"):
        api.train(of("train.replica_lrs=[0.1]"), progress=Silent())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_threads_on_a_gpu_end_as_the_runs_alone() -> None:
    """Deterministic kernels: the same bits; one replica more than fit is refused."""
    outcomes = in_threads(of("train.device=cuda", "train.deterministic=true", "train.replicas=3"))
    for outcome in outcomes:
        same_as_alone_after_resume(outcome.replica.run.path, outcome.replica.config)
    with pytest.raises(UserError, match="replicas need about"):
        replicas.refuse_too_many(10**6, Needs(0, 2**30, False), torch.cuda.mem_get_info()[0], torch.device("cuda"))
