"""What only the components know to be wrong: told with the key, its place, and everything else that is wrong."""

from pathlib import Path

import pytest
from conftest import small_config

from pictorch.config import ConfigError, OptionError, UserError, load
from pictorch.engine.build import build, mistakes


def told(text: str, *overrides: str) -> list[str]:
    Path("mine.yaml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(Path("mine.yaml"), overrides, check=mistakes)
    return str(caught.value).splitlines()


@pytest.mark.parametrize(
    ("text", "override", "said"),
    [
        ("train:\n  device: gpu\n", "", "mine.yaml:2: train.device: expected auto, cpu, cuda or cuda:N, got 'gpu'"),
        ("train: {}\n", "train={device: gpu}", "command line: train.device: expected auto, cpu, cuda or cuda:N"),
        ("data:\n  name: digit\n", "", "mine.yaml:2: data.name: there is no data set 'digit'; did you mean 'digits'?"),
        ("model:\n  name: resnet_111\n", "", "mine.yaml:2: model.name: resnet_111: unknown model; did you mean"),
        (
            "model:\n  name: resnet_20\n  dept: 2\n",
            "",
            "mine.yaml:3: model.dept: unknown option; did you mean 'depth'?",
        ),
        (
            "model: {name: resnet_20}\n",
            "model={depth: x}",
            "command line: model.depth: expected a whole number or null",
        ),
        (
            "augment:\n  crop: {padding: 8}\n",
            "",
            "mine.yaml:2: augment.crop.padding: expected less than the image size, 8",
        ),
    ],
)
def test_a_component_s_mistake_has_its_place(text: str, override: str, said: str) -> None:
    (line,) = told(text, *filter(None, [override]))
    assert line.startswith(said)


def test_a_network_that_lacks_an_option_is_explained_by_the_note_on_what_was_dropped() -> None:
    first, note = told("extends: digits/resnet_preact_8\n", "model.name=resnet")
    assert first.startswith("command line: model: resnet: depth:")
    assert note == (
        "note: command line: model.name is now 'resnet', "
        "so model.depth, model.base_channels of the recipe no longer apply"
    )


def test_every_mistake_is_told_at_once_whoever_knows_of_it() -> None:
    keys = ("train.device=gpu", "model.name=resnet_111", "augment.crop.padding=9")
    assert [line.split(": ")[1] for line in told("", *keys)] == ["model.name", "augment.crop.padding", "train.device"]
    with pytest.raises(ConfigError) as caught:
        load(None, [*keys, "optim.lr=-1", "data.val_fraction=2"], check=mistakes)
    # The crop is not checked against a data set that may be another one; the network's name is known to be wrong.
    lines = str(caught.value).splitlines()
    assert [line.split(": ")[1] for line in lines[:4]] == [
        "data.val_fraction",
        "optim.lr",
        "model.name",
        "train.device",
    ]


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["train.batch_size=2000"], "train.batch_size: batches of 2,000 images, but there are 1,4"),
        (["data.fraction=1e-9"], "data.fraction: a fraction of 1e-09 of"),
        (["data.val_fraction=1e-9"], "data.val_fraction: a validation part of 1e-09 of"),
    ],
)
def test_what_the_data_decide_is_told_with_its_key(overrides: list[str], said: str) -> None:
    with pytest.raises(UserError) as caught:
        build(small_config(*overrides))
    assert str(caught.value).startswith(said)


def test_an_option_that_the_data_decide_is_refused() -> None:
    assert told("model: {name: resnet_20, num_classes: 3}\n")[0].startswith(
        "mine.yaml:1: model.num_classes: the data set 'digits' decides this; leave it out"
    )
    config = load(None, ["model.num_classes=3"]).config
    with pytest.raises(OptionError, match="num_classes"):
        build(config)
