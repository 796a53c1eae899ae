"""Vision Transformer: "An Image is Worth 16x16 Words", A. Dosovitskiy, L. Beyer et al., arXiv:2010.11929.

    create(depth=12, dim=192)                                        ViT-Ti/4 for 32x32 images: 5,362,762 parameters
    create(depth=12, image_size=224, num_classes=1000)                                ViT-B/16: 86,567,656 parameters

Patches are embedded by a linear map, a class token is put in front and a learned position embedding added; blocks of
LayerNorm-attention and LayerNorm-MLP with residual connections follow, then a LayerNorm and, on the class token, a
linear layer. `forward_features` returns tokens [N, tokens, dim]: the class token first, then the patches row by row.

Initial values are those of the authors' code: Xavier uniform linear layers (query, key and value each), biases 0 but
normal with deviation 1e-6 in the MLPs, position embedding normal with deviation 0.02, class token 0, and the
patches' map LeCun normal, truncated at two deviations. The last layer is that of all our networks, uniform in
+-1/sqrt(dim), where theirs is 0, so that the first step already moves every weight.
"""

from math import sqrt
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pictorch.config.errors import OptionError
from pictorch.models.init import initialise
from pictorch.models.layers import DEEPEST, Classifier, check_positive, check_rate, linear

Pool = Literal["cls", "mean"]

# 2010.11929, table 1, and the smaller ones of DeiT (2012.12877): dim, depth, heads
SIZES = {"ti": (192, 12, 3), "s": (384, 12, 6), "b": (768, 12, 12), "l": (1024, 24, 16), "h": (1280, 32, 16)}
PATCHES = {"ti": (4, 16), "s": (4, 16), "b": (4, 16, 32), "l": (16, 32), "h": (14,)}
MOST_WEIGHTED_TOKENS = 256  # above them the weights of attention, which grow with their square, are never stored
# names of seed document 3
SEED3 = {"xs": (192, 6, 3), "s": (384, 8, 6), "base": SIZES["b"], "large": SIZES["l"], "huge": SIZES["h"]}


def _variant(patch_size: int, size: tuple[int, int, int]) -> dict[str, object]:
    return dict(zip(("patch_size", "dim", "depth", "heads"), (patch_size, *size), strict=True))


VARIANTS: dict[str, dict[str, object]] = {
    **{f"vit_{name}_{p}": _variant(p, SIZES[name]) for name, patches in PATCHES.items() for p in patches},
    **{f"vit_{name}": _variant(4, size) for name, size in SEED3.items()},
}


