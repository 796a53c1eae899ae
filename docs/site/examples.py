"""A page for each script of examples/: its docstring, and the script as it is."""

import ast
from pathlib import Path

FOLDER = Path(__file__).resolve().parent.parent.parent / "examples"
INDEX = """# Examples

Short scripts that run as they are, on the digits in the package, in some seconds each; the tests run every one.

| script | what it shows |
|---|---|
{rows}
"""


def pages() -> dict[str, str]:
    """Return {file: Markdown}: the index, and a page a script."""
    scripts = sorted(FOLDER.glob("*.py"))
    about = {path.stem: ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "" for path in scripts}
    rows = [f"| [`{name}.py`]({name}.md) | {text.partition(chr(10))[0]} |" for name, text in about.items()]
    made = {"index.md": INDEX.format(rows="\n".join(rows))}
    for path in scripts:
        code = path.read_text(encoding="utf-8").partition('"""\n')[2].lstrip("\n")
        title = path.stem.replace("_", " ").capitalize()
        run = f"```bash\npython examples/{path.name}\n```"
        made[f"{path.stem}.md"] = f"# {title}\n\n{about[path.stem]}\n\n{run}\n\n```python\n{code}```\n"
    return made
