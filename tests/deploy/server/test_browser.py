"""The page in a real browser: dropped, pasted and chosen images, wrong and huge files, keyboard alone, a phone."""

import base64
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pictorch import api
from pictorch.deploy.server.limits import Limits
from tests.deploy.server.serving import Serving, picture, serving

pytestmark = [pytest.mark.slow, pytest.mark.browser]
# A file as if it came from the desktop; Chromium lets no test drag a real one.
GIVE = """([kind, name, type, text]) => {
  const bytes = Uint8Array.from(atob(text), c => c.charCodeAt(0)), given = new DataTransfer();
  given.items.add(new File([bytes], name, {type}));
  const target = document.querySelector(kind === 'paste' ? 'body' : '#drop');
  const fire = name => target.dispatchEvent(kind === 'paste'
    ? new ClipboardEvent(name, {clipboardData: given, bubbles: true})
    : new DragEvent(name, {dataTransfer: given, bubbles: true, cancelable: true}));
  if (kind === 'paste') fire('paste'); else for (const one of ['dragenter', 'dragover', 'drop']) fire(one);
}"""
LIMITS = replace(Limits(), body_bytes=1_000_000)


@pytest.fixture(scope="module")
def served(small_run: api.Result) -> Iterator[Serving]:
    with serving(small_run.run_dir, LIMITS) as one:
        yield one


class Opened:
    """The page, with what it asked for and what its console said."""

    def __init__(self, browser: Any, url: str, **options: Any) -> None:
        self.context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        self.page = self.context.new_page()
        self.asked: list[str] = []
        self.said: list[str] = []
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("console", lambda message: self.said.append(f"{message.type}: {message.text}"))
        self.page.on("pageerror", lambda error: self.said.append(f"error: {error}"))
        self.url = url
        self.page.goto(url)

    def give(self, kind: str, name: str, type_: str, content: bytes) -> None:
        self.page.evaluate(GIVE, [kind, name, type_, base64.b64encode(content).decode()])

    def answer(self, name: str) -> list[tuple[str, str]]:
        """Wait for the answer to an image; return names and per cents of the bars."""
        self.page.get_by_role("status").get_by_text(f"{name}: ").wait_for(state="attached")
        rows = self.page.locator("#bars > li")
        return [tuple(rows.nth(i).inner_text().split("\n")[:2]) for i in range(rows.count())]

    def message(self) -> str:
        alert = self.page.get_by_role("alert")
        alert.wait_for()
        return str(alert.inner_text())


@pytest.fixture
def opened(browser: Any, served: Serving) -> Iterator[Opened]:
    one = Opened(browser, served.url)
    yield one
    # The browser itself reports each answer that is an error.
    assert [said for said in one.said if "Failed to load resource" not in said] == []
    assert all(url.startswith((served.url, "blob:", "data:")) for url in one.asked), "only its own server"
    one.context.close()


def expected(served: Serving, raw: bytes) -> list[str]:
    with served.client() as client:
        answer = client.post("/predict", content=raw, headers={"content-type": "image/png"}).json()
    return list(answer["predictions"][0]["classes"])


@pytest.mark.parametrize("kind", ["drop", "paste"])
def test_an_image_that_is_dropped_or_pasted(opened: Opened, served: Serving, kind: str) -> None:
    raw = picture(7)
    opened.give(kind, "seven.png", "image/png", raw)
    rows = opened.answer("seven.png")
    assert [name for name, _ in rows] == expected(served, raw)
    shares = [float(share.rstrip("%")) for _, share in rows]
    assert shares == sorted(shares, reverse=True)
    assert len(rows) == 5
    page = opened.page
    assert page.locator("#top").inner_text().split() == list(rows[0])
    page.wait_for_timeout(600)
    track, fill = (page.locator(f"#bars .{part}").first.bounding_box()["width"] for part in ("track", "fill"))
    assert 100 * fill / track == pytest.approx(shares[0], abs=1)
    assert page.locator("#preview").evaluate("image => image.naturalWidth") == 8
    assert page.locator("#classes li.answer").inner_text() == rows[0][0]
    assert page.locator("#veil").is_hidden()


def test_wrong_empty_and_huge_files_are_told_in_words(opened: Opened) -> None:
    opened.give("drop", "notes.txt", "text/plain", b"words")
    assert opened.message() == "notes.txt is no image (text/plain). Expected AVIF, BMP, GIF, JPEG, PNG, TIFF, WEBP."
    opened.give("paste", "empty.png", "image/png", b"")
    assert opened.message() == "empty.png is empty."
    opened.give("drop", "huge.png", "image/png", bytes(3_000_000))
    assert opened.message() == "huge.png has 2.9 MiB; this server takes at most 1 MiB."
    assert not [url for url in opened.asked if "predict" in url], "none of them was sent"
    opened.give("drop", "false.png", "image/png", b"not a png at all")
    opened.page.get_by_role("alert").get_by_text("false.png: this is no image of a kind that is taken here").wait_for()
    opened.give("drop", "good.png", "image/png", picture(1))
    assert len(opened.answer("good.png")) == 5
    assert opened.page.get_by_role("alert").is_hidden()


