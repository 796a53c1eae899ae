"""Which map a pass through a network is explained by, and the attention that it is seen to use."""

import math

import pytest
import torch
from models.test_models import CASES
from torch import Tensor, nn
from torch.nn import functional as F

from pictorch.deploy.watch import Map, Watch, channels_first
from pictorch.models import create


def watched(model: nn.Module, *, size: int = 32, channels: int = 3) -> tuple[Watch, Tensor, Tensor]:
    images = torch.randn(2, channels, size, size).requires_grad_()
    with Watch(model) as seen:
        logits = model.eval()(images)
    return seen, logits, images


def found(model: nn.Module, side: int = 2, size: int = 32) -> tuple[str, Map]:
    seen, logits, images = watched(model, size=size)
    last = seen.last_map(logits, images, side)
    assert last is not None
    return seen.name_of(last), last


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_listening_changes_no_bit(case: tuple[str, dict[str, object]]) -> None:
    torch.manual_seed(0)
    model = create(case[0], num_classes=3, **case[1]).eval()
    seen, logits, images = watched(model)
    with torch.no_grad():
        assert torch.equal(model(images.detach()), logits.detach())
    assert not any(module._forward_hooks for module in model.modules())
    assert seen.returned


@pytest.mark.parametrize(
    "case", [case for name, case in CASES.items() if not name.startswith("vit")], ids=lambda case: case[0]
)
def test_our_own_networks_are_explained_by_their_features(case: tuple[str, dict[str, object]]) -> None:
    """`forward_features` is by contract the last map with all activations: what is found is that, pooled or not."""
    torch.manual_seed(0)
    model = create(case[0], num_classes=3, **case[1]).eval()
    seen, logits, images = watched(model)
    last = seen.last_map(logits, images)
    assert last is not None
    features = model.forward_features(images.detach())
    if features.shape[2] == 1:  # the last map is a single pixel, which says nothing of places
        assert last.side >= 2
    elif case[0] == "vgg":
        assert torch.equal(F.max_pool2d(last.tensor, 2), features)
    else:
        assert torch.equal(last.tensor, features)


def test_the_map_is_the_one_after_norm_and_activation_though_that_works_in_place() -> None:
    name, last = found(create("resnet_preact", depth=8))
    assert (name, last.tensor.shape) == ("relu after bn", (2, 64, 8, 8))
    assert last.tensor.min() == 0
    assert found(create("resnet", depth=8))[0] == "stages.2.0"
    assert found(create("densenet", depth=10, growth_rate=4))[0] == "last.relu"


@pytest.mark.parametrize(("side", "stage"), [(2, 2), (8, 2), (9, 1), (16, 1), (17, 0), (32, 0)])
def test_a_finer_map_is_the_last_whole_one_of_its_size(side: int, stage: int) -> None:
    name, last = found(create("resnet", depth=14), side)
    assert name == f"stages.{stage}.1"
    assert last.side == 32 >> stage


def test_no_branch_and_no_half_of_the_channels_is_taken() -> None:
    """Of ShuffleNetV2's stages the last 16x16 maps are in the branches of the next stage, and its units split."""
    name, last = found(create("shufflenet_v2", width=0.5), 16)
    assert (name, last.tensor.shape[1]) == ("stages.0.3", 48)

    class TwoBranches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.left, self.right = (nn.Conv2d(channels, 4, 3, padding=1) for channels in (3, 4, 4))
            self.classifier = nn.Linear(8, 3)

        def forward(self, images: Tensor) -> Tensor:
            x = self.stem(images)
            pooled = [branch(x).mean((2, 3)) for branch in (self.left, self.right)]
            return self.classifier(torch.cat(pooled, 1))

    assert found(TwoBranches())[0] == "stem"


def test_channels_may_come_last_and_tokens_become_a_map() -> None:
    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mix, self.head = nn.Linear(3, 5), nn.Linear(5, 3)

        def forward(self, images: Tensor) -> Tensor:
            return self.head(self.mix(images.permute(0, 2, 3, 1)).mean((1, 2)))

    name, last = found(Last())
    assert (name, last.tensor.shape, last.side) == ("mix", (2, 32, 32, 5), 32)
    assert channels_first(last.tensor).shape == (2, 5, 32, 32)
    tokens = torch.arange(2 * 10 * 4.0).reshape(2, 10, 4)
    assert torch.equal(channels_first(tokens)[1, 2], tokens[1, 1:, 2].reshape(3, 3))
    for shape in ((2, 4), (2, 4, 1, 1), (2, 4, 3, 2), (2, 1, 4)):
        with pytest.raises(ValueError, match="no square map"):
            channels_first(torch.zeros(shape))


