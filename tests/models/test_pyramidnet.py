"""PyramidNet against a slow forward written from the paper with plain functions on the same weights."""

import pytest
import torch
from models.reference import assert_equal_to, assert_freshly_drawn, params
from torch import nn
from torch.nn import functional as F

from pictorch.config.errors import OptionError
from pictorch.models import create
from pictorch.models.pyramidnet import widths


def reference(conv, bn, state, x, *, units, strides=(1, 2, 2), stem="cifar"):
    if stem == "cifar":
        x = bn(conv(x, "stem.conv"), "stem.bn")
    else:
        x = F.max_pool2d(torch.relu(bn(conv(x, "stem.conv", 2), "stem.bn")), 3, 2, 1)
    for i, count in enumerate(units):
        for j in range(count):
            unit = f"stages.{i}.{j}.branch"
            stride = strides[i] if j == 0 else 1
            y = bn(x, f"{unit}.bn1")
            if f"{unit}.conv3.weight" in state:
                y = conv(y, f"{unit}.conv1")
                y = conv(torch.relu(bn(y, f"{unit}.bn2")), f"{unit}.conv2", stride)
                y = conv(torch.relu(bn(y, f"{unit}.bn3")), f"{unit}.conv3")
            else:
                y = conv(y, f"{unit}.conv1", stride)
                y = conv(torch.relu(bn(y, f"{unit}.bn2")), f"{unit}.conv2")
            y = bn(y, f"{unit}.last_bn")
            if stride == 2:
                x = F.avg_pool2d(x, 2, 2, ceil_mode=True)
            missing = y.shape[1] - x.shape[1]
            x = y + torch.cat([x, x.new_zeros(len(x), missing, *x.shape[2:])], 1)
    x = F.adaptive_avg_pool2d(torch.relu(bn(x, "bn")), 1).flatten(1)
    return x @ state["classifier.weight"].T + state["classifier.bias"]


CASES = {
    "basic": ({"depth": 14, "alpha": 7, "base_channels": 4}, {"units": (2, 2, 2)}),
    "bottleneck": ({"depth": 20, "alpha": 9, "block_type": "bottleneck", "base_channels": 4}, {"units": (2, 2, 2)}),
    "stem of seed 1": (
        {"depth": 11, "alpha": 9, "block_type": "bottleneck", "base_channels": 4, "as_published": "seed1"},
        {"units": (1, 1, 1)},
    ),
    "imagenet": (
        {"layout": "imagenet", "depth": 18, "alpha": 16, "base_channels": 4, "stem": "imagenet"},
        {"units": (2, 2, 2, 2), "strides": (1, 2, 2, 2), "stem": "imagenet"},
    ),
}


@pytest.mark.parametrize("size", [32, 27])
@pytest.mark.parametrize("training", [False, True], ids=["evaluation", "training"])
@pytest.mark.parametrize(("options", "expected"), CASES.values(), ids=CASES.keys())
def test_forward_and_gradients_equal_the_reference(options, expected, training, size):
    torch.manual_seed(0)
    assert_equal_to(
        reference, create("pyramidnet", **options), torch.randn(3, 3, size, size), training=training, **expected
    )


def test_widths():
    # The first four and the last two of the networks of the paper's tables.
    assert widths(16, 84, 54)[:4] + widths(16, 84, 54)[-2:] == [18, 19, 21, 22, 98, 100]
    assert widths(16, 48, 54)[:4] + widths(16, 48, 54)[-2:] == [17, 18, 19, 20, 63, 64]
    assert widths(16, 270, 54)[:3] + widths(16, 270, 54)[-1:] == [21, 26, 31, 286]
    assert widths(16, 200, 90)[:4] + widths(16, 200, 90)[-2:] == [18, 20, 23, 25, 214, 216]
    assert widths(64, 300, 66)[:3] + widths(64, 300, 66)[-1:] == [69, 73, 78, 364]
    # A half is rounded up.
    assert widths(16, 1, 2) == [17, 17]
    # The third is 78.5, but the sum that the authors' code carries is less.
    assert widths(16, 250, 12)[2] == 78


