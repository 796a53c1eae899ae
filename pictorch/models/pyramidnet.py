"""PyramidNet: "Deep Pyramidal Residual Networks", D. Han, J. Kim, J. Kim, arXiv:1610.02915.

    create(depth=110, block_type="basic", alpha=84)                                              3,904,446 parameters
    create(depth=272, block_type="bottleneck", alpha=200)                                       26,210,842 parameters

The width grows from unit to unit: that of the k-th of N is base_channels + k alpha / N, rounded half up as in the
authors' code. A unit is BN-conv-BN-ReLU-conv-BN; its shortcut has no parameters, averages 2x2 pixels where the stride
is 2, and appends channels of zeros. One BN-ReLU follows the last unit. The paper's counts leave out normalisation.
"""

import math
from collections.abc import Sequence
from itertools import accumulate, islice, repeat
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from pictorch.config.errors import OptionError
from pictorch.models.init import Mode, initialise
from pictorch.models.layers import (
    EXPANSION,
    IMAGENET_UNITS,
    BlockType,
    Classifier,
    Layout,
    Stage,
    StemType,
    check_image_size,
    check_positive,
    create_stem,
    linear,
    unit_convolutions,
    units_per_stage,
)

# 1610.02915, table 5: besides ResNet's depths
UNITS = {**IMAGENET_UNITS, 200: ("bottleneck", (3, 24, 36, 3))}

VARIANTS: dict[str, dict[str, object]] = {
    **{
        f"pyramidnet_110_a{alpha}": {"layout": "cifar", "depth": 110, "block_type": "basic", "alpha": alpha}
        for alpha in (48, 84, 270)
    },
    **{
        f"pyramidnet_{depth}_a{alpha}": {"layout": "cifar", "depth": depth, "block_type": "bottleneck", "alpha": alpha}
        for depth, alpha in ((164, 270), (200, 240), (236, 220), (272, 200))
    },
    **{
        f"pyramidnet{depth}_a{alpha}": {"layout": "imagenet", "depth": depth, "alpha": alpha}
        for depth, alpha in ((200, 300), (200, 450))
    },
}


def create(
    *,
    num_classes: int = 10,
    in_channels: int = 3,
    image_size: int = 32,
    layout: Layout = "cifar",
    depth: int | None = None,
    block_type: BlockType | None = None,
    alpha: int | None = None,
    base_channels: int | None = None,
    stem: StemType | None = None,
    init: Mode = "fan_out",
    as_published: Literal["seed1", "seed2"] | None = None,
) -> nn.Module:
    """Return a PyramidNet for images [N, in_channels, image_size, image_size].

    depth: 6n+2 (basic) or 9n+2 (bottleneck) for layout "cifar", 18, 34, 50, 101, 152 or 200 for "imagenet"; required.
    block_type: "cifar": "basic" unless told, since many depths are both; "imagenet": as the depth has it.
    alpha: by how many channels the last unit is wider than base_channels; required.
    base_channels: channels of the stem, 16 ("cifar") or 64.
    stem: "cifar" (3x3, stride 1, BN without ReLU) or "imagenet" (7x7/2-BN-ReLU, max-pooling); the former up to
        image_size 64.
    init: fan of the convolutions' initial weights.
    as_published: "seed1" has four times as many channels in the stem of bottleneck networks; "seed2" changes nothing.

    Raises OptionError.
    """
    block_type, units = _units(layout, depth, block_type)
    base = base_channels if base_channels is not None else (16 if layout == "cifar" else 64)
    if alpha is None:
        raise OptionError("pyramidnet", "alpha", "required; the paper's are 48, 84 and 270 with depth 110")
    check_positive("pyramidnet", alpha=alpha, base_channels=base)
    stem = stem or ("cifar" if image_size <= 64 else "imagenet")
    halvings = len(units) - 1 + (2 if stem == "imagenet" else 0)
    check_image_size("pyramidnet", image_size, halvings, f"layout {layout!r} with stem {stem!r}")
    wide_stem = as_published == "seed1" and block_type == "bottleneck"
    model = PyramidNet(
        stem=stem,
        stem_channels=EXPANSION * base if wide_stem else base,
        units=units,
        widths=widths(base, alpha, sum(units)),
        block_type=block_type,
        in_channels=in_channels,
        num_classes=num_classes,
    )
    initialise(model, init)
    return model


