"""Memory: the most that was held, what a run keeps for its next step, and what to say when there is not enough."""

import contextlib
import ctypes
import gc
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import torch

from pictorch.config import Config, UserError
from pictorch.data.streaming import number_after

# Parameters of glibc's mallopt, from its malloc.h
TRIM_THRESHOLD, MMAP_THRESHOLD, MMAP_MAX = -1, -3, -4


@contextlib.contextmanager
def kept_memory() -> Iterator[None]:
    """Keep what tensors on the CPU give back for those of the next step, where glibc allocates them.

    By itself it returns large pieces to Linux, which clears each page when it is touched again: 35,302 pages in a step
    of ResNet-18 on 128 images (benchmarks/pages.py). Afterwards it does that again, as in any process that had large
    pieces.
    """
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    if not hasattr(libc, "gnu_get_libc_version"):
        yield
        return
    assert libc is not None
    libc.mallopt(MMAP_MAX, 0)
    libc.mallopt(TRIM_THRESHOLD, 2**31 - 1)
    try:
        yield
    finally:
        libc.mallopt(MMAP_MAX, 65536)
        libc.mallopt(MMAP_THRESHOLD, 2**25)
        libc.mallopt(TRIM_THRESHOLD, 2**26)
        libc.malloc_trim(0)


@contextlib.contextmanager
def enough_memory(config: Config) -> Iterator[None]:
    """Turn an allocation that fails, on the CPU or a GPU, into a UserError that says what to lower."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        out = isinstance(error, MemoryError | torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)
        if not out:
            raise
        wanted = re.search(r"allocate ([\d.]+ [KMGT]?i?B(?:ytes)?)\b", str(error), re.IGNORECASE)
        raise UserError(
            f"there is not enough memory{f' for another {wanted[1]}' if wanted else ''}; lower train.batch_size "
            f"(now {config.train.batch_size}), or take a smaller network than this {config.model.name}"
        ) from error


def forget_peak() -> None:
    """Count the most memory that this process holds from now on: another run was here before (Linux alone can)."""
    gc.collect()  # what the last run left in circles is not this one's
    gc.freeze()  # what is still there are modules and caches: not to be searched again before the next run
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory_bytes(device: torch.device) -> int:
    """Return the most memory held so far: by tensors on a GPU, by the whole process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    # Linux's ru_maxrss begins with what the process that started this one held.
    with contextlib.suppress(OSError, ValueError):
        return 1024 * number_after("VmHWM:", Path("/proc/self/status"))
    try:
        import resource
    except ImportError:  # Windows does not count it.
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
