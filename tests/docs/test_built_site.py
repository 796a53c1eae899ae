"""The site as it is built, and in a real browser: nothing leaves it, the search answers, hand and keyboard lead on."""

import contextlib
import functools
import http.server
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

import build
import links
from tests.conftest import required_in_ci

pytestmark = pytest.mark.slow
PHONE = {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built by its command."""
    if find_spec("zensical") is None:
        required_in_ci('zensical is not installed (pip install "pictorch[docs]")')
    out = tmp_path_factory.mktemp("docs") / "site"
    command = [sys.executable, build.__file__, "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert str(out / "index.html") in done.stdout
    return out


def pages_of(site: Path) -> list[Path]:
    return [page for page in sorted(site.rglob("*.html")) if page.name != "404.html"]


def test_every_page_is_built_and_sound(site: Path) -> None:
    names = {page.relative_to(site).as_posix() for page in pages_of(site)}
    assert names == {place.replace(".md", ".html") for place in names_of_pages()}
    assert links.mistakes(site) == []
    assert 'href="../index.html" title="pictorch"' in (site / "commands" / "eval.html").read_text(encoding="utf-8")


def names_of_pages() -> set[str]:
    written = {place for place in build.written() if place.endswith(".md")}
    return written | {f"{name}/{page}" for name, script in build.SECTIONS.items() for page in script.pages()}


def test_the_reference_has_the_docstrings(site: Path) -> None:
    text = (site / "interface" / "index.html").read_text(encoding="utf-8")
    assert 'id="pictorch.models.create"' in text
    assert "Return a freshly initialised network for square images" in text
    assert "num_classes" in text


def test_a_paper_s_page_has_exact_counts_numbers_and_quirks(site: Path) -> None:
    text = (site / "papers" / "resnet.html").read_text(encoding="utf-8")
    for words in ("1,727,962", "252,887,680", "arxiv.org/abs/1512.03385", "6.43 (best)", "narrow_first_stage"):
        assert words in text


def test_the_search_knows_every_page(site: Path) -> None:
    found = {item["location"].partition("#")[0] for item in json.loads((site / "search.json").read_text())["items"]}
    assert found >= {page.relative_to(site).as_posix() for page in pages_of(site)}


@pytest.mark.parametrize("text", ["[x](data.md#nowhere)", "![x](nowhere.png)", "![x](https://example.org/x.png)"])
def test_what_is_broken_is_told_and_the_old_site_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, site: Path, text: str
) -> None:
    sound = build.stage

    def with_a_bad_page(pages: Path) -> dict[str, list[tuple[str, str]]]:
        sections = sound(pages)
        (pages / "bad.md").write_text(f"# Bad\n\n{text}\n")
        return sections

    monkeypatch.setattr(build, "stage", with_a_bad_page)
    monkeypatch.setattr(build, "SECTIONS", {name: ReadBack(site, name) for name in build.SECTIONS})
    old = tmp_path / "old"
    old.mkdir()
    (old / "search.json").write_text("old")
    with pytest.raises(build.Broken, match=r"bad\.(md|html)"):
        build.build(old)
    assert (old / "search.json").read_text() == "old"
    assert not list(tmp_path.glob(".site-*"))


def test_a_name_that_is_gone_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, site: Path) -> None:
    readers = {name: ReadBack(site, name) for name in build.SECTIONS}
    monkeypatch.setattr(build, "SECTIONS", readers)
    monkeypatch.setattr(ReadBack, "about", "::: pictorch.metrics.gone\n")
    with pytest.raises(build.Broken, match=r"interface\.py: pictorch has no metrics\.gone, which a page"):
        build.build(tmp_path / "out")
    assert not (tmp_path / "out").exists()


class ReadBack:
    """The script of a section whose pages are empty but for their titles and the places that others link to."""

    about = ""

    def __init__(self, site: Path, name: str) -> None:
        self.files = [
            path.relative_to(site / name).with_suffix(".md").as_posix() for path in (site / name).glob("*.html")
        ]

    def pages(self) -> dict[str, str]:
        return {file: f"# {file}\n\n{self.about}" for file in sorted(self.files, key=lambda file: file != "index.md")}


@pytest.fixture(scope="module")
def served(site: Path) -> Iterator[str]:
    """The address of the site below a path of a server, and nothing of it at the server's top."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None: ...

        def end_headers(self) -> None:
            self.send_header("Cache-Control", "no-store")
            super().end_headers()

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(site.parent)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/{site.name}/"
    server.shutdown()
    server.server_close()


@pytest.fixture(params=["file", "http"])
def base(request: pytest.FixtureRequest, site: Path) -> str:
    """Where the site begins: as a file, or below a path of a server."""
    return f"{site.as_uri()}/" if request.param == "file" else str(request.getfixturevalue("served"))


class Opened:
    """A page that keeps what it asked for, what was missing, and what its console complained of."""

    def __init__(self, browser: Any, **options: Any) -> None:
        self.page = browser.new_page(**{"viewport": {"width": 1280, "height": 900}, **options})
        self.requests: list[str] = []
        self.said: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("requestfailed", self.failed)
        self.page.on("response", lambda r: self.said.append(f"{r.status}: {r.url}") if r.status >= 400 else None)
        self.page.on("console", lambda m: self.said.append(m.text) if m.type in ("error", "warning") else None)
        self.page.on("pageerror", lambda error: self.said.append(f"error: {error}"))

    def failed(self, request: Any) -> None:
        # A page that is left before its icon has come gives that up.
        if request.failure != "net::ERR_ABORTED":
            self.said.append(f"{request.failure}: {request.url}")

    def close_in(self, base: str) -> None:
        """Close it; nothing may have been asked for elsewhere, and nothing complained of."""
        self.page.close()
        assert self.said == []
        assert self.requests
        assert [url for url in self.requests if not url.startswith((base, "data:"))] == []


@pytest.mark.browser
def test_every_page_opens_on_a_phone_and_asks_for_nothing_outside(browser: Any, site: Path) -> None:
    opened = Opened(browser, viewport=PHONE)
    wide = []
    for page in pages_of(site):
        opened.page.goto(page.as_uri())
        if opened.page.evaluate("document.documentElement.scrollWidth") > PHONE["width"]:
            wide.append(page.name)
    assert wide == [], "the page itself does not scroll sideways"
    opened.close_in(f"{site.as_uri()}/")


@pytest.mark.browser
def test_wide_tables_scroll_within_themselves(browser: Any, site: Path) -> None:
    opened = Opened(browser, viewport=PHONE)
    opened.page.goto((site / "results.html").as_uri())
    box = opened.page.locator(".md-typeset__table").first.evaluate("e => [e.scrollWidth, e.clientWidth]")
    wrap = opened.page.locator(".md-typeset__scrollwrap").first
    assert wrap.evaluate("e => getComputedStyle(e).overflowX") == "auto"
    assert box[0] > PHONE["width"]
    wrap.evaluate("e => e.scrollBy(80, 0)")
    assert wrap.evaluate("e => e.scrollLeft") == 80
    opened.close_in(f"{site.as_uri()}/")


@pytest.mark.browser
def test_the_search_answers_to_the_keyboard(browser: Any, base: str) -> None:
    from playwright.sync_api import TimeoutError as NotYet

    opened = Opened(browser)
    page = opened.page
    page.goto(base + "commands/train.html")
    field = page.locator("input:visible")
    # The page is there before its script listens to keys.
    for _ in range(20):
        page.keyboard.press("Control+k")
        with contextlib.suppress(NotYet):
            field.wait_for(timeout=1500)
            break
    page.keyboard.type("narrow_first_stage", delay=5)
    page.get_by_text("results", exact=False).first.wait_for()
    assert field.input_value() == "narrow_first_stage"
    page.locator("a[href*='narrow_first_stage']:visible").first.wait_for()
    page.keyboard.press("Enter")
    page.wait_for_url("**/quirks.html*narrow_first_stage*")
    assert page.locator("#narrow_first_stage").is_visible()
    opened.close_in(base)


@pytest.mark.browser
def test_the_keyboard_leads_on(browser: Any, base: str) -> None:
    opened = Opened(browser)
    page = opened.page
    page.goto(base + "data.html")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.matches('.md-skip')"), "first the way to the text itself"
    page.locator("nav.md-tabs a", has_text="Papers").focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**/papers/index.html")
    page.locator("a[href='wrn.html']:visible").first.focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**/papers/wrn.html")
    assert page.locator("h1").inner_text().startswith("wrn")
    opened.close_in(base)


@pytest.mark.browser
def test_light_and_dark(browser: Any, base: str) -> None:
    background = "getComputedStyle(document.body).backgroundColor.match(/[0-9.]+/g).slice(0, 3).map(Number)"
    opened = Opened(browser, color_scheme="dark")
    page = opened.page
    page.goto(base + "index.html")
    assert max(page.evaluate(background)) < 60
    page.locator("label[title='Switch to light']").click()
    assert min(page.evaluate(background)) > 200
    page.goto(base + "speed.html")
    assert min(page.evaluate(background)) > 200, "the choice is kept"
    opened.close_in(base)
