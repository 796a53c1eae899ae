"""A published record program beside our recipe for the same accuracy, on the same GPU.

    python benchmarks/records.py DOWNLOADED/airbench94_muon.py speed/cifar10_94
    python benchmarks/records.py DOWNLOADED/airbench96_faster.py speed/cifar10_96

The program, of github.com/KellerJordan/cifar10-airbench, is run unmodified from where it lies (`results/` is ignored by
the repository) and stopped after `--runs` measured runs. It gets CIFAR-10 from our data directory, and a stand-in for
torchvision where that is not installed, which has the one thing that it then needs. Prints CSV, a row a run, and at the
end mean accuracy, its standard deviation, median seconds and their ratio.

What is timed is the same on both sides: preparing the images, whitening, training steps, the last evaluation over
several views. Left out are reading files, building the network, compiling and warming up: of the program its first run,
of ours the first epoch of each run, for which the mean of the others stands.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import torch

from pictorch import api, data, runs
from pictorch.config import Config, UserError
from pictorch.engine.build import WHITENING_IMAGES, Job, build
from pictorch.engine.interrupt import Stop
from pictorch.engine.loop import evaluate_part
from pictorch.runs import RunDir

# Of torchvision the programs use datasets only where their data files are missing, and of the transforms this one.
STAND_IN = {
    "__init__.py": "",
    "datasets.py": "",
    "transforms.py": '''class Normalize:
    """images [N,C,H,W] -> (images - mean) / std."""

    def __init__(self, mean, std):
        self.mean, self.std = mean, std

    def __call__(self, images):
        mean, std = (each.to(images)[:, None, None] for each in (self.mean, self.std))
        return (images - mean) / std
''',
}


class Run(NamedTuple):
    """One training: top-1 accuracy on the test set in per cent, and seconds."""

    top1: float
    seconds: float


def record_runs(program: Path, dataset: data.Dataset, count: int) -> Iterator[Run]:
    """Yield `count` runs of the program after its first one, then stop it. Raises UserError where it ends before."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_images(folder / "cifar10", dataset)
        if subprocess.run([sys.executable, "-c", "import torchvision"], capture_output=True).returncode:
            (folder / "torchvision").mkdir()
            for file, text in STAND_IN.items():
                (folder / "torchvision" / file).write_text(text)
        said, done = [], 0
        with subprocess.Popen(
            [sys.executable, "-u", str(program.resolve())],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(folder)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            assert process.stdout is not None
            try:
                for line in process.stdout:
                    said.append(line)
                    if run := last_row(line):
                        done += 1
                        if done > 1:
                            yield run
                        if done > count:
                            return
            finally:
                process.kill()
        raise UserError(f"{program} ended after {done} of {count + 1} runs; it said:\n{''.join(said[-20:])}")


def last_row(line: str) -> Run | None:
    """Return what a row of the program's table says where it is that of a run's end, else None."""
    cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
    if len(cells) < 4 or cells[1] != "eval":
        return None
    return Run(100 * float(cells[-2]), float(cells[-1]))


def write_images(folder: Path, dataset: data.Dataset) -> None:
    """Write train.pt and test.pt as the programs keep them: images uint8 [N,H,W,C], labels, classes."""
    folder.mkdir()
    for name, part in (("train", dataset.train), ("test", dataset.test)):
        assert isinstance(part, data.Split)
        content = {"images": part.images.permute(0, 2, 3, 1).contiguous(), "labels": part.labels}
        torch.save({**content, "classes": list(dataset.spec.classes)}, folder / f"{name}.pt")


def our_runs(recipe: str, config: Config, count: int, out: Path | None) -> Iterator[Run]:
    """Yield `count` runs by the engine, of the seeds from the configuration's on; their directories are under `out`."""
    if config.train.epochs < 2:
        raise UserError(f"train.epochs: expected at least 2, as the first one warms up, got {config.train.epochs}")
    around = seconds_around(build(config))
    for seed in range(config.train.seed, config.train.seed + count):
        seeded = config.model_copy(update={"train": config.train.model_copy(update={"seed": seed})})
        result = api.train(seeded, recipe=recipe, out=out / f"seed{seed}" if out else None)
        yield Run(result.test_top1, training_seconds(result.run_dir) + around)


def training_seconds(run_dir: Path) -> float:
    """Return the seconds of all epochs of a run, the mean of the others standing for the first, which warms up."""
    _, *later = (row["seconds"] for row in runs.read_metrics(RunDir(run_dir)))
    return float(sum(later) * (1 + 1 / len(later)))


def seconds_around(job: Job) -> float:
    """Return the seconds of what a run does beside its steps: preparing the images, whitening, evaluation."""
    part = job.dataset.train
    assert isinstance(part, data.Split)
    images = part.images.to(job.device)
    batch = next(iter(job.test_loader.epoch(0))).images
    some = batch.repeat(-(-WHITENING_IMAGES // len(batch)), 1, 1, 1)[:WHITENING_IMAGES]

    def prepare() -> None:
        job.train_loader.pipeline.source(images)
        if callable(whiten := getattr(job.model, "whiten", None)):
            whiten(some)

    with job.process_settings():
        return seconds(prepare, job.device) + seconds(lambda: evaluate_part(job, "test", Stop()), job.device)


def seconds(call: Callable[[], object], device: torch.device) -> float:
    """Return the median seconds of three calls after two."""
    times = []
    for _ in range(5):
        started = time.perf_counter()
        call()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - started)
    return statistics.median(times[2:])


def summary(name: str, measured: list[Run]) -> str:
    """Return n, mean and standard deviation of the accuracy, and the median seconds, in a line."""
    top1 = [run.top1 for run in measured]
    spread = f" +- {statistics.stdev(top1):.2f}" if len(top1) > 1 else ""
    took = statistics.median(run.seconds for run in measured)
    return f"# {name}: n={len(measured)}, {statistics.mean(top1):.2f}{spread}% test accuracy, median {took:.3f} s"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", type=Path, help="the downloaded record program")
    parser.add_argument("recipe", help="our recipe, such as speed/cifar10_94")
    parser.add_argument("overrides", nargs="*", help="key=value, as of pictorch train")
    parser.add_argument("--runs", type=int, default=10, help="runs of each side (default: 10)")
    parser.add_argument("--out", type=Path, help="where our run directories go (default: runs/)")
    arguments = parser.parse_args()
    if arguments.runs < 1 or not arguments.program.is_file():
        parser.error(f"expected a program and at least one run, got {arguments.program} and {arguments.runs}")
    config = api.load_config(arguments.recipe, arguments.overrides)
    dataset = data.open(config.data.name, root=data.root(config.data.dir))
    sides = {
        arguments.program.name: record_runs(arguments.program, dataset, arguments.runs),
        arguments.recipe: our_runs(arguments.recipe, config, arguments.runs, arguments.out),
    }
    print("side,run,test_top1,seconds", flush=True)
    measured: dict[str, list[Run]] = {}
    for name, side in sides.items():
        measured[name] = []
        for run in side:
            measured[name].append(run)
            print(f"{name},{len(measured[name])},{run.top1:.2f},{run.seconds:.3f}", flush=True)
    for name, found in measured.items():
        print(summary(name, found))
    theirs, ours = (statistics.median(run.seconds for run in found) for found in measured.values())
    print(f"# {arguments.recipe} takes {ours / theirs:.3f} of the program's time")


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(str(error))
