"""Write docs/speed.md and its pictures anew from the ledger: `python docs/speed.py`."""

import csv
import hashlib
import json
import runpy
from pathlib import Path

from pictorch.bench.curves import CURVES, exponent_of
from pictorch.bench.profile import GROUPS, verdict

ROOT = Path(__file__).parent.parent
LEDGER = ROOT / "ledger"
PAGE = Path(__file__).with_suffix(".md")
NONE = "Not measured yet."
COLUMNS = (
    *("name", "against", "batch_size", "images", "device", "ours", "baseline", "unit", "ratio", "spread"),
    *("train_ratio", "evaluation_ratio", "of_peak", "must", "stretch", "time_of_one"),
)
DEVICES = {"cpu": "CPU", "cuda": "GPU"}
HEAD = """# Speed

How fast training is, against what, and what it costs as there is more of it. Every table is of the ledger's rows
([what its files hold](../ledger/README.md)); a row names its hardware, a file torch's version and the precision.
Ratios are of interleaved rounds in one run and travel; absolute times do not. What was tried on the way, and what
failed, stands in the [lab log](log.md).

This page is written by `python docs/speed.py`.

## How to measure

```bash
pictorch bench loader                                     # batches: images/s beside a DataLoader's
pictorch bench step                                       # training steps, beside the textbook's
pictorch bench epoch                                      # epochs with evaluation
pictorch bench replicas                                   # several runs at once beside one alone
bash benchmarks/gpu.sh                                    # all of it on a GPU, under 9 minutes
python benchmarks/precision.py ledger/precision-epyc2.csv # bf16 against fp32, hours
python benchmarks/curves.py --write ledger                # cost as work grows, under 10 minutes on two cores
python benchmarks/profiles.py --write ledger              # where a step's time goes
```

They want a machine that does nothing else; rows are appended as they are made, and a second call goes on where the
first was stopped.
"""
AGAINST = """## Against the textbook's way

Medians of interleaved rounds; `ratio` is how many times faster ours is, `spread` the range of the rounds' ratios over
their median.
"""
PRECISION = """## bf16 against fp32

Short annealed runs of `python benchmarks/precision.py`, each seed in both precisions: the 90% t-interval of the paired
difference of the test errors, bf16 - fp32, in points, beside a margin of 0.5. "Equivalent" lies inside the margin,
"different" outside, all else is undecided.
"""
GROWTH = """## Cost as work grows

Each curve is a piece of work in growing sizes, done by the code that a run uses, on generated images: median seconds,
divided by the units of work. `exponent` is the power of the work that the time grows with, over the points with at
least a thirtieth of the most work: 1 is in proportion, less is what every call costs, more grows faster than the work.
Where the work stays the same while something else grows (`set_step`, `classes`), it is the power of that, at best 0.
"""
PROFILE = """## Where a step's time goes

One training step, batch included. FLOP: two a multiply-add, three times the forward pass; their share is of what a
product of square matrices reaches in the same run and precision. Bytes: every operation reads and writes its tensors
once; their share is of a copy's bandwidth. More than 100% of it means that tensors are found in the caches.
"""


def rows_of(pattern: str) -> list[dict[str, str]]:
    """Return the rows of the ledger's files that match, in the order of their names."""
    rows = []
    for path in sorted(LEDGER.glob(pattern)):
        with path.open(newline="", encoding="utf-8") as file:
            rows += list(csv.DictReader(line for line in file if not line.startswith("#")))
    return rows


def table(header: list[str], rows: list[list[str]]) -> str:
    lines = [" | ".join(header), " | ".join(["---"] + ["---:"] * (len(header) - 1)), *(" | ".join(row) for row in rows)]
    return "\n".join(f"| {line} |" for line in lines) + "\n"


def against() -> list[str]:
    """Return a table for each file of `pictorch bench`."""
    parts = []
    for what in ("epoch", "step", "families", "loader", "replicas"):
        for path in sorted(LEDGER.glob(f"speed-{what}-*.csv")):
            rows = rows_of(path.name)
            columns = [column for column in COLUMNS if any(row.get(column) for row in rows)]
            parts += [f"`{path.name}`:\n", table(columns, [[row[column] for column in columns] for row in rows])]
    return parts


def precision() -> list[str]:
    """Return a line for each file of the study."""
    study, lines = runpy.run_path(str(ROOT / "benchmarks" / "precision.py")), []
    for path in sorted(LEDGER.glob("precision-*.csv")):
        rows = rows_of(path.name)
        found = study["differences"](rows)
        low, high = study["interval"](found)
        first = rows[0]
        words = study["verdict"](low, high)
        lines.append(
            [
                f"{first['network']}, {first['epochs']} epochs",
                *(str(len(found)), f"{low:+.2f} to {high:+.2f}" if len(found) > 1 else "", words),
                *(first["hardware"], first["torch"]),
            ]
        )
    return [table(["runs", "pairs", "interval", "verdict", "hardware", "torch"], lines)] if lines else [NONE + "\n"]


