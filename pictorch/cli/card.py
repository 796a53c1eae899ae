"""`pictorch card`: a finished run's model card."""

import shlex
from pathlib import Path

from pictorch import runs
from pictorch.cli.paths import folder_beside_runs, option_path
from pictorch.cli.text import say
from pictorch.config import UserError
from pictorch.reports import model_card, reading
from pictorch.runs import RunDir, RunError

UNKNOWN_LICENCE = "not known to pictorch: ask who gave you the images"


def card(run_dir: str, *, out: str | None) -> None:
    """Write card.md and card.html, and say where."""
    run = reading.read(runs.open(run_dir))
    if run.result is None:
        raise RunError(f"{run.place}: this run is not finished; `{run.directory.resume_command()}` goes on")
    elsewhere = option_path("--out", out)
    folder = run.directory.path if elsewhere is None else folder_beside_runs(elsewhere, run.directory)
    known = about(run.directory)
    check_card(folder / runs.CARD)
    with runs.explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
    if folder != run.directory.path and run.directory.curves.is_file():
        runs.write(folder / run.directory.curves.name, run.directory.curves.read_bytes())
    runs.write(folder / runs.CARD, model_card.as_markdown(run, known).encode())
    runs.write(folder / runs.CARD_PAGE, model_card.as_html(run, known).encode())
    say(f"{folder / runs.CARD} and {runs.CARD_PAGE} beside it")
    if not model_card.evaluation(run, known):
        say(f"With calibration and classes after: pictorch eval {shlex.quote(run_dir)}")


def check_card(path: Path) -> None:
    """Raise RunError for a card that somebody has edited, as cards are meant to be."""
    with runs.explained(path, "read"):
        if path.exists() and not model_card.is_as_written(path.read_text(encoding="utf-8", errors="replace")):
            raise RunError(
                f"{path}: this card was changed by hand and stays as it is; give another --out, or remove it"
            )


def about(run: RunDir) -> model_card.Known:
    """Return what the run's weights and the known data sets say. Raises UserError where the weights are damaged."""
    from safetensors import SafetensorError, safe_open

    from pictorch import data
    from pictorch.models.weights import read_metadata

    if not run.weights.is_file():
        raise UserError(f"{run.weights}: there are no weights here; a run writes them when it is finished")
    try:
        with safe_open(run.weights, framework="np") as file:
            text = (file.metadata() or {}).get("pictorch", "")
    except (SafetensorError, OSError) as error:
        raise UserError(f"{run.weights}: this weights file is damaged: {error}") from None
    metadata = read_metadata(run.weights, text)
    spec = data.SPECS.get(metadata["config"]["data"]["name"]) if "config" in metadata else None
    return model_card.Known(
        classes=tuple(metadata["classes"]),
        title=spec.title if spec else metadata["dataset"],
        licence=spec.licence if spec else UNKNOWN_LICENCE,
        in_channels=metadata["in_channels"],
        image_size=metadata["image_size"],
        sha256=metadata["sha256"],
    )
