"""A page for each family: its paper, options, variants with exact counts, recipes, published numbers, quirks.

Text comes from docstrings, counts from the networks themselves, numbers from the ledger. Counting all variants takes
most of a minute, so that what was counted is kept in build/ for as long as no network changes.
"""

import hashlib
import inspect
import json
import re
import runpy
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import cache
from itertools import groupby
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from pictorch import models
from pictorch.cli.claims import network
from pictorch.config import load, quirks
from pictorch.config import recipes as shipped
from pictorch.config.errors import OptionError
from pictorch.experiments import claims, ledger, published
from pictorch.models.catalogue import USUAL_SIZES
from pictorch.models.complexity import count
from pictorch.reports import results

ROOT = Path(__file__).resolve().parent.parent.parent
KEPT = ROOT / "build" / "counts.json"
ARXIV = re.compile(r"arXiv:(\d{4}\.\d{4,5})")
# Options that turn on what a quirk changes, by a value that does.
SWITCHING = {"drop_rate": 0.3, "head": "fc512"}
# In docstrings a call and what it makes stand side by side; options stand before a colon.
CALL = re.compile(r"^(create\(.*?\)) {2,}(\S.*)$", re.MULTILINE)
NAMES = re.compile(r"^- ([\w, ]+):", re.MULTILINE)
Counts = dict[str, tuple[int, int, int]]


def script(name: str) -> SimpleNamespace:
    """Return the script of docs/ that writes a page; its name may be that of a module here."""
    return SimpleNamespace(**runpy.run_path(str(ROOT / "docs" / f"{name}.py")))


NETWORKS = script("models")


def pages() -> dict[str, str]:
    """Return {file: Markdown}: the index, and a page a family."""
    counted = counts()
    return {"index.md": index(counted), **{f"{name}.md": page(name, counted) for name in models.families()}}


def index(counted: Counts) -> str:
    """Return what all networks have in common, and a row a family."""
    introduction = NETWORKS.INTRODUCTION.partition("# Networks")[2].replace("every row below", "every row")
    rows = ["| family | paper | variants | parameters | recipes |", "|---|---|---:|---|---:|"]
    for name, entry in models.families().items():
        params = sorted(counted[variant][1] for variant in entry.variants)
        span = f"{short(params[0])} to {short(params[-1])}" if len(params) > 1 else "".join(map(short, params))
        paper = linked(entry.paper).replace("|", "\\|")
        rows.append(f"| [`{name}`]({name}.md) | {paper} | {len(params)} | {span} | {len(recipes_of(name))} |")
    return f"# Papers\n{introduction}\n\n" + "\n".join(rows) + "\n"


def short(number: int) -> str:
    return f"{number / 1e6:.1f} M" if number >= 1e6 else f"{number / 1e3:.0f} k"


def linked(text: str) -> str:
    """Return text with its arXiv numbers as links."""
    return ARXIV.sub(r"[arXiv:\1](https://arxiv.org/abs/\1)", text)


def page(family: str, counted: Counts) -> str:
    """Return a family's page."""
    entry = models.families()[family]
    module = inspect.getmodule(entry.create)
    about = inspect.cleandoc(module.__doc__ or "").partition("\n")[2]
    text = NETWORKS.paragraphs(about)
    if module and module.__name__.rpartition(".")[2] != family:
        text = [block for block in text if not block.startswith("```")]
    text = [CALL.sub(r"\1  # \2", block) if block.startswith("```") else block for block in text]
    options = [NAMES.sub(named, block) for block in NETWORKS.paragraphs(inspect.getdoc(entry.create) or "", skip=1)]
    parts = [f"# {family}", linked(entry.paper), *map(linked, text), "## Options", *options]
    parts += list(variants(family, counted))
    if known := recipes_of(family):
        rows = [f"| `{name}` | {cell(shipped.summary(name))} |" for name in known]
        parts += [
            "## Recipes",
            "Each is `pictorch train NAME`; [all recipes](../recipes/index.md).",
            table(*RECIPE, rows),
        ]
    parts += [*numbers(family), *deviations(family)]
    if rows := list(NETWORKS.table(family)):
        head = ("options | images | classes | parameters | multiply-adds", "---|---|---:|---:|---:")
        parts += ["## More counts", "Of other options, sizes and classes; a test builds every row.", table(*head, rows)]
    return "\n\n".join(parts) + "\n"


RECIPE = ("recipe | what it is", "---|---")


def table(head: str, line: str, rows: list[str]) -> str:
    return "\n".join([f"| {head} |", f"|{line}|", *rows])


def named(match: re.Match[str]) -> str:
    """Return the names of options as code."""
    return "- " + ", ".join(f"`{name.strip()}`" for name in match[1].split(",")) + ":"


def cell(text: str) -> str:
    return text.replace("|", "\\|")


