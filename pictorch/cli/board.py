"""How far a sweep is, read from its run directories: a table that fills on a terminal, a line a run elsewhere."""

import contextlib
import statistics
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from pictorch import runs
from pictorch.cli.progress import can_redraw
from pictorch.cli.text import duration, say
from pictorch.config import UserError
from pictorch.experiments.executors import Ended, Task
from pictorch.experiments.plan import Run, held, wall_seconds
from pictorch.runs import RunDir

OTHER_LINES = 8  # of a terminal, that are not rows of the table


class Board:
    """Who hears how the tasks of a sweep end, from any thread, and shows it. `planned` are all runs of the study."""

    def __init__(self, planned: Sequence[Run], tasks: Sequence[Task], jobs: int) -> None:
        self.runs = {run.directory.path: run for run in planned}
        self.tasks, self.jobs, self.began = list(tasks), jobs, time.time()
        self.ends: dict[Path, Ended] = {}
        self.skipped: set[Path] = set()  # another process trains them
        self.errors = {run.directory.path: tested(run.directory) for run in planned if run.state == "finished"}
        self.seen: dict[Path, tuple[int, str, float]] = {}
        self.lock = threading.Lock()
        self.live: Live | None = None
        self.interrupted = False

    @contextlib.contextmanager
    def shown(self) -> Iterator[None]:
        """Show the table within, where the output is a terminal that can redraw it."""
        if not can_redraw():
            yield
            return
        with Live(get_renderable=self.table, refresh_per_second=1, transient=True) as self.live:
            yield

    def tell(self, text: str) -> None:
        """Print a line above the table."""
        with self.lock:
            if self.live:
                self.live.console.print(Text(text))
            else:
                say(text)

    def ended(self, end: Ended) -> None:
        """Take in that a task has ended."""
        path = end.task.run.path
        run = self.runs[path]
        if end.failure and held(end.task.run):
            self.skipped.add(path)
        else:
            self.ends[path] = end
        if not end.failure and not end.stopped:
            self.errors[path] = tested(end.task.run)
        if not end.stopped and (end.failure or not self.live):
            self.tell(f"{len(self.ends) + len(self.skipped)}/{len(self.tasks)} {run.name}: {self.word(end)}")

    def word(self, end: Ended) -> str:
        """Return how a task ended, in a line."""
        path = end.task.run.path
        if path in self.skipped:
            return "another process trains it: left to that one"
        if end.failure:
            return f"failed: {end.failure}"
        left = self.seconds_left()
        return f"{self.errors[path]:.2f}% test error{f'; about {duration(left)} left' if left else ''}"

    def failures(self) -> list[Ended]:
        return [end for end in self.ends.values() if end.failure]

    def seconds_left(self) -> float:
        """Return how long the tasks that have not ended take, at the pace of those that have."""
        left, done = [], 0.0
        for task in self.tasks:
            over = task.run.path in self.ends or task.run.path in self.skipped
            share = 1.0 if over else self.look(task.run)[2]
            done += share * task.seconds
            left.append((1 - share) * task.seconds)
        total = sum(task.seconds for task in self.tasks)
        busy = (time.time() - self.began) * min(self.jobs, len(self.tasks))
        pace = busy / done if done > 0.1 * total else 1.0
        return pace * wall_seconds([seconds for seconds in left if seconds > 0], self.jobs)

    def look(self, run: RunDir) -> tuple[int, str, float]:
        """Return when the run last wrote a row (nanoseconds), where it is, and the share of its task that is done.

        Where it is is said in words, "" of a run that waits.
        """
        try:
            changed = run.metrics.stat().st_mtime_ns
        except OSError:
            return 0, "started" if self.just_begun(run) else "", 0.0
        seen = self.seen.get(run.path)
        if seen and seen[0] == changed:
            return seen
        planned, rows = self.runs[run.path], runs.read_metrics(run)
        epochs, before = planned.config.train.epochs, planned.epochs_done
        share = max(0.0, rows[-1]["epoch"] - before) / max(1, epochs - before) if rows else 0.0
        fresh = changed >= 1e9 * self.began
        self.seen[run.path] = (changed, where(rows, epochs) if fresh else "", share)
        return self.seen[run.path]

    def just_begun(self, run: RunDir) -> bool:
        try:
            return run.config.stat().st_mtime >= self.began
        except OSError:
            return False

    def table(self) -> Table:
        """Return the cells as they are now; those under way alone, where the terminal has not room for all."""
        rows = [self.row(cell) for cell in cells(list(self.runs.values())).values()]
        room = max(1, Console().size.height - OTHER_LINES)
        if len(rows) > room:
            rows = [row for row in rows if row[2].plain][:room]
        done = len(self.ends) + len(self.skipped)
        left = f"about {duration(self.seconds_left())} left"
        table = Table(title=f"{done} of {len(self.tasks)} runs, {left}; Ctrl-C saves and stops", title_justify="left")
        for heading in ("cell", "runs", "under way", "mean test error"):
            table.add_column(heading, overflow="fold")
        for row in rows:
            table.add_row(*row)
        return table

    def row(self, of_cell: Sequence[Run]) -> tuple[Text, Text, Text, Text]:
        errors = [self.errors[run.directory.path] for run in of_cell if run.directory.path in self.errors]
        waiting = [run for run in of_cell if run.left and run.directory.path not in self.ends]
        words = [(run.seed, self.look(run.directory)[1]) for run in waiting]
        under_way = ", ".join(f"seed {seed} {word}" for seed, word in words if word)
        mean = f"{statistics.fmean(errors):.2f}%" if errors else ""
        return Text(of_cell[0].cell.name), Text(f"{len(errors)}/{len(of_cell)}"), Text(under_way), Text(mean)


def cells(planned: Sequence[Run]) -> Mapping[int, list[Run]]:
    """Return the runs of each cell, by its number."""
    found: dict[int, list[Run]] = {}
    for run in planned:
        found.setdefault(run.cell.number, []).append(run)
    return found


def where(rows: Sequence[Mapping[str, Any]], epochs: int) -> str:
    """Return the epoch and the latest error of a run, in words."""
    if not rows:
        return "started"
    last = rows[-1]
    key = next((key for key in ("test_error", "val_error", "train_error") if key in last), None)
    return f"epoch {last['epoch']}/{epochs}" + (f" {last[key]:.2f}%" if key else "")


def tested(run: RunDir) -> float:
    """Return a finished run's test error, per cent."""
    try:
        return float(runs.read_result(run)["test_error"])
    except UserError:  # it was changed by others; the summary leaves it out
        return float("nan")
