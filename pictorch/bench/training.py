"""Training steps, and epochs with evaluation, of the engine and of the programs it is measured against."""

import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch

from pictorch import models
from pictorch.bench import ledger
from pictorch.bench.cifar import Images
from pictorch.bench.ours import Ours
from pictorch.bench.rounds import Spent, interleaved, matmul_flops, median, ratio, spend
from pictorch.bench.textbook import Scale, Slice, Textbook
from pictorch.bench.timm_style import TimmStyle
from pictorch.config import Config, OptionError, load
from pictorch.config.schema import MOST_EPOCHS
from pictorch.engine.precision import bf16_hardware

NETWORKS = ("resnet_preact_20", "resnet18", "wrn_16_4", "densenet_bc_100_12", "shake_shake_26_2x32d", "mobilenet_v2")
AGAINST = ("textbook", "timm-style")
WHOLE = Slice(steps=10**9, evaluation_batches=10**9, warm_up_steps=5)
QUICK = Slice(steps=2, evaluation_batches=1, warm_up_steps=1)
SLICES: Mapping[tuple[str, str], Slice] = {
    ("epoch", "cpu"): Slice(steps=40, evaluation_batches=10, warm_up_steps=5),
    ("epoch", "cuda"): Slice(steps=100, evaluation_batches=20, warm_up_steps=10),
    ("step", "cpu"): Slice(steps=10, evaluation_batches=1, warm_up_steps=3),
    ("step", "cuda"): Slice(steps=100, evaluation_batches=1, warm_up_steps=10),
    ("models", "cpu"): Slice(steps=3, evaluation_batches=1, warm_up_steps=1),
    ("models", "cuda"): Slice(steps=50, evaluation_batches=1, warm_up_steps=10),
}

# What an epoch with evaluation is to reach, as times the other's speed: must, and stretch.
GOALS: Mapping[tuple[str, str], Mapping[str, tuple[float, float | None]]] = {
    ("cpu", "textbook"): {
        "resnet_preact_20": (2.5, 3.7),
        "resnet18": (3.0, 4.0),
        "wrn_16_4": (4.3, 5.8),
        "densenet_bc_100_12": (3.0, 4.0),
        "shake_shake_26_2x32d": (2.9, 4.0),
        "mobilenet_v2": (2.5, 4.0),
    },
    ("cuda", "textbook"): {
        "resnet_preact_20": (10.0, None),
        "resnet_110": (8.0, None),
        "wrn_28_10": (4.0, None),
        "densenet_bc_100_12": (5.0, None),
        "shake_shake_26_2x32d": (5.0, None),
        "resnet18": (5.0, None),
    },
    ("cuda", "timm-style"): {"resnet_preact_20": (2.5, None), "resnet_110": (2.0, None), "wrn_28_10": (1.2, None)},
}
EVALUATION_GOALS: Mapping[tuple[str, str], tuple[float, float]] = {("cpu", "textbook"): (3.5, 6.0)}
PEAK_GOALS: Mapping[tuple[str, str], float] = {("cuda", "wrn_28_10"): 0.45}


@dataclass(frozen=True)
class Plan:
    """What is measured: `what` "epoch", "step" or "models", on which networks, against whom, and how.

    `threads` None leaves each side its own choice. With `whole` an epoch is measured whole, too. `quick` measures next
    to nothing, to see that all of it runs.
    """

    what: str
    networks: Sequence[str]
    against: Sequence[str]
    batch_size: int
    rounds: int
    device: torch.device
    threads: int | None = None
    whole: bool = False
    quick: bool = False

    @property
    def slice(self) -> Slice:
        return QUICK if self.quick else SLICES[self.what, self.device.type]


class Machine(NamedTuple):
    """The machine in words, what multiplies bf16 there, and FLOP/s of a large product of matrices in both dtypes."""

    hardware: str
    bf16: str
    flops: Mapping[str, float]


class Program(Protocol):
    """A side of the comparison: its slice of training and of evaluation, and how they scale to the whole epoch."""

    @property
    def scale(self) -> Scale: ...

    def warm_up(self) -> None: ...

    def train(self) -> object: ...

    def evaluate(self) -> object: ...


