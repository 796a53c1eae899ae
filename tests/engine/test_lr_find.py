"""The learning-rate range test on the real digits, and its command."""

import json
import shlex
from pathlib import Path

import pytest
import torch
from conftest import SMALL, small_config

from pictorch.cli.lr_find import lr_find, next_command, show_finding
from pictorch.config import UserError
from pictorch.engine.build import Job, build
from pictorch.engine.lr_find import Finding, find
from pictorch.losses import cross_entropy


def job(*overrides: str) -> Job:
    return build(small_config("train.threads=1", *overrides))


@pytest.fixture(scope="module")
def finding() -> Finding:
    return find(job())


def test_the_rates_rise_by_one_factor(finding: Finding) -> None:
    assert finding.rates == pytest.approx([1e-5 * 1e6 ** (step / 99) for step in range(len(finding.rates))])


def test_the_test_ends_where_the_loss_diverges() -> None:
    """At rates up to 100,000 it does, whatever the rounding."""
    found = find(job(), lowest=1e-3, highest=1e5, steps=60)
    assert found.diverged
    assert len(found.rates) < 60
    assert not any(average > 4 * min(found.averages) for average in found.averages[:-1])


def test_the_averages_are_the_bias_corrected_moving_ones(finding: Finding) -> None:
    """Each loss weighs 0.9 times the one after it, and the weights sum to 1."""
    for at in (0, 1, 7, 60):
        weights = [0.9 ** (at - step) for step in range(at + 1)]
        weighted = sum(weight * loss for weight, loss in zip(weights, finding.losses, strict=False))
        assert finding.averages[at] == pytest.approx(weighted / sum(weights))


def test_the_suggestion_is_a_tenth_of_the_rate_of_the_least_loss(finding: Finding) -> None:
    least = finding.averages.index(min(finding.averages))
    assert finding.minimum == finding.rates[least]
    assert finding.suggestion == pytest.approx(finding.minimum / 10, rel=0.05)
    assert 0.02 < finding.suggestion < 0.2  # the recipe's 0.1 trains well; 1 does not
    falls = {
        finding.averages[at - 1] - finding.averages[at + 1]: finding.rates[at]
        for at in range(1, least)
        if at + 1 <= least
    }
    assert finding.steepest == falls[max(falls)]


def test_the_steps_are_the_jobs_own_and_use_it_up() -> None:
    used = job()
    before = [parameter.clone() for parameter in used.model.parameters()]
    batch = next(iter(used.train_loader.epoch(0)))
    with torch.no_grad():
        first = cross_entropy(job().model(batch.images), batch.targets).item()
    found = find(used, lowest=1e-3, highest=1e-1, steps=20)  # more than the 11 of an epoch
    assert found.losses[0] == pytest.approx(first, rel=1e-5)
    assert used.optimizer.param_groups[0]["lr"] == pytest.approx(0.1)
    assert (len(found.rates), found.diverged) == (20, False)
    assert not any(torch.equal(old, new) for old, new in zip(before, used.model.parameters(), strict=True))
    assert list(Path().iterdir()) == []


def test_the_same_seed_finds_the_same() -> None:
    assert find(job(), steps=15) == find(job(), steps=15)
    assert find(job(), steps=15).losses != find(job("train.seed=2"), steps=15).losses


@pytest.mark.parametrize(
    ("bounds", "message"),
    [
        ({"lowest": 1.0, "highest": 1.0}, "a lowest rate above 0 and a higher highest one, got 1 and 1"),
        ({"lowest": 0.0}, "above 0 and a higher highest one, got 0 and 10"),
        ({"steps": 9}, "a range test needs at least 10 steps, got 9"),
        ({"lowest": 1e3, "highest": 1e6}, "the loss fell at no learning rate from 1000 to 1e\\+06: begin lower"),
    ],
)
def test_what_cannot_be_tested_is_said(bounds: dict[str, float], message: str) -> None:
    with pytest.raises(UserError, match=message):
        find(job(), **bounds)  # type: ignore[arg-type]


def test_the_command_says_what_to_type_next(capsys: pytest.CaptureFixture[str]) -> None:
    words = [*SMALL, "train.threads=1", "optim.lr=3"]
    lr_find(words, config=None, data_dir=None, out="found.svg", as_json=True)
    found = json.loads(capsys.readouterr().out)
    expected = [*words[:-1], f"optim.lr={found['suggestion']:g}"]
    assert shlex.split(found["next"]) == ["pictorch", "train", *expected]
    assert len(found["rates"]) == len(found["losses"]) == len(found["averages"])
    assert [path.name for path in Path().iterdir()] == ["found.svg"]
    assert Path("found.svg").read_bytes().startswith(b"<?xml")


def test_the_table_names_the_suggestion(finding: Finding, capsys: pytest.CaptureFixture[str]) -> None:
    show_finding(job(), finding, None, next_command(["my recipe.yaml", "optim.lr", "3"], None, None, finding))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("Learning-rate range test: nothing was trained")
    suggestion = next(line for line in lines if "suggestion" in line).split("│")[2].split(",")[0].strip()
    assert f"Next: pictorch train 'my recipe.yaml' optim.lr 3 optim.lr={suggestion}" in lines
    assert f"{len(finding.rates)} steps of 128 images" in "\n".join(lines)


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("found.txt", "--out: expected a name that ends in .png, .svg or .pdf, got found.txt"),
        ("missing/found.png", "--out: there is no folder missing"),
    ],
)
def test_a_picture_that_cannot_be_is_said_first(out: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        lr_find(["no/recipe"], config=None, data_dir=None, out=out, as_json=False)
