"""Vision Transformer against a slow forward written from the paper with plain functions on the same weights."""

import math

import pytest
import torch
from models.reference import assert_equal_to, params
from torch import nn
from torch.nn import functional as F

from pictorch.config.errors import OptionError
from pictorch.models import create, vit
from pictorch.models.complexity import count

SMALL = {"patch_size": 4, "dim": 24, "depth": 2, "heads": 3}


def attention(state, x, name, heads):
    """Return the heads' mixtures side by side, mapped: head by head, with an explicit softmax over the tokens."""
    query, key, value = (x @ state[f"{name}.qkv.weight"].T + state[f"{name}.qkv.bias"]).chunk(3, 2)
    mixed = []
    for q, k, v in zip(*(t.chunk(heads, 2) for t in (query, key, value)), strict=True):
        scores = q @ k.transpose(1, 2) / math.sqrt(q.shape[2])
        weights = scores.exp() / scores.exp().sum(2, keepdim=True)
        mixed.append(weights @ v)
    return torch.cat(mixed, 2) @ state[f"{name}.projection.weight"].T + state[f"{name}.projection.bias"]


def reference(_conv, _bn, state, images, *, patch_size, heads, depth, pool="cls", last_norm=True):
    def norm(x, name):
        x = (x - x.mean(2, keepdim=True)) / (x.var(2, correction=0, keepdim=True) + 1e-6).sqrt()
        return x * state[f"{name}.weight"] + state[f"{name}.bias"]

    p = patch_size
    side = images.shape[2] // p
    patches = [images[:, :, i * p : i * p + p, j * p : j * p + p].flatten(1) for i in range(side) for j in range(side)]
    x = torch.stack(patches, 1) @ state["patch_embedding.weight"].flatten(1).T + state["patch_embedding.bias"]
    if pool == "cls":
        x = torch.cat([state["class_token"].repeat(len(images), 1, 1), x], 1)
    x = x + state["position_embedding"]
    for i in range(depth):
        block = f"blocks.{i}"
        x = x + attention(state, norm(x, f"{block}.norm1"), f"{block}.attention", heads)
        y = norm(x, f"{block}.norm2") @ state[f"{block}.mlp.linear1.weight"].T + state[f"{block}.mlp.linear1.bias"]
        y = y * (1 + torch.erf(y / math.sqrt(2))) / 2
        x = x + y @ state[f"{block}.mlp.linear2.weight"].T + state[f"{block}.mlp.linear2.bias"]
    if last_norm:
        x = norm(x, "norm")
    x = x[:, 0] if pool == "cls" else x.mean(1)
    return x @ state["classifier.weight"].T + state["classifier.bias"]


@pytest.mark.parametrize("training", [False, True], ids=["evaluation", "training"])
@pytest.mark.parametrize(
    ("options", "image_size", "expected"),
    [
        (SMALL, 8, {}),
        ({**SMALL, "heads": 1, "mlp_dim": 10, "pool": "mean"}, 12, {"heads": 1, "pool": "mean"}),
        ({**SMALL, "as_published": "seed3", "dropout": 0.0}, 12, {"last_norm": False}),
        ({**SMALL, "patch_size": 14, "in_channels": 1}, 28, {"patch_size": 14}),
    ],
    ids=["cls", "mean", "seed3", "28x28"],
)
def test_forward_and_gradients_equal_the_reference(options, image_size, expected, training):
    torch.manual_seed(0)
    model = create("vit", image_size=image_size, **options)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) / 10)
    images = torch.randn(3, options.get("in_channels", 3), image_size, image_size)
    expected = {**{key: SMALL[key] for key in ("patch_size", "heads", "depth")}, **expected}
    assert_equal_to(reference, model, images, training=training, **expected)