@pytest.mark.parametrize(("units", "alpha"), [(54, 84), (27, 110), (24, 110), (12, 250), (90, 200), (18, 45)])
def test_widths_are_rounded_from_the_carried_sum(units, alpha):
    carried, expected = 16.0, []
    for _ in range(units):
        carried += alpha / units
        expected.append(int(carried + 0.5))
    assert widths(16, alpha, units) == expected


@pytest.mark.parametrize(("depth", "alpha", "features"), [(110, 84, 100), (164, 270, 1144), (272, 200, 864)])
def test_features(depth, alpha, features):
    with torch.device("meta"):
        model = create(f"pyramidnet_{depth}_a{alpha}")
    assert model.feature_dim == features


def test_no_relu_behind_the_stem_nor_the_first_normalisation():
    with torch.device("meta"):
        model = create("pyramidnet", depth=8, alpha=3)
    assert [type(layer).__name__ for layer in model.stem] == ["Conv2d", "BatchNorm2d"]
    names = [type(layer).__name__ for layer in model.stages[0][0].branch]
    assert names == ["BatchNorm2d", "Conv2d", "BatchNorm2d", "ReLU", "Conv2d", "BatchNorm2d"]


@pytest.mark.parametrize("mode", ["fan_out", "fan_in"])
def test_initial_weights(mode):
    torch.manual_seed(0)
    assert_freshly_drawn(create("pyramidnet", depth=8, alpha=12, init=mode), mode)


def test_as_published():
    def size(**options):
        with torch.device("meta"):
            return params(create("pyramidnet", depth=164, alpha=270, block_type="bottleneck", **options))

    assert (size(), size(as_published="seed2")) == (27_216_021, 27_216_021)
    assert size(as_published="seed1") == 27_218_517


@pytest.mark.parametrize(("in_channels", "image_size"), [(1, 8), (1, 28), (3, 33), (3, 3)])
def test_image_sizes(in_channels, image_size):
    model = create("pyramidnet", depth=8, alpha=3, in_channels=in_channels, image_size=image_size).eval()
    assert model(torch.randn(2, in_channels, image_size, image_size)).shape == (2, 10)


def test_large_images():
    with torch.device("meta"):
        model = create("pyramidnet200_a300", image_size=224, num_classes=1000)
        assert model(torch.zeros(1, 3, 224, 224)).shape == (1, 1000)
    assert model.feature_dim == 1456
    assert sum(isinstance(m, nn.Conv2d) for m in model.modules()) == 1 + 3 * 66


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": 48}, "pyramidnet: depth: required; layout 'cifar' with basic units has depths 6n+2"),
        ({"depth": 20}, "pyramidnet: alpha: required; the paper's are 48, 84 and 270 with depth 110"),
        ({"depth": 111, "alpha": 48}, "depths 6n+2, got 111; nearest: 110, 116"),
        ({"depth": 100, "alpha": 48, "block_type": "bottleneck"}, "depths 9n+2, got 100; nearest: 92, 101"),
        ({"layout": "imagenet", "alpha": 48}, "layout 'imagenet' has 18, 34, 50, 101, 152, 200; required"),
        (
            {"layout": "imagenet", "depth": 200, "alpha": 48, "block_type": "basic"},
            "layout 'imagenet' with block_type 'basic' has 18, 34; got 200",
        ),
        ({"depth": 20, "alpha": 0}, "alpha: expected a whole number of at least 1, got 0"),
        ({"depth": 20, "alpha": 1.5}, "alpha: expected a whole number or null, got 1.5"),
        (
            {"depth": 20, "alpha": 4, "base_channels": -1},
            "base_channels: expected a whole number of at least 1, got -1",
        ),
        ({"depth": 20, "alpha": 4, "image_size": 2}, "halves 2 times and needs at least 3, got 2"),
        ({"depth": 20, "alpha": 4, "as_published": "seed3"}, "expected 'seed1' or 'seed2' or null, got 'seed3'"),
    ],
)
def test_impossible_networks(options, message):
    with pytest.raises(OptionError) as caught:
        create("pyramidnet", **options)
    assert message in str(caught.value)
