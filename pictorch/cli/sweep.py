"""`pictorch sweep`: a grid of runs, planned and priced, trained here or on a cluster, and what they say together."""

import contextlib
import json
import math
import re
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from rich.table import Table
from rich.text import Text

from pictorch import api, runs
from pictorch.cli.board import Board, cells
from pictorch.cli.compare import chance
from pictorch.cli.paths import option_path
from pictorch.cli.text import duration, say, show, size
from pictorch.config import Config, UserError, differences, nearest
from pictorch.config.keywords import show as as_yaml
from pictorch.config.load import COMMAND_LINE
from pictorch.data.streaming import cores, free_memory_bytes
from pictorch.engine.interrupt import Stop, StopRequested, catch_signals
from pictorch.engine.precision import choose_device
from pictorch.engine.progress import Silent
from pictorch.engine.quick import look
from pictorch.engine.replicas import Broken, Lost, Processes
from pictorch.experiments import grid as grids
from pictorch.experiments import plan, slurm, summary
from pictorch.experiments.constraints import Constraint
from pictorch.experiments.executors import Ended, Executor, Local, Task, attend
from pictorch.experiments.plan import Cell, Cost, Run, Study, brief, cost_class, labels
from pictorch.experiments.summary import Line, Summary

OPTIONS = (
    *("--out", "--executor", "--jobs", "--budget", "--where", "--seeds", "--quick", "--dry-run", "--data-dir"),
    *("--address", "--json", "--help"),
)
EXECUTORS = ("local", "ray", "slurm")
RETRIES = 2  # of a run whose process died
# A quick study: seconds of a core for all its training, at most of one run's, and of what is around each.
LOOK_SECONDS, LONGEST_LOOK, AROUND_SECONDS = 240.0, 15.0, 2.0
FINISH_SECONDS = 0.5  # to write what a finished run leaves, curves.png among it (docs/sweeps.md)
MOST_COLUMNS = 4  # of a table, for settings


@dataclass(frozen=True)
class Order:
    """How the runs are to be carried out; `jobs` None: as many at a time as there is room for."""

    executor: str
    jobs: int | None
    address: str | None
    budget_seconds: float
    look_seconds: float | None
    dry_run: bool
    began: float


def sweep(
    words: Sequence[str],
    *,
    out: str | None = None,
    executor: str = "local",
    jobs: int | None = None,
    budget: str | None = None,
    where: str | None = None,
    seeds: int | None = None,
    quick: bool = False,
    dry_run: bool = False,
    data_dir: str | None = None,
    address: str | None = None,
    as_json: bool = False,
) -> None:
    """Run the command. `words` are the grid, then overrides. Raises KeyboardInterrupt where it was stopped."""
    check(words, executor, address)
    seconds = plan.budget_seconds(budget) if budget is not None else math.inf
    out, data_dir = option_path("--out", out), option_path("--data-dir", data_dir)
    began = time.time()
    # Where a program reads, people read beside it.
    with contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext():
        grid = grids.load(words[0])
        if where is not None:
            further = Constraint.read(where, f"{COMMAND_LINE}: --where")
            grid = replace(grid, constraints=(*grid.constraints, further))
        look_seconds = min(LONGEST_LOOK, LOOK_SECONDS / len(grid.cells)) if quick else None
        study = plan.study(grid, words[1:], api.load_checked, Finish(look_seconds, data_dir))
        folder = Path(out) if out else Path("runs") / grid.name
        planned = plan.all_runs(study.cells, seeds or (1 if quick else grid.seeds), folder)
        introduce(study, planned, folder, quick=quick)
        order = Order(executor, jobs, address, seconds, look_seconds, dry_run, began)
        board = carry_out(planned, folder, order)
        found = summary.summarise(planned)
        show_summary(found)
        stopped = tell_ends(planned, board)
    if as_json:
        say(json.dumps([summary.as_values(line) for line in found.lines], indent=1))
    if stopped:
        raise KeyboardInterrupt("stopped on request; the same command goes on")
    if any(run.state == "broken" for run in planned) or (board and board.failures()):
        sys.exit(1)


def check(words: Sequence[str], executor: str, address: str | None) -> None:
    """Raise UserError for what is wrong with the command line itself."""
    for word in words:
        if re.match("--?[A-Za-z]", word):
            option = word.partition("=")[0]
            raise UserError(f"{COMMAND_LINE}: {option}: unknown option{nearest(option, OPTIONS)}")
    if executor not in EXECUTORS:
        raise UserError(
            f"{COMMAND_LINE}: --executor: unknown executor {as_yaml(executor)}{nearest(executor, EXECUTORS)}"
        )
    if address is not None and executor != "ray":
        raise UserError(f"{COMMAND_LINE}: --address names a Ray cluster: add --executor ray")
    if executor == "slurm":
        slurm.find_sbatch()
    if executor == "ray":
        from pictorch.experiments.ray_executor import ray_package

        ray_package()


