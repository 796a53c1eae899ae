"""Learning rates as pictures and as text: that of a run over its epochs, and the losses of a range test."""

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BARS = "▁▂▃▄▅▆▇█"
WIDTH = 60
MOST_PHASES = 12
MOST_POINTS = 20_000  # of a line 840 pixels wide


class Phase(NamedTuple):
    """A stretch over which the rate "rises", "falls" or "stays", from its `first` on at epoch `start` to its `last`."""

    start: float
    kind: str
    first: float
    last: float


def phases(rows: Sequence[tuple[float, float]]) -> list[Phase]:
    """Return the stretches of one direction of (epoch, rate) rows; a jump ends one and begins the next."""
    found, begin = [], 0
    while begin < len(rows):
        kind, end = direction(rows, begin), begin
        while end + 1 < len(rows) and direction(rows, end) == kind:
            end += 1
        if kind != "stays" and end == begin + 1 and end + 1 < len(rows):  # a jump
            kind, end = "stays", begin
        found.append(Phase(rows[begin][0], kind, rows[begin][1], rows[end][1]))
        begin = end + 1
    return found


def direction(rows: Sequence[tuple[float, float]], at: int) -> str:
    """Return whether the rate "rises", "falls" or "stays" from row `at` to the next."""
    if at + 1 == len(rows) or rows[at][1] == rows[at + 1][1]:
        return "stays"
    return "rises" if rows[at][1] < rows[at + 1][1] else "falls"


def describe_schedule(rows: Sequence[tuple[float, float]]) -> str:
    """Return (epoch, rate) rows as a line of bars and a line for each phase: from which epoch, which rate, whereto."""
    found = phases(rows)
    lines = [sparkline([rate for _, rate in rows])]
    for phase in found[:MOST_PHASES]:
        way = "" if phase.kind == "stays" else f", {phase.kind} to {phase.last:.4g}"
        lines.append(f"  from epoch {phase.start:<6.4g} {phase.first:.4g}{way}")
    if len(found) > MOST_PHASES:
        lines.append(f"  and {len(found) - MOST_PHASES} more")
    return "\n".join(lines)


def sparkline(values: Sequence[float]) -> str:
    """Return at most WIDTH bars, as high as evenly picked values between 0 and the highest."""
    columns = min(WIDTH, len(values))
    picked = [values[column * len(values) // columns] for column in range(columns)]
    highest = max(picked, default=0) or 1.0
    return "".join(BARS[round(value / highest * (len(BARS) - 1))] for value in picked)


def draw_schedule(rows: Sequence[tuple[float, float]], title: str, *, kind: str = "png") -> bytes:
    """Return a picture ("png", "svg" or "pdf") of the rate over the epochs, from (epoch, rate) rows."""
    figure = empty_figure()
    axes = figure.add_subplot()
    shown = rows if len(rows) <= MOST_POINTS else rows[:: -(-len(rows) // MOST_POINTS)]
    axes.plot(*zip(*shown, strict=True), drawstyle="steps-post")
    axes.set(xlabel="epoch", ylabel="learning rate", title=title, ylim=(0, None))
    axes.grid(alpha=0.3)
    return picture(figure, kind)


def draw_range_test(
    rates: Sequence[float],
    losses: Sequence[float],
    averages: Sequence[float],
    *,
    marks: dict[str, float],
    title: str,
    kind: str = "png",
) -> bytes:
    """Return a picture ("png", "svg" or "pdf") of the losses over the rates, with `marks` (label -> rate) as lines."""
    figure = empty_figure()
    axes = figure.add_subplot()
    axes.plot(rates, losses, color="lightgrey", label="loss of a step")
    axes.plot(rates, averages, label="moving average")
    for (label, rate), line in zip(marks.items(), ("-", "--", ":"), strict=False):
        axes.axvline(rate, color="grey", linestyle=line, linewidth=1, label=f"{label}: {rate:.2g}")
    # The last losses are many times the first one: in full they would press the fall flat.
    axes.set(xscale="log", ylim=(0, 1.5 * averages[0]), xlabel="learning rate", ylabel="training loss", title=title)
    axes.grid(alpha=0.3)
    axes.legend()
    return picture(figure, kind)


def empty_figure() -> "Figure":
    from matplotlib.figure import Figure

    return Figure(figsize=(7, 4.2), layout="constrained")


def picture(figure: "Figure", kind: str) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, dpi=120)
    return buffer.getvalue()
