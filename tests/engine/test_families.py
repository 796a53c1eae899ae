"""Every family through the whole way: trained for two steps, resumed, evaluated, used."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pictorch import api, data, models
from pictorch.api import load_config

NETWORKS = {
    "resnet": "depth: 8",
    "resnet_preact": "depth: 8",
    "se_resnet": "depth: 8",
    "se_resnet_preact": "depth: 8",
    "densenet": "depth: 10, checkpointing: true, drop_rate: 0.1",
    "pyramidnet": "depth: 8, alpha: 8",
    "vgg": "layers: [1, 1], base_channels: 8, batch_norm: true",
    "wrn": "depth: 10, widening_factor: 1, drop_rate: 0.3",
    "resnext": "depth: 11, cardinality: 2, base_channels: 4",
    "shake_shake": "depth: 8, base_channels: 8",
    "mobilenet_v1": "width: 0.25",
    "mobilenet_v2": "width: 0.35",
    "shufflenet_v1": "groups: 3, width: 0.5",
    "shufflenet_v2": "width: 0.5",
    "resnet9": "base_channels: 4",
    "airbench": "base_channels: 8",
    "googlenet": "batch_norm: true, aux_logits: true",
    "xception": "stem: cifar",
    "vit": "depth: 1, dim: 16, heads: 2, dropout: 0.1",
}


def test_every_family_is_tried() -> None:
    assert NETWORKS.keys() == models.families().keys()


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_a_family_from_recipe_to_prediction(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (8, 3072), dtype=np.uint8)
    for file in data.find("cifar10").files:
        path = tmp_path / file.forms[0].path
        path.write_bytes(pickle.dumps({"data": pixels, "labels": [*range(8)]}, 2))
    settings = ["data.name=cifar10", f"data.dir={tmp_path}", "train.batch_size=10", "train.max_steps=2"]
    config = load_config("cifar10/resnet_preact_20", [*settings, f"model={{name: {name}, {NETWORKS[name]}}}"])
    result = api.train(config, out="run")
    assert result.row["steps"] == 2
    assert result.row["params"] > 0
    assert api.evaluate("run").error == pytest.approx(result.test_error)
    Image.fromarray(pixels[0].reshape(3, 32, 32).transpose(1, 2, 0)).save("image.png")
    [prediction] = api.predict("run", "image.png", top_k=10)
    assert sum(prediction.probabilities) == pytest.approx(1, abs=1e-4)
