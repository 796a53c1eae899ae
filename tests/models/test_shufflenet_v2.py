"""ShuffleNetV2 against a slow forward written from the paper with plain functions on the same weights."""

import pytest
import torch
from models.reference import assert_equal_to, assert_freshly_drawn, linear, params
from torch.nn import functional as F

from pictorch.config.errors import OptionError
from pictorch.models import create
from pictorch.models.complexity import count


def joined(left, right):
    """Return the concatenation of both, shuffled in two groups: its first and second half in turn."""
    x = torch.cat([left, right], 1)
    half = x.shape[1] // 2
    return torch.stack([x[:, i + side] for i in range(half) for side in (0, half)], 1)


def reference(conv, bn, state, images, stem="cifar"):
    def branch(x, name, stride):
        x = torch.relu(bn(conv(x, f"{name}.first.conv"), f"{name}.first.bn"))
        x = bn(conv(x, f"{name}.depthwise.conv", stride), f"{name}.depthwise.bn")
        return torch.relu(bn(conv(x, f"{name}.second.conv"), f"{name}.second.bn"))

    x = torch.relu(bn(conv(images, "stem.conv", 1 if stem == "cifar" else 2), "stem.bn"))
    if stem == "imagenet":
        x = F.max_pool2d(x, kernel_size=3, stride=2, padding=1)
    for i, units in enumerate((4, 8, 4)):
        unit = f"stages.{i}.0"
        left = bn(conv(x, f"{unit}.left.depthwise.conv", 2), f"{unit}.left.depthwise.bn")
        left = torch.relu(bn(conv(left, f"{unit}.left.pointwise.conv"), f"{unit}.left.pointwise.bn"))
        x = joined(left, branch(x, f"{unit}.right", 2))
        for j in range(1, units):
            half = x.shape[1] // 2
            x = joined(x[:, :half], branch(x[:, half:], f"stages.{i}.{j}.right", 1))
    x = torch.relu(bn(conv(x, "last.conv"), "last.bn"))
    return linear(F.adaptive_avg_pool2d(x, 1).flatten(1), state)


@pytest.mark.parametrize("training", [False, True], ids=["evaluation", "training"])
@pytest.mark.parametrize("options", [{}, {"stride2_unit": "halved"}, {"stem": "imagenet"}])
def test_forward_and_gradients_equal_the_reference(options, training):
    torch.manual_seed(0)
    model = create("shufflenet_v2", width=0.5, **options)
    stem = options.get("stem", "cifar")
    assert_equal_to(reference, model, torch.randn(2, 3, 24, 24), training=training, stem=stem)


def test_the_authors_left_side_keeps_its_channels():
    for unit, sides in (("authors", (24, 92)), ("halved", (58, 58))):
        first = create("shufflenet_v2", stride2_unit=unit).stages[0][0]
        assert (first.left.pointwise.conv.out_channels, first.right.second.conv.out_channels) == sides


def counted(first, last, *, halved, num_classes, in_channels):
    """Return the parameters, from the paper's table 5 and figure 3."""
    before = 24
    total = before * 9 * in_channels + 2 * before
    for i, units in enumerate((4, 8, 4)):
        out = first * 2**i
        inner = out // 2
        left = inner if halved else before
        right = out - left
        total += 9 * before + 2 * before + before * left + 2 * left
        total += before * inner + 2 * inner + 9 * inner + 2 * inner + inner * right + 2 * right
        total += (units - 1) * (2 * inner * inner + 9 * inner + 6 * inner)
        before = out
    return total + before * last + 2 * last + last * num_classes + (num_classes if halved else 0)


@pytest.mark.parametrize(
    ("width", "first", "last"), [(0.5, 48, 1024), (1, 116, 1024), (1.5, 176, 1024), (2, 244, 2048)]
)
@pytest.mark.parametrize("halved", [False, True])
@pytest.mark.parametrize(("num_classes", "in_channels", "image_size"), [(100, 1, 28), (1000, 3, 224)])
def test_parameters(width, first, last, halved, num_classes, in_channels, image_size):
    sizes = {"num_classes": num_classes, "in_channels": in_channels, "image_size": image_size}
    with torch.device("meta"):
        model = create("shufflenet_v2", width=width, stride2_unit="halved" if halved else "authors", **sizes)
    assert params(model) == counted(first, last, halved=halved, num_classes=num_classes, in_channels=in_channels)


@pytest.mark.parametrize(
    ("width", "unit", "million"),
    # The paper's table 8, and what torchvision's networks have
    [
        *[(1.0, "authors", 145.8), (1.5, "authors", 299.0), (2.0, "authors", 590.8)],
        *[(1.0, "halved", 144.9), (1.5, "halved", 295.8), (2.0, "halved", 583.3)],
    ],
)
def test_multiply_adds_of_the_paper(width, unit, million):
    with torch.device("meta"):
        model = create("shufflenet_v2", width=width, stride2_unit=unit, image_size=224, num_classes=1000)
    assert round(count(model, in_channels=3, image_size=224).macs / 1e6, 1) == million


@pytest.mark.parametrize(
    ("options", "size"),
    [
        ({}, 4),
        ({"stem": "imagenet"}, 1),
        ({"image_size": 8, "in_channels": 1}, 1),
        ({"image_size": 28, "in_channels": 1}, 4),
        ({"image_size": 64}, 8),
        ({"image_size": 65}, 3),
        ({"image_size": 224}, 7),
        ({"image_size": 5}, 1),
        ({"image_size": 17, "stem": "imagenet"}, 1),
    ],
)
def test_size_of_the_features(options, size):
    channels, image_size = options.get("in_channels", 3), options.get("image_size", 32)
    with torch.device("meta"):
        model = create("shufflenet_v2", **options)
        assert model.forward_features(torch.zeros(2, channels, image_size, image_size)).shape == (2, 1024, size, size)


@pytest.mark.parametrize("mode", ["fan_out", "fan_in"])
def test_initial_weights(mode):
    torch.manual_seed(0)
    assert_freshly_drawn(create("shufflenet_v2", init=mode), mode)


@pytest.mark.parametrize("unit", ["authors", "halved"])
def test_a_new_last_layer_has_a_bias_where_the_old_one_has(unit):
    model = create("shufflenet_v2", stride2_unit=unit)
    model.reset_classifier(3)
    assert (model.classifier.bias is not None) == (unit == "halved")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 0.75}, "shufflenet_v2: width: expected one of 0.5, 1, 1.5, 2, got 0.75"),
        ({"width": float("nan")}, "shufflenet_v2: width: expected one of 0.5, 1, 1.5, 2, got nan"),
        ({"stride2_unit": "torchvision"}, "stride2_unit: expected 'authors' or 'halved', got 'torchvision'"),
        (
            {"image_size": 4},
            "image_size: stem 'cifar' with the stages after it halves 3 times and needs at least 5, got 4",
        ),
        ({"image_size": 16, "stem": "imagenet"}, "halves 5 times and needs at least 17, got 16"),
        ({"as_published": "seed3"}, "as_published: expected null, got 'seed3'"),
        ({"groups": 3}, "shufflenet_v2: groups: unknown option"),
    ],
)
def test_impossible_networks(options, message):
    with pytest.raises(OptionError) as caught:
        create("shufflenet_v2", **options)
    assert message in str(caught.value)
