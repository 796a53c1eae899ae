"""`pictorch train --quick`: a minute of any run, which nobody can take for a result."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import SMALL

from pictorch import api, data, runs
from pictorch.cli import claims
from pictorch.cli.training import train
from pictorch.config import UserError, load
from pictorch.engine.quick import look, measurable, quick, scaled

WORDS = {"config": None, "resume": None, "out": None, "data_dir": None, "dry_run": False, "quick": True}


def test_a_quick_run_says_what_it_changes_and_is_no_result(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["digits/resnet_preact_8", *SMALL, "train.replicas=3", "train.ghost_batches=2"]
    train(words, **WORDS | {"out": str(tmp_path / "run")})  # type: ignore[arg-type]
    said = capsys.readouterr().out
    assert said.startswith("quick: evaluation.max_images=")
    assert (
        "train.replicas=1 train.threads=1: a look at the run, whose figures are no result; it is marked incomplete\n"
        in said
    )
    assert "this run is incomplete" in said
    run = runs.open(tmp_path / "run")
    result = runs.read_result(run)
    assert not result["complete"]
    assert 0 < result["steps"] <= 1437 // 128
    again = api.load_config(run.config)
    assert (again.train.max_steps, again.train.replicas) == (result["steps"], 1)
    with pytest.raises(UserError, match=r"it stopped after .* which is no result; nothing was added"):
        claims.add([str(tmp_path / "run")], tmp_path, changed_code=True)


def test_a_run_from_its_configuration_can_be_quick_but_not_resumed(
    tmp_path: Path, small_run: api.Result, capsys: pytest.CaptureFixture[str]
) -> None:
    config = str(small_run.run_dir / "config.yaml")
    train([], **WORDS | {"config": config, "out": str(tmp_path / "run")})  # type: ignore[arg-type]
    assert capsys.readouterr().out.startswith("quick: ")
    assert not runs.read_result(runs.open(tmp_path / "run"))["complete"]
    with pytest.raises(UserError, match="--resume continues a run as it was begun: leave out --quick"):
        train([], **WORDS | {"resume": str(small_run.run_dir)})  # type: ignore[arg-type]


def test_a_smaller_batch_has_a_smaller_rate_and_no_parts() -> None:
    config = load(None, ["train.batch_size=64", "optim.lr=0.4", "train.ghost_batches=2", "optim.accumulate=4"]).config
    small = scaled(config, batch_size=16, max_steps=5, max_images=20)
    assert (small.train.batch_size, small.train.max_steps, small.evaluation.max_images) == (16, 5, 20)
    assert (small.optim.lr, small.optim.accumulate, small.train.ghost_batches) == (0.1, 1, 1)
    whole = scaled(config, batch_size=64, max_steps=5, max_images=20)
    assert (whole.optim, whole.train.ghost_batches) == (config.optim, 2)


def test_what_is_small_already_stays_small() -> None:
    config = api.load_config(
        None, [*SMALL, "train.batch_size=8", "train.max_steps=3", "train.threads=1", "evaluation.max_images=2"]
    )
    assert measurable(config) == 8
    assert quick(config) == []


@pytest.mark.real_data
def test_a_step_is_measured_on_fewer_images_of_a_large_network() -> None:
    if not (data.root(None) / "cifar-10-batches-py").is_dir():
        pytest.skip("no CIFAR-10 under PICTORCH_DATA")
    assert measurable(api.load_config("cifar10/resnet_preact_20")) == 128
    assert measurable(api.load_config("cifar10/wrn_28_10")) == 2


@pytest.mark.slow
@pytest.mark.real_data
@pytest.mark.parametrize("recipe", ["seed1/cifar10/wrn_28_10", "cifar10/resnext_29_16x64d"])
def test_the_largest_networks_take_a_minute(tmp_path: Path, recipe: str) -> None:
    """In CPU seconds, of one core, which other programs do not change much: so much less in wall time on two."""
    if not (data.root(None) / "cifar-10-batches-py").is_dir():
        pytest.skip("no CIFAR-10 under PICTORCH_DATA")
    before = os.times()
    command = [sys.executable, "-m", "pictorch", "train", recipe, "--quick", "--out", "run"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    after = os.times()
    used = after.children_user + after.children_system - before.children_user - before.children_system
    assert not json.loads((tmp_path / "run" / "result.json").read_text())["complete"]
    assert used < 60


def test_a_look_is_the_same_at_every_call_and_smaller_for_larger_networks() -> None:
    config = load("digits/resnet_preact_8", ["train.max_steps=1000", "train.epochs=100"]).config
    small = look(config, 2.0)
    assert look(config, 2.0) == small
    assert small.train.max_steps is not None
    assert small.train.max_steps * small.train.batch_size <= 1437
    assert small.evaluation.max_images is not None
    wide = load("digits/resnet_preact_8", ["model.base_channels=512"]).config
    large = look(wide, 2.0)
    assert (large.train.max_steps or 0) * large.train.batch_size < small.train.max_steps * small.train.batch_size
    assert large.optim.lr < wide.optim.lr
