"""The page of results: the documents' tables with our runs beside their numbers, from claims as plain values.

A claim is what `pictorch claims --json` prints of it, a run a row of `ledger/runs.csv`.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from pictorch.reports.configurations import shown

Row = Mapping[str, Any]

DOCUMENTS = {
    "seed1": "Seed document 1",
    "seed2": "Seed document 2",
    "seed3": "Seed document 3",
}
# The first cells of a row of the documents' tables that have several.
CELLS = ("Model", "batch size", "initial lr", "lr schedule", "epochs")
METRICS = {"test_error": "", "top1": "top-1", "top5": "top-5"}
UNSAID = ("not stated", "mean")  # statistics that say nothing, or what the ± says
HEAD = """# Results

Every number that the three seed documents print, the papers' numbers among them, and our own runs beside them: test
errors in per cent where nothing else is said. The numbers are rows of [the ledger](../ledger/README.md), and so are
the runs: `pictorch claims` prints the same, `pictorch claims add RUN_DIR` adds a run, and the recipe and overrides of a
number, which stand in the ledger, make one with `pictorch train`. `benchmarks/gpu_reproduce.sh STUDY` makes the
documents' studies on one GPU, in pieces of under 9 minutes.

This page is written by `python docs/results.py`.

## What counts, and what is tested

- **Which runs.** A run counts for a number when all that decides its result is the number's: network, data, batch,
  schedule, epochs, augmentation, selection, views. Seed, device, precision, threads and the like are free. Its data
  are the official files, its code is that of a commit, it trained to its end and was tested on all images; of each
  seed the first run counts. Every other run stands under "other runs, not comparable".
- **As published, as the paper.** A document's program differs from the papers in [named ways](quirks.md). Runs with
  `as_published`, as that program was, are held against its number; runs of the same recipe with the paper's network
  stand beside them, with a verdict of their own. The two are never mixed.
- **The test.** Two one-sided t-tests of 5% each: of the 90% interval of the difference between the true mean errors,
  ours and theirs. Inside the margin it is *reproduced*, below it *better*, above it *worse*; any other is *undecided*,
  with the number of further seeds that would decide at the spread and difference so far.
- **The margin** is the 95% half-interval of the published error over draws of the test images, 1.96 standard errors
  of a share: 0.53 points (7% of it) at an error of 8%, 0.33 (11%) at 3%, 0.11 (36%) at 0.3%, 0.90 (3%) at 30%, of
  10,000 images. What is smaller would not outlast another test set of the same size.
- **The published number's own error** counts. A single run, or a number of which it is not said, has the variance of
  one run; a mean of n an n-th of it, a median of 3 or 5 that of a normal median (0.449, 0.287). Where a ± is printed
  it is taken for a standard deviation and pooled with ours; of how many runs is often not said, and then the fewest
  are assumed: 2. The repeated settings of seed document 2 differ by up to 0.36 points, so that against its single runs
  few seeds decide nothing.
- **Assumed** is that runs of both sides scatter normally and alike, and that a median and a mean of runs aim at the
  same. The best of several runs is no mean: nothing is tested against it. Accuracies are tested as the errors that they
  leave. Nothing is corrected for the number of tests: of many verdicts a few are wrong.
"""

STUDIES = """## Studies of our own

Runs of one recipe that differ in some settings, which are columns; an empty one is not set. Test errors in per cent.
"To the first" is the mean difference to the first row over the seeds of both, with its 95% t-interval; p is the paired
t test's, corrected by Holm for the number of rows that have one. The first row sets the fewest settings.
"""


def page(
    claims: Sequence[Row],
    runs: Sequence[Row],
    others: Sequence[Row],
    figures: Mapping[str, str],
    studies: Sequence[Row] = (),
) -> str:
    """Return the page; `figures` are {file: what is on it}, `others` the runs that count for no number."""
    parts = [HEAD]
    for document, of_document in groupby(claims, key=lambda claim: str(claim["document"])):
        parts.append(f"## {DOCUMENTS.get(document, document)}\n")
        parts += [f"![{text}](results/{file})\n" for file, text in figures.items() if file.startswith(document)]
        notes: dict[str, int] = {}
        for name, rows in groupby(of_document, key=lambda claim: str(claim["table"])):
            parts += [f"### {document}/{name}\n", table(list(rows), notes)]
        parts += [numbered(notes)] if notes else []
    parts += ["## Our runs\n", of_runs(runs) if runs else "None has been added yet.\n"]
    if studies:
        parts += [STUDIES, *(of_study(study, figures) for study in studies)]
    if others:
        parts += ["## Other runs, not comparable\n", of_others(others)]
    return "\n".join(parts)


def table(claims: Sequence[Row], notes: dict[str, int]) -> str:
    """Return one of a document's tables; new caveats are added to `notes`. Columns without any entry are left out."""
    lines = [line for _, rows in groupby(claims, key=row_key) for line in [of_row(list(rows), notes)]]
    kept = [key for key in lines[0] if key in ("Model", "ours") or any(line[key] for line in lines)]
    return markdown(kept, [[line[key] for key in kept] for line in lines])


def row_key(claim: Row) -> str:
    """Return what the numbers of one row of a document have in common: their ids but for the last part."""
    return str(claim["id"]).rpartition("/")[0]


