"""Predictors of networks that no run has trained: written as a run's weights are, and read back."""

import tempfile
from pathlib import Path

import torch
from torch import nn

from pictorch import models
from pictorch.deploy.predict import Predictor
from pictorch.models import weights
from pictorch.models.fold import fold


def predictor_of(
    name: str,
    *,
    num_classes: int = 3,
    in_channels: int = 3,
    image_size: int = 32,
    network: nn.Module | None = None,
    **options: object,
) -> Predictor:
    """Return the predictor of a network of ours, freshly drawn or as given."""
    sizes = {"num_classes": num_classes, "in_channels": in_channels, "image_size": image_size}
    metadata = {
        "model": name,
        "options": options,
        **sizes,
        "dataset": "none",
        "classes": [f"class {i}" for i in range(num_classes)],
        "mean": [0.5] * in_channels,
        "std": [0.25] * in_channels,
    }
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.yaml").write_text("")
        content = weights.to_bytes(network or models.create(name, **sizes, **options), metadata)
        (Path(folder) / "model.safetensors").write_bytes(content)
        return Predictor(Path(folder))


def with_network(predictor: Predictor, network: nn.Module) -> Predictor:
    """Return the predictor with a network of anybody's in the place of its own."""
    predictor.model = network.eval()
    with torch.inference_mode():
        predictor.network = fold(network)
    return predictor
