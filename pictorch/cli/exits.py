"""How commands end: 0 done, 2 a mistake of the user's (one message, no traceback), 1 a failure of ours, 130 stopped."""

import functools
import os
import sys
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from pictorch.cli.text import close_output
from pictorch.config.errors import UserError

P = ParamSpec("P")
R = TypeVar("R")


def exits(command: Callable[P, R]) -> Callable[P, R]:
    """Return the command with mistakes, Ctrl-C and a reader that went away turned into messages and exit statuses."""

    @functools.wraps(command)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except UserError as error:
            if leads():
                print(f"error: {error}", file=sys.stderr)
            sys.exit(2)
        except KeyboardInterrupt as interrupt:
            if leads():
                print(str(interrupt) or "interrupted", file=sys.stderr)
            sys.exit(130)
        except BrokenPipeError:
            # The reader of a list went away (`| head`): nothing is wrong, and nothing more can be printed.
            close_output()
            sys.exit(0)

    return guarded


def leads() -> bool:
    """Return whether this process speaks for all: of those that torchrun starts together, the first does."""
    return os.environ.get("RANK", "0") == "0"
