"""What the site is made of: every command, name, recipe and page is on it, and a link that leads nowhere is told."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import pytest
import typer

import build
import commands
import examples
import interface
import links
import papers
import pictorch
import recipes
from pictorch.cli.app import app
from pictorch.config import recipes as shipped
from tests.conftest import required_in_ci

ROOT = Path(__file__).parent.parent.parent
TOP: Any = typer.main.get_command(app)


def every_command() -> Iterator[tuple[str, str, Any]]:
    """Yield (page, call, command) of every command that is not hidden, and of those of a group."""
    for name, command in TOP.commands.items():
        if not command.hidden:
            yield name, f"pictorch {name}", command
            for part, inner in getattr(command, "commands", {}).items():
                yield name, f"pictorch {name} {part}", inner


COMMANDS = list(every_command())


@pytest.mark.parametrize(("page", "call", "command"), COMMANDS, ids=[call for _, call, _ in COMMANDS])
def test_a_command_is_told_whole(page: str, call: str, command: Any) -> None:
    text = commands.pages()[f"{page}.md"]
    heading = re.search(rf"^##? {re.escape(call)}$", text, re.MULTILINE)
    assert heading, f"{call} has no section"
    section = re.split(r"^##? ", text[heading.end() :], maxsplit=1, flags=re.MULTILINE)[0]
    for parameter in command.params:
        if not parameter.hidden:
            option = parameter.opts[0].startswith("-")
            shown = parameter.opts[0] if option else parameter.metavar
            assert f"| `{shown}" in section
            told = re.sub(r" \(default: [^)]*\)", "" if option else r"\g<0>", parameter.help or "")
            assert commands.escaped(told) in section, shown
    words = [line for line in (command.help or "").split("\n") if line.startswith("pictorch ")]
    assert [line for line in words if f"\n{line}\n" not in section] == [], "examples"
    assert "\b" not in section


def test_every_command_is_in_the_index_and_nothing_else() -> None:
    pages = commands.pages()
    known = [name for name, command in TOP.commands.items() if not command.hidden]
    assert list(pages) == ["index.md", *(f"{name}.md" for name in known)]
    assert re.findall(r"^\| \[`pictorch ([\w-]+)`\]\(([\w-]+)\.md\)", pages["index.md"], re.MULTILINE) == [
        (name, name) for name in known
    ]


def test_defaults_stand_in_their_column() -> None:
    text = commands.pages()["sweep.md"]
    assert "| `--executor NAME` | local, ray (a Ray cluster) or slurm (an array job). | `local` |" in text
    assert "| `--jobs N` | How many runs at a time. | one a core, or a GPU |" in text
    assert "pictorch sweep [OPTIONS] GRID [KEY=VALUE]..." in text
    assert "| `--corruptions all|A,B` |" in commands.pages()["eval.md"]


@pytest.mark.parametrize("name", sorted({n for page in interface.PAGES.values() for n in page.names.split()}))
def test_names_of_the_reference_are_there_and_documented(name: str) -> None:
    try:
        thing = resolve_name(f"pictorch.{name}")
    except AttributeError:
        pytest.fail(f"pictorch has no {name}: docs/site/interface.py names it")
    assert thing.__doc__


def test_the_public_functions_stand_first_under_their_own_names() -> None:
    found = re.findall(r"heading: pictorch\.(\w+)", interface.pages()["index.md"])
    assert found == pictorch.__all__


def test_every_quirk_of_a_network_is_on_a_family_s_page() -> None:
    found = papers.of_networks()
    assert [name for name, families in found.items() if not families] == []
    assert found["wrn_early_dropout"] == {"wrn"}
    assert found["norm_after_stem"] == {"resnet_preact", "se_resnet_preact"}
    assert all(len(families) < 12 for families in found.values()), "what is all networks' is no family's own"


def test_every_recipe_and_grid_is_shown() -> None:
    text = "\n".join(recipes.pages().values())
    for name in shipped.files():
        file = (shipped.directory() / f"{name}.yaml").read_text(encoding="utf-8")
        assert f"```yaml\n{file.strip()}\n```" in text, name


def test_every_example_is_shown_as_it_is() -> None:
    pages = examples.pages()
    scripts = list((ROOT / "examples").glob("*.py"))
    assert len(scripts) == len(pages) - 1 >= 4
    for script in scripts:
        code = script.read_text(encoding="utf-8")
        shown = pages[f"{script.stem}.md"].partition("```python\n")[2].removesuffix("```\n")
        assert shown in code
        assert compile(shown, script.name, "exec")


def test_every_page_is_in_the_navigation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page that the navigation does not lead to is as good as none; one without a place there is under More."""

    def places(entry: Any) -> Iterator[str]:
        if isinstance(entry, str):
            yield entry
        for inner in entry.values() if isinstance(entry, dict) else entry if isinstance(entry, list) else ():
            yield from places(inner)

    new = tmp_path / "new.md"
    new.write_text('# Something "new"\n')
    known = build.written()
    monkeypatch.setattr(build, "written", lambda: {**known, "new.md": new})
    sections = {name: [("Index", f"{name}/index.md"), ("One", f"{name}/one.md")] for name in build.SECTIONS}
    nav = tomllib.loads(build.settings(sections, tmp_path / "out"))["project"]["nav"]
    found = list(places(nav))
    assert len(found) == len(set(found))
    expected = {place for pages in sections.values() for _, place in pages}
    assert set(found) == expected | {"new.md"} | {place for place in known if place.endswith(".md")}
    guides = next(entry["Guides"] for entry in nav if "Guides" in entry)
    assert {'Something "new"': "new.md"} in next(entry["More"] for entry in guides if "More" in entry)


