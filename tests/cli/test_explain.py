"""`pictorch explain` from the words of its command line to the files that it leaves."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import rewrite
from PIL import Image
from typer.testing import CliRunner

from pictorch import api, data, runs
from pictorch.cli.app import app
from pictorch.cli.explain import Source, named_apart
from pictorch.runs import RunDir


def explain(*words: object, status: int = 0) -> tuple[str, str]:
    """Return what the command prints and what it says of errors. An exception that gets out fails the test."""
    done = CliRunner().invoke(app, ["explain", *map(str, words)], catch_exceptions=False)
    assert done.exit_code == status, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout, done.stderr


def refused(*words: object) -> str:
    out, error = explain(*words, status=2)
    assert out == ""
    return error


def table(folder: str = "explain") -> dict[str, Any]:
    found: dict[str, Any] = json.loads((Path(folder) / "explain.json").read_text())
    return found


@pytest.fixture
def digit() -> Path:
    """A file of a test image, in a folder with the name of its class."""
    part = data.open("digits", root=Path()).test
    assert isinstance(part, data.Split)
    path = Path(str(int(part.labels[3]))) / "a digit.png"
    path.parent.mkdir()
    Image.fromarray(part.images[3, 0].numpy()).save(path)
    return path


def test_a_file_and_the_same_test_image_have_one_explanation(small_run: api.Result, digit: Path) -> None:
    out, _ = explain(small_run.run_dir, digit, "--test", "3")
    label = digit.parent.name
    assert f"true: {label}; gradcam: " in out
    assert out.count("agreement with occlusion") == 2
    assert out.count("tests hold") == 2
    one, other = table()["images"]
    different = ("image", "figure", "overlay")
    assert {k: v for k, v in one.items() if k not in different} == {
        k: v for k, v in other.items() if k not in different
    }
    assert (one["label"], one["image"]) == (label, f"{label}/a digit.png")
    assert other["image"] == "test image 3 of digits"
    assert {path.name for path in Path("explain").iterdir()} == {
        *("explain.json", "heatmaps.npz"),
        *("a digit.png", "a digit-overlay.png", "test-00003.png", "test-00003-overlay.png"),
    }
    with np.load("explain/heatmaps.npz") as maps:
        assert maps["heat"].shape == maps["drops"].shape == (2, 8, 8)
        assert np.array_equal(maps["heat"][0], maps["heat"][1])
        assert maps["heat"].max() == 1
        assert maps["values"].shape[0] == 2
    with Image.open("explain/a digit-overlay.png") as drawn:
        assert drawn.size == (256, 256)
    with Image.open("explain/a digit.png") as drawn:
        assert drawn.width > 900  # image, map and occlusion
    [prediction] = api.predict(small_run.run_dir, digit)
    assert one["predicted"] == one["class"] == prediction.classes[0]
    assert one["probability"] == pytest.approx(prediction.probabilities[0], abs=1e-5)


def test_mistakes_of_the_run_surest_first(small_run: api.Result) -> None:
    out, _ = explain(small_run.run_dir, "--mistakes", 2, "--json", "--no-check")
    rows = [json.loads(line) for line in out.splitlines()]
    listed = json.loads((small_run.run_dir / "mistakes.json").read_text())["mistakes"][:2]
    for row, mistake in zip(rows, listed, strict=True):
        assert row["image"] == f"test image {mistake['index']} of digits"
        assert (row["label"], row["predicted"]) == (mistake["label"], mistake["predicted"])
        assert row["probability"] == pytest.approx(mistake["probability"], abs=1e-3)
        assert row["check"] is None
    with np.load("explain/heatmaps.npz") as maps:
        assert set(maps) == {"heat", "values"}


def test_a_class_a_method_and_a_finer_map(small_run: api.Result, digit: Path) -> None:
    run = small_run.run_dir
    out, _ = explain(run, digit, "--class", "5", "--side", "8")
    assert "  5 " in out
    assert "8 x 8" in out
    assert table()["images"][0]["class"] == "5"
    out, _ = explain(run, digit, "--method", "occlusion", "--patch", "3")
    assert "occlusion: squares of 3 pixels, 6 x 6" in out
    assert "agreement" not in out
    assert "of 2 tests hold" in out
    out, _ = explain(run, digit, "--layer", "stages.1")
    assert "gradcam: stages.1, 4 x 4" in out


def test_a_folder_and_bad_files_in_it(small_run: api.Result, digit: Path) -> None:
    for name in ("one.png", "deep/two.png"):
        (Path("mine") / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(digit, Path("mine") / name)
    Path("mine/notes.txt").write_text("no image")
    (Path("mine") / "cut.png").write_bytes(digit.read_bytes()[:40])
    out, error = explain(small_run.run_dir, "mine", digit, "none.png", status=2)
    assert [line for line in out.splitlines() if line.endswith(".png")] == [
        *("mine/deep/two.png", "mine/one.png", str(digit))
    ]
    assert "mine/cut.png: this " in error
    assert "none.png: there is no such file" in error
    assert "2 of 5 images could not be read" in error
    assert len(table()["images"]) == 3
    assert "none.png: there is no such file" in refused(small_run.run_dir, "none.png", "--out", "other")
    assert "2 of 2 images could not be read" in explain(small_run.run_dir, "none.png", "nor.png", status=2)[1]
    assert not Path("other").exists()
    Path("empty").mkdir()
    assert "empty: there is no image in this folder" in refused(small_run.run_dir, "empty")


def test_earlier_explanations_are_replaced_and_nothing_else(small_run: api.Result, digit: Path) -> None:
    run = small_run.run_dir
    explain(run, "--test", "1,2", "--no-check")
    Path("explain/mine.txt").write_text("stays")
    explain(run, digit, "--no-check")
    assert {path.name for path in Path("explain").iterdir()} == {
        *("explain.json", "heatmaps.npz", "mine.txt", "a digit.png", "a digit-overlay.png")
    }
    Path("explain/test-00001.png").write_text("somebody's")
    assert "explain/test-00001.png: this is no file of earlier explanations" in refused(run, "--test", "1")
    assert Path("explain/test-00001.png").read_text() == "somebody's"
    assert Path("explain/a digit.png").exists()
    assert "explain/a digit.png: this is of the earlier explanations" in refused(run, "explain")
    assert Path("explain/a digit-overlay.png").exists()


def test_a_stopped_explanation_leaves_a_folder_that_is_known(
    small_run: api.Result, digit: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("pictorch.cli.explain.finish", stop)
        explain(small_run.run_dir, digit, "--no-check", status=130)
    assert Path("explain/a digit.png").exists()
    explain(small_run.run_dir, "--test", "1", "--no-check")
    assert not Path("explain/a digit.png").exists()


def test_other_folders_are_left_alone(small_run: api.Result, digit: Path) -> None:
    run, before = small_run.run_dir, sorted(small_run.run_dir.iterdir())
    for out, why in {
        "full": "full: this folder holds something that is no explanation; give another --out",
        "file": "file: this is a file, not a folder; give another --out",
        "file/below": "file: this is a file, not a folder; give another --out",
        str(run): "this folder holds something that is no explanation",
        "": "--out: expected a path, got an empty text",
        "--json": "--out: expected a path",
    }.items():
        Path("full").mkdir(exist_ok=True)
        Path("full/x").touch()
        Path("file").touch()
        assert why in refused(run, digit, f"--out={out}")
    assert sorted(run.iterdir()) == before


def test_a_folder_without_leave_to_write(small_run: api.Result, digit: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The kernel lets nobody, not even root, make a folder there.
    assert "/proc/why: cannot write here: " in refused(small_run.run_dir, digit, "--out", "/proc/why")
    # What the file system says of those who are not root.
    monkeypatch.setattr(os, "access", lambda *_: False)
    Path("closed").mkdir()
    for out in ("closed", "closed/below"):
        message = refused(small_run.run_dir, digit, "--out", out)
        assert f"{out}: cannot write here: " in message
        assert "closed is not writable; give another --out" in message


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ((), "expected image files, a folder of them, --test 0,5,17 or --mistakes 8: there is nothing here"),
        (("",), "expected a file or a folder, got an empty text"),
        (("--test", "400"), "--test: expected numbers from 0 to 354, got 400"),
        (("--test", "1;2"), "--test: expected numbers of test images with commas between, as in 0,5,17, got '1;2'"),
        (("--test", "-1"), "--test: expected numbers of test images with commas between"),
        (("--test", ""), "--test: expected numbers of test images with commas between"),
        (("--mistakes", "0"), "Invalid value for '--mistakes'"),
        (("--test", "1", "--class", "zero"), "class: the run has no class 'zero'; known: 0, 1, 2"),
        (("--test", "1", "--class", "10"), "class: expected a name, or a number from 0 to 9, got 10"),
        (("--test", "1", "--method", "cam"), "method: expected one of auto, gradcam, rollout, occlusion, got 'cam'"),
        (("--test", "1", "--layer", "stage.1"), "layer: the network has no module 'stage.1'; did you mean 'stages.1'"),
        (("--test", "1", "--side", "9"), "side: expected 2 to 8 pixels, got 9"),
        (("--test", "1", "--patch", "8"), "patch: expected 1 to 7 pixels, got 8"),
        (("--test", "1", "--tset", "2"), "No such option: --tset"),
    ],
)
def test_mistakes_of_the_user(small_run: api.Result, words: tuple[str, ...], why: str) -> None:
    assert why in " ".join(refused(small_run.run_dir, *words).split())
    assert not Path("explain").exists()


def test_runs_that_lack_something(small_run: api.Result, tmp_path: Path) -> None:
    assert "there is no such run directory" in refused("none", "--test", "1")
    run = RunDir(Path(shutil.copytree(small_run.run_dir, tmp_path / "copy")))
    run.mistakes.write_text('{"mistakes": [{"place": 3}]}')
    assert "this is not the list of mistakes that the run wrote" in refused(run.path, "--mistakes", "1")
    run.mistakes.write_text("{")
    assert "mistakes.json: cannot read this file of the run" in refused(run.path, "--mistakes", "1")
    run.mistakes.write_text('{"mistakes": []}')
    assert "--mistakes: " in refused(run.path, "--mistakes", "1")
    rewrite(run.env, data_checksum="0")
    assert "are no longer those that the run was tested on" in refused(run.path, "--test", "1")
    run.weights.unlink()
    assert "there are no weights here" in refused(run.path, "--test", "1")


def test_a_folder_of_ones_own_is_cut_as_in_its_evaluation(tmp_path: Path) -> None:
    """Images of their own sizes: what is explained is what the evaluation answered."""
    draws = np.random.default_rng(0)
    for i in range(12):
        path = Path("photographs") / "ab"[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draws.integers(0, 256, (40 + i, 60, 3), np.uint8)).save(path)
    settings = ["data.name=photographs", "data.image_size=16", "data.test_fraction=0.5", "data.resident=false"]
    config = api.load_config(
        "digits/resnet_preact_8", [*settings, "train.batch_size=4", "train.epochs=1", "train.precision=fp32"]
    )
    run = api.train(config, out=tmp_path / "run")
    assert isinstance(run, api.Result)
    answers = api.evaluate(run.run_dir)
    out, _ = explain(run.run_dir, "--test", ",".join(map(str, range(answers.images))), "--json", "--no-check")
    rows = [json.loads(line) for line in out.splitlines()]
    assert [row["probability"] for row in rows] == pytest.approx(answers.probabilities[:, 0].tolist(), abs=1e-4)
    assert [row["label"] for row in rows] == [answers.classes[label] for label in answers.labels.tolist()]
    assert runs.open(run.run_dir)


def test_names_that_no_font_has(small_run: api.Result, digit: Path) -> None:
    names = [b"a\xffb.png", b"x\ny.png", "语言 $a$ \\frac.png".encode(), b"n" * 240 + b".png"]
    for name in names:
        Path(os.fsdecode(name)).write_bytes(digit.read_bytes())
    explain(small_run.run_dir, *map(os.fsdecode, names), "--no-check", "--json")
    assert len(table()["images"]) == len(names)
    for row in table()["images"]:
        with Image.open(Path("explain") / row["figure"]) as drawn:
            assert drawn.format == "PNG"


def test_names_of_pictures_can_be_names_and_are_apart() -> None:
    stems = ["cat", "Cat", "cat-overlay", "a\nb", "n" * 300, "语" * 100, "explain", "heatmaps", "a\udcffb"]
    apart = named_apart([Source(stem, stem, None, None) for stem in stems])  # type: ignore[arg-type]
    names = [f"{source.stem}{ending}.png".lower() for source in apart for ending in ("", "-overlay")]
    assert len(set(names)) == 2 * len(stems)
    for name in names:
        Path(name).touch()
    assert apart[3].stem == "a_b"
    assert [source.name for source in apart] == stems
