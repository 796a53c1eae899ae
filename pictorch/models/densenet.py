"""DenseNet: "Densely Connected Convolutional Networks", G. Huang, Z. Liu, L. van der Maaten et al., arXiv:1608.06993.

    create(depth=100, growth_rate=12, block_type="bottleneck")                         DenseNet-BC: 769,162 parameters
    create(layout="imagenet", depth=121, image_size=224, num_classes=1000)                       7,978,856 parameters

A layer is BN-ReLU-3x3, or BN-ReLU-1x1-BN-ReLU-3x3 (bottleneck), and its `growth_rate` channels are appended to what it
has seen. Between blocks stands a transition, BN-ReLU-1x1 and 2x2 average pooling; one BN-ReLU follows the last block.
"""

import contextlib
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from functools import partial
from itertools import pairwise
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from pictorch.config.errors import OptionError
from pictorch.config.keywords import show
from pictorch.models.fused import Sequential
from pictorch.models.init import Mode, initialise
from pictorch.models.layers import (
    BlockType,
    Classifier,
    Layout,
    StemType,
    check_positive,
    check_rate,
    convolution,
    create_stem,
    linear,
    units_per_stage,
)

AsPublished = Literal["seed1", "seed2", "seed3"]

# 1608.06993, table 1, and the authors' code: layers of each block; 161 is published with growth rate 48
IMAGENET_BLOCKS = {
    121: (6, 12, 24, 16),
    161: (6, 12, 36, 24),
    169: (6, 12, 32, 32),
    201: (6, 12, 48, 32),
    264: (6, 12, 64, 48),
}
BOTTLENECK = 4  # channels of the 1x1 convolution over growth_rate

VARIANTS: dict[str, dict[str, object]] = {
    **{
        f"densenet_{depth}_{k}": {"layout": "cifar", "depth": depth, "growth_rate": k, "block_type": "basic"}
        for depth, k in ((40, 12), (100, 12), (100, 24))
    },
    **{
        f"densenet_bc_{depth}_{k}": {"layout": "cifar", "depth": depth, "growth_rate": k, "block_type": "bottleneck"}
        for depth, k in ((100, 12), (250, 24), (190, 40))
    },
    **{f"densenet{depth}": {"layout": "imagenet", "depth": depth} for depth in IMAGENET_BLOCKS},
}


def create(
    *,
    num_classes: int = 10,
    in_channels: int = 3,
    image_size: int = 32,
    layout: Layout = "cifar",
    depth: int | None = None,
    blocks: Sequence[int] | None = None,
    block_type: BlockType | None = None,
    growth_rate: int | None = None,
    compression_rate: float | None = None,
    drop_rate: float = 0.0,
    stem: StemType | None = None,
    stem_channels: int | None = None,
    checkpointing: bool = False,
    init: Mode = "fan_out",
    as_published: AsPublished | None = None,
) -> nn.Module:
    """Return a DenseNet for images [N, in_channels, image_size, image_size].

    layout: "cifar" (three blocks of equal length) or "imagenet" (four).
    depth: 3n+4 (basic) or 6n+4 (bottleneck) for layout "cifar", 121, 161, 169, 201 or 264 for "imagenet"; or instead
    blocks: how many layers each block has.
    block_type: "basic" for layout "cifar", "bottleneck" for "imagenet", unless told. DenseNet-BC has "bottleneck".
    growth_rate: channels that each layer adds, 12 ("cifar") or 32 ("imagenet"; 48 for depth 161).
    compression_rate: channels that a transition keeps, rounded down: all (basic) or half (bottleneck).
    drop_rate: dropout after every convolution but the stem's; the paper's is 0.2, where images are not augmented.
    stem: "cifar" (3x3, stride 1, nothing behind it) or "imagenet" (7x7/2-BN-ReLU, max-pooling); the former up to
        image_size 64.
    stem_channels: 16 for basic layers of layout "cifar" (the paper's text and counts), else twice growth_rate.
    checkpointing: the layers are computed a second time in the backward pass instead of kept: less than half the
        memory, the same gradients and statistics.
    init: fan of the convolutions' initial weights.
    as_published: "seed1" and "seed2" have stems of twice growth_rate in all networks; "seed2" has no ReLU at the end of
        layout "imagenet". "seed3" has BN-ReLU before its 3x3 stem with bias, a transition after the last block, too,
        with nothing behind it, and biases in the transitions.

    Raises OptionError.
    """
    block_type = block_type or ("basic" if layout == "cifar" else "bottleneck")
    growth = growth_rate if growth_rate is not None else (12 if layout == "cifar" else 48 if depth == 161 else 32)
    check_positive("densenet", growth_rate=growth)
    lengths = _blocks(layout, depth, blocks, block_type)
    compression = compression_rate if compression_rate is not None else (1.0 if block_type == "basic" else 0.5)
    if not 0 < compression <= 1:
        raise OptionError("densenet", "compression_rate", f"expected a number above 0 and up to 1, got {compression}")
    check_rate("densenet", drop_rate=drop_rate)
    narrow = layout == "cifar" and block_type == "basic" and as_published is None
    width = stem_channels if stem_channels is not None else (16 if narrow else 2 * growth)
    check_positive("densenet", stem_channels=width)
    seed3 = as_published == "seed3"
    if seed3 and stem == "imagenet":
        raise OptionError("densenet", "stem", "as_published='seed3' has a stem of its own, in place of 'cifar'")
    stem = stem or ("cifar" if image_size <= 64 or seed3 else "imagenet")
    halvings = len(lengths) - (0 if seed3 else 1) + (2 if stem == "imagenet" else 0)
    smallest = _smallest_image(len(lengths) - (0 if seed3 else 1), stem)
    if image_size < smallest:
        what = f"{halvings} halvings with stem {stem!r} need at least {smallest}"
        raise OptionError("densenet", "image_size", f"{what}, got {image_size}")
    model = DenseNet(
        stem=stem,
        stem_channels=width,
        blocks=lengths,
        block_type=block_type,
        growth_rate=growth,
        compression_rate=compression,
        drop_rate=drop_rate,
        checkpointing=checkpointing,
        last_relu=not (as_published == "seed2" and layout == "imagenet"),
        seed3=seed3,
        in_channels=in_channels,
        num_classes=num_classes,
    )
    initialise(model, init)
    return model


