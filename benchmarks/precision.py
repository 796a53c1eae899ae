"""Whether bf16 autocast keeps the accuracy of fp32: ResNet-preact-20 on CIFAR-10, short annealed runs, same seeds.

    python benchmarks/precision.py LEDGER.csv

Runs every seed in both precisions and appends a row for each finished run to LEDGER.csv; called again it goes on where
it stopped, also in the middle of a run. Seeds are added two at a time until the 90% t-interval of the paired difference
of the test errors, bf16 - fp32, lies inside the margin (equivalent) or outside it (different), or 15 seeds are spent
(undecided).
"""

import argparse
import csv
import math
import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pictorch import api
from pictorch.engine.environment import read as read_environment
from pictorch.runs import RunDir

RECIPE, EPOCHS = "cifar10/resnet_preact_20", 5
MARGIN, MOST_SEEDS = 0.5, 15
COLUMNS = ("network", "epochs", "seed", "precision", "test_error", "seconds", "threads", "hardware", "torch", "commit")
# Student's t, the 95% point, for 1 to 14 degrees of freedom.
T95 = (6.314, 2.920, 2.353, 2.132, 2.015, 1.943, 1.895, 1.860, 1.833, 1.812, 1.796, 1.782, 1.771, 1.761)


def interval(differences: list[float]) -> tuple[float, float]:
    """Return the 90% t-interval of the mean of paired differences; of fewer than two it is all numbers."""
    n = len(differences)
    if n < 2:
        return -math.inf, math.inf
    half = T95[n - 2] * statistics.stdev(differences) / math.sqrt(n)
    return statistics.fmean(differences) - half, statistics.fmean(differences) + half


def verdict(low: float, high: float, margin: float = MARGIN) -> str:
    """Return "equivalent", "different" or "undecided" for an interval of the difference."""
    if -margin < low and high < margin:
        return "equivalent"
    return "different" if low > margin or high < -margin else "undecided"


def differences(rows: Iterable[dict[str, str]]) -> list[float]:
    """Return bf16 - fp32 of the test errors, in seed order, of the seeds that were run in both."""
    errors = {(int(row["seed"]), row["precision"]): float(row["test_error"]) for row in rows}
    seeds = sorted({seed for seed, _ in errors})
    pairs = [(errors.get((seed, "bf16")), errors.get((seed, "fp32"))) for seed in seeds]
    return [bf16 - fp32 for bf16, fp32 in pairs if bf16 is not None and fp32 is not None]


def run(seed: int, precision: str, out: Path, threads: int) -> dict[str, Any]:
    """Train one run, or finish it, and return its row."""
    overrides = [f"train.{key}={value}" for key, value in (("epochs", EPOCHS), ("seed", seed), ("threads", threads))]
    overrides += [f"train.precision={precision}", f"train.eval_every_epochs={EPOCHS}", "track.tensorboard=false"]
    config = api.load_config(RECIPE, overrides)
    path = out / f"{precision}-{seed}"
    if RunDir(path).last_checkpoint.exists() or RunDir(path).result.exists():
        row = api.resume(path).row
    else:
        row = api.train(config, recipe=RECIPE, out=path).row
    env = read_environment(RunDir(path))
    return {
        "network": "resnet_preact_20",
        "epochs": EPOCHS,
        "seed": seed,
        "precision": precision,
        "test_error": round(row["test_error"], 2),
        "seconds": round(row["train_seconds"]),
        "threads": threads,
        "hardware": env["cpu"] if env["device"] == "cpu" else env["gpu"],
        "torch": env["torch"],
        "commit": env["commit"],
    }


def read(ledger: Path) -> list[dict[str, str]]:
    if not ledger.exists():
        return []
    with ledger.open(newline="") as file:
        return list(csv.DictReader(line for line in file if not line.startswith("#")))


def append(ledger: Path, row: dict[str, Any]) -> None:
    new = not ledger.exists()
    with ledger.open("a", newline="") as file:
        if new:
            file.write("# python benchmarks/precision.py\n")
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerow(row)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ledger", type=Path, help="the CSV file that the rows are appended to")
    parser.add_argument("--out", type=Path, default=Path("runs/precision"), help="where the runs are kept")
    parser.add_argument("--threads", type=int, default=1, help="threads of a run (default: 1)")
    arguments = parser.parse_args()
    for seed in range(1, MOST_SEEDS + 1):
        for precision in ("bf16", "fp32"):
            if not any((row["seed"], row["precision"]) == (str(seed), precision) for row in read(arguments.ledger)):
                append(arguments.ledger, run(seed, precision, arguments.out, arguments.threads))
        found = differences(read(arguments.ledger))
        low, high = interval(found)
        print(f"{len(found)} seeds: bf16 - fp32 = {low:+.2f} .. {high:+.2f}: {verdict(low, high)}", flush=True)
        if seed % 2 == 0 and verdict(low, high) != "undecided":
            break


if __name__ == "__main__":
    main()
