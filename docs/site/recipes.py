"""The recipes and grids, a page each folder of them: what each is, and the file itself."""

from itertools import groupby

from papers import families_of_recipes
from pictorch.config import recipes

INDEX = """# Recipes

What `pictorch train NAME` and `pictorch sweep NAME` know, as `pictorch recipes` lists it. A recipe holds only what
differs from the one that it `extends`; `pictorch train NAME --dry-run` prints it whole, with its time and memory here,
and [the keys](../configuration.md) say what each line means.

| folder | what there is |
|---|---|
{rows}
"""


def pages() -> dict[str, str]:
    """Return {file: Markdown}: the index, and a page a folder."""
    found = {"index.md": ""}
    rows = []
    for folder, inside in groupby([*recipes.names(), *recipes.grids()], key=lambda name: name.rpartition("/")[0]):
        names = list(inside)
        file = folder.replace("/", "-") + ".md"
        found[file] = page(folder, names)
        shown = ", ".join(f"`{name.rpartition('/')[2]}`" for name in names)
        rows.append(f"| [{folder}]({file}) | {shown} |")
    found["index.md"] = INDEX.format(rows="\n".join(rows))
    return found


def page(folder: str, names: list[str]) -> str:
    """Return a folder's page: each recipe's file, whose first lines say what it is."""
    grids = f"{folder}/" == recipes.GRIDS
    parts = [f"# {folder}"]
    for name in names:
        text = (recipes.directory() / f"{name}.yaml").read_text(encoding="utf-8").strip()
        short = name.removeprefix(recipes.GRIDS)
        command = f"pictorch sweep {short}" if grids else f"pictorch train {name}"
        family = "" if grids else families_of_recipes()[name]
        of = f", a network of the family [`{family}`](../papers/{family}.md)" if family else ""
        parts += [f"## {short.rpartition('/')[2]}", f"`{command}`{of}", f"```yaml\n{text}\n```"]
    return "\n\n".join(parts) + "\n"
