"""A page for each command, from the command line's own help: what it takes, its defaults, its examples."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from pictorch.cli.app import app

DOCS = Path(__file__).resolve().parent.parent
MOST_LINKS = 6
INDEX = """# Commands

`pictorch COMMAND --help` prints what stands here; each page is made from the command itself.

{table}

Settings are written `key=value` or `key value`; [all keys](../configuration.md). Words that name a folder may begin
with `~`.

| exit status | meaning |
|---:|---|
| 0 | done |
| 1 | it did not hold, or a failure of pictorch's |
| 2 | a mistake of yours: one sentence on standard error says what, where, and what was expected |
| 130 | interrupted; the message says how to go on |
"""


def pages() -> dict[str, str]:
    """Return {file: Markdown}: the index, and a page a command, in the order of `pictorch --help`."""
    top: Any = typer.main.get_command(app)
    shown = {name: command for name, command in top.commands.items() if not command.hidden}
    rows = [f"| [`pictorch {name}`]({name}.md) | {escaped(first_line(command))} |" for name, command in shown.items()]
    table = "\n".join(["| command | what it does |", "|---|---|", *rows])
    return {"index.md": INDEX.format(table=table), **{f"{name}.md": page(name, cmd) for name, cmd in shown.items()}}


def page(name: str, command: Any) -> str:
    """Return a command's page; the parts of a group of commands stand below it."""
    parts = [f"# pictorch {name}", *described(f"pictorch {name}", command)]
    for part, inner in getattr(command, "commands", {}).items():
        parts += [f"## pictorch {name} {part}", *described(f"pictorch {name} {part}", inner)]
    if read := guides(name):
        parts += ["## More of it", "\n".join(f"- [{title}](../{file})" for title, file in read)]
    return "\n\n".join(parts) + "\n"


def described(call: str, command: Any) -> Iterator[str]:
    """Yield the parts of a command's section: text, usage, examples, arguments, options."""
    about, examples = help_of(command)
    yield from about
    arguments = [p for p in command.params if not is_option(p) and not p.hidden]
    options = [p for p in command.params if is_option(p) and not p.hidden]
    words = [usage(p) for p in arguments]
    inner = ["COMMAND ..."] if getattr(command, "commands", None) else []
    yield "```text\n" + " ".join([call, *(["[OPTIONS]"] if options else []), *words, *inner]) + "\n```"
    if examples:
        yield "```bash\n" + "\n".join(examples) + "\n```"
    if arguments:
        rows = [f"| `{p.metavar or p.name.upper()}` | {escaped(p.help or '')} |" for p in arguments]
        yield "\n".join(["| argument | meaning |", "|---|---|", *rows])
    if options:
        table = "\n".join(["| option | meaning | default |", "|---|---|---|", *map(of_option, options)])
        yield f'<div class="options" markdown>\n\n{table}\n\n</div>'


def help_of(command: Any) -> tuple[list[str], list[str]]:
    """Return a command's help as paragraphs, and the examples in it."""
    about: list[str] = []
    examples: list[str] = []
    for block in (command.help or "").split("\n\n"):
        if block.startswith("\b\n"):
            examples += block.split("\n")[1:]
        elif found := re.match(r"Examples?: ", block):
            examples += [line.strip() for line in block[found.end() :].split(";")]
        else:
            about.append(" ".join(block.split()))
    return about, examples


def first_line(command: Any) -> str:
    return help_of(command)[0][0]


def is_option(parameter: Any) -> bool:
    return str(parameter.opts[0]).startswith("-")


def usage(argument: Any) -> str:
    """Return an argument as a line of usage has it."""
    word = argument.metavar or argument.name.upper()
    word = word if argument.required or word.startswith("[") else f"[{word}]"
    return word + ("..." if argument.nargs == -1 and "..." not in word else "")


def of_option(option: Any) -> str:
    """Return an option's row: its names with what it takes, its meaning, its default."""
    value = "" if option.is_flag else f" {option.metavar or option.name.upper()}"
    names = ", ".join([*option.opts, *getattr(option, "secondary_opts", [])])
    told, given = re.subn(r" \(default: ([^)]*)\)", "", option.help or "")
    default = re.search(r"\(default: ([^)]*)\)", option.help or "")
    if given and default:
        shown = default[1]
    elif option.required:
        shown = "required"
    else:
        shown = "" if option.default in (None, False) or callable(option.default) else f"`{option.default}`"
    return f"| `{names + value}` | {escaped(told)} | {escaped(shown)} |"


def escaped(text: str) -> str:
    """Return text for a cell of a table; code needs none of it, and would show the backslash."""
    return text.replace("|", "\\|").replace("\n", " ")


def guides(name: str) -> list[tuple[str, str]]:
    """Return the titles and files of the pages of docs/ that show a command, the ones that do so most often first."""
    found = []
    for path in sorted(DOCS.glob("*.md")):
        text = path.read_text(encoding="utf-8")
        times = len(re.findall(rf"pictorch {re.escape(name)}(?![\w-])", text))
        if times and path.name not in ("log.md", "models.md"):
            found.append((-times, text.partition("\n")[0].removeprefix("# "), path.name))
    return [(title, file) for _, title, file in sorted(found)[:MOST_LINKS]]
