"""What a run looks like while it runs: a live bar on a terminal, plain lines elsewhere; one each for replicas."""

import threading
import time
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from pictorch.cli.text import duration, quantity, say
from pictorch.engine import progress
from pictorch.engine.build import Job
from pictorch.engine.progress import Snapshot
from pictorch.engine.replicas import Listener, Outcome, Replica
from pictorch.runs import RunDir

SECONDS_BETWEEN_REDRAWS = 0.25
SECONDS_BETWEEN_LINES = 30.0
NARROWEST_BAR = 8


def create() -> progress.Progress:
    """Return the bar for a terminal that can redraw a line, the lines for anything else."""
    return Bar() if can_redraw() else Lines()


def create_for_replicas() -> Listener:
    """Return a bar, or lines, for each of several runs at once."""
    return ReplicaBars() if can_redraw() else ReplicaLines()


def can_redraw() -> bool:
    console = Console()
    return console.is_terminal and not console.is_dumb_terminal


class Lines:
    """One line an epoch, and one each half minute within a long epoch, behind the run's name where it has one."""

    between = SECONDS_BETWEEN_LINES
    name = ""

    def note(self, text: str) -> None:
        self.say(f"note: {text}")

    def start(self, job: Job, run: RunDir) -> None:
        introduce(job, run)
        self.shown = time.perf_counter()

    def due(self) -> bool:
        return time.perf_counter() - self.shown >= self.between

    def step(self, snapshot: Snapshot) -> None:
        at = f"epoch {snapshot.epoch}/{snapshot.epochs} step {snapshot.step}/{snapshot.steps}"
        self.say(f"{at}: {', '.join(figures(snapshot))}")

    def epoch(self, row: dict[str, Any]) -> None:
        errors = ", ".join(f"{k.removesuffix('_error')} {row[k]:.2f}%" for k in ERRORS if k in row)
        self.say(
            f"epoch {row['epoch']}: error {errors}, loss {row['train_loss']:.4f}, lr {row['lr']:.4g}, "
            f"{row['images_per_second']:,.0f} images/s, {duration(row['seconds'])}"
        )

    def say(self, text: str) -> None:
        say(f"{self.name}{text}")
        self.shown = time.perf_counter()

    def close(self) -> None: ...


class Bar:
    """A live bar over the whole run, redrawn a few times a second; it is there from the first step on."""

    name = ""

    def note(self, text: str) -> None:
        say(f"note: {text}")

    def start(self, job: Job, run: RunDir) -> None:
        introduce(job, run)
        self.join(bars(), job.updates, job.config.train.epochs)

    def join(self, bar: Progress, updates: int, epochs: int) -> None:
        """Become one of the lines of `bar`."""
        self.bar, self.updates, self.epochs = bar, updates, epochs
        self.left, self.tested = "", list[str]()
        self.task = bar.add_task("", total=updates, epoch=self.name, text="")
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
        over = row["step"] == self.updates
        self.draw(row["step"], row["epoch"], [*parts, *([] if over else [self.left]), *self.tested])

    def draw(self, completed: int, epoch: int, parts: Sequence[str]) -> None:
        """Show the bar with as many of the `parts`, the most important first, as fit beside it."""
        at = f"{self.name}epoch {epoch}/{self.epochs}"
        room = self.bar.console.width - len(f"{at}  100% ") - NARROWEST_BAR
        texts = (", ".join(parts[:n]) for n in range(len(parts) + 1))
        text = max((text for text in texts if len(text) <= room), key=len, default="")
        self.bar.update(self.task, completed=completed, epoch=at, text=text)
        self.bar.start()

    def close(self) -> None:
        self.bar.stop()


def bars() -> Progress:
    """Return what draws bars, none yet."""
    return Progress(
        TextColumn("{task.fields[epoch]}"),
        BarColumn(bar_width=None),
        TextColumn("{task.percentage:>3.0f}%"),
        TextColumn("{task.fields[text]}"),
        refresh_per_second=4,
        expand=True,
    )


