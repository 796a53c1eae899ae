"""Write the tables of docs/configuration.md anew from the schema: `python docs/configuration.py`."""

import ast
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from pictorch.config import schema
from pictorch.config.explain import blocks_of
from pictorch.config.keywords import bounds, describe, show
from pictorch.config.schema import EXECUTION_KEYS, Block, Config

PAGE = Path(__file__).with_suffix(".md")
BEGIN, END = "<!-- keys -->", "<!-- /keys -->"
Fields = dict[str, FieldInfo]


def meanings() -> dict[str, str]:
    """Return {class.field: the text below it} of the schema's source."""
    found: dict[str, str] = {}
    for block in ast.parse(Path(str(schema.__file__)).read_text(encoding="utf-8")).body:
        if isinstance(block, ast.ClassDef):
            for field, text in pairwise(block.body):
                if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr):
                    found[f"{block.name}.{ast.unparse(field.target)}"] = ast.literal_eval(text.value)
    return found


MEANINGS = meanings()


def meaning(block: type[BaseModel], key: str) -> str:
    """Return what a key means, as the block or the nearest above it that has the key says."""
    return next((MEANINGS[name] for base in block.__mro__ if (name := f"{base.__name__}.{key}") in MEANINGS), "")


def tables() -> str:
    """Return a section for each top-level block: what it is, then its keys."""
    lines: list[str] = []
    for name, field in Config.model_fields.items():
        members = blocks_of(field.annotation)
        lines += [f"### `{name}`", ""]
        if not members:
            lines += table("", Config, {name: field})
        elif len(members) == 1:
            lines += [described(members[0]) + ("" if field.default else " Off by default."), ""]
            lines += table(name, members[0], members[0].model_fields)
        else:
            lines += alternatives(name, members, field.default.name)
    return "\n".join(lines)


def alternatives(prefix: str, members: list[type[BaseModel]], default: str) -> list[str]:
    """Return what blocks of one place have in common, then each with what is its own."""
    common = next(base for base in members[0].__mro__ if all(issubclass(member, base) for member in members))
    about = described(common) + " " if common is not Block else ""
    lines = [f"{about}`{prefix}=NAME` takes one by its name; the default is `{default}`.", ""]
    lines += table(prefix, common, common.model_fields)
    for member in members:
        own = {
            key: field
            for key, field in member.model_fields.items()
            if key != "name" and (key not in common.model_fields or field.default != common.model_fields[key].default)
        }
        lines += [f"**{member.model_fields['name'].default}**: {described(member)}", "", *table(prefix, member, own)]
    return lines


def described(block: type[BaseModel]) -> str:
    """Return the block's docstring, each paragraph on one line."""
    paragraphs = re.split(r"\n\s*\n", block.__doc__ or "")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


def table(prefix: str, block: type[BaseModel], fields: Fields) -> list[str]:
    rows = rows_of(prefix, block, fields)
    return ["| key | values | default | meaning |", "|---|---|---|---|", *rows, ""] if rows else []


def rows_of(prefix: str, block: type[BaseModel], fields: Fields) -> list[str]:
    rows: list[str] = []
    for key, field in fields.items():
        inner = blocks_of(field.annotation)
        if not inner:
            whole = f"{prefix}.{key}" if prefix else key
            default = "" if field.is_required() else f"`{show(field.default)}`"
            star = " *" if whole in EXECUTION_KEYS else ""
            values = f"{describe(field.annotation)}{limits(field)}"
            rows.append(f"| `{whole}`{star} | {values} | {default} | {meaning(block, key)} |")
        for sub in inner:
            named = f"={sub.model_fields['name'].default}" if len(inner) > 1 else ""
            rows.append(f"| **`{prefix}.{key}{named}`** | | off | {described(sub).replace(chr(10) * 2, ' ')} |")
            rows += rows_of(f"{prefix}.{key}", sub, {k: f for k, f in sub.model_fields.items() if k != "name"})
    return rows


def limits(field: FieldInfo) -> str:
    """Return the bounds that pydantic keeps beside a field's annotation."""

    class Metadata:
        metadata: Any = field.metadata

    return bounds((Metadata,))


def page() -> str:
    """Return the page with its tables as the schema has them now."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    return f"{before}{BEGIN}\n\n{tables()}\n{END}{rest.partition(END)[2]}"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
