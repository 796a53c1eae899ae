"""`pictorch data verify FOLDER`: what is wrong with a folder of images, and what it is like."""

import json
import shlex
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from pictorch.cli.listing import columns
from pictorch.cli.text import say
from pictorch.config import UserError
from pictorch.data.doctor import Copies, Near, Report, examine

MOST_LINES = 10


def verify_folder(path: Path, *, as_json: bool, out: str | None = None) -> None:
    """Look at every image of a folder and print what was found; `out` is a file for all of it, as JSON.

    Exits with 1 if a run cannot read an image or use the folder as it is. Raises UserError for what is no folder.
    """
    console = Console(stderr=True)
    bar = Progress(
        TextColumn("images"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=console, transient=True
    )
    bar.disable = not console.is_terminal
    with bar:
        task = bar.add_task("images", total=None)
        report = examine(path, progress=lambda done, total: bar.update(task, completed=done, total=total))
    text = json.dumps(asdict(report) | {"usable": report.usable}, indent=1)
    if out is not None:
        try:
            Path(out).write_text(f"{text}\n", encoding="utf-8")
        except OSError as error:
            raise UserError(f"--out: {out} cannot be written: {error.strerror}") from None
    # A file's name need not be text.
    say(text if as_json else "\n".join(lines(report)).encode(errors="backslashreplace").decode())
    if not report.usable:
        sys.exit(1)


def lines(report: Report) -> Iterator[str]:
    """Yield the report line by line: what it is like, then what is wrong, then what to do next."""
    total = sum(sum(classes.values()) for classes in report.counts.values())
    yield f"{report.path}: {total:,} readable images"
    yield from (f"note: {note}" for note in report.notes)
    yield ""
    yield classes_table(report)
    if report.sizes:
        yield ""
        rows = [(name, *(f"{value:g}" for value in row)) for name, row in report.sizes.items()]
        yield columns([("", "least", "median", "largest"), *rows])
    if report.traits:
        yield f"kinds: {', '.join(f'{count:,} {trait}' for trait, count in report.traits.items())}"
    for kind, items in report.problems.items():
        yield from section(kind, items)
    yield from section("corrupt files", report.corrupt)
    yield from section("groups of images with the same pixels", [describe_copies(group) for group in report.copies])
    if report.near is None:
        yield "\nnear-duplicates: not looked for among so many images"
    else:
        yield from section("pairs of near-duplicates", [describe_near(pair) for pair in report.near])
    yield from section("classes with less than a tenth of the largest one's images", report.rare)
    yield from section("class names to look at", report.odd_names)
    yield ""
    if not report.usable:
        yield "Not usable as it is: mend or remove what is listed as corrupt or in the way."
    if report.mean and report.std:
        yield f"mean {report.mean}, std {report.std}: {report.statistic}"
        yield f"Next: {training(report)}"


def classes_table(report: Report) -> str:
    """Return the readable images by class and part; of many classes the smallest."""
    parts = [part for part in ("train", "val", "test", "all") if part in report.counts]
    names = sorted({name for part in parts for name in report.counts[part]})
    counts = {name: [report.counts[part].get(name, 0) for part in parts] for name in names}
    shown, more = names, list[tuple[str, ...]]()
    if len(names) > 2 * MOST_LINES:
        shown = sorted(names, key=lambda name: counts[name][0])[:MOST_LINES]
        more = [(f"and {len(names) - MOST_LINES:,} larger ones", *("" for _ in parts))]
    sums = [sum(report.counts[part].values()) for part in parts]
    rows = [(name, *(f"{count:,}" for count in counts[name])) for name in shown]
    return columns([("class", *parts), *rows, *more, ("in all", *(f"{count:,}" for count in sums))])


def section(title: str, items: Sequence[str]) -> Iterator[str]:
    """Yield a heading with the number of items, and the first of them."""
    if items:
        yield f"\n{title}: {len(items):,}"
        yield from (f"  {item}" for item in items[:MOST_LINES])
        if len(items) > MOST_LINES:
            yield f"  and {len(items) - MOST_LINES:,} more; --json lists all"


def describe_copies(group: Copies) -> str:
    return f"{', '.join(group.images[:4])}{' ...' if len(group.images) > 4 else ''}{across(group.parts, group.labels)}"


def describe_near(pair: Near) -> str:
    return f"{pair.cosine:.3f}  {pair.images[0]}, {pair.images[1]}{across(pair.parts, pair.labels)}"


def across(parts: Iterable[str], labels: Iterable[str]) -> str:
    """Return, in parentheses, the parts and the classes of images that should be in one of each."""
    kinds = [
        f"{what} {' and '.join(sorted(names))}"
        for what, names in (("parts", set(parts)), ("classes", set(labels)))
        if len(names) > 1
    ]
    return f"  ({', '.join(kinds)})" if kinds else ""


def training(report: Report) -> str:
    """Return the command that trains on the folder with what was measured."""

    def listed(values: Iterable[float]) -> str:
        return f"[{','.join(f'{value:g}' for value in values)}]"

    assert report.mean is not None
    assert report.std is not None
    mean, std = report.mean[: report.channels], report.std[: report.channels]
    keys = {
        "data.name": report.path if "/" in report.path else f"./{report.path}",
        "data.image_size": str(report.image_size),
        "data.mean": listed(mean),
        "data.std": listed(std),
    }
    if report.channels == 1:
        keys["data.channels"] = "1"
    return "pictorch train " + " ".join(shlex.quote(f"{key}={value}") for key, value in keys.items())
