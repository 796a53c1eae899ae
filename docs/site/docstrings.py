"""Docstrings as Markdown: `name: text` lines become a list, indented examples code, the first words of classes stay."""

import inspect
import re
from typing import Any

import griffe

OPTION = re.compile(r"[a-z_][\w.]*(?:, [a-z_][\w.]*)*: ")

BESIDE = re.compile(r"\]\((?=[\w-]+\.md[#)])")


def as_markdown(docstring: str) -> str:
    """Return a docstring of the package's style as Markdown."""
    blocks = []
    for block in re.split(r"\n\s*\n", inspect.cleandoc(docstring)):
        lines = block.split("\n")
        if all(line.startswith("    ") for line in lines if line):
            blocks.append("```python\n" + inspect.cleandoc(block) + "\n```")
        elif len(lines) > 1 and all(OPTION.match(line) or line.startswith("    ") for line in lines):
            blocks.append("\n".join(listed(line) for line in lines))
        else:
            blocks.append(block)
    return "\n\n".join(blocks)


def listed(line: str) -> str:
    """Return a line `names: text` as an entry of a list, and one that goes on with the last entry as its next."""
    names, _, text = line.partition(": ")
    if not OPTION.match(line):
        return f"  {line}"
    return f"- {', '.join(f'`{name}`' for name in names.split(', '))}: {text}"


class HouseStyle(griffe.Extension):
    """Have the reference show docstrings as `as_markdown` has them."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        if obj.docstring:
            # Keys of the configuration link as the page that shows them in docs/ does.
            obj.docstring.value = BESIDE.sub("](../", as_markdown(obj.docstring.value))