def _units(layout: Layout, depth: int | None, block_type: BlockType | None) -> tuple[BlockType, tuple[int, ...]]:
    """Return the type of the units and how many each stage has."""
    if layout == "cifar":
        block_type = block_type or "basic"
        what = f"layout 'cifar' with {block_type} units"
        n = units_per_stage("pyramidnet", depth, 6 if block_type == "basic" else 9, 2, what=what)
        return block_type, (n,) * 3
    valid = {d: row for d, row in UNITS.items() if block_type in (None, row[0])}
    if depth not in valid:
        listed, of = ", ".join(map(str, valid)), f" with block_type {block_type!r}" if block_type else ""
        got = "required" if depth is None else f"got {depth}"
        raise OptionError("pyramidnet", "depth", f"layout 'imagenet'{of} has {listed}; {got}")
    return valid[depth]


def widths(base: int, alpha: int, units: int) -> list[int]:
    """Return base + k alpha / units, rounded half up, for the units k = 1, 2 ... (1610.02915, equation 3).

    As in the authors' code, alpha / units is added up unit by unit: where a width ends in exactly a half, the error of
    that sum decides, and 78.5 may become 78.
    """
    sums = accumulate(repeat(alpha / units, units), initial=float(base))
    return [math.floor(width + 0.5) for width in islice(sums, 1, None)]


class PyramidNet(Classifier):
    """Stem, stages of units, BN-ReLU, global average pooling, linear layer; `widths` has one for each unit."""

    def __init__(
        self,
        *,
        stem: StemType,
        stem_channels: int,
        units: Sequence[int],
        widths: Sequence[int],
        block_type: BlockType,
        in_channels: int,
        num_classes: int,
    ) -> None:
        super().__init__()
        self.stem = create_stem(stem, in_channels, stem_channels)
        if stem == "cifar":
            del self.stem.relu
        self.stages = nn.Sequential()
        channels, remaining = stem_channels, iter(widths)
        for i, count in enumerate(units):
            stage = nn.Sequential()
            for j in range(count):
                unit = PyramidUnit(channels, next(remaining), 2 if i > 0 and j == 0 else 1, block_type=block_type)
                channels = unit.out_channels
                stage.append(unit)
            self.stages.append(stage)
        self.bn = nn.BatchNorm2d(channels)
        self.feature_dim = channels
        self.classifier = linear(channels, num_classes)

    def forward_features(self, images: Tensor) -> Tensor:
        return F.relu(self.bn(self.stages(self.stem(images))), inplace=True)


class PyramidUnit(nn.Module):
    """x [N, in_channels, H, W] -> branch(x) + x with zeros appended [N, out_channels, H / stride, W / stride]."""

    def __init__(self, in_channels: int, width: int, stride: int, *, block_type: BlockType) -> None:
        super().__init__()
        self.out_channels = width * (EXPANSION if block_type == "bottleneck" else 1)
        stage = Stage(1, width, self.out_channels, stride)
        convolutions = unit_convolutions(in_channels, stage, stride, block_type=block_type, stride_in_1x1=False)
        self.branch = nn.Sequential()
        for i, conv in enumerate(convolutions, 1):
            self.branch.add_module(f"bn{i}", nn.BatchNorm2d(conv.in_channels))
            if i > 1:
                self.branch.add_module(f"relu{i}", nn.ReLU(inplace=True))
            self.branch.add_module(f"conv{i}", conv)
        self.branch.add_module("last_bn", nn.BatchNorm2d(self.out_channels))
        self.stride, self.extra = stride, self.out_channels - in_channels

    def forward(self, x: Tensor) -> Tensor:
        # The authors' Torch code pools without ceil_mode, which is the same for even sizes and fails for odd ones.
        shortcut = x if self.stride == 1 else F.avg_pool2d(x, 2, ceil_mode=True)
        if self.extra:
            shortcut = F.pad(shortcut, (0, 0, 0, 0, 0, self.extra))
        out: Tensor = self.branch(x) + shortcut
        return out