def _blocks(layout: Layout, depth: int | None, blocks: Sequence[int] | None, block_type: BlockType) -> tuple[int, ...]:
    """Return how many layers each block has."""
    if blocks is not None:
        if depth is not None:
            given = f"depth {depth} and blocks {show(blocks)}"
            raise OptionError("densenet", "blocks", f"give either depth or blocks, got {given}")
        if not 1 <= len(blocks) <= 10 or any(not 1 <= n <= 1000 for n in blocks):
            raise OptionError("densenet", "blocks", f"expected 1 to 10 blocks of 1 to 1,000 layers, got {show(blocks)}")
        return tuple(blocks)
    if layout == "cifar":
        what = f"layout 'cifar' with {block_type} layers"
        n = units_per_stage("densenet", depth, 3 if block_type == "basic" else 6, 4, what=what)
        return (n,) * 3
    if depth not in IMAGENET_BLOCKS:
        got = "required" if depth is None else f"got {depth}"
        listed = ", ".join(map(str, IMAGENET_BLOCKS))
        raise OptionError("densenet", "depth", f"layout 'imagenet' has {listed}; {got}; or give blocks")
    return IMAGENET_BLOCKS[depth]


def _smallest_image(transitions: int, stem: StemType) -> int:
    """Return the smallest size of which the poolings, which round down, leave a pixel."""
    # 7x7/2 and 3x3/2 round up: n pixels are left of 4 n - 3.
    least = 1 << transitions
    return least if stem == "cifar" else 4 * least - 3


class DenseNet(Classifier):
    """Stem, blocks with transitions between them, BN-ReLU, global average pooling, linear layer."""

    def __init__(
        self,
        *,
        stem: StemType,
        stem_channels: int,
        blocks: Sequence[int],
        block_type: BlockType,
        growth_rate: int,
        compression_rate: float,
        drop_rate: float,
        checkpointing: bool,
        last_relu: bool,
        seed3: bool,
        in_channels: int,
        num_classes: int,
    ) -> None:
        super().__init__()
        self.stem = (
            stem_of_seed3(in_channels, stem_channels)
            if seed3
            else create_stem(stem, in_channels, stem_channels, bn_relu=False)
        )
        self.stages = nn.Sequential()
        channels = stem_channels
        for i, layers in enumerate(blocks):
            block = DenseBlock(
                channels, layers, growth_rate, bottleneck=block_type == "bottleneck", drop_rate=drop_rate
            )
            block.checkpointing = checkpointing
            self.stages.append(block)
            channels += layers * growth_rate
            if i + 1 < len(blocks) or seed3:
                # 1608.06993, section 3: floor(theta m) channels
                kept = int(channels * compression_rate)
                if kept < 1:
                    text = f"leaves no channel of the {channels} after block {i + 1}"
                    raise OptionError("densenet", "compression_rate", text)
                self.stages.append(Transition(channels, kept, bias=seed3, drop_rate=drop_rate))
                channels = kept
        self.last = nn.Sequential()
        if not seed3:
            self.last.add_module("bn", nn.BatchNorm2d(channels))
            if last_relu:
                self.last.add_module("relu", nn.ReLU(inplace=True))
        self.feature_dim = channels
        self.classifier = linear(channels, num_classes)

    def forward_features(self, images: Tensor) -> Tensor:
        features: Tensor = self.last(self.stages(self.stem(images)))
        return features


