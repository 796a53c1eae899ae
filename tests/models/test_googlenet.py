"""GoogLeNet against a slow forward written from the paper with plain functions on the same weights."""

import copy
import math

import pytest
import torch
from models.reference import assert_equal_to, assert_freshly_drawn, linear, params
from torch import nn
from torch.nn import functional as F

from pictorch.config.errors import OptionError
from pictorch.models import create
from pictorch.models.complexity import count
from pictorch.models.googlenet import AuxiliaryHead

MODULES = ["3a", "3b", "pool4", "4a", "4b", "4c", "4d", "4e", "pool5", "5a", "5b"]


def response_norm(x):
    """Return x / (1 + 1e-4 / 5 * sum of squares over five neighbouring channels) ** 0.75, channel by channel."""
    sums = [(x[:, max(c - 2, 0) : c + 3] ** 2).sum(1) for c in range(x.shape[1])]
    return x / (1 + 1e-4 / 5 * torch.stack(sums, 1)) ** 0.75


def pool(x, padded, kernel=3):
    """Return the maxima of windows at every second pixel that begin within the map, or (`padded`) one before it."""
    if padded:
        return F.max_pool2d(x, 3, 2, padding=1)
    return F.max_pool2d(F.pad(x, (0, kernel - 2) * 2, value=-math.inf), kernel, 2)


def unit(conv, bn, state, x, name, stride=1):
    x = conv(x, f"{name}.conv", stride)
    return torch.relu(bn(x, f"{name}.bn", eps=1e-3) if f"{name}.bn.weight" in state else x)


def inception(conv, bn, state, x, name):
    def step(x, layer):
        return unit(conv, bn, state, x, f"{name}.{layer}")

    branches = [
        step(x, "branch1"),
        step(step(x, "branch3.0"), "branch3.1"),
        step(step(x, "branch5.0"), "branch5.1"),
        step(F.max_pool2d(x, 3, 1, padding=1), "branch_pool.1"),
    ]
    return torch.cat(branches, 1)


def reference(conv, bn, state, images, *, stem="imagenet", last_pool=3, padded=False):
    plain = "stem.conv1.bn.weight" not in state
    x = unit(conv, bn, state, images, "stem.conv1", 2 if stem == "imagenet" else 1)
    if stem == "imagenet":
        x = pool(x, padded)
    if plain:
        x = response_norm(x)
    if stem != "seed3":
        x = unit(conv, bn, state, x, "stem.conv2")
    x = unit(conv, bn, state, x, "stem.conv3")
    if plain:
        x = response_norm(x)
    if stem != "cifar":
        x = pool(x, padded)
    for name in MODULES:
        if name.startswith("pool"):
            x = pool(x, padded, last_pool if name == "pool5" else 3)
        else:
            x = inception(conv, bn, state, x, f"inceptions.{name}")
    return linear(x.mean((2, 3)), state)


@pytest.mark.parametrize(
    ("options", "image_size", "training", "expected"),
    [
        ({"stem": "imagenet"}, 38, True, {}),
        ({}, 9, True, {"stem": "cifar"}),
        ({"batch_norm": True}, 8, False, {"stem": "cifar"}),
        ({"batch_norm": True}, 11, True, {"stem": "cifar"}),
        ({"stem": "imagenet", "batch_norm": True, "branch5x5": "3x3"}, 64, True, {"last_pool": 2}),
        ({"stem": "imagenet", "batch_norm": True, "branch5x5": "3x3"}, 32, False, {"last_pool": 2}),
        ({"as_published": "seed3"}, 11, True, {"stem": "seed3", "padded": True}),
    ],
)
def test_forward_and_gradients_equal_the_reference(options, image_size, training, expected):
    torch.manual_seed(0)
    model = create("googlenet", image_size=image_size, drop_rate=0.0, **options)
    images = torch.randn(2, 3, image_size, image_size)
    assert_equal_to(reference, model, images, training=training, **expected)


@pytest.mark.parametrize("mode", ["fan_out", "fan_in"])
@pytest.mark.parametrize("batch_norm", [False, True])
def test_initial_values(batch_norm, mode):
    torch.manual_seed(0)
    assert_freshly_drawn(create("googlenet", batch_norm=batch_norm, aux_logits=True, init=mode), mode)


