"""The page of results: the documents' tables, with our runs beside their numbers."""

from typing import Any

import pytest

from pictorch.reports.results import DOCUMENTS, hours, page

GROUP = {
    "label": "as published",
    "n": 3,
    "median": 6.5,
    "mean": 6.48,
    "interval": (6.31, 6.65),
    "seconds": 11160.0,
    "verdict": "reproduced",
    "reason": "",
}


def claim(**values: Any) -> dict[str, Any]:
    row = {
        "id": "seed1/cells/net/document",
        "document": "seed1",
        "table": "cells",
        "row": "Net",
        "source": "document",
        "metric": "test_error",
        "statistic": "median of 3",
        "value": 6.52,
        "spread": None,
        "epochs": 160,
        "training_time": "3h06m",
        "params": "",
        "caveats": "",
        "ours": [],
    }
    return row | values


def table_of(*claims: dict[str, Any]) -> list[str]:
    """Return the lines of the only table of claims."""
    lines = page(claims, [], [], {}).splitlines()
    return [line for line in lines if line.startswith("|")]


def test_a_row_has_the_documents_number_the_papers_and_the_time() -> None:
    of_paper = {"id": "seed1/cells/net/paper", "source": "paper", "training_time": "", "epochs": 164}
    assert table_of(
        claim(),
        claim(**of_paper, value=6.43, statistic="best"),
        claim(**of_paper | {"id": "seed1/cells/net/paper_mean"}, value=6.61, spread=0.16, statistic="mean"),
    ) == [
        "| Model | epochs | ours | document | paper | time |",
        "| --- | --- | --- | --- | --- | --- |",
        "| Net | 160 |  | 6.52 (median of 3) | 6.43 (best)<br>6.61 ± 0.16 | 3h06m |",
    ]


def test_our_runs_stand_beside_each_configuration_apart_with_its_verdict() -> None:
    paper = {**GROUP, "label": "as the paper", "n": 1, "interval": None, "verdict": "undecided", "reason": "one run"}
    (*_, row) = table_of(claim(ours=[GROUP, paper]))
    first, second = row.split(" | ")[2].split("<br>")
    assert first == "median 6.50 of 3, as published, mean 6.48, 95% 6.31 to 6.65, 3h06m: **reproduced**"
    assert second == "median 6.50 of 1, as the paper, mean 6.48, 3h06m: **undecided**, one run"
    (*_, row) = table_of(claim(source="paper", ours=[{**GROUP, "label": "ours"}]))
    assert "median 6.50 of 3, mean 6.48, 95% 6.31 to 6.65, 3h06m: **reproduced** (paper's settings)" in row


def test_cells_of_a_row_are_columns_and_accuracies_say_so() -> None:
    header, _, row = table_of(claim(row="Net | 4096 | 3.2 | cosine | 200", training_time="", statistic="1 run"))
    assert header == "| Model | batch size | initial lr | lr schedule | epochs | ours | document |"
    assert row == "| Net | 4096 | 3.2 | cosine | 200 |  | 6.52 (1 run) |"
    accuracies = [
        claim(id=f"seed3/cells/net/{metric}", document="seed3", metric=metric, value=value, statistic="not stated")
        for metric, value in (("top1", 70.63), ("top5", 89.62))
    ]
    assert "| 70.63 (top-1)<br>89.62 (top-5) |" in table_of(*accuracies)[-1]


def test_an_empty_cell_stays_empty() -> None:
    of_paper = claim(id="seed1/cells/net/paper", source="paper")
    _, _, row, _ = table_of(claim(value=None), of_paper, claim(id="seed1/cells/wide/document", row="Wide"))
    assert row == "| Net | 160 |  |  | 6.52 (median of 3) | 3h06m |"


def test_caveats_are_numbered_once_a_document() -> None:
    text = page(
        [
            claim(caveats="no command is given; another computer"),
            claim(id="seed1/cells/wide/document", row="Wide", caveats="another computer"),
            claim(id="seed2/cells/net/document", document="seed2", caveats="a single run"),
        ],
        *([], [], {}),
    )
    assert "| Net | 160 |  | 6.52 (median of 3) | 3h06m | 1 2 |" in text
    assert "| Wide | 160 |  | 6.52 (median of 3) | 3h06m | 2 |" in text
    assert "Notes:\n\n1. no command is given\n2. another computer\n" in text
    assert "Notes:\n\n1. a single run\n" in text


def test_runs_are_listed_and_those_that_count_for_nothing_under_their_heading() -> None:
    run = {
        "run": "ab",
        "recipe": "seed1/mnist/net",
        "seed": 3,
        "test_error": 0.4,
        "top5": 100.0,
        "epochs": 40,
        "protocol": "last epoch, test set not used to select",
        "seconds": 600.0,
        "precision": "bf16",
        "hardware": "AMD EPYC",
        "commit": "0123456789abcdef",
        "reason": "nearest x: optim.lr 0.1 instead of 0.2",
    }
    text = page([claim()], [run], [run], {"seed1-cells.svg": "Errors"})
    assert "![Errors](results/seed1-cells.svg)" in text
    assert "| `ab` | seed1/mnist/net | 3 | 0.40 | 100.00 | last epoch, test set not used to select | 40 | 10m |" in text
    assert "## Other runs, not comparable\n\n| run | recipe | seed | error | protocol | why |" in text
    assert "optim.lr 0.1 instead of 0.2 |" in text
    without = page([claim()], [], [], {})
    assert "None has been added yet." in without
    assert "## Other runs" not in without


def test_every_document_has_a_heading() -> None:
    assert list(DOCUMENTS) == ["seed1", "seed2", "seed3"]


@pytest.mark.parametrize(
    ("seconds", "text"), [(12.3, "12s"), (60, "1m"), (2280, "38m"), (11160, "3h06m"), (3599, "1h00m")]
)
def test_times_are_the_documents(seconds: float, text: str) -> None:
    assert hours(seconds) == text
