"""VGG against a slow forward written from the paper with plain functions on the same weights."""

import pytest
import torch
from models.reference import assert_equal_to, assert_freshly_drawn, params
from torch import nn
from torch.nn import functional as F

from pictorch.config.errors import OptionError
from pictorch.models import create


def reference(conv, bn, state, x, *, stages, batch_norm, side=1, hidden=False, relus_of_seed1=False):
    for i, convolutions in enumerate(stages):
        position = 0
        for j in range(convolutions):
            x = conv(x, f"stages.{i}.{position}")
            position += 1
            if batch_norm:
                x = bn(x, f"stages.{i}.{position}")
                position += 1
            if j == 0 or not relus_of_seed1:
                x = torch.relu(x)
                position += 1
        x = F.max_pool2d(x, 2)
    x = F.adaptive_avg_pool2d(x, side).flatten(1)
    for layer in ("head.0", "head.3") if hidden else ():
        x = torch.relu(x @ state[f"{layer}.weight"].T + state[f"{layer}.bias"])
    return x @ state["classifier.weight"].T + state["classifier.bias"]


SMALL = {"layers": [1, 2], "base_channels": 4}
CASES = {
    "the paper's": ({**SMALL, "batch_norm": False}, {"batch_norm": False}),
    "with BN": ({**SMALL, "batch_norm": True}, {"batch_norm": True}),
    "hidden layers": (
        {**SMALL, "batch_norm": True, "head": "fc512", "drop_rate": 0.0},
        {"batch_norm": True, "hidden": True, "side": 4},
    ),
    "five ReLUs": ({**SMALL, "as_published": "seed1"}, {"batch_norm": True, "relus_of_seed1": True}),
}


@pytest.mark.parametrize("training", [False, True], ids=["evaluation", "training"])
@pytest.mark.parametrize(("options", "expected"), CASES.values(), ids=CASES.keys())
def test_forward_and_gradients_equal_the_reference(options, expected, training):
    torch.manual_seed(0)
    model = create("vgg", image_size=16, **options)
    assert_equal_to(reference, model, torch.randn(3, 3, 16, 16), training=training, stages=(1, 2), **expected)


def on_meta(**options):
    with torch.device("meta"):
        return create("vgg", **options)


def count(model, kind):
    return sum(isinstance(module, kind) for module in model.modules())


def test_the_vgg_like_network_of_seed_1_has_five_relus():
    with torch.device("meta"):
        ours, theirs = create("vgg_15"), create("vgg_15", as_published="seed1")
    assert (count(ours, nn.ReLU), count(theirs, nn.ReLU)) == (13, 5)
    assert params(ours) == params(theirs) == 14_728_266
    for stage in theirs.stages:
        assert [type(layer).__name__ for layer in list(stage)[:3]] == ["Conv2d", "BatchNorm2d", "ReLU"]


def test_dropout_stands_behind_the_hidden_layers():
    head = on_meta(depth=11, head="fc4096").head
    assert [type(layer).__name__ for layer in head] == ["Linear", "ReLU", "Dropout"] * 2
    assert [layer.p for layer in head if isinstance(layer, nn.Dropout)] == [0.5, 0.5]
    assert len(on_meta(depth=11).head) == 0
    assert [layer.p for layer in on_meta(depth=11, drop_rate=0.2).head] == [0.2]


@pytest.mark.parametrize(("depth", "params_of_seed3"), [(11, 28_146_762), (13, 28_331_466), (16, 33_642_442)])
def test_as_published_in_seed_3(depth, params_of_seed3):
    model = on_meta(depth=depth, as_published="seed3")
    assert params(model) == params_of_seed3
    assert all(module.bias is None for module in model.modules() if isinstance(module, nn.Conv2d))


