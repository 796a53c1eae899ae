"""`pictorch quirks`: where the programs behind the seed documents differ from the papers, and what to type for it."""

import json
import textwrap
from collections.abc import Sequence
from typing import Any, cast, get_args

from rich.table import Table
from rich.text import Text

from pictorch.cli.text import say, show
from pictorch.config import UserError, nearest
from pictorch.config.quirks import NOT_REPRODUCED, Quirk, find
from pictorch.config.schema import Document

DOCUMENTS = get_args(Document)


def quirks(pattern: str, *, document: str | None, as_json: bool) -> None:
    """Print the quirks whose names match: a table, or of a single one everything that is known."""
    if document is not None and document not in DOCUMENTS:
        raise UserError(f"--document: there is no seed document {document!r}{nearest(document, DOCUMENTS)}")
    found = find(pattern, cast("Document | None", document))
    if as_json:
        say(json.dumps([described(quirk) for quirk in found], indent=1))
    elif len(found) == 1:
        show_one(found[0])
    else:
        show_table(found)


def described(quirk: Quirk) -> dict[str, Any]:
    """Return a quirk as plain values: `keys` of each document, `as_published` is whether that turns it on."""
    row = {key: getattr(quirk, key) for key in ("name", "documents", "program", "paper", "effect", "when", "source")}
    keys = {document: quirk.settings(document) for document in quirk.documents}
    return row | {"keys": keys, "switches": quirk.switches, "as_published": not quirk.apart, "apart": quirk.apart}


def show_table(found: Sequence[Quirk]) -> None:
    """Print name, documents and switch of each on a line, so that the switch can be copied, and below what it changes.

    A second switch, for another document, has a line of its own.
    """
    say("as_published=SEED turns on those of a document that apply to a run, but for those with a star; each alone:\n")
    marked = {f"{quirk.name}{' *' if quirk.apart else ''}": quirk for quirk in found}
    width = max(map(len, marked))
    for name, quirk in marked.items():
        for i, switch in enumerate(quirk.switches):
            say(f"{'' if i else name:{width}}  {'' if i else ','.join(quirk.documents):11}  {switch}")
        say(textwrap.indent(textwrap.fill(quirk.effect, 100), "    "))
    say(f"\n`pictorch quirks NAME` says more; {len(NOT_REPRODUCED)} others are not reproduced: docs/quirks.md says why")


def show_one(quirk: Quirk) -> None:
    lines = {
        "the program": quirk.program,
        "the paper": quirk.paper,
        "what it changes": quirk.effect,
        "documents": ", ".join(quirk.documents),
        "where": quirk.when,
        "as_published": f"leaves it off: {quirk.apart}" if quirk.apart else "turns it on",
        "source": quirk.source,
    }
    table = Table(title=quirk.name, title_justify="left", show_header=False)
    for name, text in lines.items():
        table.add_row(name, Text(text, overflow="fold"))
    show(table)
    # Outside the table, whose lines are broken anywhere: it is there to be copied.
    say("\n".join(f"pictorch train RECIPE {switch}" for switch in quirk.switches))
