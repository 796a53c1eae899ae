"""Which runs count for which published number, and what is said of them."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import SMALL

from pictorch.cli.claims import network
from pictorch.config.comparable import comparable_hash
from pictorch.experiments import ledger, published
from pictorch.experiments.claims import as_row, configurations, match, other_row, others
from pictorch.experiments.ledger import Run
from pictorch.experiments.published import Published
from pictorch.reports import figures, results
from pictorch.runs import RunDir


@pytest.fixture
def ours(known_run: RunDir, known_second: RunDir, tmp_path: Path) -> list[Run]:
    """Two real runs of one configuration, of seeds 1 and 2."""
    return ledger.add([str(known_run.path), str(known_second.path)], tmp_path, network)


def number(**values: str) -> Published:
    """Return a published number about SMALL."""
    row = dict.fromkeys(published.Published.__dataclass_fields__, "") | {
        "id": "seed1/table/net/document",
        "document": "seed1",
        "table": "table",
        "dataset": "digits",
        "recipe": "digits/resnet_preact_8",
        "overrides": " ".join(SMALL),
        "source": "document",
        "metric": "test_error",
        "statistic": "1 run",
        "n": "1",
        "value": "5.00",
        "epochs": "3",
    }
    return published.parse(row | values)


def test_runs_of_the_numbers_configuration_count_whatever_their_seed_and_machine(ours: list[Run]) -> None:
    overrides = (*SMALL, "train.seed=9", "train.device=cpu", "train.precision=bf16", "train.threads=2")
    (claim,) = match([number(overrides=" ".join(overrides))], ours, network)
    (group,) = claim.groups
    assert group.label == "ours"
    assert [run.seed for run in group.runs] == [1, 2]
    assert group.verdict
    assert group.verdict.margin == pytest.approx(2.267, abs=1e-3)  # 1.96 * sqrt(5 * 95 / 355)
    assert others([claim.published], ours, network) == []
    row = as_row(claim)
    assert row["ours"][0]["mean"] == pytest.approx(sum(run.test_error for run in ours) / 2)
    assert row["ours"][0]["protocol"] == "last epoch, test set not used to select"


def test_any_other_setting_makes_it_another_experiment_and_the_reason_names_it(ours: list[Run]) -> None:
    asked = (number(overrides=" ".join([*SMALL, "optim.lr=0.2"])), number(id="far", recipe="cifar10/resnet_preact_20"))
    for claim in match(asked, ours, network):
        assert (claim.groups, claim.verdict) == ((), "not run")
    first, second = others(asked, ours, network)
    assert first.reason == second.reason == "nearest seed1/table/net/document: optim.lr default instead of 0.2"
    assert other_row(first)["test_error"] == ours[0].test_error


def test_a_reason_names_the_first_keys_and_counts_the_others(ours: list[Run]) -> None:
    words = ("optim.lr=0.2", "optim.momentum=0.8", "augment.flip=true", "augment.cutout.size=8", "data.fraction=0.5")
    (first, _) = others([number(overrides=" ".join([*SMALL, *words]))], ours, network)
    assert "augment.cutout default instead of on, " in first.reason
    assert first.reason.endswith("3 more")


def of_settings(one: Run, settings: Mapping[str, object], **values: object) -> Run:
    """Return a run as one of other settings."""
    described = {"settings": json.dumps(dict(settings)), "comparable": comparable_hash(settings)}
    return replace(one, **{**described, **values})  # type: ignore[arg-type]


def test_the_documents_program_and_the_papers_network_are_never_mixed(ours: list[Run]) -> None:
    row = published.find("seed1/mnist/resnet_preact_20/document")
    settings = configurations(row, network)
    assert list(settings) == ["as published", "as the paper"]
    program, paper = settings.values()
    assert (program["model.shortcut"], paper.get("model.shortcut")) == ("B", None)
    runs = [of_settings(ours[0], program, run="a", test_error=0.38), of_settings(ours[0], paper, run="b")]
    (claim,) = match([row], runs, network)
    assert [(group.label, [run.run for run in group.runs]) for group in claim.groups] == [
        ("as published", ["a"]),
        ("as the paper", ["b"]),
    ]
    assert others([row], runs, network) == []
    (claim,) = match([row], runs[1:], network)
    assert (claim.verdict, claim.groups[0].label) == ("not run", "as the paper"), "the number itself is not run"


def test_where_the_program_is_the_papers_there_is_one_configuration() -> None:
    assert list(configurations(published.find("seed1/cifar10_papers/wrn_28_10/document"), network)) == ["ours"]
    assert list(configurations(published.find("seed1/cifar10_papers/wrn_28_10/paper"), network)) == ["ours"]


def test_of_each_seed_the_first_run_counts_once(ours: list[Run]) -> None:
    again = replace(ours[0], run="again", test_error=1.0)
    (claim,) = match([number()], [*ours, again], network)
    assert list(claim.groups[0].runs) == ours
    (other,) = others([number()], [*ours, again], network)
    assert (other.run, other.reason) == (again, f"seed 1 is counted already, by run {ours[0].run}")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"data_official": False}, "its data are not the official files: checksum "),
        ({"dirty": "feedfeedfeed"}, "its code differed from commit 0123456789ab"),
    ],
)
def test_other_data_and_code_that_no_commit_names_do_not_count(
    ours: list[Run], change: dict[str, object], reason: str
) -> None:
    odd = replace(ours[0], **change)  # type: ignore[arg-type]
    (claim,) = match([number()], [odd, ours[1]], network)
    assert claim.groups[0].runs == (ours[1],)
    (other,) = others([number()], [odd, ours[1]], network)
    assert other.reason.startswith(reason)


def test_an_accuracy_is_judged_as_the_error_that_it_leaves(ours: list[Run]) -> None:
    error = number(value="5.00")
    (by_error,), (by_accuracy,) = (match([row], ours, network) for row in (error, number(metric="top1", value="95.00")))
    one, other = (as_row(claim)["ours"][0] for claim in (by_error, by_accuracy))
    assert one["difference"] == pytest.approx(other["difference"])
    assert (one["verdict"], one["margin"]) == (other["verdict"], pytest.approx(other["margin"]))
    assert other["mean"] == pytest.approx(100 - one["mean"])
    (top5,) = match([number(metric="top5", value="99.00")], ours, network)
    assert as_row(top5)["ours"][0]["values"] == [run.top5 for run in ours]


def test_the_words_of_a_statistic_decide_how_uncertain_it_is(ours: list[Run]) -> None:
    def width(**values: str) -> float:
        (claim,) = match([number(**values)], ours, network)
        assert claim.groups[0].verdict
        low, high = claim.groups[0].verdict.low, claim.groups[0].verdict.high
        assert low is not None
        assert high is not None
        return high - low

    single = width()
    assert width(statistic="mean of 10", n="10") < width(statistic="median of 5", n="5") < single
    assert width(statistic="not stated", n="") == single
    assert width(statistic="mean", n="", spread="0.01") < single, "a published spread counts as one degree of freedom"
    (best,) = match([number(statistic="best", n="")], ours, network)
    assert best.verdict == "undecided"


def test_a_claim_reaches_the_page_and_its_runs_the_figures(ours: list[Run], tmp_path: Path) -> None:
    (claim,) = match([number(row="Small net")], ours, network)
    row = as_row(claim)
    drawn = figures.figures([row], ledger.read_curves(tmp_path))
    assert [text for text, _ in drawn.values()] == ["Learning curves, Small net, ours, 2 seeds"]
    page = results.page([row], [], [], {file: text for file, (text, _) in drawn.items()})
    assert f"median {row['ours'][0]['median']:.2f} of 2, mean {row['ours'][0]['mean']:.2f}, 95% " in page
    assert f"**{claim.verdict}**" in page
    assert "(results/seed1-table-net-ours.svg)" in page


def test_an_empty_cell_has_runs_and_no_verdict(ours: list[Run]) -> None:
    (claim,) = match([number(value="")], ours, network)
    assert claim.verdict == ""
    assert as_row(claim)["ours"][0]["n"] == 2
    assert others([claim.published], ours, network) == []


def test_without_runs_no_configuration_is_loaded() -> None:
    (claim,) = match([number(recipe="no/such")], [], network)
    assert (claim.groups, claim.verdict) == ((), "not run")
    assert others([claim.published], [], network) == []
