"""One run's learning curves as a picture."""

import io
from typing import Any

TITLES = {"train_error": "training", "val_error": "validation", "test_error": "test"}


def draw(rows: list[dict[str, Any]], title: str) -> bytes:
    """Return a PNG of the errors (per cent, logarithmic) and the learning rate over the epochs of metrics.jsonl."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    # Margins and the place of the title are given: to have them found out takes another 0.1 s.
    figure = Figure(figsize=(7, 4.2))
    figure.subplots_adjust(left=0.1, right=0.88, bottom=0.12, top=0.92)
    FigureCanvasAgg(figure)
    errors = figure.add_subplot()
    for key, label in TITLES.items():
        points = [(row["epoch"], row[key]) for row in rows if row.get(key) is not None]
        if points:
            # An error of 0 has no place on a logarithmic axis; the point is left out and the line goes on.
            shown = [(epoch, error) for epoch, error in points if error > 0]
            line = "--" if key == "train_error" else "-"
            errors.plot(*zip(*shown, strict=True) if shown else ([], []), line, label=f"{label} ({points[-1][1]:.2f}%)")
    errors.set(xlabel="epoch", ylabel="error (%)")
    errors.set_title(title, y=1.0)
    if any(row[key] > 0 for row in rows for key in TITLES if row.get(key) is not None):
        errors.set_yscale("log")
    errors.yaxis.set_major_formatter("{x:g}")
    errors.grid(alpha=0.3, which="both")
    errors.legend(loc="upper right")
    rates = errors.twinx()
    rates.plot([row["epoch"] for row in rows], [row["lr"] for row in rows], ":", color="grey", linewidth=1)
    rates.set_ylabel("learning rate (dotted)", color="grey")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    return buffer.getvalue()
