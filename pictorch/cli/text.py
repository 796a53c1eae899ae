"""Numbers as people read them, and printing that a reader who goes away does not stop."""

import os
import sys

from rich.console import Console, RenderableType


def say(text: str) -> None:
    """Print a line at once. When nobody reads any more (`| head`), or it cannot be written, go on: a run is worth more.

    What could not be written is tried again with the next line, and at the end by `finish_output`.
    """
    try:
        print(text, flush=True)
    except BrokenPipeError:
        close_output()
    except OSError:
        pass


def show(table: RenderableType) -> None:
    """Print a table, as `say` does."""
    console = Console()
    with console.capture() as captured:
        console.print(table)
    say(captured.get().rstrip("\n"))


def close_output() -> None:
    """Send what is printed from now on nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def finish_output() -> None:
    """Write out what is still held back, or say why that cannot be and end with status 1."""
    try:
        print(end="", flush=True)
    except BrokenPipeError:
        close_output()
    except OSError as error:
        close_output()
        print(f"error: standard output: cannot write here: {error.strerror}", file=sys.stderr)
        sys.exit(1)


def duration(seconds: float) -> str:
    """Return 0.25 s, 12 s, 3 min 05 s, 2 h 07 min."""
    if seconds < 10:
        return f"{seconds:.2g} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def quantity(number: float) -> str:
    """Return 950, 12.3 k, 4.56 M, 7.89 G."""
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= limit:
            return f"{number / limit:.3g} {unit}"
    return f"{number:g}"


def size(number: int) -> str:
    """Return bytes as MiB or GiB."""
    return f"{number / 2**30:.2f} GiB" if number >= 2**30 else f"{number / 2**20:.0f} MiB"
