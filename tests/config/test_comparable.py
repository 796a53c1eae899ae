"""Which settings decide a result, and which do not."""

import pytest

from pictorch.cli.claims import network
from pictorch.config import load
from pictorch.config.comparable import comparable_hash, decisive_settings
from pictorch.config.schema import EXECUTION_KEYS, flatten, to_dict

RECIPE = "cifar10/resnet_preact_20"


def settings(*overrides: str) -> dict[str, object]:
    return decisive_settings(load(RECIPE, overrides).config, network)


@pytest.mark.parametrize(
    "override",
    [
        *("train.seed=7", "train.device=cpu", "train.precision=fp32", "train.threads=1", "data.workers=3"),
        *("data.dir=/data", "track.tensorboard=false", "schedule.scale=false", "train.eval_every_epochs=5"),
    ],
)
def test_what_does_not_decide_the_result(override: str) -> None:
    assert settings(override) == settings()


@pytest.mark.parametrize(
    "override",
    [
        *("train.batch_size=64", "optim.lr=0.05", "schedule=linear", "train.epochs=100", "augment.cutout.size=16"),
        *("augment.cutout.inside=true", "augment.label_smoothing=0.1", "model.depth=56", "data.name=cifar100"),
        *(
            "augment.crop=null",
            "data.fraction=0.5",
            "evaluation.views=mirror",
            "ema.decay=0.999",
            "optim.nesterov=false",
        ),
    ],
)
def test_what_decides_the_result(override: str) -> None:
    assert comparable_hash(settings(override)) != comparable_hash(settings())


def test_evaluations_decide_where_they_choose_the_weights() -> None:
    chosen = ("train.select=best-val", "data.val_fraction=0.1")
    assert settings(*chosen) != settings(*chosen, "train.eval_every_epochs=5")


def test_a_network_is_the_same_however_it_is_written() -> None:
    written = settings("model.depth=56", "model.add_last_bn=false", "model.layout=cifar")
    assert written == settings("model.depth=56")
    alone = ("model.name=resnet_preact_56", "model.shortcut=B", "model.block_type=null", "model.base_channels=null")
    found = decisive_settings(load("digits/resnet_preact_8", alone).config, network)
    assert found["model.name"] == "resnet_preact"
    assert found["model.depth"] == 56
    assert settings("model.add_last_bn=true")["model.add_last_bn"] is True


def test_only_what_is_not_by_default_is_written_so_that_a_later_key_changes_no_hash() -> None:
    found = settings("augment.cutout.size=16", "optim=adam", "optim.lr=1e-3")
    assert found["augment.cutout"] == "on"
    assert "augment.cutout.size" not in found
    assert found["optim.name"] == "adam"
    assert "optim.lr" not in found
    assert not found.keys() & EXECUTION_KEYS
    flat = flatten(to_dict(load(RECIPE, ["augment.cutout.size=16"]).config))
    assert len(found) < len(flat) / 3
