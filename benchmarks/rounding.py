"""How far rounding carries: a run on two processes, and one whose initial weights differ by 1e-7, beside the same run.

    python benchmarks/rounding.py [KEY=VALUE ...]

Trains the default recipe in float32 on one thread, three times: alone; by two processes, which sum over the batch in
another order; and alone from weights that are changed by a ten-millionth. Prints CSV: after how many steps, the largest
difference of any weight or statistic from the first run's, of the second and of the third.
"""

import argparse
import itertools
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from torch import Tensor

from pictorch import api, optim
from pictorch.engine import build, distributed, loop

STEPS = (1, 2, 4, 8, 16, 32)
CHANGE = 1e-7
SETTINGS = ("train.precision=fp32", "train.threads=1", "train.epochs=2", "track.tensorboard=false")


def states(overrides: list[str], *, change: float = 0.0) -> list[dict[str, Tensor]]:
    """Return the network's floating tensors after each of STEPS, begun from weights changed by such a share."""
    with distributed.joined() as world:
        job = build.build(api.load_config(None, [*SETTINGS, *overrides]), world=world)
        with torch.no_grad():
            for parameter in job.model.parameters():
                signs = torch.ones(parameter.numel())
                signs[::2] = -1
                parameter.mul_(1 + change * signs.view(parameter.shape))
        step, found = loop.create_step(job, loop.compiled(job)), []
        feeds = (feed for epoch in itertools.count() for feed in job.train_loader.feeds(epoch))
        with job.process_settings():
            for number, feed in zip(range(max(STEPS)), feeds, strict=False):
                loop.seed_network(job.device, number)
                optim.set_lr(job.optimizer, job.config.optim.lr * job.schedule(number))
                step(feed)
                if number + 1 in STEPS:
                    found.append({k: v.clone() for k, v in job.model.state_dict().items() if v.is_floating_point()})
        if world.leads:
            return found
        sys.exit()


def by_two(overrides: list[str]) -> list[dict[str, Tensor]]:
    """Return the states of a run by two processes of this script."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "states.pt"
        launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
        subprocess.run([*launcher, __file__, *overrides, "--save", str(place)], check=True)
        return list(torch.load(place, weights_only=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    parser.add_argument("--save", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.save:
        torch.save(states(arguments.overrides), arguments.save)
        return
    alone = states(arguments.overrides)
    others = by_two(arguments.overrides), states(arguments.overrides, change=CHANGE)
    print("steps,two_processes,weights_changed")
    for steps, one, *rest in zip(STEPS, alone, *others, strict=True):
        print(steps, *(f"{max(float((one[k] - other[k]).abs().max()) for k in one):.1e}" for other in rest), sep=",")


if __name__ == "__main__":
    main()
