"""`pictorch compare` on two short runs: what it says, and the same as JSON."""

import json
from pathlib import Path

import pytest

from pictorch import api
from pictorch.cli.compare import compare
from tests.conftest import small_config


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    top = tmp_path_factory.mktemp("pair")
    api.train(small_config("train.epochs=1"), out=top / "a")
    api.train(small_config("train.epochs=1", "optim.lr=0.01", "train.seed=2"), out=top / "b")
    return top


def test_two_runs_in_words(pair: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    compare(str(pair / "a"), str(pair / "b"), as_json=False)
    printed = capsys.readouterr().out
    compare(str(pair / "a"), str(pair / "b"), as_json=True)
    found = json.loads(capsys.readouterr().out)
    assert f"A  {pair / 'a'}: " in printed
    assert "   optim.lr: A default, B 0.01\n   note: the seeds differ: 1 and 2\n" in printed
    a, b = found["alone"]
    assert f"355 test images: both right {355 - a - b - found['neither']}, A alone {a}, B alone {b}, neither" in printed
    assert len(found["disagreed"]) == a + b
    assert [row["name"] for row in found["classes"]] == [str(digit) for digit in range(10)]
    assert found["pair"] == [str(pair / "a"), str(pair / "b")]


def test_a_run_beside_itself(pair: Path, capsys: pytest.CaptureFixture[str]) -> None:
    compare(str(pair / "a"), str(pair / "a"), as_json=False)
    printed = capsys.readouterr().out
    assert "the settings that decide the result are the same" in printed
    assert "A alone 0, B alone 0" in printed
    assert "McNemar's exact p 1" in printed
