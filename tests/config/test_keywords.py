"""Keywords against a signature: strict types, nearest names."""

from collections.abc import Sequence
from typing import Literal

import pytest

from pictorch.config import OptionError, nearest
from pictorch.config.keywords import check_keywords


def network(
    *,
    num_classes: int,
    depth: int | None = None,
    kind: Literal["a", "b"] = "a",
    stages: Sequence[bool] = (),
    widths: tuple[int, ...] | None = None,
    rate: float = 0.0,
    name: str = "",
) -> None: ...


def check(**keywords: object) -> None:
    check_keywords(network, keywords, owner="network", given=frozenset({"num_classes"}))


@pytest.mark.parametrize(
    "keywords", [{}, {"depth": 3}, {"depth": None}, {"kind": "b"}, {"stages": [True]}, {"stages": (True,)}, {"rate": 1}]
)
def test_right_keywords_pass(keywords: dict[str, object]) -> None:
    check(**keywords)


@pytest.mark.parametrize(
    ("keywords", "said"),
    [
        ({"dept": 3}, "network: dept: unknown option; did you mean 'depth'?"),
        ({"num_classes": 3}, "network: num_classes: unknown option; known: depth, kind"),
        ({"depth": "3"}, "network: depth: expected a whole number or null, got '3'"),
        ({"depth": True}, "network: depth: expected a whole number or null, got true"),
        ({"depth": 3.0}, "network: depth: expected a whole number or null, got 3.0"),
        ({"kind": "c"}, "network: kind: expected 'a' or 'b', got 'c'"),
        ({"stages": [1]}, "network: stages: expected a list of true or false, got [1]"),
        ({"stages": (None, 0.5)}, "network: stages: expected a list of true or false, got [null, 0.5]"),
        ({"widths": {"a": [True]}}, "network: widths: expected a list of whole numbers or null, got {a: [true]}"),
        ({"rate": "x" * 1000}, "network: rate: expected a number, got 'xxx"),
        ({"rate": "x"}, "network: rate: expected a number, got 'x'"),
        ({"name": 3}, "network: name: expected text, got 3"),
    ],
)
def test_wrong_keywords_are_said_in_words(keywords: dict[str, object], said: str) -> None:
    with pytest.raises(OptionError) as caught:
        check(**keywords)
    assert str(caught.value).startswith(said)
    assert caught.value.option == next(iter(keywords))
    assert len(str(caught.value)) < 300


def test_of_many_names_with_none_near_some_are_told() -> None:
    assert nearest("zzz", ["b", "a"]) == "; known: b, a"
    names = [f"name_{i}" for i in range(50)]
    assert nearest("zzz", names) == f"; known: {', '.join(names[:30])} and 20 more"
