"""The `pictorch` command, from the first instruction to the exit status."""

import contextlib
import io
import os
import signal
import sys
from collections.abc import Iterator
from types import FrameType


def main() -> None:
    """Run the command line and exit."""
    with at_terminal():
        from pictorch.cli.app import app

        app(prog_name="pictorch")


@contextlib.contextmanager
def at_terminal() -> Iterator[None]:
    """Within it Ctrl-C ends at once, any name can be printed, and at the end what was printed is written out."""
    signal.signal(signal.SIGINT, leave)
    from pictorch.cli.exits import leads
    from pictorch.cli.text import close_output, finish_output

    for stream in (sys.stdout, sys.stderr):
        # A name that the terminal's encoding lacks is shown escaped; it is no reason to lose a run.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    if not leads():
        close_output()
    try:
        yield
    finally:
        finish_output()


def leave(signum: int, frame: FrameType | None) -> None:
    """End at once on Ctrl-C, with status 130; the training loop's own handler, which saves first, takes its place.

    An exception would not do: raised within an import, it is often caught there and told as a broken package.
    """
    with contextlib.suppress(Exception):  # nobody reads any more, or the signal came in the middle of a print
        sys.stdout.flush()
    os.write(2, b"interrupted\n")
    os._exit(130)
