"""Paths as they are written on the command line."""

from pathlib import Path

import pytest

from pictorch.cli.paths import option_path
from pictorch.config import UserError


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
