"""From the words of `pictorch train` to a recipe and overrides."""

import pickle
from pathlib import Path

import numpy as np
import pytest

from pictorch import data
from pictorch.cli.training import recipe_and_overrides, train
from pictorch.config import UserError

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


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("mnist", "mnist is a folder of recipes; its recipes: mnist/resnet_preact_20"),
        ("cifar10/", "cifar10/ is a folder of recipes; its recipes: cifar10/"),
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
