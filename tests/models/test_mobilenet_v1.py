"""MobileNetV1 against a slow forward written from the paper with plain functions on the same weights."""

import pytest
import torch
from models.reference import assert_equal_to, assert_freshly_drawn, linear, params
from torch.nn import functional as F

from pictorch.config.errors import OptionError
from pictorch.models import create

UNITS = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1)]


def reference(conv, bn, state, images, stem_stride):
    x = torch.relu(bn(conv(images, "stem.conv", stem_stride), "stem.bn"))
    for i, (_, stride) in enumerate(UNITS):
        x = torch.relu(bn(conv(x, f"units.{i}.depthwise.conv", stride), f"units.{i}.depthwise.bn"))
        x = torch.relu(bn(conv(x, f"units.{i}.pointwise.conv"), f"units.{i}.pointwise.bn"))
    return linear(F.adaptive_avg_pool2d(x, 1).flatten(1), state)


@pytest.mark.parametrize("training", [False, True], ids=["evaluation", "training"])
@pytest.mark.parametrize(
    ("options", "stem_stride"), [({}, 1), ({"stem": "imagenet"}, 2), ({"as_published": "seed3"}, 2)]
)
def test_forward_and_gradients_equal_the_reference(options, stem_stride, training):
    torch.manual_seed(0)
    model = create("mobilenet_v1", width=0.25, **options)
    assert_equal_to(reference, model, torch.randn(3, 3, 32, 32), training=training, stem_stride=stem_stride)


def counted(width, num_classes, in_channels):
    """Return the parameters, from the paper's table 1."""
    before = max(int(32 * width), 8)
    total = before * 9 * in_channels + 2 * before
    for out, _ in UNITS:
        after = max(int(out * width), 8)
        total += 9 * before + 2 * before + before * after + 2 * after
        before = after
    return total + before * num_classes + num_classes


@pytest.mark.parametrize("width", [1, 0.75, 0.5, 0.25, 0.1, 1.3])
@pytest.mark.parametrize(("num_classes", "in_channels", "image_size"), [(10, 3, 32), (100, 1, 28), (1000, 3, 224)])
def test_parameters(width, num_classes, in_channels, image_size):
    sizes = {"num_classes": num_classes, "in_channels": in_channels, "image_size": image_size}
    with torch.device("meta"):
        model = create("mobilenet_v1", width=width, **sizes)
    assert params(model) == counted(width, num_classes, in_channels)


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("mobilenet_v1_100", {"num_classes": 100}, 3_309_476),
        ("mobilenet_v1_075", {"num_classes": 1000, "image_size": 224}, 2_585_560),
        ("mobilenet_v1_025", {"num_classes": 1000, "image_size": 224}, 470_072),
        ("mobilenet_v1", {"as_published": "seed3"}, 3_228_170),
        ("mobilenet_v1", {"as_published": "seed3", "num_classes": 100}, 3_320_420),
    ],
)
def test_published_counts(name, options, expected):
    with torch.device("meta"):
        assert params(create(name, **options)) == expected


@pytest.mark.parametrize(
    ("options", "size"),
    [
        ({}, 2),
        ({"stem": "imagenet"}, 1),
        ({"as_published": "seed3"}, 1),
        ({"as_published": "seed3", "stem": "cifar"}, 2),
        ({"image_size": 28, "in_channels": 1}, 2),
        ({"image_size": 64}, 4),
        ({"image_size": 65}, 3),
        ({"image_size": 224}, 7),
        ({"image_size": 9}, 1),
        ({"image_size": 17, "stem": "imagenet"}, 1),
    ],
)
def test_size_of_the_features(options, size):
    channels, image_size = options.get("in_channels", 3), options.get("image_size", 32)
    with torch.device("meta"):
        model = create("mobilenet_v1", **options)
        assert model.forward_features(torch.zeros(2, channels, image_size, image_size)).shape == (2, 1024, size, size)


@pytest.mark.parametrize("mode", ["fan_out", "fan_in"])
def test_initial_weights(mode):
    torch.manual_seed(0)
    assert_freshly_drawn(create("mobilenet_v1", width=0.5, init=mode, as_published="seed3"), mode)


def test_dropout_is_before_the_last_layer_and_in_training_only():
    model = create("mobilenet_v1", width=0.25, drop_rate=0.5)
    features = torch.rand(4, 256, 2, 2)
    torch.manual_seed(1)
    logits = model.forward_head(features)
    torch.manual_seed(1)
    assert torch.equal(logits, model.classifier(F.dropout(features.mean((2, 3)), 0.5)))
    assert torch.equal(model.eval().forward_head(features), model.classifier(features.mean((2, 3))))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 0}, "mobilenet_v1: width: expected a number above 0 and up to 50, got 0"),
        ({"width": float("nan")}, "expected a number above 0 and up to 50, got nan"),
        ({"width": 1e9}, "expected a number above 0 and up to 50, got 1000000000.0"),
        ({"width": None}, "width: expected a number, got "),
        ({"drop_rate": 1}, "drop_rate: expected a number from 0 to under 1, got 1"),
        ({"drop_rate": -0.1}, "drop_rate: expected a number from 0 to under 1, got -0.1"),
        ({"image_size": 8}, "image_size: stem 'cifar' with the units after it halves 4 times and needs at least 9"),
        ({"image_size": 16, "stem": "imagenet"}, "halves 5 times and needs at least 17, got 16"),
        ({"as_published": "seed1"}, "as_published: expected 'seed3' or null, got 'seed1'"),
        ({"depth": 13}, "mobilenet_v1: depth: unknown option"),
    ],
)
def test_impossible_networks(options, message):
    with pytest.raises(OptionError) as caught:
        create("mobilenet_v1", **options)
    assert message in str(caught.value)
