"""MobileNetV2 against a slow forward written from the paper with plain functions on the same weights."""

import pytest
import torch
from models.reference import assert_equal_to, assert_freshly_drawn, linear, params
from torch import nn
from torch.nn import functional as F

from pictorch.config.errors import OptionError
from pictorch.models import create
from pictorch.models.mobilenet_v2 import rounded

IMAGENET = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]
CIFAR = [(t, c, n, 1 if c == 24 else s) for t, c, n, s in IMAGENET]


def reference(conv, bn, state, images, stem_stride, stages):
    def relu6(x):
        return x.clamp(0, 6)

    x = relu6(bn(conv(images, "stem.conv", stem_stride), "stem.bn"))
    for i, (_, _, units, stride) in enumerate(stages):
        for j in range(units):
            unit, y = f"stages.{i}.{j}.branch", x
            if f"{unit}.expand.conv.weight" in state:
                y = relu6(bn(conv(y, f"{unit}.expand.conv"), f"{unit}.expand.bn"))
            y = relu6(bn(conv(y, f"{unit}.depthwise.conv", stride if j == 0 else 1), f"{unit}.depthwise.bn"))
            y = bn(conv(y, f"{unit}.project.conv"), f"{unit}.project.bn")
            # Units after the first of a stage; the first ones change the channels or the size.
            x = x + y if j > 0 else y
    x = relu6(bn(conv(x, "last.conv"), "last.bn"))
    return linear(F.adaptive_avg_pool2d(x, 1).flatten(1), state)


@pytest.mark.parametrize("training", [False, True], ids=["evaluation", "training"])
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"width": 0.5}, {"stem_stride": 1, "stages": CIFAR}),
        ({"width": 0.5, "stem": "imagenet"}, {"stem_stride": 2, "stages": IMAGENET}),
        ({"width": 0.5, "as_published": "seed3"}, {"stem_stride": 2, "stages": IMAGENET}),
    ],
)
def test_forward_and_gradients_equal_the_reference(options, expected, training):
    torch.manual_seed(0)
    model = create("mobilenet_v2", **options)
    assert_equal_to(reference, model, torch.randn(2, 3, 32, 32), training=training, **expected)


@pytest.mark.parametrize(("stem", "residual"), [("cifar", True), ("imagenet", False)])
def test_stride_and_channels_decide_about_the_shortcut(stem, residual):
    """At width 0.25 the first two stages both have 8 channels: the second's first unit can add unless it strides."""
    model = create("mobilenet_v2", width=0.25, stem=stem)
    assert [unit.residual for unit in model.stages[1]] == [residual, True]
    assert [unit.residual for unit in model.stages[6]] == [False]


def test_activations_end_at_six_and_projections_are_linear():
    torch.manual_seed(0)
    model = create("mobilenet_v2", width=0.35).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.constant_(module.weight, 50)
    features = model.forward_features(torch.randn(2, 3, 32, 32))
    assert (features.min(), features.max()) == (0, 6)
    projected = model.stages[0](model.stem(torch.randn(2, 3, 32, 32)))
    assert projected.min() < -6
    assert projected.max() > 6


@pytest.mark.parametrize(
    ("channels", "expected"),
    # Halves up; down only as far as 90% are left; never under 8.
    [(8, 8), (11.2, 16), (12, 16), (33.6, 32), (44.8, 48), (5.6, 8), (1, 8), (18, 24), (22.4, 24), (1792, 1792)],
)
def test_rounding_to_multiples_of_eight(channels, expected):
    assert rounded(channels) == expected


def counted(width, num_classes, in_channels):
    """Return the parameters, from the paper's table 2."""

    def of(channels):
        near = min(range(8, 100_000, 8), key=lambda c: (abs(c - channels * width), -c))
        return near + 8 if near < 0.9 * channels * width else near

    before = of(32)
    total = before * 9 * in_channels + 2 * before
    for t, c, n, _ in IMAGENET:
        for _ in range(n):
            inner = t * before
            total += (before * inner + 2 * inner if t > 1 else 0) + 9 * inner + 2 * inner + inner * of(c) + 2 * of(c)
            before = of(c)
    last = max(1280, of(1280))
    return total + before * last + 2 * last + last * num_classes + num_classes


