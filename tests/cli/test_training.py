"""From the words of `pictorch train` to a recipe and overrides."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from conftest import SMALL

from pictorch import api, data, runs
from pictorch.cli.progress import ReplicaBars, ReplicaLines
from pictorch.cli.training import recipe_and_overrides, show_replicas, train
from pictorch.config import UserError
from pictorch.data.streams import generator
from pictorch.engine.build import build
from pictorch.engine.progress import Snapshot
from pictorch.engine.replicas import Outcome, reserved

DIGITS = "digits/resnet_preact_8"
GENERAL = "unknown option; a setting is written key=value, for example train.epochs=2; `pictorch train --dry-run` lists"


@pytest.mark.parametrize(
    ("line", "source", "overrides"),
    [
        ("", None, []),
        (DIGITS, DIGITS, []),
        (f"{DIGITS} train.epochs=2 train.seed 3", DIGITS, ["train.epochs=2", "train.seed", "3"]),
        ("train.seed -3", None, ["train.seed", "-3"]),
        ("optim.lr -.5", None, ["optim.lr", "-.5"]),
        ("my.recipe.yaml", "my.recipe.yaml", []),
        ("unheard/of", "unheard/of", []),
    ],
)
def test_the_first_word_is_a_recipe_or_an_override(line: str, source: str | None, overrides: list[str]) -> None:
    assert recipe_and_overrides(line.split()) == (source, overrides)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("--seed 3", "--seed: unknown option; a setting is written train.seed=3"),
        ("--lr=0.1", "--lr: unknown option; a setting is written optim.lr=0.1"),
        ("-lr 0.1", "-lr: unknown option; a setting is written optim.lr=0.1"),
        ("--epochs 5", "--epochs: unknown option; a setting is written train.epochs=5"),
        (f"{DIGITS} --batch-size 64", "--batch-size: unknown option; a setting is written train.batch_size=64"),
        ("--batch_size=64", "--batch_size: unknown option; a setting is written train.batch_size=64"),
        ("--train.epochs 5", "--train.epochs: unknown option; a setting is written train.epochs=5"),
        ("--momentum --nesterov", "--momentum: unknown option; a setting is written optim.momentum=..."),
        ("--model resnet_20", "--model: unknown option; a setting is written model.name=resnet_20"),
        ("train.epochs=2 --confg x", "--confg: unknown option; did you mean --config?"),
        ("--dryrun", "--dryrun: unknown option; did you mean --dry-run?"),
        ("--foo", f"--foo: {GENERAL}"),
        ("-s 3", f"-s: {GENERAL}"),
    ],
)
def test_an_unknown_option_is_told_as_the_setting_it_stands_for(line: str, said: str) -> None:
    with pytest.raises(UserError) as caught:
        recipe_and_overrides(line.split())
    assert str(caught.value).startswith(f"command line: {said}")


def test_a_grid_is_no_recipe() -> None:
    with pytest.raises(UserError, match="a grid of runs, not a recipe: `pictorch sweep grids/seed1_mnist` trains them"):
        api.load_config("grids/seed1_mnist")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("mnist", "mnist is a folder of recipes; its recipes: mnist/resnet_preact_20"),
        ("cifar10/", "cifar10/ is a folder of recipes; its recipes: cifar10/"),
        ("grids", "grids is a folder of grids; its grids: grids/augmentation, grids/digits"),
        ("resnet_20", "resnet_20 is a network, not a recipe; to train it on digits, write model.name=resnet_20"),
        (f"train.epochs=1 {DIGITS}", f"command line: {DIGITS}: a recipe is the first word after `pictorch train`"),
        (
            f"mnist/resnet_preact_20 {DIGITS}",
            f"{DIGITS}: a recipe is the first word after `pictorch train`, and mnist/",
        ),
    ],
)
def test_other_names_in_the_place_of_a_recipe(line: str, said: str) -> None:
    with pytest.raises(UserError) as caught:
        recipe_and_overrides(line.split())
    assert said in str(caught.value)


@pytest.mark.parametrize("dry_run", [False, True])
def test_each_file_that_is_not_the_official_one_is_named(
    dry_run: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    batch = pickle.dumps({"data": np.zeros((8, 3072), np.uint8), "labels": list(range(8))}, 2)
    for file in data.find("cifar10").files:
        (tmp_path / file.forms[0].path).write_bytes(batch)
    words = ["cifar10/resnet_preact_20", "model.depth=8", "train.epochs=1", "train.batch_size=8"]
    train(words, config=None, resume=None, out=None, data_dir=str(tmp_path), dry_run=dry_run)
    said = capsys.readouterr().out
    for name in [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]:
        assert f"note: not the official file: {folder / name}: expected 31,035," in said
    assert f"found {len(batch):,} bytes, md5 " in said


def run_train(*words: str, out: str | None = None, resume: str | None = None, dry_run: bool = False) -> None:
    train(words, config=None, resume=resume, out=out, data_dir=None, dry_run=dry_run)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["train.replicas=0"], "command line: train.replicas: expected a value above 0, got 0"),
        (["train.replicas=1000000"], "command line: train.replicas: expected a value of at most 1024, got 1000000"),
        (["train.replicas=many"], "command line: train.replicas: expected a whole number, got 'many'"),
        (["train.replica_lrs=[]"], "command line: train.replica_lrs: expected at least 1 value, got an empty list"),
        (["train.replica_lrs=0.1"], "command line: train.replica_lrs: expected a list of numbers above 0 or null"),
        (["train.replica_lrs=[0.1, 0.1]"], "train.replica_lrs: the same learning rate stands there twice"),
        (
            ["train.replicas=3", "train.replica_lrs=[0.1, 0.2]"],
            "command line: train.replica_lrs: train.replicas=3 are runs with other seeds: give seeds or learning rates",
        ),
        (["train.replicas=2", f"train.seed={2**63 - 1}"], f"the last of 2 seeds would be above {2**63 - 1}"),
    ],
)
def test_replicas_that_make_no_sense(settings: list[str], said: str) -> None:
    with pytest.raises(UserError) as caught:
        run_train(*settings)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_replicas_have_their_own_directories(small_run: api.Result) -> None:
    with pytest.raises(UserError, match="--out names one run's directory, and each replica has its own"):
        run_train("train.replicas=2", out="run")
    with pytest.raises(UserError, match=r"(?s)another configuration; nothing.*train\.replicas: 1 in the run, 2 given"):
        run_train("train.replicas=2", resume=str(small_run.run_dir))


def test_a_dry_run_of_replicas_says_whose_figures_it_gives(capsys: pytest.CaptureFixture[str]) -> None:
    run_train(*SMALL, "train.replicas=4", dry_run=True)
    assert "with evaluation; this is one of 4 replicas" in " ".join(capsys.readouterr().out.split())


CRASHES = """
import os, signal, torch
from torch import nn
class Net(nn.Linear):
    def __init__(self):
        super().__init__(64, 10)
        if torch.initial_seed() == {seed}:
            os.kill(os.getpid(), signal.SIGKILL)
    def forward(self, images):
        return super().forward(images.flatten(1))
