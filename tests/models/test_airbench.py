"""Airbench's networks against a slow forward written from the paper with plain functions on the same weights."""

import pytest
import torch
from models.reference import assert_equal_to, params
from torch import nn
from torch.nn import functional as F

from pictorch.config.errors import OptionError, UserError
from pictorch.models import create
from pictorch.models.complexity import count


def reference(conv, bn, state, images, residual):
    def norm(x, name):
        return bn(x, name, eps=1e-12)

    x = F.gelu(F.conv2d(images, state["whitening.weight"], state["whitening.bias"]))
    for i in range(3):
        x = F.gelu(norm(F.max_pool2d(conv(x, f"blocks.{i}.conv1"), 2), f"blocks.{i}.norm1"))
        y = F.gelu(norm(conv(x, f"blocks.{i}.conv2"), f"blocks.{i}.norm2"))
        if residual:
            y = F.gelu(norm(conv(y, f"blocks.{i}.conv3"), f"blocks.{i}.norm3") + x)
        x = y
    return x.amax((2, 3)) @ state["classifier.weight"].T / 9


@pytest.mark.parametrize("training", [False, True], ids=["evaluation", "training"])
@pytest.mark.parametrize("variant", [94, 96])
def test_forward_and_gradients_equal_the_reference(variant, training):
    torch.manual_seed(0)
    model = create("airbench", variant=variant, base_channels=4)
    assert_equal_to(reference, model, torch.randn(3, 3, 32, 32), training=training, residual=variant == 96)


@pytest.mark.parametrize(
    ("name", "widths", "convolutions", "trained"),
    [("airbench94", (64, 256, 256), 2, 1_971_352), ("airbench96", (128, 512, 512), 3, 12_717_464)],
)
def test_parameters_and_multiply_adds_of_the_published_networks(name, widths, convolutions, trained):
    with torch.device("meta"):
        model = create(name)
    total, macs, before = 24, 24 * 31 * 31 * 12, 24
    for width, first, later in zip(widths, (31, 15, 7), (15, 7, 3), strict=True):
        total += 9 * before * width + (convolutions - 1) * 9 * width * width + convolutions * width
        macs += 9 * before * width * first**2 + (convolutions - 1) * 9 * width * width * later**2
        before = width
    total, macs = total + 10 * before, macs + 10 * before
    assert params(model) == total == trained
    assert count(model, in_channels=3, image_size=32) == (total, macs)


def test_the_published_programs_widths():
    with torch.device("meta"):
        model = create("airbench96", widths=[128, 384, 512])
    assert [block.conv1.out_channels for block in model.blocks] == [128, 384, 512]
    assert (
        params(model)
        == sum(
            9 * (before * width + 2 * width * width) + 3 * width
            for before, width in zip((24, 128, 384), (128, 384, 512), strict=True)
        )
        + 24
        + 5120
    )


def test_what_is_not_trained():
    model = create("airbench96")
    frozen = [name for name, p in model.named_parameters() if not p.requires_grad]
    norms = [f"blocks.{i}.norm{j}.weight" for i in range(3) for j in (1, 2, 3)]
    assert sorted(frozen) == sorted(["whitening.weight", *norms])
    assert all(model.get_parameter(name).eq(1).all() for name in norms)


@pytest.mark.parametrize(("variant", "momentum"), [(94, 0.4), (96, 0.1)])
def test_running_statistics(variant, momentum):
    norms = [m for m in create("airbench", variant=variant).modules() if isinstance(m, nn.BatchNorm2d)]
    assert {(m.momentum, m.eps) for m in norms} == {(momentum, 1e-12)}


@pytest.mark.parametrize("init", ["torch", "fan_out", "fan_in"])
def test_convolutions_start_with_the_identity(init):
    torch.manual_seed(0)
    block = create("airbench", base_channels=32, init=init).blocks[0]
    x = torch.randn(1, 24, 5, 5)
    out = block.conv1(x)
    assert torch.equal(out[:, :24], x)
    assert out[:, 24:].abs().min() > 0
    x = torch.randn(1, 32, 5, 5)
    assert torch.equal(block.conv2(x), x)


