"""What is wrong with a built site: links, anchors and pictures that lead nowhere, and what asks another host."""

import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

# What a browser fetches by itself, as (tag, attribute); an <a> is followed by hand and may lead out.
FETCHED = {
    *(("script", "src"), ("img", "src"), ("img", "srcset"), ("iframe", "src"), ("source", "src"), ("video", "src")),
    *(("link", "href"), ("object", "data"), ("embed", "src"), ("audio", "src"), ("use", "href")),
}
IN_STYLE = re.compile(r"(?:url\(\s*['\"]?|@import\s+['\"])(?:https?:)?//", re.IGNORECASE)


class Page(HTMLParser):
    """The ids of a page, where it leads, and what it fetches."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.leads: set[str] = set()
        self.fetches: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for key, value in attrs:
            if key in ("id", "name") and value:
                self.ids.add(value)
            elif (tag, key) in FETCHED and value:
                self.fetches.add(value)
            elif (tag, key) == ("a", "href") and value:
                self.leads.add(value)


def mistakes(site: Path) -> list[str]:
    """Return a line for each thing that is wrong with the site in this folder."""
    pages = {path: Page(path.read_text(encoding="utf-8")) for path in sorted(site.rglob("*.html"))}
    found = [line for path, page in pages.items() for line in of_page(path, page, pages, site)]
    for path in sorted(site.rglob("*.css")):
        if IN_STYLE.search(path.read_text(encoding="utf-8")):
            found.append(f"{path.relative_to(site)}: a style asks another host")
    return found


def of_page(path: Path, page: Page, pages: dict[Path, Page], site: Path) -> list[str]:
    name, found = path.relative_to(site), []
    for target in sorted(page.leads | page.fetches):
        parts = urlsplit(target)
        if parts.scheme in ("http", "https") or target.startswith("//"):
            if target in page.fetches:
                found.append(f"{name}: asks another host: {target}")
            continue
        if parts.scheme:
            continue
        if parts.path.startswith("/"):
            # The generator's page for what is not found is served from any depth; all others must work from anywhere.
            if name.name != "404.html":
                found.append(f"{name}: {target} works from the top of a host alone")
            continue
        file = (path.parent / unquote(parts.path)).resolve() if parts.path else path
        if file.is_dir():
            found.append(f"{name}: {target} is a folder, of which a page that is opened as a file shows a list")
        elif not file.is_relative_to(site.resolve()) or not file.is_file():
            found.append(f"{name}: {target} is not there")
        elif parts.fragment and file in pages and unquote(parts.fragment) not in pages[file].ids:
            found.append(f"{name}: {target}: no such place on that page")
    return found
