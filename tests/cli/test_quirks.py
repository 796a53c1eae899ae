"""`pictorch quirks`: the table, one of them, JSON, mistakes."""

import json

import pytest

from pictorch.cli.quirks import quirks
from pictorch.config import UserError
from pictorch.config.quirks import NOT_REPRODUCED, QUIRKS


def test_a_line_for_each_with_the_switch_to_type(capsys: pytest.CaptureFixture[str]) -> None:
    quirks("*", document=None, as_json=False)
    lines = capsys.readouterr().out.splitlines()
    for quirk in QUIRKS:
        (line,) = (line for line in lines if line.split(" ")[0] == quirk.name)
        assert line.endswith(quirk.switches[0])
        assert (" * " in line) is bool(quirk.apart)
    assert f"{len(NOT_REPRODUCED)} others are not reproduced" in lines[-1]


def test_those_of_a_document(capsys: pytest.CaptureFixture[str]) -> None:
    quirks("*", document="seed3", as_json=True)
    rows = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in rows] == [quirk.name for quirk in QUIRKS if "seed3" in quirk.documents]
    assert rows[0].keys() >= {"documents", "program", "paper", "effect", "keys", "switches", "as_published", "source"}


def test_everything_about_one(capsys: pytest.CaptureFixture[str]) -> None:
    quirks("decay_by_name", document=None, as_json=False)
    out = capsys.readouterr().out
    assert "2,992 of the 272,282 parameters" in out
    assert "leaves it off" in out
    quirks("narrow_first_stage", document=None, as_json=False)
    out = capsys.readouterr().out
    assert out.endswith(
        "pictorch train RECIPE model.as_published=seed1\npictorch train RECIPE model.as_published=seed2\n"
    )
    assert "turns it on" in out


@pytest.mark.parametrize(
    ("pattern", "document", "message"),
    [
        ("narow_first_stage", None, "no quirk is called 'narow_first_stage'; did you mean 'narrow_first_stage'"),
        ("vgg*", "seed2", r"no quirk of seed2 is called 'vgg\*'"),
        ("*", "seed4", "--document: there is no seed document 'seed4'; did you mean 'seed"),
    ],
)
def test_mistakes(pattern: str, document: str | None, message: str) -> None:
    with pytest.raises(UserError, match=message):
        quirks(pattern, document=document, as_json=False)
