"""Wide ResNet against a slow forward written from the paper with plain functions on the same weights."""

from collections import Counter

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from pictorch.config.errors import OptionError
from pictorch.models import create
from pictorch.models.complexity import count


def reference(state, images, *, units, drop=None, drop_before_bn=False, training=False):
    """Return logits. `drop` is called with the map that the dropout of a unit sees."""
    drop = drop or (lambda x: x)

    def bn(x, name):
        mean, var = state[f"{name}.running_mean"].clone(), state[f"{name}.running_var"].clone()
        return F.batch_norm(x, mean, var, state[f"{name}.weight"], state[f"{name}.bias"], training)

    def conv(x, name, stride=1):
        weight = state[f"{name}.weight"]
        return F.conv2d(x, weight, stride=stride, padding=weight.shape[2] // 2)

    x = conv(images, "stem.conv")
    for i in range(3):
        for j in range(units):
            unit = f"stages.{i}.{j}"
            stride = 2 if i > 0 and j == 0 else 1
            activated = torch.relu(bn(x, f"{unit}.preact.bn"))
            y = conv(activated, f"{unit}.branch.conv1", stride)
            if drop_before_bn:
                y = torch.relu(bn(drop(y), f"{unit}.branch.bn2"))
            else:
                y = drop(torch.relu(bn(y, f"{unit}.branch.bn2")))
            y = conv(y, f"{unit}.branch.conv2")
            x = y + (x if x.shape[1] == y.shape[1] else conv(activated, f"{unit}.shortcut", stride))
    x = F.adaptive_avg_pool2d(torch.relu(bn(x, "bn")), 1).flatten(1)
    return x @ state["classifier.weight"].T + state["classifier.bias"]


SMALL = {"depth": 16, "widening_factor": 2, "base_channels": 4}
CASES = {
    "wide": (SMALL, {}),
    "not wide: no projection in the first stage": ({**SMALL, "widening_factor": 1}, {}),
    "dropout": ({**SMALL, "drop_rate": 0.3}, {}),
    "dropout of seed 1": ({**SMALL, "drop_rate": 0.3, "as_published": "seed1"}, {"drop_before_bn": True}),
    "dropout of seed 2": ({**SMALL, "drop_rate": 0.3, "as_published": "seed2"}, {"drop_before_bn": True}),
}


@pytest.mark.parametrize("training", [False, True], ids=["evaluation", "training"])
@pytest.mark.parametrize(("options", "expected"), CASES.values(), ids=CASES.keys())
def test_forward_and_gradients_equal_the_reference(options, expected, training):
    torch.manual_seed(0)
    model = create("wrn", **options).double().train(training)
    with torch.no_grad():
        for name, tensor in (*model.named_parameters(), *model.named_buffers()):
            if "bn" in name and "num_batches" not in name:
                tensor.add_(torch.rand_like(tensor) * 0.5)
    images = torch.randn(3, 3, 32, 32, dtype=torch.double)
    parameters = dict(model.named_parameters())
    state = {**dict(model.named_buffers()), **parameters}
    dropped = []

    def drop(x):
        dropped.append(x.shape)
        return F.dropout(x, options["drop_rate"], training)

    torch.manual_seed(1)
    drop = drop if "drop_rate" in options else None
    wanted = reference(state, images, units=2, drop=drop, training=training, **expected)
    wanted_gradients = torch.autograd.grad(wanted.square().sum(), list(parameters.values()))
    torch.manual_seed(1)
    logits = model(images)
    gradients = torch.autograd.grad(logits.square().sum(), list(parameters.values()))
    torch.testing.assert_close(logits, wanted, rtol=1e-9, atol=1e-9)
    for name, ours, theirs in zip(parameters, gradients, wanted_gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6, msg=lambda m, name=name: f"{name}: {m}")
    assert len(dropped) == (6 if drop else 0)


def test_the_shortcut_projects_where_the_width_changes():
    def projections(**options):
        with torch.device("meta"):
            model = create("wrn", depth=16, **options)
        return [[unit.shortcut is not None for unit in stage] for stage in model.stages]

    assert projections(widening_factor=2) == [[True, False]] * 3
    assert projections(widening_factor=1) == [[False, False], [True, False], [True, False]]


def is_uniform(weight):
    """Whether least, greatest and mean are those of many numbers from 0 to 1, within five standard errors."""
    n = weight.numel()
    return weight.min() >= 0 and weight.max() < 1 and abs(weight.mean() - 0.5) < 5 / (12 * n) ** 0.5


@pytest.mark.parametrize("as_published", [None, "seed1", "seed2"])
def test_initial_weights(as_published):
    torch.manual_seed(0)
    model = create("wrn", depth=16, widening_factor=4, as_published=as_published)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.weight.eq(1).all() if as_published == "seed2" else is_uniform(module.weight)
            assert module.weight.numel() < 64 or as_published == "seed2" or module.weight.std() > 0.2
            assert module.bias.eq(0).all()
        elif isinstance(module, nn.Conv2d):
            weight, fan_in = module.weight, module.kernel_size[0] ** 2 * module.in_channels
            assert abs(weight.std() / (2 / fan_in) ** 0.5 - 1) < 5 / (2 * weight.numel()) ** 0.5
            assert module.bias is None
    assert model.classifier.bias.eq(0).all()
    bound = 256**-0.5
    assert 0.9 * bound < model.classifier.weight.abs().max() <= bound


def test_the_fan_is_an_option():
    def spread(**options):
        torch.manual_seed(0)
        return create("wrn", depth=10, widening_factor=4, **options).stages[1][0].branch.conv1.weight.std()

    assert abs(spread() / spread(init="fan_out") - 2**0.5) < 0.01
    assert spread(init="fan_in") == spread()


def test_initial_cross_entropy_is_near_that_of_guessing():
    # ln 10 = 2.30; with He normal for the linear layer, too, it is 4.6.
    torch.manual_seed(0)
    images, labels = torch.randn(32, 3, 32, 32), torch.randint(10, (32,))
    with torch.no_grad():
        losses = [nn.functional.cross_entropy(create("wrn_16_4")(images), labels) for _ in range(3)]
    assert 2.2 < sum(losses) / 3 < 2.5


@pytest.mark.parametrize("as_published", [None, "seed1", "seed2"])
@pytest.mark.parametrize("drop_rate", [0.0, 0.3])
def test_all_programs_have_the_same_parameters(as_published, drop_rate):
    with torch.device("meta"):
        model = create("wrn_28_10", drop_rate=drop_rate, as_published=as_published)
    assert count(model, in_channels=3, image_size=32) == (36_479_194, 5_243_328_768)
    kinds = Counter(type(module) for module in model.modules())
    assert (kinds[nn.Conv2d], kinds[nn.BatchNorm2d], kinds[nn.Linear]) == (28, 25, 1)
    assert kinds[nn.Dropout] == (12 if drop_rate else 0)


@pytest.mark.parametrize(("in_channels", "image_size"), [(1, 3), (1, 8), (1, 28), (3, 33), (3, 64), (3, 224)])
def test_image_sizes(in_channels, image_size):
    with torch.device("meta"):
        model = create("wrn", depth=10, widening_factor=2, in_channels=in_channels, image_size=image_size)
        features = model.forward_features(torch.empty(2, in_channels, image_size, image_size))
    assert features.shape == (2, 128, -(-image_size // 4), -(-image_size // 4))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "depth: required; a network of three stages has depths 6n+4 (10, 16, 22, 28 ...)"),
        ({"depth": 20}, "depth: a network of three stages has depths 6n+4, got 20; nearest: 16, 22"),
        ({"depth": 4}, "got 4; nearest: 10"),
        ({"depth": -28}, "got -28; nearest: 10"),
        ({"depth": True}, "depth: expected a whole number or null, got true"),
        ({"depth": 10**6}, "depth: expected at most 10,000 layers, got 1e+06"),
        ({"depth": 10, "widening_factor": 0}, "widening_factor: expected a whole number of at least 1, got 0"),
        ({"depth": 10, "widening_factor": 1.5}, "widening_factor: expected a whole number, got 1.5"),
        ({"depth": 10, "widening_factor": None}, "widening_factor: expected a whole number, got null"),
        ({"depth": 10, "base_channels": -16}, "base_channels: expected a whole number of at least 1, got -16"),
        (
            {"depth": 10, "widening_factor": 10**4},
            "base_channels x widening_factor: expected a whole number of at most",
        ),
        ({"depth": 10, "drop_rate": 1.0}, "drop_rate: expected a number from 0 to under 1, got 1.0"),
        ({"depth": 10, "drop_rate": -0.1}, "drop_rate: expected a number from 0 to under 1, got -0.1"),
        ({"depth": 10, "drop_rate": float("nan")}, "drop_rate: expected a number from 0 to under 1, got"),
        ({"depth": 10, "image_size": 2}, "image_size: the network halves 2 times and needs at least 3, got 2"),
        ({"depth": 10, "as_published": "seed3"}, "as_published: expected 'seed1' or 'seed2' or null, got 'seed3'"),
    ],
)
def test_impossible_networks(options, message):
    with pytest.raises(OptionError) as caught:
        create("wrn", **options)
    assert str(caught.value).startswith("wrn: ")
    assert message in str(caught.value)
