"""Xception against a slow forward written from the paper with plain functions on the same weights."""

from itertools import pairwise

import pytest
import torch
from models.reference import assert_equal_to, assert_freshly_drawn, linear, params
from torch import nn
from torch.nn import functional as F

from pictorch.config.errors import OptionError
from pictorch.models import create, xception
from pictorch.models.complexity import count


def reference(conv, bn, state, images, *, stem_stride, padding, strides, published=False):
    def separable(x, name):
        return conv(conv(x, f"{name}.depthwise"), f"{name}.pointwise")

    x = images
    for i, stride in ((1, stem_stride), (2, 1)):
        x = F.conv2d(x, state[f"stem.conv{i}.weight"], state.get(f"stem.conv{i}.bias"), stride, padding)
        x = torch.relu(bn(x, f"stem.bn{i}"))
    for i, stride in enumerate(strides):
        block, y, shortcut = f"blocks.{i}", x, x
        for j in (1, 2, 3) if i in range(3, len(strides) - 1) else (1, 2):
            if (i, j) != (0, 1):
                y = torch.relu(y)
            y = bn(separable(y, f"{block}.branch.conv{j}"), f"{block}.branch.bn{j}")
        if stride == 2:
            y = F.max_pool2d(y, 3, 2, padding=1)
        if i in (0, 1, 2, len(strides) - 1):
            shortcut = conv(x, f"{block}.shortcut.conv", stride)
            if not published:
                shortcut = bn(shortcut, f"{block}.shortcut.bn")
        x = y + shortcut
    for i in (1, 2):
        x = separable(x, f"last.conv{i}")
        x = torch.relu(x if published else bn(x, f"last.bn{i}"))
    return linear(x.mean((2, 3)), state)


@pytest.mark.parametrize("training", [False, True], ids=["evaluation", "training"])
@pytest.mark.parametrize(
    ("options", "image_size", "expected"),
    [
        ({}, 10, {"stem_stride": 1, "padding": 1, "strides": (2, 2, 1, 1, 2)}),
        ({"stem": "imagenet"}, 40, {"stem_stride": 2, "padding": 0, "strides": (2, 2, 2, 1, 2)}),
        (
            {"as_published": "seed3"},
            32,
            {"stem_stride": 2, "padding": 1, "strides": (2, 2, 2, 1, 2), "published": True},
        ),
    ],
    ids=["cifar", "imagenet", "seed3"],
)
def test_forward_and_gradients_equal_the_reference(options, image_size, expected, training, monkeypatch):
    # One block of the middle flow instead of eight equal ones: the counts say that there are eight.
    monkeypatch.setattr(xception, "MIDDLE", xception.MIDDLE[:1])
    torch.manual_seed(0)
    model = create("xception", image_size=image_size, drop_rate=0.0, **options)
    images = torch.randn(3, 3, image_size, image_size)
    assert_equal_to(reference, model, images, training=training, **expected)


@pytest.mark.parametrize("mode", ["fan_out", "fan_in"])
@pytest.mark.parametrize("as_published", [None, "seed3"])
def test_initial_values(as_published, mode, monkeypatch):
    monkeypatch.setattr(xception, "MIDDLE", xception.MIDDLE[:1])
    torch.manual_seed(0)
    assert_freshly_drawn(create("xception", init=mode, as_published=as_published), mode)


# Seed document 3's readings, and its own program
@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("xception", {"num_classes": 100}, 21_011_852),
        ("xception_imagenet", {}, 20_827_442),
        ("xception", {"num_classes": 1000, "image_size": 224}, 22_855_952),
        ("xception", {"in_channels": 1, "image_size": 28}, 20_827_442 - 2 * 9 * 32),
        ("xception", {"as_published": "seed3"}, 20_866_314),
        ("xception", {"as_published": "seed3", "num_classes": 100}, 20_866_314 + 90 * 2049),
    ],
)
def test_published_counts(name, options, expected):
    with torch.device("meta"):
        assert params(create(name, **options)) == expected