@pytest.mark.parametrize("width", [1.4, 1, 0.75, 0.5, 0.35, 1.3, 0.25])
@pytest.mark.parametrize(("num_classes", "in_channels", "image_size"), [(10, 3, 32), (100, 1, 28), (1000, 3, 224)])
def test_parameters(width, num_classes, in_channels, image_size):
    sizes = {"num_classes": num_classes, "in_channels": in_channels, "image_size": image_size}
    with torch.device("meta"):
        model = create("mobilenet_v2", width=width, **sizes)
    assert params(model) == counted(width, num_classes, in_channels)


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("mobilenet_v2_140", {"num_classes": 1000, "image_size": 224}, 6_108_776),
        ("mobilenet_v2_050", {"num_classes": 1000, "image_size": 224}, 1_968_680),
        ("mobilenet_v2_035", {"num_classes": 1000, "image_size": 224}, 1_677_128),
        ("mobilenet_v2", {"as_published": "seed3"}, 2_237_760),
        ("mobilenet_v2", {"as_published": "seed3", "num_classes": 100}, 2_352_960),
    ],
)
def test_published_counts(name, options, expected):
    with torch.device("meta"):
        assert params(create(name, **options)) == expected


@pytest.mark.parametrize(
    ("options", "size"),
    [
        ({}, 4),
        ({"stem": "imagenet"}, 1),
        ({"as_published": "seed3"}, 1),
        ({"as_published": "seed3", "stem": "cifar"}, 4),
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
        model = create("mobilenet_v2", **options)
        assert model.forward_features(torch.zeros(2, channels, image_size, image_size)).shape == (2, 1280, size, size)


@pytest.mark.parametrize("mode", ["fan_out", "fan_in"])
def test_initial_weights(mode):
    torch.manual_seed(0)
    assert_freshly_drawn(create("mobilenet_v2", width=0.5, init=mode), mode)


def test_dropout_is_before_the_last_layer_and_in_training_only():
    model = create("mobilenet_v2", width=0.35, drop_rate=0.5)
    features = torch.rand(4, 1280, 2, 2)
    torch.manual_seed(1)
    logits = model.forward_head(features)
    torch.manual_seed(1)
    assert torch.equal(logits, model.classifier(F.dropout(features.mean((2, 3)), 0.5)))
    assert torch.equal(model.eval().forward_head(features), model.classifier(features.mean((2, 3))))


def test_a_new_last_layer_has_a_bias_where_the_old_one_has():
    for seed, bias in ((None, True), ("seed3", False)):
        model = create("mobilenet_v2", width=0.35, as_published=seed)
        model.reset_classifier(3)
        assert (model.classifier.bias is not None) == bias


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": -1}, "mobilenet_v2: width: expected a number above 0 and up to 50, got -1"),
        ({"width": "wide"}, "width: expected a number, got 'wide'"),
        ({"drop_rate": 1.5}, "drop_rate: expected a number from 0 to under 1, got 1.5"),
        (
            {"image_size": 4},
            "image_size: stem 'cifar' with the stages after it halves 3 times and needs at least 5, got 4",
        ),
        ({"image_size": 16, "stem": "imagenet"}, "halves 5 times and needs at least 17, got 16"),
        ({"stem": "mnist"}, "stem: expected 'cifar' or 'imagenet' or null, got 'mnist'"),
        ({"as_published": "seed2"}, "as_published: expected 'seed3' or null, got 'seed2'"),
    ],
)
def test_impossible_networks(options, message):
    with pytest.raises(OptionError) as caught:
        create("mobilenet_v2", **options)
    assert message in str(caught.value)
