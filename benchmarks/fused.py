"""What the fused passes of a CPU's training step win: a step with them beside one with torch's own operations.

    python benchmarks/fused.py [NETWORK ...]

Prints CSV: milliseconds of a step (batch of 128 included), medians of interleaved rounds, and the median and range of
the rounds' ratios, by wall and by CPU seconds.
"""

import argparse
import contextlib
import itertools
import statistics
import time
from collections.abc import Callable
from unittest import mock

import torch

from pictorch import optim
from pictorch.api import load_config
from pictorch.bench.training import NETWORKS
from pictorch.engine import build, loop


def stepper(network: str, *, fused: bool, threads: int) -> Callable[[int], tuple[float, float]]:
    """Return a function that takes so many steps and returns wall and CPU milliseconds of one."""
    overrides = [f"train.threads={threads}", "track.tensorboard=false"]
    config = load_config("cifar10/resnet_preact_20", [f"model={{name: {network}}}", *overrides])
    with contextlib.nullcontext() if fused else mock.patch.object(build, "fuse_for_training"):
        job = build.build(config)
    step = loop.create_step(job, loop.compiled(job))
    optim.set_lr(job.optimizer, 0.01)
    feeds = (feed for epoch in itertools.count() for feed in job.train_loader.feeds(epoch))

    def take(steps: int) -> tuple[float, float]:
        wall, cpu = time.perf_counter(), time.process_time()
        for _ in range(steps):
            step(next(feeds))
        return 1000 * (time.perf_counter() - wall) / steps, 1000 * (time.process_time() - cpu) / steps

    return take


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", metavar="NETWORK", default=NETWORKS)
    parser.add_argument("--rounds", type=int, default=15, help="interleaved rounds (default: 15)")
    parser.add_argument("--steps", type=int, default=2, help="steps a round (default: 2)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="CPU threads (default: torch's)")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print("network,threads,plain_ms,fused_ms,ratio,lowest,highest,cpu_ratio", flush=True)
    for network in arguments.networks:
        plain, fused = (stepper(network, fused=fused, threads=arguments.threads) for fused in (False, True))
        plain(2), fused(2)
        pairs = [(plain(arguments.steps), fused(arguments.steps)) for _ in range(arguments.rounds)]
        wall = [before[0] / after[0] for before, after in pairs]
        cpu = statistics.median(before[1] / after[1] for before, after in pairs)
        before, after = (statistics.median(side[0] for side in sides) for sides in zip(*pairs, strict=True))
        print(
            f"{network},{arguments.threads},{before:.1f},{after:.1f},{statistics.median(wall):.3f},"
            f"{min(wall):.2f},{max(wall):.2f},{cpu:.3f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
