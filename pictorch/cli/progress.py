"""What a run looks like while it runs: a live bar on a terminal, plain lines elsewhere."""

import time
from collections.abc import Sequence
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
NARROWEST_BAR = 8


def create() -> progress.Progress:
    """Return the bar for a terminal that can redraw a line, the lines for anything else."""
    console = Console()
    return Bar() if console.is_terminal and not console.is_dumb_terminal else Lines()


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
        say(f"{at}: {', '.join(figures(snapshot))}")
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
    """A live bar over the whole run, redrawn a few times a second; it is there from the first step on."""

    def note(self, text: str) -> None:
        say(f"note: {text}")

    def start(self, job: Job, run: RunDir) -> None:
        introduce(job, run)
        self.epochs = job.config.train.epochs
        self.left, self.tested = "", list[str]()
        self.bar = Progress(
            TextColumn("{task.fields[epoch]}"),
            BarColumn(bar_width=None),
            TextColumn("{task.percentage:>3.0f}%"),
            TextColumn("{task.fields[text]}"),
            refresh_per_second=4,
            expand=True,
        )
        self.task = self.bar.add_task("", total=job.updates, epoch="", text="")
        self.shown = 0.0

    def due(self) -> bool:
        return time.perf_counter() - self.shown >= SECONDS_BETWEEN_REDRAWS

    def step(self, snapshot: Snapshot) -> None:
        error, speed, self.left, lr = figures(snapshot)
        parts = [error, speed, self.left, *self.tested, lr]
        self.draw((snapshot.epoch - 1) * snapshot.steps + snapshot.step, snapshot.epoch, parts)
        self.shown = time.perf_counter()

    def epoch(self, row: dict[str, Any]) -> None:
        for key in ("val_error", "test_error"):
            if key in row:
                self.tested = [f"{key.removesuffix('_error')} {row[key]:.2f}%"]
        parts = [f"error {row['train_error']:.2f}%", f"{row['images_per_second']:,.0f} images/s"]
        over = row["step"] == self.bar.tasks[0].total
        self.draw(row["step"], row["epoch"], [*parts, *([] if over else [self.left]), *self.tested])

    def draw(self, completed: int, epoch: int, parts: Sequence[str]) -> None:
        """Show the bar with as many of the `parts`, the most important first, as fit beside it."""
        at = f"epoch {epoch}/{self.epochs}"
        room = self.bar.console.width - len(f"{at}  100% ") - NARROWEST_BAR
        texts = (", ".join(parts[:n]) for n in range(len(parts) + 1))
        text = max((text for text in texts if len(text) <= room), key=len, default="")
        self.bar.update(self.task, completed=completed, epoch=at, text=text)
        self.bar.start()

    def close(self) -> None:
        self.bar.stop()


ERRORS = ("train_error", "val_error", "test_error")


def figures(snapshot: Snapshot) -> tuple[str, str, str, str]:
    """Return the running error, the speed, the time left and the learning rate, as text."""
    return (
        f"error {snapshot.train_error:.2f}%",
        f"{snapshot.images_per_second:,.0f} images/s",
        f"{duration(snapshot.seconds_left)} left",
        f"lr {snapshot.lr:.4g}",
    )


def introduce(job: Job, run: RunDir) -> None:
    """Say in four lines what is about to run, on what, how, and where."""
    config, spec = job.config, job.dataset.spec
    options = ", ".join(f"{k}={v}" for k, v in config.model.options.items())
    shape = f"{spec.in_channels}x{spec.image_size}x{spec.image_size}"
    val = f", {job.val_loader.images_per_epoch:,} validation" if job.val_loader else ""
    updates = job.updates
    official = " (not the official files)" if job.dataset.deviations else ""
    show_notes(job)
    say(
        f"network  {config.model.name}{f' ({options})' if options else ''}: "
        f"{quantity(job.complexity.params)} parameters, {quantity(job.complexity.macs)} multiply-adds an image\n"
        f"data     {job.dataset.name}{official}: {len(job.train_loader.labels):,} training{val}, "
        f"{job.test_loader.images_per_epoch:,} test images, {shape}, {len(job.classes)} classes\n"
        f"compute  {describe_device(job)}, {job.precision.name}: {job.precision.reason}; "
        f"{config.train.epochs} epochs, {updates:,} updates of {config.train.batch_size}, seed {config.train.seed}\n"
        f"run      {run.path}"
    )


def show_notes(job: Job) -> None:
    """Say what is worth knowing of the job: each file of the data that is not the official one, with the size and
    checksum expected and found, and what was decided on the way."""
    for deviation in job.dataset.deviations:
        say(f"note: not the official file: {deviation}")
    for note in job.notes:
        say(f"note: {note}")


def describe_device(job: Job) -> str:
    """Return "cuda:0", or "CPU with 2 threads"."""
    if job.device.type != "cpu":
        return str(job.device)
    return f"CPU with {job.threads} thread{'s' if job.threads > 1 else ''}"
