"""`pictorch models` and `pictorch recipes`: what there is."""

import json
import shutil
import sys
import textwrap
from fnmatch import fnmatch

from pictorch.cli.text import say
from pictorch.config import UserError, nearest
from pictorch.config import recipes as shipped


def models(pattern: str, *, as_json: bool) -> None:
    """Print the networks whose names match."""
    from pictorch import models as zoo

    names = zoo.list_models(pattern)
    if not names:
        raise UserError(f"no network matches {pattern!r}{nearest(pattern, zoo.list_models())}")
    show([(name, zoo.summary(name)) for name in names], as_json)


def recipes(pattern: str, *, as_json: bool) -> None:
    """Print the recipes whose names match, or that stand in the folder of that name, with their first line."""
    names = [name for name in shipped.names() if fnmatch(name, pattern) or name.startswith(f"{pattern.rstrip('/')}/")]
    rows = [(name, shipped.summary(name)) for name in names]
    if not rows:
        raise UserError(f"no recipe matches {pattern!r}{nearest(pattern, shipped.names())}")
    show(rows, as_json)


def show(rows: list[tuple[str, str]], as_json: bool) -> None:
    """Print a JSON list, or a line a row, which a terminal that is too narrow for it gets wrapped."""
    if as_json:
        say(json.dumps([{"name": name, "summary": summary} for name, summary in rows], indent=1))
        return
    width = max(len(name) for name, _ in rows)
    lines = [f"{name:{width}}  {summary}".rstrip() for name, summary in rows]
    if sys.stdout.isatty():
        columns, indent = shutil.get_terminal_size().columns, " " * (width + 2)
        lines = [textwrap.fill(line, columns, subsequent_indent=indent, break_on_hyphens=False) for line in lines]
    say("\n".join(lines))
