"""The folded network against the network itself: every family, and what may stand around a convolution."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from pictorch.models import create, fold
from pictorch.models.ghost import ghost_batch_norm

# One small network of every family, and of what differs within one.
NETWORKS: dict[str, tuple[str, dict[str, Any]]] = {
    "resnet": ("resnet", {"depth": 8, "base_channels": 8}),
    "resnet bottleneck": ("resnet", {"depth": 11, "block_type": "bottleneck", "base_channels": 8}),
    "resnet imagenet": ("resnet", {"layout": "imagenet", "depth": 18, "base_channels": 8, "stem": "imagenet"}),
    "resnet_preact": ("resnet_preact", {"depth": 14, "base_channels": 8}),
    "resnet_preact last_bn": ("resnet_preact", {"depth": 8, "base_channels": 8, "add_last_bn": True}),
    "resnet_preact no first relu": ("resnet_preact", {"depth": 8, "base_channels": 8, "remove_first_relu": True}),
    "se_resnet": ("se_resnet", {"depth": 8, "base_channels": 16}),
    "se_resnet_preact": ("se_resnet_preact", {"depth": 8, "base_channels": 16}),
    "wrn": ("wrn", {"depth": 10, "widening_factor": 1, "drop_rate": 0.3}),
    "densenet": ("densenet", {"depth": 10, "block_type": "bottleneck", "drop_rate": 0.2}),
    "densenet seed3": ("densenet", {"depth": 7, "as_published": "seed3"}),
    "pyramidnet": ("pyramidnet", {"depth": 8, "alpha": 12}),
    "resnext": ("resnext", {"depth": 11, "cardinality": 2, "base_channels": 4}),
    "shake_shake": ("shake_shake", {"depth": 8, "base_channels": 8}),
    "googlenet": ("googlenet", {"image_size": 16, "aux_logits": True}),
    "googlenet bn": ("googlenet", {"image_size": 16, "batch_norm": True}),
    "mobilenet_v1": ("mobilenet_v1", {"width": 0.25}),
    "mobilenet_v2": ("mobilenet_v2", {"width": 0.35, "drop_rate": 0.2}),
    "shufflenet_v1": ("shufflenet_v1", {"groups": 8, "width": 0.5}),
    "shufflenet_v2": ("shufflenet_v2", {"width": 0.5}),
    "xception": ("xception", {"image_size": 16}),
    "vgg": ("vgg", {"depth": 11, "base_channels": 8}),
    "vgg bn": ("vgg", {"layers": [1, 1], "base_channels": 8, "batch_norm": True, "head": "fc512"}),
    "resnet9": ("resnet9", {"base_channels": 8}),
    "airbench": ("airbench", {"base_channels": 8}),
    "airbench96": ("airbench", {"base_channels": 8, "variant": 96}),
    "vit": ("vit", {"depth": 2, "dim": 32, "heads": 2, "dropout": 0.1}),
}
# In float32 the largest difference of a logit, by the logits' standard deviation; rounding alone.
TOLERANCE = 1e-4


def images_of(size: int = 32, n: int = 6) -> Tensor:
    images = torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(1))
    return images.contiguous(memory_format=torch.channels_last)


@torch.no_grad()
def settled(model: nn.Module, images: Tensor) -> nn.Module:
    """Return the network in eval mode with norms as training leaves them: statistics of its maps, any gain and bias."""
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    for norm in norms:
        norm.momentum = 0.5
        if norm.affine:
            nn.init.uniform_(norm.weight, -0.5, 1.5)
            nn.init.normal_(norm.bias, std=0.2)
    for _ in range(5):
        model.train()(images)
    return model.to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload]


def network(name: str, seed: int = 0) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(seed)
    family, options = NETWORKS[name]
    images = images_of(options.get("image_size", 32))
    return settled(create(family, **options), images), images


def difference(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().max() / other.std())


@pytest.mark.parametrize("name", NETWORKS)
def test_every_family_has_its_own_logits_when_folded(name: str) -> None:
    model, images = network(name)
    state = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    before = images.clone()
    with torch.inference_mode():
        expected = model(images)
        answer = fold.fold(model)
        logits = answer(images)
        assert torch.equal(answer(images), logits)
    assert logits.dtype == torch.float32
    assert difference(logits, expected) < TOLERANCE
    assert torch.equal(images, before)
    assert all(torch.equal(tensor, state[key]) for key, tensor in model.state_dict().items())


@pytest.mark.parametrize(
    ("name", "convolutions", "additions", "norms"),
    [
        ("resnet", 7, 1, 0),
        ("resnet_preact", 13, 4, 0),
        ("wrn", 9, 3, 0),
        ("mobilenet_v2", 52, 11, 0),
        ("googlenet bn", 57, 0, 0),
        ("pyramidnet", 7, 3, 3),  # a norm before a padded convolution
        ("shake_shake", 19, 0, 3),  # a norm of two maps put together
    ],
)
def test_what_is_folded(name: str, convolutions: int, additions: int, norms: int) -> None:
    model, _ = network(name)
    recorder = fold.record(model, model.forward_features)  # type: ignore[operator]
    assert recorder is not None
    folding = fold.Folding(recorder, torch.float32, fused=True)
    kinds = [type(layer) for layer in folding.layers.values()]
    left = [node.target for node in folding.network().graph.nodes]
    assert (len(kinds) - kinds.count(fold.Normalisation), left.count(F.batch_norm)) == (convolutions, norms)
    assert kinds.count(fold.AddedConvolution) == additions


@pytest.mark.parametrize("name", ["resnet", "resnet_preact", "wrn", "densenet", "mobilenet_v2", "shake_shake"])
def test_in_bf16_the_folded_network_is_at_least_as_close_to_float32_as_autocast(name: str) -> None:
    ours, theirs = torch.zeros(2)
    # One network's roundings are luck.
    for seed in range(3):
        model, _ = network(name, seed)
        images = images_of(n=32)
        with torch.inference_mode():
            expected = model(images)
            with torch.autocast("cpu", dtype=torch.bfloat16):
                usual = model(images).float()
            logits = fold.fold(model, torch.bfloat16)(images)
        ours += ((logits - expected) / expected.std()).square().mean()
        theirs += ((usual - expected) / expected.std()).square().mean()
    assert 0 < ours <= theirs


@pytest.mark.parametrize("name", ["resnet", "resnet_preact", "densenet", "airbench96"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_without_onednn_the_same_is_computed(name: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    model, images = network(name)
    monkeypatch.setattr(fold, "has_onednn", lambda device, dtype: False)
    with torch.inference_mode():
        logits, expected = fold.fold(model, dtype)(images), model(images)
    assert difference(logits, expected) < (TOLERANCE if dtype == torch.float32 else 0.2)


def test_ghost_batch_norm_is_folded_as_evaluation_computes_it() -> None:
    model, images = network("resnet")
    with torch.inference_mode():
        expected = model(images)
        assert difference(fold.fold(ghost_batch_norm(model, 4))(images), expected) < TOLERANCE


def test_the_weights_are_those_of_the_moment() -> None:
    model, images = network("resnet")
    with torch.inference_mode():
        before = fold.fold(model)(images)
        model.stem.conv.weight.mul_(2)  # type: ignore[union-attr, operator]
        model.stem.bn.running_mean.zero_()  # type: ignore[union-attr, operator]
        after = fold.fold(model)(images)
        assert difference(after, before) > 0.1
        assert difference(after, model(images)) < TOLERANCE


class Around(nn.Module):
    """A convolution and a norm with something around them, as `what` does."""

    def __init__(self, what: Callable[["Around", Tensor], Tensor]) -> None:
        super().__init__()
        self.what = what
        self.conv, self.other = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 1)
        self.norm, self.last = nn.BatchNorm2d(3), nn.BatchNorm2d(3)
        self.bare, self.flat = nn.BatchNorm2d(3, track_running_stats=False), nn.BatchNorm1d(3)
        self.wrapped = nn.Conv2d(3, 3, 3, padding="same", padding_mode="circular")
        self.text = nn.Conv2d(3, 3, 3, padding="same")
        self.weighted = nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 3, 3, padding=1))
        self.count = 2

    def forward(self, images: Tensor) -> Tensor:
        return self.what(self, images).mean((2, 3))


def kept_sum(m: Around, x: Tensor) -> Tensor:
    a = m.conv(x)
    total = m.norm(m.other(x)) + a
    return total * a


def viewed_sum(m: Around, x: Tensor) -> Tensor:
    a = m.conv(x)
    half = a[:, :, ::2, ::2]
    return (m.norm(m.other(x)) + a)[:, :, ::2, ::2] * half


def changed_between(m: Around, x: Tensor) -> Tensor:
    a = m.conv(x)
    b = m.other(a)
    return b + F.relu(a, inplace=True)


def broadcast_sum(m: Around, x: Tensor) -> Tensor:
    a = m.conv(x.mean((2, 3), keepdim=True))
    return F.relu(m.other(x) + a)


def scaled_sum(m: Around, x: Tensor) -> Tensor:
    a = m.conv(x)
    return torch.add(m.other(x), a, alpha=3)


@pytest.mark.parametrize(
    "what",
    [
        lambda m, x: m.norm(m.conv(x)) + m.conv(x),  # one convolution in two places
        lambda m, x: (y := m.conv(x)) * m.norm(y),  # the norm is not alone
        lambda m, x: m.last(m.norm(m.conv(x))),
        lambda m, x: F.relu6(m.norm(x * 9)),
        lambda m, x: F.relu(m.norm(x)) + 1,
        lambda m, x: m.other(F.relu(m.norm(x))),
        lambda m, x: m.bare(m.conv(x)),
        lambda m, x: F.relu(m.norm(m.wrapped(x))),
        lambda m, x: F.relu(m.norm(m.text(x))),
        lambda m, x: F.relu(m.norm(m.weighted(x))),
        lambda m, x: F.relu(m.flat(m.conv(x).mean((2, 3))))[:, :, None, None],
        lambda m, x: F.relu_(m.norm(m.conv(x))),
        lambda m, x: m.norm(m.conv(x)).relu_().add_(x),
        lambda m, x: sum(m.norm(part + 1) for part in (x, m.conv(x))),
        lambda m, x: m.norm(m.conv(x)) if len(x) > 1 else x,  # cannot be recorded
        kept_sum,
        viewed_sum,
        changed_between,
        broadcast_sum,
        scaled_sum,
    ],
)
def test_what_may_stand_around_a_convolution(what: Callable[[Around, Tensor], Tensor]) -> None:
    torch.manual_seed(0)
    images = images_of(8)
    model = settled(Around(what), images)
    with torch.inference_mode():
        logits, expected = fold.fold(model)(images), model(images)
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)


def test_a_layers_hooks_are_called() -> None:
    model, images = network("resnet")
    with torch.inference_mode():
        plain = model(images)
        model.stem.conv.register_forward_hook(lambda module, inputs, output: output * 2)  # type: ignore[union-attr]
        expected = model(images)
        assert difference(expected, plain) > 0.01
        assert difference(fold.fold(model)(images), expected) < TOLERANCE


def test_the_head_is_computed_in_float32_within_autocast_too() -> None:
    model, images = network("resnet")
    with torch.inference_mode():
        logits = fold.fold(model, torch.bfloat16)(images)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            within = fold.fold(model, torch.bfloat16)(images)
    assert not torch.equal(logits, logits.bfloat16().float())
    assert torch.equal(within, logits)
