"""Pre-activation ResNet against a slow forward written from the paper with plain functions on the same weights."""

import pytest
import torch
from torch.nn import functional as F

from pictorch.config.errors import OptionError
from pictorch.models import create
from pictorch.models.complexity import count


def reference(
    state,
    images,
    *,
    stages,
    shared=(True, True, True, True),
    stem="cifar",
    first_has_preact=True,
    first_relu=True,
    last_bn=False,
    strides=(2, 1),
    shortcut="A",
    training=False,
):
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
        x = conv(images, "stem.conv")
    else:
        x = torch.relu(bn(conv(images, "stem.conv", 2), "stem.bn"))
        x = F.max_pool2d(x, kernel_size=3, stride=2, padding=1)
    for i, (units, channels, stride) in enumerate(stages):
        for j in range(units):
            unit = f"stages.{i}.{j}"
            s = stride if j == 0 else 1
            s1, s2 = strides if s == 2 else (1, 1)
            both = j == 0 and shared[i]
            if i == 0 and j == 0 and not first_has_preact:
                y = x
            else:
                y = bn(x, f"{unit}.preact.bn")
                if first_relu or both:
                    y = torch.relu(y)
                if both:
                    x = y
            y = conv(y, f"{unit}.branch.conv1", s1)
            y = conv(torch.relu(bn(y, f"{unit}.branch.bn2")), f"{unit}.branch.conv2", s2)
            if f"{unit}.branch.conv3.weight" in state:
                y = conv(torch.relu(bn(y, f"{unit}.branch.bn3")), f"{unit}.branch.conv3")
            if last_bn:
                y = bn(y, f"{unit}.branch.last_bn")
            if f"{unit}.branch.se.fc1.weight" in state:
                y = squeeze_and_excite(y, f"{unit}.branch.se")
            if x.shape[1] != channels and shortcut == "A":
                x = F.avg_pool2d(x, kernel_size=1, stride=s)
                x = torch.cat([x, torch.zeros(len(x), channels - x.shape[1], *x.shape[2:], dtype=x.dtype)], 1)
            elif x.shape[1] != channels:
                x = conv(x, f"{unit}.shortcut", s)
            x = y + x
    x = F.adaptive_avg_pool2d(torch.relu(bn(x, "bn")), 1).flatten(1)
    return x @ state["classifier.weight"].T + state["classifier.bias"]


BOTTLENECK = {"depth": 20, "block_type": "bottleneck", "base_channels": 4}
IMAGENET = {"layout": "imagenet", "depth": 18, "base_channels": 4, "stem": "imagenet"}
THREE = [(2, 16, 1), (2, 32, 2), (2, 64, 2)]
FOUR = [(2, 4, 1), (2, 8, 2), (2, 16, 2), (2, 32, 2)]
CASES = {
    "basic A": ({"depth": 14}, {"stages": THREE}),
    "basic B": ({"depth": 14, "shortcut": "B"}, {"stages": THREE, "shortcut": "B"}),
    "preact in the first stage only": (
        {"depth": 14, "shortcut": "B", "preact_stage": [True, False, False]},
        {"stages": THREE, "shortcut": "B", "shared": (True, False, False)},
    ),
    "no shared preact, no first ReLU": (
        {"depth": 14, "preact_stage": [False, False, False], "remove_first_relu": True},
        {"stages": THREE, "shared": (False, False, False), "first_relu": False},
    ),
    "no first ReLU, last BN": (
        {"depth": 14, "shortcut": "B", "remove_first_relu": True, "add_last_bn": True},
        {"stages": THREE, "shortcut": "B", "first_relu": False, "last_bn": True},
    ),
    "bottleneck": (BOTTLENECK, {"stages": THREE, "strides": (1, 2), "shortcut": "B"}),
    "bottleneck A, stride in 1x1": (
        {
            **BOTTLENECK,
            "shortcut": "A",
            "stride_in_1x1": True,
            "add_last_bn": True,
            "preact_stage": (False, True, False),
        },
        {"stages": THREE, "last_bn": True, "shared": (False, True, False)},
    ),
    "imagenet": (IMAGENET, {"stages": FOUR, "stem": "imagenet", "first_has_preact": False, "shortcut": "B"}),
    "imagenet, last BN, no first ReLU": (
        {**IMAGENET, "add_last_bn": True, "remove_first_relu": True, "preact_stage": [True, False, True, False]},
        {
            "stages": FOUR,
            "stem": "imagenet",
            "first_has_preact": False,
            "first_relu": False,
            "last_bn": True,
            "shared": (True, False, True, False),
            "shortcut": "B",
        },
    ),
    "imagenet as published": (
        {**IMAGENET, "as_published": "seed2"},
        {"stages": FOUR, "stem": "imagenet", "shortcut": "B"},
    ),
    "imagenet layout, cifar stem": ({**IMAGENET, "stem": "cifar"}, {"stages": FOUR, "shortcut": "B"}),
    "bottleneck as published": (
        {**BOTTLENECK, "base_channels": 8, "as_published": "seed1"},
        {"stages": [(2, 8, 1), (2, 64, 2), (2, 128, 2)], "strides": (1, 2), "shortcut": "B"},
    ),
    "SE": (
        {"depth": 14, "se_reduction": 4, "shortcut": "B", "preact_stage": [True, False, False]},
        {"stages": THREE, "shortcut": "B", "shared": (True, False, False)},
    ),
    "SE after the last BN": (
        {**BOTTLENECK, "se_reduction": 2, "add_last_bn": True, "remove_first_relu": True},
        {"stages": THREE, "strides": (1, 2), "shortcut": "B", "last_bn": True, "first_relu": False},
    ),
}


