"""ResNeXt against a slow forward: form C is as many small convolutions side by side as the cardinality says."""

from collections import Counter

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from pictorch.config.errors import OptionError
from pictorch.models import create
from pictorch.models.complexity import count


def reference(state, images, *, stages, cardinality, stem="cifar", training=False):
    """Return logits. `stages`: how many units each has."""

    def bn(x, name):
        mean, var = state[f"{name}.running_mean"].clone(), state[f"{name}.running_var"].clone()
        return F.batch_norm(x, mean, var, state[f"{name}.weight"], state[f"{name}.bias"], training)

    def conv(x, name, stride=1):
        weight = state[f"{name}.weight"]
        return F.conv2d(x, weight, state.get(f"{name}.bias"), stride, padding=weight.shape[2] // 2)

    def grouped(x, name, stride):
        weights, maps = state[f"{name}.weight"].chunk(cardinality), x.chunk(cardinality, 1)
        out = torch.cat([F.conv2d(m, w, None, stride, padding=1) for m, w in zip(maps, weights, strict=True)], 1)
        bias = state.get(f"{name}.bias")
        return out if bias is None else out + bias[:, None, None]

    x = torch.relu(bn(conv(images, "stem.conv", 1 if stem == "cifar" else 2), "stem.bn"))
    if stem == "imagenet":
        x = F.max_pool2d(x, kernel_size=3, stride=2, padding=1)
    for i, units in enumerate(stages):
        for j in range(units):
            unit = f"stages.{i}.{j}"
            stride = 2 if i > 0 and j == 0 else 1
            y = torch.relu(bn(conv(x, f"{unit}.branch.conv1"), f"{unit}.branch.bn1"))
            y = torch.relu(bn(grouped(y, f"{unit}.branch.conv2", stride), f"{unit}.branch.bn2"))
            y = bn(conv(y, f"{unit}.branch.conv3"), f"{unit}.branch.bn3")
            assert y.shape[1] == 256 << i
            if j == 0:
                x = bn(conv(x, f"{unit}.shortcut.conv", stride), f"{unit}.shortcut.bn")
            x = torch.relu(y + x)
    x = F.adaptive_avg_pool2d(x, 1).flatten(1)
    return x @ state["classifier.weight"].T + state["classifier.bias"]


CASES = {
    "cifar": ({"depth": 20, "cardinality": 3, "base_channels": 2}, {"stages": (2, 2, 2), "cardinality": 3}),
    "imagenet": (
        {"layout": "imagenet", "depth": 50, "cardinality": 4, "base_channels": 1, "stem": "imagenet"},
        {"stages": (3, 4, 6, 3), "cardinality": 4, "stem": "imagenet"},
    ),
    "biases of seed 3": (
        {"depth": 11, "cardinality": 2, "base_channels": 4, "as_published": "seed3"},
        {"stages": (1, 1, 1), "cardinality": 2},
    ),
}


@pytest.mark.parametrize("training", [False, True], ids=["evaluation", "training"])
@pytest.mark.parametrize(("options", "expected"), CASES.values(), ids=CASES.keys())
def test_forward_and_gradients_equal_the_reference(options, expected, training):
    torch.manual_seed(0)
    model = create("resnext", **options).double().train(training)
    with torch.no_grad():
        for name, tensor in (*model.named_parameters(), *model.named_buffers()):
            if name.endswith("bias") or ("bn" in name and "num_batches" not in name):
                tensor.add_(torch.rand_like(tensor) * 0.5)
    images = torch.randn(2, 3, 32, 32, dtype=torch.double)
    parameters = dict(model.named_parameters())
    state = {**dict(model.named_buffers()), **parameters}

    wanted = reference(state, images, training=training, **expected)
    wanted_gradients = torch.autograd.grad(wanted.square().sum(), list(parameters.values()))
    logits = model(images)
    gradients = torch.autograd.grad(logits.square().sum(), list(parameters.values()))
    torch.testing.assert_close(logits, wanted, rtol=1e-9, atol=1e-9)
    for name, ours, theirs in zip(parameters, gradients, wanted_gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6, msg=lambda m, name=name: f"{name}: {m}")


def test_groups_keep_their_width_however_many():
    with torch.device("meta"):
        model = create("resnext", depth=29, cardinality=16, base_channels=8)
    convolutions = [[unit.branch.conv2 for unit in stage] for stage in model.stages]
    assert [stage[0].out_channels for stage in convolutions] == [128, 256, 512]
    assert all(conv.groups == 16 for stage in convolutions for conv in stage)
    assert [stage[0].stride for stage in convolutions] == [(1, 1), (2, 2), (2, 2)]
    assert model.feature_dim == 1024


def test_the_layout_decides_the_groups():
    def groups(**options):
        with torch.device("meta"):
            conv = create("resnext", **options).stages[0][0].branch.conv2
        return conv.groups, conv.out_channels // conv.groups

    assert groups(depth=29) == (8, 64)
    assert groups(layout="imagenet", depth=50) == (32, 4)
    assert groups(depth=29, cardinality=4) == (4, 64)


def test_initial_weights():
    torch.manual_seed(0)
    model = create("resnext", depth=11, cardinality=4, base_channels=16, as_published="seed3")
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            # Torch's rule, which counts the channels of all groups
            fan_out = module.kernel_size[0] ** 2 * module.out_channels
            assert abs(module.weight.std() / (2 / fan_out) ** 0.5 - 1) < 5 / (2 * module.weight.numel()) ** 0.5
            assert module.bias.eq(0).all()
        elif isinstance(module, nn.BatchNorm2d):
            assert module.weight.eq(1).all()
    assert model.classifier.bias.eq(0).all()


@pytest.mark.parametrize(
    ("name", "num_classes", "as_published", "params"),
    [
        ("resnext_29_8x64d", 10, "seed1", 34_426_698),
        ("resnext_29_4x64d", 10, "seed2", 17_562_442),
        ("resnext_29_16x64d", 10, None, 68_155_210),
        ("resnext50_32x4d", 100, None, 23_177_124),
        ("resnext101_32x4d", 100, None, 42_325_924),
        ("resnext152_32x4d", 10, None, 57_915_210),
        ("resnext152_32x4d", 100, None, 58_099_620),
        ("resnext152_32x4d", 1000, None, 59_951_400),
        ("resnext50_32x4d", 10, "seed3", 23_026_826),
        ("resnext101_32x4d", 10, "seed3", 42_210_442),
        ("resnext152_32x4d", 10, "seed3", 58_014_858),
    ],
)
def test_networks_of_the_seed_tables(name, num_classes, as_published, params):
    with torch.device("meta"):
        image_size = 224 if num_classes == 1000 else 32
        model = create(name, num_classes=num_classes, image_size=image_size, as_published=as_published)
    assert sum(p.numel() for p in model.parameters()) == params


def test_layers_of_each_type():
    with torch.device("meta"):
        kinds = Counter(type(module) for module in create("resnext_29_8x64d").modules())
    assert (kinds[nn.Conv2d], kinds[nn.BatchNorm2d], kinds[nn.Linear]) == (31, 31, 1)


def test_one_group_is_a_resnet():
    with torch.device("meta"):
        ours = create("resnext", layout="imagenet", depth=50, cardinality=1, base_channels=64)
        resnet = create("resnet50")
    assert count(ours, in_channels=3, image_size=32) == count(resnet, in_channels=3, image_size=32)


@pytest.mark.parametrize(
    ("layout", "image_size", "side"),
    [("cifar", 3, 1), ("cifar", 8, 2), ("cifar", 28, 7), ("imagenet", 5, 1), ("imagenet", 64, 8), ("imagenet", 224, 7)],
)
def test_image_sizes(layout, image_size, side):
    depth = 11 if layout == "cifar" else 50
    with torch.device("meta"):
        model = create("resnext", layout=layout, depth=depth, in_channels=1, image_size=image_size)
        features = model.forward_features(torch.empty(2, 1, image_size, image_size))
    assert features.shape == (2, model.feature_dim, side, side)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "depth: required; valid are 9n+2 (20, 29, 38 ...) for layout 'cifar', 50, 101, 152 for layout 'imagenet'"),
        ({"layout": "imagenet"}, "depth: required"),
        ({"depth": 28}, "depth: layout 'cifar' has depths 9n+2, got 28; nearest: 20, 29"),
        ({"depth": 50}, "got 50; nearest: 47, 56; layout 'imagenet' has 50"),
        ({"depth": 18}, "got 18; nearest: 11, 20"),
        ({"depth": 0}, "got 0; nearest: 11"),
        ({"depth": 18, "layout": "imagenet"}, "depth: layout 'imagenet' has 50, 101, 152, got 18"),
        ({"depth": 29, "cardinality": 0}, "cardinality: expected a whole number of at least 1, got 0"),
        ({"depth": 29, "base_channels": -4}, "base_channels: expected a whole number of at least 1, got -4"),
        ({"depth": 29, "cardinality": True}, "cardinality: expected a whole number or null, got true"),
        (
            {"depth": 29, "cardinality": 1000, "base_channels": 1000},
            "cardinality x base_channels: expected a whole number of at most 100,000, got 1e+06",
        ),
        ({"depth": 29, "image_size": 2}, "layout 'cifar' with stem 'cifar' halves 2 times and needs at least 3, got 2"),
        (
            {"depth": 50, "layout": "imagenet", "stem": "imagenet", "image_size": 16},
            "halves 5 times and needs at least 17, got 16",
        ),
        ({"depth": 29, "block_type": "basic"}, "block_type: unknown option"),
    ],
)
def test_impossible_networks(options, message):
    with pytest.raises(OptionError) as caught:
        create("resnext", **options)
    assert str(caught.value).startswith("resnext: ")
    assert message in str(caught.value)
    assert "basic units" not in str(caught.value)
