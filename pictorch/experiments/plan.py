"""The plan of a sweep: its cells and their runs, how far each is, what is left of each costs, and what fits a budget.

What is finished, begun or new is read from the run directories, OUT/HASH-seedN, and from nothing else.
"""

import datetime
import heapq
import json
import math
import statistics
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from pictorch import runs
from pictorch.config import Config, ConfigError, Loaded, UserError, config_hash, differences, load, to_dict
from pictorch.config.keywords import show
from pictorch.config.load import COMMAND_LINE, SCALED, parse_overrides
from pictorch.config.schema import flatten
from pictorch.experiments.executors import Task
from pictorch.experiments.grid import Grid, written
from pictorch.runs import RunDir

# A cell's number, its words, and what they load
Written = tuple[int, tuple[str, ...], Loaded]
Load = Callable[[str | Path, Sequence[str]], Loaded]
State = Literal["finished", "begun", "new", "elsewhere", "broken"]

# What two runs may differ in while a step of one takes as long as of the other.
SAME_COST = frozenset(
    {
        *("train.seed", "train.epochs", "train.max_steps", "train.eval_every_epochs", "train.save_every_epochs"),
        *("train.select", "train.select_mean", "train.patience_epochs", "data.dir", "data.split_seed"),
        *("optim.lr", "optim.momentum", "optim.weight_decay", "optim.betas", "optim.eps", "optim.nesterov"),
        *("ema.decay", "ema.warmup", "swa.start_epochs", "swa.lr_factor", "loss.label_smoothing"),
        *("augment.label_smoothing", "augment.mixup.alpha", "augment.cutmix.alpha", "augment.ricap.beta"),
        *("augment.cutout.size", "augment.cutout.prob", "augment.random_erasing.prob", "model.init_from"),
        *("track.tensorboard", "track.mlflow", "track.wandb"),
    }
)


@dataclass(frozen=True)
class Cell:
    """A cell of the grid: its number from 1, its configuration with the first seed, and what that differs in.

    `words` are what follows `pictorch train`, but for the seed; `settings` {dotted key: value} are those that vary
    over the grid.
    """

    number: int
    name: str
    config: Config
    recipe: str
    words: tuple[str, ...]
    settings: Mapping[str, Any]

    @property
    def hash(self) -> str:
        return config_hash(self.config)


@dataclass(frozen=True)
class Cost:
    """What runs of one kind cost: seconds until the first step, of a step, of an evaluation; and the most memory."""

    start_seconds: float
    step_seconds: float
    evaluation_seconds: float
    steps_per_epoch: int
    peak_memory_bytes: int

    def seconds(self, config: Config, epochs_done: int = 0) -> float:
        """Return what is left of a run takes."""
        train = config.train
        steps = min(train.epochs * self.steps_per_epoch, train.max_steps or math.inf)
        left = max(0, steps - epochs_done * self.steps_per_epoch)
        evaluations = math.ceil(left / self.steps_per_epoch / train.eval_every_epochs)
        return self.start_seconds + left * self.step_seconds + evaluations * self.evaluation_seconds


@dataclass(frozen=True)
class Run:
    """A run of a cell, and how far it is: `elsewhere` another process trains it, `broken` is said by `why`."""

    cell: Cell
    seed: int
    directory: RunDir
    config: Config
    state: State
    epochs_done: int = 0
    why: str = ""

    @property
    def name(self) -> str:
        return f"{self.cell.name} seed {self.seed}"

    @property
    def left(self) -> bool:
        """Whether this sweep has something to do for it."""
        return self.state in ("begun", "new")

    @property
    def words(self) -> tuple[str, ...]:
        return (*self.cell.words, f"train.seed={self.seed}")

    def task(self, seconds: float, latest: float = math.inf) -> Task:
        return Task(self.directory, self.config, self.cell.recipe, self.words, seconds, latest)


# Cells


@dataclass(frozen=True)
class Study:
    """The cells of a grid, all of them sound; how many the constraints left out, and how many are as an earlier one."""

    grid: Grid
    cells: tuple[Cell, ...]
    left_out: int
    alike: int


