"""What a run looks like while it runs: a live bar on a terminal, plain lines elsewhere."""

import time
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from pictorch.cli.text import duration, quantity, say
from pictorch.engine import progress
from pictorch.engine.build import Job
from pictorch.engine.progress import Snapshot
from pictorch.runs import RunDir

SECONDS_BETWEEN_REDRAWS = 0.25
SECONDS_BETWEEN_LINES = 30.0


def create() -> progress.Progress:
    """Return the bar for a terminal, the lines for anything else."""
    return Bar() if Console().is_terminal else Lines()


class Lines:
    """One line an epoch, and one each half minute within a long epoch."""

    between = SECONDS_BETWEEN_LINES

    def note(self, text: str) -> None:
        say(f"note: {text}")

    def start(self, job: Job, run: RunDir) -> None:
        introduce(job, run)
        self.shown = time.perf_counter()

    def due(self) -> bool:
        return time.perf_counter() - self.shown >= self.between

    def step(self, snapshot: Snapshot) -> None:
        at = f"epoch {snapshot.epoch}/{snapshot.epochs} step {snapshot.step}/{snapshot.steps}"
        say(f"{at}: {describe(snapshot)}")
        self.shown = time.perf_counter()

    def epoch(self, row: dict[str, Any]) -> None:
        errors = ", ".join(f"{k.removesuffix('_error')} {row[k]:.2f}%" for k in ERRORS if k in row)
        say(
            f"epoch {row['epoch']}: error {errors}, loss {row['train_loss']:.4f}, lr {row['lr']:.4g}, "
            f"{row['images_per_second']:,.0f} images/s, {duration(row['seconds'])}"
        )
        self.shown = time.perf_counter()

    def close(self) -> None: ...


class Bar:
    """A live bar over the whole run, redrawn a few times a second."""

    def note(self, text: str) -> None:
        say(f"note: {text}")

    def start(self, job: Job, run: RunDir) -> None:
        introduce(job, run)
        self.epochs = job.config.train.epochs
        self.text, self.tested = "starting", ""
        self.bar = Progress(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f}% {task.fields[text]}"),
            refresh_per_second=4,
        )
        self.task = self.bar.add_task("", total=job.updates, epoch=f"1/{self.epochs}", text=self.text)
        self.bar.start()
        self.shown = 0.0

    def due(self) -> bool:
        return time.perf_counter() - self.shown >= SECONDS_BETWEEN_REDRAWS

    def step(self, snapshot: Snapshot) -> None:
        self.text = describe(snapshot)
        self.draw((snapshot.epoch - 1) * snapshot.steps + snapshot.step, snapshot.epoch)
        self.shown = time.perf_counter()

    def epoch(self, row: dict[str, Any]) -> None:
        for key in ("val_error", "test_error"):
            if key in row:
                self.tested = f", {key.removesuffix('_error')} error {row[key]:.2f}%"
        self.draw(row["step"], row["epoch"])

    def draw(self, completed: int, epoch: int) -> None:
        self.bar.update(self.task, completed=completed, epoch=f"{epoch}/{self.epochs}", text=self.text + self.tested)

    def close(self) -> None:
        self.bar.stop()


ERRORS = ("train_error", "val_error", "test_error")


def describe(snapshot: Snapshot) -> str:
    """Return the running error, learning rate, speed and time left."""
    return (
        f"error {snapshot.train_error:.2f}%, lr {snapshot.lr:.4g}, "
        f"{snapshot.images_per_second:,.0f} images/s, {duration(snapshot.seconds_left)} left"
    )


def introduce(job: Job, run: RunDir) -> None:
    """Say in four lines what is about to run, on what, how, and where."""
    config, spec = job.config, job.dataset.spec
    options = ", ".join(f"{k}={v}" for k, v in config.model.options.items())
    shape = f"{spec.in_channels}x{spec.image_size}x{spec.image_size}"
    val = f", {job.val_loader.images_per_epoch:,} validation" if job.val_loader else ""
    updates = job.updates
    official = "" if job.dataset.official else " (not the official files)"
    say(
        f"network  {config.model.name}{f' ({options})' if options else ''}: "
        f"{quantity(job.complexity.params)} parameters, {quantity(job.complexity.macs)} multiply-adds an image\n"
        f"data     {job.dataset.name}{official}: {len(job.train_loader.labels):,} training{val}, "
        f"{job.test_loader.images_per_epoch:,} test images, {shape}, {len(job.classes)} classes\n"
        f"compute  {describe_device(job)}, {job.precision.name}: {job.precision.reason}; "
        f"{config.train.epochs} epochs, {updates:,} updates of {config.train.batch_size}, seed {config.train.seed}\n"
        f"run      {run.path}"
    )


def describe_device(job: Job) -> str:
    """Return "cuda:0", or "CPU with 2 threads"."""
    if job.device.type != "cpu":
        return str(job.device)
    return f"CPU with {job.threads} thread{'s' if job.threads > 1 else ''}"
