"""Figures of a report for papers and slides, SVG and PNG, in the shape of the seed documents'."""

import io
import re
import statistics
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

from pictorch.reports import figures
from pictorch.reports.configurations import Configuration, is_number
from pictorch.reports.values import Report

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_CURVES = 4  # of each data set: a figure takes a fifth of a second
MOST_SETS = 3
MOST_LINES = 8
MOST_DOTS = 30

Pictures = dict[str, bytes]


def draw(report: Report) -> tuple[dict[str, str], Pictures]:
    """Return {SVG file: what is on it}, and {file: bytes} of all figures: learning curves of the best configurations,
    all errors, and error over a setting where it varies."""
    texts: dict[str, str] = {}
    files: Pictures = {}
    for dataset in report.datasets[:MOST_SETS]:
        members = [c for c in report.ranked if c.dataset == dataset]
        for name, text, inches, paint in of_dataset(dataset, members):
            file = f"figures/{slug(dataset)}-{name}"
            if f"{file}.svg" not in files:
                files[f"{file}.svg"], files[f"{file}.png"] = pictures(inches, paint)
                texts[f"{file}.svg"] = text
    return texts, files


def of_dataset(
    dataset: str, members: Sequence[Configuration]
) -> Iterator[tuple[str, str, tuple[float, float], Callable[["Axes"], None]]]:
    """Yield file, text, size and painter of each figure of a data set."""
    for place, c in enumerate(members[:MOST_CURVES], 1):
        lines = [run.rows for run in c.counted if run.rows]
        if lines:
            title = f"{c.name}, {len(lines)} seed{'s' * (len(lines) > 1)}"
            paint = partial(figures.curve, lines=lines, title=shortened(title))
            yield f"{place}-curves-{slug(c.recipe)}-{c.hash}", f"Learning curves, {title}", (6, 3.6), paint
    if len(members) > 1:
        some = members[:MOST_DOTS]
        height = 1.1 + 0.28 * len(some)
        yield "errors", f"Test errors, {dataset}", (8, height), partial(errors, members=some)
    for key in numeric_settings(members):
        name = f"error-over-{slug(key)}"
        yield name, f"Test error over {key}, {dataset}", (6, 4), partial(over, members=members, key=key)


def pictures(inches: tuple[float, float], paint: Callable[["Axes"], None]) -> tuple[bytes, bytes]:
    """Return one drawing as SVG and as PNG; the same values make the same bytes."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with rc_context(figures.STYLE):
        figure = Figure(figsize=inches, layout="constrained")
        FigureCanvasAgg(figure)
        paint(figure.add_subplot())
        svg, png = io.BytesIO(), io.BytesIO()
        figure.savefig(svg, format="svg", metadata={"Date": None})
        figure.set_layout_engine("none")  # it stays as it is: found once
        figure.savefig(png, format="png", dpi=150)
    return svg.getvalue(), png.getvalue()


def errors(axes: "Axes", members: Sequence[Configuration]) -> None:
    """Draw a line a configuration: each seed's error, the mean and its 95% interval."""
    for place, c in enumerate(members):
        assert c.summary
        axes.plot(c.errors, [place] * c.summary.n, "o", color="tab:red", alpha=0.35, mew=0, label="a seed")
        reach = None if c.summary.low is None else [[c.summary.mean - c.summary.low]] * 2
        axes.errorbar(c.summary.mean, place, xerr=reach, fmt="|", color="tab:red", label="mean, 95% interval")
    names = [f"{shortened(c.name)} (n={c.summary.n})" for c in members if c.summary]
    axes.set(yticks=range(len(names)), yticklabels=names, xlabel="test error (%)", ylim=(len(names) - 0.5, -0.5))
    axes.grid(alpha=0.3)
    figures.legend(axes)


def numeric_settings(members: Sequence[Configuration]) -> list[str]:
    """Return the settings over which a figure of errors says something: numbers above 0 that vary, at most three."""
    keys = dict.fromkeys(key for c in members for key in c.varying)
    values = {key: {v for c in members if is_number(v := c.varying.get(key)) and v > 0} for key in keys}
    return [key for key, found in values.items() if len(found) > 2][:3]


def over(axes: "Axes", members: Sequence[Configuration], key: str) -> None:
    """Draw mean errors over a setting, a line for each choice of the others, with the range of the seeds."""
    lines: dict[str, list[Configuration]] = {}
    for c in members:
        if is_number(value := c.varying.get(key)) and value > 0:
            others = {k: v for k, v in c.varying.items() if k != key}
            name = ", ".join(f"{k}={v}" for k, v in others.items() if not isinstance(v, list))
            lines.setdefault(f"{c.recipe} {name}".strip(), []).append(c)
    if all(len(line) == 1 for line in lines.values()):  # the others go along with it: one line a recipe
        together: dict[str, list[Configuration]] = {}
        for line in lines.values():
            together.setdefault(line[0].recipe, []).extend(line)
        lines = together
    for name, line in list(lines.items())[:MOST_LINES]:
        line.sort(key=lambda c: float(c.varying[key]))
        at = [float(c.varying[key]) for c in line]
        means = [statistics.fmean(c.errors) for c in line]
        # At least 0: the mean of equal errors may be off by its last bit.
        low = [max(0.0, m - min(c.errors)) for m, c in zip(means, line, strict=True)]
        high = [max(0.0, max(c.errors) - m) for m, c in zip(means, line, strict=True)]
        axes.errorbar(at, means, yerr=[low, high], fmt="o-", capsize=2, label=shortened(name))
    left = len(lines) - MOST_LINES
    title = f"the first {MOST_LINES} of {len(lines)} lines" if left > 0 else ""
    axes.set(xscale="log", xlabel=key, ylabel="test error (%), mean and range of the seeds", title=title)
    errors = [error for line in lines.values() for c in line for error in c.errors]
    if min(errors) > 0 and max(errors) > 3 * min(errors):
        axes.set_yscale("log")
        figures.numbers(axes.yaxis, [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100])
    values = sorted({float(c.varying[key]) for line in lines.values() for c in line})
    if len(values) <= 12:
        figures.numbers(axes.xaxis, values)
    axes.grid(alpha=0.3)
    figures.legend(axes)


def shortened(text: str, most: int = 70) -> str:
    """Return a label of at most so many letters, which matplotlib draws as it is: no formula between dollars."""
    return (text if len(text) <= most else f"{text[: most - 1]}…").replace("$", r"\$")


def slug(text: str) -> str:
    """Return a text as part of a file name."""
    return re.sub(r"[^A-Za-z0-9_.]+", "-", text).strip("-.") or "set"