def counted(*, patch_size, dim, depth, mlp_dim, pool, in_channels, image_size, num_classes):
    """Return parameters and multiply-adds, layer by layer from the paper's section 3.1."""
    patches = (image_size // patch_size) ** 2
    tokens = patches + (pool == "cls")
    embedding = in_channels * patch_size**2 * dim
    matrices = depth * (4 * dim * dim + 2 * dim * mlp_dim)
    vectors = depth * (3 * dim + dim + mlp_dim + dim + 4 * dim) + 2 * dim
    tables = tokens * dim + dim * (pool == "cls")
    total = embedding + dim + tables + matrices + vectors + dim * num_classes + num_classes
    return total, patches * embedding + tokens * matrices + dim * num_classes


@pytest.mark.parametrize(
    ("options", "sizes"),
    [
        ({"patch_size": 4, "dim": 20, "depth": 3, "heads": 5, "mlp_dim": 30}, (3, 32, 10)),
        ({"patch_size": 7, "dim": 64, "depth": 1, "heads": 1, "mlp_dim": 64}, (1, 28, 100)),
        ({"patch_size": 8, "dim": 8, "depth": 2, "heads": 8, "mlp_dim": 1, "pool": "mean"}, (3, 8, 1)),
        ({"patch_size": 16, "dim": 384, "depth": 12, "heads": 6, "mlp_dim": 1536, "pool": "mean"}, (3, 224, 1000)),
        ({"patch_size": 2, "dim": 192, "depth": 5, "heads": 3, "mlp_dim": 768}, (3, 64, 200)),
    ],
)
def test_counts(options, sizes):
    sizes = dict(zip(("in_channels", "image_size", "num_classes"), sizes, strict=True))
    with torch.device("meta"):
        model = create("vit", **options, **sizes)
    options = {"pool": "cls", **options}
    del options["heads"]
    expected = counted(**options, **sizes)
    assert count(model, in_channels=sizes["in_channels"], image_size=sizes["image_size"]) == expected


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("vit_ti_4", {}, 5_362_762),
        ("vit_s_4", {}, 21_342_346),
        ("vit_b_4", {}, 85_152_010),
        ("vit_b_16", {}, 85_658_890),
        ("vit_ti_16", {"num_classes": 1000, "image_size": 224}, 5_717_416),
        ("vit_b_16", {"num_classes": 1000, "image_size": 224}, 86_567_656),
        ("vit_b_32", {"num_classes": 1000, "image_size": 224}, 88_224_232),
        ("vit_l_16", {"num_classes": 1000, "image_size": 224}, 304_326_632),
        ("vit_h_14", {"num_classes": 1000, "image_size": 224}, 632_045_800),
        ("vit_base", {"as_published": "seed3"}, 85_150_474),
        ("vit_base", {}, 85_152_010),
    ],
)
def test_named_variants(name, options, expected):
    with torch.device("meta"):
        assert params(create(name, **options)) == expected


def test_defaults():
    with torch.device("meta"):
        small, large = create("vit", depth=1), create("vit", depth=1, image_size=96, dim=192)
    assert small.patch_embedding.kernel_size == (4, 4)
    assert large.patch_embedding.kernel_size == (16, 16)
    assert [(m.blocks[0].attention.heads, m.blocks[0].mlp.linear1.out_features) for m in (small, large)] == [
        (12, 3072),
        (3, 768),
    ]


def test_tokens_are_the_class_and_the_patches_row_by_row():
    torch.manual_seed(0)
    model = create("vit", **SMALL, image_size=8, as_published="seed3").eval()
    assert model.forward_features(torch.randn(2, 3, 8, 8)).shape == (2, 5, 24)
    for block in model.blocks:
        nn.init.zeros_(block.attention.projection.weight)
        nn.init.zeros_(block.mlp.linear2.weight)
        nn.init.zeros_(block.mlp.linear2.bias)
    images = torch.zeros(1, 3, 8, 8)
    before = model.forward_features(images)
    images[:, :, 0:4, 4:8] = 1
    changed = (model.forward_features(images) - before).abs().sum((0, 2)) > 0
    assert changed.tolist() == [False, False, True, False, False]


def test_the_mean_is_over_patches_alone_and_there_is_no_class_token():
    torch.manual_seed(0)
    model = create("vit", **SMALL, image_size=8, pool="mean").eval()
    assert "class_token" not in dict(model.named_parameters())
    tokens = model.forward_features(torch.randn(2, 3, 8, 8))
    assert tokens.shape == (2, 4, 24)
    torch.testing.assert_close(model.forward_head(tokens), model.classifier(tokens.mean(1)))


