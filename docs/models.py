"""Write docs/models.md: `python docs/models.py`. A test does the same and compares.

Text comes from the families' docstrings, numbers from tests/models/architectures.json, which a test holds against the
networks themselves.
"""

import inspect
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pictorch import models

ROOT = Path(__file__).parent.parent
ROWS = json.loads((ROOT / "tests" / "models" / "architectures.json").read_text())
INTRODUCTION = """\
<!-- Written by `python docs/models.py`; a test compares. -->

# Networks

`pictorch models` lists them; `pictorch.create_model(name, num_classes=10, in_channels=3, image_size=32, **options)`
builds one: a family with options (`create_model("resnet", depth=110)`), a named variant (`create_model("resnet_110")`),
a class of your own by import path (`create_model("my_package.nets:MyNet")`), or one of timm's
(`create_model("timm:resnet18")`). Images are `[N, in_channels, H, W]`, logits `[N, num_classes]`. Every network of ours
has `forward_features`, `forward_head`, `feature_dim` and `reset_classifier(num_classes)`.

Parameters and multiply-adds are exact: a test builds every row below and counts. A multiply-add is one product in a
convolution or linear layer in one evaluation forward of one image. `pictorch models NAME --layers` prints a network
layer by layer, `pictorch models --json` all of them with the memory that their activations take.

The papers' networks are the default. `as_published` builds a network as one of three programs had it behind its
published numbers: `"seed1"` and `"seed2"` are github.com/hysts/pytorch_image_classification in 2018 and in its later
form, `"seed3"` is a collection of PyTorch networks with tables for CIFAR-10 and CIFAR-100."""


def page() -> str:
    """Return the whole page."""
    sections = [INTRODUCTION, *(section(family) for family in models.families())]
    return "\n\n".join(sections) + "\n"


def section(family: str) -> str:
    """Return a family's section: its paper and blocks, its options, its variants, its counts."""
    entry = models.families()[family]
    module = inspect.getmodule(entry.create)
    about = inspect.cleandoc(module.__doc__ or "").split("\n", 1)
    text = paragraphs(about[1] if len(about) > 1 else "")
    if module and module.__name__.rpartition(".")[2] != family:
        text = [block for block in text if not block.startswith("```")]  # the examples are the module's own family's
    parts = [f"## {family}", entry.paper, *text]
    parts += ["### Options", *paragraphs(inspect.getdoc(entry.create) or "", skip=1)]
    if entry.variants:
        parts += ["### Named variants", ", ".join(f"`{name}`" for name in entry.variants)]
    rows = list(table(family))
    if rows:
        header = ["| options | images | classes | parameters | multiply-adds |", "|---|---|---:|---:|---:|"]
        parts += ["### Counts", "\n".join([*header, *rows])]
    return "\n\n".join(parts)


def paragraphs(text: str, skip: int = 0) -> list[str]:
    """Return a docstring's paragraphs as Markdown: indented examples as code, `name: text` lines as a list."""
    made = []
    for block in text.strip("\n").split("\n\n")[skip:]:
        lines = block.split("\n")
        if not block.strip() or block.startswith("Raises"):
            continue
        if all(line.startswith("    ") for line in lines):
            made.append("```python\n" + inspect.cleandoc(block) + "\n```")
        elif is_option(lines[0]):
            made.append("\n".join(f"- {line}" if is_option(line) else f"  {line.strip()}" for line in lines))
        else:
            made.append(block)
    return made


def is_option(line: str) -> bool:
    """Return whether the line begins the description of one or more options: `name: ...` or `name, name: ...`."""
    names, colon, _ = line.partition(":")
    return bool(colon) and all(name.strip().isidentifier() for name in names.split(","))


def table(family: str) -> Iterator[str]:
    """Yield a line for each row of the reference that is of this family."""
    for row in ROWS:
        if row["family"] == family:
            options = ", ".join(f"{key}={value!r}" for key, value in row["options"].items())
            size = f"{row['in_channels']}x{row['image_size']}x{row['image_size']}"
            counts = f"{row['params']:,} | {row['macs']:,}"
            yield f"| `{options}` | {size} | {row['num_classes']} | {counts} |"


def write(path: Path = ROOT / "docs" / "models.md") -> Any:
    path.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    write()
