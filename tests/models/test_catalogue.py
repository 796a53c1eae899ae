"""The seed documents' tables: each line's network as the paper and as that document's program has it, exactly."""

import json
import sys
from functools import cache

import pytest
import torch

from pictorch import models
from pictorch.config.errors import OptionError
from pictorch.models.catalogue import describe, published, seed_tables
from pictorch.models.complexity import count

SIZES = ("num_classes", "in_channels", "image_size")


def counted(row, as_published=None):
    # Lists are not hashable, and the same network stands on many lines.
    options = json.dumps({**row["options"], "as_published": as_published, **{key: row[key] for key in SIZES}})
    return count_once(row["network"], options)


@cache
def count_once(name, options):
    options = json.loads(options)
    with torch.device("meta"):
        model = models.create(name, **options)
    return count(model, in_channels=options["in_channels"], image_size=options["image_size"])


def identify(row):
    return f"{row['document']} {row['table']} {row['line']}"


@pytest.mark.parametrize("row", published(), ids=identify)
def test_the_network_behind_each_published_number(row):
    params, macs = counted(row, as_published=row["as_published"])
    assert params == row["params"]
    assert row["macs"] in (None, macs)


@pytest.mark.parametrize("row", [row for row in published() if row["paper_params"]], ids=identify)
def test_the_papers_network_on_the_same_line(row):
    params, macs = counted(row)
    assert params == row["paper_params"]
    assert row["paper_macs"] in (None, macs)


def test_every_document_is_there():
    lines = [(row["document"], row["table"]) for row in published()]
    assert {document for document, _ in lines} == {"seed1", "seed2", "seed3"}
    assert lines.count(("seed1", "CIFAR-10, almost same settings as papers")) == 22
    assert lines.count(("seed3", "CIFAR-10")) == lines.count(("seed3", "CIFAR-100")) == 19


def test_description_of_a_variant():
    row = describe("resnet_110")
    assert (row["family"], row["options"]) == ("resnet", {"layout": "cifar", "depth": 110, "block_type": "basic"})
    assert (row["params"], row["macs"]) == (1_727_962, 252_887_680)
    assert row["activation_bytes"] > 1_000_000_000
    assert "1512.03385" in row["paper"]
    assert row["seed_tables"] == [
        "seed1: CIFAR-10, almost same settings as papers: ResNet-110",
        "seed2: CIFAR-10: ResNet-110",
    ]


def test_description_of_a_family_that_needs_options():
    row = describe("resnet")
    assert row["accepts"][:3] == ["layout", "depth", "block_type"]
    assert "se_reduction" not in row["accepts"]
    assert "se_reduction" in describe("se_resnet")["accepts"]
    assert row["params"] is row["macs"] is row["activation_bytes"] is None


def test_a_network_for_large_images_is_described_for_them():
    assert describe("vit_h_14")["image_size"] == 224
    assert describe("resnet_20", image_size=64)["macs"] == 4 * (describe("resnet_20")["macs"] - 640) + 640
    with pytest.raises(OptionError, match="image_size"):
        describe("resnet_20", image_size=2)
    with pytest.raises(OptionError, match="unknown model"):
        describe("resnet_21")


def test_a_foreign_network_is_described(tmp_path, monkeypatch):
    layers = "nn.Sequential(nn.Flatten(), nn.Linear(3072, num_classes))"
    code = f"from torch import nn\ndef net(num_classes):\n    return {layers}\n"
    (tmp_path / "nets_for_the_catalogue.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    row = describe("nets_for_the_catalogue:net")
    assert (row["params"], row["macs"], row["paper"]) == (30_730, 30_720, "")


def test_seed_tables_of_a_network_in_none():
    assert seed_tables("resnet_1202") == []
