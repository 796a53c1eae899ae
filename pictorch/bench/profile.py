"""Where a training step's time goes: FLOP and bytes a second beside what the machine can do, and shares of the time.

FLOP are two for each multiply-add, and three times those of the forward pass: what torch.utils.flop_counter counts, but
for grouped convolutions, whose backward pass it counts as if they had one group. Bytes are a model: every operation
reads each of its tensors from memory once and writes its result there once; views move nothing, and of what is gathered
from, only what is taken counts. The peaks are measured in the same run: a product of square matrices in the step's
dtype, and a copy. Shares are those of torch's profiler, by the names of operations.
"""

import re
import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from pictorch.bench.curves import training
from pictorch.bench.rounds import matmul_flops, spend
from pictorch.config import load
from pictorch.engine.build import Job, build
from pictorch.engine.graphs import own_stream
from pictorch.models import kernels

# Each with the batch that it is profiled on: CIFAR's 128, and a slice of it where a step would take many seconds.
NETWORKS: Mapping[str, Mapping[str, int]] = {
    "cpu": {
        **dict.fromkeys(("resnet_preact_20", "resnet18", "wrn_16_4", "densenet_bc_100_12"), 128),
        **dict.fromkeys(("shake_shake_26_2x32d", "mobilenet_v2", "resnet_110"), 128),
        "wrn_28_10": 16,
    },
    "cuda": dict.fromkeys(
        (
            *("resnet_preact_20", "resnet18", "wrn_16_4", "densenet_bc_100_12", "shake_shake_26_2x32d"),
            *("mobilenet_v2", "resnet_110", "wrn_28_10"),
        ),
        128,
    ),
}
STEPS: Mapping[str, int] = {"cpu": 3, "cuda": 30}
WARM_UP_STEPS: Mapping[str, int] = {"cpu": 1, "cuda": 5}
# Sides of the matrices, and bytes of the copy: several times what a CPU's caches hold.
MATRIX: Mapping[str, int] = {"cpu": 2048, "cuda": 8192}
COPIED_BYTES: Mapping[str, int] = {"cpu": 2**28, "cuda": 2**31}
# The first whose expression is found in an operation's name has it.
GROUPS: Mapping[str, str] = {
    "convolution": r"conv|mm$|matmul|linear|einsum|attention",
    "norm": r"norm|var_mean",
    "activation": r"relu|threshold|hardtanh|clamp|gelu|silu|sigmoid",
    "update": r"_fused_|_foreach_|lerp",
    "copy": r"copy|cat$|clone|contiguous|pad|fill_|zero_|empty|index|gather|slice|flip|to$",
    "add": r"add|sub|mul|div|sum|mean|pool",
}


class Traffic(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts `bytes`: of every operation inside the tensors that it is given, and those that it returns."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.bytes = 0

    def __enter__(self) -> "Traffic":
        # Passes of our own are no operations of torch's; what they allocate themselves is.
        self.run = kernels.run

        def counted(name: str, grid: Any, maps: Sequence[Tensor], rows: Sequence[Tensor], *activation: Any) -> Tensor:
            out = self.run(name, grid, maps, rows, *activation)
            self.bytes += sum(tensor.numel() * tensor.element_size() for tensor in (*maps, *rows, out))
            return out

        kernels.run = counted  # type: ignore[assignment]
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *raised: Any) -> None:
        super().__exit__(*raised)  # type: ignore[no-untyped-call]
        kernels.run = self.run

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        outputs = func(*args, **(kwargs or {}))
        # A view moves nothing, and what is only allocated is counted where it is written.
        if not func.is_view and "empty" not in func.__name__:
            gathers = func.__name__.startswith(("index", "gather"))
            touched = (outputs, outputs) if gathers else (args, kwargs, outputs)
            tensors = [leaf for leaf in pytree.tree_leaves(touched) if isinstance(leaf, Tensor)]
            self.bytes += sum(tensor.numel() * tensor.element_size() for tensor in tensors)
        return outputs


def group_of(operation: str) -> str:
    """Return which of GROUPS an operation such as "aten::add_" is in, or "other"."""
    return next((group for group, names in GROUPS.items() if re.search(names, operation, re.IGNORECASE)), "other")


def measure(root: Path, device: torch.device, networks: Mapping[str, int], done: set[str]) -> Iterator[dict[str, Any]]:
    """Yield a row for each network (name -> batch size) that is not `done`, on CIFAR-10 under the data root.

    Peaks are measured again for each, next to what is held against them.
    """
    for name, batch_size in networks.items():
        if name not in done:
            with own_stream(device):
                yield row(name, batch_size, root, device)


