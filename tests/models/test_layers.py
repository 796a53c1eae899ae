import pytest
import torch
from torch import nn
from torch.nn import functional as F

from pictorch.config.errors import OptionError
from pictorch.models import create
from pictorch.models.layers import (
    Classifier,
    ShortcutA,
    Stage,
    check_image_size,
    convolution,
    create_stem,
    unit_convolutions,
)


@pytest.mark.parametrize("size", [1, 7, 8])
@pytest.mark.parametrize("stride", [1, 2])
def test_shortcut_a_is_subsampling_and_zeros_after(size, stride):
    x = torch.randn(2, 3, size, size)
    sampled = F.avg_pool2d(x, 1, stride)
    zeros = torch.zeros(2, 4, *sampled.shape[2:])
    assert torch.equal(ShortcutA(4, stride)(x), torch.cat([sampled, zeros], 1))


@pytest.mark.parametrize("kernel_size", [1, 3, 7])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [1, 8, 9])
def test_convolution_divides_the_size_and_rounds_up(kernel_size, stride, size):
    out = convolution(2, 5, kernel_size, stride)(torch.randn(1, 2, size, size))
    assert out.shape == (1, 5, -(-size // stride), -(-size // stride))


def test_stems():
    x = torch.randn(2, 3, 32, 32)
    cifar, bare = create_stem("cifar", 3, 8), create_stem("cifar", 3, 8, bn_relu=False)
    assert [type(m).__name__ for m in cifar] == ["Conv2d", "BatchNorm2d", "ReLU"]
    assert [type(m).__name__ for m in bare] == ["Conv2d"]
    assert cifar(x).shape == bare(x).shape == (2, 8, 32, 32)
    for bn_relu in (True, False):
        stem = create_stem("imagenet", 3, 8, bn_relu=bn_relu)
        assert [type(m).__name__ for m in stem] == ["Conv2d", "BatchNorm2d", "ReLU", "MaxPool2d"]
        assert stem(x).shape == (2, 8, 8, 8)


@pytest.mark.parametrize(
    ("block_type", "stride_in_1x1", "kernels", "strides"),
    [
        ("basic", False, [3, 3], [2, 1]),
        ("bottleneck", False, [1, 3, 1], [1, 2, 1]),
        ("bottleneck", True, [1, 3, 1], [2, 1, 1]),
    ],
)
def test_unit_convolutions(block_type, stride_in_1x1, kernels, strides):
    stage = Stage(units=1, width=8, out_channels=8 if block_type == "basic" else 32, stride=2)
    made = unit_convolutions(4, stage, 2, block_type=block_type, stride_in_1x1=stride_in_1x1)
    assert [c.kernel_size[0] for c in made] == kernels
    assert [c.stride[0] for c in made] == strides
    assert [c.in_channels for c in made] == [4] + [8] * (len(made) - 1)
    assert made[-1].out_channels == stage.out_channels


@pytest.mark.parametrize(("halvings", "smallest"), [(2, 3), (3, 5), (4, 9), (5, 17)])
def test_the_smallest_image_leaves_every_stride_two_pixels(halvings, smallest):
    size = smallest
    for _ in range(halvings):
        assert size >= 2
        size = (size + 1) // 2
    check_image_size("net", smallest, halvings, "it")
    with pytest.raises(OptionError, match=f"net: image_size: it halves {halvings} times and needs at least {smallest}"):
        check_image_size("net", smallest - 1, halvings, "it")


def test_the_stem_follows_the_image_size():
    assert len(create("resnet", depth=8, image_size=64).stem) == 3
    assert len(create("resnet", depth=8, image_size=65).stem) == 4
    assert len(create("resnet", depth=8, image_size=65, stem="cifar").stem) == 3


def test_the_shortcut_follows_layout_and_units():
    def kind(**options):
        with torch.device("meta"):
            return create("resnet", **options).stages[1][0].shortcut

    assert isinstance(kind(depth=8), ShortcutA)
    assert isinstance(kind(depth=8, as_published="seed1"), nn.Sequential)
    assert isinstance(kind(depth=8, as_published="seed3"), ShortcutA)
    assert isinstance(kind(depth=11, block_type="bottleneck"), nn.Sequential)
    assert isinstance(kind(depth=11, block_type="bottleneck", shortcut="A"), ShortcutA)
    assert isinstance(kind(depth=18, layout="imagenet"), nn.Sequential)


@pytest.mark.parametrize("family", ["resnet", "resnet_preact"])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "depth: required; valid are 6n+2 with basic units (20, 32"),
        ({"layout": "imagenet"}, "18, 34, 50, 101, 152 for layout 'imagenet'"),
        ({"depth": 100}, "depth: layout 'cifar' with basic units has depths 6n+2, got 100; nearest: 98, 104"),
        ({"depth": 18}, "got 18; nearest: 14, 20; layout 'imagenet' has 18"),
        ({"depth": 2}, "got 2; nearest: 8"),
        ({"depth": -4}, "got -4; nearest: 8"),
        ({"depth": 1001}, "got 1001; nearest: 998, 1004; block_type 'bottleneck' has 1001"),
        ({"depth": 100, "block_type": "bottleneck"}, "bottleneck units has depths 9n+2, got 100; nearest: 92, 101"),
        ({"depth": 44, "block_type": "bottleneck"}, "nearest: 38, 47; block_type 'basic' has 44"),
        ({"depth": 20, "layout": "imagenet"}, "depth: layout 'imagenet' has 18, 34, 50, 101, 152, got 20"),
        (
            {"depth": 34, "layout": "imagenet", "block_type": "bottleneck"},
            "depth: layout 'imagenet' with block_type 'bottleneck' has 50, 101, 152, got 34",
        ),
        ({"depth": 20, "base_channels": 0}, "base_channels: expected a whole number of at least 1, got 0"),
        ({"depth": 20, "base_channels": 10**23}, "expected a whole number of at most 100,000, got 1e+23"),
        ({"depth": 6 * 10**12 + 2}, "depth: expected at most 10,000 layers, got 6e+12"),
        (
            {"depth": 11, "block_type": "bottleneck", "width_per_group": -1},
            "width_per_group: expected a whole number of at least 1, got -1",
        ),
        ({"depth": 20, "width_per_group": 32}, "width_per_group: basic units have no bottleneck to widen"),
        ({"depth": 20, "stride_in_1x1": True}, "stride_in_1x1: basic units have no 1x1 convolution"),
        (
            {"depth": 11, "block_type": "bottleneck", "base_channels": 3, "as_published": "seed1"},
            "base_channels: at least 4 with as_published='seed1', got 3",
        ),
        (
            {"depth": 11, "block_type": "bottleneck", "width_per_group": 3, "as_published": "seed2"},
            "width_per_group: at least 4 with as_published='seed2', got 3",
        ),
        (
            {"depth": 20, "image_size": 2},
            "image_size: layout 'cifar' with stem 'cifar' halves 2 times and needs at least 3, got 2",
        ),
        ({"depth": 18, "layout": "imagenet", "image_size": 4}, "halves 3 times and needs at least 5, got 4"),
        (
            {"depth": 18, "layout": "imagenet", "stem": "imagenet", "image_size": 16},
            "halves 5 times and needs at least 17, got 16",
        ),
        ({"depth": 20, "as_published": "seed4"}, "as_published: expected 'seed1' or 'seed2' or 'seed3' or null"),
        (
            {"depth": 20, "init": "fan_average"},
            "init: expected 'fan_out' or 'fan_in' or 'fan_out_all' or 'fan_in_all', got 'fan_average'",
        ),
    ],
)
def test_impossible_networks(family, options, message):
    with pytest.raises(OptionError) as caught:
        create(family, **options)
    assert str(caught.value).startswith(f"{family}: ")
    assert message in str(caught.value)


def test_a_classifier_needs_its_features():
    with pytest.raises(TypeError, match="forward_features"):
        Classifier()
