"""Seconds and ratios: of which work, in which order, whose CPU."""

import multiprocessing
import time

import pytest
import torch

from pictorch.bench import rounds
from pictorch.bench.rounds import Spent

CPU = torch.device("cpu")


def busy(seconds: float) -> None:
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def busy_worker(ready: "multiprocessing.Queue[None]") -> None:
    busy(0.3)
    ready.put(None)
    time.sleep(60)


def test_works_take_turns() -> None:
    done: list[str] = []
    first, second = rounds.interleaved([lambda: done.append("a"), lambda: done.append("b")], rounds=2, device=CPU)
    assert done == ["a", "b", "a", "b"]
    assert len(first) == len(second) == 2


def test_waiting_takes_wall_seconds_alone() -> None:
    waiting = rounds.spend(lambda: time.sleep(0.1), CPU)
    working = rounds.spend(lambda: busy(0.1), CPU)
    assert waiting.wall >= 0.1 > 0.05 > waiting.cpu
    assert 0.1 <= working.cpu < 0.2


def test_the_cpu_seconds_of_workers_count() -> None:
    context = multiprocessing.get_context("fork")
    before, ready = rounds.cpu_seconds(), context.Queue()
    worker = context.Process(target=busy_worker, args=(ready,))
    worker.start()
    try:
        ready.get(timeout=60)
        assert rounds.cpu_seconds() - before >= 0.25
    finally:
        worker.kill()
        worker.join()


def test_the_ratio_is_of_neighbouring_rounds() -> None:
    """A machine that gets three times slower on the way changes no ratio, and a round that differs shows as spread."""
    assert rounds.ratio([1.0, 2.0, 3.0], [2.0, 4.0, 6.0]) == (2.0, 0.0)
    assert rounds.ratio([1.0, 1.0, 1.0], [2.0, 3.0, 4.0]) == (3.0, pytest.approx(2 / 3))


def test_scaled_sums_and_medians() -> None:
    assert rounds.median([Spent(1, 9), Spent(5, 2), Spent(2, 3)]) == Spent(2, 3)
    assert Spent(1, 2).times(10).plus(Spent(3, 4)) == Spent(13, 24)


def test_a_product_s_speed_is_of_its_operations(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "spend", lambda work, device: (work(), Spent(0.5, 0.5))[1])
    assert rounds.matmul_flops(torch.bfloat16, CPU, size=8) == 2 * 8**3 / 0.5