def row(name: str, batch_size: int, root: Path, device: torch.device) -> dict[str, Any]:
    job = create_job(name, batch_size, root, device)
    with job.process_settings():
        step = training(job)
        seconds = statistics.median(
            spend(step, device).wall for _ in range(WARM_UP_STEPS[device.type] + STEPS[device.type])
        )
        del step
        # A captured step has no operations left in it to look at.
        plain = job if device.type == "cpu" else create_job(name, batch_size, root, device, "train.cuda_graph=false")
        flops, moved = 6 * batch_size * job.complexity.macs, bytes_of_step(plain)
        dtype = torch.bfloat16 if job.precision.name == "bf16" else torch.float32
        peak, bandwidth = matmul_flops(dtype, device, size=MATRIX[device.type]), copy_bandwidth(device)
        groups = shares(plain, seconds)
    return {
        "network": name,
        "batch_size": batch_size,
        "device": device.type,
        "dtype": job.precision.name,
        "threads": job.threads,
        "step_ms": f"{1000 * seconds:.4g}",
        "gflop": f"{flops / 1e9:.4g}",
        "gflop_per_second": f"{flops / seconds / 1e9:.4g}",
        "matmul_gflop_per_second": f"{peak / 1e9:.4g}",
        "gb_moved": f"{moved / 1e9:.4g}",
        "gb_per_second": f"{moved / seconds / 1e9:.4g}",
        "copy_gb_per_second": f"{bandwidth / 1e9:.4g}",
        **{f"{group}_percent": round(100 * share, 1) for group, share in groups.items()},
    }


def create_job(name: str, batch_size: int, root: Path, device: torch.device, *overrides: str) -> Job:
    settings = (f"model={name}", f"train.batch_size={batch_size}", f"train.device={device}", f"data.dir={root}")
    return build(load("cifar10/resnet_preact_20", (*settings, "track.tensorboard=false", *overrides)).config)


def bytes_of_step(job: Job) -> int:
    """Return the bytes that one training step of the job moves."""
    step = training(job)
    step()  # the optimiser's slots exist from now on
    with Traffic() as traffic:
        step()
    return int(traffic.bytes)


def copy_bandwidth(device: torch.device) -> float:
    """Return the most bytes a second that a copy reads and writes, of five."""
    source = torch.zeros(COPIED_BYTES[device.type], dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    target.copy_(source)
    return 2 * source.nbytes / min(spend(lambda: target.copy_(source), device).wall for _ in range(5))


def shares(job: Job, step_seconds: float) -> dict[str, float]:
    """Return which share of a step each group of operations has, and "overhead" in which none runs.

    On the CPU of a step under the profiler; on a GPU the kernels' time in a step of `step_seconds`.
    """
    step, count, cuda = training(job), STEPS[job.device.type], job.device.type == "cuda"
    for _ in range(WARM_UP_STEPS[job.device.type]):
        step()
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])]
    with torch.profiler.profile(activities=activities) as profiler:
        profiled = spend(lambda: [step() for _ in range(count)], job.device).wall
    whole = 1e6 * count * step_seconds if cuda else 1e6 * profiled
    groups = dict.fromkeys((*GROUPS, "other"), 0.0)
    for event in profiler.key_averages():
        # Kernels stand in rows of their own as well, and in those of the operations that launched them.
        if event.device_type.name == "CPU":
            spent = event.self_device_time_total if cuda else event.self_cpu_time_total
            groups[group_of(event.key)] += spent / whole
    return {**groups, "overhead": max(0.0, 1 - sum(groups.values()))}


def verdict(row: Mapping[str, str]) -> str:
    """Return in words what holds a network's step back, from its row."""
    share = {name: float(row[f"{name}_percent"]) for name in (*GROUPS, "other", "overhead")}
    reached = float(row["gflop_per_second"]) / float(row["matmul_gflop_per_second"])
    passes = sum(share[name] for name in ("norm", "activation", "add", "copy", "update", "other"))
    causes = {
        f"convolutions and matrix products: {share['convolution']:.0f}% of the time, in which they reach "
        f"{100 * reached / max(share['convolution'] / 100, 0.01):.0f}% of the matrix peak": share["convolution"],
        f"passes over memory: {passes:.0f}% of the time (norms {share['norm']:.0f}%, activations "
        f"{share['activation']:.0f}%, additions {share['add']:.0f}%, copies {share['copy']:.0f}%)": passes,
        f"overhead: in {share['overhead']:.0f}% of the time no operation runs": share["overhead"],
    }
    return "; ".join(sorted(causes, key=lambda cause: -causes[cause]))