@pytest.mark.parametrize("training", [False, True], ids=["evaluation", "training"])
@pytest.mark.parametrize(("options", "expected"), CASES.values(), ids=CASES.keys())
def test_forward_and_gradients_equal_the_reference(options, expected, training):
    torch.manual_seed(0)
    family = "se_resnet_preact" if "se_reduction" in options else "resnet_preact"
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


def test_an_option_changes_the_function_or_is_documented_not_to():
    torch.manual_seed(0)
    images = torch.randn(2, 3, 32, 32)

    def logits(**options):
        torch.manual_seed(1)
        return create("resnet_preact", depth=14, shortcut="B", **options).train()(images)

    plain = logits()
    assert torch.equal(logits(preact_stage=[True, True, True]), plain)
    for i in range(3):
        assert not torch.equal(logits(preact_stage=[i != 0, i != 1, i != 2]), plain)
    assert not torch.equal(logits(remove_first_relu=True), plain)


def test_the_first_entry_has_no_effect_behind_the_imagenet_stem():
    torch.manual_seed(0)
    images = torch.randn(2, 3, 32, 32)
    outputs = []
    for first in (True, False):
        torch.manual_seed(1)
        outputs.append(create("resnet_preact", **IMAGENET, preact_stage=[first, True, True, True])(images))
    assert torch.equal(*outputs)


def test_preact_after_the_imagenet_stem_has_its_own_batch_normalisation():
    def size(**options):
        with torch.device("meta"):
            return sum(p.numel() for p in create("resnet_preact18", stem="imagenet", **options).parameters())

    assert size(as_published="seed2") - size() == 128


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"preact_stage": [True, False]}, "preact_stage: layout 'cifar' has 3 stages, got 2 values: [true, false]"),
        ({"preact_stage": []}, "preact_stage: layout 'cifar' has 3 stages, got 0 values"),
        ({"preact_stage": [1, 0, 1]}, "preact_stage: expected a list of true or false or null, got [1, 0, 1]"),
        ({"preact_stage": "ttt"}, "preact_stage: expected a list of true or false or null, got 'ttt'"),
        ({"remove_first_relu": "false"}, "remove_first_relu: expected true or false, got 'false'"),
        ({"add_last_bn": 1}, "add_last_bn: expected true or false, got 1"),
    ],
)
def test_mistakes(options, message):
    with pytest.raises(OptionError) as caught:
        create("resnet_preact_20", **options)
    assert message in str(caught.value)


# Seed document 1's own is the network of depth 110.
@pytest.mark.parametrize(("depth", "params"), [(20, 275_327), (110, 1_748_792)])
def test_squeeze_and_excitation_as_published(depth, params):
    with torch.device("meta"):
        options = {"remove_first_relu": True, "add_last_bn": True, "preact_stage": [True, False, False]}
        model = create("se_resnet_preact", depth=depth, as_published="seed1", **options)
    assert sum(p.numel() for p in model.parameters()) == params


# Of seed document 1's MNIST table, beside those of architectures.json.
@pytest.mark.parametrize(
    ("name", "params", "macs"),
    [
        ("resnet_preact_20_w4", 4_325_834, 494_988_800),
        ("resnet_preact_50", 758_074, 85_212_032),
        ("resnet_preact_50_w4", 12_076_234, 1_362_030_080),
    ],
)
def test_networks_of_the_seed_tables(name, params, macs):
    with torch.device("meta"):
        model = create(name, in_channels=1, image_size=28, as_published="seed1")
    assert count(model, in_channels=1, image_size=28) == (params, macs)
