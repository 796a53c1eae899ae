"""The published numbers: every row of the three seed documents' tables, and the papers' numbers quoted in them.

They are `ledger/published.csv` (ledger/README.md has the columns), which is never edited to fit a result.
"""

import csv
import functools
from dataclasses import dataclass
from pathlib import Path

from pictorch.config import UserError, nearest
from pictorch.config.keywords import show


@dataclass(frozen=True)
class Published:
    """One published number, in per cent, and the configuration that it is a claim about.

    `value` is None where a document's cell is empty, `n` where the number of runs is not printed. `training_time` and
    `params` are as printed. `overrides` are "key=value" on top of `recipe`.
    """

    id: str
    document: str
    table: str
    row: str
    model: str
    dataset: str
    recipe: str
    overrides: tuple[str, ...]
    source: str
    metric: str
    statistic: str
    n: int | None
    value: float | None
    spread: float | None
    epochs: int
    training_time: str
    params: str
    command: str
    caveats: str


def path() -> Path:
    """Return published.csv: inside an installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parent.parent
    shipped = package / "ledger" / "published.csv"
    return shipped if shipped.is_file() else package.parent / "ledger" / "published.csv"


@functools.cache
def rows() -> tuple[Published, ...]:
    """Return all published numbers, in the order of the documents."""
    with path().open(encoding="utf-8", newline="") as file:
        return tuple(parse(row) for row in csv.DictReader(file))


def parse(row: dict[str, str]) -> Published:
    """Return a line of published.csv with its numbers as numbers and its overrides apart."""
    text = {key: row[key] for key in row.keys() - {"overrides", "n", "value", "spread", "epochs"}}
    return Published(
        **text,
        overrides=tuple(row["overrides"].split()),
        n=int(row["n"]) if row["n"] else None,
        value=float(row["value"]) if row["value"] else None,
        spread=float(row["spread"]) if row["spread"] else None,
        epochs=int(row["epochs"]),
    )


def find(id: str) -> Published:
    """Return the published number of this id. Raises UserError with the nearest ids for an unknown one."""
    known = {number.id: number for number in rows()}
    if id in known:
        return known[id]
    inside = [other for other in known if id and id in other]
    raise UserError(f"no published number {show(id)}{nearest(id, inside or known)}\n`pictorch claims` lists them")