@dataclass(frozen=True)
class Finish:
    """Makes a cell's configuration the one that is trained.

    On a CPU it has one thread unless it says, so that a run has the same bits however many are beside it; with
    `look_seconds` it is cut to a look; and the data lie under `data_dir`, if that is given.
    """

    look_seconds: float | None
    data_dir: str | None

    def __call__(self, config: Config) -> tuple[Config, list[str]]:
        """Return the configuration, and the words that make it of the cell's."""
        config = api.with_data_dir(config, self.data_dir)
        wanted = config if self.look_seconds is None else look(config, self.look_seconds)
        train = wanted.train
        if train.threads == "auto" and choose_device(train.device).type == "cpu":
            wanted = wanted.model_copy(update={"train": train.model_copy(update={"threads": 1})})
        words = [f"{key}={as_yaml(value)}" for key, (_, value) in differences(config, wanted).items()]
        return api.capped(wanted), words


def introduce(study: Study, planned: Sequence[Run], folder: Path, *, quick: bool) -> None:
    """Say what the study is, and what became of its directories."""
    count, runs_of_each = len(study.cells), len(planned) // len(study.cells)
    every = count + study.alike + study.left_out
    seeds = f"{runs_of_each} seed{'s' * (runs_of_each > 1)} each"
    say(f"{study.grid.name}: {count} cell{'s' * (count > 1)}, {seeds}, in {folder}")
    if study.left_out:
        say(f"note: {study.left_out} of {every} cells break a constraint and are left out")
    if study.alike:
        say(f"note: {study.alike} cells that are cut to the same look as another are left out")
    if quick:
        say("quick: each run is cut to a look, whose figures are no result; it is marked incomplete")
    for run in planned:
        if run.state == "elsewhere":
            say(f"note: {run.name}: another process trains it: left to that one")


# The plan


def carry_out(planned: Sequence[Run], folder: Path, order: Order) -> Board | None:
    """Show the plan and train what is left; return who heard how that ended, None where nothing was begun."""
    left = [run for run in planned if run.left]
    if not left:
        return None
    runs.check_new(folder / "HASH-seedN")  # what is wrong with the place is told once
    at_once = room(left)
    here = order.jobs or at_once
    processes = Processes(api.REPLICA, together=here)
    with catch_signals() as stop, contextlib.closing(processes):
        if order.look_seconds is None:
            costs = prices(planned, left, processes, here if order.executor == "local" else at_once, stop)
        else:
            costs = looks(left, order.look_seconds)
        tasks = [run.task(costs[cost_class(run.config)].seconds(run.config, run.epochs_done)) for run in left]
        chosen = affordable(tasks, here, order)
        show_plan(planned, costs, chosen, tasks, here)
        if order.dry_run:
            return None
        if order.executor == "slurm":
            submit(chosen, costs, folder, order)
            return None
        board = Board(planned, chosen, here)
        with board.shown():
            executor_of(order, here, processes, board, stop).run(chosen, board.ended, stop)
        board.interrupted = stop.requested
        return board


