"""A sweep's runs on a real Ray cluster of this machine: finished, refused, stopped, and killed in the middle."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from conftest import SMALL, required_in_ci, same, state_of

from pictorch import api, runs
from pictorch.config import UserError
from pictorch.experiments import ray_executor
from pictorch.experiments.executors import Ended, Task
from pictorch.experiments.ray_executor import RayExecutor
from pictorch.runs import RunDir

slow = pytest.mark.slow


@pytest.fixture
def ray() -> Any:
    try:
        import ray
    except ImportError:
        required_in_ci("ray is not installed (extra `ray`)")
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # Ray's workers cannot import the tests
    return ray


@dataclass
class Asked:
    requested: bool = False


def task(name: str, *overrides: str, **values: Any) -> Task:
    words = (*SMALL, *overrides)
    return Task(RunDir(Path("sweep") / name), api.load_config(None, words), "small", words, seconds=10.0, **values)


def train(task: Task) -> None:
    api.run_to_end(task.config, recipe=task.recipe, out=task.run.path)


def carried_out(tasks: list[Task], stop: Asked, work: Callable[[Task], object] = train) -> dict[str, Ended]:
    ended: list[Ended] = []
    RayExecutor(None, None, work).run(tasks, ended.append, stop)
    assert len(ended) == len(tasks), ended
    return {end.task.run.path.name: end for end in ended}


@slow
@pytest.mark.usefixtures("ray")
def test_a_sweep_of_four_and_what_the_user_got_wrong() -> None:
    tasks = [task(f"seed{seed}", f"train.seed={seed}", "train.epochs=2") for seed in range(4)]
    tasks += [task("diverges", "optim.lr=1e30"), task("late", latest=time.time() - 1)]
    ended = carried_out(tasks, Asked())
    assert {name: (end.failure is None, end.stopped, end.mistake) for name, end in ended.items()} == {
        **{f"seed{seed}": (True, False, False) for seed in range(4)},
        "diverges": (False, False, True),
        "late": (True, True, False),
    }
    assert str(ended["diverges"].failure).startswith("training diverged: the loss is not finite at step")
    assert not tasks[-1].run.path.exists()
    alone = api.train(api.load_config(None, (*SMALL, "train.seed=3", "train.epochs=2", "train.threads=1")), out="alone")
    assert isinstance(alone, api.Result)
    assert same(state_of(Path("sweep/seed3")), state_of(alone.run_dir))
    assert runs.read_json(RunDir(Path("sweep/seed3")).env)["working_directory"] == os.getcwd()


def train_and_say_where(task: Task) -> None:
    """Train, and leave the number of the process beside the run."""
    with task.run.path.with_suffix(".pids").open("a") as file:
        file.write(f"{os.getpid()}\n")
    train(task)


def wait_for_rows(run: RunDir, count: int) -> None:
    end = time.monotonic() + 120
    while len(runs.read_metrics(run)) < count:
        assert time.monotonic() < end
        time.sleep(0.02)


@slow
@pytest.mark.usefixtures("ray")
def test_a_killed_worker_is_replaced_and_the_run_ends_with_the_same_bits() -> None:
    killed = task("killed", "train.epochs=12")
    pids = killed.run.path.with_suffix(".pids")

    def kill() -> None:
        wait_for_rows(killed.run, 4)
        os.kill(int(pids.read_text().split()[0]), signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    [ended] = carried_out([killed], Asked(), train_and_say_where).values()
    killer.join()
    assert (ended.failure, ended.stopped) == (None, False)
    assert len(set(pids.read_text().split())) == 2
    alone = api.train(api.load_config(None, (*SMALL, "train.epochs=12", "train.threads=1")), out="alone")
    assert isinstance(alone, api.Result)
    assert same(state_of(killed.run.path), state_of(alone.run_dir))
    assert len(runs.read_json(killed.run.env)["resumed"]) == 1


@slow
@pytest.mark.usefixtures("ray")
def test_a_stop_lets_the_runs_under_way_save() -> None:
    stop, begun = Asked(), task("begun", "train.epochs=500")
    queued = [task(f"queued{number}", "train.threads=1000") for number in range(2)]  # no node has so many cores

    def ask() -> None:
        wait_for_rows(begun.run, 2)
        stop.requested = True

    asker = threading.Thread(target=ask)
    asker.start()
    ended = carried_out([begun, *queued], stop)
    asker.join()
    assert all(end.stopped and end.failure is None for end in ended.values()), ended
    assert begun.run.last_checkpoint.exists()
    assert not begun.run.result.exists()
    assert not queued[0].run.path.exists()


@slow
@pytest.mark.usefixtures("ray")
def test_no_cluster_at_an_address() -> None:
    with pytest.raises(UserError, match=r"^--address: no Ray cluster at 127\.0\.0\.1:1: "):
        RayExecutor("127.0.0.1:1", None, train).run([task("one")], lambda end: None, Asked())


def test_ray_is_missing(tmp_path: Path) -> None:
    (tmp_path / "ray.py").write_text("raise ImportError('missing')\n")
    code = "from pictorch.experiments.ray_executor import RayExecutor as R; R(None, None, print)"
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True
    )
    assert "UserError: --executor ray: ray is missing; `python -m pip install 'pictorch[ray]'`" in done.stderr


@slow
@pytest.mark.usefixtures("ray")
def test_a_node_that_does_not_see_the_directory_is_told() -> None:
    failure, stopped, mistake = ray_executor.carry_out(train, task("one"), os.getcwd(), {})
    assert (stopped, mistake) == (False, True)
    assert str(failure).endswith("all nodes have to see it, on a shared file system")