"""


def test_a_replica_that_is_killed_ends_the_command_with_status_1(capsys: pytest.CaptureFixture[str]) -> None:
    Path("killed.py").write_text(CRASHES.format(seed=generator(2, "model").initial_seed()))
    words = ["model.name=killed:Net", "train.epochs=1", "train.replicas=2", "track.tensorboard=false"]
    with pytest.raises(SystemExit) as ended:
        run_train(*words)
    assert ended.value.code == 1
    out, err = capsys.readouterr()
    assert err == "error: 1 of 2 replicas failed:\n  seed 2: its process was killed by SIGKILL\n"
    [run] = runs.collect([Path("runs")])
    row = runs.read_result(run)
    assert f"seed 1: finished with {row['test_error']:.2f}% test error in" in out
    assert "seed 2: failed: its process was killed by SIGKILL" in out
    assert f"{row['test_error']:.2f}%" in out.partition("Finished")[2]
    assert list(Path("runs").glob("*/*")) == [run.path]  # no empty directory is left for seed 2


def test_the_table_of_replicas(small_run: api.Result, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [small_run.row | {"seed": seed, "test_error": error} for seed, error in ((1, 3.0), (2, 7.5), (3, 4.25))]
    show_replicas({f"seed {row['seed']}": api.Result(small_run.run_dir, row) for row in rows})
    out = capsys.readouterr().out
    assert "validation" not in out
    assert out.endswith("\nmedian of 3: 4.25% test error (min 3.00%, max 7.50%)\n")
    show_replicas({f"lr {lr}": small_run for lr in (0.1, 0.2)})
    assert "median" not in capsys.readouterr().out  # the test set chooses no learning rate


def test_each_replica_has_its_lines_and_its_bar(capsys: pytest.CaptureFixture[str]) -> None:
    config = api.load_config(None, [*SMALL, "train.replicas=2"])
    row = {"epoch": 3, "step": 33, "train_error": 5.0, "test_error": 4.0, "train_loss": 0.5, "lr": 0.1}
    row |= {"images_per_second": 1000.0, "seconds": 1.0, "train_seconds": 3.0}
    with reserved(config, "small") as group:
        job = build(group[0].config)
        for listener in (ReplicaLines(), ReplicaBars()):
            listener.start(job, group, 1)
            one, other = (listener.of(replica) for replica in group)
            one.step(Snapshot(1, 3, 5, 11, 0.1, 50.0, 1000.0, 7.0))
            other.epoch(row)
            listener.end(Outcome(group[0], failure="training diverged"))
            if isinstance(listener, ReplicaBars):
                assert [task.fields["epoch"] for task in listener.bar.tasks] == ["seed 1 epoch 1/3", "seed 2 epoch 3/3"]
                assert [task.percentage for task in listener.bar.tasks] == [pytest.approx(100 * 5 / 33), 100]
            listener.close()
            out = capsys.readouterr().out
            assert ", 2 replicas, 1 at a time\nseed 1   runs/small/" in out
            assert "seed 1: failed: training diverged" in out
            if isinstance(listener, ReplicaLines):
                assert "\nseed 1: epoch 1/3 step 5/11: error 50.00%, 1,000 images/s, 7 s left, lr 0.1\n" in out
                assert "\nseed 2: epoch 3: error train 5.00%, test 4.00%, loss 0.5000, lr 0.1, 1,000 images/s" in out
