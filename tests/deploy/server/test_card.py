"""The model card and the page say what the run directory says, whatever its names hold."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from pictorch import api, runs
from pictorch.cli import serve
from pictorch.deploy.predict import Predictor
from pictorch.deploy.server import application, page
from pictorch.deploy.server.card import card
from pictorch.deploy.server.limits import Limits


@pytest.fixture(scope="module")
def predictor(small_run: api.Result) -> Predictor:
    return Predictor(small_run.run_dir)


def test_it_says_what_the_result_says(small_run: api.Result, predictor: Predictor) -> None:
    row = small_run.row
    made = card(runs.open(small_run.run_dir), predictor)
    assert made["name"] == "small"
    assert made["network"]["parameters"] == row["params"]
    assert made["test"] == {
        **{key: row[key] for key in ("test_error", "test_top1", "test_top5", "test_images", "views")},
        "runs": 1,
    }
    assert made["data"]["official_files"] is not None
    assert (made["provenance"]["commit"], made["provenance"]["complete"]) == (row["commit"], True)
    assert "made grey, its central square, scaled to 8 x 8 pixels (bicubic)" in made["protocol"]
    assert "the last epoch's weights" in made["protocol"]
    json.dumps(made, allow_nan=False)


def test_weights_alone_have_a_card_that_says_so(small_run: api.Result, predictor: Predictor, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(small_run.run_dir, tmp_path / "copy"))
    for name in ("result.json", "env.json"):
        (copy / name).unlink()
    made = card(runs.open(copy), predictor)
    assert made["test"] is None
    assert made["notes"][0] == "This run directory has no result: how good the network is, is not known here."
    runs.write_json(copy / "result.json", small_run.row | {"complete": False})
    assert card(runs.open(copy), predictor)["notes"][0].startswith("This run was cut short")


@pytest.mark.parametrize("name", ["</script><script>alert(1)</script>", "@@values@@", "<!--<script>", "\u2028\N{OWL}"])
def test_names_cannot_get_out_of_the_page(small_run: api.Result, predictor: Predictor, name: str) -> None:
    made = {**card(runs.open(small_run.run_dir), predictor), "name": name}
    text = page.page(made, [name], Limits()).decode()
    assert text.count("<script") == 2
    assert text.count("</script>") == 2
    values = text.partition('id="values">')[2].partition("</script>")[0]
    assert json.loads(values)["classes"] == [name]
    assert json.loads(values)["card"]["name"] == name


def test_names_of_no_encoding_are_answered_with(small_run: api.Result, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(small_run.run_dir, tmp_path / "copy"))
    runs.write_json(copy / "result.json", small_run.row | {"recipe": "caf\udce9"})
    predictor = Predictor(copy)
    predictor.classes = ("caf\udce9", *predictor.classes[1:])
    app = application.create(runs.open(copy), predictor, Limits(), application.Settings())
    assert app
    assert predictor.classes[0] == "caf?"
    made = card(runs.open(copy), predictor)
    assert made["name"] == "caf?"
    assert page.page(made, predictor.classes, Limits()).decode()


def test_the_policy_names_what_is_in_the_page(small_run: api.Result, predictor: Predictor) -> None:
    text = page.page(card(runs.open(small_run.run_dir), predictor), ["a"], Limits()).decode()
    style = text.partition("<style>")[2].partition("</style>")[0]
    script = text.rpartition("<script>")[2].partition("</script>")[0]
    for part in (style, script):
        assert page.hash_of(part) in page.POLICY
    assert "unsafe" not in page.POLICY
    for attribute in ("onclick=", "style=", 'src="http', 'href="http'):
        assert attribute not in text.partition("<script")[0]


def test_limits_are_shown(small_run: api.Result, predictor: Predictor) -> None:
    limits = replace(Limits(), body_bytes=1234, images=7)
    text = page.page(card(runs.open(small_run.run_dir), predictor), ["a"], limits).decode()
    assert '"limits":{"bytes":1234,"pixels":50000000,"images":7}' in text


def test_the_protocol_card_stands_on_it(small_run: api.Result, predictor: Predictor) -> None:
    aspects = serve.protocol_of(runs.open(small_run.run_dir))
    assert aspects["selection"].endswith("the test images chose nothing.")
    made = card(runs.open(small_run.run_dir), predictor, aspects)
    assert made["protocol_card"] == aspects
    assert card(runs.open(small_run.run_dir), predictor)["protocol_card"] == {}


def test_a_directory_that_says_too_little_has_no_protocol_card(small_run: api.Result, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(small_run.run_dir, tmp_path / "copy"))
    (copy / "env.json").unlink()
    assert serve.protocol_of(runs.open(copy)) == {}