class ReplicaLine(Lines):
    """A replica's lines, one at a time with those of the others."""

    def __init__(self, replica: Replica, printing: threading.Lock) -> None:
        self.name, self.printing, self.shown = f"{replica.name}: ", printing, time.perf_counter()

    def start(self, job: Job, run: RunDir) -> None: ...

    def say(self, text: str) -> None:
        with self.printing:
            super().say(text)


class ReplicaLines:
    """The lines of several runs at once."""

    between = SECONDS_BETWEEN_LINES

    def __init__(self) -> None:
        self.printing = threading.Lock()

    def start(self, job: Job, group: Sequence[Replica], at_once: int) -> None:
        introduce_replicas(job, group, at_once)

    def of(self, replica: Replica) -> progress.Progress:
        return ReplicaLine(replica, self.printing)

    def end(self, outcome: Outcome) -> None:
        ReplicaLine(outcome.replica, self.printing).say(ending(outcome))

    def close(self) -> None: ...


class ReplicaBar(Bar):
    """A replica's bar, below those of the others."""

    def __init__(self, replica: Replica, width: int) -> None:
        self.name = f"{replica.name:{width}} "

    def start(self, job: Job, run: RunDir) -> None: ...

    def close(self) -> None: ...


class ReplicaBars:
    """The bars of several runs at once."""

    between = SECONDS_BETWEEN_REDRAWS

    def start(self, job: Job, group: Sequence[Replica], at_once: int) -> None:
        introduce_replicas(job, group, at_once)
        self.bar = bars()
        width = max(len(replica.name) for replica in group)
        self.each = {replica.name: ReplicaBar(replica, width) for replica in group}
        for one in self.each.values():
            one.join(self.bar, job.updates, job.config.train.epochs)

    def of(self, replica: Replica) -> progress.Progress:
        return self.each[replica.name]

    def end(self, outcome: Outcome) -> None:
        if outcome.row is None:
            say(f"{outcome.replica.name}: {ending(outcome)}")

    def close(self) -> None:
        self.bar.stop()


def ending(outcome: Outcome) -> str:
    """Return how a replica ended, in a line."""
    if outcome.row is None:
        return f"failed: {outcome.failure}" if outcome.failure else "stopped"
    return f"finished with {outcome.row['test_error']:.2f}% test error in {duration(outcome.row['train_seconds'])}"


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
    describe(job, f"seed {job.config.train.seed}")
    say(f"run      {run.path}")


def introduce_replicas(job: Job, group: Sequence[Replica], at_once: int) -> None:
    """Say what all replicas have in common, which they are, and how many are trained at a time; `job` is one's."""
    describe(job, f"{len(group)} replicas, {at_once} at a time")
    for replica in group:
        say(f"{replica.name:8} {replica.run.path}")


def describe(job: Job, which: str) -> None:
    """Say in three lines what is about to run, on what, and how."""
    config, spec = job.config, job.dataset.spec
    options = ", ".join(f"{k}={v}" for k, v in config.model.options.items())
    shape = f"{spec.in_channels}x{spec.image_size}x{spec.image_size}"
    val = f", {job.val_loader.images_per_epoch:,} validation" if job.val_loader else ""
    official = " (not the official files)" if job.dataset.deviations else ""
    show_notes(job)
    say(
        f"network  {config.model.name}{f' ({options})' if options else ''}: "
        f"{quantity(job.complexity.params)} parameters, {quantity(job.complexity.macs)} multiply-adds an image\n"
        f"data     {job.dataset.name}{official}: {len(job.train_loader.labels):,} training{val}, "
        f"{job.test_loader.images_per_epoch:,} test images, {shape}, {len(job.classes)} classes\n"
        f"compute  {describe_device(job)}, {job.precision.name}: {job.precision.reason}; "
        f"{config.train.epochs} epochs, {job.updates:,} updates of {config.train.batch_size}, {which}"
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
