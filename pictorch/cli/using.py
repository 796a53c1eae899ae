"""`pictorch eval` and `pictorch predict`: a finished run at work."""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from pictorch import api, runs
from pictorch.config import UserError

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
    console = Console()
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
        table.add_row(row["class"], f"{row['images']:,}", *figures)
    console.print(table)
    if len(answers.classes) > WIDEST_MATRIX:
        print(f"The confusion matrix has {len(answers.classes)} rows; --json prints it.")
        return
    matrix = Table("", title="Confusion matrix: rows are true classes, columns answers", title_justify="left")
    for name in answers.classes:
        matrix.add_column(name[:6], justify="right", no_wrap=True)
    for name, counts in zip(answers.classes, answers.confusion.tolist(), strict=True):
        matrix.add_row(name, *(str(count) if count else "." for count in counts))
    console.print(matrix)


def predict(run_dir: str, files: Sequence[str], *, top_k: int, as_json: bool) -> None:
    """Print names and probabilities for image files; bad files are named and skipped, and end with status 2."""
    from pictorch.deploy.predict import Predictor

    predictor = Predictor(Path(run_dir))
    bad = 0
    for file in files:
        try:
            [prediction] = predictor([Path(file)], top_k=top_k)
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            bad += 1
            continue
        if as_json:
            print(json.dumps(asdict(prediction)))
            continue
        print(prediction.source)
        for name, probability in zip(prediction.classes, prediction.probabilities, strict=True):
            print(f"  {100 * probability:6.2f}%  {name}")
    if bad:
        raise UserError(f"{bad} of {len(files)} files could not be read")
