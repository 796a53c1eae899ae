"""`pictorch eval`: a finished run on the test images."""

import json
from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pictorch import api, runs
from pictorch.cli.paths import option_path
from pictorch.cli.text import say, show

WIDEST_MATRIX = 20


def evaluate(run_dir: str, words: Sequence[str], *, data_dir: str | None, device: str, as_json: bool) -> None:
    """Print a run's evaluation on the test images; `words` are overrides of `evaluation`."""
    answers = api.evaluate(run_dir, words, data_dir=option_path("--data-dir", data_dir), device=device)
    if as_json:
        say(
            json.dumps(
                {
                    "run": run_dir,
                    "dataset": answers.dataset,
                    "images": answers.images,
                    "views": answers.views,
                    "settings": list(words),
                    "top1": answers.top(1),
                    "top5": answers.top(5),
                    "error": answers.error,
                    "loss": answers.loss,
                    "per_class": answers.per_class(),
                    "confusion": answers.confusion.tolist(),
                }
            )
        )
        return
    trained_on = runs.read_json(runs.open(Path(run_dir)).env).get("dataset")
    if trained_on != answers.dataset:
        say(f"note: the run was trained on {trained_on}, these files are {answers.dataset}")
    say(
        f"{run_dir}: {answers.images:,} test images of {answers.dataset}{runs.of_views(answers.views)}\n"
        f"top-1 {answers.top(1):.2f}%   top-5 {answers.top(5):.2f}%   error {answers.error:.2f}%   "
        f"cross-entropy {answers.loss:.4f}"
    )
    table = Table("class", title="Per class (per cent)", title_justify="left")
    for name in ("images", "recall", "precision", "F1"):
        table.add_column(name, justify="right")
    for row in answers.per_class():
        figures = ["-" if row[key] is None else f"{row[key]:.2f}" for key in ("recall", "precision", "f1")]
        table.add_row(escape(row["class"]), f"{row['images']:,}", *figures)
    show(table)
    matrix = confusion(answers.classes, answers.confusion.tolist())
    if matrix is None:
        say(f"The confusion matrix has {len(answers.classes)} rows; --json prints it.")
    else:
        say("Confusion matrix: rows are true classes, columns answers")
        show(matrix)


def confusion(classes: Sequence[str], counts: list[list[int]]) -> Table | None:
    """Return the confusion matrix with whole row names and counts, and as much of the column names as fits.

    None when it is too wide for the terminal, or has more than WIDEST_MATRIX rows.
    """
    names = max(cell_len(name) for name in classes)
    digits = max(len(str(count)) for row in counts for count in row)
    room = (Console().width - names) // len(classes) - 1
    if len(classes) > WIDEST_MATRIX or room < digits:
        return None
    matrix = Table("", box=box.SIMPLE_HEAD, show_edge=False, padding=0)
    for name in classes:
        matrix.add_column(
            escape(name), justify="right", min_width=digits, max_width=room, no_wrap=True, overflow="crop"
        )
    for name, row in zip(classes, counts, strict=True):
        matrix.add_row(escape(name), *(str(count) if count else "." for count in row))
    return matrix
