"""What `pictorch models` and `pictorch recipes` print."""

import json

import pytest

from pictorch.cli import listing
from pictorch.config import UserError
from pictorch.config import recipes as shipped


def models(pattern: str, *, image_size: int | None = None, as_json: bool = False, layers: bool = False) -> None:
    listing.models(pattern, image_size=image_size, as_json=as_json, layers=layers)


def test_recipes(capsys: pytest.CaptureFixture[str]) -> None:
    listing.recipes("digits/*", as_json=True)
    assert json.loads(capsys.readouterr().out)[0]["name"] == "digits/resnet_preact_8"
    listing.recipes("*", as_json=True)
    assert [row["name"] for row in json.loads(capsys.readouterr().out)] == shipped.names()
    with pytest.raises(UserError, match=r"no recipe matches 'cfiar\*'"):
        listing.recipes("cfiar*", as_json=False)


def test_recipes_stand_by_folder_and_grids_behind_them(capsys: pytest.CaptureFixture[str]) -> None:
    listing.recipes("resnet_110", as_json=False)
    blocks = [block.splitlines() for block in capsys.readouterr().out.split("\n\n")]
    assert [len(block) for block in blocks] == [1, 1, 1, 2]
    assert blocks[1] == [f"seed1/cifar10/resnet_110  {shipped.summary('seed1/cifar10/resnet_110')}"]
    listing.recipes("*", as_json=False)
    text = capsys.readouterr().out
    assert len([line for line in text.splitlines() if line.startswith("seed1/cifar10/")]) == 25
    assert text.index("speed/") < text.index("\n\nFamilies of runs, for `pictorch sweep`:\ngrids/")
    assert text.splitlines()[-1].startswith("grids/seed3_cifar100  ")


def test_all_networks_are_named_with_their_papers(capsys: pytest.CaptureFixture[str]) -> None:
    models("*")
    lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert "Deep Residual Learning" in lines["resnet"]
    assert lines["resnet_110"] == "resnet with layout=cifar, depth=110, block_type=basic"


def test_networks_of_a_pattern_as_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    models("resnet_2?")
    header, row = capsys.readouterr().out.splitlines()
    assert header.split()[:3] == ["name", "images", "parameters"]
    assert row.split() == ["resnet_20", "3x32x32", "269,722", "40.6", "M", "186", "MiB"]
    models("resnet")
    assert "needs depth or other options" in capsys.readouterr().out.splitlines()[1]


def test_networks_of_a_pattern_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    models("resnet_[35]?", as_json=True)
    rows = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in rows] == ["resnet_32", "resnet_56"]
    assert rows[1].keys() >= {"family", "options", "params", "macs", "activation_bytes", "paper", "seed_tables"}
    assert rows[1]["params"] == 853_018


def test_layers_of_a_network(capsys: pytest.CaptureFixture[str]) -> None:
    models("resnet_20", layers=True, image_size=28)
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == ["stem.conv", "Conv2d", "16x28x28", "432", "338,688"]
    assert lines[-1].split() == ["in", "all", "269,722", "31,047,040"]
    models("resnet_20", layers=True, as_json=True)
    assert sum(row["params"] for row in json.loads(capsys.readouterr().out)) == 269_722


@pytest.mark.parametrize(
    ("pattern", "options", "message"),
    [
        ("resnett*", {}, r"no network matches 'resnett\*'; did you mean"),
        ("resnet*", {"layers": True}, "--layers prints one network, but"),
        ("resnet", {"layers": True}, "the family resnet needs options"),
        ("resnet_20", {"image_size": 2}, "at least 3, got 2"),
        ("my_nets:MyNet", {}, "there is no module 'my_nets'"),
    ],
)
def test_mistakes(pattern: str, options: dict[str, int], message: str) -> None:
    with pytest.raises(UserError, match=message):
        models(pattern, **options)
