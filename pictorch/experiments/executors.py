"""What carries out the runs of a sweep: the seam between the plan and machines.

An executor is given tasks and tells of each how it ended; all else (how far a run is, what it found) stands in the run
directories. What trains a run is handed to an executor from above: this room does not know how that is done.
"""

import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Protocol

from pictorch.config import Config
from pictorch.runs import RunDir

POLL_SECONDS = 0.1


@dataclass(frozen=True)
class Task:
    """One run that a sweep wants: to be begun in its directory, or continued there."""

    run: RunDir
    config: Config
    recipe: str
    words: tuple[str, ...]
    """What follows `pictorch train` to make this very run: a recipe, then `key=value`"""
    seconds: float
    """Its price: how long what is left of it takes"""
    latest: float = math.inf
    """The moment (`time.time()`) after which it is not begun any more: it would end after the budget"""


@dataclass(frozen=True)
class Ended:
    """How a task ended: finished where there is no failure and it was not stopped (or not begun)."""

    task: Task
    failure: str | None = None
    stopped: bool = False
    mistake: bool = False
    """Of a failure: the user can mend it"""


class Stop(Protocol):
    """Whether the user asked to stop."""

    requested: bool


class Executor(Protocol):
    """A place where runs are trained."""

    def run(self, tasks: Sequence[Task], ended: Callable[[Ended], None], stop: Stop) -> None:
        """Carry out all tasks in their order, as many at once as there is room; return when all have ended.

        `ended` is called once for each, from any thread. Once `stop.requested`, no further task is begun, and those
        under way are asked to stop: they save and end. After its `latest` a task is not begun either. Both are told as
        stopped.
        """


class Local:
    """Runs on this machine, `jobs` at a time.

    `work` carries out one, in a thread of its own, and returns how it ended. `ask` is called, again and again, to pass
    on a request to stop, and `kill` at a second Ctrl-C.
    """

    def __init__(
        self, jobs: int, work: Callable[[Task], Ended], *, ask: Callable[[], None], kill: Callable[[], None]
    ) -> None:
        self.jobs, self.work, self.ask, self.kill = jobs, work, ask, kill

    def run(self, tasks: Sequence[Task], ended: Callable[[Ended], None], stop: Stop) -> None:
        def attempt(task: Task) -> None:
            late = stop.requested or time.time() > task.latest
            ended(Ended(task, stopped=True) if late else self.work(task))

        with ThreadPoolExecutor(self.jobs) as pool:
            futures = [pool.submit(attempt, task) for task in tasks]
            attend(futures, stop, ask=self.ask, kill=self.kill)
        for future in futures:
            future.result()


def attend(futures: Sequence[Future[None]], stop: Stop, *, ask: Callable[[], None], kill: Callable[[], None]) -> None:
    """Wait until all have ended; pass on a request to stop by `ask`, again and again, and a second Ctrl-C by `kill`."""
    try:
        while wait(futures, timeout=POLL_SECONDS).not_done:
            if stop.requested:
                ask()
    except KeyboardInterrupt:
        kill()
