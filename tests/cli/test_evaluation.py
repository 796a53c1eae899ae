"""The tables of `pictorch eval` on terminals of several widths."""

import pytest
from rich.console import Console

from pictorch.cli.evaluation import confusion

CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
COUNTS = [[1000 if row == column else 0 for column in range(10)] for row in range(10)]


@pytest.mark.parametrize(
    ("columns", "headings"), [(80, ["airpla", "automo", "bird"]), (140, ["airplane", "automobile", "bird"])]
)
def test_the_confusion_matrix_shortens_column_names_only(
    columns: int, headings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    matrix = confusion(CIFAR10, COUNTS)
    assert matrix is not None
    console = Console()
    with console.capture() as captured:
        console.print(matrix)
    head, _, *rows = captured.get().splitlines()
    assert head.split()[:3] == headings
    assert [row.split() for row in rows] == [
        [name, *("1000" if other == name else "." for other in CIFAR10)] for name in CIFAR10
    ]
    assert max(map(len, (head, *rows))) <= columns


def test_a_confusion_matrix_that_does_not_fit_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "59")
    assert confusion(CIFAR10, COUNTS) is None
    monkeypatch.setenv("COLUMNS", "60")
    assert confusion(CIFAR10, COUNTS) is not None
    monkeypatch.setenv("COLUMNS", "1000")
    assert confusion([str(k) for k in range(21)], [[0] * 21] * 21) is None