@pytest.mark.parametrize(
    ("name", "head", "num_classes", "expected"),
    [
        ("vgg13_bn", "linear", 10, 9_416_010),
        ("vgg13_bn", "fc512", 10, 9_941_322),
        ("vgg13_bn", "fc4096", 10, 28_334_410),
        ("vgg11_bn", "fc4096", 100, 28_518_244),
        ("vgg19_bn", "fc4096", 100, 39_327_652),
    ],
)
def test_counts_beside_the_reference_file(name, head, num_classes, expected):
    with torch.device("meta"):
        assert params(create(name, head=head, num_classes=num_classes)) == expected


@pytest.mark.parametrize("mode", ["fan_out", "fan_in"])
def test_initial_weights(mode):
    torch.manual_seed(0)
    assert_freshly_drawn(create("vgg", layers=[1, 2], base_channels=32, batch_norm=True, head="fc512", init=mode), mode)


def test_initial_weights_as_published():
    torch.manual_seed(0)
    for module in create("vgg", layers=[1, 1], as_published="seed1").modules():
        if isinstance(module, nn.BatchNorm2d):
            assert 0 <= module.weight.min() < 0.1 < 0.9 < module.weight.max() < 1
    for module in create("vgg", layers=[1, 1], as_published="seed3").modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            assert abs(module.weight.std() - 0.1) < 0.01


def test_the_head_follows_the_image_size():
    assert len(on_meta(depth=11, image_size=64).head) == 0
    large = on_meta(depth=11, image_size=224)
    assert large.head[0].in_features == 25_088
    assert on_meta(depth=11, image_size=96).head[0].in_features == 512 * 9
    assert on_meta(depth=11, head="fc4096").head[0].in_features == 512
    assert on_meta(depth=11, image_size=448).head[0].in_features == 25_088


@pytest.mark.parametrize(("layers", "image_size"), [([1, 1, 1], 8), ([2, 2, 3, 3], 28), ([2, 2, 3, 3, 3], 33)])
def test_image_sizes(layers, image_size):
    model = create("vgg", layers=layers, base_channels=4, in_channels=1, image_size=image_size).eval()
    assert model(torch.randn(2, 1, image_size, image_size)).shape == (2, 10)


def test_other_sizes_than_the_one_it_was_built_for():
    model = create("vgg", layers=[1, 1], base_channels=4, head="fc512", image_size=16).eval()
    assert model(torch.randn(2, 3, 24, 20)).shape == (2, 10)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "vgg: depth: required; valid are 11, 13, 16, 19, or give layers"),
        ({"depth": 15}, "vgg: depth: VGG has 11, 13, 16, 19, got 15; or give layers"),
        ({"depth": 16, "layers": [1]}, "vgg: layers: give either depth or layers, got depth 16 and layers [1]"),
        ({"layers": []}, "expected 1 to 10 stages of 1 to 1,000 convolutions, got []"),
        ({"layers": [2, 0]}, "expected 1 to 10 stages of 1 to 1,000 convolutions, got [2, 0]"),
        ({"layers": [1001]}, "expected 1 to 10 stages of 1 to 1,000 convolutions, got [1001]"),
        ({"layers": "22"}, "vgg: layers: expected a list of whole numbers or null, got '22'"),
        ({"depth": 16, "image_size": 28}, "vgg: image_size: 5 poolings need at least 32, got 28"),
        ({"layers": [1], "image_size": 1}, "vgg: image_size: 1 poolings need at least 2, got 1"),
        ({"depth": 16, "base_channels": 0}, "vgg: base_channels: expected a whole number of at least 1, got 0"),
        ({"depth": 16, "drop_rate": 1.0}, "vgg: drop_rate: "),
        ({"depth": 16, "head": "fc"}, "vgg: head: expected 'linear' or 'fc512' or 'fc4096' or null, got 'fc'"),
        ({"depth": 16, "as_published": "seed2"}, "as_published: expected 'seed1' or 'seed3' or null, got 'seed2'"),
    ],
)
def test_impossible_networks(options, message):
    with pytest.raises(OptionError) as caught:
        create("vgg", **options)
    assert message in str(caught.value)
