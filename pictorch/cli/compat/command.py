"""What a seed document's command means here, printed and then run: a recipe, what differs from it, and a directory.

Each document's own module translates its words into a `Command`. No module trains in another way than `pictorch train`.
"""

import functools
import importlib
import itertools
import shlex
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from pictorch import api, runs
from pictorch.cli import training
from pictorch.cli.claims import network
from pictorch.cli.progress import create as create_progress
from pictorch.cli.text import say
from pictorch.config import Config, UserError, load, to_dict
from pictorch.config.comparable import decisive_settings
from pictorch.config.keywords import show
from pictorch.config.schema import EXECUTION_KEYS, flatten
from pictorch.experiments import published
from pictorch.experiments.published import Published
from pictorch.runs import RunDir


@dataclass(frozen=True)
class Command:
    """A document's command in our words."""

    document: str
    """seed1, seed2 or seed3; the module of that name beside this one translated it"""
    words: tuple[str, ...]
    """As typed, the program first"""
    recipe: str
    overrides: tuple[str, ...]
    """key=value on top of the recipe"""
    outdir: Path
    notes: tuple[str, ...]
    """Flags of other architectures that are ignored, what was mapped to what"""
    finish: Callable[[RunDir], None]
    """Writes the files that this document's users expect, from a finished run"""
    strict_row: bool = False
    """Take the settings of the table row that this command belongs to"""
    dry_run: bool = False
    """Print the translation and stop"""


def run(command: Command) -> None:
    """Print what the command means, and how that differs from its table row; then train, and leave its files.

    Raises UserError for what is wrong with the settings, and when a row is asked for and there is none.
    """
    path = free_directory(command.outdir)
    if path != command.outdir:
        holds = "holds another run" if RunDir(command.outdir).config.exists() else "is not empty"
        say(f"{command.outdir} {holds}: this run goes to {path}")
    loaded = api.load_checked(command.recipe, command.overrides)
    row = row_of(command)
    said = compared(command, row)
    if command.strict_row:
        command = as_row(command, row)
        loaded = api.load_checked(command.recipe, command.overrides)
    say(canonical_line(command, path))
    for note in (*command.notes, *loaded.notes):
        say(f"note: {note}")
    say(said)
    if command.dry_run:
        return
    result = api.train_one(loaded.config, recipe=command.recipe, out=path, inside_run=True, progress=create_progress())
    training.show_result(result)
    command.finish(RunDir(result.run_dir))


def canonical_line(command: Command, path: Path) -> str:
    """Return the `pictorch train` line that makes the same run."""
    return shlex.join(["pictorch", "train", command.recipe, *command.overrides, "--out", str(path)])


def free_directory(outdir: Path) -> Path:
    """Return `outdir`, or where that holds anything already, the first of its run-02, run-03 ... that is free."""
    if not outdir.is_dir() or runs.is_free(outdir):
        return outdir
    return next(path for number in itertools.count(2) if runs.is_free(path := outdir / f"run-{number:02d}"))


def row_of(command: Command) -> Published | None:
    """Return the document's number that this very command is printed for, else the first whose settings it has.

    Output directory and seed do not matter, nor whether the network is the paper's or that program's.
    """
    ours = settled(command.recipe, command.overrides)
    candidates = itertools.chain(rows_with_commands(command.document), rows_without(command.document))
    return next((row for row, theirs in candidates if not differing(theirs, ours)), None)


@functools.cache
def rows_with_commands(document: str) -> tuple[tuple[Published, Config], ...]:
    """Return the document's own numbers for which it prints a command, and what that means."""
    translate = importlib.import_module(f"pictorch.cli.compat.{document}").translate
    commands = ((row, translate(program_and_words(row.command))) for row in own_rows(document) if row.command)
    return tuple((row, settled(command.recipe, command.overrides)) for row, command in commands)


def rows_without(document: str) -> Iterator[tuple[Published, Config]]:
    """Yield the document's own numbers for which it prints no command, and their configurations."""
    return ((row, settled(row.recipe, row.overrides)) for row in own_rows(document) if not row.command)


def own_rows(document: str) -> Iterator[Published]:
    return (row for row in published.rows() if row.document == document and row.source == "document")


def program_and_words(line: str) -> tuple[str, ...]:
    """Return the words of a printed command from its program on, without `python -u`."""
    return tuple(itertools.dropwhile(lambda word: not word.endswith(".py"), shlex.split(line.replace("\\\n", " "))))


def settled(recipe: str, overrides: Iterable[str]) -> Config:
    """Return the configuration of a recipe and overrides, with the networks as the papers have them."""
    return load(recipe, [override for override in overrides if key_of(override) != "as_published"]).config


def differing(one: Config, other: Config) -> dict[str, tuple[object, object]]:
    """Return {key: (value in one, in other)} of what makes the two other experiments than each other."""
    settings = [decisive_settings(config, network) for config in (one, other)]
    written = [flatten(to_dict(config)) for config in (one, other)]
    found = {}
    for key in sorted(settings[0].keys() | settings[1].keys()):
        if settings[0].get(key) != settings[1].get(key):
            # Of a network the settings have the family, of the rest they leave out defaults.
            sources = settings if key.startswith("model.") else [s | w for s, w in zip(settings, written, strict=True)]
            found[key] = (sources[0].get(key), sources[1].get(key))
    return found


def key_of(override: str) -> str:
    return override.partition("=")[0]


def compared(command: Command, row: Published | None) -> str:
    """Return every difference between the command's configuration and that of its row, a line each."""
    if row is None:
        return "no table row is made by this command"
    value = "" if row.value is None else f" ({row.metric} {row.value:.2f}, {row.statistic})"
    name = f"table row {row.table}: {row.row}{value}"
    found = differing(load(command.recipe, command.overrides).config, load(row.recipe, row.overrides).config)
    lines = [f"  {key}: this command {show(ours)}, row {show(theirs)}" for key, (ours, theirs) in found.items()]
    if not lines:
        return f"{name}: this command has its settings"
    taken = "its settings are taken" if command.strict_row else "--strict_row takes its settings"
    count = f"{len(lines)} difference{'s' if len(lines) > 1 else ''}"
    return "\n".join([f"{name}: {count}; {taken}", *lines])


def as_row(command: Command, row: Published | None) -> Command:
    """Return the command with its row's settings, but its own seed and device. Raises UserError without a row."""
    if row is None:
        raise UserError("--strict_row: no table row is made by this command; `pictorch claims` lists the rows")
    own = (override for override in command.overrides if key_of(override) in EXECUTION_KEYS)
    return replace(command, recipe=row.recipe, overrides=(*row.overrides, *own))
