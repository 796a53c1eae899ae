"""MobileNetV1: "MobileNets: Efficient Convolutional Neural Networks for Mobile Vision Applications", arXiv:1704.04861.

    create(width=0.5, image_size=224, num_classes=1000)                                          1,331,592 parameters
    create()                                            3x3 convolution of stride 1 for 32x32:   3,217,226 parameters

By A. G. Howard, M. Zhu, B. Chen, D. Kalenichenko, W. Wang, T. Weyand, M. Andreetto, H. Adam. A unit is a 3x3 depthwise
convolution-BN-ReLU and a 1x1 convolution-BN-ReLU; there are thirteen, without shortcuts.
"""

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn

from pictorch.config.errors import OptionError
from pictorch.models.init import Mode, initialise
from pictorch.models.layers import Classifier, StemType, check_image_size, check_rate, conv_bn_relu, linear

VARIANTS: dict[str, dict[str, object]] = {
    "mobilenet_v1_100": {"width": 1.0},
    "mobilenet_v1_075": {"width": 0.75},
    "mobilenet_v1_050": {"width": 0.5},
    "mobilenet_v1_025": {"width": 0.25},
}
# 1704.04861, table 1: channels of the stem and of the units, strides of the units
CHANNELS = (32, 64, 128, 128, 256, 256, *[512] * 6, 1024, 1024)
STRIDES = (1, 2, 1, 2, 1, 2, *[1] * 5, 2, 1)
WIDEST = 50


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
    """Return a MobileNetV1 for images [N, in_channels, image_size, image_size].

    width: the paper's width multiplier (1, 0.75, 0.5, 0.25): channels of every layer, rounded down, but 8 at least.
    stem: 3x3 convolution of stride 1 ("cifar") or 2 ("imagenet"); the former up to image_size 64.
    drop_rate: dropout before the last layer; the paper has none.
    init: fan of the convolutions' initial weights, see `init`: "fan_out" makes those of depthwise ones small.
    as_published: "seed3": stem "imagenet" unless told, on 32x32 images as well, and biases in all convolutions;
        3,228,170 parameters for 10 classes.

    Raises OptionError.
    """
    check_width("mobilenet_v1", width)
    check_rate("mobilenet_v1", drop_rate=drop_rate)
    stem = stem or ("cifar" if image_size <= 64 and as_published is None else "imagenet")
    check_image_size(
        "mobilenet_v1", image_size, 5 if stem == "imagenet" else 4, f"stem {stem!r} with the units after it"
    )
    model = MobileNetV1(
        # The authors' own code (tensorflow/models, slim) rounds so.
        [max(int(width * c), 8) for c in CHANNELS],
        stem_stride=2 if stem == "imagenet" else 1,
        conv_bias=as_published == "seed3",
        drop_rate=drop_rate,
        in_channels=in_channels,
        num_classes=num_classes,
    )
    initialise(model, init)
    return model


def check_width(owner: str, width: float) -> None:
    """Raise OptionError for a width multiplier that no network has."""
    if not 0 < width <= WIDEST:
        raise OptionError(owner, "width", f"expected a number above 0 and up to {WIDEST}, got {width}")


class MobileNetV1(Classifier):
    """Stem, units, global average pooling, dropout, linear layer; `channels` of the stem and of each unit's output."""

    def __init__(
        self,
        channels: Sequence[int],
        *,
        stem_stride: int,
        conv_bias: bool,
        drop_rate: float,
        in_channels: int,
        num_classes: int,
    ) -> None:
        super().__init__()
        self.stem = conv_bn_relu(in_channels, channels[0], 3, stem_stride, bias=conv_bias)
        self.units = nn.Sequential()
        for before, after, stride in zip(channels, channels[1:], STRIDES, strict=False):
            unit = nn.Sequential()
            unit.add_module("depthwise", conv_bn_relu(before, before, 3, stride, groups=before, bias=conv_bias))
            unit.add_module("pointwise", conv_bn_relu(before, after, 1, bias=conv_bias))
            self.units.append(unit)
        self.dropout = nn.Dropout(drop_rate)
        self.feature_dim = channels[-1]
        self.classifier = linear(self.feature_dim, num_classes)

    def forward_features(self, images: Tensor) -> Tensor:
        features: Tensor = self.units(self.stem(images))
        return features

    def forward_head(self, features: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.dropout(features.mean((2, 3))))
        return logits
