"""The runs of a sweep as tasks of a Ray cluster, an existing one or one of this machine's cores (extra `ray`).

A run is a task with as many CPUs as it has threads, or with a GPU. Where its worker or its node dies, Ray starts the
task again, and it goes on from the last checkpoint in the run directory: all nodes have to see that under one path.
"""

import contextlib
import logging
import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pictorch.config import Config, UserError
from pictorch.experiments.executors import Ended, Stop, Task
from pictorch.runs import RunDir

RETRIES = 5  # of a task whose worker or node has died
SECONDS_BETWEEN_LOOKS = 0.2
SECONDS_TO_ANSWER = 10.0
ENVIRONMENT = ("PICTORCH_DATA", "PICTORCH_MAX_STEPS")
Answer = tuple[str | None, bool, bool]  # failure, stopped, mistake


class RayExecutor:
    """Trains runs as tasks of the Ray cluster at `address`, else of $RAY_ADDRESS, else of one that is started here.

    At most `jobs` at a time (None: as many as the cluster has room for). `work` trains a task's run to its end in the
    process that calls it, raises UserError for what the user can mend, and KeyboardInterrupt after SIGINT, once the
    run is saved. Raises UserError where Ray is missing or cannot be reached.
    """

    def __init__(self, address: str | None, jobs: int | None, work: Callable[[Task], object]) -> None:
        self.ray = ray_package()
        self.address, self.jobs, self.work = address, jobs, work

    def run(self, tasks: Sequence[Task], ended: Callable[[Ended], None], stop: Stop) -> None:
        """Carry out all tasks, as `executors.Executor` says."""
        with connected(self.ray, self.address):
            left, under_way = list(tasks), dict[Any, Task]()
            cancelled = False
            while left or under_way:
                while left and not stop.requested and (self.jobs is None or len(under_way) < self.jobs):
                    task = left.pop(0)
                    under_way[self.submit(task)] = task
                if stop.requested and not cancelled:
                    cancelled = True
                    for task in left:
                        ended(Ended(task, stopped=True))
                    left = []
                    for reference in under_way:
                        self.ray.cancel(reference)
                done, _ = self.ray.wait(list(under_way), timeout=SECONDS_BETWEEN_LOOKS) if under_way else ([], [])
                for reference in done:
                    task = under_way.pop(reference)
                    ended(self.outcome(reference, task))

    def submit(self, task: Task) -> Any:
        """Hand a task to the cluster; return the reference of its answer."""
        path = task.run.path.absolute()
        path.parent.mkdir(parents=True, exist_ok=True)
        task = replace(task, run=RunDir(path))
        environment = {name: os.environ[name] for name in ENVIRONMENT if name in os.environ}
        remote = self.ray.remote(carry_out).options(
            name=path.name, max_retries=RETRIES, retry_exceptions=False, **resources(self.ray, task.config)
        )
        return remote.remote(self.work, task, os.getcwd(), environment)

    def outcome(self, reference: Any, task: Task) -> Ended:
        """Return how a task that is over has ended."""
        try:
            failure, stopped, mistake = self.ray.get(reference)
        except self.ray.exceptions.TaskCancelledError:
            return Ended(task, stopped=True)
        except self.ray.exceptions.RayTaskError as error:
            return Ended(task, failure=str(error).strip().splitlines()[-1])
        except self.ray.exceptions.RayError as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            return Ended(task, failure=f"Ray gave it up after {RETRIES} retries: {reason}")
        return Ended(task, failure, stopped, mistake)


def ray_package() -> Any:
    """Return the package. Raises UserError where it is not installed."""
    try:
        import ray
    except ImportError:
        raise UserError("--executor ray: ray is missing; `python -m pip install 'pictorch[ray]'`") from None
    return ray


@contextlib.contextmanager
def connected(ray: Any, address: str | None) -> Iterator[None]:
    """Hold a connection to the cluster; one that was started here ends with it."""
    if ray.is_initialized():
        yield
        return
    # "local": without it Ray would look for a cluster that once ran here, for minutes where that is gone.
    place = address or os.environ.get("RAY_ADDRESS") or "local"
    try:
        answers(place)
        ray.init(address=place, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, ValueError, RuntimeError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        token = "" if place == "local" else " (one that asks for a token wants its own in RAY_AUTH_TOKEN)"
        raise UserError(f"--address: no Ray cluster at {place}: {reason}{token}") from None
    try:
        yield
    finally:
        ray.shutdown()


def answers(address: str) -> None:
    """Raise OSError where an address HOST:PORT does not answer; Ray itself would try it for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon and port.isdigit():
        socket.create_connection((host, int(port)), timeout=SECONDS_TO_ANSWER).close()


def threads(config: Config) -> int:
    """Return how many threads a run has on a cluster's node: one, unless it says."""
    return 1 if config.train.threads == "auto" else config.train.threads


def resources(ray: Any, config: Config) -> dict[str, int]:
    """Return what a run's task asks the cluster for."""
    asked = config.train.device
    on_gpu = asked.startswith("cuda") or (asked == "auto" and ray.cluster_resources().get("GPU", 0) > 0)
    return {"num_cpus": threads(config), "num_gpus": int(on_gpu)}


def carry_out(work: Callable[[Task], object], task: Task, directory: str, environment: dict[str, str]) -> Answer:
    """Train a task's run in this process, a worker of Ray's; return how it ended."""
    os.environ.update(environment)
    if Path(directory).is_dir():
        os.chdir(directory)
    out = task.run.path.parent
    if not out.is_dir():
        node = socket.gethostname()
        return (
            f"{out} is not there on Ray's node {node}: all nodes have to see it, on a shared file system",
            False,
            True,
        )
    if time.time() > task.latest:
        return None, True, False
    config = task.config
    pinned = config.train.model_copy(update={"threads": threads(config)})
    try:
        work(replace(task, config=config.model_copy(update={"train": pinned})))
    except UserError as error:
        return str(error), False, True
    except KeyboardInterrupt:
        return None, True, False
    except Exception as error:
        return f"{type(error).__name__}: {error}", False, False
    return None, False, False