def study(
    grid: Grid,
    overrides: Sequence[str],
    load_checked: Load,
    finish: Callable[[Config], tuple[Config, Sequence[str]]] = lambda config: (config, ()),
) -> Study:
    """Return the grid's cells as configurations that were checked, each with the `overrides` over it.

    `finish` returns what becomes of each configuration, and the words that say so; of cells that become alike the first
    stays. Raises UserError that tells every mistake of every cell, for two cells that are one experiment as they are
    written, and where the constraints leave none.
    """
    varied = list(dict.fromkeys(recipe for recipe, _ in grid.cells))
    for recipe in varied:
        try:
            load_checked(recipe, overrides)  # what is wrong with all cells is told once
        except ConfigError as error:
            raise ConfigError(f"{recipe}: {error}" if len(varied) > 1 else str(error)) from None
    loaded: list[Written] = []
    mistakes: dict[str, None] = {}
    for number, (recipe, words) in enumerate(grid.cells, start=1):
        try:
            words = scaled(recipe, words, overrides)
            loaded.append((number, words, load_checked(recipe, [*words, *overrides])))
        except ConfigError as error:
            lines = str(error).replace(f"{COMMAND_LINE}: ", "").splitlines()
            mistakes |= dict.fromkeys(f"{grid.name}: cell {number}: {line}" for line in lines)
    if mistakes:
        raise ConfigError("\n".join(mistakes))
    refuse_replicas(loaded)
    kept = [one for one in loaded if all(c.holds(flatten(to_dict(one[2].config))) for c in grid.constraints)]
    if not kept:
        raise UserError(f"{grid.name}: the constraints leave none of the {len(loaded)} cells")
    refuse_twins(grid, kept)
    cells = named(grid, overrides, kept, finish)
    first = {cell.hash: cell for cell in reversed(cells)}
    apart = tuple(cell for cell in cells if first[cell.hash] is cell)
    return Study(grid, apart, len(loaded) - len(kept), len(cells) - len(apart))


def scaled(recipe: str | Path, words: Sequence[str], overrides: Sequence[str]) -> tuple[str, ...]:
    """Return a cell's words, with what it counts in epochs stretched to the epochs that the overrides ask for.

    The loader does that for what a recipe says; on one command line nothing scales what stands beside it.
    """
    given = flatten(parse_overrides(overrides).tree)
    if "train.epochs" not in given:
        return tuple(words)
    before = load(recipe, words).config
    if not before.schedule.scale:
        return tuple(words)
    factor, values = given["train.epochs"] / before.train.epochs, flatten(to_dict(before))
    keys = {f"{block}.{leaf}" for block, leaf in SCALED} - given.keys()

    def stretched(word: str) -> str:
        key = word.partition("=")[0]
        if key not in keys or values.get(key) is None:
            return word
        value = values[key]
        return f"{key}={written(tuple(n * factor for n in value) if isinstance(value, list) else value * factor)}"

    return tuple(map(stretched, words))


def refuse_replicas(loaded: Sequence[Written]) -> None:
    if any(one.config.train.replicas > 1 or one.config.train.replica_lrs for _, _, one in loaded):
        raise UserError(
            "train.replicas: the runs of a sweep are trained beside each other already: leave train.replicas and "
            "train.replica_lrs out, and write seeds: N, or optim.lr: [...] under grid:"
        )


