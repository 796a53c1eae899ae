"""`pictorch bench`: how fast this is here, beside the textbook way in the same run."""

import json
from typing import Any

from rich.table import Table

from pictorch import data
from pictorch.cli.paths import option_path
from pictorch.cli.text import say, show
from pictorch.config import UserError, nearest
from pictorch.engine.precision import choose_device

WHAT = ("loader",)


def bench(what: str, *, data_dir: str | None, device: str, as_json: bool) -> None:
    """Print the rows of a benchmark, as a table that fills or as one JSON list."""
    if what not in WHAT:
        raise UserError(f"there is no benchmark {what!r}{nearest(what, WHAT)}")
    from pictorch.bench import loader

    try:
        place = choose_device(device)
    except UserError as error:
        raise UserError(f"--device: {error}") from None
    split, which = loader.images_to_load(data.root(option_path("--data-dir", data_dir)))
    if not as_json:
        say(f"{len(split):,} images of {which} in batches of {loader.BATCH}; textbook: a DataLoader, NumPy transforms")
    rows = list(loader.measure(split, place))
    say(json.dumps(rows)) if as_json else show(table(rows))


def table(rows: list[dict[str, Any]]) -> Table:
    """Return the rows as a table, the ratios last."""
    columns = Table(*("name", "device"), title_justify="left")
    for name in ("ours", "textbook", "unit", "ratio", "spread"):
        columns.add_column(name, justify="right")
    for row in rows:
        baseline = f"{row['baseline']:,} ({row['baseline_workers']} workers)"
        figures = (f"{row['ours']:,}", baseline, row["unit"], f"{row['ratio']:.1f}", f"{100 * row['spread']:.0f}%")
        columns.add_row(row["name"], row["device"], *figures)
    return columns
