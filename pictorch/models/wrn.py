"""Wide ResNet: "Wide Residual Networks", S. Zagoruyko, N. Komodakis, arXiv:1605.07146.

    create(depth=28, widening_factor=10)                                                        36,479,194 parameters
    create(depth=16, widening_factor=8, drop_rate=0.4)                                          the paper's for SVHN

Pre-activation units BN-ReLU-conv-BN-ReLU-dropout-conv in three stages; where the width changes, which for a factor
above 1 it does in the first stage, too, the first BN-ReLU feeds the shortcut as well, a 1x1 convolution without BN.
The paper's 50-layer network for ImageNet is `wide_resnet50_2` of family resnet.
"""

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from pictorch.models.init import Mode, draw_norm_weights, initialise
from pictorch.models.layers import (
    Classifier,
    check_image_size,
    check_positive,
    check_rate,
    convolution,
    create_stem,
    linear,
    units_per_stage,
)

VARIANTS: dict[str, dict[str, object]] = {
    f"wrn_{depth}_{k}": {"depth": depth, "widening_factor": k}
    for depth, k in [(16, 4), (16, 8), (16, 10), (22, 8), (28, 10), (28, 12), (40, 1), (40, 2), (40, 4), (40, 8)]
}


def create(
    *,
    num_classes: int = 10,
    in_channels: int = 3,
    image_size: int = 32,
    depth: int | None = None,
    widening_factor: int = 10,
    base_channels: int = 16,
    drop_rate: float = 0.0,
    init: Mode = "fan_in",
    as_published: Literal["seed1", "seed2"] | None = None,
) -> nn.Module:
    """Return a wide ResNet for images [N, in_channels, image_size, image_size].

    depth: 6n+4; required.
    widening_factor: width of the first stage over base_channels; doubled from stage to stage.
    base_channels: channels of the stem, which is not widened.
    drop_rate: of the dropout between a unit's convolutions; the paper's are 0.3 for CIFAR and 0.4 for SVHN.
    init: fan of the convolutions' initial weights. Those of the BNs are drawn from 0 to 1, as by the authors' code.
    as_published: "seed1" has the dropout before a unit's second BN and not after its ReLU; "seed2" has that, too, and
        initial weights of 1 in the BNs. The parameters are the same.

    Raises OptionError.
    """
    check_positive("wrn", widening_factor=widening_factor, base_channels=base_channels)
    check_rate("wrn", drop_rate=drop_rate)
    units = units_per_stage("wrn", depth, 6, 4, what="a network of three stages")
    check_positive("wrn", **{"base_channels x widening_factor": base_channels * widening_factor})
    check_image_size("wrn", image_size, 2, "the network")
    model = WideResNet(
        units=units,
        stem_channels=base_channels,
        width=base_channels * widening_factor,
        drop_rate=drop_rate,
        drop_before_bn=as_published is not None,
        in_channels=in_channels,
        num_classes=num_classes,
    )
    initialise(model, init)
    if as_published != "seed2":
        draw_norm_weights(model)
    return model


class WideResNet(Classifier):
    """Stem, three stages of `units` units, BN-ReLU, global average pooling, linear layer."""

    def __init__(
        self,
        *,
        units: int,
        stem_channels: int,
        width: int,
        drop_rate: float,
        drop_before_bn: bool,
        in_channels: int,
        num_classes: int,
    ) -> None:
        super().__init__()
        self.stem = create_stem("cifar", in_channels, stem_channels, bn_relu=False)
        self.stages = nn.Sequential()
        channels = stem_channels
        for out_channels, stride in ((width, 1), (2 * width, 2), (4 * width, 2)):
            stage = nn.Sequential()
            for i in range(units):
                stage.append(WideUnit(channels, out_channels, stride if i == 0 else 1, drop_rate, drop_before_bn))
                channels = out_channels
            self.stages.append(stage)
        self.bn = nn.BatchNorm2d(channels)
        self.feature_dim = channels
        self.classifier = linear(channels, num_classes)

    def forward_features(self, images: Tensor) -> Tensor:
        return F.relu(self.bn(self.stages(self.stem(images))), inplace=True)


class WideUnit(nn.Module):
    """x [N, in_channels, H, W] -> branch(preact(x)) + x, or + shortcut(preact(x)) where the width changes."""

    def __init__(
        self, in_channels: int, out_channels: int, stride: int, drop_rate: float, drop_before_bn: bool
    ) -> None:
        super().__init__()
        self.preact = nn.Sequential()
        self.preact.add_module("bn", nn.BatchNorm2d(in_channels))
        self.preact.add_module("relu", nn.ReLU(inplace=True))
        self.branch = nn.Sequential()
        self.branch.add_module("conv1", convolution(in_channels, out_channels, 3, stride))
        if drop_rate and drop_before_bn:
            self.branch.add_module("dropout", nn.Dropout(drop_rate))
        self.branch.add_module("bn2", nn.BatchNorm2d(out_channels))
        self.branch.add_module("relu2", nn.ReLU(inplace=True))
        if drop_rate and not drop_before_bn:
            self.branch.add_module("dropout", nn.Dropout(drop_rate))
        self.branch.add_module("conv2", convolution(out_channels, out_channels, 3))
        self.shortcut = convolution(in_channels, out_channels, 1, stride) if in_channels != out_channels else None

    def forward(self, x: Tensor) -> Tensor:
        activated = self.preact(x)
        out: Tensor = self.branch(activated) + (x if self.shortcut is None else self.shortcut(activated))
        return out
