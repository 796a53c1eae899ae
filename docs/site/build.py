"""Build the documentation site into site/: `python docs/site/build.py [--out DIR]`.

The pages of docs/ go in as they are; commands, papers, recipes, interface and examples are written here, from the code,
and nowhere else: what is not committed cannot go stale. A link, an anchor or a picture that is not there, and a request
to another host, are errors (exit status 1).
"""

import argparse
import os
import posixpath
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

SOURCES = Path(__file__).resolve().parent
ROOT = SOURCES.parent.parent
sys.path[:0] = [str(SOURCES), str(ROOT)]  # the scripts beside this one, and the package of this checkout

import commands  # noqa: E402
import examples  # noqa: E402
import interface  # noqa: E402
import links  # noqa: E402
import papers  # noqa: E402
import recipes  # noqa: E402

MEDIA = {".png", ".svg"}
# Where pages outside docs/ lie on the site, and pages of docs/ that the site has in another form.
ELSEWHERE = {
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "ledger/README.md": "ledger.md",
    "docs/models.md": "papers/index.md",
    "examples": "examples/index.md",
    "pictorch/reports/assets/README.md": "report-assets.md",
}
# Where pages of docs/ stand that the navigation does not name.
MORE = '{ "More" = "more/" },'
SECTIONS = {"commands": commands, "papers": papers, "recipes": recipes, "interface": interface, "examples": examples}
LINK = re.compile(r"(!?\[[^\]]*\]\()(?!https?:|#|mailto:)([^)\s#]+)(#[^)\s]*)?\)")
LOGO = re.compile(r'href="[^"]*"(?= title="[^"]*" class="[^"]*\bmd-logo")')
CODE = re.compile(r"^(`{3,})[^\n]*\n.*?^\1$|`[^`\n]+`", re.MULTILINE | re.DOTALL)


class Broken(Exception):
    """What is wrong with the site, a line each."""


def written() -> dict[str, Path]:
    """Return {place on the site: file} of the pages and pictures that people wrote, or the scripts of docs/."""
    docs = ROOT / "docs"
    found = {path.relative_to(docs).as_posix(): path for path in sorted(docs.glob("*.md"))}
    found |= {p.relative_to(docs).as_posix(): p for p in sorted(docs.rglob("*")) if p.suffix in MEDIA}
    found = {place: path for place, path in found.items() if not place.startswith("site/")}
    found |= {path.relative_to(SOURCES).as_posix(): path for path in sorted(SOURCES.rglob("*")) if own(path)}
    for source, place in ELSEWHERE.items():
        found.pop(source.removeprefix("docs/"), None)
        if source.partition("/")[0] != "docs" and (ROOT / source).is_file():
            found[place] = ROOT / source
    return found


def own(path: Path) -> bool:
    """Return whether a file beside this one belongs on the site as it is."""
    return path.is_file() and path.suffix in {".md", ".css", ".js", *MEDIA}


def relinked(text: str, source: str, place: str, places: Mapping[str, str]) -> str:
    """Return a page's Markdown with its links as they lead from its `place` on the site.

    `source` is its path in the repository, `places` {path in the repository: place on the site}. Raises Broken for a
    link to what is not on the site.
    """
    kept: list[str] = []

    def set_aside(match: re.Match[str]) -> str:
        kept.append(match[0])
        return f"\0{len(kept) - 1}\0"

    def moved(match: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(source), match[2]))
        if target not in places:
            raise Broken(f"{source}: {match[2]} is not on the site")
        way = posixpath.relpath(places[target], posixpath.dirname(place) or ".")
        return f"{match[1]}{way}{match[3] or ''})"

    linked = LINK.sub(moved, CODE.sub(set_aside, text))
    return re.sub("\0(\\d+)\0", lambda match: kept[int(match[1])], linked)


def stage(pages: Path) -> dict[str, list[tuple[str, str]]]:
    """Write all that the generator reads; return the pages made here, by section: (title, place), the index first."""
    found = written()
    places = {path.relative_to(ROOT).as_posix(): place for place, path in found.items()} | ELSEWHERE
    for place, path in found.items():
        target = pages / place
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix != ".md":
            shutil.copyfile(path, target)
            continue
        # The home page and what lies beside it are written for the site, where their links lead already.
        text = path.read_text(encoding="utf-8")
        if SOURCES not in path.parents:
            text = relinked(text, path.relative_to(ROOT).as_posix(), place, places)
        target.write_text(text, encoding="utf-8")
    sections = {}
    for name, script in SECTIONS.items():
        made: dict[str, str] = script.pages()
        (pages / name).mkdir(exist_ok=True)
        for page, text in made.items():
            (pages / name / page).write_text(text, encoding="utf-8")
        sections[name] = [(title(text), f"{name}/{page}") for page, text in made.items()]
    return sections


