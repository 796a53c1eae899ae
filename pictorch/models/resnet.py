"""ResNet: "Deep Residual Learning for Image Recognition", K. He, X. Zhang, S. Ren, J. Sun, arXiv:1512.03385.

    create(depth=110)                                          6n+2 layers, option A shortcuts: 1,727,962 parameters
    create(layout="imagenet", depth=50, image_size=224, num_classes=1000)                       25,557,032 parameters

A unit is conv-BN-ReLU-conv-BN, plus the shortcut, then ReLU. Layout "cifar" has three stages, "imagenet" four; the stem
is a choice of its own, so ResNet-18 for 32x32 images is layout "imagenet" with stem "cifar". Family se_resnet has
squeeze-and-excitation at the end of every unit's branch, before the addition.
"""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from pictorch.models.init import Mode, initialise
from pictorch.models.layers import (
    AsPublished,
    BlockType,
    Classifier,
    Layout,
    ShortcutA,
    ShortcutType,
    SqueezeExcitation,
    Stage,
    StemType,
    convolution,
    create_plan,
    create_stem,
    linear,
    unit_convolutions,
)

VARIANTS: dict[str, dict[str, object]] = {
    **{f"resnet_{d}": {"layout": "cifar", "depth": d, "block_type": "basic"} for d in (20, 32, 44, 56, 110, 1202)},
    **{f"resnet_{d}": {"layout": "cifar", "depth": d, "block_type": "bottleneck"} for d in (164, 1001)},
    **{f"resnet{d}": {"layout": "imagenet", "depth": d} for d in (18, 34, 50, 101, 152)},
    # 1605.07146, as torchvision names them: twice the width inside the bottleneck, outputs as in ResNet
    **{f"wide_resnet{d}_2": {"layout": "imagenet", "depth": d, "width_per_group": 128} for d in (50, 101)},
}
SE_PAPER = 'SE-ResNet: "Squeeze-and-Excitation Networks", J. Hu, L. Shen, G. Sun, arXiv:1709.01507.'
SE_VARIANTS = {f"se_{name}": options for name, options in VARIANTS.items() if name.startswith("resnet")}


def create(
    *,
    num_classes: int = 10,
    in_channels: int = 3,
    image_size: int = 32,
    layout: Layout = "cifar",
    depth: int | None = None,
    block_type: BlockType | None = None,
    base_channels: int | None = None,
    stem: StemType | None = None,
    shortcut: ShortcutType | None = None,
    stride_in_1x1: bool = False,
    width_per_group: int | None = None,
    se_reduction: int | None = None,
    init: Mode = "fan_out",
    as_published: AsPublished | None = None,
) -> nn.Module:
    """Return a ResNet for images [N, in_channels, image_size, image_size].

    depth: 6n+2 (basic) or 9n+2 (bottleneck) for layout "cifar", 18, 34, 50, 101 or 152 for "imagenet"; required.
    block_type: "cifar": "basic" unless told, since many depths are both; "imagenet": as the depth has it.
    base_channels: channels of the stem and width of the first stage, 16 ("cifar") or 64; doubled from stage to stage.
    stem: "cifar" (3x3, stride 1) or "imagenet" (7x7/2, max-pooling); the former up to image_size 64.
    shortcut: where the width changes, "A" strides and appends zeros, "B" is a 1x1 convolution with BN; "A" for layout
        "cifar" with basic units.
    stride_in_1x1: the bottleneck's stride is on its first 1x1 convolution (the paper) and not on the 3x3 (Torch).
    width_per_group: channels of the 3x3 convolutions of the first stage of bottlenecks, base_channels unless told.
    se_reduction: 16 in family se_resnet, which alone has it: the channels over those of the layer that squeezes them.
    init: fan of the convolutions' initial weights.
    as_published: "seed1" and "seed2" have shortcut "B" everywhere unless told, and bottlenecks of the first stage that
        are not expanded: it puts out base_channels, not four times as many. "seed3" changes nothing.

    Raises OptionError.
    """
    plan = create_plan(
        "se_resnet" if se_reduction is not None else "resnet",
        image_size=image_size,
        layout=layout,
        depth=depth,
        block_type=block_type,
        base_channels=base_channels,
        stem=stem,
        shortcut=shortcut,
        stride_in_1x1=stride_in_1x1,
        width_per_group=width_per_group,
        as_published=as_published,
        se_reduction=se_reduction,
    )
    model = ResNet(
        **plan._asdict(),
        stride_in_1x1=stride_in_1x1,
        se_reduction=se_reduction,
        in_channels=in_channels,
        num_classes=num_classes,
    )
    initialise(model, init)
    return model


