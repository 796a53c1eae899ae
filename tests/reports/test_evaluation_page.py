"""The page of an evaluation and the protocol card."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import evaluated, rewrite, small_config

from pictorch import api, runs
from pictorch.config import UserError
from pictorch.engine import examine
from pictorch.reports import evaluation, protocol, reading
from pictorch.runs import RunDir


def test_one_json_and_one_page(known_run: RunDir, capsys: pytest.CaptureFixture[str]) -> None:
    evaluated(known_run)
    said = capsys.readouterr().out
    assert f"{known_run.evaluation_page}: all of it as a page" in said
    values = json.loads(known_run.evaluation.read_text())
    page = known_run.evaluation_page.read_text()
    for word in ("Scores", "Protocol", "Classes", "Calibration", "Doubtful labels", "Surest mistakes"):
        assert f"<h2>{word}</h2>" in page
    assert f"{values['top1']:.2f}%" in page
    assert "<script" not in page
    assert "http" not in page.replace("http-equiv", "")
    assert page.count("data:image/png;base64,") == len(
        values["label_suspects"]["images"][: evaluation.MOST_SUSPECTS] + values["mistakes"][: evaluation.MOST_SUSPECTS]
    )
    for aspect, words in values["protocol"].items():
        assert aspect in said
        assert words.split()[0] in said
    assert "style=" not in page.partition("</style>")[2]  # the page's own policy would not allow it


def test_json_is_the_file(known_run: RunDir, capsys: pytest.CaptureFixture[str]) -> None:
    evaluated(known_run, as_json=True)
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads(known_run.evaluation.read_text())
    assert {"run", "dataset", "images", "views", "settings", "top1", "top5", "error", "loss"} <= printed.keys()


def test_what_took_minutes_is_kept_where_the_answers_are_the_same(
    known_run: RunDir, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluated(known_run, corruptions="brightness")
    first = json.loads(known_run.evaluation.read_text())
    evaluated(known_run)
    assert f"corruptions: kept from the evaluation of {first['made']}" in capsys.readouterr().out
    again = json.loads(known_run.evaluation.read_text())
    assert again["corruptions"] == first["corruptions"]
    assert again["kept"] == {"corruptions": first["made"]}
    evaluated(known_run, corruptions="contrast")
    other = json.loads(known_run.evaluation.read_text())
    assert list(other["corruptions"]["errors"]) == ["contrast"]
    assert "kept" not in other
    rewrite(known_run.evaluation, loss=0.5)
    evaluated(known_run)
    assert json.loads(known_run.evaluation.read_text())["corruptions"] is None


def test_settings_of_its_own_are_written_where_asked_alone(
    known_run: RunDir, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluated(known_run, "evaluation.views=mirror")
    assert "written nowhere" in capsys.readouterr().out
    assert not known_run.evaluation.exists()
    evaluated(known_run, "evaluation.views=mirror", out=str(tmp_path / "flipped"))
    values = json.loads((tmp_path / "flipped" / runs.EVALUATION).read_text())
    assert values["settings"] == ["evaluation.views=mirror"]
    assert "several views of each (mirror)" in values["protocol"]["augmentation"]
    evaluated(known_run, out=str(tmp_path / "flipped"))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("mine")
    with pytest.raises(
        UserError, match=r"other: this folder holds something that is no evaluation or card; give another"
    ):
        evaluated(known_run, out=str(tmp_path / "other"))


def test_a_run_that_cannot_be_written_into_is_evaluated_all_the_same(
    known_run: RunDir, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, values: object) -> None:
        raise runs.RunError(f"{path}: cannot write here: Read-only file system")

    monkeypatch.setattr(runs, "write_json", refuse)
    evaluated(known_run)
    assert "Read-only file system; --out DIR writes it elsewhere" in capsys.readouterr().out


def test_a_folder_that_cannot_be_written_costs_no_figures(
    known_run: RunDir, capsys: pytest.CaptureFixture[str]
) -> None:
    for as_json in (False, True):
        with pytest.raises(UserError, match="/proc/pages: cannot write here"):
            evaluated(known_run, out="/proc/pages", as_json=as_json)
        said = capsys.readouterr().out
        assert (json.loads(said)["images"] == 355) if as_json else ("355 test images" in said)


def test_what_would_end_it_ends_it_before_the_work_of_minutes(
    known_run: RunDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def work(*args: object, **options: object) -> None:
        pytest.fail("the work was begun")

    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "cut.png").write_bytes(b"PNG")
    monkeypatch.setattr(examine, "under_corruption", work)
    with pytest.raises(UserError, match=r"cut\.png: this is not an image"):
        evaluated(known_run, corruptions="all", foreign=[str(tmp_path / "images")])
    known_run.env.unlink()
    monkeypatch.setattr(api, "examine", work)
    with pytest.raises(UserError, match=r"env\.json: this file of the run is missing"):
        evaluated(known_run)


def test_names_cannot_become_markup(known_run: RunDir) -> None:
    evaluated(known_run)
    values = json.loads(known_run.evaluation.read_text())
    values["per_class"][0]["class"] = values["label_order"] = "<img src=x onerror=alert(1)>"
    values["protocol"]["labels"] = "<script>"
    page = evaluation.page(values, "<b>title</b>", {})
    assert "<img src=x" not in page
    assert "<script" not in page
    assert "<b>" not in page


def test_the_card_says_how_the_run_came_to_its_number(known_run: RunDir) -> None:
    run = reading.read(known_run)
    plain = protocol.card(run)
    assert plain["selection"].endswith("the test images chose nothing.")
    assert plain["mode"].startswith("Evaluation mode")
    assert plain["augmentation"].startswith("No augmentation touched the test images.")
    assert plain["duplicates"].startswith("Nobody looked")
    assert "0 is 0, 9 is 9" in plain["labels"]
    assert plain["normalisation"].startswith("Normalised by: per-channel mean")
    config = small_config(
        "evaluation.flip=true",
        "evaluation.crop.padding=1",
        "evaluation.test_mode=train",
        "evaluation.batch_size=128",
        "data.drop_last=false",
    )
    odd = protocol.card(replace(run, config=config))
    assert odd["augmentation"].startswith("Test images were cropped at random and mirrored at random")
    assert odd["mode"].startswith("Training mode")
    assert "trained on" in odd["last batch"]


def test_a_run_that_was_cut_short_says_so(known_run: RunDir, capsys: pytest.CaptureFixture[str]) -> None:
    run = reading.read(known_run)
    assert run.result is not None
    cut = replace(run, config=small_config("train.max_steps=5"), result={**run.result, "steps": 5, "complete": False})
    assert protocol.card(cut)["selection"].startswith("The weights were tested after update 5, where train.max_steps")
    assert "after the last epoch" in protocol.card(run)["selection"]
    rewrite(known_run.result, complete=False)
    evaluated(known_run)
    assert "note: this run is incomplete" in capsys.readouterr().out


def test_what_an_evaluation_found_stands_on_the_card_of_reports(known_run: RunDir) -> None:
    evaluated(known_run)
    run = reading.read(known_run)
    assert protocol.card(run)["duplicates"].startswith("0 of 355 test images are, pixel for pixel, among the 1,442")
    known_run.evaluation.write_text("[]")
    assert protocol.card(reading.read(known_run))["duplicates"].startswith("Nobody looked")


def test_a_run_of_an_earlier_version_has_a_card(known_run: RunDir) -> None:
    rewrite(known_run.env, normalisation=None, label_order=None)
    card = protocol.card(reading.read(known_run))
    assert "not noted by the version that trained it" in card["normalisation"]


def test_the_command_of_the_package(small_run: api.Result) -> None:
    examined = api.examine(small_run.run_dir)
    assert examined.values["error"] == pytest.approx(small_run.test_error)
