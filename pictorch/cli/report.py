"""`pictorch report`: run directories as one HTML page that opens offline, with tables and figures beside it."""

import io
import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pictorch import runs
from pictorch.cli.paths import option_path
from pictorch.cli.text import say
from pictorch.config import UserError
from pictorch.experiments.stats import t_interval
from pictorch.reports import page, reading, study, tables, values
from pictorch.reports.reading import Run
from pictorch.runs import RunError

if TYPE_CHECKING:
    from pictorch import data

DEFAULT_PLACE = "runs"
DEFAULT_OUT = "runs/report"
PAGE = "report.html"
MOST_NOTES = 20  # of those printed; the page has all
LARGEST_PICTURE = 96  # pixels; what is larger is shown that large


def report(places: Sequence[str], *, out: str | None, as_json: bool) -> None:
    """Write the report of the runs at or below the places into a folder, and say what is in it."""
    folder = Path(option_path("--out", out) or DEFAULT_OUT)
    check_out(folder)
    looked = [runs.directory(place) for place in places or [DEFAULT_PLACE]]
    if not places and not looked[0].is_dir():
        raise UserError(f"{DEFAULT_PLACE}: there is no such folder here; name run directories, or a folder of them")
    found, refused = reading.read_all(looked)
    made = values.make(found, refused, [reading.printable(place) for place in looked], t_interval)
    of_page = values.page_values(made, class_names, pictures_of)
    texts, files = study.draw(made)
    write(folder, files | contents(made, of_page, texts, files))
    if as_json:
        shown = values.without_nan(values.tables(made)) | {"notes": of_page["notes"]}
        say(json.dumps(shown | {"report": str(folder / PAGE)}, indent=1))
        return
    say("\n".join(summary(of_page, folder, texts)))


def contents(
    made: values.Report, of_page: Mapping[str, Any], texts: Mapping[str, str], files: Mapping[str, bytes]
) -> dict[str, bytes]:
    """Return {file: bytes} of tables and page, the page last; `texts` are {figure: what is on it} of the `files`."""
    title = f"Report: {named(made.places)}"
    beside = {
        "report.md": tables.as_markdown(of_page, title, texts).encode(),
        "report.csv": tables.as_csv(of_page).encode(),
        "runs.csv": tables.runs_csv(made.runs).encode(),
    }
    return beside | {PAGE: page.page(of_page, title, {**files, **beside}).encode()}


def named(places: Sequence[str]) -> str:
    """Return the last parts of the first three places, and how many more there are."""
    names = ", ".join(Path(place).name or place for place in places[:3])
    return names + (f" and {len(places) - 3} more" if len(places) > 3 else "")


def summary(shown: Mapping[str, Any], folder: Path, texts: Mapping[str, str]) -> list[str]:
    """Return what is printed: the best configurations, what counts for nothing and why, and where the page lies."""
    ranked = [row for row in shown["configurations"] if row["n"]]
    lines = []
    for dataset in shown["protocol"]:
        best = [row for row in ranked if row["dataset"] == dataset]
        if best:
            count = f"{len(best)} configuration{'s' * (len(best) > 1)}"
            lines.append(f"{dataset}: {count}, test errors in per cent (mean of n seeds)")
        for row in best[:5]:
            spread = "" if row["low"] is None else f", 95% {row['low']:.2f} to {row['high']:.2f}"
            lines.append(f"  {row['mean']:6.2f}  n {row['n']}{spread}  {row['configuration']}")
    if shown["incomplete"]:
        lines.append(f"{len(shown['incomplete'])} incomplete: listed in the page, ranked nowhere")
    told = [f"not reported: {row['run']}: {row['reason']}" for row in shown["not_reported"]]
    told += [f"note: {note}" for note in shown["notes"]]
    lines += told[:MOST_NOTES]
    if len(told) > MOST_NOTES:
        lines.append(f"and {len(told) - MOST_NOTES} more such lines: the page has all")
    lines.append(f"{folder / PAGE}: opens in any browser, without a network")
    lines.append(f"beside it report.md, report.csv, runs.csv and {len(texts)} figures (SVG and PNG)")
    return lines


def check_out(folder: Path) -> None:
    """Raise RunError unless a report can be written into the folder: a new or empty one, or an earlier report's."""
    with runs.explained(folder, "read"):
        if not folder.exists() or is_report(folder):
            return
        if not folder.is_dir():
            raise RunError(f"{folder}: this is a file, not a folder; give another --out")
        if any(folder.iterdir()):
            raise RunError(f"{folder}: this folder holds something that is no report; give another --out")


def is_report(folder: Path) -> bool:
    """Return whether a folder has a page of ours in it."""
    path = folder / PAGE
    return path.is_file() and page.GENERATOR in head(path)


def head(path: Path) -> str:
    with path.open(encoding="utf-8", errors="replace") as file:
        return file.read(20_000)


def write(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write the files, the page last; those of an earlier report that are not among them are removed."""
    with runs.explained(folder):
        old = head(folder / PAGE).partition(page.FILES)[2].partition('"')[0].split() if is_report(folder) else []
        (folder / "figures").mkdir(parents=True, exist_ok=True)
        for name in old:
            inside = (folder / name).resolve().is_relative_to(folder.resolve())
            if name not in files and inside:
                (folder / name).unlink(missing_ok=True)
    for name, content in files.items():
        runs.write(folder / name, content)


def class_names(run: Run) -> Sequence[str] | None:
    """Return the names of a run's classes, which stand beside its weights; None where these are missing or damaged."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(run.directory.weights, framework="np") as file:
            names = json.loads((file.metadata() or {})["pictorch"])["classes"]
    except (SafetensorError, OSError, KeyError, TypeError, ValueError):
        return None
    return [reading.printable(name) for name in names] if isinstance(names, list) else None


def pictures_of(run: Run, places: Sequence[int]) -> dict[int, bytes]:
    """Return test images of a run's data set as PNG, {place in the test part: bytes}.

    Raises UserError where the files are not there any more, or are others.
    """
    root = run.env.get("data_root")
    settings = run.config.data.model_dump(mode="json", include=set(values.OPENING))
    settings["dir"] = root if isinstance(root, str) else run.config.data.dir
    found = test_part(
        json.dumps({"data": settings, "train": {"seed": run.seed}} if run.own_split else {"data": settings})
    )
    if isinstance(found, UserError):
        raise found
    part, checksum = found
    if checksum != run.env.get("data_checksum"):
        raise UserError(f"the files of {run.dataset} under {root} are no longer those that the run was tested on")
    return {place: picture(part, place) for place in places if 0 <= place < len(part)}


@cache
def test_part(settings: str) -> "tuple[data.Part, str] | UserError":
    """Return the test part of a configuration's data set and its checksum, or why there is none; opened once."""
    from pictorch.config import Config
    from pictorch.engine import inputs

    try:
        dataset = inputs.open_dataset(Config.model_validate_json(settings))
    except UserError as error:
        return error
    return dataset.test, dataset.checksum


def picture(part: "data.Part", place: int) -> bytes:
    """Return a test image as PNG, at most LARGEST_PICTURE pixels large. Raises UserError where it cannot be read."""
    import numpy as np
    from PIL import Image

    from pictorch import data

    if isinstance(part, data.Split):
        image = part.images[place]
    elif callable(part.read):
        image = part.read(place)
    else:
        raise UserError("the test images come one after another and cannot be picked out")
    pixels = np.ascontiguousarray(image.numpy().transpose(1, 2, 0))
    drawn = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    drawn.thumbnail((LARGEST_PICTURE, LARGEST_PICTURE))
    buffer = io.BytesIO()
    drawn.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()
