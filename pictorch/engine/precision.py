"""What a run computes on: device, threads, and float32, bfloat16 autocast, or 16 bits throughout."""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from pictorch.config import UserError
from pictorch.data.streaming import cores

# Below this many multiply-adds of a forward pass over a batch, a second thread gains little on quiet cores, and on busy
# ones, where each operation waits for the thread that is not running, it costs a factor of 3 to 100 (docs/log.md).
SMALL_STEP_MACS = 500_000_000


@dataclass(frozen=True)
class Precision:
    """`name` "fp32", "bf16" or "half", the device type it holds for, and why it was taken, in a few words."""

    name: str
    device_type: str
    reason: str

    def autocast(self) -> torch.autocast:
        """Return the context for forward passes; with fp32 it does nothing."""
        return torch.autocast(self.device_type, dtype=torch.bfloat16, enabled=self.name == "bf16")

    def cast(self, model: nn.Module) -> None:
        """Keep the weights and statistics of a "half" network in 16 bits, in place; others stay as they are.

        They are float16 on CUDA, bfloat16 on a CPU, whose float16 is slow or missing. Images are cast on their way in,
        and logits to float32 on their way out, as by level O3 of NVIDIA's Apex; nothing scales the loss.
        """
        if self.name != "half":
            return
        dtype = torch.float16 if self.device_type == "cuda" else torch.bfloat16
        model.to(dtype)
        model.register_forward_pre_hook(lambda _, images: tuple(each.to(dtype) for each in images))
        model.register_forward_hook(lambda _, images, logits: to_float32(logits))


def to_float32(logits: Tensor | tuple[Tensor, ...]) -> Tensor | tuple[Tensor, ...]:
    """Return logits, those of auxiliary heads too, in float32."""
    return logits.float() if isinstance(logits, Tensor) else tuple(head.float() for head in logits)


def choose_device(requested: str) -> torch.device:
    """Return the device of "auto" (CUDA where there is one, else the CPU), "cpu", "cuda" or "cuda:N".

    Raises UserError for another name, or a device that is not there.
    """
    if requested == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(requested)
    except RuntimeError:
        device = torch.device("meta")
    if device.type not in ("cpu", "cuda"):
        raise UserError(f"expected auto, cpu, cuda or cuda:N, got {requested!r}")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UserError(f"{requested!r} is not here: CUDA devices found: {torch.cuda.device_count()}")
    return device


def choose(requested: str, device: torch.device) -> Precision:
    """Return the precision of a run on `device`: as requested, or for "auto" what the hardware multiplies fast."""
    if requested != "auto":
        return Precision(requested, device.type, "as configured")
    has_bf16, what = bf16_hardware(device)
    return Precision("bf16" if has_bf16 else "fp32", device.type, what)


def bf16_hardware(device: torch.device) -> tuple[bool, str]:
    """Return whether `device` multiplies bfloat16 in hardware, and what says so."""
    if device.type == "cuda":
        has = torch.cuda.get_device_capability(device) >= (8, 0)
        return has, "the GPU has bf16 tensor cores" if has else "the GPU has no bf16 tensor cores"
    for instructions, probe in (("AMX", "_is_amx_tile_supported"), ("AVX512-BF16", "_is_avx512_bf16_supported")):
        if getattr(torch.cpu, probe, lambda: False)():
            return True, f"the CPU has {instructions}"
    return False, "the CPU has no bf16 instructions"


def choose_threads(requested: int | Literal["auto"], *, step_macs: int, processes: int = 1) -> int:
    """Return the CPU threads for steps of `step_macs` multiply-adds: for "auto" one if small, else torch's own.

    Several `processes` of a run on this machine share its cores; torchrun leaves each one thread unless told otherwise.
    """
    if requested != "auto":
        return requested
    if step_macs < SMALL_STEP_MACS:
        return 1
    return torch.get_num_threads() if processes == 1 else max(1, cores() // processes)


@contextlib.contextmanager
def process_settings(device: torch.device, *, threads: int, deterministic: bool) -> Iterator[None]:
    """Set what torch keeps for the whole process, for the time of a run: threads, determinism, cuDNN's search."""
    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    # cuBLAS reads this when it is first used; without it torch refuses its deterministic mode on CUDA.
    if deterministic and device.type == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    torch.set_num_threads(threads)
    use_deterministic_algorithms(deterministic)
    torch.backends.cudnn.benchmark = not deterministic
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        use_deterministic_algorithms(before[1])
        torch.backends.cudnn.benchmark = before[2]


def use_deterministic_algorithms(mode: bool) -> None:
    """Set torch's mode where it is another: setting it imports torch.compile's machinery, 1.3 s."""
    if torch.are_deterministic_algorithms_enabled() != mode:
        torch.use_deterministic_algorithms(mode)
