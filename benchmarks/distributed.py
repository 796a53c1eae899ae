"""What several processes of one run win: torchrun with more and more of them on this machine, against one.

    python benchmarks/distributed.py [NETWORK ...] [--processes 1 2] [--steps 30] [--rounds 3]

On a CPU the processes share its cores, one alone has all of them; on GPUs each has its own. Prints CSV: images/s in
training, medians of interleaved rounds, with a ghost batch a process and with statistics of the whole batch, and the
median and range of the rounds' ratios to one process.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from pictorch import data, runs
from pictorch.bench.cifar import images
from pictorch.data.streaming import cores


def images_per_second(network: str, processes: int, norm: str, steps: int, root: Path) -> float:
    """Return those of a run of so many steps, without the first ones: its second epoch's."""
    ghost = processes if norm == "ghost" else 1
    with tempfile.TemporaryDirectory() as folder:
        settings = {
            "model": f"{{name: {network}}}",
            "data.fraction": steps * 128 / 50_000,
            "train.epochs": 2,
            "train.eval_every_epochs": 2,
            "evaluation.max_images": 100,
            "train.ghost_batches": ghost,
            "track.tensorboard": "false",
        }
        if not torch.cuda.is_available():
            settings["train.threads"] = max(1, cores() // processes)
        words = ["train", "cifar10/resnet_preact_20", *(f"{key}={value}" for key, value in settings.items())]
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
        run = Path(folder) / "run"
        command += ["-m", "pictorch", *words, "--out", str(run), "--data-dir", str(root)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"{' '.join(command)}\n{done.stderr}")
        return float(runs.read_metrics(runs.open(run))[-1]["images_per_second"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", metavar="NETWORK", default=["resnet_preact_20", "resnet_preact_110"])
    parser.add_argument("--processes", nargs="+", type=int, default=[1, 2], metavar="N")
    parser.add_argument("--steps", type=int, default=30, help="training steps of 128 images (default: 30)")
    parser.add_argument("--rounds", type=int, default=3, help="interleaved rounds (default: 3)")
    arguments = parser.parse_args()
    ways = [(n, norm) for n in arguments.processes if n > 1 for norm in ("ghost", "synchronised")]
    print("network,processes,batch_norm,images_per_second,ratio,lowest,highest", flush=True)
    with images(data.root(None)) as found:
        for network in arguments.networks:
            rounds = [
                {way: images_per_second(network, *way, arguments.steps, found.root) for way in [(1, "one"), *ways]}
                for _ in range(arguments.rounds)
            ]
            for way in rounds[0]:
                ratios = [each[way] / each[1, "one"] for each in rounds]
                figures = [statistics.median(each[way] for each in rounds), statistics.median(ratios)]
                print(
                    f"{network},{way[0]},{way[1]},{figures[0]:.0f},{figures[1]:.2f},{min(ratios):.2f},{max(ratios):.2f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