def test_without_pages_of_no_place_there_is_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named = re.findall(r'"([\w-]+\.md)"', (ROOT / "zensical.toml").read_text(encoding="utf-8"))
    known = {place: path for place, path in build.written().items() if place in named}
    monkeypatch.setattr(build, "written", lambda: known)
    text = build.settings({name: [("Index", f"{name}/index.md")] for name in build.SECTIONS}, tmp_path / "out")
    assert tomllib.loads(text)
    assert '"More"' not in text.partition("[project.theme]")[0].partition("\nnav")[2]


@pytest.mark.parametrize(
    ("text", "moved"),
    [
        ("[a](../ledger/README.md)", "[a](ledger.md)"),
        ("[two\nlines](data.md#known)", "[two\nlines](data.md#known)"),
        ("![p](results/x.svg)", "![p](results/x.svg)"),
        ("[m](models.md)", "[m](papers/index.md)"),
        ("[out](https://example.org/a.md) [here](#below)", "[out](https://example.org/a.md) [here](#below)"),
        ("`[code](nowhere.md)`", "`[code](nowhere.md)`"),
        ("```text\n[code](nowhere.md)\n```\n[d](data.md)", "```text\n[code](nowhere.md)\n```\n[d](data.md)"),
    ],
)
def test_links_lead_from_the_page_s_place_on_the_site(text: str, moved: str) -> None:
    places = {"docs/data.md": "data.md", "docs/results/x.svg": "results/x.svg", **build.ELSEWHERE}
    assert build.relinked(text, "docs/page.md", "page.md", places) == moved


def test_a_link_to_what_the_site_does_not_have_is_told() -> None:
    with pytest.raises(build.Broken, match=r"docs/page\.md: \.\./main\.py is not on the site"):
        build.relinked("[m](../main.py)", "docs/page.md", "page.md", {"docs/data.md": "data.md"})


def test_links_from_a_folder_lead_up() -> None:
    assert build.relinked("[d](docs/data.md)", "README.md", "a/b.md", {"docs/data.md": "data.md"}) == "[d](../data.md)"


@pytest.mark.parametrize(
    ("html", "mistake"),
    [
        ('<a href="gone.html">x</a>', "gone.html is not there"),
        ('<img src="gone.png">', "gone.png is not there"),
        ('<a href="other.html#gone">x</a>', "other.html#gone: no such place on that page"),
        ('<a href="#gone">x</a>', "#gone: no such place on that page"),
        ('<a href="folder">x</a>', "folder is a folder, of which a page that is opened as a file shows a list"),
        ('<a href="../other.html">x</a>', "../other.html is not there"),
        ('<a href="/other.html">x</a>', "/other.html works from the top of a host alone"),
        ('<script src="https://example.org/a.js"></script>', "asks another host: https://example.org/a.js"),
        ('<link rel="stylesheet" href="//example.org/a.css">', "asks another host: //example.org/a.css"),
        ('<a href="https://example.org">x</a><a href="other.html#there">y</a><img src="data:,">', ""),
    ],
)
def test_a_built_page_is_read_for_what_leads_nowhere(tmp_path: Path, html: str, mistake: str) -> None:
    (tmp_path / "page.html").write_text(html)
    (tmp_path / "other.html").write_text('<h2 id="there">There</h2>')
    (tmp_path / "folder").mkdir()
    assert links.mistakes(tmp_path) == ([f"page.html: {mistake}"] if mistake else [])


@pytest.mark.parametrize("style", ["@import '//a.org/x.css';", "a { src: url(https://a.org/f.woff2) }"])
def test_a_style_that_asks_another_host_is_told(tmp_path: Path, style: str) -> None:
    (tmp_path / "style.css").write_text(style)
    assert links.mistakes(tmp_path) == ["style.css: a style asks another host"]


def test_the_logo_leads_home(tmp_path: Path) -> None:
    (tmp_path / "papers").mkdir()
    logo = '<a href="{}" title="pictorch" class="md-nav__button md-logo" aria-label="pictorch">'
    made = {"speed.html": "", "papers/resnet.html": "./..", "404.html": "/"}
    for name, href in made.items():
        (tmp_path / name).write_text(f'<a href="x.html" title="x">{logo.format(href)}')
    build.lead_home(tmp_path)
    for name, way in {"speed.html": "index.html", "papers/resnet.html": "../index.html", "404.html": "/"}.items():
        assert (tmp_path / name).read_text() == f'<a href="x.html" title="x">{logo.format(way)}'


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "papers"
    folder.mkdir()
    (folder / "thesis.tex").write_text("years of work")
    with pytest.raises(build.Broken, match="not a site that was built here"):
        build.build(folder)
    assert [path.name for path in folder.iterdir()] == ["thesis.tex"]
    assert not list(tmp_path.glob(".site-*"))


def test_docstrings_become_markdown() -> None:
    try:
        from docstrings import as_markdown
    except ImportError:
        required_in_ci('griffe is not installed (pip install "pictorch[docs]")')

    text = "Return it.\n\ndepth: 6n+2,\n    or else.\nwidth, size: two.\n\n    create(depth=8)\n\nRaises: nothing."
    expected = (
        "Return it.\n\n- `depth`: 6n+2,\n      or else.\n- `width`, `size`: two.\n\n```python\ncreate(depth=8)\n```\n\n"
        "Raises: nothing."
    )
    assert as_markdown(text) == expected
