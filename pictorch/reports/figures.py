"""The documents' figures, drawn from the published numbers and our runs: claims and learning curves as plain values."""

import hashlib
import io
import json
import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from pictorch.reports import results
from pictorch.reports.configurations import planes, shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

Row = Mapping[str, Any]
Curve = Sequence[Mapping[str, float]]
Figure = tuple[str, bytes]  # what is on it, and its SVG

SOURCES = {"document": ("s", "tab:blue", "seed document"), "paper": ("^", "tab:orange", "paper")}
MAIN = ("ours", "as published")
OURS = {"ours": "tab:red", "as published": "tab:red", "as the paper": "tab:green"}
STYLE: dict[Any, Any] = {"svg.fonttype": "none", "svg.hashsalt": "pictorch", "font.size": 9}
ERROR_TABLES = ("seed1/cifar10_papers", "seed1/residual_units")


def figures(claims: Sequence[Row], curves: Mapping[str, Curve]) -> dict[str, Figure]:
    """Return {file: (what is on it, SVG)} of every figure that has something on it.

    Test errors of a table's models; errors against batch size and against initial learning rate; and learning curves
    of the runs that count for a document's number. The same values make the same bytes.
    """
    tables: dict[str, list[Row]] = {}
    for row in claims:
        if row["value"] is not None or row["ours"]:
            tables.setdefault(f"{row['document']}/{row['table']}", []).append(row)
    found: dict[str, Figure] = {}
    for name in ERROR_TABLES:
        if rows := tables.get(name):
            height = 0.9 + 0.3 * len({row["row"] for row in rows})
            title = f"Test errors, {name}"
            found[f"{name.replace('/', '-')}.svg"] = title, drawn(rows, (8, height), partial(errors, rows=rows))
    for file, text, draw, chosen in (
        ("seed2-batch-size.svg", "Test error against batch size", batch_sizes, ("linear_scaling", "longer")),
        ("seed2-initial-lr.svg", "Test error against initial learning rate", initial_rates, ("initial_lr",)),
    ):
        lines = {name: rows for name, rows in tables.items() if name.removeprefix("seed2/").startswith(chosen)}
        if lines:
            found[file] = text, drawn(lines, (8, 5), partial(draw, lines=lines))
    return found | dict(learning_curves(claims, curves))


def learning_curves(claims: Sequence[Row], curves: Mapping[str, Curve]) -> Iterator[tuple[str, Figure]]:
    """Yield the figure of each configuration of a document's number that has runs with learning curves."""
    for row in claims:
        for group in row["ours"] if row["source"] == "document" and row["metric"] != "top5" else ():
            lines = [curves[run] for run in group["runs"] if run in curves]
            if lines:
                title = f"{row['row']}, {group['label']}, {len(lines)} seed{'s' * (len(lines) > 1)}"
                file = "-".join([*row["id"].split("/")[:-1], *group["label"].split()]) + ".svg"
                yield (
                    file,
                    (f"Learning curves, {title}", drawn(lines, (6, 3.6), partial(curve, lines=lines, title=title))),
                )


def maps(studies: Sequence[Row]) -> dict[str, Figure]:
    """Return {file: (what is on it, SVG)} of each study over two numbers: maps of its mean errors."""
    found = {}
    for study in studies:
        labels, variants = study["labels"], study["variants"]
        for number, plane in enumerate(planes([one["settings"] for one in variants]), 1):
            names = [labels[plane.x], labels[plane.y]]
            fixed = "".join(f", {labels[key]} {shown(value)}" for key, value in plane.fixed.items())
            cells = {place: variants[i]["mean"] for place, i in plane.cells.items()}
            text = f"Test error over {' and '.join(names)}{fixed}, {results.study_title(study)}"
            picture = drawn([text, sorted(cells.items())], inches(cells), partial(heat_map, cells=cells, names=names))
            found[f"{results.study_slug(study)}-map-{number}.svg"] = text, picture
    return found


def inches(cells: Mapping[tuple[float, float], float]) -> tuple[float, float]:
    columns, rows = (len({place[axis] for place in cells}) for axis in (0, 1))
    return 1.8 + 0.7 * columns, 1.2 + 0.5 * rows


def heat_map(axes: "Axes", cells: Mapping[tuple[float, float], float], names: Sequence[str]) -> None:
    """Draw a field a cell, with its error in it: the lower the darker, by the ratio to the lowest."""
    columns, rows = (sorted({place[axis] for place in cells}) for axis in (0, 1))
    order = sorted(cells.values())
    values = [[cells.get((x, y), math.nan) for x in columns] for y in rows]
    axes.imshow(values, cmap="viridis", norm="log", origin="lower", aspect="auto")
    for (x, y), error in cells.items():
        dark = error * error < order[0] * order[-1]
        place = columns.index(x), rows.index(y)
        axes.text(*place, f"{error:.2f}", ha="center", va="center", color="w" if dark else "k")
    axes.set(xlabel=names[0], ylabel=names[1])
    axes.set(xticks=range(len(columns)), xticklabels=[f"{x:g}" for x in columns])
    axes.set(yticks=range(len(rows)), yticklabels=[f"{y:g}" for y in rows])