def of_row(claims: Sequence[Row], notes: dict[str, int]) -> dict[str, str]:
    """Return {column: cell} of one row's numbers."""
    first = claims[0]
    cells = str(first["row"]).split(" | ")
    marks = sorted({mark(caveat, notes) for claim in claims for caveat in caveats(claim)})
    return {
        **dict.fromkeys(CELLS, ""),
        "epochs": str(first["epochs"]),
        **dict(zip(CELLS, cells, strict=False)),
        "ours": "<br>".join(ours for claim in claims for ours in our_cells(claim)),
        "document": "<br>".join(number(claim) for claim in claims if claim["source"] == "document"),
        "paper": "<br>".join(number(claim) for claim in claims if claim["source"] == "paper"),
        "time": str(first["training_time"]),
        "parameters": str(first["params"]),
        "notes": " ".join(map(str, marks)),
    }


def caveats(claim: Row) -> list[str]:
    return [caveat for caveat in str(claim["caveats"]).split("; ") if caveat]


def mark(caveat: str, notes: dict[str, int]) -> int:
    return notes.setdefault(caveat, len(notes) + 1)


def numbered(notes: Mapping[str, int]) -> str:
    return "Notes:\n\n" + "".join(f"{n}. {caveat}\n" for caveat, n in notes.items())


def number(claim: Row) -> str:
    """Return a published number as it is printed, with what it is of; nothing for an empty cell."""
    if claim["value"] is None:
        return ""
    spread = "" if claim["spread"] is None else f" ± {claim['spread']:.2f}"
    of = [METRICS[claim["metric"]], "" if claim["statistic"] in UNSAID else claim["statistic"]]
    words = ", ".join(word for word in of if word)
    return f"{claim['value']:.2f}{spread}" + (f" ({words})" if words else "")


def our_cells(claim: Row) -> Iterator[str]:
    """Yield what our runs say of a number, a line for each configuration; against a paper's this is said."""
    for group in claim["ours"]:
        interval = "" if group["interval"] is None else ", 95% {:.2f} to {:.2f}".format(*group["interval"])
        of = METRICS[claim["metric"]]
        median = f"{group['median']:.2f}" + (f" {of}" if of else "")
        against = " (paper's settings)" if claim["source"] == "paper" else ""
        label = "" if group["label"] == "ours" else f", {group['label']}"
        verdict = f": **{group['verdict']}**{against}" if group["verdict"] else ""
        reason = f", {group['reason']}" if group["reason"] else ""
        mean = f"median {median} of {group['n']}{label}, mean {group['mean']:.2f}{interval}"
        yield f"{mean}, {hours(group['seconds'])}{verdict}{reason}"


def of_runs(runs: Sequence[Row]) -> str:
    """Return the table of the ledger's runs."""
    header = [
        "run",
        "recipe",
        "seed",
        "error",
        "top-5",
        "protocol",
        "epochs",
        "time",
        "precision",
        "hardware",
        "commit",
    ]
    lines = [
        [
            *(f"`{run['run']}`", str(run["recipe"]), str(run["seed"])),
            *(f"{run['test_error']:.2f}", f"{run['top5']:.2f}", str(run["protocol"]), str(run["epochs"])),
            *(hours(run["seconds"]), str(run["precision"]), str(run["hardware"]), str(run["commit"])[:12]),
        ]
        for run in runs
    ]
    return markdown(header, lines)


def of_study(study: Row, figures: Mapping[str, str]) -> str:
    """Return a study's heading, its maps where it has some, and its table."""
    own = {file: text for file, text in figures.items() if file.startswith(f"{study_slug(study)}-map-")}
    picture = "".join(f"![{text}](results/{file})\n\n" for file, text in own.items())
    labels = study["labels"]
    header = [*labels.values(), "n", "median", "mean", "sd", "to the first", "p", "time"]
    lines = [
        [
            *("" if variant["settings"][key] is None else shown(variant["settings"][key]) for key in labels),
            *(str(variant["n"]), f"{variant['median']:.2f}", f"{variant['mean']:.2f}"),
            "" if variant["sd"] is None else f"{variant['sd']:.2f}",
            difference(variant),
            "" if variant["p"] is None else f"{variant['p']:.2g}",
            hours(variant["seconds"]),
        ]
        for variant in study["variants"]
    ]
    return f"### {study_title(study)}\n\nOn {study['hardware']}.\n\n{picture}{markdown(header, lines)}"


def study_title(study: Row) -> str:
    return f"{study['recipe']} on {study['dataset']}, {study['epochs']} epochs"


def study_slug(study: Row) -> str:
    """Return what the names of a study's files begin with."""
    return re.sub(r"[^\w.]+", "-", f"study-{study['recipe']}-{study['dataset']}-{study['epochs']}")


def difference(variant: Row) -> str:
    if variant["difference"] is None:
        return ""
    low_high = variant["difference_interval"]
    interval = "" if low_high is None else f" ({low_high[0]:+.2f} to {low_high[1]:+.2f})"
    return f"{variant['difference']:+.2f}{interval}"


def of_others(others: Sequence[Row]) -> str:
    """Return the table of the runs that count for no published number, with the reason."""
    header = ["run", "recipe", "seed", "error", "protocol", "why"]
    lines = [
        [
            *(f"`{run['run']}`", str(run["recipe"]), str(run["seed"]), f"{run['test_error']:.2f}"),
            *(str(run["protocol"]), str(run["reason"])),
        ]
        for run in others
    ]
    return markdown(header, lines)


def markdown(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rows = [header, ["---"] * len(header), *([cell.replace("|", "\\|") for cell in line] for line in lines)]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def hours(seconds: float) -> str:
    """Return a training time as the documents print it: 38m, 3h06m; seconds under a minute."""
    if seconds < 60:
        return f"{seconds:.0f}s"
    minutes = round(seconds / 60)
    return f"{minutes // 60}h{minutes % 60:02d}m" if minutes >= 60 else f"{minutes}m"