class Timing(NamedTuple):
    """Seconds of a whole epoch's training and evaluation, a round each."""

    train: list[Spent]
    evaluation: list[Spent]

    @property
    def epoch(self) -> list[Spent]:
        return [train.plus(evaluation) for train, evaluation in zip(self.train, self.evaluation, strict=True)]


def machine(device: torch.device, *, quick: bool) -> Machine:
    """Return what the ratios depend on beside the programs, the products measured now."""
    size = 256 if quick else 8192 if device.type == "cuda" else 2048
    flops = {
        name: matmul_flops(dtype, device, size=size)
        for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16))
    }
    return Machine(ledger.hardware(device), bf16_hardware(device)[1], flops)


def families() -> list[str]:
    """Return of each family of networks its default, or where it has none its first variant."""
    return [name if creatable(name) else next(iter(family.variants)) for name, family in models.families().items()]


def creatable(name: str) -> bool:
    try:
        with torch.device("meta"):
            models.create(name)
    except OptionError:
        return False
    return True


def measure(
    plan: Plan, images: Images, on: Machine, skip: Callable[[Mapping[str, Any]], bool] = lambda key: False
) -> Iterator[dict[str, Any]]:
    """Yield a row for each network and opponent, unless `skip` says of its name, opponent and batch size that there is
    one already."""
    workers: dict[str, int] = {}
    for network in plan.networks:
        for against in plan.against:
            for whole in (False, True) if plan.whole else (False,):
                name = f"{network} (whole)" if whole else network
                if not skip({"name": name, "against": against, "batch_size": plan.batch_size}):
                    yield {"name": name, **compare(plan, network, against, images, on, workers, whole=whole)}


def compare(
    plan: Plan, network: str, against: str, images: Images, on: Machine, workers: dict[str, int], *, whole: bool
) -> dict[str, Any]:
    """Return the row of a network against an opponent; `workers` remembers the opponents' best numbers of workers."""
    epochs = plan.what == "epoch"
    slices = [plan.slice, QUICK if plan.quick else WHOLE] if whole else [plan.slice]
    # On a GPU ours needs less for an epoch than the others for a slice, which scales up what is done once an epoch.
    mine_in = [WHOLE for _ in slices] if plan.device.type == "cuda" and not plan.quick else slices
    ours = [Ours(configured(plan, network, images, slice), slice) for slice in mine_in]
    job = ours[0].job
    theirs = [opponent(plan, against, ours[0], slice) for slice in slices]
    if epochs:
        if against not in workers:
            workers[against] = best_workers(theirs[0], plan)
        for program in theirs:
            program.feed.open(workers[against])
    else:
        theirs[0].feed.ready(4, plan.device)
    timings = timed([*ours, *theirs], plan, epochs=epochs)
    for program in theirs:
        program.feed.open(workers=0)
    mine, other = timings[len(ours) - 1], timings[-1]
    seconds = [timing.epoch if epochs else timing.train for timing in (mine, other)]
    count = images.train // plan.batch_size * plan.batch_size
    middle, spread = ratio(*([spent.wall for spent in side] for side in seconds))
    medians = [median(side) for side in seconds]
    train_ratio = ratio(*([spent.wall for spent in timing.train] for timing in (mine, other)))[0]
    train_rate = count / median(mine.train).wall
    must, stretch = GOALS.get((plan.device.type, against), {}).get(network, (None, None)) if epochs else (None, None)
    return {
        "against": against,
        "device": plan.device.type,
        "dtype": job.precision.name,
        "batch_size": plan.batch_size,
        "threads": job.threads,
        "ours": rounded(count / medians[0].wall),
        "baseline": rounded(count / medians[1].wall),
        "unit": "images/s",
        "ratio": round(middle, 3),
        "spread": round(spread, 3),
        "must": must,
        "stretch": stretch,
        "ours_wall_s": rounded(medians[0].wall),
        "baseline_wall_s": rounded(medians[1].wall),
        "ours_cpu_s": rounded(medians[0].cpu),
        "baseline_cpu_s": rounded(medians[1].cpu),
        "train_ratio": round(train_ratio, 3),
        "evaluation_ratio": evaluation_ratio(mine, other) if epochs else None,
        "of_peak": round(6 * job.complexity.macs * train_rate / on.flops[job.precision.name], 3),
        "bf16_matmul_ratio": round(on.flops["bf16"] / on.flops["fp32"], 2),
        "scaling_ours": scaling(timings[0], mine) if whole else None,
        "scaling_baseline": scaling(timings[2], other) if whole else None,
        "baseline_workers": workers[against] if epochs else None,
        "rounds": plan.rounds,
        "images": images.what,
        "bf16": on.bf16,
        "hardware": on.hardware,
    }