def named(
    grid: Grid,
    overrides: Sequence[str],
    loaded: Sequence[Written],
    finish: Callable[[Config], tuple[Config, Sequence[str]]],
) -> tuple[Cell, ...]:
    """Return the cells, each named by its recipe, where there are several, and the settings that vary over them."""
    keys = list(dict.fromkeys(word.partition("=")[0] for _, words in grid.cells for word in words))
    values = [flatten(to_dict(one.config)) for _, _, one in loaded]
    varying = [key for key in keys if len({json.dumps(flat.get(key)) for flat in values}) > 1]
    short, several = labels(varying), len({recipe for recipe, _ in grid.cells}) > 1
    cells = []
    for (number, words, one), flat in zip(loaded, values, strict=True):
        config, further = finish(one.config)
        recipe = str(grid.cells[number - 1][0])
        settings: dict[str, Any] = {"recipe": recipe} if several else {}
        settings |= {key: flat.get(key) for key in varying}
        told = [recipe] * several
        told += [f"{short[key]}={brief(flat[key])}" for key in varying if flat.get(key) is not None]
        name = " ".join(told)
        whole = (recipe, *words, *overrides, *further)
        cells.append(Cell(number, name or "as the recipe", config, one.recipe, whole, settings))
    return tuple(cells)


def labels(keys: Collection[str]) -> dict[str, str]:
    """Return the shortest ending of each dotted key that no other of the keys has: `lr`, `cutout.size`."""
    short = {}
    for key in keys:
        parts = key.split(".")
        endings = [".".join(parts[-n:]) for n in range(1 + (len(parts) > 2), len(parts) + 1)]
        others = [other for other in keys if other != key]
        short[key] = next((e for e in endings if not any(f".{other}".endswith(f".{e}") for other in others)), key)
    # `name` alone says nothing: of the network, the schedule?
    return {key: key if label == "name" else label for key, label in short.items()}


def brief(value: Any) -> str:
    """Return a value as a table shows it."""
    if isinstance(value, list):
        return f"[{','.join(map(brief, value))}]"
    return f"{value:g}" if isinstance(value, float) else written(value)


def refuse_twins(grid: Grid, loaded: Sequence[Written]) -> None:
    """Raise UserError where two cells are one experiment, which would share a directory."""
    first: dict[str, tuple[int, Config]] = {}
    for number, _, one in loaded:
        twin, config = first.setdefault(config_hash(one.config), (number, one.config))
        if twin != number:
            apart = differences(config, one.config)
            why = f"they differ in {', '.join(apart)} alone, which decides no result" if apart else "they are equal"
            seeds = "; for further seeds write seeds: N" if "train.seed" in apart else ""
            raise UserError(f"{grid.name}: cells {twin} and {number} are one experiment: {why}{seeds}")


# Runs


def all_runs(cells: Sequence[Cell], seeds: int, out: Path) -> list[Run]:
    """Return the runs of all cells with the first seed, then of all with the second: what a cut leaves is a study."""
    return [look(cell, cell.config.train.seed + i, out) for i in range(seeds) for cell in cells]


def look(cell: Cell, seed: int, out: Path) -> Run:
    """Return a run of a cell as its directory says it is."""
    directory = RunDir(out / f"{cell.hash}-seed{seed}")
    train = cell.config.train.model_copy(update={"seed": seed})
    run = Run(cell, seed, directory, cell.config.model_copy(update={"train": train}), "new")
    try:
        if directory.result.exists():
            row = runs.read_result(directory)
            found = (row["config_hash"], row["seed"])
            return replace(run, state="finished") if found == (cell.hash, seed) else broken(run, foreign(run))
        if not directory.config.exists():
            return run
        # What it began with decides how it goes on, in what does not count for the experiment.
        began = load(directory.config).config
        if (config_hash(began), began.train.seed) != (cell.hash, seed):
            return broken(run, foreign(run))
        began = began.model_copy(update={"data": began.data.model_copy(update={"dir": cell.config.data.dir})})
        epochs = max((int(row["epoch"]) for row in runs.read_metrics(directory)), default=0)
        run = replace(run, config=began, state="begun", epochs_done=epochs)
    except UserError as error:
        return broken(run, str(error))
    return replace(run, state="elsewhere") if held(directory) else run


def broken(run: Run, why: str) -> Run:
    return replace(run, state="broken", why=why)


def foreign(run: Run) -> str:
    return (
        f"{run.directory.path}: this run is not the one that its name says (another version wrote it?), and stays as "
        "it is: move it away, or give another --out"
    )


