"""`pictorch explain`: where a finished run finds the evidence for its answers: pictures, numbers, tests of them."""

import io
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from torch import Tensor

from pictorch import data, runs
from pictorch.cli.paths import check_files, option_path
from pictorch.cli.text import say
from pictorch.config import UserError, load
from pictorch.data import own
from pictorch.data.decode import ImageError
from pictorch.data.folder import image_files
from pictorch.data.geometry import evaluation_crop
from pictorch.deploy import explain as deploy
from pictorch.deploy.explain import Explanation, Method
from pictorch.deploy.overlay import as_png, figure, overlay, picture
from pictorch.deploy.predict import Predictor
from pictorch.engine import inputs
from pictorch.engine.evaluate import open_dataset
from pictorch.runs import RunDir, RunError

DEFAULT_OUT = "explain"
TABLE, MAPS = "explain.json", "heatmaps.npz"
MADE_BY = "pictorch explain"
LONGEST_NAME = 80  # characters of a file's name that its pictures keep, and of a class's in a title


@dataclass(frozen=True)
class Source:
    """An image to explain: its name in words, that of its pictures, how to get its pixels, its true class if known."""

    name: str
    stem: str
    pixels: Callable[[], Tensor]
    label: str | None


def explain(
    run_dir: str,
    images: Sequence[str],
    *,
    test: str | None,
    mistakes: int | None,
    target: str | None,
    method: str,
    layer: str | None,
    side: int | None,
    patch: int | None,
    checked: bool,
    out: str | None,
    data_dir: str | None,
    as_json: bool,
) -> None:
    """Write and print why a run answers as it does; bad files are named and skipped, and end with status 2."""
    folder = Path(option_path("--out", out) or DEFAULT_OUT)
    check_out(folder)
    check_files(images)
    run = runs.open(run_dir)
    predictor = Predictor(run.path)
    class_index = None if target is None else deploy.class_number(predictor.classes, target)
    sources, bad = named_apart(files(predictor, images)), 0
    if test is not None or mistakes is not None:
        numbers = [*test_numbers(test), *mistaken(run, mistakes)]
        sources = named_apart([*sources, *test_images(run, predictor, numbers, option_path("--data-dir", data_dir))])
    if not sources:
        raise UserError("expected image files, a folder of them, --test 0,5,17 or --mistakes 8: there is nothing here")
    rows: list[dict[str, Any]] = []
    found: list[Explanation] = []
    for source in sources:
        try:
            made = deploy.explain(
                predictor,
                source.pixels(),
                class_index,
                method=cast(Method, method),
                layer=layer,
                side=side,
                patch=patch,
                checked=checked,
            )
        except ImageError as error:
            if len(sources) == 1:
                raise
            print(f"error: {error}", file=sys.stderr)
            bad += 1
            continue
        if not found:
            begin(folder, sources)
        found.append(made)
        rows.append(row_of(source, made, predictor.classes))
        for name, content in pictures(source, made, rows[-1]).items():
            runs.write(folder / name, content)
        say(json.dumps(rows[-1]) if as_json else "\n".join(lines_of(rows[-1], made)))
    if found:
        finish(folder, run, rows, found)
        if not as_json:
            told(folder, predictor, found)
    if bad:
        raise UserError(f"{bad} of {len(sources)} images could not be read")


def files(predictor: Predictor, places: Sequence[str]) -> Iterator[Source]:
    """Yield the image files among the places and in folders among them, those in the order of their names."""
    for place in places:
        path = Path(os.path.expanduser(place))
        if not path.is_dir():
            yield file(predictor, path)
            continue
        yield from (file(predictor, each) for each in image_files(path))


def file(predictor: Predictor, path: Path) -> Source:
    folder = path.absolute().parent.name
    label = folder if folder in predictor.classes else None
    return Source(str(path), path.stem, lambda: predictor.pixels(path), label)


def named_apart(sources: Sequence[Source] | Iterator[Source]) -> list[Source]:
    """Return the sources with stems that can be names of files, no two of them the same."""
    taken: set[str] = {Path(TABLE).stem, Path(MAPS).stem}
    apart = []
    for source in sources:
        stem = printable(source.stem)
        while len(stem.encode()) > LONGEST_NAME:
            stem = stem[:-1]
        name, number = stem, 2
        while {name.lower(), f"{name}-overlay".lower()} & taken:
            name, number = f"{stem}-{number}", number + 1
        taken |= {name.lower(), f"{name}-overlay".lower()}
        apart.append(Source(source.name, name, source.pixels, source.label))
    return apart