def slow_attention(query: Tensor, key: Tensor) -> Tensor:
    """Return softmax(q k / sqrt(d)) of one image and head, entry by entry."""
    tokens, width = query.shape
    rows = []
    for i in range(tokens):
        scores = [sum(float(query[i, d] * key[j, d]) for d in range(width)) / math.sqrt(width) for j in range(tokens)]
        total = sum(math.exp(score) for score in scores)
        rows.append([math.exp(score) / total for score in scores])
    return torch.tensor(rows)


@pytest.mark.parametrize("pool", ["cls", "mean"])
def test_attention_is_what_the_network_uses(pool: str) -> None:
    """The weights mix the values into what the fused kernel returns, and are those of a slow reference."""
    torch.manual_seed(0)
    model = create("vit", depth=2, dim=8, heads=2, patch_size=8, pool=pool)
    model.blocks[0].attention.qkv.weight.data.mul_(4)  # or all weights would be nearly the same
    model.eval()
    inputs = {}
    hook = model.blocks[0].attention.register_forward_pre_hook(lambda _, given: inputs.update(x=given[0].detach()))
    seen, _, _ = watched(model)
    hook.remove()
    mixed = model.blocks[0].attention.qkv(inputs["x"]).detach()
    query, key, value = mixed.unflatten(2, (3, 2, -1)).permute(2, 0, 3, 1, 4)
    tokens = 17 if pool == "cls" else 16
    assert [attention.weights.shape for attention in seen.attentions] == [(2, tokens, tokens)] * 2
    slow = [torch.stack([slow_attention(query[n, h], key[n, h]) for h in range(2)]) for n in range(2)]
    torch.testing.assert_close(seen.attentions[0].weights, torch.stack(slow).mean(1))
    torch.testing.assert_close(torch.stack(slow) @ value, F.scaled_dot_product_attention(query, key, value))
    torch.testing.assert_close(seen.attentions[1].weights.sum(2), torch.ones(2, tokens))


class Attends(nn.Module):
    """Attention in one of the ways in which people write it."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way = way
        self.patches = nn.Conv2d(3, 8, 8, 8)
        self.module = nn.MultiheadAttention(8, 2, batch_first=way != "module, tokens first")
        self.head = nn.Linear(8, 3)

    def forward(self, images: Tensor) -> Tensor:
        x = self.patches(images).flatten(2).transpose(1, 2)
        if self.way.startswith("module"):
            order = x.transpose(0, 1) if "first" in self.way else x
            x = self.module(order, order, order, need_weights=False)[0]
            return self.head(x.mean(0 if "first" in self.way else 1))
        heads = x.unflatten(2, (2, 4)).transpose(1, 2)
        if self.way == "masked":
            return self.head(F.scaled_dot_product_attention(heads, heads, heads, is_causal=True).mean(2).flatten(1))
        scores = heads @ heads.transpose(2, 3) / 2
        softmax = {"method": Tensor.softmax, "function": torch.softmax, "functional": F.softmax}[self.way]
        return self.head((softmax(scores, -1) @ heads).mean(2).flatten(1))


@pytest.mark.parametrize("way", ["module", "module, tokens first", "method", "function", "functional"])
def test_attention_is_seen_however_it_is_written(way: str) -> None:
    torch.manual_seed(0)
    seen, _, _ = watched(Attends(way))
    [attention] = seen.attentions
    assert attention.weights is not None
    assert attention.weights.shape == (2, 16, 16)
    torch.testing.assert_close(attention.weights.sum(2), torch.ones(2, 16))


def test_masked_attention_is_no_attention_to_all() -> None:
    seen, _, _ = watched(Attends("masked"))
    assert [attention.weights for attention in seen.attentions] == [None]


def test_hooks_are_gone_after_an_error_too() -> None:
    model = create("resnet", depth=8).eval()
    with pytest.raises(RuntimeError), Watch(model):
        model(torch.zeros(1, 5, 32, 32))
    assert not any(module._forward_hooks for module in model.modules())
    assert torch.is_grad_enabled()
