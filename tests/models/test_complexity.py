import copy

import numpy as np
import pytest
import torch
from torch import nn

from pictorch.models import create
from pictorch.models.complexity import Complexity, Layer, activation_bytes, count, layers


class Toy(nn.Module):
    """Grouped and strided convolutions, a layer called twice, a parameter of its own, a part for training only."""

    def __init__(self):
        super().__init__()
        self.offset = nn.Parameter(torch.zeros(8))
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.twice = nn.Conv2d(8, 8, 3, stride=2, padding=1, groups=4, bias=False)
        self.bn = nn.BatchNorm2d(8)
        self.nothing = nn.Sequential(nn.Identity(), nn.Sequential())
        self.auxiliary = nn.Linear(8, 5)
        self.last = nn.Linear(8, 5)

    def forward(self, images):
        x = self.nothing(self.twice(self.twice(self.bn(self.first(images)))))
        x = x.mean((2, 3)) + self.offset + torch.arange(8)
        return (self.last(x), self.auxiliary(x)) if self.training else self.last(x)


EXPECTED = [
    Layer("first", "Conv2d", (8, 9, 9), 8 * 27 + 8, 8 * 81 * 27),
    Layer("bn", "BatchNorm2d", (8, 9, 9), 16, 0),
    Layer("twice", "Conv2d", (8, 5, 5), 8 * 18, 8 * 25 * 18),
    Layer("twice", "Conv2d", (8, 3, 3), 0, 8 * 9 * 18),
    Layer("last", "Linear", (5,), 45, 40),
    Layer("", "Toy", (), 8, 0),
    Layer("auxiliary", "Linear", (), 45, 0),
]


def test_layers_of_a_network_counted_by_hand():
    assert layers(Toy(), in_channels=3, image_size=9) == EXPECTED


def test_count_is_the_sum_of_the_layers():
    assert count(Toy(), in_channels=3, image_size=9) == Complexity(
        params=sum(row.params for row in EXPECTED), macs=sum(row.macs for row in EXPECTED)
    )
    assert count(Toy(), in_channels=3, image_size=9).params == sum(p.numel() for p in Toy().parameters())


def test_linear_layers_count_every_token():
    linear = nn.Sequential(nn.Flatten(2), nn.Linear(16, 6))
    assert count(linear, in_channels=3, image_size=4) == (16 * 6 + 6, 3 * 6 * 16)


def test_frozen_and_shared_parameters():
    model = Toy()
    model.first.requires_grad_(False)
    assert count(model, in_channels=3, image_size=9).params == sum(row.params for row in EXPECTED) - 224
    model.auxiliary.weight = model.last.weight
    assert count(model, in_channels=3, image_size=9).params == sum(row.params for row in EXPECTED) - 224 - 40


def test_the_model_is_left_as_it_was():
    model = create("resnet_preact", depth=8)
    model(torch.randn(2, 3, 32, 32)).sum().backward()
    model.stages[0].eval()
    modes = [module.training for module in model.modules()]
    state = copy.deepcopy(model.state_dict())
    generator = torch.get_rng_state()
    count(model, in_channels=3, image_size=32)
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(state[key], value) for key, value in model.state_dict().items())
    assert all(p.grad is not None and not p.is_meta for p in model.parameters())
    assert all(not module._forward_hooks for module in model.modules())
    assert torch.equal(torch.get_rng_state(), generator)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_any_dtype_and_device(dtype):
    expected = count(create("resnet", depth=8), in_channels=3, image_size=32)
    assert count(create("resnet", depth=8).to(dtype), in_channels=3, image_size=32) == expected
    assert count(create("resnet", depth=8).to("meta"), in_channels=3, image_size=32) == expected


class Centred(nn.Module):
    """Its buffer is made of numbers, which the meta device has none of."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.from_numpy(np.ones(3, np.float32)))
        self.last = nn.Linear(3, 2)

    def forward(self, images):
        x = images.mean((2, 3)) - self.mean
        self.seen = x.detach()
        return self.last(x + torch.rand(3))


def test_a_network_that_is_only_in_part_on_the_meta_device():
    with torch.device("meta"):
        model = Centred()
    assert not model.mean.is_meta
    assert count(model, in_channels=3, image_size=4) == (8, 6)
    assert model.last.weight.is_meta


def test_a_forward_that_keeps_something_and_draws_leaves_no_trace():
    model, generator = Centred(), torch.get_rng_state()
    assert count(model, in_channels=3, image_size=4) == (8, 6)
    assert not hasattr(model, "seen")
    assert torch.equal(torch.get_rng_state(), generator)


def test_the_table_of_a_residual_network():
    rows = layers(create("resnet", depth=8, num_classes=7), in_channels=3, image_size=32)
    assert rows[0] == Layer("stem.conv", "Conv2d", (16, 32, 32), 432, 16 * 1024 * 27)
    assert rows[-1] == Layer("classifier", "Linear", (7,), 64 * 7 + 7, 64 * 7)
    assert Layer("stages.1.0.shortcut", "ShortcutA", (32, 16, 16), 0, 0) in rows
    assert not {row.type for row in rows} & {"Identity", "Sequential", "ResidualUnit"}


def test_activations_counted_by_hand():
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(8 * 25, 5)
    )
    # The images, the convolution's output, the ReLU's (which the linear layer reads as well), 8 means and deviations.
    expected = 4 * (6 * 3 * 25 + 6 * 8 * 25 + 6 * 8 * 25 + 2 * 8)
    assert activation_bytes(model, in_channels=3, image_size=5, batch_size=6) == expected


def test_activations_of_a_network_grow_with_the_batch_alone():
    with torch.device("meta"):
        model = create("resnet_20")
    sizes = [activation_bytes(model, in_channels=3, image_size=32, batch_size=n) for n in (1, 2, 3)]
    assert sizes[2] - sizes[1] == sizes[1] - sizes[0] > 1_400_000
    assert sizes[0] == activation_bytes(create("resnet_20").eval(), in_channels=3, image_size=32, batch_size=1)


def test_activations_leave_the_network_as_it_is():
    model = create("resnet_20").eval()
    before = copy.deepcopy(model.state_dict())
    activation_bytes(model, in_channels=3, image_size=32)
    assert not model.training
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