def held(directory: RunDir) -> bool:
    """Return whether another process trains in a run directory now."""
    if not directory.path.is_dir():
        return False
    try:
        with runs.lock(directory):
            return False
    except runs.RunError:
        return True


# Prices


def cost_class(config: Config) -> str:
    """Return what two configurations have in common whose steps cost the same."""
    flat = flatten(to_dict(config))
    kept = {key: value for key, value in flat.items() if key not in SAME_COST and value is not None}
    return json.dumps({key: kept[key] for key in sorted(kept) if not key.startswith("schedule.")})


def known_costs(planned: Sequence[Run]) -> dict[str, Cost]:
    """Return {cost class: cost} of those of which a finished run is there: the mean of its runs."""
    found: dict[str, list[Cost]] = {}
    for run in planned:
        if run.state == "finished" and (cost := measured(run)):
            found.setdefault(cost_class(run.config), []).append(cost)
    return {kind: mean(costs) for kind, costs in found.items()}


def measured(run: Run) -> Cost | None:
    """Return what a finished run has cost; None where its files do not say."""
    try:
        row, rows = runs.read_result(run.directory), runs.read_metrics(run.directory)
        env = runs.read_json(run.directory.env)
    except UserError:
        return None
    if not rows or not row["complete"]:
        return None
    in_steps = sum(float(one.get("seconds", 0)) for one in rows)
    evaluations = sum("test_error" in one or "val_error" in one for one in rows)
    begun, ended = (datetime.datetime.fromisoformat(str(moment)) for moment in (env["started"], row["finished"]))
    around = 0.0 if env.get("resumed") else (ended - begun).total_seconds() - row["train_seconds"]
    return Cost(
        start_seconds=max(0.0, around),
        step_seconds=in_steps / row["steps"],
        evaluation_seconds=max(0.0, row["train_seconds"] - in_steps) / max(1, evaluations),
        steps_per_epoch=math.ceil(row["steps"] / row["epochs"]),
        peak_memory_bytes=row["peak_memory_bytes"],
    )


def mean(costs: Sequence[Cost]) -> Cost:
    return Cost(
        start_seconds=statistics.fmean(cost.start_seconds for cost in costs),
        step_seconds=statistics.fmean(cost.step_seconds for cost in costs),
        evaluation_seconds=statistics.fmean(cost.evaluation_seconds for cost in costs),
        steps_per_epoch=max(cost.steps_per_epoch for cost in costs),
        peak_memory_bytes=max(cost.peak_memory_bytes for cost in costs),
    )


def wall_seconds(seconds: Sequence[float], jobs: int) -> float:
    """Return when the last of the runs ends, begun in their order, `jobs` at a time."""
    ends = [0.0] * max(1, jobs)
    for one in seconds:
        heapq.heapreplace(ends, ends[0] + one)
    return max(ends)


def within(tasks: Sequence[Task], jobs: int, budget_seconds: float) -> list[Task]:
    """Return the tasks, in their order, that have ended within the budget, `jobs` at a time.

    One that no longer fits is passed over for those behind it.
    """
    ends = [0.0] * max(1, jobs)
    kept = []
    for task in tasks:
        if ends[0] + task.seconds <= budget_seconds:
            heapq.heapreplace(ends, ends[0] + task.seconds)
            kept.append(task)
    return kept


def budget_seconds(text: str) -> float:
    """Return the seconds of `6h`, `90m`, `45s` or `1h30m`. Raises UserError for anything else."""
    units, total, rest = {"h": 3600, "m": 60, "s": 1}, 0.0, text.strip().lower()
    for unit, factor in units.items():
        number, found, behind = rest.partition(unit)
        if found:
            if not number.replace(".", "", 1).isdigit():
                total = 0.0
                break
            total, rest = total + float(number) * factor, behind.strip()
    if rest or total <= 0:
        raise UserError(f"{COMMAND_LINE}: --budget: expected a time, for example 6h, 90m or 1h30m, got {show(text)}")
    return total
