"""Cost as work grows: points are work of known size, exponents are slopes, files are resumed, the page is current."""

import runpy
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from pictorch.bench import curves, ledger

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")
CHEAP = {"set_start": 1000, "evaluation": 500, "saving": 20, "splitting": 1000, "duplicates": 100}


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(curves, "MOST_TURNS", 3)
    monkeypatch.setattr(curves, "FOLDER_IMAGES", 64)


def only(monkeypatch: pytest.MonkeyPatch, points: dict[str, int]) -> list[dict[str, Any]]:
    for name, at in points.items():
        monkeypatch.setitem(curves.CURVES, name, curves.CURVES[name]._replace(points=(at,)))
    return list(curves.measure(list(points), CPU, done=set()))


def test_points_are_measured_by_the_code_of_a_run(hasty: None, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = only(monkeypatch, CHEAP)
    assert {row["curve"]: row["at"] for row in rows} == CHEAP
    for row in rows:
        assert float(row["nanoseconds_per_unit"]) == pytest.approx(1e9 * float(row["seconds"]) / row["units"], rel=1e-3)
    assert next(row for row in rows if row["curve"] == "duplicates")["units"] == 100**2


@pytest.mark.slow
def test_every_curve_has_a_smallest_point(hasty: None, monkeypatch: pytest.MonkeyPatch) -> None:
    points = {name: curve.points[0] for name, curve in curves.CURVES.items() if name not in CHEAP}
    assert [row["curve"] for row in only(monkeypatch, points)] == list(points)


def test_work_is_what_it_is_said_to_be(hasty: None, tmp_path: Path) -> None:
    place = curves.Place(tmp_path, CPU)
    assert curves.batch_size(place, 16)[1:] == (16, 16)
    assert curves.image_size(place, 48, size=4)[1:] == (4 * 48 * 48, 4)
    job = place.job_on_set(300, test=7)
    assert (len(job.train_loader.labels), len(job.test_loader.labels)) == (300, 7)
    layers = place.job_on_folder(curves.deep(20), "train.batch_size=4")
    assert curves.depth(place, 20, size=4)[1:] == (4 * layers.complexity.macs, 4)


def test_the_exponent_is_the_slope_where_there_is_most_work() -> None:
    work = [1.0, 10.0, 100.0, 1000.0, 3000.0, 10_000.0]
    assert curves.exponent(work, [2 * x for x in work]) == pytest.approx(1)
    assert curves.exponent(work, [x**2 for x in work]) == pytest.approx(2)
    # What every call costs hides a square at the small end, not at the large one.
    assert curves.exponent(work, [1e4 + x**2 for x in work]) == pytest.approx(2, abs=0.02)
    assert curves.exponent([10.0, 10.0, 10.0], [1.0, 2.0, 3.0]) is None
    same_work = [{"curve": "classes", "at": str(n), "units": "9", "seconds": str(7 * n)} for n in (10, 100, 1000)]
    assert curves.exponent_of("classes", same_work) == pytest.approx(1)
    assert curves.exponent_of("depth", same_work) is None


def test_the_script_goes_on_where_it_was(
    hasty: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(curves.CURVES, "splitting", curves.CURVES["splitting"]._replace(points=(100, 200, 400)))
    words = ["curves.py", "--device", "cpu", "--curves", "splitting", "--write", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", words)
    main = runpy.run_path(str(ROOT / "benchmarks" / "curves.py"))["main"]
    main()
    (file,) = tmp_path.glob("speed-curves-*.csv")
    lines = file.read_text().splitlines(keepends=True)
    assert [row["at"] for row in ledger.read(file)] == ["100", "200", "400"]
    file.write_text("".join(lines[:-1]))
    capsys.readouterr()
    main()
    assert file.read_text().splitlines(keepends=True)[:-1] == lines[:-1]
    assert [row["at"] for row in ledger.read(file)] == ["100", "200", "400"]
    point, summary = capsys.readouterr().out.splitlines()
    assert point.split()[:2] == ["splitting", "400"]
    assert summary.startswith("splitting: time grows with the ")


def test_the_page_is_what_the_ledger_says() -> None:
    script = runpy.run_path(str(ROOT / "docs" / "speed.py"))
    assert script["page"]() == (ROOT / "docs" / "speed.md").read_text(), "write it anew with `python docs/speed.py`"
    for picture, digest in script["pictures"]().items():
        assert digest in (ROOT / "docs" / picture).read_text(), f"{picture}: draw it anew with `python docs/speed.py`"
