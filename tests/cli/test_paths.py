"""Paths as they are written on the command line."""

from pathlib import Path

import pytest
from conftest import evaluated

from pictorch.cli.card import card
from pictorch.cli.paths import option_path
from pictorch.config import UserError
from pictorch.runs import RunDir


def test_a_tilde_is_the_home_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert option_path("--out", "~/run") == f"{tmp_path}/run"
    assert option_path("--out", "a/~") == "a/~"
    assert option_path("--out", None) is None


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("", "command line: --out: expected a path, got an empty text"),
        ("--dry-run", "command line: --out: expected a path, got --dry-run; a path of that name is ./--dry-run"),
    ],
)
def test_what_is_no_path_is_refused(value: str, said: str) -> None:
    with pytest.raises(UserError) as caught:
        option_path("--out", value)
    assert said in str(caught.value)


def test_what_another_run_holds_stays(known_run: RunDir, known_second: RunDir) -> None:
    def held() -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in known_second.path.iterdir() if path.is_file()}

    before = held()
    for write in (evaluated, lambda run, out: card(str(run.path), out=out)):
        with pytest.raises(UserError, match=r"second: this is another run's directory; give another --out"):
            write(known_run, out=str(known_second.path))
    assert held() == before


def test_a_run_s_own_directory_may_be_named(known_run: RunDir) -> None:
    card(str(known_run.path), out=str(known_run.path / ".." / known_run.path.name))
    assert (known_run.path / "card.md").is_file()