def title(page: str) -> str:
    """Return a page's first heading, without marks of code."""
    found = re.search(r"^# (.+)$", page, re.MULTILINE)
    assert found, page[:80]
    return found[1].replace("`", "")


def settings(sections: Mapping[str, list[tuple[str, str]]], out: Path) -> str:
    """Return zensical.toml with the written sections in the navigation."""
    text = (ROOT / "zensical.toml").read_text(encoding="utf-8")
    for name, pages in sections.items():
        (_, index), *others = pages
        entries = [quoted(index), *(f"{{ {quoted(title)} = {quoted(place)} }}" for title, place in others)]
        assert f'"{name}/"' in text, f"zensical.toml: nav has no section {name}/"
        text = text.replace(f'"{name}/"', quoted(index) if not others else f"[{', '.join(entries)}]")
    named = set(re.findall(r'"([^"\n]+\.md)"', text))
    more = {place: name for place, name in written_pages().items() if place not in named}
    entries = [f"{{ {quoted(name)} = {quoted(place)} }}" for place, name in more.items()]
    text = text.replace(MORE, f'{{ "More" = [{", ".join(entries)}] }},' if entries else "")
    return text.replace('"ROOT"', quoted(str(ROOT))).replace('"OUT"', quoted(str(out)))


def written_pages() -> dict[str, str]:
    """Return {place on the site: title} of the pages that people wrote."""
    pages = {place: path for place, path in written().items() if path.suffix == ".md"}
    return {place: title(path.read_text(encoding="utf-8")) for place, path in pages.items()}


def quoted(text: str) -> str:
    """Return a string of TOML."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def generate(work: Path, out: Path) -> None:
    """Make the pages in `work`, and of them the site `out`. Raises Broken with what the generator says."""
    (work / "zensical.toml").write_text(settings(stage(work / "pages"), out), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "zensical", "build", "--strict"],
        cwd=work,
        env=os.environ | {"PYTHONPATH": str(SOURCES), "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        said = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout + done.stderr).strip()
        if gone := re.search(r"Could not collect 'pictorch\.([\w.]+)'", said):
            raise Broken(f"docs/site/interface.py: pictorch has no {gone[1]}, which a page of the reference names")
        # What is wrong has been said when `--strict` ends the generator with a traceback.
        raise Broken(said.partition("Traceback")[0].strip() if "--strict flag" in said else said)


def lead_home(site: Path) -> None:
    """Have each page's logo lead to the first page: the generator's leads to the page itself, or to a folder."""
    for page in site.rglob("*.html"):
        if page.name != "404.html":
            way = posixpath.relpath("index.html", page.parent.relative_to(site).as_posix())
            text = page.read_text(encoding="utf-8")
            page.write_text(LOGO.sub(f'href="{way}"', text), encoding="utf-8")


def build(out: Path) -> int:
    """Build the site into `out`, which is replaced once the new one is sound; return its number of pages."""
    if out.exists() and not (out.is_dir() and ((out / "search.json").exists() or not any(out.iterdir()))):
        raise Broken(f"{out}: this is not a site that was built here; name another folder")
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".site-", dir=out.parent) as folder:
        work = Path(folder).resolve()
        (work / "pages").mkdir()
        made = work / "site"
        generate(work, made)
        lead_home(made)
        if mistakes := links.mistakes(made):
            raise Broken("\n".join(mistakes))
        if out.exists():
            shutil.rmtree(out)
        shutil.move(made, out)
    out.chmod(0o755)
    return len(list(out.rglob("*.html")))


def installed(module: str) -> bool:
    """Return whether a module of an optional package is there."""
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def main() -> None:
    parser = argparse.ArgumentParser(description="Build the documentation site.")
    parser.add_argument("--out", type=Path, default=ROOT / "site", help="where (default: site/)")
    out = parser.parse_args().out.resolve()
    if missing := [name for name in ("zensical", "mkdocstrings_handlers.python") if not installed(name)]:
        sys.exit(f'the site needs {" and ".join(missing)}: pip install "pictorch[docs]"')
    try:
        pages = build(out)
    except (Broken, OSError) as error:
        sys.exit(f"the site was not built:\n{error}")
    print(f"{pages} pages: {(out / 'index.html').as_uri()}")


if __name__ == "__main__":
    main()