def spread(tensor):
    """Return whether mean and standard deviation fit those of a sample of this many with deviation 1."""
    return abs(tensor.std() - 1) < 5 / (2 * tensor.numel()) ** 0.5 and abs(tensor.mean()) < 5 / tensor.numel() ** 0.5


def test_initial_values_are_those_of_the_authors():
    torch.manual_seed(0)
    model = create("vit", depth=2, dim=192)
    assert spread(model.position_embedding / 0.02)
    assert model.class_token.eq(0).all()
    lecun = (3 * 4 * 4) ** -0.5
    assert abs(model.patch_embedding.weight.std() / lecun - 1) < 0.02
    assert 2.2 * lecun < model.patch_embedding.weight.abs().max() < 2.3 * lecun
    assert model.patch_embedding.bias.eq(0).all()
    for block in model.blocks:
        for linear, fans in (
            (block.attention.qkv, 192 + 192),
            (block.attention.projection, 192 + 192),
            (block.mlp.linear1, 192 + 768),
            (block.mlp.linear2, 768 + 192),
        ):
            assert 0.99 < linear.weight.abs().max() / (6 / fans) ** 0.5 <= 1
            assert spread(linear.weight / (2 / fans) ** 0.5)
        assert block.attention.qkv.bias.eq(0).all()
        assert block.attention.projection.bias.eq(0).all()
        assert spread(block.mlp.linear1.bias / 1e-6)
        assert spread(block.mlp.linear2.bias / 1e-6)
        assert block.norm1.weight.eq(1).all()
    assert 0.99 < model.classifier.weight.abs().max() * 192**0.5 <= 1
    assert model.classifier.bias.eq(0).all()


def test_initial_values_of_seed3():
    torch.manual_seed(0)
    model = create("vit", depth=1, dim=192, as_published="seed3")
    assert spread(model.position_embedding)
    assert spread(model.class_token)
    mean = create("vit", depth=1, dim=192, as_published="seed3", pool="mean")
    assert spread(mean.position_embedding)


def test_initial_cross_entropy_is_near_that_of_guessing():
    torch.manual_seed(0)
    logits = create("vit", depth=4, dim=192)(torch.randn(64, 3, 32, 32))
    assert 2.2 < F.cross_entropy(logits, torch.randint(10, (64,))) < 2.7


def test_dropout_follows_every_linear_layer_but_the_qkv():
    model = create("vit", **SMALL, dropout=0.25)
    names = [name for name, m in model.named_modules() if isinstance(m, nn.Dropout)]
    per_block = ["attention.dropout", "mlp.dropout1", "mlp.dropout2"]
    assert names == ["dropout", *(f"blocks.{i}.{name}" for i in range(2) for name in per_block)]
    images = torch.randn(2, 3, 32, 32)
    for name in names:
        for dropout in names:
            model.get_submodule(dropout).p = 0.5 if dropout == name else 0.0
        model.train()
        assert not torch.equal(model(images), model(images)), name
        model.eval()
        assert torch.equal(model(images), model(images))
    rates = [create("vit", **SMALL, as_published=seed).dropout.p for seed in (None, "seed3")]
    assert rates == [0.0, 0.1]


def test_images_of_another_size_are_refused():
    model = create("vit", **SMALL, image_size=32)
    for size in ((28, 28), (32, 16), (16, 64)):
        with pytest.raises(OptionError, match=f"this network is for 32, got images of {size[0]} x {size[1]} pixels"):
            model(torch.randn(1, 3, *size))