def test_numbers(words: str | None) -> list[int]:
    """Return the numbers of --test. Raises UserError for what is none."""
    if words is None:
        return []
    numbers = words.replace(" ", "").split(",")
    if not all(number.isascii() and number.isdigit() for number in numbers):
        raise UserError(f"--test: expected numbers of test images with commas between, as in 0,5,17, got {words!r}")
    return [int(number) for number in numbers]


def mistaken(run: RunDir, most: int | None) -> list[int]:
    """Return the numbers of the test images that the run was wrong of and surest, surest first."""
    if most is None:
        return []
    try:
        numbers = [int(row["index"]) for row in runs.read_json(run.mistakes)["mistakes"]]
    except (ValueError, KeyError, TypeError) as error:
        if isinstance(error, RunError):
            raise
        raise RunError(f"{run.mistakes}: this is not the list of mistakes that the run wrote") from None
    if not numbers:
        raise UserError(f"--mistakes: {run.path} made none")
    return numbers[:most]


def test_images(run: RunDir, predictor: Predictor, numbers: Sequence[int], data_dir: str | None) -> Iterator[Source]:
    """Yield test images of the run's data set, as its predictions number them.

    Raises UserError where its files are not there, are no longer those of the run, or have no such image.
    """
    config = load(run.config).config
    dataset = open_dataset(run, config, predictor.metadata, data_dir)
    if dataset.checksum != runs.read_json(run.env).get("data_checksum"):
        raise UserError(f"the files of {dataset.name} are no longer those that the run was tested on")
    part = inputs.some(dataset.test, config)
    if isinstance(part, data.Images) and not callable(part.read):
        raise UserError("--test: the test images come one after another and cannot be picked out")
    size = predictor.metadata["image_size"]

    def pixels(number: int) -> Tensor:
        if isinstance(part, data.Split):
            return part.images[number]
        assert callable(part.read)
        return evaluation_crop(part.read(number), size, own.evaluation_resize(size))

    for number in numbers:
        if number >= len(part):
            raise UserError(f"--test: expected numbers from 0 to {len(part) - 1:,}, got {number}")
        label = predictor.classes[int(part.labels[number])]
        name = f"test image {number} of {dataset.name}"
        yield Source(name, f"test-{number:05}", lambda number=number: pixels(number), label)  # type: ignore[misc]


def check_out(folder: Path) -> None:
    """Raise RunError unless explanations can be written into the folder: a new or empty one, or earlier ones'."""
    with runs.explained(folder, "read"):
        there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
        if not there.is_dir():
            raise RunError(f"{there}: this is a file, not a folder; give another --out")
        if not os.access(there, os.W_OK | os.X_OK):
            raise RunError(f"{folder}: cannot write here: {there} is not writable; give another --out")
        if folder.exists() and any(folder.iterdir()) and earlier(folder) is None:
            raise RunError(f"{folder}: this folder holds something that is no explanation; give another --out")


def earlier(folder: Path) -> list[str] | None:
    """Return the names of the files that earlier explanations left in the folder; None where there are no such."""
    try:
        table = json.loads((folder / TABLE).read_text(encoding="utf-8"))
        names = table["files"] if table["made_by"] == MADE_BY else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return [name for name in names if isinstance(name, str)] if isinstance(names, list) else None


def begin(folder: Path, sources: Sequence[Source]) -> None:
    """Make the folder, take away what earlier explanations left there, and say whose the files to come are.

    Raises RunError for a file of somebody else's in the place of one of them, and for an earlier one among the sources.
    """
    planned = [MAPS, *(f"{source.stem}{ending}.png" for source in sources for ending in ("", "-overlay"))]
    with runs.explained(folder):
        old = earlier(folder) or []
        asked = {Path(source.name).resolve() for source in sources}
        if clash := [name for name in old if (folder / name).resolve() in asked]:
            raise RunError(
                f"{folder / clash[0]}: this is of the earlier explanations that new ones here replace, and is to be "
                "explained itself; give another --out"
            )
        foreign = [name for name in planned if name not in old and (folder / name).exists()]
        if foreign:
            raise RunError(f"{folder / foreign[0]}: this is no file of earlier explanations; give another --out")
        folder.mkdir(parents=True, exist_ok=True)
        for name in old:
            if Path(name).name == name:
                (folder / name).unlink(missing_ok=True)
    runs.write_json(folder / TABLE, {"made_by": MADE_BY, "files": planned, "images": []})


