"""What is known of a network before it is trained: its size, its paper, the published tables that it stands in.

describe("resnet_110")["params"]
"""

import json
from functools import cache
from importlib import resources
from typing import Any

import torch

from pictorch import models
from pictorch.config.errors import OptionError
from pictorch.models.complexity import activation_bytes, count
from pictorch.models.foreign import is_foreign

ACTIVATION_BATCH = 128
# The sizes that a network without an image size of one's own is described for: CIFAR's, else ImageNet's.
USUAL_SIZES = (32, 224)


def describe(
    name: str, *, num_classes: int = 10, in_channels: int = 3, image_size: int | None = None
) -> dict[str, Any]:
    """Return a network's name, family, options, further options, size, paper and seed tables as plain values.

    `activation_bytes` are those of a float32 training step on 128 images. A family that needs options has None for all
    that they decide. Raises OptionError for an unknown name, and for an image size that it cannot take.
    """
    spec = models.resolve(name)
    paper = "" if is_foreign(name) else models.families()[spec.family].paper
    accepts = [] if is_foreign(name) else models.options_of(spec.family)
    row: dict[str, Any] = {"name": name, "family": spec.family, "options": spec.options, "accepts": accepts}
    row["paper"] = paper
    sizes = {"num_classes": num_classes, "in_channels": in_channels}
    for size in USUAL_SIZES if image_size is None else (image_size,):
        try:
            with torch.device("meta"):
                model = models.create(name, image_size=size, **sizes)
        except OptionError as error:
            if error.option == "image_size" and size == USUAL_SIZES[0] and image_size is None:
                continue
            if error.option == "image_size" or name != spec.family or is_foreign(name):
                raise
            return row | {"image_size": None, "params": None, "macs": None, "activation_bytes": None, "seed_tables": []}
        shape = {"in_channels": in_channels, "image_size": size}
        params, macs = count(model, **shape)
        kept = None if is_foreign(name) else activation_bytes(model, batch_size=ACTIVATION_BATCH, **shape)
        tables = {"seed_tables": seed_tables(name)}
        return row | sizes | {"image_size": size, "params": params, "macs": macs, "activation_bytes": kept} | tables
    raise AssertionError("every network takes one of the usual sizes")


def seed_tables(name: str) -> list[str]:
    """Return "seed1: CIFAR-10: ResNet-110" for every line of the seed documents' tables that has this network."""
    lines = [f"{row['document']}: {row['table']}: {row['line']}" for row in published() if row["network"] == name]
    return list(dict.fromkeys(lines))


@cache
def published() -> list[dict[str, Any]]:
    """Return the lines of the seed documents' tables: each with its network, as the paper and as the document has it.

    Keys: document, table, line, in_channels, image_size, num_classes; `network`, a named variant, with further
    `options`, is the paper's; `as_published`, where it is not null, builds the one behind the document's number, of
    `params` parameters and `macs` multiply-adds (null where nobody has counted them).
    """
    text = resources.files("pictorch.models").joinpath("seed_tables.json").read_text(encoding="utf-8")
    return list(json.loads(text))
