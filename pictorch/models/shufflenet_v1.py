"""ShuffleNetV1: "ShuffleNet: An Extremely Efficient CNN for Mobile Devices", X. Zhang et al., arXiv:1707.01083.

    create(groups=3, image_size=224, num_classes=1000)                                           1,865,728 parameters
    create(groups=3)                   3x3 convolution of stride 1, no pooling, for 32x32:         914,338 parameters

A unit is a grouped 1x1 convolution-BN-ReLU, a channel shuffle, a 3x3 depthwise convolution-BN and a grouped 1x1
convolution-BN; its input is added before the last ReLU, or pooled and put in front where the unit halves the image.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pictorch.config.errors import OptionError
from pictorch.models.init import Mode, initialise
from pictorch.models.layers import Classifier, StemType, check_image_size, conv_bn_relu, linear

# 1707.01083, table 1: channels that the first stage puts out, doubled from stage to stage; units of each stage
STAGE_CHANNELS: dict[int, int] = {1: 144, 2: 200, 3: 240, 4: 272, 8: 384}
UNITS = (4, 8, 4)
WIDTHS = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0)
VARIANTS: dict[str, dict[str, object]] = {
    **{f"shufflenet_v1_g{g}": {"groups": g, "width": 1.0} for g in STAGE_CHANNELS},
    **{f"shufflenet_v1_g3_{int(100 * w):03}": {"groups": 3, "width": w} for w in (0.5, 1.5, 2.0)},
}


def create(
    *,
    num_classes: int = 10,
    in_channels: int = 3,
    image_size: int = 32,
    groups: int = 3,
    width: float = 1.0,
    stem: StemType | None = None,
    init: Mode = "fan_out",
    as_published: Literal["seed3"] | None = None,
) -> nn.Module:
    """Return a ShuffleNetV1 for images [N, in_channels, image_size, image_size].

    groups: 1, 2, 3, 4 or 8, of the 1x1 convolutions, the very first one excepted; more groups have wider stages.
    width: factor on the channels of every layer: 0.25, 0.5, 0.75, 1, 1.5 or 2, as far as the groups divide them. The
        stem, of 24 channels at 1, keeps 24 at 1.5, and has 16 at 0.5 with 8 groups, both as in the authors' code.
    stem: 3x3 convolution of stride 1 ("cifar"), or of stride 2 with 3x3/2 max-pooling ("imagenet"); the former up to
        image_size 64.
    init: fan of the convolutions' initial weights, see `init`: "fan_out" makes those of depthwise ones small.
    as_published: "seed3": no channel shuffle, and the 3x3 convolutions are not depthwise but have `groups` groups;
        1,974,898 parameters for 10 classes.

    Raises OptionError.
    """
    if groups not in STAGE_CHANNELS:
        raise OptionError("shufflenet_v1", "groups", f"expected 1, 2, 3, 4 or 8, got {groups}")
    fitting = [w for w in WIDTHS if _fits(groups, w)]
    if width not in fitting:
        widths = ", ".join(f"{w:g}" for w in fitting)
        raise OptionError("shufflenet_v1", "width", f"groups {groups} has widths {widths}, got {width}")
    stem = stem or ("cifar" if image_size <= 64 else "imagenet")
    check_image_size(
        "shufflenet_v1", image_size, 5 if stem == "imagenet" else 3, f"stem {stem!r} with the stages after it"
    )
    model = ShuffleNetV1(
        _stem_channels(groups, width),
        [int(STAGE_CHANNELS[groups] * width) << i for i in range(len(UNITS))],
        groups=groups,
        depthwise=as_published is None,
        shuffle=as_published is None,
        stem=stem,
        in_channels=in_channels,
        num_classes=num_classes,
    )
    initialise(model, init)
    return model


def _stem_channels(groups: int, width: float) -> int:
    if (groups, width) == (8, 0.5):
        return 16
    return 24 if width == 1.5 else int(24 * width)


def _fits(groups: int, width: float) -> bool:
    """Return whether the groups divide the channels inside and at the end of every unit."""
    out = STAGE_CHANNELS[groups] * width
    return out % (4 * groups) == 0 and (out - _stem_channels(groups, width)) % groups == 0


def create_stem(stem: StemType, in_channels: int, out_channels: int) -> nn.Sequential:
    """Return 3x3 convolution-BN-ReLU; of stride 2 and followed by 3x3/2 max-pooling for "imagenet"."""
    layers = conv_bn_relu(in_channels, out_channels, 3, 2 if stem == "imagenet" else 1)
    if stem == "imagenet":
        layers.add_module("pool", nn.MaxPool2d(3, 2, padding=1))
    return layers


class ShuffleNetV1(Classifier):
    """Stem, three stages of units, global average pooling, linear layer; arguments as in `create`."""

    def __init__(
        self,
        stem_channels: int,
        stage_channels: Sequence[int],
        *,
        groups: int,
        depthwise: bool,
        shuffle: bool,
        stem: StemType,
        in_channels: int,
        num_classes: int,
    ) -> None:
        super().__init__()
        self.stem = create_stem(stem, in_channels, stem_channels)
        self.stages = nn.Sequential()
        channels = stem_channels
        for out_channels, units in zip(stage_channels, UNITS, strict=True):
            stage = nn.Sequential()
            for i in range(units):
                first = i == 0 and len(self.stages) == 0
                stage.append(
                    ShuffleUnit(
                        channels,
                        out_channels,
                        stride=2 if i == 0 else 1,
                        first_groups=1 if first else groups,
                        groups=groups,
                        depthwise=depthwise,
                        shuffle=shuffle,
                    )
                )
                channels = out_channels
            self.stages.append(stage)
        self.feature_dim = channels
        self.classifier = linear(channels, num_classes)

    def forward_features(self, images: Tensor) -> Tensor:
        features: Tensor = self.stages(self.stem(images))
        return features


class ShuffleUnit(nn.Module):
    """x [N, in_channels, H, W] -> ReLU(x + branch(x)), or with stride 2 x pooled and then ReLU(branch(x))."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        stride: int,
        first_groups: int,
        groups: int,
        depthwise: bool,
        shuffle: bool,
    ) -> None:
        super().__init__()
        self.halves = stride == 2
        inner = out_channels // 4
        new = out_channels - in_channels if self.halves else out_channels
        self.branch = nn.Sequential()
        self.branch.add_module("squeeze", conv_bn_relu(in_channels, inner, 1, groups=first_groups))
        if shuffle and groups > 1:
            # On the CPU it keeps channels_last order, which view, transpose and reshape do not.
            self.branch.add_module("shuffle", nn.ChannelShuffle(groups))
        spatial = conv_bn_relu(inner, inner, 3, stride, groups=inner if depthwise else groups, relu=None)
        self.branch.add_module("spatial", spatial)
        self.branch.add_module("expand", conv_bn_relu(inner, new, 1, groups=groups, relu=None))

    def forward(self, x: Tensor) -> Tensor:
        if not self.halves:
            return F.relu(x + self.branch(x), inplace=True)
        # What is pooled is no longer negative: it needs no ReLU.
        return torch.cat((F.avg_pool2d(x, 3, 2, padding=1), F.relu(self.branch(x), inplace=True)), 1)
