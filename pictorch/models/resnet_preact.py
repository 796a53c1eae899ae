"""Pre-activation ResNet: "Identity Mappings in Deep Residual Networks", K. He, X. Zhang, S. Ren, J. Sun, 1603.05027.

    create(depth=164, block_type="bottleneck")                                                   1,703,258 parameters
    create(layout="imagenet", depth=18)                                      ResNet-18's counterpart for 32x32 images

A unit is BN-ReLU-conv-BN-ReLU-conv plus the shortcut, with nothing after the addition; one BN-ReLU follows the last
stage. In the first unit of a stage the first BN-ReLU feeds the shortcut, too, as in the authors' Torch code. Family
se_resnet_preact has squeeze-and-excitation at the end of every unit's branch, before the addition.
"""

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from pictorch.config.errors import OptionError
from pictorch.config.keywords import show
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
    **{f"resnet_preact_{d}": {"layout": "cifar", "depth": d, "block_type": "basic"} for d in (20, 32, 44, 50, 56, 110)},
    **{f"resnet_preact_{d}": {"layout": "cifar", "depth": d, "block_type": "bottleneck"} for d in (164, 1001)},
    # "widening factor 4" in the tables of seed document 1
    **{
        f"resnet_preact_{d}_w4": {"layout": "cifar", "depth": d, "block_type": "basic", "base_channels": 64}
        for d in (20, 50)
    },
    **{f"resnet_preact{d}": {"layout": "imagenet", "depth": d} for d in (18, 34, 50, 101, 152)},
}
SE_PAPER = 'Pre-activation SE-ResNet: "Squeeze-and-Excitation Networks", J. Hu, L. Shen, G. Sun, arXiv:1709.01507.'
SE_VARIANTS = {f"se_{name}": options for name, options in VARIANTS.items()}

