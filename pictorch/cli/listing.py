"""`pictorch models` and `pictorch recipes`: what there is."""

import json
import shutil
import sys
import textwrap
from collections.abc import Sequence
from fnmatch import fnmatch
from itertools import groupby
from typing import Any

from pictorch.cli.text import quantity, say, size
from pictorch.config import UserError, nearest
from pictorch.config import recipes as shipped


def models(pattern: str, *, image_size: int | None, as_json: bool, layers: bool) -> None:
    """Print the networks whose names match: names and papers, or for a pattern of one's own what each of them takes."""
    from pictorch import models as zoo
    from pictorch.models.catalogue import describe

    names = [pattern] if ":" in pattern else zoo.list_models(pattern)
    if not names:
        raise UserError(f"no network matches {pattern!r}{nearest(pattern, zoo.list_models())}")
    if layers:
        show_layers(names, image_size=image_size, as_json=as_json)
    elif as_json:
        say(json.dumps([describe(name, image_size=image_size) for name in names], indent=1))
    elif pattern == "*":
        show([(name, zoo.summary(name)) for name in names])
    else:
        show_sizes([describe(name, image_size=image_size) for name in names])


def show_sizes(rows: Sequence[dict[str, Any]]) -> None:
    """Print a line a network: what it costs, for which images."""
    lines = [("name", "images", "parameters", "multiply-adds", "activations at batch 128")]
    for row in rows:
        if row["params"] is None:
            lines.append((row["name"], "-", "-", "-", "needs depth or other options"))
        else:
            kept = "-" if row["activation_bytes"] is None else size(row["activation_bytes"])
            shape = f"{row['in_channels']}x{row['image_size']}x{row['image_size']}"
            lines.append((row["name"], shape, f"{row['params']:,}", quantity(row["macs"]), kept))
    say(columns(lines))


def show_layers(names: Sequence[str], *, image_size: int | None, as_json: bool) -> None:
    """Print one network's layers in the order of its forward pass."""
    import torch

    from pictorch import models as zoo
    from pictorch.models.catalogue import describe
    from pictorch.models.complexity import layers

    if len(names) > 1:
        raise UserError(f"--layers prints one network, but {len(names)} match: {', '.join(names[:5])} ...")
    row = describe(names[0], image_size=image_size)
    if row["params"] is None:
        raise UserError(f"--layers: the family {names[0]} needs options; give one of its variants, {names[0]}_...")
    sizes = {key: row[key] for key in ("in_channels", "image_size")}
    with torch.device("meta"):
        model = zoo.create(names[0], num_classes=row["num_classes"], **sizes)
    table = layers(model, **sizes)
    if as_json:
        say(json.dumps([layer._asdict() for layer in table], indent=1))
        return
    lines = [("layer", "type", "output", "parameters", "multiply-adds")]
    for layer in table:
        shape = "x".join(str(side) for side in layer.output_shape) or "-"
        lines.append((layer.name or "(itself)", layer.type, shape, f"{layer.params:,}", f"{layer.macs:,}"))
    lines.append(("in all", "", "", f"{row['params']:,}", f"{row['macs']:,}"))
    say(columns(lines))


def columns(rows: Sequence[Sequence[str]]) -> str:
    """Return rows as aligned columns, the first to the left and the others to the right."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(f"{cell:{'>' if i else '<'}{width}}" for i, (cell, width) in enumerate(zip(row, widths, strict=True)))
        for row in rows
    )


def recipes(pattern: str, *, as_json: bool) -> None:
    """Print the recipes whose names have the pattern in them, with their first lines, by folder; the grids behind them.

    The JSON list has the recipes alone: what can be trained by its name.
    """
    every = shipped.names() if as_json else [*shipped.names(), *shipped.grids()]
    rows = [(name, shipped.summary(name)) for name in every if fnmatch(name, f"*{pattern}*")]
    if not rows:
        raise UserError(f"no recipe matches {pattern!r}{nearest(pattern, every)}")
    if as_json:
        say(json.dumps([{"name": name, "summary": summary} for name, summary in rows], indent=1))
        return
    for i, (folder, inside) in enumerate(groupby(rows, key=lambda row: row[0].rpartition("/")[0] + "/")):
        if i:
            say("")
        if folder == shipped.GRIDS:
            say("Families of runs, for `pictorch sweep`:")
        show(list(inside))


def show(rows: Sequence[tuple[str, str]]) -> None:
    """Print a line a row, which a terminal that is too narrow for it gets wrapped."""
    width = max(len(name) for name, _ in rows)
    lines = [f"{name:{width}}  {summary}".rstrip() for name, summary in rows]
    if sys.stdout.isatty():
        columns, indent = shutil.get_terminal_size().columns, " " * (width + 2)
        lines = [textwrap.fill(line, columns, subsequent_indent=indent, break_on_hyphens=False) for line in lines]
    say("\n".join(lines))
