"""The report's files: one page that lets nothing in from outside, tables of the same, figures; and 500 runs of them."""

import csv
import hashlib
import io
import json
import re
import time
from base64 import b64encode
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pictorch import api
from pictorch.cli import report as command
from pictorch.config import UserError
from pictorch.experiments.stats import t_interval
from pictorch.reports import page, reading, values
from pictorch.runs import RunError
from tests.conftest import small_config
from tests.reports.runs_on_disk import write_run

EVIL = "</script><img src=x onerror=alert(1)><!--"


def embedded(text: str) -> dict[str, Any]:
    [blob] = re.findall(r'<script type="application/json" id="values">(.*?)</script>', text, re.DOTALL)
    return dict(json.loads(blob))


def made(places: list[Path], out: Path) -> dict[str, Any]:
    command.report([str(place) for place in places], out=str(out), as_json=False)
    return embedded((out / "report.html").read_text())


@pytest.fixture
def study(tmp_path: Path) -> Path:
    for lr in (0.1, 0.2):
        for size in (64, 128):
            for seed in (1, 2):
                words = (f"optim.lr={lr}", f"train.batch_size={size}", f"train.seed={seed}")
                write_run(tmp_path / "runs" / f"{lr}-{size}-{seed}", *words, error=5 + 10 * lr + size / 64 + seed)
    write_run(tmp_path / "runs" / "begun", "train.seed=9", error=None)
    return tmp_path / "runs"


def test_everything_is_in_one_file_that_lets_nothing_in(study: Path, tmp_path: Path) -> None:
    made([study], tmp_path / "out")
    text = (tmp_path / "out" / "report.html").read_text()
    policy = unescape(re.findall(r'Content-Security-Policy" content="([^"]+)"', text)[0])
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    assert "http" not in policy
    scripts = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    styles = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    assert len(scripts) == 2
    for part in (*scripts, *styles):
        assert b64encode(hashlib.sha256(part.encode()).digest()).decode() in policy
    outside = re.sub(r"<script.*?</script>", "", text, flags=re.DOTALL)
    assert not re.findall(r'(?:src|href)="(?!#|data:)', outside)


def test_no_name_can_break_out_of_the_page(tmp_path: Path) -> None:
    classes = (EVIL, *(str(digit) for digit in range(1, 10)))
    write_run(tmp_path / "runs" / "a", recipe=EVIL, classes=classes, error=20.0)
    write_run(tmp_path / "runs" / "<b>", "optim.lr=0.2", recipe=EVIL, classes=classes, error=30.0)
    found = made([tmp_path / "runs"], tmp_path / "out")
    text = (tmp_path / "out" / "report.html").read_text()
    assert "<img" not in text.partition('id="values"')[2].partition("</script>")[0]
    assert text.count("</script>") == 3
    assert found["configurations"][0]["recipe"] == EVIL
    assert found["classes"]["digits"][0] == EVIL
    assert "<img" not in (tmp_path / "out" / "report.md").read_text().replace("\\<", "")


def test_the_page_has_the_numbers_of_the_runs(study: Path, tmp_path: Path) -> None:
    found = made([study], tmp_path / "out")
    best = found["configurations"][0]
    assert best["varying"] == {"optim.lr": 0.1, "train.batch_size": 64}
    assert (best["n"], best["errors"], best["median"], best["mean"]) == (2, [8.0, 9.0], 8.5, 8.5)
    assert [best["low"], best["high"]] == list(t_interval([8.0, 9.0]) or ())
    assert sum(sum(line) for line in best["answers"]["matrix"]) == best["answers"]["answers"] == 80
    assert [len(grid["cells"]) for grid in found["grids"]] == [4]
    assert [row["seed"] for row in found["incomplete"]] == [9]
    assert "epoch 4 of 4: under way, or stopped; `pictorch train --resume " in found["incomplete"][0]["why"]
    assert len(found["runs"]) == 9
    run = found["runs"][best["members"][0]]
    assert "train.batch_size" not in run["settings"], "it is the recipe's"
    assert found["protocol"]["digits"][0].startswith("40 test images of digits, the official files")
    assert "test images chose nothing" in found["protocol"]["digits"][2]


