"""Runs get into the ledger once, whole, and with files that agree."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import rewrite, small_config

from pictorch import api, runs
from pictorch.cli.claims import network
from pictorch.config.comparable import comparable_hash
from pictorch.experiments import ledger
from pictorch.runs import RunDir, RunError


def refusal(run: RunDir, tmp_path: Path, **options: bool) -> str:
    with pytest.raises(RunError) as refused:
        ledger.add([str(run.path)], tmp_path, network, **options)
    assert not list(tmp_path.glob("*.csv"))
    return str(refused.value)


def test_a_run_is_a_row_and_its_learning_curve(known_run: RunDir, known_second: RunDir, tmp_path: Path) -> None:
    first, other = ledger.add([str(known_run.path), str(known_second.path)], tmp_path, network)
    assert ledger.read(tmp_path) == [first, other]
    result = runs.read_result(known_run)
    assert (first.seed, other.seed, first.recipe, first.epochs, first.test_images) == (1, 2, "small", 3, 355)
    assert first.test_error == pytest.approx(result["test_error"], abs=1e-6)
    assert first.top5 == pytest.approx(result["test_top5"], abs=1e-6)
    assert first.comparable == other.comparable == comparable_hash(first.decisive)
    assert first.run != other.run
    assert (first.data_official, first.dirty, first.test_in_selection) == (True, "", False)
    assert first.protocol == "last epoch, test set not used to select"
    curves = ledger.read_curves(tmp_path)
    assert [point["epoch"] for point in curves[first.run]] == [1, 2, 3]
    assert curves[other.run][-1]["test_error"] == pytest.approx(other.test_error, abs=1e-3)


def test_the_same_run_is_refused_a_second_time_wherever_it_lies(
    known_run: RunDir, known_second: RunDir, tmp_path: Path
) -> None:
    (first,) = ledger.add([str(known_run.path)], tmp_path, network)
    copy = shutil.copytree(known_run.path, tmp_path / "elsewhere")
    with pytest.raises(ledger.UserError, match=f"elsewhere: this run is in .*runs.csv already, as {first.run}"):
        ledger.add([str(known_second.path), str(copy)], tmp_path, network)
    assert ledger.read(tmp_path) == [first], "all are added, or none"
    with pytest.raises(ledger.UserError, match="already"):
        ledger.add([str(known_second.path), str(known_second.path)], tmp_path, network)


def test_a_run_that_was_cut_short_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cut = api.train(small_config("train.max_steps=2"), recipe="small", out=tmp_path / "cut")
    assert "it stopped after step 2 (train.max_steps), which is no result" in refusal(RunDir(cut.run_dir), tmp_path)
    monkeypatch.setenv("PICTORCH_MAX_STEPS", "2")
    capped = api.train(small_config(), recipe="small", out=tmp_path / "capped")
    assert "which is no result; nothing was added" in refusal(RunDir(capped.run_dir), tmp_path)


def test_a_run_on_fewer_test_images_is_refused(tmp_path: Path) -> None:
    few = api.train(small_config("evaluation.max_images=50", "train.epochs=1"), recipe="small", out=tmp_path / "few")
    assert "images only (evaluation.max_images)" in refusal(RunDir(few.run_dir), tmp_path)


def test_an_unfinished_run_is_refused(known_run: RunDir, tmp_path: Path) -> None:
    rewrite(known_run.result, complete=False)
    assert "it did not train its 3 epochs to their end" in refusal(known_run, tmp_path)
    known_run.result.unlink()
    assert "result.json: this file of the run is missing" in refusal(known_run, tmp_path)


@pytest.mark.parametrize(
    ("key", "value", "file"),
    [
        ("test_error", 1.0, "predictions.npz make it"),
        ("test_top5", 50.0, "predictions.npz make it"),
        ("test_images", 10_000, "predictions.npz make it 355"),
        ("config_hash", "0123456789ab", "config.yaml"),
        ("seed", 9, "config.yaml 1"),
        ("selection", "best-val", "config.yaml last"),
        ("data_checksum", "ab", "env.json"),
        ("commit", "ab", "env.json"),
    ],
)
def test_a_result_that_another_file_contradicts_is_refused(
    known_run: RunDir, tmp_path: Path, key: str, value: object, file: str
) -> None:
    rewrite(known_run.result, **{key: value})
    text = refusal(known_run, tmp_path)
    assert f"result.json says {key} {value}, {file}" in text
    assert text.endswith("nothing was added")


def test_another_configuration_than_the_one_that_ran_is_refused(known_run: RunDir, tmp_path: Path) -> None:
    known_run.config.write_text(known_run.config.read_text().replace("weight_decay: 0.0005", "weight_decay: 0.0001"))
    assert "result.json says config_hash" in refusal(known_run, tmp_path)


def test_damaged_predictions_are_refused(known_run: RunDir, tmp_path: Path) -> None:
    known_run.predictions.write_bytes(b"no archive")
    assert "predictions.npz: cannot read this file of the run" in refusal(known_run, tmp_path)
    np.savez(known_run.predictions, label=np.zeros(3), classes=np.zeros((2, 5)))
    assert "expected label [N] and classes [N,5]" in refusal(known_run, tmp_path)


def test_code_that_no_commit_names_is_refused_and_recorded_where_it_is_wanted(
    known_run: RunDir, tmp_path: Path
) -> None:
    rewrite(known_run.env, dirty="feed" * 16)
    assert "the code of this run differed from its commit 0123456789" in refusal(known_run, tmp_path)
    (row,) = ledger.add([str(known_run.path)], tmp_path, network, changed_code=True)
    assert row.dirty == "feedfeedfeed"


def test_changes_in_a_session_that_resumed_it_count(known_run: RunDir, tmp_path: Path) -> None:
    env = json.loads(known_run.env.read_text())
    rewrite(known_run.env, resumed=[{**env, "dirty": "feed" * 16}, env])
    assert "differed from its commit" in refusal(known_run, tmp_path)


def test_a_run_without_a_commit_is_refused(known_run: RunDir, tmp_path: Path) -> None:
    rewrite(known_run.env, commit=None)
    rewrite(known_run.result, commit=None)
    assert "no commit is known of its code" in refusal(known_run, tmp_path, changed_code=True)


def test_a_long_learning_curve_is_thinned_and_keeps_its_end(known_run: RunDir) -> None:
    rows = [{"epoch": k, "train_error": 1.0, **({"test_error": 100.0 / k} if k % 2 else {})} for k in range(1, 1000)]
    known_run.metrics.write_text("".join(json.dumps(row) + "\n" for row in rows))
    points = list(ledger.curve(known_run, "x"))
    assert len(points) <= ledger.MOST_POINTS
    assert points[-1] == {"run": "x", "epoch": 999, "train_error": 1.0, "test_error": 0.1}


def test_a_ledger_of_other_columns_is_left_alone(known_run: RunDir, tmp_path: Path) -> None:
    file = tmp_path / ledger.RUNS
    file.write_text("run,seed\n")
    with pytest.raises(ledger.UserError, match=r"runs.csv: expected the columns run,recipe,"):
        ledger.add([str(known_run.path)], tmp_path, network)
    assert file.read_text() == "run,seed\n"


def test_a_broken_row_is_named(known_run: RunDir, tmp_path: Path) -> None:
    ledger.add([str(known_run.path)], tmp_path, network)
    file = tmp_path / ledger.RUNS
    table = list(csv.reader(file.read_text().splitlines()))
    table[1][ledger.COLUMNS.index("seed")] = "one"
    with file.open("w", newline="") as out:
        csv.writer(out).writerows(table)
    with pytest.raises(ledger.UserError, match=r"runs.csv:2: this is no row of a run: .*'one'"):
        ledger.read(tmp_path)