# Rows of seed document 3's readings that are options here, and its own program
@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("googlenet_bn", {}, 5_983_402),
        ("googlenet_bn", {"num_classes": 100}, 6_075_652),
        ("googlenet_bn", {"branch5x5": "3x3"}, 5_602_474),
        ("googlenet_bn", {"branch5x5": "3x3", "num_classes": 100}, 5_694_724),
        ("googlenet_torchvision", {"num_classes": 1000, "image_size": 224}, 6_624_904),
        ("googlenet_aux", {"num_classes": 1000, "image_size": 224}, 13_378_280),
        ("googlenet", {"as_published": "seed3"}, 5_979_178),
        ("googlenet", {"as_published": "seed3", "num_classes": 100}, 5_979_178 + 90 * 1025),
        ("googlenet", {"as_published": "seed3", "in_channels": 1}, 5_979_178 - 2 * 64 * 9),
    ],
)
def test_published_counts(name, options, expected):
    with torch.device("meta"):
        assert params(create(name, **options)) == expected


def test_auxiliary_heads_have_parameters_at_every_size_and_no_multiply_adds():
    for image_size, in_channels in [(8, 3), (28, 1), (32, 3), (64, 3), (224, 3)]:
        sizes = {"image_size": image_size, "in_channels": in_channels}
        with torch.device("meta"):
            plain, aux = (create("googlenet", aux_logits=on, **sizes) for on in (False, True))
        heads = (512 + 1) * 128 + (528 + 1) * 128 + 2 * ((2048 + 1) * 1024 + (1024 + 1) * 10)
        assert count(aux, **sizes) == (count(plain, **sizes).params + heads, count(plain, **sizes).macs)


@pytest.mark.parametrize(
    ("options", "size"),
    [
        ({"image_size": 4}, 1),
        ({"image_size": 8}, 2),
        ({"image_size": 28, "in_channels": 1}, 7),
        ({"image_size": 64}, 16),
        ({"image_size": 65}, 2),
        ({"image_size": 31, "stem": "imagenet"}, 1),
        ({"image_size": 224}, 7),
        ({"image_size": 224, "branch5x5": "3x3"}, 7),
        ({"image_size": 8, "as_published": "seed3"}, 1),
        ({"image_size": 5, "as_published": "seed3"}, 1),
        ({"image_size": 224, "as_published": "seed3"}, 28),
        ({"image_size": 17, "as_published": "seed3", "stem": "imagenet"}, 1),
    ],
)
def test_image_sizes(options, size):
    with torch.device("meta"):
        model = create("googlenet", aux_logits=True, **options)
        images = torch.empty(2, options.get("in_channels", 3), options["image_size"], options["image_size"])
        assert model.forward_features(images).shape == (2, 1024, size, size)
        assert [logits.shape for logits in model.forward_with_auxiliary(images)] == [(2, 10)] * 3


# The auxiliary heads


def test_the_auxiliary_head_is_the_papers_at_14x14():
    torch.manual_seed(0)
    head = AuxiliaryHead(6, 5, batch_norm=False).double().eval()
    x = torch.randn(2, 6, 14, 14, dtype=torch.double)
    pooled = torch.stack([x[:, :, i : i + 5, j : j + 5].mean((2, 3)) for i in (0, 3, 6, 9) for j in (0, 3, 6, 9)], 2)
    bias = head.convolution.conv.bias[:, None]
    maps = torch.relu(torch.einsum("oi,nip->nop", head.convolution.conv.weight[:, :, 0, 0], pooled) + bias)
    hidden = torch.relu(maps.flatten(1) @ head.hidden.weight.T + head.hidden.bias)
    torch.testing.assert_close(head(x), hidden @ head.classifier.weight.T + head.classifier.bias)


def test_the_heads_follow_4a_and_4d():
    torch.manual_seed(0)
    model = create("googlenet", aux_logits=True, batch_norm=True, image_size=16).eval()
    images = torch.randn(2, 3, 16, 16)
    seen = {}
    for name in ("4a", "4d"):
        model.inceptions.get_submodule(name).register_forward_hook(lambda _, __, x, name=name: seen.update({name: x}))
    logits, first, second = model.forward_with_auxiliary(images)
    assert torch.equal(logits, model(images))
    assert torch.equal(first, model.auxiliary["4a"](seen["4a"]))
    assert torch.equal(second, model.auxiliary["4d"](seen["4d"]))
    assert model.auxiliary_weights == (0.3, 0.3)


@pytest.mark.parametrize("training", [False, True], ids=["evaluation", "training"])
def test_forward_does_not_know_of_the_heads(training):
    torch.manual_seed(0)
    aux = create("googlenet", stem="imagenet", batch_norm=True, aux_logits=True, drop_rate=0.0).train(training)
    plain = create("googlenet", stem="imagenet", batch_norm=True, drop_rate=0.0).train(training)
    plain.load_state_dict({k: v for k, v in aux.state_dict().items() if not k.startswith("auxiliary.")})
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(aux(images), plain(images))
    assert plain.auxiliary_weights == ()
    (alone,) = plain.eval().forward_with_auxiliary(images)
    assert torch.equal(alone, plain(images))