def test_the_settings_of_a_run_can_be_put_together_again(study: Path, tmp_path: Path) -> None:
    found = made([study], tmp_path / "out")
    read, _ = reading.read_all([study])
    for run, told in zip(read, found["runs"], strict=True):
        assert {**found["settings"][told["base"]], **told["settings"]} == run.settings
        assert {**found["environments"][0], **told["environment"]} == run.env


def test_tables_and_figures_lie_beside_the_page(study: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    made([study], out)
    text = (out / "report.md").read_text()
    assert "| 1 | digits/resnet\\_preact\\_8 optim.lr=0.1 train.batch\\_size=64 | 2 | 8.50 | 8.50 ± 0.71 |" in text
    assert "## Incomplete runs, which count for nothing" in text
    table = list(csv.DictReader(io.StringIO((out / "report.csv").read_text())))
    assert [(row["optim.lr"], row["train.batch_size"], row["mean"]) for row in table[:2]] == [
        ("0.1", "64", "8.5"),
        ("0.1", "128", "9.5"),
    ]
    assert len(list(csv.DictReader(io.StringIO((out / "runs.csv").read_text())))) == 9
    linked = re.findall(r"\]\((figures/[^)]+\.svg)\)", text)
    assert len(linked) >= 5
    for file in linked:
        assert (out / file).read_bytes().startswith(b"<?xml")
        with Image.open((out / file).with_suffix(".png")) as picture:
            assert picture.width >= 600


def test_mistakes_are_shown_as_images_where_the_data_are(tmp_path: Path) -> None:
    write_run(tmp_path / "runs" / "a", error=20.0)
    found = made([tmp_path / "runs"], tmp_path / "out")
    mistakes = found["configurations"][0]["mistakes"]
    assert mistakes["rows"][0] == [0, "1", "7", 0.99]
    assert sorted(map(int, found["pictures"][mistakes["album"]])) == list(range(8))
    assert mistakes["why"] == ""


def test_where_the_data_are_not_it_says_so(tmp_path: Path) -> None:
    directory = write_run(tmp_path / "runs" / "a", error=20.0)
    env = json.loads(directory.env.read_text()) | {"data_checksum": "other"}
    directory.env.write_text(json.dumps(env))
    found = made([tmp_path / "runs"], tmp_path / "out")
    why = found["configurations"][0]["mistakes"]["why"]
    assert "are no longer those that the run was tested on" in why
    assert found["pictures"] == {found["configurations"][0]["mistakes"]["album"]: {}}


def test_what_is_damaged_is_told_and_the_rest_reported(tmp_path: Path) -> None:
    directory = write_run(tmp_path / "runs" / "a", error=20.0)
    directory.metrics.write_text("{torn\n" + directory.metrics.read_text())
    directory.predictions.write_bytes(b"PK nothing")
    directory.mistakes.write_text('{"mistakes": [{"index": "first"}]}')
    directory.weights.unlink()
    write_run(tmp_path / "runs" / "b", "optim.lr=0.2", error=30.0).config.write_text("train: [")
    found = made([tmp_path / "runs"], tmp_path / "out")
    notes = " ".join(found["notes"])
    assert "metrics.jsonl: 1 line is damaged and left out; 4 epochs are reported" in notes
    assert "predictions.npz: cannot read this file of the run" in notes
    assert "mistakes.json: this is not the list of mistakes" in notes
    assert [Path(row["run"]).name for row in found["not_reported"]] == ["b"]
    assert found["configurations"][0]["mean"] == 20.0


def test_a_report_is_replaced_and_nothing_else_is(study: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    made([study], out)
    first = sorted(path.name for path in (out / "figures").iterdir())
    (out / "figures" / "mine.svg").write_text("mine")
    made([study / "0.1-64-1"], out)
    left = sorted(path.name for path in (out / "figures").iterdir())
    assert "mine.svg" in left
    assert len(left) < len(first)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").write_text("all of it")
    with pytest.raises(RunError, match="this folder holds something that is no report; give another --out"):
        made([study], tmp_path / "other")
    with pytest.raises(RunError, match="this is a file, not a folder"):
        made([study], tmp_path / "other" / "thesis.tex")
    assert [path.name for path in (tmp_path / "other").iterdir()] == ["thesis.tex"]


def test_seeds_with_the_same_error_have_figures(tmp_path: Path) -> None:
    """The mean of three times 12.112676056338028 is less than it, by the last bit."""
    for lr in (0.1, 0.2, 0.4):
        for seed in (1, 2, 3):
            write_run(
                tmp_path / "runs" / f"{lr}-{seed}", f"optim.lr={lr}", f"train.seed={seed}", error=12.112676056338028
            )
    made([tmp_path / "runs"], tmp_path / "out")
    assert (tmp_path / "out" / "figures" / "digits-error-over-optim.lr.svg").exists()


def test_json_is_what_the_tables_say(study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command.report([str(study)], out=str(tmp_path / "out"), as_json=True)
    found = json.loads(capsys.readouterr().out)
    assert found["configurations"][0]["mean"] == 8.5
    assert found["report"] == str(tmp_path / "out" / "report.html")


def test_without_runs_it_says_where_it_looked() -> None:
    with pytest.raises(UserError, match="runs: there is no such folder here; name run directories"):
        command.report([], out=None, as_json=False)


def test_many_classes_are_told_by_the_worst_and_the_confused(tmp_path: Path) -> None:
    classes = tuple(f"class {k}" for k in range(120))
    write_run(tmp_path / "runs" / "a", classes=classes, images=600, error=30.0)
    found = made([tmp_path / "runs"], tmp_path / "out")["configurations"][0]["answers"]
    assert "matrix" not in found
    assert len(found["recalls"]) == 100
    assert found["confused"][0][2] >= found["confused"][-1][2] >= 1
    recalls = [right / images for _, right, images in found["recalls"]]
    assert recalls == sorted(recalls)


def test_a_real_run_from_training_to_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    api.train(small_config("train.epochs=1"), recipe="small", out=tmp_path / "runs" / "a")
    found = made([tmp_path / "runs"], tmp_path / "out")
    [one] = found["configurations"]
    mistakes = one["mistakes"]
    assert len(found["pictures"][mistakes["album"]]) == len(mistakes["rows"]) == 24
    assert found["runs"][0]["result"][found["result_keys"].index("test_error")] == one["mean"]
    assert f"{tmp_path / 'out' / 'report.html'}: opens in any browser, without a network" in capsys.readouterr().out


def many(folder: Path, count: int = 500, epochs: int = 200) -> None:
    """Write many runs by changing one: 500 configurations of a seed each are the largest page."""
    model = write_run(folder / "000", error=5.0, epochs=epochs, images=10_000)
    texts = {path.name: path.read_bytes() for path in model.path.iterdir()}
    for k in range(1, count):
        run = folder / f"{k:03d}"
        run.mkdir()
        for name, content in texts.items():
            (run / name).write_bytes(content)
        lr = f"lr: {0.2 + 0.001 * k:.3f}\n  weight_decay".encode()
        (run / "config.yaml").write_bytes(texts["config.yaml"].replace(b"lr: 0.1\n  weight_decay", lr))
        row = json.loads(texts["result.json"]) | {"test_error": 5 + k / 100}
        (run / "result.json").write_text(json.dumps(row))


@pytest.mark.slow
def test_five_hundred_runs_take_ten_seconds_and_five_megabytes(tmp_path: Path) -> None:
    many(tmp_path / "runs")
    before = time.process_time()
    found = made([tmp_path / "runs"], tmp_path / "out")
    seconds = time.process_time() - before
    assert len({c["hash"] for c in found["configurations"]}) == len(found["runs"]) == 500
    assert seconds < 10
    assert (tmp_path / "out" / "report.html").stat().st_size < 5_000_000


def test_the_library_is_the_one_that_is_named() -> None:
    readme = (page.ASSETS / "README.md").read_text()
    library = (page.ASSETS / page.LIBRARY).read_bytes()
    assert hashlib.sha256(library).hexdigest() in readme
    assert len(library) < 1_200_000
    assert b"</script" not in library
    assert (page.ASSETS / "echarts-LICENSE").read_text().strip().startswith("Apache License")


def test_pictures_stop_where_the_page_would_be_large(tmp_path: Path) -> None:
    write_run(tmp_path / "a")
    [run], _ = reading.read_all([tmp_path])
    gallery = values.Gallery(lambda run, places: {place: bytes(300_000) for place in places})
    assert gallery.add(run, [1, 2])[1] == ""
    assert "left out, to keep the page small" in gallery.add(run, [3])[1]
    assert gallery.add(run, [1])[1] == "", "it is there already"