# Who sees the output of a unit's first BN-ReLU: the branch alone, the shortcut as well, or nobody: there is none.
Preact = Literal["branch", "both", "none"]


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
    remove_first_relu: bool = False,
    add_last_bn: bool = False,
    preact_stage: Sequence[bool] | None = None,
    se_reduction: int | None = None,
    init: Mode = "fan_out",
    as_published: AsPublished | None = None,
) -> nn.Module:
    """Return a pre-activation ResNet for images [N, in_channels, image_size, image_size].

    The options of `resnet.create`, where shortcut "B" has no BN and stem "cifar" neither BN nor ReLU, and:

    preact_stage: for each stage, whether its first unit's BN-ReLU feeds the shortcut, too (else the shortcut sees the
        raw input); true for all unless told. Behind stem "imagenet", which ends in BN-ReLU and pooling, the very first
        unit has no BN-ReLU of its own and the first entry no effect.
    remove_first_relu: no ReLU after the first BN of a unit, unless that BN feeds the shortcut, too.
    add_last_bn: one more BN at the end of the branch, before the addition.
    se_reduction: 16 in family se_resnet_preact, which alone has it; see `resnet.create`. Behind the BN of add_last_bn.
    as_published: as in `resnet.create`; "seed2" moreover keeps the very first unit's BN-ReLU behind stem "imagenet".

    Raises OptionError.
    """
    owner = "se_resnet_preact" if se_reduction is not None else "resnet_preact"
    plan = create_plan(
        owner,
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
    shared = [True] * len(plan.stages) if preact_stage is None else list(preact_stage)
    if len(shared) != len(plan.stages):
        raise OptionError(
            owner,
            "preact_stage",
            f"layout {layout!r} has {len(plan.stages)} stages, got {len(shared)} values: {show(shared)}",
        )
    model = PreactResNet(
        **plan._asdict(),
        stride_in_1x1=stride_in_1x1,
        remove_first_relu=remove_first_relu,
        add_last_bn=add_last_bn,
        se_reduction=se_reduction,
        preact_stage=shared,
        preact_after_stem=plan.stem == "cifar" or as_published == "seed2",
        in_channels=in_channels,
        num_classes=num_classes,
    )
    initialise(model, init)
    return model


class PreactResNet(Classifier):
    """Stem, stages of pre-activation units, BN-ReLU, global average pooling, linear layer; arguments as in `create`."""

    def __init__(
        self,
        *,
        stem: StemType,
        stem_channels: int,
        stages: Sequence[Stage],
        block_type: BlockType,
        shortcut: ShortcutType,
        stride_in_1x1: bool,
        remove_first_relu: bool,
        add_last_bn: bool,
        se_reduction: int | None,
        preact_stage: Sequence[bool],
        preact_after_stem: bool,
        in_channels: int,
        num_classes: int,
    ) -> None:
        super().__init__()
        self.stem = create_stem(stem, in_channels, stem_channels, bn_relu=False)
        self.stages = nn.Sequential()
        channels = stem_channels
        for stage, shared in zip(stages, preact_stage, strict=True):
            units = nn.Sequential()
            for i in range(stage.units):
                preact: Preact = "both" if shared and i == 0 else "branch"
                if i == 0 and len(self.stages) == 0 and not preact_after_stem:
                    preact = "none"
                units.append(
                    PreactUnit(
                        channels,
                        stage,
                        stage.stride if i == 0 else 1,
                        block_type=block_type,
                        shortcut=shortcut,
                        stride_in_1x1=stride_in_1x1,
                        preact=preact,
                        remove_first_relu=remove_first_relu,
                        add_last_bn=add_last_bn,
                        se_reduction=se_reduction,
                    )
                )
                channels = stage.out_channels
            self.stages.append(units)
        self.bn = nn.BatchNorm2d(channels)
        self.feature_dim = channels
        self.classifier = linear(channels, num_classes)

    def forward_features(self, images: Tensor) -> Tensor:
        return F.relu(self.bn(self.stages(self.stem(images))), inplace=True)


class PreactUnit(nn.Module):
    """x [N, in_channels, H, W] -> branch(preact(x)) + shortcut(x), or shortcut(preact(x)) where it is shared."""

    def __init__(
        self,
        in_channels: int,
        stage: Stage,
        stride: int,
        *,
        block_type: BlockType,
        shortcut: ShortcutType,
        stride_in_1x1: bool,
        preact: Preact,
        remove_first_relu: bool,
        add_last_bn: bool,
        se_reduction: int | None,
    ) -> None:
        super().__init__()
        self.shared = preact == "both"
        self.preact = nn.Sequential()
        if preact != "none":
            self.preact.add_module("bn", nn.BatchNorm2d(in_channels))
            if self.shared or not remove_first_relu:
                self.preact.add_module("relu", nn.ReLU(inplace=True))
        convolutions = unit_convolutions(in_channels, stage, stride, block_type=block_type, stride_in_1x1=stride_in_1x1)
        self.branch = nn.Sequential()
        for i, conv in enumerate(convolutions, 1):
            if i > 1:
                self.branch.add_module(f"bn{i}", nn.BatchNorm2d(conv.in_channels))
                self.branch.add_module(f"relu{i}", nn.ReLU(inplace=True))
            self.branch.add_module(f"conv{i}", conv)
        if add_last_bn:
            self.branch.add_module("last_bn", nn.BatchNorm2d(stage.out_channels))
        if se_reduction is not None:
            self.branch.add_module("se", SqueezeExcitation(stage.out_channels, se_reduction))
        self.shortcut: nn.Module = nn.Identity()
        extra = stage.out_channels - in_channels
        if extra and shortcut == "A":
            self.shortcut = ShortcutA(extra, stride)
        elif extra:
            self.shortcut = convolution(in_channels, stage.out_channels, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        activated = self.preact(x)
        out: Tensor = self.branch(activated) + self.shortcut(activated if self.shared else x)
        return out
