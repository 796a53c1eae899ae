"""`pictorch compare`: what differs between two runs, or two recipes over the same seeds, and whether it is chance."""

import json
from collections.abc import Iterator
from dataclasses import asdict

from rich.markup import escape
from rich.table import Table

from pictorch.cli.claims import network
from pictorch.cli.text import say, show
from pictorch.experiments import compare as comparing
from pictorch.experiments.compare import Comparison

SURE = 0.05
FIRST_PLACES = 20


def compare(first: str, second: str, *, as_json: bool) -> None:
    """Print how two runs, or two folders of runs, compare."""
    from pictorch.models import weights

    a, b = (comparing.read_side(place, network) for place in (first, second))
    names = weights.load(a[0].directory.weights)[1]["classes"]
    found = comparing.compare(a, b, names, network)
    if as_json:
        say(json.dumps(as_values(found), indent=1))
        return
    say("\n".join(lines(found)))
    show_classes(found)


def as_values(found: Comparison) -> dict[str, object]:
    """Return the comparison as plain values; the two runs by their directories."""
    pair = [str(run.directory.path) for run in found.pair]
    rest = {key: getattr(found, key) for key in Comparison.__dataclass_fields__ if key not in ("pair", "over_seeds")}
    rest["classes"] = [asdict(row) for row in found.classes]
    return {"pair": pair, **rest, "over_seeds": asdict(found.over_seeds) if found.over_seeds else None}


def lines(found: Comparison) -> Iterator[str]:
    """Yield what is told beside the table of classes."""
    for letter, run in zip("AB", found.pair, strict=True):
        error, recipe, seed = (run.result[key] for key in ("test_error", "recipe", "seed"))
        yield f"{letter}  {run.directory.path}: {error:.2f}% test error, {recipe}, seed {seed}"
    for key, (one, other) in found.settings.items():
        yield f"   {key}: A {one}, B {other}"
    if not found.settings:
        yield "   the settings that decide the result are the same"
    yield from (f"   note: {note}" for note in found.notes)
    if found.over_seeds:
        yield ""
        yield from of_seeds(found)
    a, b = found.alone
    both = found.images - a - b - found.neither
    yield ""
    of_pair = f" of seeds {found.pair[0].result['seed']} and {found.pair[1].result['seed']}" if found.over_seeds else ""
    yield (
        f"{found.images:,} test images{of_pair}: both right {both:,}, A alone {a:,}, B alone {b:,}, "
        f"neither {found.neither:,}; McNemar's exact p {chance(found.p)}"
    )
    if found.disagreed:
        more = len(found.disagreed) - FIRST_PLACES
        rest = f" and {more:,} more (--json lists them)" if more > 0 else ""
        yield f"images where one alone is right: {', '.join(map(str, found.disagreed[:FIRST_PLACES]))}{rest}"


def of_seeds(found: Comparison) -> Iterator[str]:
    """Yield the paired comparison over the common seeds."""
    pairs = found.over_seeds
    assert pairs is not None
    yield f"over {pairs.n} seeds ({', '.join(map(str, found.seeds))}), test errors in per cent:"
    for letter, errors in zip("AB", found.errors, strict=True):
        yield f"   {letter}  {', '.join(f'{error:.2f}' for error in errors[: pairs.n])}"
    interval = "" if pairs.low is None else f", 95% {pairs.low:+.2f} to {pairs.high:+.2f}"
    p = "no spread of the differences, so no test" if pairs.p is None else f"paired t test p {chance(pairs.p)}"
    yield f"   B - A: {pairs.difference:+.2f} points in the mean{interval}; {p}"


def show_classes(found: Comparison) -> None:
    """Print the classes, those that changed the most first."""
    title = "Per class: recall in per cent, images that one alone has right, McNemar's p after Holm"
    table = Table("class", title=title, title_justify="left")
    for name in ("images", "A", "B", "B - A", "A alone", "B alone", "p"):
        table.add_column(name, justify="right")
    for row in sorted(found.classes, key=lambda row: (row.p, -abs(row.alone[1] - row.alone[0]))):
        a, b = row.recalls
        figures = (f"{a:.2f}", f"{b:.2f}", f"{b - a:+.2f}", f"{row.alone[0]:,}", f"{row.alone[1]:,}", chance(row.p))
        table.add_row(escape(row.name), f"{row.images:,}", *figures)
    show(table)


def chance(p: float) -> str:
    """Return a p value with two digits, and a star where it is below 5%."""
    return ("below 0.0001" if p < 0.0001 else f"{p:.2g}") + (" *" if p < SURE else "")
