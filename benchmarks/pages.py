"""What it wins that a run keeps the memory its tensors give back (`engine.memory.kept_memory`): steps with and without.

    python benchmarks/pages.py [NETWORK:BATCH_SIZE ...]

Prints CSV: pages that Linux clears in a training step and milliseconds of one, both ways, medians of interleaved
rounds, and the median and range of the rounds' ratios. With glibc on Linux; elsewhere both sides are the same.
"""

import argparse
import contextlib
import itertools
import resource
import statistics
import time
from collections.abc import Callable

from pictorch import optim
from pictorch.api import load_config
from pictorch.engine import build, loop
from pictorch.engine.memory import kept_memory

DEFAULT = ("resnet_preact_20:128", "resnet_preact_20:2048", "resnet18:128")


def stepper(network: str, batch_size: int) -> Callable[[bool], tuple[float, int]]:
    """Return a function that takes a step, keeping memory or not, and returns its milliseconds and new pages."""
    overrides = [f"model={{name: {network}}}", f"train.batch_size={batch_size}", "track.tensorboard=false"]
    job = build.build(load_config("cifar10/resnet_preact_20", overrides))
    step = loop.create_step(job, loop.compiled(job))
    optim.set_lr(job.optimizer, 0.01)
    feeds = (feed for epoch in itertools.count() for feed in job.train_loader.feeds(epoch))

    def take(kept: bool) -> tuple[float, int]:
        with kept_memory() if kept else contextlib.nullcontext():
            # What was given back between the two ways is got once more.
            for _ in range(2):
                step(next(feeds))
            pages, start = resource.getrusage(resource.RUSAGE_SELF).ru_minflt, time.perf_counter()
            step(next(feeds))
            milliseconds = 1000 * (time.perf_counter() - start)
            return milliseconds, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - pages

    return take


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", metavar="NETWORK:BATCH_SIZE", default=DEFAULT)
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds (default: 5)")
    arguments = parser.parse_args()
    print("network,batch_size,pages,pages_kept,ms,ms_kept,ratio,lowest,highest", flush=True)
    for word in arguments.networks:
        network, _, batch_size = word.partition(":")
        take = stepper(network, int(batch_size or 128))
        rounds = [(take(False), take(True)) for _ in range(arguments.rounds)]
        ratios = [plain[0] / kept[0] for plain, kept in rounds]
        sides = [
            [statistics.median(column) for column in zip(*side, strict=True)] for side in zip(*rounds, strict=True)
        ]
        (plain_ms, plain_pages), (kept_ms, kept_pages) = sides
        print(
            f"{network},{batch_size},{plain_pages:.0f},{kept_pages:.0f},{plain_ms:.0f},{kept_ms:.0f},"
            f"{statistics.median(ratios):.2f},{min(ratios):.2f},{max(ratios):.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
