"""Paths as they are written on the command line."""

import os
from collections.abc import Iterable
from pathlib import Path

from pictorch import runs
from pictorch.config import UserError
from pictorch.config.load import COMMAND_LINE
from pictorch.runs import RunDir, RunError


def option_path(option: str, value: str | None) -> str | None:
    """Return the value of an option that takes a path, with `~` expanded; None where the option is not given.

    Raises UserError for an empty text, and for another option that stands where the path should.
    """
    if value == "":
        raise UserError(f"{COMMAND_LINE}: {option}: expected a path, got an empty text (a variable that is not set?)")
    if value and value.startswith("--"):
        raise UserError(f"{COMMAND_LINE}: {option}: expected a path, got {value}; a path of that name is ./{value}")
    return value and os.path.expanduser(value)


def check_files(files: Iterable[str]) -> None:
    """Raise UserError for an empty text among the files that a command names: as a path it is the current folder."""
    if "" in files:
        raise UserError(f"{COMMAND_LINE}: expected a file or a folder, got an empty text (a variable that is not set?)")


def folder_beside_runs(out: str, run: RunDir) -> Path:
    """Return the folder that a run's evaluation or card is written into: new, empty, its own, or with earlier ones.

    Raises RunError for one that holds something else, and for the directory of another run, which has its own.
    """
    folder = runs.directory(out)
    with runs.explained(folder, "read"):
        if folder.is_file():
            raise RunError(f"{folder}: this is a file, not a folder; give another --out")
        if folder.resolve() == run.path.resolve():
            return folder
        if RunDir(folder).config.is_file():
            raise RunError(f"{folder}: this is another run's directory; give another --out")
        ours = any((folder / name).is_file() for name in (runs.CARD_PAGE, runs.EVALUATION_PAGE))
        if folder.is_dir() and any(folder.iterdir()) and not ours:
            raise RunError(f"{folder}: this folder holds something that is no evaluation or card; give another --out")
    return folder
