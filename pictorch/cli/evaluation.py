"""`pictorch eval`: a finished run's evaluation, printed, as one JSON and as one page."""

import datetime
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape
from rich.table import Table

import pictorch
from pictorch import api, runs
from pictorch.cli.paths import folder_beside_runs, option_path
from pictorch.cli.text import say, show
from pictorch.config import UserError
from pictorch.reports import evaluation, protocol, reading
from pictorch.reports.values import without_nan
from pictorch.runs import RunDir, RunError

WIDEST_MATRIX = 20
SAME_ANSWERS = ("pictorch", "weights_sha256", "settings", "precision", "images", "loss")
MOST_CLASSES = 40  # of those printed; the JSON and the page have all


def evaluate(
    run_dir: str,
    words: Sequence[str],
    *,
    corruptions: str | None,
    foreign: Sequence[str],
    frost_dir: str | None,
    out: str | None,
    data_dir: str | None,
    device: str,
    as_json: bool,
) -> None:
    """Print a run's evaluation on the test images, and write it as evaluation.json and evaluation.html.

    `words` are overrides of `evaluation`: what is answered otherwise than the run says goes to `out` alone.
    """
    run = runs.open(run_dir)
    folder = place(run, words, option_path("--out", out))
    read = reading.read(run)  # before the work, which what is missing in the run would make vain
    examined = api.examine(
        run.path,
        words,
        corruptions=named(corruptions),
        foreign=foreign,
        frost_dir=option_path("--frost-dir", frost_dir),
        data_dir=option_path("--data-dir", data_dir),
        device=device,
        told=lambda text: print(text, file=sys.stderr),
    )
    read = replace(read, config=examined.config)
    values = made(run_dir, words, read, examined.values)
    earlier = keep(folder, values)
    try:
        notes = "\n".join(written(folder, run, values, read))
    finally:
        # Also where it cannot be written: corruptions take minutes.
        if as_json:
            say(json.dumps(values))
        else:
            printed(values, read)
    notes = "\n".join([*earlier, notes])
    if as_json:
        print(notes, file=sys.stderr)
    else:
        say(notes)


def named(corruptions: str | None) -> tuple[str, ...]:
    """Return the corruptions that the option names: all, or some of them with commas between."""
    from pictorch.data.corruptions import NAMES

    if corruptions is None:
        return ()
    return NAMES if corruptions == "all" else tuple(dict.fromkeys(corruptions.replace(" ", "").split(",")))


def place(run: RunDir, words: Sequence[str], out: str | None) -> Path | None:
    """Return the folder that the evaluation is written into; None for one that was asked for in passing.

    Raises RunError for a folder that holds something else.
    """
    if out is None:
        return None if words else run.path
    return folder_beside_runs(out, run)


