"""DenseNet against a slow forward written from the paper with plain functions on the same weights."""

import copy

import pytest
import torch
from models.reference import assert_equal_to, assert_freshly_drawn, params, plain_layers
from torch import nn
from torch.nn import functional as F

from pictorch.config.errors import OptionError
from pictorch.models import create
from pictorch.models.densenet import statistics_kept


def reference(conv, bn, state, x, *, blocks, stem="cifar", seed3=False, last_relu=True):
    if seed3:
        x = conv(torch.relu(bn(x, "stem.bn")), "stem.conv")
    elif stem == "cifar":
        x = conv(x, "stem.conv")
    else:
        x = F.max_pool2d(torch.relu(bn(conv(x, "stem.conv", 2), "stem.bn")), 3, 2, 1)
    for i, layers in enumerate(blocks):
        for j in range(layers):
            layer = f"stages.{2 * i}.{j}"
            y = conv(torch.relu(bn(x, f"{layer}.bn1")), f"{layer}.conv1")
            if f"{layer}.conv2.weight" in state:
                y = conv(torch.relu(bn(y, f"{layer}.bn2")), f"{layer}.conv2")
            x = torch.cat([x, y], 1)
        if i + 1 < len(blocks) or seed3:
            transition = f"stages.{2 * i + 1}"
            x = F.avg_pool2d(conv(torch.relu(bn(x, f"{transition}.bn")), f"{transition}.conv"), 2)
    if not seed3:
        x = bn(x, "last.bn")
        x = torch.relu(x) if last_relu else x
    x = F.adaptive_avg_pool2d(x, 1).flatten(1)
    return x @ state["classifier.weight"].T + state["classifier.bias"]


BC = {"depth": 16, "growth_rate": 3, "block_type": "bottleneck"}
IMAGENET = {"layout": "imagenet", "blocks": [1, 2, 1], "growth_rate": 4}
CASES = {
    "basic": ({"depth": 10, "growth_rate": 3}, {"blocks": (2, 2, 2)}),
    "BC": (BC, {"blocks": (2, 2, 2)}),
    "odd compression": ({**BC, "compression_rate": 0.3}, {"blocks": (2, 2, 2)}),
    "checkpointing": ({**BC, "checkpointing": True}, {"blocks": (2, 2, 2)}),
    "imagenet": ({**IMAGENET, "stem": "imagenet"}, {"blocks": (1, 2, 1), "stem": "imagenet"}),
    "imagenet of seed 2": ({**IMAGENET, "as_published": "seed2"}, {"blocks": (1, 2, 1), "last_relu": False}),
    "imagenet of seed 3": ({**IMAGENET, "as_published": "seed3"}, {"blocks": (1, 2, 1), "seed3": True}),
}


@pytest.mark.parametrize("training", [False, True], ids=["evaluation", "training"])
@pytest.mark.parametrize(("options", "expected"), CASES.values(), ids=CASES.keys())
def test_forward_and_gradients_equal_the_reference(options, expected, training):
    torch.manual_seed(0)
    model = create("densenet", **options)
    assert_equal_to(reference, model, torch.randn(3, 3, 32, 32), training=training, **expected)


def trained(checkpointing, drop_rate):
    """Return gradients and running statistics after one step from the same weights and random numbers."""
    torch.manual_seed(0)
    model = create("densenet", **BC, checkpointing=checkpointing, drop_rate=drop_rate)
    model(torch.randn(4, 3, 32, 32)).square().sum().backward()
    return [p.grad for p in model.parameters()], dict(model.named_buffers())


@pytest.mark.parametrize("drop_rate", [0.0, 0.2])
def test_checkpointing_changes_no_gradient_and_no_statistic(drop_rate):
    gradients, buffers = trained(False, drop_rate)
    again, statistics = trained(True, drop_rate)
    assert all(torch.equal(a, b) for a, b in zip(gradients, again, strict=True))
    assert all(torch.equal(buffers[name], statistics[name]) for name in buffers)
    assert statistics["stages.0.0.bn1.num_batches_tracked"] == 1


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # torch's own compiler
def test_checkpointing_survives_compilation():
    torch.compiler.reset()
    torch.manual_seed(0)
    images = torch.randn(2, 3, 8, 8)
    model = create("densenet", depth=10, growth_rate=2, block_type="bottleneck", checkpointing=True)
    twin = copy.deepcopy(model)
    for network in (model, torch.compile(twin, fullgraph=True, backend="aot_eager")):
        network(images).square().sum().backward()
    for ours, theirs in zip(twin.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-5)
    for ours, theirs in zip(twin.buffers(), model.buffers(), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_checkpointing_counts_a_batch_once_in_every_kind_of_normalisation():
    layer = nn.SyncBatchNorm(3)
    with statistics_kept(nn.Sequential(layer)):
        layer.running_mean.add_(1)
    assert layer.running_mean.eq(0).all()


def bytes_kept(forward, images, own):
    """Return the bytes that autograd keeps of a forward pass, the tensors `own` left out."""
    kept = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        kept[storage._cdata] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        out = forward(images)
    for tensor in own:
        kept.pop(tensor.untyped_storage()._cdata, None)
    del out
    return sum(storage.nbytes() for storage in kept.values())


def test_memory_of_bc_100():
    """No more than plain concatenation keeps, and with checkpointing under half of it."""
    images = torch.randn(2, 3, 32, 32)
    model = create("densenet_bc_100_12")
    own = [*model.parameters(), *model.buffers()]
    state = {**dict(model.named_buffers()), **dict(model.named_parameters())}
    conv, bn = plain_layers(state, training=True)
    plain = bytes_kept(lambda x: reference(conv, bn, state, x, blocks=(16, 16, 16)), images, own)
    assert bytes_kept(model, images, own) <= 1.1 * plain
    for block in model.stages:
        block.checkpointing = True
    assert bytes_kept(model, images, own) < 0.2 * plain


def test_dropout_follows_every_convolution_but_the_first():
    with torch.device("meta"):
        model = create("densenet", **BC, drop_rate=0.2)
    names = [type(m).__name__ for m in model.modules() if isinstance(m, nn.Conv2d | nn.Dropout)]
    assert names == ["Conv2d"] + ["Conv2d", "Dropout"] * (6 * 2 + 2)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"layout": "imagenet", "depth": 121, "as_published": "seed3"}, 7_476_944),
        ({"layout": "imagenet", "depth": 264, "as_published": "seed3"}, 34_269_968),
        ({"layout": "imagenet", "depth": 201}, 18_104_330),
        ({"layout": "imagenet", "depth": 201, "num_classes": 100}, 18_277_220),
        ({"layout": "imagenet", "depth": 201, "image_size": 224, "num_classes": 1000}, 20_013_928),
        ({"layout": "imagenet", "depth": 264, "image_size": 224, "num_classes": 1000}, 33_337_704),
        # torchvision's, whose 161 layers have growth rate 48 and a stem of 96
        ({"layout": "imagenet", "depth": 161, "image_size": 224, "num_classes": 1000}, 28_681_000),
        ({"depth": 100, "as_published": "seed1"}, 7_083_538),
        ({"depth": 100, "as_published": "seed2"}, 7_083_538),
        ({"depth": 100}, 6_979_642),
        ({"depth": 40, "block_type": "basic", "growth_rate": 12}, 1_019_722),
    ],
)
def test_counts(options, expected):
    with torch.device("meta"):
        assert params(create("densenet", **options)) == expected


