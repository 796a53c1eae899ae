"""ShuffleNetV2: "ShuffleNet V2: Practical Guidelines for Efficient CNN Architecture Design", arXiv:1807.11164.

    create(image_size=224, num_classes=1000)                                                     2,278,760 parameters
    create()                           3x3 convolution of stride 1, no pooling, for 32x32:       1,265,000 parameters

By N. Ma, X. Zhang, H.-T. Zheng, J. Sun. A unit passes the first half of its channels on and puts the second through
1x1, 3x3 depthwise and 1x1 convolutions; the units that halve the image do without the split and have a branch on either
side. Then the two sides are shuffled.
"""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pictorch.config.errors import OptionError
from pictorch.models.init import Mode, initialise
from pictorch.models.layers import Classifier, StemType, check_image_size, conv_bn_relu, linear
from pictorch.models.shufflenet_v1 import UNITS, create_stem

Stride2Unit = Literal["authors", "halved"]

# 1807.11164, table 5: channels of the first stage, doubled from stage to stage, and of the last convolution
CHANNELS: dict[float, tuple[int, int]] = {0.5: (48, 1024), 1.0: (116, 1024), 1.5: (176, 1024), 2.0: (244, 2048)}
STEM_CHANNELS = 24
VARIANTS: dict[str, dict[str, object]] = {
    f"shufflenet_v2_{int(100 * width):03}": {"width": width} for width in CHANNELS
}


def create(
    *,
    num_classes: int = 10,
    in_channels: int = 3,
    image_size: int = 32,
    width: float = 1.0,
    stem: StemType | None = None,
    stride2_unit: Stride2Unit = "authors",
    init: Mode = "fan_out",
    as_published: None = None,
) -> nn.Module:
    """Return a ShuffleNetV2 for images [N, in_channels, image_size, image_size].

    width: 0.5, 1, 1.5 or 2, a row of the paper's table 5.
    stem: 3x3 convolution of stride 1 ("cifar"), or of stride 2 with 3x3/2 max-pooling ("imagenet"); the former up to
        image_size 64.
    stride2_unit: "authors": in the units that halve the image the left side keeps the channels that it gets and the
        right side has the rest, which is what gives the paper's multiply-adds; no bias in the last layer, as in the
        authors' code. "halved": each side has half of the channels, and the last layer a bias, as in torchvision.
    init: fan of the convolutions' initial weights, see `init`: "fan_out" makes those of depthwise ones small.
    as_published: no other program has numbers of this family.

    Raises OptionError.
    """
    if width not in CHANNELS:
        widths = ", ".join(f"{w:g}" for w in CHANNELS)
        raise OptionError("shufflenet_v2", "width", f"expected one of {widths}, got {width}")
    stem = stem or ("cifar" if image_size <= 64 else "imagenet")
    check_image_size(
        "shufflenet_v2", image_size, 5 if stem == "imagenet" else 3, f"stem {stem!r} with the stages after it"
    )
    model = ShuffleNetV2(
        *CHANNELS[width], halved=stride2_unit == "halved", stem=stem, in_channels=in_channels, num_classes=num_classes
    )
    initialise(model, init)
    return model


class ShuffleNetV2(Classifier):
    """Stem, three stages of units, 1x1 convolution, global average pooling, linear layer; see `create`."""

    def __init__(
        self,
        first_channels: int,
        last_channels: int,
        *,
        halved: bool,
        stem: StemType,
        in_channels: int,
        num_classes: int,
    ) -> None:
        super().__init__()
        self.stem = create_stem(stem, in_channels, STEM_CHANNELS)
        self.stages = nn.Sequential()
        channels = STEM_CHANNELS
        for i, units in enumerate(UNITS):
            out_channels = first_channels << i
            left = out_channels // 2 if halved else channels
            stage = nn.Sequential(HalvingUnit(channels, left, out_channels))
            stage.extend(SplitUnit(out_channels) for _ in range(units - 1))
            self.stages.append(stage)
            channels = out_channels
        self.last = conv_bn_relu(channels, last_channels, 1)
        self.feature_dim = last_channels
        self.classifier = linear(last_channels, num_classes, bias=halved)

    def forward_features(self, images: Tensor) -> Tensor:
        features: Tensor = self.last(self.stages(self.stem(images)))
        return features


class HalvingUnit(nn.Module):
    """x [N, in_channels, H, W] -> shuffled left(x), right(x) [N, out_channels, H / 2, W / 2]."""

    def __init__(self, in_channels: int, left_channels: int, out_channels: int) -> None:
        super().__init__()
        self.left = nn.Sequential()
        self.left.add_module("depthwise", conv_bn_relu(in_channels, in_channels, 3, 2, groups=in_channels, relu=None))
        self.left.add_module("pointwise", conv_bn_relu(in_channels, left_channels, 1))
        self.right = branch(in_channels, out_channels // 2, out_channels - left_channels, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return shuffled(self.left(x), self.right(x))


class SplitUnit(nn.Module):
    """x [N, channels, H, W] -> shuffled first half of x, branch(second half of x), of the same shape."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.right = branch(half, half, half, stride=1)

    def forward(self, x: Tensor) -> Tensor:
        left, right = x.chunk(2, dim=1)
        return shuffled(left, self.right(right))


def branch(in_channels: int, inner: int, out_channels: int, stride: int) -> nn.Sequential:
    """Return 1x1 convolution-BN-ReLU, 3x3 depthwise convolution-BN, 1x1 convolution-BN-ReLU."""
    layers = nn.Sequential()
    layers.add_module("first", conv_bn_relu(in_channels, inner, 1))
    layers.add_module("depthwise", conv_bn_relu(inner, inner, 3, stride, groups=inner, relu=None))
    layers.add_module("second", conv_bn_relu(inner, out_channels, 1))
    return layers


def shuffled(left: Tensor, right: Tensor) -> Tensor:
    """Return the channels of both in turn: first and second half of their concatenation interleaved."""
    # On the CPU it keeps channels_last order, which view, transpose and reshape do not.
    return F.channel_shuffle(torch.cat((left, right), 1), 2)
