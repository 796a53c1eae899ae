"""The executor of this machine: order, room, stops, and tasks whose time has passed."""

import threading
import time
from pathlib import Path

import pytest

from pictorch.config import Config
from pictorch.experiments.executors import Ended, Local, Task
from pictorch.runs import RunDir


class Stop:
    requested = False


def task(number: int, latest: float = float("inf")) -> Task:
    return Task(RunDir(Path(str(number))), Config(), "recipe", (), 1.0, latest)


def nothing() -> None: ...


def test_all_are_carried_out_in_their_order_and_as_many_at_once_as_there_is_room() -> None:
    begun: list[str] = []
    ends: list[Ended] = []
    now, most, lock = 0, 0, threading.Lock()

    def work(task: Task) -> Ended:
        nonlocal now, most
        with lock:
            begun.append(str(task.run.path))
            now, most = now + 1, max(most, now + 1)
        time.sleep(0.02)
        with lock:
            now -= 1
        return Ended(task)

    Local(2, work, ask=nothing, kill=nothing).run([task(n) for n in range(6)], ends.append, Stop())
    assert begun == [str(n) for n in range(6)]
    assert most == 2
    assert len(ends) == 6


def test_after_a_stop_none_is_begun_and_those_under_way_are_asked() -> None:
    stop, asked = Stop(), threading.Event()
    ends: list[Ended] = []

    def work(task: Task) -> Ended:
        stop.requested = True
        assert asked.wait(10)
        return Ended(task, stopped=True)

    Local(1, work, ask=asked.set, kill=nothing).run([task(n) for n in range(3)], ends.append, stop)
    assert [end.stopped for end in ends] == [True] * 3


def test_a_task_is_not_begun_after_its_latest_moment() -> None:
    ends: list[Ended] = []
    given = [task(1, time.time() - 1), task(2, time.time() + 100)]
    Local(1, Ended, ask=nothing, kill=nothing).run(given, ends.append, Stop())
    assert [(end.stopped, end.task) for end in ends] == [(True, given[0]), (False, given[1])]


def test_a_fault_of_ours_is_raised_once_the_others_have_ended() -> None:
    ends: list[Ended] = []

    def work(task: Task) -> Ended:
        if task.run.path.name == "0":
            raise ZeroDivisionError
        return Ended(task)

    with pytest.raises(ZeroDivisionError):
        Local(1, work, ask=nothing, kill=nothing).run([task(n) for n in range(3)], ends.append, Stop())
    assert len(ends) == 2