@pytest.mark.parametrize("mode", ["fan_out", "fan_in"])
def test_initial_weights(mode):
    torch.manual_seed(0)
    assert_freshly_drawn(create("densenet", depth=16, block_type="bottleneck", init=mode), mode)


@pytest.mark.parametrize(("in_channels", "image_size"), [(1, 8), (1, 28), (3, 33), (3, 4)])
def test_image_sizes(in_channels, image_size):
    model = create("densenet", depth=10, growth_rate=2, in_channels=in_channels, image_size=image_size).eval()
    assert model(torch.randn(2, in_channels, image_size, image_size)).shape == (2, 10)


@pytest.mark.parametrize("stem", ["cifar", "imagenet"])
def test_the_smallest_image(stem):
    options = {"layout": "imagenet", "blocks": [1, 1, 1, 1], "growth_rate": 2, "stem": stem}
    smallest = {"cifar": 8, "imagenet": 29}[stem]
    model = create("densenet", image_size=smallest, **options).eval()
    assert model(torch.randn(1, 3, smallest, smallest)).shape == (1, 10)
    with pytest.raises(RuntimeError, match=r"output size is too small|Output size is too small|too small"):
        model(torch.randn(1, 3, smallest - 1, smallest - 1))
    with pytest.raises(OptionError, match=f"need at least {smallest}, got {smallest - 1}"):
        create("densenet", image_size=smallest - 1, **options)


def test_a_copy_has_its_own_statistics():
    model = create("densenet", **BC, checkpointing=True)
    twin = copy.deepcopy(model)
    model(torch.randn(2, 3, 32, 32)).sum().backward()
    assert twin.stages[0][0].bn1.num_batches_tracked == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "densenet: depth: required; layout 'cifar' with basic layers has depths 3n+4 (7, 10, 13, 16 ...)"),
        ({"depth": 101}, "depths 3n+4, got 101; nearest: 100, 103"),
        ({"depth": 99, "block_type": "bottleneck"}, "depths 6n+4, got 99; nearest: 94, 100"),
        (
            {"layout": "imagenet", "depth": 100},
            "layout 'imagenet' has 121, 161, 169, 201, 264; got 100; or give blocks",
        ),
        ({"depth": 40, "blocks": [2, 2]}, "blocks: give either depth or blocks, got depth 40 and blocks [2, 2]"),
        ({"blocks": []}, "expected 1 to 10 blocks of 1 to 1,000 layers, got []"),
        ({"blocks": [3, 0]}, "expected 1 to 10 blocks of 1 to 1,000 layers, got [3, 0]"),
        ({"depth": 40, "growth_rate": 0}, "growth_rate: expected a whole number of at least 1, got 0"),
        ({"depth": 40, "stem_channels": -2}, "stem_channels: expected a whole number of at least 1, got -2"),
        ({"depth": 40, "compression_rate": 0.0}, "compression_rate: expected a number above 0 and up to 1, got 0"),
        ({"depth": 40, "compression_rate": 1.5}, "compression_rate: expected a number above 0 and up to 1, got 1.5"),
        ({"depth": 10, "compression_rate": 0.001}, "compression_rate: leaves no channel of the 40 after block 1"),
        ({"depth": 40, "drop_rate": 1.0}, "densenet: drop_rate: "),
        ({"depth": 40, "image_size": 3}, "2 halvings with stem 'cifar' need at least 4, got 3"),
        (
            {"depth": 40, "as_published": "seed3", "stem": "imagenet"},
            "stem: as_published='seed3' has a stem of its own",
        ),
    ],
)
def test_impossible_networks(options, message):
    with pytest.raises(OptionError) as caught:
        create("densenet", **options)
    assert message in str(caught.value)
