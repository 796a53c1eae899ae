"""Studies of our own: which runs are one, how its variants are held against its baseline, and what the page shows."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pictorch.cli.claims import network
from pictorch.config.comparable import comparable_hash
from pictorch.config.schema import AdamW, Cutout
from pictorch.experiments import ledger, stats, studies
from pictorch.experiments.ledger import Run
from pictorch.reports import figures, results
from pictorch.runs import RunDir


@pytest.fixture
def first(known_run: RunDir, tmp_path: Path) -> Run:
    """A real run's row."""
    return ledger.add([str(known_run.path)], tmp_path, network)[0]


def variant(first: Run, errors: Mapping[int, float], **settings: object) -> list[Run]:
    """Return the rows of runs with other settings, {seed: test error}."""
    decisive: dict[str, Any] = first.decisive | {key.replace("__", "."): value for key, value in settings.items()}
    row = replace(first, settings=json.dumps(decisive), comparable=comparable_hash(decisive))
    return [replace(row, seed=seed, run=f"{row.comparable}{seed}", test_error=error) for seed, error in errors.items()]


def test_variants_of_one_recipe_are_held_against_the_one_with_the_fewest_settings(first: Run) -> None:
    cutout = {"augment__cutout": "on", "augment__cutout__size": 4}
    mixup = {"augment__mixup": "on"}
    ours = [
        *variant(first, {1: 5.0, 2: 5.4, 3: 5.1}, **cutout),
        *variant(first, {1: 6.0, 2: 6.2, 3: 6.4}),
        *variant(first, {1: 7.0, 3: 7.1}, **mixup),
    ]
    (study,) = studies.find(ours)
    plain, with_mixup, with_cutout = study.variants
    assert study.varying == ("augment.cutout.size", "augment.mixup")
    assert plain.errors == {1: 6.0, 2: 6.2, 3: 6.4}
    assert plain.settings == {"augment.cutout.size": None, "augment.mixup": None}
    assert with_cutout.settings == {"augment.cutout.size": 4, "augment.mixup": None}
    assert with_cutout.against == stats.paired([6.0, 6.2, 6.4], [5.0, 5.4, 5.1])
    assert with_mixup.against == stats.paired([6.0, 6.4], [7.0, 7.1])
    assert with_cutout.against
    assert with_mixup.against
    raw = [with_mixup.against.p, with_cutout.against.p]
    assert [with_mixup.p, with_cutout.p] == stats.holm([p for p in raw if p is not None])
    text = results.page([], [], [], {}, [studies.as_row(study)])
    assert f"### {first.recipe} on digits, 3 epochs" in text
    assert "| cutout.size | mixup | n | median | mean | sd | to the first | p | time |" in text
    assert "| 4 |  | 3 | 5.10 | 5.17 | 0.21 | -1.03 (" in text
    assert "|  |  | 3 | 6.20 | 6.20 | 0.20 |  |  |" in text


def test_what_is_of_another_length_or_data_is_another_study_and_changed_code_is_none(first: Run) -> None:
    plain, other = variant(first, {1: 6.0}), variant(first, {1: 5.0}, optim__momentum=0.5)
    assert len(studies.find([*plain, *other])) == 1
    for change in ({"epochs": 9}, {"data_checksum": "0"}, {"recipe": "another"}, {"dirty": "ab"}):
        assert studies.find([*plain, *(replace(run, **change) for run in other)]) == []  # type: ignore[arg-type]
    again = [replace(run, test_error=0.0) for run in other]
    (study,) = studies.find([*plain, *other, *again])
    assert study.variants[1].errors == {1: 5.0}, "of each seed the first run counts"
    assert study.variants[1].against is None, "one seed says nothing of a difference"


def test_two_numbers_make_a_map_whose_defaults_are_filled_in(first: Run) -> None:
    ours = [
        run
        for size, rates in ((64, {0.1: 8.0, 0.2: 9.0}), (256, {0.1: 10.0, 0.2: 7.5}))
        for lr, error in rates.items()
        for run in variant(first, {1: error}, optim__lr=lr, train__batch_size=size)
    ]
    # What has its default is left out of the ledger.
    ours = [
        replace(run, settings=json.dumps({k: v for k, v in run.decisive.items() if (k, v) != ("optim.lr", 0.1)}))
        for run in ours
    ]
    (study,) = studies.find(ours)
    assert study.variants[0].settings == {"train.batch_size": 64, "optim.lr": 0.1}
    drawn = figures.maps([studies.as_row(study)])
    ((file, (text, picture)),) = drawn.items()
    assert text == f"Test error over lr and batch_size, {first.recipe} on digits, 3 epochs"
    for word in ("8.00", "9.00", "10.00", "7.50", "batch_size", "lr", "256"):
        assert f">{word}</text>" in picture.decode()
    assert f"![{text}](results/{file})" in results.page([], [], [], {file: text}, [studies.as_row(study)])
    assert figures.maps([studies.as_row(replace(study, variants=study.variants[:2]))]) == {}, "a line is no map"


def test_what_has_its_default_is_filled_in_from_the_blocks_own_kind(first: Run) -> None:
    """So that no two variants look the same: a block that is off, and one that is on with its defaults, are two."""
    ours = [
        *variant(first, {1: 6.0}),
        *variant(first, {1: 5.0}, augment__cutout="on"),
        *variant(first, {1: 5.5}, augment__cutout="on", augment__cutout__size=4),
    ]
    (study,) = studies.find(ours)
    size = Cutout().size
    assert [one.settings for one in study.variants] == [{"augment.cutout.size": s} for s in (None, size, 4)]
    adamw = {"optim__name": "adamw"}
    rates = [*variant(first, {1: 6.0}, **adamw), *variant(first, {1: 5.0}, **adamw, optim__lr=0.003)]
    rates = [
        replace(run, settings=json.dumps({k: v for k, v in run.decisive.items() if k != "optim.weight_decay"}))
        for run in rates
    ]
    (study,) = studies.find(
        [
            replace(run, settings=json.dumps({k: v for k, v in run.decisive.items() if (k, v) != ("optim.lr", 0.1)}))
            for run in rates
        ]
    )
    assert [one.settings for one in study.variants] == [{"optim.lr": AdamW().lr}, {"optim.lr": 0.003}]


def test_the_order_of_the_ledger_changes_nothing(first: Run) -> None:
    ours = [run for lr in (0.4, 0.05, 1.6) for run in variant(first, {1: 5.0 + lr, 2: 6.0}, optim__lr=lr)]
    assert studies.find(ours) == studies.find(ours[::-1])
    assert [one.settings["optim.lr"] for one in studies.find(ours)[0].variants] == [0.05, 0.4, 1.6]


def test_another_setting_makes_another_map_and_another_data_set_other_files(first: Run) -> None:
    places = [(64, 0.2), (64, 0.4), (256, 0.2), (256, 0.4)]
    ours = [
        run
        for name in ("cosine", "constant")
        for size, lr in places
        for run in variant(first, {1: size * lr}, optim__lr=lr, train__batch_size=size, schedule__name=name)
    ]
    rows = [studies.as_row(study) for study in studies.find([*ours, *(replace(run, dataset="x") for run in ours)])]
    drawn = figures.maps(rows)
    assert len(drawn) == 4
    assert [text.partition(", ")[2].partition(",")[0] for text, _ in drawn.values()] == [
        "schedule.name constant",
        "schedule.name cosine",
    ] * 2
    texts = {file: text for file, (text, _) in drawn.items()}
    page = results.page([], [], [], texts, rows)
    assert all(page.count(f"(results/{file})") == 1 for file in drawn)