def test_the_auxiliary_losses_reach_every_parameter_in_one_graph():
    torch.manual_seed(0)
    model = create("googlenet", stem="imagenet", aux_logits=True)
    compiled = torch.compile(model.forward_with_auxiliary, fullgraph=True, backend="eager")
    sum(logits.square().sum() for logits in compiled(torch.randn(4, 3, 32, 32))).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_reset_classifier_resets_the_heads():
    model = create("googlenet", stem="imagenet", aux_logits=True)
    model.reset_classifier(3)
    assert [logits.shape for logits in model.forward_with_auxiliary(torch.randn(2, 3, 32, 32))] == [(2, 3)] * 3


def test_dropout_acts_in_training_only():
    features = torch.ones(64, 1024, 1, 1)
    model = create("googlenet", num_classes=1)
    nn.init.ones_(model.classifier.weight)
    kept = model.forward_head(features) / 1024
    assert 0.95 < kept.mean() < 1.05
    assert kept.std() > 0.01
    assert model.eval().forward_head(features).eq(1024).all()
    rates = [m.p for m in create("googlenet", aux_logits=True).modules() if isinstance(m, nn.Dropout)]
    assert rates == [0.7, 0.7, 0.4]
    assert create("googlenet", as_published="seed3").dropout.p == 0
    assert create("googlenet", as_published="seed3", drop_rate=0.2).dropout.p == 0.2


def test_without_batch_normalisation_there_are_biases_and_response_normalisation():
    for batch_norm in (False, True):
        with torch.device("meta"):
            model = create("googlenet", batch_norm=batch_norm)
        convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
        assert len(convolutions) == 3 + 9 * 6
        assert all((c.bias is None) == batch_norm for c in convolutions)
        assert sum(isinstance(m, nn.LocalResponseNorm) for m in model.modules()) == (0 if batch_norm else 2)
        assert sum(isinstance(m, nn.BatchNorm2d) for m in model.modules()) == (57 if batch_norm else 0)


def test_explicit_options_win_over_the_published_ones():
    with torch.device("meta"):
        published = create("googlenet", as_published="seed3", batch_norm=False)
        imagenet = create("googlenet", as_published="seed3", stem="imagenet", image_size=224)
        assert not any(isinstance(m, nn.BatchNorm2d) for m in published.modules())
        assert params(imagenet) == params(create("googlenet_bn", image_size=224))


def test_a_copy_has_heads_of_its_own():
    model = create("googlenet", stem="imagenet", aux_logits=True).eval()
    twin = copy.deepcopy(model)
    with torch.no_grad():
        twin.auxiliary["4a"].classifier.bias.add_(1)
    images = torch.randn(1, 3, 32, 32)
    (_, ours, _), (_, theirs, _) = model.forward_with_auxiliary(images), twin.forward_with_auxiliary(images)
    torch.testing.assert_close(theirs, ours + 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_size": 3}, "image_size: stem 'cifar' and its poolings need at least 4, got 3"),
        (
            {"image_size": 30, "stem": "imagenet"},
            "image_size: stem 'imagenet' and its poolings need at least 31, got 30",
        ),
        ({"image_size": 4, "as_published": "seed3"}, "need at least 5, got 4"),
        ({"image_size": 16, "as_published": "seed3", "stem": "imagenet"}, "need at least 17, got 16"),
        ({"drop_rate": 1.0}, "drop_rate: expected a number from 0 to under 1, got 1.0"),
        ({"drop_rate": -0.1}, "drop_rate: expected a number from 0 to under 1, got -0.1"),
        ({"drop_rate": math.nan}, "drop_rate: expected a number from 0 to under 1, got nan"),
        ({"branch5x5": "7x7"}, "branch5x5: expected '5x5' or '3x3', got '7x7'"),
        ({"stem": "mnist"}, "stem: expected 'cifar' or 'imagenet' or null, got 'mnist'"),
        ({"batch_norm": "yes"}, "batch_norm: expected true or false or null, got 'yes'"),
        ({"aux_logits": 1}, "aux_logits: expected true or false, got 1"),
        ({"as_published": "seed1"}, "as_published: expected 'seed3' or null, got 'seed1'"),
        ({"init": None}, "init: expected 'fan_out' or 'fan_in' or 'fan_out_all' or "),
        ({"depth": 22}, "depth: unknown option"),
    ],
)
def test_mistakes(options, message):
    with pytest.raises(OptionError) as caught:
        create("googlenet", **options)
    assert str(caught.value).startswith("googlenet: ")
    assert message in str(caught.value)
