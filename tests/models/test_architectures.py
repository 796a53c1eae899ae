"""Exact parameters and multiply-adds of every network whose count independent implementations agree on."""

import json
from collections import Counter
from pathlib import Path

import pytest
import torch

from pictorch import models
from pictorch.models.complexity import count, layers

ROWS = json.loads(Path(__file__).with_name("architectures.json").read_text())
FAMILIES = set(models.list_models())


def build(name, row, **options):
    sizes = {key: row[key] for key in ("num_classes", "in_channels", "image_size")}
    with torch.device("meta"):
        return models.create(name, **sizes, **options)


def by_id(name):
    return next(row for row in ROWS if row["id"] == name)


def test_the_reference_is_complete():
    assert len(ROWS) == 178
    assert len({row["id"] for row in ROWS}) == 178
    assert sum(row["family"] in ("resnet", "resnet_preact") for row in ROWS) == 58


@pytest.mark.parametrize("row", [r for r in ROWS if r["family"] in FAMILIES], ids=lambda row: row["id"])
def test_parameters_and_multiply_adds(row):
    model = build(row["family"], row, **row["options"])
    assert count(model, in_channels=row["in_channels"], image_size=row["image_size"]) == (row["params"], row["macs"])


# Named variants against the rows that they stand for.
NAMED = [
    ("resnet_20", "cifar10/resnet20_basic_optionA"),
    ("resnet_56", "cifar10/resnet56_basic_optionA"),
    ("resnet_110", "cifar10/resnet110_basic_optionA"),
    ("resnet_164", "cifar10/resnet164_bottleneck_projection"),
    ("resnet18", "cifar10/resnet18_cifar_stem"),
    ("resnet34", "cifar10/resnet34_cifar_stem"),
    ("resnet50", "cifar10/resnet50_cifar_stem"),
    ("resnet101", "cifar10/resnet101_cifar_stem"),
    ("resnet152", "cifar10/resnet152_cifar_stem"),
    ("resnet18", "cifar100/resnet18_cifar_stem"),
    ("resnet50", "imagenet/resnet50"),
    ("wide_resnet50_2", "imagenet/wrn50_2"),
    ("resnet_preact_20", "cifar10/preact_resnet20_basic_optionA"),
    ("resnet_preact_50", "cifar10/preact_resnet50_basic_optionA"),
    ("resnet_preact_110", "cifar10/preact_resnet110_basic_optionA"),
    ("resnet_preact_164", "cifar10/preact_resnet164_bottleneck"),
    ("resnet_preact18", "cifar10/preact_resnet18_cifar_stem"),
    ("resnet_preact50", "cifar10/preact_resnet50_cifar_stem"),
    ("resnet_preact34", "imagenet/preact_resnet34_no_preact_first"),
    ("resnet_preact152", "imagenet/preact_resnet152_no_preact_first"),
]


@pytest.mark.parametrize(("name", "row"), NAMED)
def test_a_named_variant_is_its_row(name, row):
    row = by_id(row)
    assert sum(p.numel() for p in build(name, row).parameters()) == row["params"]


# Seed documents 1 and 2 used projections where the papers' CIFAR networks have none.
AS_PUBLISHED = [
    ("resnet_110", "seed1", 3, 1_730_714),
    ("resnet_110", "seed2", 3, 1_730_714),
    ("resnet_110", "seed3", 3, 1_727_962),
    ("resnet_preact_110", "seed1", 3, 1_730_522),
    ("resnet_preact_20", "seed2", 3, 272_282),
    ("resnet_preact_56", "seed1", 3, 855_578),
    ("resnet_preact_164", "seed1", 3, 1_619_290),
    ("resnet_preact_20_w4", "seed1", 1, 4_325_834),
    ("resnet_preact_50", "seed1", 1, 758_074),
    ("resnet_preact_50_w4", "seed1", 1, 12_076_234),
    ("resnet50", "seed3", 3, 23_520_842),
]


@pytest.mark.parametrize(("name", "seed", "in_channels", "params"), AS_PUBLISHED)
def test_as_published(name, seed, in_channels, params):
    sizes = {"num_classes": 10, "in_channels": in_channels, "image_size": 32}
    assert sum(p.numel() for p in build(name, sizes, as_published=seed).parameters()) == params


def test_an_explicit_shortcut_wins_over_the_published_default():
    row = by_id("cifar10/resnet110_basic_optionA")
    model = build("resnet_110", row, as_published="seed1", shortcut="A")
    assert sum(p.numel() for p in model.parameters()) == row["params"]


@pytest.mark.parametrize(
    ("row", "types"),
    [
        ("cifar10/resnet110_basic_optionA", (109, 109, 1)),
        ("cifar10/resnet110_basic_projection", (111, 111, 1)),
        ("cifar10/preact_resnet164_bottleneck", (166, 163, 1)),
        ("cifar10/preact_resnet164_bottleneck_hysts", (165, 163, 1)),
        ("cifar10/preact_resnet56_basic_projection_add_last_bn", (57, 82, 1)),
    ],
)
def test_layers_of_each_type(row, types):
    row = by_id(row)
    rows = layers(build(row["family"], row, **row["options"]), in_channels=3, image_size=32)
    found = Counter(r.type for r in rows)
    assert (found["Conv2d"], found["BatchNorm2d"], found["Linear"]) == types
