"""The report's tables as Markdown and as CSV."""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pictorch.reports.results import hours, markdown

Row = Mapping[str, Any]
RUN_COLUMNS = ("run", "recipe", "dataset", "seed", "complete", "test_error", "test_top5", "train_seconds", "hardware")
HEADER = ["", "configuration", "n", "median", "mean ± sd", "95% interval", "time", "hardware"]
FIRST = ("dataset", "recipe", "hash")
NUMBERS = ("n", "median", "mean", "sd", "low", "high", "top5", "val_top1", "train_seconds", "params", "macs", "epochs")


def as_markdown(values: Row, title: str, figures: Mapping[str, str]) -> str:
    """Return report.md from the values of `tables`; `figures` are {file: what is on it}."""
    parts = [f"# {title}\n"]
    for dataset, words in values["protocol"].items():
        rows = [row for row in values["configurations"] if row["dataset"] == dataset and row["n"]]
        parts.append(f"## {line(dataset)}\n")
        if rows:
            parts.append("Test errors in per cent; the interval is Student's, of the mean over seeds.\n")
            parts.append(markdown(HEADER, [cells(place, row) for place, row in enumerate(rows, 1)]))
        parts.append("".join(f"- {line(sentence)}\n" for sentence in words))
    if values["incomplete"]:
        table = [
            [line(row["run"]), line(row["recipe"]), str(row["seed"]), line(row["why"])] for row in values["incomplete"]
        ]
        parts += ["## Incomplete runs, which count for nothing\n", markdown(["run", "recipe", "seed", "why"], table)]
    if values["not_reported"]:
        listed = "".join(f"- {line(row['run'])}: {line(row['reason'])}\n" for row in values["not_reported"])
        parts += ["## Not reported\n", listed]
    if values["notes"]:
        parts += ["## Notes\n", "".join(f"- {line(note)}\n" for note in values["notes"])]
    if figures:
        parts += ["## Figures\n", "".join(f"![{line(text)}]({file})\n\n" for file, text in figures.items())]
    return "\n".join(parts)


def cells(place: int, row: Row) -> list[str]:
    """Return a configuration as a row of the Markdown table."""
    spread = "" if row["sd"] is None else f" ± {row['sd']:.2f}"
    interval = "" if row["low"] is None else f"{row['low']:.2f} to {row['high']:.2f}"
    return [
        *(str(place), line(row["configuration"]), str(row["n"]), f"{row['median']:.2f}", f"{row['mean']:.2f}{spread}"),
        *(interval, hours(row["train_seconds"]), line("; ".join(row["hardware"]))),
    ]


def line(text: object) -> str:
    """Return a text as part of one line of Markdown, shown as it is."""
    plain = " ".join(str(text).split())
    return "".join(f"\\{letter}" if letter in "\\`*_<>[]#" else letter for letter in plain)


def as_csv(values: Row) -> str:
    """Return report.csv: a row a configuration, with a column for each setting that varies."""
    varying = list(dict.fromkeys(key for row in values["configurations"] for key in row["varying"]))
    rows = [
        [row[key] for key in FIRST]
        + [row["varying"].get(key, "") for key in varying]
        + [written(row.get(key)) for key in NUMBERS]
        + ["; ".join(row["hardware"]), " ".join(map(str, row["seeds"])), " ".join(f"{e:.6g}" for e in row["errors"])]
        for row in values["configurations"]
    ]
    return text_of([[*FIRST, *varying, *NUMBERS, "hardware", "seeds", "errors"], *rows])


def runs_csv(found: Sequence[Any]) -> str:
    """Return runs.csv: a row a run, the incomplete ones among them."""
    rows = [
        [run.place, run.recipe, run.dataset, run.seed, "yes" if run.complete else "no"]
        + [written((run.result or {}).get(key)) for key in RUN_COLUMNS[5:8]]
        + [run.hardware]
        for run in found
    ]
    return text_of([list(RUN_COLUMNS), *rows])


def written(value: object) -> object:
    return "" if value is None else f"{value:.6g}" if isinstance(value, float) else value


def text_of(rows: Iterator[list[Any]] | Sequence[list[Any]]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(rows)
    return buffer.getvalue()
