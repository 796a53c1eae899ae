"""MobileNetV2: "MobileNetV2: Inverted Residuals and Linear Bottlenecks", M. Sandler et al., arXiv:1801.04381.

    create(image_size=224, num_classes=1000)                                                     3,504,872 parameters
    create()                                           for 32x32 images, three strides of 2:     2,236,682 parameters

A unit widens by a 1x1 convolution, filters by a 3x3 depthwise one, both followed by BN-ReLU6, and narrows by a 1x1
convolution-BN without activation; its input is added where stride and channels allow.
"""

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn

from pictorch.models.init import Mode, initialise
from pictorch.models.layers import Classifier, StemType, check_image_size, check_rate, conv_bn_relu, linear
from pictorch.models.mobilenet_v1 import check_width

VARIANTS: dict[str, dict[str, object]] = {
    "mobilenet_v2_140": {"width": 1.4},
    "mobilenet_v2_100": {"width": 1.0},
    "mobilenet_v2_075": {"width": 0.75},
    "mobilenet_v2_050": {"width": 0.5},
    "mobilenet_v2_035": {"width": 0.35},
}
# 1801.04381, table 2: expansion, channels put out, units of each stage
STAGES = ((1, 16, 1), (6, 24, 2), (6, 32, 3), (6, 64, 4), (6, 96, 3), (6, 160, 3), (6, 320, 1))
STEM_CHANNELS, LAST_CHANNELS = 32, 1280
# Of the stem and of the first unit of each stage
STRIDES = {"imagenet": (2, 1, 2, 2, 2, 1, 2, 1), "cifar": (1, 1, 1, 2, 2, 1, 2, 1)}


def create(
    *,
    num_classes: int = 10,
    in_channels: int = 3,
    image_size: int = 32,
    width: float = 1.0,
    stem: StemType | None = None,
    drop_rate: float = 0.0,
    init: Mode = "fan_out",
    as_published: Literal["seed3"] | None = None,
) -> nn.Module:
    """Return a MobileNetV2 for images [N, in_channels, image_size, image_size].

    width: the paper's width multiplier (1.4, 1, 0.75, 0.5, 0.35): channels of every layer, rounded to multiples of 8;
        the last convolution has 1,280 at least.
    stem: "imagenet" has the paper's five strides of 2, "cifar" none in the stem and the second stage; the latter up to
        image_size 64.
    drop_rate: dropout before the last layer; the paper has none.
    init: fan of the convolutions' initial weights, see `init`: "fan_out" makes those of depthwise ones small.
    as_published: "seed3": stem "imagenet" unless told, on 32x32 images as well; the first unit, too, has a 1x1
        convolution-BN-ReLU6 before the depthwise one; no bias in the last layer; 2,237,760 parameters for 10 classes.

    Raises OptionError.
    """
    check_width("mobilenet_v2", width)
    check_rate("mobilenet_v2", drop_rate=drop_rate)
    stem = stem or ("cifar" if image_size <= 64 and as_published is None else "imagenet")
    halvings = STRIDES[stem].count(2)
    check_image_size("mobilenet_v2", image_size, halvings, f"stem {stem!r} with the stages after it")
    model = MobileNetV2(
        width,
        strides=STRIDES[stem],
        always_expand=as_published == "seed3",
        classifier_bias=as_published != "seed3",
        drop_rate=drop_rate,
        in_channels=in_channels,
        num_classes=num_classes,
    )
    initialise(model, init)
    return model


def rounded(channels: float) -> int:
    """Return the multiple of 8 nearest to `channels`, the next one where that is under 90% of it; the authors' rule."""
    near = max(8, int(channels + 4) // 8 * 8)
    return near if near >= 0.9 * channels else near + 8


class MobileNetV2(Classifier):
    """Stem, stages of units, 1x1 convolution, global average pooling, dropout, linear layer; see `create`."""

    def __init__(
        self,
        width: float,
        *,
        strides: Sequence[int],
        always_expand: bool,
        classifier_bias: bool,
        drop_rate: float,
        in_channels: int,
        num_classes: int,
    ) -> None:
        super().__init__()
        channels = rounded(STEM_CHANNELS * width)
        self.stem = conv_bn_relu(in_channels, channels, 3, strides[0], relu=nn.ReLU6)
        self.stages = nn.Sequential()
        for (expansion, out_channels, units), stride in zip(STAGES, strides[1:], strict=True):
            stage = nn.Sequential()
            for i in range(units):
                after = rounded(out_channels * width)
                expand = always_expand or expansion > 1
                stage.append(InvertedResidual(channels, after, stride if i == 0 else 1, expansion, expand=expand))
                channels = after
            self.stages.append(stage)
        self.feature_dim = rounded(LAST_CHANNELS * max(1.0, width))
        self.last = conv_bn_relu(channels, self.feature_dim, 1, relu=nn.ReLU6)
        self.dropout = nn.Dropout(drop_rate)
        self.classifier = linear(self.feature_dim, num_classes, bias=classifier_bias)

    def forward_features(self, images: Tensor) -> Tensor:
        features: Tensor = self.last(self.stages(self.stem(images)))
        return features

    def forward_head(self, features: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.dropout(features.mean((2, 3))))
        return logits


class InvertedResidual(nn.Module):
    """x [N, in_channels, H, W] -> branch(x) [N, out_channels, H / stride, W / stride], plus x where shapes agree."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, expansion: int, *, expand: bool) -> None:
        super().__init__()
        inner = in_channels * expansion
        self.branch = nn.Sequential()
        if expand:
            self.branch.add_module("expand", conv_bn_relu(in_channels, inner, 1, relu=nn.ReLU6))
        self.branch.add_module("depthwise", conv_bn_relu(inner, inner, 3, stride, groups=inner, relu=nn.ReLU6))
        self.branch.add_module("project", conv_bn_relu(inner, out_channels, 1, relu=None))
        self.residual = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.branch(x)
        return x + out if self.residual else out