@pytest.mark.parametrize("image_size", [8, 28, 32, 64, 224])
@pytest.mark.parametrize("in_channels", [1, 3])
def test_image_sizes(image_size, in_channels):
    with torch.device("meta"):
        model = create("vit", dim=64, depth=1, image_size=image_size, in_channels=in_channels)
        tokens = model.forward_features(torch.empty(2, in_channels, image_size, image_size))
    assert tokens.shape == (2, (image_size // (4 if image_size <= 64 else 16)) ** 2 + 1, 64)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "depth: required; the paper's are 12 (Base), 24 (Large) and 32 (Huge) blocks"),
        ({"depth": 0}, "depth: expected a whole number of at least 1, got 0"),
        ({"depth": 10_001}, "depth: expected at most 10,000 blocks, got 10001"),
        ({"depth": 1, "patch_size": 0}, "patch_size: expected a whole number of at least 1, got 0"),
        (
            {"depth": 1, "patch_size": 5},
            "image_size: expected a multiple of patch_size 5, at least 5, got 32; nearest: 30, 35; "
            "patches for 32: 1, 2, 4, 8, 16, 32",
        ),
        ({"depth": 1, "patch_size": 14, "image_size": 8}, "at least 14, got 8; nearest: 14; patches for 8: 1, 2, 4, 8"),
        ({"depth": 1, "image_size": 3}, "at least 4, got 3; nearest: 4"),
        ({"depth": 1, "dim": 12, "heads": 5}, "heads: expected a divisor of dim 12, got 5; valid: 1, 2, 3, 4, 6, 12"),
        ({"depth": 1, "dim": 200}, "heads: expected a divisor of dim 200, got 3; valid: 1, 2, 4, 5"),
        ({"depth": 1, "dim": -8}, "dim: expected a whole number of at least 1, got -8"),
        ({"depth": 1, "mlp_dim": 0}, "mlp_dim: expected a whole number of at least 1, got 0"),
        ({"depth": 1, "heads": True}, "heads: expected a whole number or null, got "),
        ({"depth": 1, "dropout": 1}, "dropout: expected a number from 0 to under 1, got 1"),
        ({"depth": 1, "pool": "max"}, "pool: expected 'cls' or 'mean', got 'max'"),
        ({"depth": 1, "as_published": "seed1"}, "as_published: expected 'seed3' or null, got 'seed1'"),
        ({"depth": 1, "init": "fan_in"}, "init: unknown option"),
    ],
)
def test_mistakes(options, message):
    with pytest.raises(OptionError) as caught:
        create("vit", **options)
    assert str(caught.value).startswith("vit: ")
    assert message in str(caught.value)


@pytest.mark.parametrize("tokens", [65, vit.MOST_WEIGHTED_TOKENS, vit.MOST_WEIGHTED_TOKENS + 1])
@pytest.mark.parametrize("autocast", [False, True])
def test_attention_in_bfloat16_is_that_in_float32_rounded(tokens: int, autocast: bool) -> None:
    generator = torch.Generator().manual_seed(tokens)
    given = torch.randn(3, 4, 2, tokens, 24, generator=generator).bfloat16()
    gradient = torch.randn(4, 2, tokens, 24, generator=generator).bfloat16()
    found, wanted = given.clone().requires_grad_(), given.float().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        mixed = vit.attend(*found)
    mixed.backward(gradient)
    exact = (wanted[0] @ wanted[1].transpose(2, 3) / math.sqrt(24)).softmax(3) @ wanted[2]
    exact.backward(gradient.float())
    assert mixed.dtype == torch.bfloat16
    assert found.grad is not None
    assert wanted.grad is not None
    for ours, theirs in ((mixed, exact), (found.grad, wanted.grad)):
        assert (ours.float() - theirs).norm() < 2**-7 * theirs.norm()


def test_the_weights_of_attention_over_many_tokens_are_not_stored() -> None:
    def largest(tokens: int) -> int:
        sizes: list[int] = []

        def pack(saved: torch.Tensor) -> torch.Tensor:
            sizes.append(saved.numel())
            return saved

        query, key, value = torch.ones(3, 1, 1, tokens, 8, dtype=torch.bfloat16, requires_grad=True)
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda saved: saved):
            vit.attend(query, key, value)
        return max(sizes)

    most = vit.MOST_WEIGHTED_TOKENS
    assert largest(most) == most**2
    assert largest(most + 1) < most**2