def finish(folder: Path, run: RunDir, rows: Sequence[dict[str, Any]], found: Sequence[Explanation]) -> None:
    """Write the maps of all images, and last the table."""
    maps = {"heat": [each.heat for each in found], "values": [each.values for each in found]}
    if all(each.drops is not None for each in found):
        maps["drops"] = [each.drops for each in found if each.drops is not None]
    buffer = io.BytesIO()
    arrays: dict[str, Any] = {name: np.stack([each.numpy() for each in all]) for name, all in maps.items()}
    np.savez_compressed(buffer, **arrays)
    runs.write(folder / MAPS, buffer.getvalue())
    written = [MAPS, *(row[key] for row in rows for key in ("figure", "overlay"))]
    table = {"made_by": MADE_BY, "run": str(run.path), "files": written, "images": list(rows)}
    runs.write_json(folder / TABLE, table)


def row_of(source: Source, made: Explanation, classes: Sequence[str]) -> dict[str, Any]:
    """Return what is known of an explanation, as plain values."""
    check = made.check
    return {
        "image": source.name,
        "label": source.label,
        "predicted": classes[made.predicted],
        "class": classes[made.target],
        "probability": made.probability,
        "method": made.method,
        "layer": made.layer,
        "empty": not bool(made.heat.any()),
        "check": None if check is None else {**vars(check), "holds": check.holds},
        "figure": f"{source.stem}.png",
        "overlay": f"{source.stem}-overlay.png",
    }


def pictures(source: Source, made: Explanation, row: dict[str, Any]) -> dict[str, bytes]:
    """Return {file: PNG}: the figure with image, map and occlusion, and the overlay alone."""
    over = overlay(made.pixels, made.heat)
    panels = [("image", picture(made.pixels)), (f"{made.method}: {made.layer}", over)]
    if made.drops is not None and made.method != "occlusion":
        fall = made.drops.relu()
        panels.append(("occlusion: fall of the probability", overlay(made.pixels, deploy.scaled(fall))))
    title = f"{shortened(source.name)}\n{answer(row)}"
    return {row["figure"]: figure(panels, title), row["overlay"]: as_png(over)}


def answer(row: dict[str, Any]) -> str:
    """Return the class that the map is of, its probability, and where they are others the answer and the truth."""
    text = f"{shortened(row['class'])} {100 * row['probability']:.2f}%"
    if row["predicted"] != row["class"]:
        text += f", answered {shortened(row['predicted'])}"
    return text if row["label"] is None else f"{text}, true: {shortened(row['label'])}"


def printable(name: str) -> str:
    """Return the name with _ for what fonts have no letter for: line breaks, and bytes that are no UTF-8."""
    return "".join(letter if letter.isprintable() else "_" for letter in name)


def shortened(name: str) -> str:
    name = printable(name)
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 3]}..."


def lines_of(row: dict[str, Any], made: Explanation) -> list[str]:
    """Return what is printed of an image: the answer, what the map is of, and the check."""
    lines = [row["image"], f"  {answer(row)}; {row['method']}: {row['layer']}"]
    if row["empty"]:
        lines.append("  the map is empty: nothing that it is made of raises this class")
    if (check := made.check) is not None:
        agreement = "" if check.agreement is None else f"agreement with occlusion {check.agreement:+.2f}, "
        lines.append(
            f"  {agreement}deletion {check.deletion:.3f} (random {check.random_deletion:.3f}), "
            f"insertion {check.insertion:.3f} (random {check.random_insertion:.3f}): "
            f"{sum(check.holds.values())} of {len(check.holds)} tests hold"
        )
    return lines


def told(folder: Path, predictor: Predictor, found: Sequence[Explanation]) -> None:
    """Print where everything lies, and what a reader of the maps should know."""
    if predictor.views != "one":
        say(f"note: the run answers by views {predictor.views}; maps and probabilities here are of the image alone")
    if found[0].method == "rollout":
        say("note: attention rollout is the same for every class")
    say(f"{folder}: for each image a figure and a plain overlay, besides {MAPS} and {TABLE}")