class ResNet(Classifier):
    """Stem, residual units, global average pooling, linear layer; arguments of `create` and `ResidualUnit`."""

    def __init__(
        self,
        *,
        stem: StemType,
        stem_channels: int,
        stages: Sequence[Stage],
        block_type: BlockType,
        shortcut: ShortcutType,
        stride_in_1x1: bool = False,
        groups: int = 1,
        bias: bool = False,
        se_reduction: int | None = None,
        in_channels: int,
        num_classes: int,
    ) -> None:
        super().__init__()
        self.stem = create_stem(stem, in_channels, stem_channels, bias=bias)
        self.stages = nn.Sequential()
        channels = stem_channels
        for stage in stages:
            units = nn.Sequential()
            for i in range(stage.units):
                units.append(
                    ResidualUnit(
                        channels,
                        stage,
                        stage.stride if i == 0 else 1,
                        block_type=block_type,
                        shortcut=shortcut,
                        stride_in_1x1=stride_in_1x1,
                        groups=groups,
                        bias=bias,
                        se_reduction=se_reduction,
                    )
                )
                channels = stage.out_channels
            self.stages.append(units)
        self.feature_dim = channels
        self.classifier = linear(channels, num_classes)

    def forward_features(self, images: Tensor) -> Tensor:
        features: Tensor = self.stages(self.stem(images))
        return features


class ResidualUnit(nn.Module):
    """x [N, in_channels, H, W] -> ReLU(branch(x) + shortcut(x)) [N, out_channels, H / stride, W / stride].

    `groups`: those of a bottleneck's 3x3 convolution; `bias`: whether the convolutions have one.
    """

    def __init__(
        self,
        in_channels: int,
        stage: Stage,
        stride: int,
        *,
        block_type: BlockType,
        shortcut: ShortcutType,
        stride_in_1x1: bool,
        groups: int,
        bias: bool,
        se_reduction: int | None,
    ) -> None:
        super().__init__()
        convolutions = unit_convolutions(
            in_channels, stage, stride, block_type=block_type, stride_in_1x1=stride_in_1x1, groups=groups, bias=bias
        )
        self.branch = nn.Sequential()
        for i, conv in enumerate(convolutions, 1):
            self.branch.add_module(f"conv{i}", conv)
            self.branch.add_module(f"bn{i}", nn.BatchNorm2d(conv.out_channels))
            if i < len(convolutions):
                self.branch.add_module(f"relu{i}", nn.ReLU(inplace=True))
        if se_reduction is not None:
            self.branch.add_module("se", SqueezeExcitation(stage.out_channels, se_reduction))
        self.shortcut: nn.Module = nn.Identity()
        extra = stage.out_channels - in_channels
        if extra and shortcut == "A":
            self.shortcut = ShortcutA(extra, stride)
        elif extra:
            self.shortcut = nn.Sequential()
            self.shortcut.add_module("conv", convolution(in_channels, stage.out_channels, 1, stride, bias=bias))
            self.shortcut.add_module("bn", nn.BatchNorm2d(stage.out_channels))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.branch(x) + self.shortcut(x), inplace=True)
