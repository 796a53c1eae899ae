"""`pictorch models` and `pictorch recipes`: what there is."""

import json
from fnmatch import fnmatch

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
    """Print the recipes whose names match, with their first line."""
    rows = [(name, shipped.summary(name)) for name in shipped.names() if fnmatch(name, pattern)]
    if not rows:
        raise UserError(f"no recipe matches {pattern!r}{nearest(pattern, shipped.names())}")
    show(rows, as_json)


def show(rows: list[tuple[str, str]], as_json: bool) -> None:
    if as_json:
        print(json.dumps([{"name": name, "summary": summary} for name, summary in rows], indent=1))
        return
    width = max(len(name) for name, _ in rows)
    for name, summary in rows:
        print(f"{name:{width}}  {summary}".rstrip())
