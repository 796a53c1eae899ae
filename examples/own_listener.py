"""Figures of a run to wherever you want them, while it runs.

`api.train_one` takes an object with the methods of `pictorch.engine.progress.Progress`; `Silent` has all of them, to
override what is wanted. Every row is a line of the run's `metrics.jsonl`, and nothing that a listener does changes the
result.
"""

import csv
from pathlib import Path
from typing import Any

from pictorch import api
from pictorch.engine.progress import Silent


class Table(Silent):
    """A CSV file with a row an epoch."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def epoch(self, row: dict[str, Any]) -> None:
        kept = {key: row[key] for key in ("epoch", "lr", "train_loss", "test_error")}
        new = not self.file.exists()
        with self.file.open("a", newline="") as file:
            writer = csv.DictWriter(file, kept)
            if new:
                writer.writeheader()
            writer.writerow(kept)


table = Path("epochs.csv")
table.unlink(missing_ok=True)
api.train_one(api.load_config(None, ["train.epochs=3"]), progress=Table(table))
print(table.read_text(), end="")
