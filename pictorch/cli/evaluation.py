"""`pictorch eval`: a finished run on the test images."""

import json
from pathlib import Path

from rich.markup import escape
from rich.table import Table

from pictorch import api, runs
from pictorch.cli.text import show

WIDEST_MATRIX = 20


def evaluate(run_dir: str, *, data_dir: str | None, device: str, as_json: bool) -> None:
    """Print a run's evaluation on the test images."""
    answers = api.evaluate(run_dir, data_dir=data_dir, device=device)
    if as_json:
        print(
            json.dumps(
                {
                    "run": run_dir,
                    "dataset": answers.dataset,
                    "images": answers.images,
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
        print(f"note: the run was trained on {trained_on}, these files are {answers.dataset}")
    print(
        f"{run_dir}: {answers.images:,} test images of {answers.dataset}\n"
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
    if len(answers.classes) > WIDEST_MATRIX:
        print(f"The confusion matrix has {len(answers.classes)} rows; --json prints it.")
        return
    matrix = Table("", title="Confusion matrix: rows are true classes, columns answers", title_justify="left")
    for name in answers.classes:
        matrix.add_column(escape(name[:6]), justify="right", no_wrap=True)
    for name, counts in zip(answers.classes, answers.confusion.tolist(), strict=True):
        matrix.add_row(escape(name), *(str(count) if count else "." for count in counts))
    show(matrix)
