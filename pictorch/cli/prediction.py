"""`pictorch predict`: a finished run, or a file that was exported of one, on one's own images."""

import contextlib
import csv
import io
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rich.cells import cell_len
from rich.console import Console
from rich.progress import Progress

from pictorch import runs
from pictorch.cli.paths import check_files
from pictorch.cli.text import say
from pictorch.config import UserError

if TYPE_CHECKING:
    from PIL.Image import Image

    from pictorch.deploy.predict import Prediction

STDIN = "-"
MOST_IN_BLOCKS = 10  # images that are told in blocks of lines; of more each has one line
WIDEST_NAME = 60
Format = Literal["table", "json", "csv"]


def predict(run_dir: str, files: Sequence[str], *, top_k: int, form: Format) -> None:
    """Print names and probabilities for image files, those in folders, and what standard input gives.

    Bad files are named and skipped, and end with status 2.
    """
    from pictorch.deploy.exported import predictor as opened
    from pictorch.deploy.predict import name_of

    check_files(files)
    predictor = opened(runs.directory(run_dir))
    sources, faults = listed(files)
    for fault in faults:
        print(f"error: {fault}", file=sys.stderr)
    write = printer(form, [name_of(source) for source in sources], min(top_k, len(predictor.classes)))
    bad, asked = len(faults), len(faults) + len(sources)
    console = Console(stderr=True)
    bar = Progress(console=console, disable=not console.is_terminal or len(sources) <= MOST_IN_BLOCKS, transient=True)
    with bar, contextlib.closing(predictor.each(sources, top_k=top_k)) as found:
        task = bar.add_task("images", total=len(sources))
        for prediction in found:
            if isinstance(prediction, UserError):
                if asked == 1:
                    raise prediction
                bad += 1
                print(f"error: {prediction}", file=sys.stderr)
            else:
                write(prediction)
            bar.advance(task)
    if bad:
        raise UserError(f"{bad:,} of {asked:,} files could not be read")


def listed(files: Sequence[str]) -> "tuple[list[Path | Image], list[UserError]]":
    """Return the files that the command names: themselves, all images in a folder, what standard input gives; and what
    is wrong with folders that have none. Raises UserError where that is all."""
    from pictorch.data.folder import image_files

    found: list[Path | Image] = []
    faults = []
    for file in files:
        try:
            if file == STDIN:
                found += of_stdin()
            elif os.path.isdir(file):
                found += image_files(Path(file))
            else:
                found.append(Path(file))
        except UserError as error:
            faults.append(error)
    if faults and not found:
        raise UserError("\n".join(map(str, faults)))
    return found, faults


def of_stdin() -> "Iterator[Path | Image]":
    """Yield the image that standard input is, or else the files that it lists: a line each, or with NUL between."""
    from PIL import Image, UnidentifiedImageError

    content = sys.stdin.buffer.read()
    with contextlib.suppress(UnidentifiedImageError):
        image = Image.open(io.BytesIO(content))
        setattr(image, "filename", "standard input")  # noqa: B010 - Pillow declares it in some versions alone
        yield image
        return
    separator = b"\0" if b"\0" in content else b"\n"
    names = [os.fsdecode(name.rstrip(b"\r") if separator == b"\n" else name) for name in content.split(separator)]
    if not any(names):
        raise UserError(f"{STDIN}: standard input is empty; expected an image, or names of image files")
    yield from (Path(name) for name in names if name)


def printer(form: Format, names: Sequence[str], top_k: int) -> "Callable[[Prediction], None]":
    """Return what prints one prediction; `names` are those of all images."""
    if form == "json":
        return lambda prediction: say(json.dumps(asdict(prediction)))
    if form == "csv":
        ranks = [f"{column}_{rank}" for rank in range(1, top_k + 1) for column in ("class", "probability")]
        say(csv_line(["source", *ranks]))
        return lambda prediction: say(csv_line([prediction.source, *alternating(prediction)]))
    if len(names) <= MOST_IN_BLOCKS:
        return lambda prediction: say("\n".join([prediction.source, *blocks(prediction)]))
    width = min(WIDEST_NAME, max(map(cell_len, names)))
    return lambda prediction: say(f"{prediction.source:<{width}}  {'  '.join(inline(prediction))}")


def csv_line(cells: Sequence[object]) -> str:
    buffer = io.StringIO()
    # Quoted is what has one of the terminator's characters in it, as names of files may.
    csv.writer(buffer, lineterminator="\r\n").writerow(cells)
    return buffer.getvalue().removesuffix("\r\n")


def alternating(prediction: "Prediction") -> list[object]:
    return [cell for pair in zip(prediction.classes, prediction.probabilities, strict=True) for cell in pair]


def blocks(prediction: "Prediction") -> list[str]:
    pairs = zip(prediction.classes, prediction.probabilities, strict=True)
    return [f"  {100 * probability:6.2f}%  {name}" for name, probability in pairs]


def inline(prediction: "Prediction") -> list[str]:
    pairs = zip(prediction.classes, prediction.probabilities, strict=True)
    return [f"{100 * probability:6.2f}% {name}" for name, probability in pairs]