def variants(family: str, counted: Counts) -> Iterator[str]:
    """Yield the section of a family's named variants."""
    if not (entry := models.families()[family]).variants:
        return
    yield "## Named variants"
    yield (
        "As `pictorch.create_model(NAME)` builds each: 10 classes, 3 channels, the image size in the table. In a "
        "recipe: `model.name=NAME`."
    )
    rows = []
    for name, options in entry.variants.items():
        size, params, macs = counted[name]
        shown = ", ".join(f"{option}={value!r}" for option, value in options.items())
        rows.append(f"| `{name}` | `{cell(shown)}` | {size} | {params:,} | {macs:,} |")
    yield table("name | options | image size | parameters | multiply-adds", "---|---|---:|---:|---:", rows)


@cache
def families_of_recipes() -> Mapping[str, str]:
    """Return {recipe: the family of its network}."""
    return {name: models.resolve(load(name).config.model.name).family for name in shipped.names()}


def recipes_of(family: str) -> list[str]:
    return [name for name, of in families_of_recipes().items() if of == family]


@cache
def published_rows() -> list[dict[str, Any]]:
    """Return every published number as the page of results has it, with our runs beside it."""
    return [claims.as_row(claim) for claim in claims.match(published.rows(), ledger.read(ROOT / "ledger"), network)]


def numbers(family: str) -> Iterator[str]:
    """Yield the section of the published numbers of a family's networks, ours beside them."""
    rows = [row for row in published_rows() if models.resolve(row["model"]).family == family]
    if not rows:
        return
    yield "## Published numbers"
    yield (
        "Test errors in per cent where nothing else is said; empty under ours: not run. [Results](../results.md) says "
        "what counts and how it is tested, `pictorch claims` prints each with its recipe."
    )
    notes: dict[str, int] = {}
    for (document, name), inside in groupby(rows, key=lambda row: (row["document"], row["table"])):
        yield f"### {document}/{name}"
        yield results.table(list(inside), notes).strip()
    if notes:
        yield results.numbered(notes).strip()


@cache
def of_networks() -> Mapping[str, frozenset[str]]:
    """Return {quirk: the families that it is about} of those that are a network's own, whatever else a recipe says."""
    kinds = {family: kinds_of(family) for family in models.families()}
    return {
        quirk.name: frozenset(family for family, configs in kinds.items() if any(map(quirk.applies, configs)))
        for quirk in quirks.NETWORKS
    }


def kinds_of(family: str) -> list[Any]:
    """Return the default recipe with each network of a family, and with each option that some quirk is about."""
    names = [family, *models.families()[family].variants]
    own = [f"{key}: {value}" for key, value in SWITCHING.items() if key in models.options_of(family)]
    return [load(None, [f"model={{name: {name}}}"]).config for name in names] + [
        load(None, [f"model={{name: {family}, {option}}}"]).config for option in own
    ]


def deviations(family: str) -> Iterator[str]:
    """Yield the section of the quirks that are this family's, and not all networks'."""
    own = [quirk for quirk in quirks.NETWORKS if family in of_networks()[quirk.name]]
    if own:
        yield "## Quirks"
        yield "Where the programs behind the documents' numbers are not the paper; each a switch ([all](../quirks.md))."
        rows = [
            f"| [`{q.name}`](../quirks.md#{q.name}) | {', '.join(q.documents)} | {cell(q.program)} | {cell(q.paper)} |"
            for q in own
        ]
        yield table("quirk | of | the program | the paper", "---|---|---|---", rows)


def counts() -> Counts:
    """Return {variant: (image size, parameters, multiply-adds)} of all named variants."""
    digest = hashlib.sha256(torch.__version__.encode())
    for path in sorted((ROOT / "pictorch" / "models").glob("*.py")):
        digest.update(path.read_bytes())
    try:
        kept = json.loads(KEPT.read_text(encoding="utf-8"))
        if kept["of"] == digest.hexdigest():
            return {name: (size, params, macs) for name, (size, params, macs) in kept["counts"].items()}
    except (OSError, ValueError, KeyError, TypeError):
        pass
    made = {name: counted(name) for entry in models.families().values() for name in entry.variants}
    with suppress(OSError):  # a checkout that cannot be written to is counted anew each time
        KEPT.parent.mkdir(exist_ok=True)
        KEPT.write_text(json.dumps({"of": digest.hexdigest(), "counts": made}), encoding="utf-8")
    return made


def counted(name: str) -> tuple[int, int, int]:
    """Return the image size that a variant is built for, its parameters and its multiply-adds."""
    for size in USUAL_SIZES:
        try:
            with torch.device("meta"):
                model = models.create(name, image_size=size)
        except OptionError as error:
            if error.option != "image_size" or size == USUAL_SIZES[-1]:
                raise
        else:
            return size, *count(model, in_channels=3, image_size=size)
    raise AssertionError("the last size returns or raises")