def test_text_in_the_clipboard_and_addresses_are_no_images(opened: Opened) -> None:
    opened.page.evaluate("""() => { const text = new DataTransfer(); text.setData('text/plain', 'hello');
        document.body.dispatchEvent(new ClipboardEvent('paste', {clipboardData: text, bubbles: true})); }""")
    assert opened.message() == "The clipboard holds no image."
    opened.page.evaluate("""() => { const link = new DataTransfer(); link.setData('text/uri-list', 'http://a.example/');
        document.body.dispatchEvent(new DragEvent('drop', {dataTransfer: link, bubbles: true, cancelable: true})); }""")
    assert opened.message().startswith("That was an address and not an image")


def test_from_the_keyboard_alone(opened: Opened, tmp_path: Path) -> None:
    (tmp_path / "keys.png").write_bytes(picture(3))
    page = opened.page
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "drop"
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid", "the focus is seen"
    # From the first listener on; that it is there has to have reached the browser before the key.
    page.on("filechooser", lambda chooser: chooser.set_files(tmp_path / "keys.png"))
    page.wait_for_timeout(300)
    page.keyboard.press("Enter")
    assert len(opened.answer("keys.png")) == 5
    assert page.evaluate("document.activeElement.id") == "drop"


def test_several_images_and_back_to_an_earlier_one(opened: Opened, tmp_path: Path) -> None:
    paths = [tmp_path / f"{i}.png" for i in range(3)]
    for seed, path in enumerate(paths):
        path.write_bytes(picture(seed))
    page = opened.page
    page.locator("#file").set_input_files(paths)
    first = opened.answer("0.png")
    strip = page.locator("#strip button")
    assert strip.count() == 3
    page.locator('#strip button[aria-label^="2.png: "]').focus()
    page.keyboard.press("Enter")
    assert opened.answer("2.png") != first
    strip.first.click()
    assert opened.answer("0.png") == first


def test_the_card_and_the_classes(opened: Opened, small_run: api.Result) -> None:
    page = opened.page
    assert page.locator("#lead").inner_text().endswith(f"test error {small_run.test_error:.2f}% of 355 images.")
    facts = page.locator("#card").inner_text()
    assert f"{small_run.test_error:.2f}%" in facts
    assert "of 355 test images, 1 run" in facts
    assert page.locator("#classes li").all_inner_texts() == [str(digit) for digit in range(10)]
    assert "It answers with one of its classes for every picture" in page.locator("#notes").inner_text()


@pytest.mark.parametrize("width", [320, 390])
def test_a_phone(browser: Any, served: Serving, width: int) -> None:
    phone = {"width": width, "height": 740}
    one = Opened(browser, served.url, viewport=phone, has_touch=True, is_mobile=True, color_scheme="dark")
    page = one.page
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(18, 20, 23)"
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Take a photo").tap()
    assert page.locator("#photo").get_attribute("capture") == "environment"
    chooser.value.set_files({"name": "photo.jpg", "mimeType": "image/jpeg", "buffer": picture(4, kind="JPEG")})
    assert len(one.answer("photo.jpg")) == 5
    assert page.evaluate("document.documentElement.scrollWidth") <= width, "it does not scroll sideways"
    small = (
        "[...document.querySelectorAll('button')].filter(b => b.offsetParent && b.getBoundingClientRect().height < 36)"
    )
    assert page.evaluate(f"{small}.map(b => b.outerHTML)") == [], "buttons can be hit by a finger"
    assert one.said == []
    one.context.close()


def test_without_motion_where_that_is_wished(browser: Any, served: Serving) -> None:
    for wish, seconds in (("reduce", "0s"), ("no-preference", "0.45s")):
        one = Opened(browser, served.url, reduced_motion=wish)
        one.give("drop", "a.png", "image/png", picture())
        one.answer("a.png")
        shown = one.page.locator("#bars .fill").first.evaluate("bar => getComputedStyle(bar).transitionDuration")
        assert shown == seconds
        one.context.close()


def test_a_server_that_went_away(browser: Any, small_run: api.Result) -> None:
    with serving(small_run.run_dir) as served:
        one = Opened(browser, served.url)
    one.give("drop", "late.png", "image/png", picture())
    assert one.message() == "The server does not answer. Is it still running?"
    one.context.close()


def test_the_heat_map_of_each_class(opened: Opened, served: Serving) -> None:
    page = opened.page
    opened.give("drop", "a.png", "image/png", picture(5))
    rows = opened.answer("a.png")
    page.get_by_text(f"Where it sees “{rows[0][0]}”").wait_for()
    end = time.monotonic() + 5
    while page.locator("#heat").evaluate("image => image.naturalWidth") == 0:
        assert time.monotonic() < end
    first = page.locator("#heat").get_attribute("src")
    page.locator("#bars button").nth(1).focus()
    page.keyboard.press("Enter")
    page.get_by_text(f"Where it sees “{rows[1][0]}”").wait_for()
    assert page.locator('#bars button[aria-pressed="true"] .label').all_inner_texts() == [rows[1][0]]
    assert page.locator("#heat").get_attribute("src") != first
    assert page.locator("#seen").evaluate("image => image.naturalWidth") == 8