def room(left: Sequence[Run]) -> int:
    """Return how many runs this machine has room for at a time: one on a GPU, else by the cores that each takes."""
    if any(choose_device(run.config.train.device).type != "cpu" for run in left):
        return 1
    threads = (run.config.train.threads for run in left)
    return max(1, cores() // max(n if isinstance(n, int) else 1 for n in threads))


def prices(planned: Sequence[Run], left: Sequence[Run], processes: Processes, jobs: int, stop: Stop) -> dict[str, Cost]:
    """Return what runs of each kind cost: what those that are finished did, else by a few steps of one.

    They are measured side by side, as they will run. Raises UserError for what keeps a kind from being trained.
    """
    costs = plan.known_costs(planned)
    unknown: dict[str, Run] = {}
    for run in left:
        if (kind := cost_class(run.config)) not in costs:
            unknown.setdefault(kind, run)
    if not unknown:
        return costs
    say(f"measuring {len(unknown)} kind{'s' * (len(unknown) > 1)} of runs, {api.PROBE_STEPS} steps each")
    kinds = list(unknown) * max(1, jobs // len(unknown))  # beside nothing a step is faster than it will be
    measured: dict[str, list[Cost]] = {kind: [] for kind in unknown}
    mistakes: dict[str, None] = {}

    def measure(kind: str) -> None:
        run = unknown[kind]
        try:
            measured[kind].append(cost_of(processes, run.config))
        except UserError as error:
            mistakes[f"{run.cell.name}: {error}"] = None
        except Lost as error:
            mistakes[f"{run.cell.name}: to measure it failed: {error}"] = None

    with ThreadPoolExecutor(jobs) as pool:
        futures = [pool.submit(measure, kind) for kind in kinds]
        attend(futures, stop, ask=processes.ask_to_stop, kill=processes.kill)
    for future in futures:
        with contextlib.suppress(StopRequested):
            future.result()
    if stop.requested:
        raise KeyboardInterrupt
    if mistakes:
        raise UserError("\n".join(mistakes))
    return costs | {kind: plan.mean(found) for kind, found in measured.items()}


def cost_of(processes: Processes, config: Config) -> Cost:
    """Return what a run costs, from a few steps of it."""
    built, measured = processes.measure(config)
    first = max(0.0, measured.first_step_seconds - measured.step_seconds)
    return Cost(
        start_seconds=built + first + FINISH_SECONDS,
        step_seconds=measured.step_seconds,
        evaluation_seconds=measured.evaluation_seconds,
        steps_per_epoch=measured.steps_per_epoch,
        peak_memory_bytes=measured.peak_memory_bytes,
    )


def looks(left: Sequence[Run], seconds: float) -> dict[str, Cost]:
    """Return what quick runs cost: what they were cut to, whatever the machine."""
    cost = Cost(seconds + AROUND_SECONDS, 0.0, 0.0, steps_per_epoch=1, peak_memory_bytes=0)
    return {cost_class(run.config): cost for run in left}


def affordable(tasks: Sequence[Task], jobs: int, order: Order) -> list[Task]:
    """Return the tasks that fit into what is left of the budget, each with the latest moment to begin it.

    Raises UserError where none does.
    """
    end = order.began + order.budget_seconds
    left = end - time.time()
    chosen = plan.within(tasks, jobs, left)
    if not chosen:
        cheapest = min(tasks, key=lambda task: task.seconds)
        raise UserError(
            f"--budget: no run fits into the {duration(max(0.0, left))} that are left of it: the cheapest, "
            f"{cheapest.run.path.name}, takes about {duration(cheapest.seconds)}"
        )
    return [replace(task, latest=end - task.seconds) for task in chosen]


def show_plan(
    planned: Sequence[Run], costs: Mapping[str, Cost], chosen: Sequence[Task], tasks: Sequence[Task], jobs: int
) -> None:
    """Print each cell with its runs and their price, then what all that were chosen take."""
    by_cell = cells(planned)
    table, rows = table_of([of_cell[0].cell for of_cell in by_cell.values()], "Plan")
    for heading in ("runs", "a run", "memory"):
        table.add_column(heading, justify="right")
    for row, of_cell in zip(rows, by_cell.values(), strict=True):
        states = Counter(run.state for run in of_cell)
        cost = costs.get(cost_class(of_cell[0].config))
        price = ("", "") if cost is None else (duration(cost.seconds(of_cell[0].cell.config)), memory(cost))
        table.add_row(*row, ", ".join(f"{n} {state}" for state, n in states.items()), *price)
    show(table)
    work, wall = sum(task.seconds for task in chosen), plan.wall_seconds([task.seconds for task in chosen], jobs)
    until = time.strftime("%a %H:%M", time.localtime(time.time() + wall))
    say(
        f"{len(chosen)} run{'s' * (len(chosen) > 1)} to train: {duration(work)} of work, about {duration(wall)} with "
        f"{jobs} at a time, until {until}"
    )
    if len(chosen) < len(tasks):
        dropped = {task.run.path for task in tasks} - {task.run.path for task in chosen}
        first = next(run for run in planned if run.directory.path in dropped)
        say(f"left out, beyond the budget: {len(dropped)} runs, the first of them {first.name}")
    needed = max((cost.peak_memory_bytes for cost in costs.values()), default=0)
    free = free_memory_bytes(torch.device("cpu"))
    if free and jobs * needed > free:
        say(f"note: {jobs} runs take up to {size(jobs * needed)}, more than is free; fewer at a time: --jobs N")


def memory(cost: Cost) -> str:
    return size(cost.peak_memory_bytes) if cost.peak_memory_bytes else ""


def table_of(of: Sequence[Cell], heading: str) -> tuple[Table, list[list[Text]]]:
    """Return a table with a column for each setting that varies, and the beginning of each cell's row.

    Many settings stand in one column.
    """
    table, keys = Table(title=heading, title_justify="left"), list(of[0].settings)
    table.add_column("cell", justify="right")
    many = len(keys) > MOST_COLUMNS
    for label in ["settings"] if many else labels(keys).values():
        table.add_column(Text(label), overflow="fold")
    values = [
        [cell.name] if many else ["-" if value is None else brief(value) for value in cell.settings.values()]
        for cell in of
    ]
    return table, [[Text(str(cell.number)), *map(Text, row)] for cell, row in zip(of, values, strict=True)]


# Who carries it out


def executor_of(order: Order, jobs: int, processes: Processes, board: Board, stop: Stop) -> Executor:
    if order.executor == "ray":
        from pictorch.experiments.ray_executor import RayExecutor

        processes.close()
        return RayExecutor(order.address, order.jobs, train_task)
    return Local(jobs, worker(processes, board.tell, stop), ask=processes.ask_to_stop, kill=processes.kill)


def train_task(task: Task) -> None:
    """Train a task's run to its end in this process: what a node of a cluster does."""
    api.run_to_end(task.config, recipe=task.recipe, out=task.run.path)


def worker(processes: Processes, tell: Callable[[str], None], stop: Stop) -> Callable[[Task], Ended]:
    """Return what trains a task's run in one of the processes; where that dies, in another one, from where it was."""

    def work(task: Task) -> Ended:
        why = ""
        for attempt in range(1 + RETRIES):
            if attempt:
                tell(f"{task.run.path.name}: {why}; it is tried again")
            try:
                processes.train(task.config, task.run, task.recipe, Silent())
                return Ended(task)
            except StopRequested:
                why = "its process was asked to stop"
            except UserError as error:
                return Ended(task, failure=str(error), mistake=True)
            except Broken as error:
                return Ended(task, failure=str(error))
            except Lost as error:
                why = str(error)
            if stop.requested:
                return Ended(task, stopped=True)
        return Ended(task, failure=f"{why} ({1 + RETRIES} times)")

    return work


def submit(chosen: Sequence[Task], costs: Mapping[str, Cost], folder: Path, order: Order) -> None:
    """Hand the runs to Slurm, and say how to see how far they are."""
    needed = max(costs[cost_class(task.config)].peak_memory_bytes for task in chosen)
    number = slurm.submit(chosen, folder, name=folder.name, jobs=order.jobs, memory_bytes=needed)
    say(
        f"submitted as job {number}: an array of {len(chosen)} runs (squeue -j {number}); the same command with "
        "--dry-run shows how far they are, and without it submits again what is left"
    )


# What they say


def show_summary(found: Summary) -> None:
    """Print what the finished runs say of each cell."""
    if found.by is None:
        return
    validated = any(line.val_error is not None for line in found.lines)
    table, rows = table_of([line.cell for line in found.lines], "Test error, per cent")
    headings = (
        "n",
        "median",
        "mean",
        "sd",
        "± 95%",
        *(["val. error"] if validated else []),
        "to the best",
        "p",
    )
    numbers = [figures(line, validated=validated) for line in found.lines]
    for heading, column in zip(headings, zip(*numbers, strict=True), strict=True):
        # Where it is narrow the settings are folded; a number that is cut says nothing.
        table.add_column(heading, justify="right", min_width=max(map(len, [*column, *heading.split()])))
    for row, figured in zip(rows, numbers, strict=True):
        table.add_row(*row, *figured)
    show(table)
    say("± 95%: of the mean; to the best: mean difference over the same seeds; p: paired t test, Holm's for all cells")
    if caution := found.caution():
        say(caution)
    if not found.whole:
        say("Some runs are incomplete (cut short by train.max_steps or evaluation.max_images): these are no results.")


def figures(line: Line, *, validated: bool) -> list[str]:
    """Return a line's figures as text, empty where there are none."""
    if not line.results:
        return [f"0/{line.wanted}", *[""] * (6 + validated)]
    low_high, pairs, val = line.interval, line.against, line.val_error
    p = "" if pairs is None else chance(line.p) if line.p is not None else "-"
    return [
        f"{len(line.errors)}/{line.wanted}",
        f"{statistics.median(line.errors):.2f}",
        f"{statistics.fmean(line.errors):.2f}",
        f"{line.spread:.2f}" if line.spread is not None else "",
        f"{(low_high[1] - low_high[0]) / 2:.2f}" if low_high else "",
        *([f"{val:.2f}" if val is not None else ""] if validated else []),
        "best" if line.best else f"{pairs.difference:+.2f}" if pairs else "",
        p,
    ]


def tell_ends(planned: Sequence[Run], board: Board | None) -> bool:
    """Say which runs failed, and why; return whether the sweep was stopped."""
    for run in planned:
        if run.state == "broken":
            say(f"failed: {run.name}: {run.why}")
    if board is None:
        return False
    for end in board.failures():
        say(f"failed: {board.runs[end.task.run.path].name}: {end.failure}")
    late = sum(end.stopped for end in board.ends.values())
    if late and not board.interrupted:
        say(f"not begun, as the budget is used up: {late} runs; the same command goes on")
    return board.interrupted
