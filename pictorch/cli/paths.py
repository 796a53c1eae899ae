"""Paths as they are written on the command line."""

import os

from pictorch.config import UserError
from pictorch.config.load import COMMAND_LINE


def option_path(option: str, value: str | None) -> str | None:
    """Return the value of an option that takes a path, with `~` expanded; None where the option is not given.

    Raises UserError for an empty text, and for another option that stands where the path should.
    """
    if value == "":
        raise UserError(f"{COMMAND_LINE}: {option}: expected a path, got an empty text (a variable that is not set?)")
    if value and value.startswith("--"):
        raise UserError(f"{COMMAND_LINE}: {option}: expected a path, got {value}; a path of that name is ./{value}")
    return value and os.path.expanduser(value)