def create(
    *,
    num_classes: int = 10,
    in_channels: int = 3,
    image_size: int = 32,
    patch_size: int | None = None,
    dim: int = 768,
    depth: int | None = None,
    heads: int | None = None,
    mlp_dim: int | None = None,
    dropout: float | None = None,
    pool: Pool = "cls",
    as_published: Literal["seed3"] | None = None,
) -> nn.Module:
    """Return a Vision Transformer for images [N, in_channels, image_size, image_size], and no other size.

    patch_size: pixels a side of a patch, a divisor of image_size; 4 up to image_size 64, else 16.
    dim: width of a token; depth: blocks, required; heads: of the attention, a divisor of dim, dim / 64 unless told;
        mlp_dim: width inside an MLP, 4 dim unless told.
    dropout: rate after the position embedding and after every linear layer but query, key and value; 0 unless told. The
        paper has 0.1 for ImageNet and ImageNet-21k, 0 for JFT.
    pool: "cls" is the class token; "mean" is the mean of the patches' tokens, and there is no class token, as in the
        authors' code.
    as_published: "seed3" has no LayerNorm behind the last block, position embedding and class token from N(0, 1), and
        dropout 0.1 unless told: 85,150,474 parameters as `vit_base`.

    Raises OptionError.
    """
    seed3 = as_published == "seed3"
    patch_size = patch_size if patch_size is not None else (4 if image_size <= 64 else 16)
    dropout = dropout if dropout is not None else (0.1 if seed3 else 0.0)
    check_rate("vit", dropout=dropout)
    if depth is None:
        raise OptionError("vit", "depth", "required; the paper's are 12 (Base), 24 (Large) and 32 (Huge) blocks")
    check_positive("vit", patch_size=patch_size, dim=dim, depth=depth)
    heads = heads if heads is not None else max(dim // 64, 1)
    mlp_dim = mlp_dim if mlp_dim is not None else 4 * dim
    check_positive("vit", heads=heads, mlp_dim=mlp_dim)
    if depth > DEEPEST:
        raise OptionError("vit", "depth", f"expected at most {DEEPEST:,} blocks, got {depth}")
    if image_size % patch_size:
        sizes = [n * patch_size for n in (image_size // patch_size, image_size // patch_size + 1) if n]
        raise OptionError(
            "vit",
            "image_size",
            f"expected a multiple of patch_size {patch_size}, at least {patch_size}, got {image_size}; nearest: "
            f"{_listed(sizes)}; patches for {image_size}: {_listed(_divisors(image_size))}",
        )
    if dim % heads:
        raise OptionError(
            "vit", "heads", f"expected a divisor of dim {dim}, got {heads}; valid: {_listed(_divisors(dim))}"
        )
    model = VisionTransformer(
        patch_size=patch_size,
        dim=dim,
        depth=depth,
        heads=heads,
        mlp_dim=mlp_dim,
        dropout=dropout,
        pool=pool,
        last_norm=not seed3,
        in_channels=in_channels,
        image_size=image_size,
        num_classes=num_classes,
    )
    _initialise(model, token_std=1.0 if seed3 else None)
    return model


def _divisors(whole: int) -> list[int]:
    return [d for d in range(1, whole + 1) if whole % d == 0]


def _listed(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers))


class VisionTransformer(Classifier):
    """Patch and position embedding, blocks, LayerNorm, pooling of tokens, linear layer; arguments as in `create`."""

    def __init__(
        self,
        *,
        patch_size: int,
        dim: int,
        depth: int,
        heads: int,
        mlp_dim: int,
        dropout: float,
        pool: Pool,
        last_norm: bool,
        in_channels: int,
        image_size: int,
        num_classes: int,
    ) -> None:
        super().__init__()
        self.image_size, self.pool, self.feature_dim = image_size, pool, dim
        tokens = (image_size // patch_size) ** 2
        if pool == "cls":
            self.class_token = nn.Parameter(torch.empty(1, 1, dim))
            tokens += 1
        self.position_embedding = nn.Parameter(torch.empty(1, tokens, dim))
        self.patch_embedding = nn.Conv2d(in_channels, dim, patch_size, patch_size)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.Sequential(*(Block(dim, heads, mlp_dim, dropout) for _ in range(depth)))
        self.norm = nn.LayerNorm(dim, eps=1e-6) if last_norm else nn.Identity()
        self.classifier = linear(dim, num_classes)

    def forward_features(self, images: Tensor) -> Tensor:
        """Return tokens [N, tokens, dim] of images [N, C, image_size, image_size]."""
        if images.shape[2:] != (self.image_size, self.image_size):
            size = " x ".join(str(side) for side in images.shape[2:])
            raise OptionError(
                "vit", "image_size", f"this network is for {self.image_size}, got images of {size} pixels"
            )
        x = self.patch_embedding(images).flatten(2).transpose(1, 2)
        if self.pool == "cls":
            x = torch.cat([self.class_token.expand(x.shape[0], -1, -1), x], 1)
        tokens: Tensor = self.norm(self.blocks(self.dropout(x + self.position_embedding)))
        return tokens

    def forward_head(self, features: Tensor) -> Tensor:
        """Return logits [N, num_classes] of tokens [N, tokens, dim]."""
        logits: Tensor = self.classifier(features[:, 0] if self.pool == "cls" else features.mean(1))
        return logits


class Block(nn.Module):
    """x [N, tokens, dim] -> y = x + attention(norm(x)) -> y + mlp(norm(y)), of the same shape."""

    def __init__(self, dim: int, heads: int, mlp_dim: int, dropout: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attention = Attention(dim, heads, dropout)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = nn.Sequential()
        self.mlp.add_module("linear1", linear(dim, mlp_dim))
        self.mlp.add_module("gelu", nn.GELU())
        self.mlp.add_module("dropout1", nn.Dropout(dropout))
        self.mlp.add_module("linear2", linear(mlp_dim, dim))
        self.mlp.add_module("dropout2", nn.Dropout(dropout))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


class Attention(nn.Module):
    """Multi-head self-attention, x [N, tokens, dim] -> [N, tokens, dim]; scores are divided by sqrt(dim / heads)."""

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = linear(dim, 3 * dim)
        self.projection = linear(dim, dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.qkv(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        mixed = attend(query, key, value)
        out: Tensor = self.dropout(self.projection(mixed.transpose(1, 2).flatten(2)))
        return out


def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Return softmax(query key^T / sqrt(D)) value for all heads, each [N, heads, tokens, D].

    On a CPU in bfloat16 torch's fused operation takes four times as long, backward included (48 ms and not 10, of
    [32, 3, 65, 64] on one core): there it is two products and a softmax, as long as their weights are small.
    """
    tokens = query.shape[2]
    if query.device.type != "cpu" or query.dtype != torch.bfloat16 or tokens > MOST_WEIGHTED_TOKENS:
        return F.scaled_dot_product_attention(query, key, value)
    # Autocast would take the softmax's input and output through float32; inside it is computed in that anyway.
    with torch.autocast("cpu", enabled=False):
        scores = (query * query.shape[3] ** -0.5) @ key.transpose(2, 3)
        mixed: Tensor = scores.softmax(3) @ value
        return mixed


def _initialise(model: VisionTransformer, *, token_std: float | None) -> None:
    """Draw the initial values that the module's docstring tells of; class token and positions of `token_std` if any."""
    nn.init.normal_(model.position_embedding, std=token_std or 0.02)
    if model.pool == "cls":
        nn.init.normal_(model.class_token, std=token_std or 0.0)
    patches = model.patch_embedding
    # 0.8796 is the deviation of a standard normal variable cut off at +-2.
    std = 1 / sqrt(patches.weight[0].numel()) / 0.87962566
    nn.init.trunc_normal_(patches.weight, std=std, a=-2 * std, b=2 * std)
    nn.init.zeros_(patches.bias)  # type: ignore[arg-type]
    for module in model.blocks.modules():
        if isinstance(module, Attention):
            bound = sqrt(3 / module.projection.in_features)
            nn.init.uniform_(module.qkv.weight, -bound, bound)
            nn.init.uniform_(module.projection.weight, -bound, bound)
            nn.init.zeros_(module.qkv.bias)
            nn.init.zeros_(module.projection.bias)
        elif isinstance(module, Block):
            for linear in (module.mlp.linear1, module.mlp.linear2):
                assert isinstance(linear, nn.Linear)
                nn.init.xavier_uniform_(linear.weight)
                nn.init.normal_(linear.bias, std=1e-6)
    initialise(model.classifier)
