"""The report in a real browser: it draws, answers hand and keyboard, logs no error and asks for nothing outside."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pictorch.cli import report as command
from pictorch.cli.card import card
from pictorch.runs import RunDir
from tests.conftest import evaluated
from tests.reports.runs_on_disk import write_run
from tests.reports.test_report_page import EVIL, many

pytestmark = [pytest.mark.slow, pytest.mark.browser]
SHADES = """canvas => { const found = new Set(), c = canvas.getContext('2d');
  const d = c.getImageData(0, 0, canvas.width, canvas.height).data;
  for (let i = 0; i < d.length; i += 4) if (d[i + 3]) found.add(d[i] + ' ' + d[i + 1] + ' ' + d[i + 2]);
  return found.size; }"""
OPTION = "echarts.getInstanceByDom(document.getElementById('curves-chart')).getOption()"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    top = tmp_path_factory.mktemp("study")
    for lr in (0.05, 0.1, 0.2):
        for size in (64, 128):
            for seed in (1, 2, 3):
                words = (f"optim.lr={lr}", f"train.batch_size={size}", f"train.seed={seed}")
                error = 5 + 10 * abs(lr - 0.1) + size / 64 + seed / 4
                write_run(top / "runs" / f"{lr}-{size}-{seed}", *words, error=error, epochs=30)
    write_run(top / "runs" / "begun", "train.seed=9", error=None, epochs=30)
    write_run(top / "runs" / "evil", "optim.lr=0.3", recipe=EVIL, error=12.0, epochs=30)
    command.report([str(top / "runs")], out=str(top / "out"), as_json=False)
    return top / "out" / "report.html"


class Opened:
    """A page, with what it asked for and what its console said."""

    def __init__(self, browser: Any, file: Path, **options: Any) -> None:
        self.page = browser.new_page(**{"viewport": {"width": 1280, "height": 900}, **options})
        self.requests: list[str] = []
        self.said: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", lambda message: self.said.append(f"{message.type}: {message.text}"))
        self.page.on("pageerror", lambda error: self.said.append(f"error: {error}"))
        self.url = file.as_uri()
        self.page.goto(self.url)

    def option(self, key: str) -> Any:
        return self.page.evaluate(f"{OPTION}.{key}")

    def until(self, condition: str) -> None:
        """Wait for a condition in JavaScript; not by `wait_for_function`, which evaluates text, as the page forbids."""
        end = time.monotonic() + 5
        while not self.page.evaluate(condition):
            assert time.monotonic() < end, condition
            time.sleep(0.02)

    def canvas(self, chart: str) -> Any:
        self.page.locator(chart).scroll_into_view_if_needed()
        canvas = self.page.locator(f"{chart} canvas").first
        canvas.wait_for()
        return canvas


@pytest.fixture
def opened(browser: Any, report: Path) -> Iterator[Opened]:
    one = Opened(browser, report)
    yield one
    assert one.said == [], "the console is silent"
    assert {url for url in one.requests if not url.startswith("data:")} == {one.url}, "only the file itself"
    one.page.close()


def test_all_charts_draw(opened: Opened) -> None:
    for chart in ("#curves-chart", "#grid-charts .chart", "#spread-chart"):
        assert opened.canvas(chart).evaluate(SHADES) > 20, chart
    assert opened.page.locator("#matrix td.cell").count() == 10
    pictures = opened.page.locator("#gallery img")
    assert pictures.count() == 8
    pictures.first.scroll_into_view_if_needed()
    pictures.first.evaluate("image => image.decode()")
    assert pictures.first.evaluate("image => image.naturalWidth") == 8


def test_hovering_shows_values(opened: Opened) -> None:
    box = opened.canvas("#curves-chart").bounding_box()
    opened.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    tip = opened.page.locator("#curves-chart .tip")
    tip.wait_for()
    assert "epoch 1" in tip.inner_text()
    assert "optim.lr=0.1 train.batch_size=64, test" in tip.inner_text()
    box = opened.canvas("#grid-charts .chart").bounding_box()
    opened.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] * 0.3)
    tip = opened.page.locator("#grid-charts .tip")
    tip.wait_for()
    assert "n=3" in tip.inner_text()
    assert "seeds 1, 2, 3: " in tip.inner_text()


def test_logarithm_metric_and_zoom(opened: Opened) -> None:
    page = opened.page
    opened.canvas("#curves-chart")
    assert opened.option("yAxis[0].type") == "log"
    page.locator("#log").uncheck()
    opened.until(f"{OPTION}.yAxis[0].type === 'value'")
    page.locator("#metric").select_option("loss")
    opened.until(f"{OPTION}.yAxis[0].name === 'loss'")
    page.locator("#from").fill("10")
    page.locator("#to").fill("20")
    page.locator("#to").press("Enter")
    opened.until(f"{OPTION}.dataZoom[0].startValue === 10 && {OPTION}.dataZoom[0].endValue === 20")
    page.locator("#log").check()
    opened.until(f"{OPTION}.yAxis[0].type === 'log' && {OPTION}.dataZoom[0].startValue === 10")
    page.locator("#reset").click()
    opened.until(f"{OPTION}.dataZoom[0].endValue === 30")
    box = opened.canvas("#curves-chart").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.keyboard.down("Control")
    page.mouse.wheel(0, -400)
    page.keyboard.up("Control")
    opened.until("Number(document.getElementById('to').value) < 30")


def column(page: Any, key: str) -> list[str]:
    place = page.evaluate(f"""[...document.querySelectorAll('#board thead th')]
        .findIndex(th => th.querySelector('[data-sort="{key}"]')) + 1""")
    return list(page.locator(f"#board tbody td:nth-child({place})").all_inner_texts())


def test_sorting_by_hand_and_keyboard_and_filtering(opened: Opened) -> None:
    page = opened.page
    means = [float(text.split()[0]) for text in column(page, "mean")]
    assert means == sorted(means)
    assert len(means) == 7
    page.locator('[data-sort="mean"]').click()
    assert [float(text.split()[0]) for text in column(page, "mean")] == means[::-1]
    page.locator('[data-sort="optim.lr"]').focus()
    page.keyboard.press("Enter")
    rates = column(page, "optim.lr")
    assert rates == sorted(rates)
    assert page.evaluate("document.activeElement.dataset.sort") == "optim.lr"
    page.locator("#filter").fill("batch_size=64 lr=0.2")
    assert column(page, "train.batch_size") == ["64"]


def test_a_run_opens_with_its_settings(opened: Opened) -> None:
    page = opened.page
    page.locator("#find").fill("0.2-64-2")
    page.locator("details.run > summary").click()
    inner = page.locator("details.run .inner")
    inner.get_by_text("optim.lr").wait_for()
    inner.locator("summary", has_text="Environment").click()
    inner.get_by_text("a processor").wait_for()
    inner.locator("summary", has_text="Files").click()
    inner.get_by_text("predictions.npz").wait_for()


def test_themes_printing_and_a_phone(browser: Any, report: Path) -> None:
    dark = Opened(browser, report, color_scheme="dark", viewport={"width": 390, "height": 844}, has_touch=True)
    page = dark.page
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 22, 26)"
    dark.canvas("#curves-chart")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390, "the page itself does not scroll sideways"
    page.locator("#theme").click()
    page.locator("#theme").click()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(251, 251, 249)"
    assert len(page.pdf()) > 50_000
    assert dark.said == []
    page.close()


def test_five_hundred_runs_load_at_once_and_scroll(browser: Any, tmp_path: Path) -> None:
    many(tmp_path / "runs")
    command.report([str(tmp_path / "runs")], out=str(tmp_path / "out"), as_json=False)
    one = Opened(browser, tmp_path / "out" / "report.html")
    page = one.page
    assert page.evaluate("performance.timing.domComplete - performance.timing.navigationStart") < 5000
    longest = page.evaluate("""() => new Promise(done => {
        let last = performance.now(), worst = [];
        const step = () => { const now = performance.now(); worst.push(now - last); last = now; scrollBy(0, 120);
            if (worst.length < 90) requestAnimationFrame(step); else done(worst.sort((a, b) => a - b)[80]); };
        requestAnimationFrame(step); })""")
    assert longest < 250, "milliseconds between frames, but for the slowest tenth"
    page.locator("#all").click()
    assert page.locator("#board tbody tr").count() == 500
    assert one.said == []
    page.close()


def evaluated_page(run: RunDir) -> Path:
    evaluated(run, corruptions="contrast,fog")
    return run.evaluation_page


def card_page(run: RunDir) -> Path:
    card(str(run.path), out=None)
    return run.path / "card.html"


@pytest.mark.parametrize("width", [320, 1280])
@pytest.mark.parametrize("made", [evaluated_page, card_page])
def test_evaluations_and_cards_open_offline(
    browser: Any, known_run: RunDir, made: Callable[[RunDir], Path], width: int
) -> None:
    opened = Opened(browser, made(known_run), viewport={"width": width, "height": 800})
    assert opened.said == []
    assert [url for url in opened.requests if not url.startswith(("file:", "data:"))] == []
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= width
    pictures = opened.page.locator("img").evaluate_all("all => all.map(image => image.naturalWidth)")
    assert pictures
    assert all(pictures)
    if made is evaluated_page:
        shades = opened.page.locator(".heat .cell").evaluate_all(
            "all => new Set(all.map(cell => getComputedStyle(cell).backgroundColor)).size"
        )
        assert shades > 2
