"""ResNet against a slow forward written from the paper with plain functions on the same weights."""

import pytest
import torch
from torch.nn import functional as F

from pictorch.config.errors import OptionError
from pictorch.models import create


def reference(state, images, *, stages, stem="cifar", strides=(2, 1), shortcut="A", training=False):
    """Return logits. `stages`: (units, channels put out, stride) of each; `strides`: of conv1, conv2 where it is 2."""

    def bn(x, name):
        mean, var = state[f"{name}.running_mean"].clone(), state[f"{name}.running_var"].clone()
        return F.batch_norm(x, mean, var, state[f"{name}.weight"], state[f"{name}.bias"], training)

    def conv(x, name, stride=1):
        weight = state[f"{name}.weight"]
        return F.conv2d(x, weight, stride=stride, padding=weight.shape[2] // 2)

    def squeeze_and_excite(y, name):
        hidden = torch.relu(F.linear(y.flatten(2).mean(2), state[f"{name}.fc1.weight"], state[f"{name}.fc1.bias"]))
        gate = torch.sigmoid(F.linear(hidden, state[f"{name}.fc2.weight"], state[f"{name}.fc2.bias"]))
        return torch.einsum("nchw,nc->nchw", y, gate)

    if stem == "cifar":
        x = torch.relu(bn(conv(images, "stem.conv"), "stem.bn"))
    else:
        x = torch.relu(bn(conv(images, "stem.conv", 2), "stem.bn"))
        x = F.max_pool2d(x, kernel_size=3, stride=2, padding=1)
    for i, (units, channels, stride) in enumerate(stages):
        for j in range(units):
            unit = f"stages.{i}.{j}"
            s = stride if j == 0 else 1
            s1, s2 = strides if s == 2 else (1, 1)
            y = torch.relu(bn(conv(x, f"{unit}.branch.conv1", s1), f"{unit}.branch.bn1"))
            y = bn(conv(y, f"{unit}.branch.conv2", s2), f"{unit}.branch.bn2")
            if f"{unit}.branch.conv3.weight" in state:
                y = bn(conv(torch.relu(y), f"{unit}.branch.conv3"), f"{unit}.branch.bn3")
            if f"{unit}.branch.se.fc1.weight" in state:
                y = squeeze_and_excite(y, f"{unit}.branch.se")
            if x.shape[1] != channels and shortcut == "A":
                x = F.avg_pool2d(x, kernel_size=1, stride=s)
                x = torch.cat([x, torch.zeros(len(x), channels - x.shape[1], *x.shape[2:], dtype=x.dtype)], 1)
            elif x.shape[1] != channels:
                x = bn(conv(x, f"{unit}.shortcut.conv", s), f"{unit}.shortcut.bn")
            x = torch.relu(y + x)
    x = F.adaptive_avg_pool2d(x, 1).flatten(1)
    return x @ state["classifier.weight"].T + state["classifier.bias"]


BOTTLENECK = {"depth": 20, "block_type": "bottleneck", "base_channels": 4}
BASIC_18 = {"layout": "imagenet", "depth": 18, "base_channels": 4}
BOTTLENECK_50 = {"layout": "imagenet", "depth": 50, "base_channels": 4}
CIFAR_20 = [(2, 16, 1), (2, 32, 2), (2, 64, 2)]
FOUR = [(3, 16, 1), (4, 32, 2), (6, 64, 2), (3, 128, 2)]
CASES = {
    "basic A": ({"depth": 14}, {"stages": CIFAR_20}),
    "basic B": ({"depth": 14, "shortcut": "B"}, {"stages": CIFAR_20, "shortcut": "B"}),
    "bottleneck B": (BOTTLENECK, {"stages": CIFAR_20, "strides": (1, 2), "shortcut": "B"}),
    "bottleneck A": ({**BOTTLENECK, "shortcut": "A"}, {"stages": CIFAR_20, "strides": (1, 2)}),
    "stride in 1x1": ({**BOTTLENECK, "stride_in_1x1": True}, {"stages": CIFAR_20, "shortcut": "B"}),
    "imagenet basic": (
        {**BASIC_18, "stem": "imagenet"},
        {"stages": [(2, 4, 1), (2, 8, 2), (2, 16, 2), (2, 32, 2)], "stem": "imagenet", "shortcut": "B"},
    ),
    "imagenet wide bottleneck, cifar stem": (
        {**BOTTLENECK_50, "width_per_group": 8},
        {"stages": FOUR, "strides": (1, 2), "shortcut": "B"},
    ),
    "cifar layout, imagenet stem": ({"depth": 14, "stem": "imagenet"}, {"stages": CIFAR_20, "stem": "imagenet"}),
    "as published": (
        {**BOTTLENECK_50, "as_published": "seed2", "base_channels": 8},
        {"stages": [(3, 8, 1), (4, 64, 2), (6, 128, 2), (3, 256, 2)], "strides": (1, 2), "shortcut": "B"},
    ),
    "SE basic A": ({"depth": 14, "se_reduction": 4}, {"stages": CIFAR_20}),
    "SE bottleneck B": (
        {**BOTTLENECK, "se_reduction": 2},
        {"stages": CIFAR_20, "strides": (1, 2), "shortcut": "B"},
    ),
}


@pytest.mark.parametrize("training", [False, True], ids=["evaluation", "training"])
@pytest.mark.parametrize(("options", "expected"), CASES.values(), ids=CASES.keys())
def test_forward_and_gradients_equal_the_reference(options, expected, training):
    torch.manual_seed(0)
    family = "se_resnet" if "se_reduction" in options else "resnet"
    model = create(family, **options).double().train(training)
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            if "bn" in name:
                tensor.add_(torch.rand_like(tensor) - 0.5)
        for name, tensor in model.named_buffers():
            if "running" in name:
                tensor.add_(torch.rand_like(tensor) * 0.5)
    images = torch.randn(3, 3, 32, 32, dtype=torch.double)
    parameters = dict(model.named_parameters())
    state = {**dict(model.named_buffers()), **parameters}

    wanted = reference(state, images, training=training, **expected)
    wanted_gradients = torch.autograd.grad(wanted.square().sum(), list(parameters.values()))
    logits = model(images)
    gradients = torch.autograd.grad(logits.square().sum(), list(parameters.values()))
    torch.testing.assert_close(logits, wanted, rtol=1e-9, atol=1e-9)
    for name, ours, theirs in zip(parameters, gradients, wanted_gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6, msg=lambda m, name=name: f"{name}: {m}")


def test_as_published_leaves_the_first_stage_narrow():
    stage = create("resnet", depth=11, block_type="bottleneck", as_published="seed1").stages[0]
    assert [c.out_channels for c in stage[0].branch if isinstance(c, torch.nn.Conv2d)] == [4, 4, 16]
    assert isinstance(stage[0].shortcut, torch.nn.Identity)


def test_imagenet_depths_choose_their_units():
    with torch.device("meta"):
        assert create("resnet34").feature_dim == 512
        assert create("resnet50").feature_dim == 2048
        assert create("resnet_20", width_per_group=16).feature_dim == 64


def parameters(family, **options):
    with torch.device("meta"):
        return sum(p.numel() for p in create(family, **options).parameters())


# Of seed document 3's CIFAR-100 table, beside those of architectures.json.
@pytest.mark.parametrize(
    ("name", "params"),
    [("resnet34", 21_328_292), ("resnet50", 23_705_252), ("resnet101", 42_697_380), ("resnet152", 58_341_028)],
)
def test_networks_of_the_seed_tables(name, params):
    assert parameters(name, num_classes=100) == params


def test_squeeze_and_excitation_squeezes_to_a_sixteenth_unless_told():
    unit = create("se_resnet_20").stages[2][0].branch
    assert [type(layer).__name__ for layer in unit][-2:] == ["BatchNorm2d", "SqueezeExcitation"]
    assert (unit.se.fc1.out_features, unit.se.fc2.out_features) == (4, 64)
    assert unit.se.fc1.bias.eq(0).all()
    assert unit.se.fc1.weight.abs().max() <= 64**-0.5
    assert parameters("se_resnet", depth=20) == parameters("resnet", depth=20) + 3 * (49 + 162 + 580)
    assert parameters("se_resnet", depth=20, se_reduction=None) == parameters("se_resnet", depth=20)
    assert parameters("se_resnet", depth=20, se_reduction=8) > parameters("se_resnet", depth=20)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"depth": 20, "se_reduction": 0}, "se_reduction: expected a whole number of at least 1, got 0"),
        (
            {"depth": 20, "se_reduction": 17},
            "se_reduction: expected at most 16, the channels of the first stage, got 17",
        ),
        (
            {"depth": 20, "base_channels": 8},
            "se_reduction: expected at most 8, the channels of the first stage, got 16",
        ),
        ({"depth": 21}, "depth: layout 'cifar' with basic units has depths 6n+2, got 21; nearest: 20, 26"),
        ({}, "depth: required"),
    ],
)
@pytest.mark.parametrize("family", ["se_resnet", "se_resnet_preact"])
def test_impossible_squeezes(family, options, message):
    with pytest.raises(OptionError) as caught:
        create(family, **options)
    assert str(caught.value).startswith(f"{family}: {message}")


@pytest.mark.parametrize("family", ["resnet", "resnet_preact"])
def test_squeezing_is_of_another_family(family):
    with pytest.raises(OptionError, match=f"{family}: se_reduction: unknown option"):
        create(family, depth=20, se_reduction=16)