def separable_macs(widths, pixels):
    return pixels * sum(9 * a + a * b for a, b in pairwise(widths))


def test_multiply_adds_at_28x28_by_hand():
    expected = 28**2 * 9 * (1 * 32 + 32 * 64)
    expected += separable_macs((64, 128, 128), 28**2) + 14**2 * 64 * 128
    expected += separable_macs((128, 256, 256), 14**2) + 7**2 * 128 * 256
    expected += separable_macs((256, 728, 728), 7**2) + 7**2 * 256 * 728
    expected += separable_macs((728,) * 25, 7**2)
    expected += separable_macs((728, 728, 1024), 7**2) + 4**2 * 728 * 1024
    expected += separable_macs((1024, 1536, 2048), 4**2) + 2048 * 10
    with torch.device("meta"):
        model = create("xception", in_channels=1, image_size=28)
    assert count(model, in_channels=1, image_size=28).macs == expected


@pytest.mark.parametrize(
    ("options", "size"),
    [
        ({"image_size": 5}, 1),
        ({"image_size": 8}, 1),
        ({"image_size": 28, "in_channels": 1}, 4),
        ({"image_size": 32}, 4),
        ({"image_size": 64}, 8),
        ({"image_size": 65}, 2),
        ({"image_size": 23, "stem": "imagenet"}, 1),
        ({"image_size": 32, "stem": "imagenet"}, 1),
        ({"image_size": 224}, 7),
        ({"image_size": 299}, 10),
        ({"image_size": 17, "as_published": "seed3"}, 1),
        ({"image_size": 32, "as_published": "seed3"}, 1),
        ({"image_size": 224, "as_published": "seed3"}, 7),
    ],
)
def test_image_sizes(options, size):
    with torch.device("meta"):
        model = create("xception", **options)
        images = torch.empty(2, options.get("in_channels", 3), options["image_size"], options["image_size"])
        assert model.forward_features(images).shape == (2, 2048, size, size)


def test_dropout_acts_in_training_only():
    features = torch.ones(64, 2048, 1, 1)
    model = create("xception", num_classes=1)
    nn.init.ones_(model.classifier.weight)
    kept = model.forward_head(features) / 2048
    assert 0.95 < kept.mean() < 1.05
    assert kept.std() > 0.01
    assert model.eval().forward_head(features).eq(2048).all()
    assert model.dropout.p == 0.5


def test_the_shortcut_sees_its_input_before_the_relu():
    """An activation in place at the beginning of a block would change both."""
    torch.manual_seed(0)
    block = xception.Block(4, (4, 4), 1, first_relu=True, bias=False, shortcut_bn=True).eval()
    x = torch.randn(2, 4, 5, 5)
    before = x.clone()
    for bn in (block.branch.bn1, block.branch.bn2):
        nn.init.zeros_(bn.weight)
    assert torch.equal(block(x), before)
    assert torch.equal(x, before)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_size": 4}, "image_size: stem 'cifar' and the blocks' strides need at least 5, got 4"),
        (
            {"image_size": 22, "stem": "imagenet"},
            "image_size: stem 'imagenet' and the blocks' strides need at least 23, got 22",
        ),
        ({"image_size": 16, "as_published": "seed3"}, "need at least 17, got 16"),
        ({"drop_rate": 1.0}, "drop_rate: expected a number from 0 to under 1, got 1.0"),
        ({"drop_rate": None}, "drop_rate: expected a number, got "),
        ({"stem": "inception"}, "stem: expected 'cifar' or 'imagenet' or null, got 'inception'"),
        ({"as_published": "seed2"}, "as_published: expected 'seed3' or null, got 'seed2'"),
        ({"depth": 71}, "depth: unknown option"),
    ],
)
def test_mistakes(options, message):
    with pytest.raises(OptionError) as caught:
        create("xception", **options)
    assert str(caught.value).startswith("xception: ")
    assert message in str(caught.value)
