"""Xception: "Xception: Deep Learning with Depthwise Separable Convolutions", F. Chollet, arXiv:1610.02357.

    create(image_size=299, num_classes=1000)                                                    22,855,952 parameters
    create()                                                              for 32x32 images: 20,827,442 parameters

A separable convolution is a depthwise 3x3 and a 1x1 with nothing between them, then BN. Blocks of them have residual
shortcuts: three in the entry flow, eight in the middle, one in the exit flow, with two more separable convolutions
behind it.
"""

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn

from pictorch.config.errors import OptionError
from pictorch.models.init import Mode, initialise
from pictorch.models.layers import Classifier, StemType, check_rate, convolution, linear

VARIANTS: dict[str, dict[str, object]] = {"xception_imagenet": {"stem": "imagenet"}}

# Channels of the separable convolutions of each block; those of the first three and the last one halve the map.
ENTRY = ((128, 128), (256, 256), (728, 728))
MIDDLE = ((728, 728, 728),) * 8
EXIT = ((728, 1024),)
LAST = (1536, 2048)


def create(
    *,
    num_classes: int = 10,
    in_channels: int = 3,
    image_size: int = 32,
    stem: StemType | None = None,
    drop_rate: float = 0.5,
    init: Mode = "fan_out",
    as_published: Literal["seed3"] | None = None,
) -> nn.Module:
    """Return an Xception for images [N, in_channels, image_size, image_size].

    stem: "imagenet" as in the paper, 3x3/2 and 3x3 without padding, five halvings in all; "cifar" pads both, has no
        stride in the stem nor in the third block, and so three halvings. The latter up to image_size 64.
    drop_rate: dropout before the last layer, the paper's on ImageNet.
    init: fan of the convolutions' initial weights.
    as_published: "seed3" has the stem 3x3/2 and 3x3, padded, in place of "cifar", with five halvings in all; biases in
        all convolutions, and BN neither in the shortcuts nor behind the last two: 20,866,314 parameters.

    Raises OptionError.
    """
    check_rate("xception", drop_rate=drop_rate)
    seed3 = as_published == "seed3"
    stem = stem or ("cifar" if image_size <= 64 or seed3 else "imagenet")
    # So that every stride of 2 meets two pixels or more: the map after the unpadded stem has (size - 1) // 2 - 2.
    smallest = 23 if stem == "imagenet" else (17 if seed3 else 5)
    if image_size < smallest:
        raise OptionError(
            "xception",
            "image_size",
            f"stem {stem!r} and the blocks' strides need at least {smallest}, got {image_size}",
        )
    model = Xception(
        stem_stride=2 if stem == "imagenet" or seed3 else 1,
        stem_padding=0 if stem == "imagenet" else 1,
        entry_strides=(2, 2, 2) if stem == "imagenet" or seed3 else (2, 2, 1),
        drop_rate=drop_rate,
        bias=seed3,
        shortcut_bn=not seed3,
        last_bn=not seed3,
        in_channels=in_channels,
        num_classes=num_classes,
    )
    initialise(model, init)
    return model


class Xception(Classifier):
    """Stem, blocks, two separable convolutions, global average pooling, dropout, linear layer."""

    def __init__(
        self,
        *,
        stem_stride: int,
        stem_padding: int,
        entry_strides: Sequence[int],
        drop_rate: float,
        bias: bool,
        shortcut_bn: bool,
        last_bn: bool,
        in_channels: int,
        num_classes: int,
    ) -> None:
        super().__init__()
        self.stem = nn.Sequential()
        channels = in_channels
        for i, (width, stride) in enumerate(((32, stem_stride), (64, 1)), 1):
            conv = nn.Conv2d(channels, width, 3, stride, padding=stem_padding, bias=bias)
            self.stem.add_module(f"conv{i}", conv)
            self.stem.add_module(f"bn{i}", nn.BatchNorm2d(width))
            self.stem.add_module(f"relu{i}", nn.ReLU(inplace=True))
            channels = width
        self.blocks = nn.Sequential()
        strides = (*entry_strides, *(1,) * len(MIDDLE), 2)
        for widths, stride in zip((*ENTRY, *MIDDLE, *EXIT), strides, strict=True):
            # The stem has just ended in a ReLU.
            first_relu = len(self.blocks) > 0
            self.blocks.append(
                Block(channels, widths, stride, first_relu=first_relu, bias=bias, shortcut_bn=shortcut_bn)
            )
            channels = widths[-1]
        self.last = nn.Sequential()
        for i, width in enumerate(LAST, 1):
            self.last.add_module(f"conv{i}", _separable(channels, width, bias=bias))
            if last_bn:
                self.last.add_module(f"bn{i}", nn.BatchNorm2d(width))
            self.last.add_module(f"relu{i}", nn.ReLU(inplace=True))
            channels = width
        self.dropout = nn.Dropout(drop_rate)
        self.feature_dim = channels
        self.classifier = linear(channels, num_classes)

    def forward_features(self, images: Tensor) -> Tensor:
        features: Tensor = self.last(self.blocks(self.stem(images)))
        return features

    def forward_head(self, features: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.dropout(features.mean((2, 3))))
        return logits


class Block(nn.Module):
    """x [N, in_channels, H, W] -> branch(x) + shortcut(x) [N, widths[-1], H / stride, W / stride].

    The branch is ReLU, separable convolution, BN for each of `widths`, then 3x3 max-pooling where `stride` is 2; the
    shortcut is the identity, or a 1x1 convolution with BN where the width changes.
    """

    def __init__(
        self,
        in_channels: int,
        widths: Sequence[int],
        stride: int,
        *,
        first_relu: bool,
        bias: bool,
        shortcut_bn: bool,
    ) -> None:
        super().__init__()
        self.shortcut: nn.Module = nn.Identity()
        if widths[-1] != in_channels:
            self.shortcut = nn.Sequential()
            self.shortcut.add_module("conv", convolution(in_channels, widths[-1], 1, stride, bias=bias))
            if shortcut_bn:
                self.shortcut.add_module("bn", nn.BatchNorm2d(widths[-1]))
        self.branch = nn.Sequential()
        channels = in_channels
        for i, width in enumerate(widths, 1):
            if i > 1 or first_relu:
                # The shortcut, too, needs the input as it is.
                self.branch.add_module(f"relu{i}", nn.ReLU(inplace=i > 1))
            self.branch.add_module(f"conv{i}", _separable(channels, width, bias=bias))
            self.branch.add_module(f"bn{i}", nn.BatchNorm2d(width))
            channels = width
        if stride > 1:
            self.branch.add_module("pool", nn.MaxPool2d(3, stride, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.branch(x) + self.shortcut(x)
        return out


def _separable(in_channels: int, out_channels: int, *, bias: bool) -> nn.Sequential:
    """Return a depthwise 3x3 convolution and a 1x1; the output has the size of the input."""
    layers = nn.Sequential()
    layers.add_module("depthwise", convolution(in_channels, in_channels, 3, groups=in_channels, bias=bias))
    layers.add_module("pointwise", convolution(in_channels, out_channels, 1, bias=bias))
    return layers