def stem_of_seed3(in_channels: int, out_channels: int) -> nn.Sequential:
    stem = nn.Sequential()
    stem.add_module("bn", nn.BatchNorm2d(in_channels))
    stem.add_module("relu", nn.ReLU())
    stem.add_module("conv", convolution(in_channels, out_channels, 3, bias=True))
    return stem


class DenseBlock(nn.Sequential):
    """x [N, C, H, W] -> x with the outputs of all layers appended [N, C + layers * growth_rate, H, W]."""

    checkpointing = False

    def __init__(self, channels: int, layers: int, growth_rate: int, *, bottleneck: bool, drop_rate: float) -> None:
        super().__init__()
        self.draws = drop_rate > 0
        for i in range(layers):
            self.append(DenseLayer(channels + i * growth_rate, growth_rate, bottleneck=bottleneck, drop_rate=drop_rate))

    def forward(self, x: Tensor) -> Tensor:
        if not (self.checkpointing and self.training and torch.is_grad_enabled()):
            for layer in self:
                x = torch.cat((x, layer(x)), 1)
            return x
        # What the layers have made is kept once; what they read, which grows with their square, is put together anew.
        features = [x]
        for layer in self:
            # torch.compile takes no contexts of ours, and leaves the statistics out of what it computes again.
            keywords: dict[str, Any] = {} if torch.compiler.is_compiling() else {"context_fn": partial(contexts, layer)}
            # A CUDA graph cannot hold what keeps the generators' state; without dropout nothing draws.
            keywords |= {"use_reentrant": False, "preserve_rng_state": self.draws}
            features.append(checkpoint(concatenate_and_run, layer, *features, **keywords))
        return torch.cat(features, 1)


def concatenate_and_run(layer: nn.Module, *features: Tensor) -> Tensor:
    out: Tensor = layer(torch.cat(features, 1))
    return out


def contexts(layer: nn.Module) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """Return the contexts of the first forward pass of a checkpointed layer and of the second."""
    return contextlib.nullcontext(), statistics_kept(layer)


@contextlib.contextmanager
def statistics_kept(layer: nn.Module) -> Iterator[None]:
    """Keep the running statistics as they are: a second forward pass on the same batch must not count twice."""
    norms = [module for module in layer.modules() if isinstance(module, _BatchNorm)]
    kept = [dict(norm.named_buffers(recurse=False)) for norm in norms]
    for norm in norms:
        for name, buffer in norm.named_buffers(recurse=False):
            setattr(norm, name, buffer.clone())
    try:
        yield
    finally:
        for norm, buffers in zip(norms, kept, strict=True):
            for name, buffer in buffers.items():
                setattr(norm, name, buffer)


class DenseLayer(Sequential):
    """x [N, C, H, W] -> the new channels [N, growth_rate, H, W]."""

    def __init__(self, in_channels: int, growth_rate: int, *, bottleneck: bool, drop_rate: float) -> None:
        super().__init__()
        widths = [in_channels, *([BOTTLENECK * growth_rate] if bottleneck else []), growth_rate]
        for i, (width, out_channels) in enumerate(pairwise(widths), 1):
            self.add_module(f"bn{i}", nn.BatchNorm2d(width))
            self.add_module(f"relu{i}", nn.ReLU(inplace=True))
            self.add_module(f"conv{i}", convolution(width, out_channels, 1 if i < len(widths) - 1 else 3))
            if drop_rate:
                self.add_module(f"dropout{i}", nn.Dropout(drop_rate))


class Transition(Sequential):
    """x [N, in_channels, H, W] -> [N, out_channels, H // 2, W // 2]."""

    def __init__(self, in_channels: int, out_channels: int, *, bias: bool, drop_rate: float) -> None:
        super().__init__()
        self.add_module("bn", nn.BatchNorm2d(in_channels))
        self.add_module("relu", nn.ReLU(inplace=True))
        self.add_module("conv", convolution(in_channels, out_channels, 1, bias=bias))
        if drop_rate:
            self.add_module("dropout", nn.Dropout(drop_rate))
        self.add_module("pool", nn.AvgPool2d(2))
