"""The weights file: what is read is what was written, to the bit, or one sentence says what is wrong."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from pictorch import models
from pictorch.config import UserError
from pictorch.models import weights

METADATA: dict[str, Any] = {
    "model": "resnet",
    "options": {"depth": 8, "base_channels": 4},
    "num_classes": 3,
    "in_channels": 1,
    "image_size": 8,
    "dataset": "marks",
    "classes": ["a", "b", "c"],
    "mean": [0.5],
    "std": [0.25],
    "note": "kept",
}


@pytest.fixture
def path() -> Path:
    model = models.create("resnet", num_classes=3, in_channels=1, image_size=8, depth=8, base_channels=4)
    Path("model.safetensors").write_bytes(weights.to_bytes(model, METADATA))
    return Path("model.safetensors")


def rewrite(path: Path, metadata: Any) -> None:
    """Write the file's tensors again with other metadata, `metadata` itself where it is a text."""
    text = metadata if isinstance(metadata, str) else json.dumps(metadata)
    save_file(load_file(path), path, {"pictorch": text})


def refused(path: Path) -> str:
    with pytest.raises(UserError) as error:
        weights.load(path)
    assert str(error.value).startswith(f"{path}: ")
    return str(error.value)


def test_weights_and_metadata_come_back(path: Path) -> None:
    model, metadata = weights.load(path)
    assert {key: metadata[key] for key in METADATA} == METADATA
    assert not model.training
    assert weights.to_bytes(model, METADATA) == path.read_bytes()


def test_a_flipped_bit_is_seen(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    assert "is damaged: its weights do not have the sha256 that it notes" in refused(path)


def test_weights_that_are_no_numbers_are_told(path: Path) -> None:
    model, metadata = weights.load(path)
    name = next(iter(model.state_dict()))
    with torch.no_grad():
        model.state_dict()[name].view(-1)[0] = math.nan
    path.write_bytes(weights.to_bytes(model, metadata))
    assert f"these weights are no numbers (NaN), the first in {name}" in refused(path)


def test_the_checksum_knows_names_types_and_shapes() -> None:
    one = torch.arange(6, dtype=torch.float32)
    others = [{"b": one}, {"a": one.reshape(2, 3)}, {"a": one.view(torch.int32)}, {"a": one + 1}, {"a": one, "b": one}]
    assert len({weights.checksum(tensors) for tensors in [{"a": one}, *others]}) == 6
    assert weights.checksum({"a": one, "b": one[:0]}) == weights.checksum({"b": one[:0], "a": one})
    assert weights.checksum({"scalar": torch.tensor(1), "bf16": one.bfloat16()})


def test_a_file_of_another_program_is_told(path: Path) -> None:
    save_file({"w": torch.ones(2)}, path)
    assert "was not written by pictorch" in refused(path)
    save_file({"w": torch.ones(2)}, path, {"format": "pt"})
    assert "was not written by pictorch" in refused(path)


@pytest.mark.parametrize("text", ["{", "[" * 100_000, "[1]", "null"])
def test_metadata_that_is_no_object_is_told(text: str, path: Path) -> None:
    rewrite(path, text)
    assert "this weights file is damaged: its metadata is no JSON" in refused(path)


@pytest.mark.parametrize("key", list(weights.NEEDED))
def test_a_missing_key_is_named(key: str, path: Path) -> None:
    _, metadata = weights.load(path)
    del metadata[key]
    rewrite(path, metadata)
    assert f": {key} is missing among the metadata" in refused(path)


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("model", None, "a text, got None"),
        ("options", [], "an object"),
        ("num_classes", "3", "a whole number above 0, got '3'"),
        ("num_classes", True, "a whole number above 0"),
        ("image_size", 0, "a whole number above 0"),
        ("num_classes", 10**15, r"num_classes texts, got \['a', 'b', 'c'\]"),
        ("classes", ["a", "b"], "num_classes texts"),
        ("classes", [1, 2, 3], "num_classes texts"),
        ("mean", [0.5, 0.5], "in_channels numbers"),
        ("mean", ["x"], "in_channels numbers"),
        ("std", [0.0], "in_channels numbers above 0"),
        ("mean", [math.nan], "in_channels numbers"),
        ("std", [math.inf], "in_channels numbers above 0"),
        ("sha256", 5, "a text"),
        ("resize", "9", "null, or a whole number from image_size on, got '9'"),
        ("resize", 3, "null, or a whole number from image_size on, got 3"),
        ("mean_image", [[1.0]], "in_channels times image_size times image_size numbers"),
        ("mean_image", [[["x"]]], "in_channels times image_size times image_size numbers"),
        ("config", None, "an object whose evaluation.views"),
        ("config", {"evaluation": None}, "an object whose evaluation.views"),
        (
            "config",
            {"evaluation": {"views": "ten_crop"}},
            "an object whose evaluation.views, if it has one, is one, mirror",
        ),
        ("config", {"evaluation": {"views": []}}, "an object whose evaluation.views"),
    ],
)
def test_a_value_of_the_wrong_kind_is_named(key: str, value: Any, expected: str, path: Path) -> None:
    _, metadata = weights.load(path)
    rewrite(path, metadata | {key: value})
    with pytest.raises(UserError, match=rf"safetensors: \w+ in the metadata of this weights file: expected {expected}"):
        weights.load(path)


def test_a_description_of_another_network_is_told(path: Path) -> None:
    _, metadata = weights.load(path)
    rewrite(path, metadata | {"options": {"depth": 14, "base_channels": 4}})
    assert "these weights are not those of a resnet: Error(s) in loading state_dict" in refused(path)
    rewrite(path, metadata | {"model": "resnett"})
    assert "the network of these weights cannot be built: resnett: unknown model; did you mean" in refused(path)
    rewrite(path, metadata | {"options": {"depth": 8, "num_classes": 4}})
    assert "the network of these weights cannot be built" in refused(path)