def configured(plan: Plan, network: str, images: Images, slice: Slice) -> Config:
    """Return the recipe of ResNet-preact-20 on CIFAR-10 with another network, for as many images as are measured."""
    overrides = [
        f"model={network}",
        f"train.batch_size={plan.batch_size}",
        f"train.device={plan.device}",
        f"train.threads={plan.threads or 'auto'}",
        f"train.epochs={MOST_EPOCHS}",
        f"train.eval_every_epochs={MOST_EPOCHS}",
        "track.tensorboard=false",
        # Random images, and networks without batch norm, would diverge at 0.1 or 0.01; the speed is the same.
        "optim.lr=0.0001",
    ]
    config = load("cifar10/resnet_preact_20", overrides).config
    fraction = min(1.0, slice.steps * plan.batch_size / images.train)
    data = config.data.model_copy(update={"dir": str(images.root), "fraction": fraction})
    return config.model_copy(update={"data": data})


def opponent(plan: Plan, against: str, ours: Ours, slice: Slice) -> Textbook | TimmStyle:
    """Return the program that is measured against on the same images."""
    threads = plan.threads or torch.get_num_threads()
    config, dataset = ours.config, ours.job.dataset
    if against == "textbook":
        return Textbook(config, dataset, slice, device=plan.device, threads=threads)
    compile = plan.device.type == "cuda" and not plan.quick
    return TimmStyle(config, dataset, slice, device=plan.device, threads=threads, compile=compile)


def best_workers(program: Textbook | TimmStyle, plan: Plan) -> int:
    """Return the number of workers with which the program trains fastest, of all up to the number of cores, or beside
    a GPU of that number and its halves."""
    cores = os.cpu_count() or 1
    counts = sorted({cores, cores // 2, cores // 4}) if plan.device.type == "cuda" else range(cores + 1)
    if plan.quick:
        return 0
    seconds = {}
    for count in counts:
        program.feed.open(count)
        program.warm_up()
        seconds[count] = spend(program.train, plan.device).wall
    return min(seconds, key=lambda count: seconds[count])


def timed(programs: Sequence[Program], plan: Plan, *, epochs: bool) -> list[Timing]:
    """Return the seconds of the programs' epochs, from slices taken in turns; without `epochs` of training alone."""
    for program in programs:
        program.warm_up()
        if epochs:
            program.evaluate()
    works = [work for p in programs for work in ([p.train, p.evaluate] if epochs else [p.train])]
    spent = iter(interleaved(works, rounds=plan.rounds, device=plan.device))
    return [
        Timing(
            [seconds.times(program.scale.train) for seconds in next(spent)],
            [seconds.times(program.scale.evaluation) for seconds in next(spent)] if epochs else [],
        )
        for program in programs
    ]


def evaluation_ratio(ours: Timing, baseline: Timing) -> float:
    return round(ratio(*([spent.wall for spent in timing.evaluation] for timing in (ours, baseline)))[0], 3)


def scaling(part: Timing, whole: Timing) -> float:
    """Return the epoch's seconds as a slice says, over those of the whole epoch, in neighbouring rounds."""
    return round(ratio(*([spent.wall for spent in timing.epoch] for timing in (whole, part)))[0], 3)


def rounded(number: float) -> float:
    """Return the number with four significant digits."""
    return round(number, 3 - math.floor(math.log10(number))) if number > 0 else 0.0
