"""Seconds of interleaved rounds: what else the machine does meets both sides, and a ratio is of neighbours in time."""

import contextlib
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch


class Spent(NamedTuple):
    """Seconds on the wall's clock, and CPU seconds of this process and the workers that it keeps."""

    wall: float
    cpu: float

    def times(self, factor: float) -> "Spent":
        return Spent(self.wall * factor, self.cpu * factor)

    def plus(self, other: "Spent") -> "Spent":
        return Spent(self.wall + other.wall, self.cpu + other.cpu)


def spend(work: Callable[[], object], device: torch.device) -> Spent:
    """Return what `work` takes, with all that it left running on the device."""
    synchronise(device)
    wall, cpu = time.perf_counter(), cpu_seconds()
    work()
    synchronise(device)
    return Spent(time.perf_counter() - wall, cpu_seconds() - cpu)


def interleaved(works: Sequence[Callable[[], object]], *, rounds: int, device: torch.device) -> list[tuple[Spent, ...]]:
    """Return for each piece of work what each round took; in a round each is done once, in the order given."""
    return list(zip(*([spend(work, device) for work in works] for _ in range(rounds)), strict=True))


def median(spent: Sequence[Spent]) -> Spent:
    """Return the medians of wall and of CPU seconds."""
    return Spent(*map(statistics.median, zip(*spent, strict=True)))


def ratio(ours: Sequence[float], baseline: Sequence[float]) -> tuple[float, float]:
    """Return how many times faster ours is, from the seconds of both, round by round: the median, and the spread.

    The spread is the range of the rounds' ratios divided by their median.
    """
    ratios = [b / a for a, b in zip(ours, baseline, strict=True)]
    middle = statistics.median(ratios)
    return middle, (max(ratios) - min(ratios)) / middle


def cpu_seconds() -> float:
    """Return the CPU seconds of this process and of its living workers; of those only where /proc tells them."""
    total = time.process_time()
    for worker in multiprocessing.active_children():
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{worker.pid}/stat").read_text().rpartition(")")[2].split()
            total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")  # user and system time, in ticks
    return total


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def matmul_flops(dtype: torch.dtype, device: torch.device, *, size: int) -> float:
    """Return the most FLOP/s of a product of two square matrices, over five tries: the peak that a step can be held
    against."""
    left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    repeats = 20 if device.type == "cuda" else 1

    def products() -> None:
        for _ in range(repeats):
            left @ right

    products()
    return 2 * size**3 * repeats / min(spend(products, device).wall for _ in range(5))
