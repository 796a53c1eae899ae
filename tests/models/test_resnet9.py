"""ResNet-9 against a slow forward written from its description with plain functions on the same weights."""

import pytest
import torch
from models.reference import assert_equal_to, assert_freshly_drawn, params
from torch import nn
from torch.nn import functional as F

from pictorch.config.errors import OptionError
from pictorch.models import create
from pictorch.models.complexity import count


def reference(conv, bn, state, images, scale=0.125):
    x = torch.relu(bn(conv(images, "stem.conv"), "stem.bn"))
    for i, residual in enumerate((True, False, True)):
        # Pooled after the ReLU, as published
        x = F.max_pool2d(torch.relu(bn(conv(x, f"stages.{i}.conv"), f"stages.{i}.bn")), 2)
        if residual:
            y = x
            for j in range(2):
                unit = f"stages.{i}.residual.branch.{j}"
                y = torch.relu(bn(conv(y, f"{unit}.conv"), f"{unit}.bn"))
            x = x + y
    return scale * (x.amax((2, 3)) @ state["classifier.weight"].T)


@pytest.mark.parametrize("training", [False, True], ids=["evaluation", "training"])
@pytest.mark.parametrize("options", [{}, {"logit_scale": 1.0}, {"image_size": 28}])
def test_forward_and_gradients_equal_the_reference(options, training):
    torch.manual_seed(0)
    size = options.get("image_size", 32)
    model = create("resnet9", base_channels=4, **options)
    images = torch.randn(3, 3, size, size)
    assert_equal_to(reference, model, images, training=training, scale=options.get("logit_scale", 0.125))


def test_parameters_and_multiply_adds_of_the_published_network():
    with torch.device("meta"):
        model = create("resnet9")
    # Convolutions: channels in, channels out, side of the map; BN of each; the last layer
    convolutions = [(3, 64, 32), (64, 128, 32), (128, 256, 16), (256, 512, 8)]
    convolutions += [(128, 128, 16)] * 2 + [(512, 512, 4)] * 2
    assert params(model) == sum(9 * i * o + 2 * o for i, o, _ in convolutions) + 5120 == 6_573_120
    assert count(model, in_channels=3, image_size=32).macs == sum(9 * i * o * s * s for i, o, s in convolutions) + 5120


@pytest.mark.parametrize(("in_channels", "image_size", "size"), [(1, 8, 1), (1, 28, 3), (3, 33, 4), (3, 64, 8)])
def test_image_sizes(in_channels, image_size, size):
    with torch.device("meta"):
        model = create("resnet9", in_channels=in_channels, image_size=image_size)
        features = model.forward_features(torch.zeros(2, in_channels, image_size, image_size))
    assert features.shape == (2, 512, size, size)
    assert model.forward_head(features).shape == (2, 10)


@pytest.mark.parametrize("mode", ["fan_out", "fan_in"])
def test_initial_weights(mode):
    torch.manual_seed(0)
    assert_freshly_drawn(create("resnet9", base_channels=16, init=mode), mode)


def test_initial_weights_of_the_published_program():
    torch.manual_seed(0)
    for module in create("resnet9", base_channels=16).modules():
        if isinstance(module, nn.Conv2d):
            bound = module.weight[0].numel() ** -0.5
            assert 0.98 * bound < module.weight.abs().max() <= bound


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"base_channels": 0}, "resnet9: base_channels: expected a whole number of at least 1, got 0"),
        ({"logit_scale": 0.0}, "resnet9: logit_scale: expected a number above 0, got 0.0"),
        ({"logit_scale": float("inf")}, "logit_scale: expected a number above 0, got inf"),
        ({"image_size": 7}, "resnet9: image_size: three poolings by 2 need at least 8, got 7"),
        ({"init": "orthogonal"}, "init: expected 'torch' or 'fan_out' or 'fan_in', got 'orthogonal'"),
    ],
)
def test_impossible_networks(options, message):
    with pytest.raises(OptionError) as caught:
        create("resnet9", **options)
    assert message in str(caught.value)
