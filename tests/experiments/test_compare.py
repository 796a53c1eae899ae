"""Two runs, and two recipes over the same seeds, on the same test images: counted by hand from their predictions."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats as scipy_stats

from pictorch import api, runs
from pictorch.cli.claims import network
from pictorch.config import UserError
from pictorch.experiments.compare import Comparison, compare, read_side
from pictorch.runs import RunDir, RunError
from tests.conftest import small_config

NAMES = [str(digit) for digit in range(10)]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two recipes, three seeds of one and two of the other."""
    top = tmp_path_factory.mktemp("compared")
    for name, overrides, seeds in (("plain", (), (1, 2, 3)), ("mixup", ("augment.mixup.alpha=1",), (1, 2))):
        for seed in seeds:
            config = small_config("train.epochs=2", f"train.seed={seed}", *overrides)
            api.train(config, out=top / name / str(seed))
    return top


def compared(first: Path, second: Path) -> Comparison:
    return compare(read_side(str(first), network), read_side(str(second), network), NAMES, network)


def right(path: Path) -> tuple[Any, Any]:
    with np.load(RunDir(path).predictions) as archive:
        return archive["label"], archive["classes"][:, 0] == archive["label"]


def test_two_runs_are_counted_image_by_image(trained: Path) -> None:
    found = compared(trained / "plain" / "1", trained / "mixup" / "1")
    (labels, a), (_, b) = right(trained / "plain" / "1"), right(trained / "mixup" / "1")
    places = [i for i in range(len(labels)) if a[i] != b[i]]
    assert found.disagreed == places
    assert found.alone == (sum(bool(a[i]) for i in places), sum(bool(b[i]) for i in places))
    assert found.neither == sum(not one and not other for one, other in zip(a, b, strict=True))
    assert found.p == pytest.approx(scipy_stats.binomtest(found.alone[0], sum(found.alone)).pvalue)
    assert found.settings == {"augment.mixup": ("default", "on")}
    assert (found.over_seeds, found.notes, found.images) == (None, [], 355)
    for digit, row in enumerate(found.classes):
        of_class = labels == digit
        assert (row.name, row.images) == (str(digit), of_class.sum())
        assert row.recalls == (100 * a[of_class].mean(), 100 * b[of_class].mean())
    assert [sum(row.alone[side] for row in found.classes) for side in (0, 1)] == list(found.alone)


def test_two_recipes_are_paired_by_their_common_seeds(trained: Path) -> None:
    found = compared(trained / "plain", trained / "mixup")
    errors = {
        name: [runs.read_result(RunDir(trained / name / seed))["test_error"] for seed in "12"]
        for name in ("plain", "mixup")
    }
    assert found.seeds == [1, 2]
    assert [len(side) for side in found.errors] == [3, 2]
    assert found.over_seeds is not None
    assert found.over_seeds.difference == pytest.approx(np.subtract(errors["mixup"], errors["plain"]).mean())
    assert found.over_seeds.p == pytest.approx(scipy_stats.ttest_rel(errors["mixup"], errors["plain"]).pvalue)
    assert [run.result["seed"] for run in found.pair] == [1, 1]


def test_runs_of_other_seeds_are_compared_and_that_is_said(trained: Path) -> None:
    found = compared(trained / "plain" / "3", trained / "plain" / "2")
    assert (found.settings, found.seeds, found.over_seeds) == ({}, [], None)
    assert found.notes == ["the seeds differ: 3 and 2"]


def test_a_cell_of_a_sweep_is_named_by_its_hash(trained: Path, tmp_path: Path) -> None:
    for seed in (1, 2):
        shutil.copytree(trained / "plain" / str(seed), tmp_path / f"1a2b3c-seed{seed}")
    assert [run.result["seed"] for run in read_side(str(tmp_path / "1a2b3c"), network)] == [1, 2]


def test_a_side_is_finished_runs_of_one_experiment(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"are of two experiments \(augment\.mixup is on in one and default in the other"
    ):
        read_side(str(trained), network)
    with pytest.raises(RunError, match="there is no such run directory"):
        read_side(str(trained / "plain" / "7"), network)
    run = runs.create(tmp_path / "begun", {"model": {}}, {})
    with pytest.raises(RunError, match="this run is not finished: `pictorch train --resume"):
        read_side(str(run.path), network)
    api.train(small_config("train.epochs=2", "train.seed=3"), out=trained / "again" / "a")
    api.train(small_config("train.epochs=2", "train.seed=3"), out=trained / "again" / "b")
    with pytest.raises(UserError, match="have the same seed, 3: name one of them"):
        read_side(str(trained / "again"), network)


def test_runs_on_other_test_images_are_refused(trained: Path, tmp_path: Path) -> None:
    api.train(small_config("train.max_steps=1", "evaluation.max_images=100"), out=tmp_path / "part")
    with pytest.raises(UserError, match="same images: test_images is 355 in the first and 100 in the second"):
        compared(trained / "plain" / "1", tmp_path / "part")