def growth(device: str) -> list[str]:
    """Return the table and the picture of a device's curves."""
    rows = [row for row in rows_of("speed-curves-*.csv") if row["device"] == device]
    lines = []
    for name, curve in CURVES.items():
        points = [row for row in rows if row["curve"] == name]
        if points:
            first, last, power = points[0], points[-1], exponent_of(name, rows)
            rates = [point["images_per_second"] for point in (first, last)]
            lines.append(
                [
                    f"`{name}`: {curve.along}",
                    *(f"{int(point['at']):,}" for point in (first, last)),
                    *(f"{float(rate):,.0f}" if rate else "" for rate in rates),
                    *(f"{float(point['nanoseconds_per_unit']):,.3g} ns" for point in (first, last)),
                    curve.unit,
                    "" if power is None else f"{power:.2f}",
                ]
            )
    if not lines:
        return [NONE + "\n"]
    header = [
        "curve",
        "from",
        "to",
        "images/s there",
        "and there",
        "time a unit there",
        "and there",
        "unit",
        "exponent",
    ]
    hardware = sorted({row["hardware"] for row in rows})
    return [f"On {' and '.join(hardware)}:\n", table(header, lines), f"![Time a unit](speed-curves-{device}.svg)\n"]


def profiles(device: str) -> list[str]:
    """Return the table of a device's profiles, and what they mean in words."""
    rows = [row for row in rows_of("speed-profile-*.csv") if row["device"] == device]
    if not rows:
        return [NONE + "\n"]
    groups = [*GROUPS, "other", "overhead"]
    lines = [
        [
            f"{row['network']}, {row['batch_size']} images, {row['dtype']}",
            row["step_ms"],
            row["gflop_per_second"],
            f"{100 * float(row['gflop_per_second']) / float(row['matmul_gflop_per_second']):.0f}%",
            row["gb_per_second"],
            f"{100 * float(row['gb_per_second']) / float(row['copy_gb_per_second']):.0f}%",
            *(row[f"{group}_percent"] for group in groups),
        ]
        for row in rows
    ]
    header = ["step", "ms", "GFLOP/s", "of the peak", "GB/s", "of a copy", *(f"{group}, %" for group in groups)]
    words = "\n".join(f"- {row['network']}: {verdict(row)}" for row in rows)
    return [f"On {' and '.join(sorted({row['hardware'] for row in rows}))}:\n", table(header, lines), words + "\n"]


def page() -> str:
    """Return the page."""
    parts = [HEAD, AGAINST, *(against() or [NONE + "\n"]), PRECISION, *precision()]
    for head, section in ((GROWTH, growth), (PROFILE, profiles)):
        parts.append(head)
        for device, title in DEVICES.items():
            parts += [f"### {title}\n", *section(device)]
    return "\n".join(parts)


def pictures() -> dict[str, str]:
    """Return the pictures' files, each with the hash of the rows that it is to show."""
    found = {}
    for device in DEVICES:
        rows = [row for row in rows_of("speed-curves-*.csv") if row["device"] == device]
        if rows:
            found[f"speed-curves-{device}.svg"] = hashlib.sha256(json.dumps(rows).encode()).hexdigest()
    return found


def draw(file: Path, device: str, digest: str) -> None:
    """Draw a device's curves: time a unit over the points, both logarithmic, relative to each curve's first."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    rows = [row for row in rows_of("speed-curves-*.csv") if row["device"] == device]
    names = [name for name in CURVES if any(row["curve"] == name for row in rows)]
    lines = -(-len(names) // 3)
    figure = Figure(figsize=(11, 2.6 * lines), layout="constrained")
    for place, name in enumerate(names, 1):
        axes, points = figure.add_subplot(lines, 3, place), [row for row in rows if row["curve"] == name]
        axes.loglog([int(row["at"]) for row in points], [float(row["nanoseconds_per_unit"]) for row in points], "o-")
        axes.set(title=name, xlabel=CURVES[name].along, ylabel=f"ns per {CURVES[name].unit}")
        axes.set_ylim(bottom=axes.get_ylim()[0] / 3, top=axes.get_ylim()[1] * 3)
        axes.grid(alpha=0.3)
    # Without a salt of its own the names of its parts are others each time.
    with rc_context({"svg.hashsalt": "pictorch"}):
        figure.savefig(file, format="svg", metadata={"Description": digest, "Date": None})


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    for picture, digest in pictures().items():
        draw(PAGE.with_name(picture), picture.removesuffix(".svg").rpartition("-")[2], digest)
