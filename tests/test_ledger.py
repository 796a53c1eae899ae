"""What is committed agrees: the ledger's rows with themselves, the page of results and its figures with the ledger."""

import runpy
from pathlib import Path

import pytest

from pictorch.cli.claims import network
from pictorch.config.comparable import comparable_hash
from pictorch.experiments import ledger
from pictorch.runs import RunDir

ROOT = Path(__file__).parent.parent
RUNS = ledger.read(ROOT / "ledger")


def test_the_page_of_results_and_its_figures_are_what_the_ledger_says() -> None:
    """A figure's bytes are matplotlib's; that it shows these rows is said by the digest in it."""
    page, pictures = runpy.run_path(str(ROOT / "docs" / "results.py"))["made"]()
    anew = "write it anew with `python docs/results.py`"
    assert page == (ROOT / "docs" / "results.md").read_text(encoding="utf-8"), anew
    folder = ROOT / "docs" / "results"
    assert {file.name for file in folder.iterdir()} == pictures.keys(), anew
    for name, picture in pictures.items():
        assert described(picture) == described((folder / name).read_bytes()), f"{name}: {anew}"


def described(svg: bytes) -> str:
    """Return the digest of the values that a figure shows."""
    return svg.decode().partition("<dc:description>")[2].partition("</dc:description>")[0]


def test_the_digest_is_found() -> None:
    assert described(b"<dc:description>ab</dc:description>") == "ab"
    for file in (ROOT / "docs" / "results").iterdir():
        assert len(described(file.read_bytes())) == 64, file.name


def test_runs_are_there_once_with_their_learning_curves() -> None:
    names = [run.run for run in RUNS]
    assert len(set(names)) == len(names)
    assert ledger.read_curves(ROOT / "ledger").keys() == set(names)


def test_every_run_agrees_with_itself() -> None:
    for run in RUNS:
        assert run.comparable == comparable_hash(run.decisive), run.run
        assert run.test_error + run.top1 == pytest.approx(100, abs=1e-5), run.run
        assert run.top1 <= run.top5 <= 100, run.run
        wrong = run.test_error * run.test_images / 100
        assert wrong == pytest.approx(round(wrong), abs=1e-2), f"{run.run}: a share of the test images"
        assert run.commit, run.run


def test_runs_reach_the_page(known_run: RunDir, known_second: RunDir, tmp_path: Path) -> None:
    """Two real runs of no published number, on the page that the script writes from their ledger."""
    script = runpy.run_path(str(ROOT / "docs" / "results.py"))
    script["made"].__globals__["LEDGER"] = tmp_path
    runs = ledger.add([str(known_run.path), str(known_second.path)], tmp_path, network)
    page, _ = script["made"]()
    ours, _, others = page.partition("## Our runs")[2].partition("## Other runs, not comparable")
    for run in runs:
        assert f"| `{run.run}` | small | {run.seed} | {run.test_error:.2f} | " in ours
        assert f"| `{run.run}` | small | {run.seed} | {run.test_error:.2f} | {run.protocol} | nearest seed" in others
    assert script["made"]()[0] == page