def digest(values: object) -> str:
    """Return the hash of what a figure shows; it stands in the figure's description."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def drawn(values: object, inches: tuple[float, float], draw: Callable[["Axes"], None]) -> bytes:
    """Return an SVG of one pair of axes, with the digest of the values that it shows."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(STYLE):
        figure = Figure(figsize=inches, layout="constrained")
        draw(figure.add_subplot())
        buffer = io.BytesIO()
        figure.savefig(buffer, format="svg", metadata={"Description": digest(values), "Date": None})
    return buffer.getvalue()


def errors(axes: "Axes", rows: Sequence[Row]) -> None:
    """Draw a line a model: the document's and the paper's error, and ours with its 95% interval."""
    names = list(dict.fromkeys(row["row"] for row in rows))
    for row in rows:
        place = names.index(row["row"])
        marker, colour, label = SOURCES[row["source"]]
        if row["value"] is not None:
            axes.errorbar(row["value"], place, xerr=row["spread"], fmt=marker, color=colour, label=label, mfc="none")
        for group in row["ours"]:
            reach = None if group["interval"] is None else [[group["mean"] - group["interval"][0]]] * 2
            label = "ours" if group["label"] == "ours" else f"ours, {group['label']}"
            axes.errorbar(group["mean"], place, xerr=reach, fmt="o", color=OURS[group["label"]], label=label)
    axes.set(yticks=range(len(names)), yticklabels=names, xlabel="test error (%)", ylim=(len(names) - 0.5, -0.5))
    axes.grid(alpha=0.3)
    legend(axes)


def batch_sizes(axes: "Axes", lines: Mapping[str, Sequence[Row]]) -> None:
    """Draw a line a table: error over batch size, the document's points hollow and ours full."""
    study(axes, lines, cell=1, ticks=[8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096])
    axes.set(xlabel="batch size")


def initial_rates(axes: "Axes", lines: Mapping[str, Sequence[Row]]) -> None:
    """Draw a line a batch size: error over initial learning rate, as `batch_sizes` does."""
    study(axes, lines, cell=2, ticks=[0.025, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2])
    axes.set(xlabel="initial learning rate")


def study(axes: "Axes", lines: Mapping[str, Sequence[Row]], *, cell: int, ticks: Sequence[float]) -> None:
    """Draw each table's errors over the number in one of its rows' cells, both logarithmic.

    Where a table has several rows with the same number, the line goes through the lowest.
    """
    for place, (name, rows) in enumerate(lines.items()):
        label = name.partition("/")[2].replace("_", " ")
        at = [float(row["row"].split(" | ")[cell]) for row in rows]
        ours = [(x, g["mean"]) for x, row in zip(at, rows, strict=True) for g in row["ours"] if g["label"] in MAIN]
        document = list(zip(at, [row["value"] for row in rows], strict=True))
        for points, marker, line, face, whose in (
            (document, "s", "--", "none", "document"),
            (ours, "o", "-", None, "ours"),
        ):
            if points:
                lowest = sorted({x: min(y for other, y in points if other == x) for x, _ in points}.items())
                axes.plot(*zip(*points, strict=True), marker, color=f"C{place}", mfc=face)
                axes.plot(
                    *zip(*lowest, strict=True), marker + line, color=f"C{place}", mfc=face, label=f"{label}, {whose}"
                )
    axes.set(xscale="log", yscale="log", ylabel="test error (%)")
    numbers(axes.xaxis, ticks)
    numbers(axes.yaxis, [7, 8, 9, 10, 12, 15, 20, 30])
    axes.grid(alpha=0.3)
    legend(axes)


def numbers(axis: "Axis", ticks: Sequence[float]) -> None:
    """Label those ticks that lie within an axis's data with plain numbers, and no others."""
    low, high = sorted(axis.get_view_interval())
    shown = [tick for tick in ticks if low <= tick <= high]
    axis.set_ticks(shown, [f"{tick:g}" for tick in shown])
    axis.set_ticks([], minor=True)


def curve(axes: "Axes", lines: Sequence[Curve], title: str) -> None:
    """Draw the median of the seeds' errors over the epochs, and their range, on a logarithmic axis."""
    for key, colour in (("train_error", "tab:gray"), ("val_error", "tab:blue"), ("test_error", "tab:red")):
        at: dict[float, list[float]] = {}
        for point in (point for line in lines for point in line if point.get(key)):
            at.setdefault(point["epoch"], []).append(point[key])
        if epochs := sorted(at):
            middle = [statistics.median(at[epoch]) for epoch in epochs]
            axes.plot(epochs, middle, color=colour, label=f"{key.partition('_')[0]} ({middle[-1]:.2f}%)")
            low, high = ([end(at[epoch]) for epoch in epochs] for end in (min, max))
            axes.fill_between(epochs, low, high, color=colour, alpha=0.25, lw=0)
    axes.set(xlabel="epoch", ylabel="error (%), median and range", yscale="log", title=title)
    numbers(axes.yaxis, [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100])
    axes.grid(alpha=0.3)
    legend(axes)


def legend(axes: "Axes") -> None:
    """Draw a legend with each label once."""
    handles, labels = axes.get_legend_handles_labels()
    once = dict(zip(labels, handles, strict=True))
    axes.legend(once.values(), once.keys(), fontsize=7)