def made(run_dir: str, words: Sequence[str], run: reading.Run, examined: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of evaluation.json."""
    values = {
        "run": run_dir,
        "settings": list(words),
        "pictorch": pictorch.__version__,
        "made": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        **examined,
    }
    return dict(without_nan(values | {"protocol": protocol.card(run, values)}))


def keep(folder: Path | None, values: dict[str, Any]) -> list[str]:
    """Take over what an earlier evaluation in the folder measured in minutes and this one was not asked for.

    Only where it is of the same answers, by the same version. Returns what is to be said of it.
    """
    try:
        before = runs.read_json(folder / runs.EVALUATION) if folder else {}
    except RunError:
        return []
    said = []
    if all(key in before and before[key] == values[key] for key in SAME_ANSWERS):
        for key in ("corruptions", "out_of_distribution"):
            if before.get(key) and not values[key]:
                values[key], since = before[key], before.get("kept", {}).get(key, before.get("made"))
                values.setdefault("kept", {})[key] = since
                said.append(f"{key.replace('_', ' ')}: kept from the evaluation of {since}, which had the same answers")
    return said


def written(folder: Path | None, run: RunDir, values: dict[str, Any], read: reading.Run) -> list[str]:
    """Write evaluation.json and the page into the folder; return what is to be said of it."""
    from pictorch.cli.report import pictures_of

    if folder is None:
        return ["With settings of its own this evaluation is written nowhere; --out DIR writes it."]
    try:
        pictures, why = pictures_of(read, evaluation.needed(values)), ""
    except UserError as error:
        pictures, why = {}, f"The page has no pictures: {error}"
    title = f"{read.recipe}, seed {read.seed}"
    try:
        with runs.explained(folder):
            folder.mkdir(parents=True, exist_ok=True)
        runs.write_json(folder / runs.EVALUATION, values)
        runs.write(folder / runs.EVALUATION_PAGE, evaluation.page(values, title, pictures).encode())
    except RunError as error:
        if folder != run.path:
            raise
        return [f"Not written: {error}; --out DIR writes it elsewhere."]
    said = [f"{folder / runs.EVALUATION_PAGE}: all of it as a page, with pictures; {runs.EVALUATION} beside it"]
    return [*said, *([why] if why else [])]


def printed(values: Mapping[str, Any], run: reading.Run) -> None:
    """Print an evaluation."""
    trained_on = run.env.get("dataset")
    if trained_on != values["dataset"]:
        say(f"note: the run was trained on {trained_on}, these files are {values['dataset']}")
    if not (run.result or {}).get("complete", True):
        say("note: this run is incomplete: it was cut short by train.max_steps or evaluation.max_images")
    say(
        f"{values['run']}: {values['images']:,} test images of {values['dataset']}{runs.of_views(values['views'])}\n"
        f"top-1 {values['top1']:.2f}%   top-5 {values['top5']:.2f}%   error {values['error']:.2f}%   "
        f"cross-entropy {values['loss']:.4f}"
    )
    show(scores(values))
    table = Table("class", title="Per class (per cent)", title_justify="left")
    for name in ("images", "recall", "precision", "F1"):
        table.add_column(name, justify="right")
    for row in values["per_class"][:MOST_CLASSES]:
        figures = ["-" if row[key] is None else f"{row[key]:.2f}" for key in ("recall", "precision", "f1")]
        table.add_row(escape(row["class"]), f"{row['images']:,}", *figures)
    show(table)
    if len(values["per_class"]) > MOST_CLASSES:
        say(f"and {len(values['per_class']) - MOST_CLASSES} more classes: the page has them")
    matrix = confusion([row["class"] for row in values["per_class"]], values["confusion"])
    if matrix is None:
        say(f"The confusion matrix has {len(values['per_class'])} rows; --json prints it.")
    else:
        say("Confusion matrix: rows are true classes, columns answers")
        show(matrix)
    if values["corruptions"]:
        show(corrupted(values["corruptions"]))
        if values["corruptions"]["frost"]:
            say(f"Frost is {values['corruptions']['frost']}.")
    for each in values["out_of_distribution"]:
        aurocs = ", ".join(f"{score} {of['auroc']:.2f}%" for score, of in each["scores"].items())
        say(f"AUROC against {each['images']:,} images of {each['dataset']}: {aurocs}")
    doubtful = values["label_suspects"]["count"]
    say(f"Labels that may be wrong: {doubtful:,} of {values['images']:,}" + (": the page shows them" * bool(doubtful)))
    show(card(values["protocol"]))


def scores(values: Mapping[str, Any]) -> Table:
    """Return accuracies, scores and calibration errors with their intervals, and with a temperature where one is."""
    calibration, scaled = values["calibration"], values["temperature"]
    of_answers, of_scores = values["intervals"], calibration["intervals"]
    table = Table("", title=f"{of_answers['level']:g}% intervals of a bootstrap over images", title_justify="left")
    table.add_column("", justify="right")
    table.add_column("interval", justify="right")
    if scaled["value"] is not None:
        table.add_column(f"temperature {scaled['value']:.3f}", justify="right")
    rows = [
        ("top-1 accuracy", "%", 2, values["top1"], of_answers["top1"], None),
        ("top-5 accuracy", "%", 2, values["top5"], of_answers["top5"], None),
        ("test error", "%", 2, values["error"], [100 - end for end in reversed(of_answers["top1"])], None),
        ("cross-entropy (NLL)", "", 4, calibration["nll"], of_scores["nll"], scaled.get("nll")),
        ("Brier score", "", 4, calibration["brier"], of_scores["brier"], scaled.get("brier")),
        ("calibration error", "%", 2, calibration["ece"], of_scores["ece"], scaled.get("ece")),
        ("  adaptive bins", "%", 2, calibration["ece_adaptive"], of_scores["ece_adaptive"], scaled.get("ece_adaptive")),
    ]
    for name, unit, digits, value, ends, after in rows:
        cells = [f"{value:.{digits}f}{unit}", f"{ends[0]:.{digits}f} to {ends[1]:.{digits}f}"]
        if scaled["value"] is not None:
            cells.append("" if after is None else f"{after:.{digits}f}{unit}")
        table.add_row(name, *cells)
    return table


def corrupted(found: Mapping[str, Any]) -> Table:
    """Return the test errors under corruption."""
    mean = f"mean {found['mean_error']:.2f}%, clean {found['clean_error']:.2f}%"
    table = Table("corruption", title=f"Test error (per cent) at five severities: {mean}", title_justify="left")
    for severity in [*map(str, found["severities"]), "mean"]:
        table.add_column(severity, justify="right")
    for name, errors in found["errors"].items():
        table.add_row(name, *(f"{error:.2f}" for error in [*errors, found["means"][name]]))
    return table


def card(aspects: Mapping[str, str]) -> Table:
    """Return the protocol card."""
    table = Table("protocol", box=box.SIMPLE_HEAD, show_edge=False, title_justify="left")
    table.add_column("")
    for aspect, words in aspects.items():
        table.add_row(aspect, escape(words))
    return table


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
