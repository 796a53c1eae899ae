"""`pictorch claims`: the published numbers beside our runs, and `pictorch claims add`: a run into the ledger."""

import inspect
import json
import textwrap
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from pictorch.cli.paths import option_path
from pictorch.cli.text import say
from pictorch.config import UserError, nearest
from pictorch.experiments import ledger as ledger_of_runs
from pictorch.experiments import published
from pictorch.experiments.claims import Other, as_row, match, other_row, others

WIDTH = 80
NAME = 41


def claims(words: Sequence[str], *, ledger: str | None, changed_code: bool, as_json: bool) -> None:
    """Run the command: `words` are a pattern, or "add" and run directories."""
    given = option_path("--ledger", ledger)
    directory = Path(given) if given else published.path().parent
    if not directory.is_dir():
        raise UserError(f"--ledger: {directory}: there is no such folder")
    if words[:1] == ["add"]:
        if not given and (directory.parent / "__init__.py").exists():
            raise UserError("claims add: the ledger of an installed package is not yours to add to: give --ledger DIR")
        add(words[1:], directory, changed_code=changed_code)
        return
    if changed_code:
        raise UserError("--changed-code is for `pictorch claims add`")
    if len(words) > 1:
        raise UserError(f"expected one pattern, or `add` and run directories, got {' '.join(words)}")
    show(words[0] if words else "", directory, as_json=as_json)


def add(places: Sequence[str], directory: Path, *, changed_code: bool) -> None:
    """Add runs to the ledger, and say what each is."""
    if not places:
        raise UserError("claims add: no run directory is given; write `pictorch claims add RUN_DIR`")
    for run in ledger_of_runs.add(places, directory, network, changed_code=changed_code):
        say(f"{run.run}  {run.recipe}, seed {run.seed}: {run.test_error:.2f}% test error, {run.protocol}")
    say(f"added to {directory / ledger_of_runs.RUNS}; `pictorch claims` shows what they say")


def show(pattern: str, directory: Path, *, as_json: bool) -> None:
    """Print the published numbers with the pattern in their ids, and without one the runs that count for none."""
    rows = [row for row in published.rows() if fnmatch(row.id, f"*{pattern}*")]
    if not rows:
        raise UserError(f"no published number matches {pattern!r}{hint(pattern)}")
    ours = ledger_of_runs.read(directory)
    found = [as_row(claim) for claim in match(rows, ours, network) if claim.published.value is not None or claim.groups]
    rest = [] if pattern else others(rows, ours, network)
    if as_json:
        say(json.dumps({"claims": found, "other_runs": [other_row(other) for other in rest]}, indent=1))
        return
    lines = [line for row, above in zip(found, [None, *found], strict=False) for line in block(row, above)]
    say("\n".join([*lines, *other_runs(rest), "", summary(found)]))


def network(name: str, options: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return the family that a network is of, and its options that are not the family's defaults."""
    from pictorch import models

    family, written = models.resolve(name, options)
    known = models.families().get(family)
    defaults = inspect.signature(known.create).parameters if known else {}
    return family, {k: v for k, v in written.items() if k not in defaults or v != defaults[k].default}


def hint(pattern: str) -> str:
    """Return the nearest part of the published numbers' names; their tables where nothing is near."""
    parts = sorted({part for row in published.rows() for part in row.id.split("/")})
    tables = list(dict.fromkeys(f"{row.document}/{row.table}" for row in published.rows()))
    near = nearest(pattern, parts)
    return near if "did you mean" in near else nearest(pattern, tables)


def block(row: dict[str, Any], above: dict[str, Any] | None) -> Iterator[str]:
    """Yield a published number's lines: one, and three for each group of our runs; a heading where a table begins."""
    table = f"{row['document']}/{row['table']}"
    if above is None or table != f"{above['document']}/{above['table']}":
        yield from ([""] if above else [])
        yield table
    name = row["id"].removeprefix(f"{table}/").removesuffix("/document")
    number = "" if row["value"] is None else f"{row['value']:.2f}"
    spread = "" if row["spread"] is None else f" ± {row['spread']:.2f}"
    if len(name) > NAME:
        yield f"  {name}"
        name = ""
    yield f"  {name:{NAME}} {number + spread:>12}  {row['statistic']:11.11} {row['verdict']}".rstrip()
    for group in row["ours"]:
        yield from (f"    {line}" for line in of_group(group))


def of_group(group: dict[str, Any]) -> Iterator[str]:
    """Yield what our runs say of a published number."""
    interval = "" if group["interval"] is None else ", 95% {:.2f} to {:.2f}".format(*group["interval"])
    numbers = f"n {group['n']}, median {group['median']:.2f}, mean {group['mean']:.2f}{interval}"
    yield f"{group['label']}: {numbers}"
    if group["verdict"]:
        difference = group["difference"]
        of = "" if difference is None else "difference of the errors {:+.2f} to {:+.2f}, ".format(*difference)
        yield f"{group['verdict']}: {of}margin {group['margin']:.2f}"
        if group["reason"]:
            yield from textwrap.wrap(group["reason"], WIDTH - 4)
    yield from textwrap.wrap(group["protocol"], WIDTH - 4)


def other_runs(rest: Sequence[Other]) -> Iterator[str]:
    """Yield the runs that count for no published number, under their heading."""
    if rest:
        yield from ("", "other runs, not comparable")
    for other in rest:
        run = other.run
        yield f"  {run.run}  {run.recipe}, seed {run.seed}: {run.test_error:.2f}% test error"
        yield from textwrap.wrap(other.reason, WIDTH - 4, initial_indent="    ", subsequent_indent="    ")


def summary(rows: Sequence[dict[str, Any]]) -> str:
    counts = Counter(row["verdict"] for row in rows if row["verdict"])
    return f"{counts.total()} published numbers: {', '.join(f'{count} {word}' for word, count in counts.most_common())}"
