"""Write docs/quirks.md anew from the table of quirks: `python docs/quirks.py`."""

from pathlib import Path

from pictorch.config import quirks
from pictorch.config.quirks import NOT_REPRODUCED, QUIRKS, Quirk

PAGE = Path(__file__).with_suffix(".md")
HEAD = """# Quirks

Where the programs behind the seed documents' numbers differ from the papers. Everything is as the papers have it unless
a switch says otherwise: `as_published=seed1` (or `seed2`, `seed3`) turns on, while the configuration is loaded, all
that apply to it, by setting the keys below; each is said, and the resolved `config.yaml` shows them. It changes what a
recipe says; what stands on the command line, or beside `as_published` in the same file, stays. Each switch works alone.

`seed1` and `seed2` are github.com/hysts/pytorch_image_classification in its first and its later form, `seed3` a
collection of PyTorch networks with tables for CIFAR-10 and CIFAR-100. Several quirks of one network share the switch
`model.as_published`, which builds the network as that program did ([models.md](models.md)). `pictorch quirks` lists
them.

This page is written by `python docs/quirks.py`.
"""
TITLES = {"NETWORKS": "Networks", "PICTURES": "Images and targets", "UPDATES": "Updates", "TESTS": "Selection and test"}


def described(quirk: Quirk) -> str:
    """Return a quirk as a section."""
    lines = [
        f"### {quirk.name}",
        "",
        f"{quirk.program} The paper, or sound practice: {quirk.paper[0].lower()}{quirk.paper[1:]}",
        "",
        f"- changes: {quirk.effect}",
        f"- of {', '.join(quirk.documents)}; applies to: {quirk.when}",
        f"- switch: {' or '.join(f'`{switch}`' for switch in quirk.switches)}",
        *([f"- left off by `as_published`: {quirk.apart}"] if quirk.apart else []),
        f"- source: {quirk.source}",
        "",
    ]
    return "\n".join(lines)


def page() -> str:
    """Return the page."""
    parts = [HEAD]
    assert sum(len(getattr(quirks, part)) for part in TITLES) == len(QUIRKS)
    for part, title in TITLES.items():
        parts += [f"## {title}\n", *map(described, getattr(quirks, part))]
    parts.append("## Not reproduced\n")
    parts.append("\n".join(f"- {what}: {why}." for what, why in NOT_REPRODUCED.items()) + "\n")
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
