"""The model card: every number from the run's files, in both forms."""

import json
import math
from pathlib import Path

import pytest
from conftest import evaluated, rewrite

from pictorch.cli.card import card
from pictorch.config import UserError
from pictorch.reports.model_card import unmarked, wilson
from pictorch.runs import RunDir


def sections(text: str) -> dict[str, str]:
    return {part.partition("\n")[0]: part.partition("\n")[2] for part in text.split("\n## ")[1:]}


def test_a_card_has_every_section_and_the_runs_numbers(known_run: RunDir, capsys: pytest.CaptureFixture[str]) -> None:
    card(str(known_run.path), out=None)
    assert "pictorch eval" in capsys.readouterr().out
    text, page = (known_run.path / "card.md").read_text(), (known_run.path / "card.html").read_text()
    result = json.loads(known_run.result.read_text())
    found = sections(text)
    assert list(found) == ["Results", "Data", "Protocol", "Recipe", "Limits", "How to use it"]
    low, high = wilson(result["test_top1"], 355)
    assert f"| top-1 accuracy | {result['test_top1']:.2f} | {low:.2f} to {high:.2f} |" in found["Results"]
    assert "![Learning curves](curves.png)" in found["Results"]
    assert "CC BY 4.0" in found["Data"]
    assert "test images chose nothing" in found["Protocol"]
    assert "| `train.epochs` | `3` |" in found["Recipe"]
    assert "`pictorch eval` has not been run" in found["Limits"]
    assert "data:image/png;base64," in page
    assert "<script" not in page
    for name in found:
        assert f"<h2>{name}</h2>" in page
    matter = text.split("---")[1]
    assert json.loads(matter.partition("model-index: ")[2])[0]["results"][0]["metrics"][0]["value"] == pytest.approx(
        result["test_top1"], abs=1e-4
    )


def test_after_an_evaluation_its_numbers_stand_in_the_card(
    known_run: RunDir, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluated(known_run)
    card(str(known_run.path), out=None)
    assert "With calibration" not in capsys.readouterr().out
    values = json.loads(known_run.evaluation.read_text())
    found = sections((known_run.path / "card.md").read_text())
    low, high = values["calibration"]["intervals"]["ece"]
    assert f"| calibration error | {values['calibration']['ece']:.2f} | {low:.2f} to {high:.2f} |" in found["Results"]
    assert "points surer than right" in found["Limits"] or "points less sure than right" in found["Limits"]
    rewrite(known_run.evaluation, weights_sha256="of other weights")
    card(str(known_run.path), out=None)
    assert "calibration error" not in sections((known_run.path / "card.md").read_text())["Results"]


def test_a_card_that_was_edited_stays(known_run: RunDir, tmp_path: Path) -> None:
    card(str(known_run.path), out=None)
    evaluated(known_run)
    card(str(known_run.path), out=None)
    path = known_run.path / "card.md"
    for edited in (path.read_text() + "Mine.\n", path.read_text().replace("Limits", "What it cannot do"), "mine", ""):
        path.write_text(edited)
        with pytest.raises(UserError, match=r"card\.md: this card was changed by hand"):
            card(str(known_run.path), out=None)
        assert path.read_text() == edited
        path.unlink()
        card(str(known_run.path), out=None)


def test_an_evaluation_of_a_version_that_said_less_is_left_out(known_run: RunDir) -> None:
    evaluated(known_run)
    values = json.loads(known_run.evaluation.read_text())
    del values["calibration"]
    known_run.evaluation.write_text(json.dumps(values))
    card(str(known_run.path), out=None)
    assert "`pictorch eval` has not been run" in (known_run.path / "card.md").read_text()


def test_names_are_no_markup() -> None:
    assert unmarked("*star* _x_ <script> [a](b) resnet_preact_20 `a_*b`") == (
        r"\*star\* \_x\_ \<script> \[a](b) resnet_preact_20 `a_*b`"
    )
    assert unmarked("a ` alone_ and *") == r"a ` alone\_ and \*"


def test_elsewhere_it_takes_the_curves_along(known_run: RunDir, tmp_path: Path) -> None:
    card(str(known_run.path), out=str(tmp_path / "site"))
    assert (tmp_path / "site" / "curves.png").read_bytes() == known_run.curves.read_bytes()
    card(str(known_run.path), out=str(tmp_path / "site"))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("")
    with pytest.raises(UserError, match="holds something that is no evaluation or card"):
        card(str(known_run.path), out=str(tmp_path / "mine"))


def test_unfinished_runs_and_runs_without_weights_have_none(known_run: RunDir) -> None:
    known_run.weights.unlink()
    with pytest.raises(UserError, match="there are no weights here"):
        card(str(known_run.path), out=None)
    known_run.result.unlink()
    with pytest.raises(UserError, match=r"this run is not finished; .*--resume"):
        card(str(known_run.path), out=None)


def test_an_incomplete_run_says_so(known_run: RunDir) -> None:
    rewrite(known_run.result, complete=False)
    card(str(known_run.path), out=None)
    assert "- The run is incomplete" in (known_run.path / "card.md").read_text()


def test_wilsons_interval_is_the_root_of_its_equation() -> None:
    for share, n in ((0.9, 355), (0.5, 10), (1.0, 100), (0.0, 7)):
        for end in wilson(100 * share, n):
            p = end / 100
            if 0 < p < 1:
                assert abs(share - p) == pytest.approx(1.959964 * math.sqrt(p * (1 - p) / n), rel=1e-6)
    assert wilson(100, 100)[1] == 100
    assert wilson(0, 7)[0] == 0