def test_a_narrowing_convolution_copies_as_many_channels_as_it_has():
    block = create("airbench", base_channels=4).blocks[0]
    x = torch.randn(1, 24, 5, 5)
    assert torch.equal(block.conv1(x), x[:, :4])


def test_before_whitening_pixels_pass_with_either_sign():
    x = torch.randn(2, 3, 6, 6)
    out = create("airbench").whitening(x)
    assert torch.equal(out[:, :12], F.unfold(x, 2).view(2, 12, 5, 5))
    assert torch.equal(out[:, 12:], -out[:, :12])


@pytest.mark.parametrize("in_channels", [1, 3])
def test_whitened_patches_are_uncorrelated(in_channels):
    torch.manual_seed(0)
    images = torch.randn(1500, in_channels, 12, 12).cumsum(2).cumsum(3) * 0.3
    model = create("airbench", in_channels=in_channels).double()
    model.whiten(images.double(), eps=0)
    outputs = model.whitening(images.double()).transpose(0, 1).flatten(1)
    half = 4 * in_channels
    moments = outputs[:half] @ outputs[:half].T / outputs.shape[1]
    torch.testing.assert_close(moments, torch.eye(half, dtype=torch.double), rtol=0, atol=1e-3)
    assert torch.equal(outputs[half:], -outputs[:half])
    assert model.whitening.bias.eq(0).all()
    assert not model.whitening.weight.requires_grad


def test_whitening_is_regularised_and_has_the_largest_component_first():
    torch.manual_seed(0)
    images = torch.randn(200, 1, 9, 9).cumsum(3)
    model = create("airbench", in_channels=1)
    model.whiten(images, eps=0.5)
    patches = F.unfold(images, 2).transpose(0, 1).flatten(1)
    eigenvalues = torch.linalg.eigvalsh(patches @ patches.T / patches.shape[1]).flip(0)
    norms = model.whitening.weight[:4].flatten(1).norm(dim=1)
    torch.testing.assert_close(norms, (eigenvalues + 0.5) ** -0.5, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(5, 1, 9, 9), (3, 9, 9), (0, 3, 9, 9), (5, 3, 1, 9)])
def test_images_that_cannot_whiten(shape):
    with pytest.raises(UserError, match=r"whiten: expected images \[N, 3, H, W\], got \["):
        create("airbench").whiten(torch.zeros(shape))


@pytest.mark.parametrize(("in_channels", "image_size", "size"), [(1, 9, 1), (1, 28, 3), (3, 33, 4), (3, 64, 7)])
def test_image_sizes(in_channels, image_size, size):
    with torch.device("meta"):
        model = create("airbench", in_channels=in_channels, image_size=image_size)
        features = model.forward_features(torch.zeros(2, in_channels, image_size, image_size))
    assert features.shape == (2, 256, size, size)
    assert model.forward_head(features).shape == (2, 10)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"base_channels": -1}, "airbench: base_channels: expected a whole number of at least 1, got -1"),
        ({"widths": [8, 8]}, "airbench: widths: expected three whole numbers of at least 1, got [8, 8]"),
        ({"widths": [8, 0, 8]}, "airbench: widths: expected three whole numbers of at least 1, got [8, 0, 8]"),
        ({"widths": [8, 8, 8], "base_channels": 8}, "airbench: widths: give widths or base_channels, not both"),
        ({"variant": 95}, "airbench: variant: expected 94 or 96, got 95"),
        ({"image_size": 8}, "airbench: image_size: a 2x2 convolution and three poolings by 2 need at least 9, got 8"),
        ({"init": "dirac"}, "init: expected 'torch' or 'fan_out' or 'fan_in', got 'dirac'"),
    ],
)
def test_impossible_networks(options, message):
    with pytest.raises(OptionError) as caught:
        create("airbench", **options)
    assert message in str(caught.value)
