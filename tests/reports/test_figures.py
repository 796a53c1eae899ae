"""The figures of results: what is on them, and that the same values make the same bytes."""

from typing import Any

import pytest

from pictorch.reports.figures import digest, figures


def group(label: str = "as published", mean: float = 6.4, runs: tuple[str, ...] = ()) -> dict[str, Any]:
    return {"label": label, "mean": mean, "interval": (mean - 0.2, mean + 0.2), "runs": runs}


def claim(id: str, row: str, value: float | None, *ours: dict[str, Any], **others: Any) -> dict[str, Any]:
    document, table, *_ = id.split("/")
    source = "paper" if id.endswith("paper") else "document"
    plain = {"id": id, "document": document, "table": table, "row": row, "value": value, "ours": list(ours)}
    return {**plain, "source": source, "metric": "test_error", "spread": None, **others}


CLAIMS = [
    claim("seed1/cifar10_papers/resnet_110/document", "ResNet-110", 6.52, group(), group("as the paper", 6.3)),
    claim("seed1/cifar10_papers/resnet_110/paper", "ResNet-110", 6.61, spread=0.16),
    claim("seed1/cifar10_papers/empty/document", "ResNet-preact-1001", None),
    claim("seed1/residual_units/plain/document", "w/ 1st ReLU", 6.45),
    claim("seed2/linear_scaling_cosine/a/document", "ResNet-preact-20 | 128 | 0.1 | cosine | 200", 8.09, group()),
    claim("seed2/longer_800/b/document", "ResNet-preact-20 | 64 | 0.05 | cosine | 800", 8.22),
    claim("seed2/initial_lr_32/c/document", "ResNet-preact-20 | 32 | 0.05 | cosine | 200", 7.45),
    claim("seed2/initial_lr_32/d/document", "ResNet-preact-20 | 32 | 0.1 | cosine | 200", 7.25, group(mean=7.3)),
]
CURVES = {
    "one": [{"epoch": 1, "train_error": 50.0, "test_error": 40.0}, {"epoch": 2, "train_error": 0.0, "test_error": 9.0}],
    "two": [{"epoch": 1, "train_error": 52.0, "val_error": 43.0}, {"epoch": 2, "train_error": 20.0, "test_error": 8.0}],
}


def test_each_study_has_its_figure_and_the_models_their_errors() -> None:
    found = figures(CLAIMS, {})
    names = ["seed1-cifar10_papers", "seed1-residual_units", "seed2-batch-size", "seed2-initial-lr"]
    assert list(found) == [f"{name}.svg" for name in names]
    text, picture = found["seed1-cifar10_papers.svg"]
    assert text == "Test errors, seed1/cifar10_papers"
    for word in ("ResNet-110", "seed document", "paper", "ours, as published", "ours, as the paper", "test error (%)"):
        assert f">{word}</text>" in picture.decode()
    assert "ResNet-preact-1001" not in picture.decode(), "nothing is known of it"
    lines = found["seed2-batch-size.svg"][1].decode()
    assert ">linear scaling cosine, document</text>" in lines
    assert ">linear scaling cosine, ours</text>" in lines
    assert ">longer 800, ours</text>" not in lines


def test_learning_curves_are_drawn_where_there_are_runs() -> None:
    """An error of 0 has no place on a logarithmic axis; runs may lack a column; a curve may be missing."""
    run = claim("seed1/mnist/net/document", "ResNet-preact-20", 0.38, group(runs=("one", "two", "gone")))
    found = figures([run], CURVES)
    assert list(found) == ["seed1-mnist-net-as-published.svg"]
    text, picture = found["seed1-mnist-net-as-published.svg"]
    assert text == "Learning curves, ResNet-preact-20, as published, 2 seeds"
    for word in ("train (20.00%)", "val (43.00%)", "test (8.50%)"):
        assert f">{word}</text>" in picture.decode()


@pytest.mark.parametrize("claims", [[], [CLAIMS[2]], [claim("seed3/cifar10/net/top1", "ResNet-18", 90.34)]])
def test_there_is_no_empty_figure(claims: list[dict[str, Any]]) -> None:
    assert figures(claims, CURVES) == {}


def test_the_same_values_make_the_same_bytes_and_others_another_digest() -> None:
    assert figures(CLAIMS, {}) == figures(CLAIMS, {})
    changed = [*CLAIMS[:-1], {**CLAIMS[-1], "value": 7.26}]
    one, other = (figures(claims, {})["seed2-initial-lr.svg"][1].decode() for claims in (CLAIMS, changed))
    rows = {"seed2/initial_lr_32": CLAIMS[-2:]}
    assert digest(rows) in one
    assert digest(rows) not in other
