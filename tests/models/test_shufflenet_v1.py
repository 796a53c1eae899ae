"""ShuffleNetV1 against a slow forward written from the paper with plain functions on the same weights."""

import pytest
import torch
from models.reference import assert_equal_to, assert_freshly_drawn, linear, params
from torch.nn import functional as F

from pictorch.config.errors import OptionError
from pictorch.models import create


def shuffled(x, groups):
    """Return the channels in the order: first of each group, second of each group, ..."""
    size = x.shape[1] // groups
    return torch.stack([x[:, group * size + i] for i in range(size) for group in range(groups)], 1)


def reference(conv, bn, state, images, groups, stem="cifar"):
    x = torch.relu(bn(conv(images, "stem.conv", 1 if stem == "cifar" else 2), "stem.bn"))
    if stem == "imagenet":
        x = F.max_pool2d(x, kernel_size=3, stride=2, padding=1)
    for i, units in enumerate((4, 8, 4)):
        for j in range(units):
            unit = f"stages.{i}.{j}.branch"
            y = torch.relu(bn(conv(x, f"{unit}.squeeze.conv"), f"{unit}.squeeze.bn"))
            y = bn(conv(shuffled(y, groups), f"{unit}.spatial.conv", 2 if j == 0 else 1), f"{unit}.spatial.bn")
            y = bn(conv(y, f"{unit}.expand.conv"), f"{unit}.expand.bn")
            if j == 0:
                x = torch.relu(torch.cat([F.avg_pool2d(x, kernel_size=3, stride=2, padding=1), y], 1))
            else:
                x = torch.relu(x + y)
    return linear(F.adaptive_avg_pool2d(x, 1).flatten(1), state)


@pytest.mark.parametrize("training", [False, True], ids=["evaluation", "training"])
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"width": 0.5}, {"groups": 3}),
        ({"width": 0.25, "groups": 1, "stem": "imagenet"}, {"groups": 1, "stem": "imagenet"}),
        ({"width": 0.5, "groups": 8}, {"groups": 8}),
        # As that program had it: shuffled in one group, which is not at all
        ({"width": 0.5, "as_published": "seed3"}, {"groups": 1}),
    ],
)
def test_forward_and_gradients_equal_the_reference(options, expected, training):
    torch.manual_seed(0)
    model = create("shufflenet_v1", **options)
    assert_equal_to(reference, model, torch.randn(2, 3, 24, 24), training=training, **expected)


def test_groups_of_the_convolutions():
    def groups(unit):
        return [getattr(unit.branch, name).conv.groups for name in ("squeeze", "spatial", "expand")]

    stages = create("shufflenet_v1", groups=3).stages
    assert groups(stages[0][0]) == [1, 60, 3]
    assert groups(stages[0][1]) == [3, 60, 3]
    assert groups(stages[2][0]) == [3, 240, 3]
    assert groups(create("shufflenet_v1", as_published="seed3").stages[1][0]) == [3, 3, 3]


STAGE2 = {1: 144, 2: 200, 3: 240, 4: 272, 8: 384}


def counted(groups, width, stem, num_classes, in_channels):
    """Return the parameters, from the paper's table 1."""
    before = stem
    total = before * 9 * in_channels + 2 * before
    for i, units in enumerate((4, 8, 4)):
        out = int(STAGE2[groups] * width) * 2**i
        inner = out // 4
        for j in range(units):
            new = out - before if j == 0 else out
            first_groups = 1 if i == j == 0 else groups
            total += inner * before // first_groups + 2 * inner + 9 * inner + 2 * inner
            total += new * inner // groups + 2 * new
            before = out
    return total + before * num_classes + num_classes


@pytest.mark.parametrize(
    ("groups", "width", "stem"),
    [
        *[(g, 1, 24) for g in STAGE2],
        *[(3, 0.25, 6), (3, 0.5, 12), (3, 0.75, 18), (3, 1.5, 24), (3, 2, 48)],
        *[(1, 0.25, 6), (1, 0.5, 12), (1, 0.75, 18), (1, 1.5, 24), (1, 2, 48)],
        *[(8, 0.5, 16), (8, 1.5, 24), (8, 2, 48), (2, 2, 48), (4, 2, 48)],
    ],
)
@pytest.mark.parametrize(("num_classes", "in_channels", "image_size"), [(100, 1, 28), (1000, 3, 224)])
def test_parameters(groups, width, stem, num_classes, in_channels, image_size):
    sizes = {"num_classes": num_classes, "in_channels": in_channels, "image_size": image_size}
    with torch.device("meta"):
        model = create("shufflenet_v1", groups=groups, width=width, **sizes)
    assert model.feature_dim == int(STAGE2[groups] * width) * 4
    assert params(model) == counted(groups, width, stem, num_classes, in_channels)


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("shufflenet_v1_g1", {"num_classes": 1000, "image_size": 224}, 1_531_936),
        ("shufflenet_v1_g8", {"num_classes": 1000, "image_size": 224}, 2_434_768),
        ("shufflenet_v1_g3_050", {"num_classes": 1000, "image_size": 224}, 718_324),
        ("shufflenet_v1", {"as_published": "seed3"}, 1_974_898),
        ("shufflenet_v1", {"as_published": "seed3", "num_classes": 100}, 2_061_388),
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
        model = create("shufflenet_v1", **options)
        assert model.forward_features(torch.zeros(2, channels, image_size, image_size)).shape == (2, 960, size, size)


@pytest.mark.parametrize("mode", ["fan_out", "fan_in"])
def test_initial_weights(mode):
    torch.manual_seed(0)
    assert_freshly_drawn(create("shufflenet_v1", init=mode), mode)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"groups": 5}, "shufflenet_v1: groups: expected 1, 2, 3, 4 or 8, got 5"),
        ({"groups": None}, "shufflenet_v1: groups: expected a whole number, got "),
        ({"groups": True}, "shufflenet_v1: groups: expected a whole number, got "),
        ({"width": 0.6}, "shufflenet_v1: width: groups 3 has widths 0.25, 0.5, 0.75, 1, 1.5, 2, got 0.6"),
        ({"width": 0.5, "groups": 2}, "shufflenet_v1: width: groups 2 has widths 1, 2, got 0.5"),
        ({"width": 0.25, "groups": 8}, "width: groups 8 has widths 0.5, 1, 1.5, 2, got 0.25"),
        ({"width": float("nan")}, "got nan"),
        (
            {"image_size": 4},
            "image_size: stem 'cifar' with the stages after it halves 3 times and needs at least 5, got 4",
        ),
        ({"image_size": 16, "stem": "imagenet"}, "halves 5 times and needs at least 17, got 16"),
        ({"as_published": "seed1"}, "as_published: expected 'seed3' or null, got 'seed1'"),
    ],
)
def test_impossible_networks(options, message):
    with pytest.raises(OptionError) as caught:
        create("shufflenet_v1", **options)
    assert message in str(caught.value)
