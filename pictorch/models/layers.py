"""What the residual families share: the contract of the head, stems, shortcut A, and the plan of depths and widths."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pictorch.config.errors import OptionError
from pictorch.config.keywords import show
from pictorch.models.init import initialise, undrawn

Layout = Literal["cifar", "imagenet"]
BlockType = Literal["basic", "bottleneck"]
StemType = Literal["cifar", "imagenet"]
ShortcutType = Literal["A", "B"]
AsPublished = Literal["seed1", "seed2", "seed3"]

EXPANSION = 4
# Beyond it lies no network but a slip of the finger, which would end in a full memory or in hours of building layers.
LARGEST = 100_000
DEEPEST = 10_000

# 1512.03385, table 1
IMAGENET_UNITS: dict[int, tuple[BlockType, tuple[int, ...]]] = {
    18: ("basic", (2, 2, 2, 2)),
    34: ("basic", (3, 4, 6, 3)),
    50: ("bottleneck", (3, 4, 6, 3)),
    101: ("bottleneck", (3, 4, 23, 3)),
    152: ("bottleneck", (3, 8, 36, 3)),
}


class Stage(NamedTuple):
    """A row of units: how many, channels of the convolutions inside, channels put out, stride of the first unit."""

    units: int
    width: int
    out_channels: int
    stride: int


class Plan(NamedTuple):
    """The options of a residual network with every default filled in and every value checked."""

    block_type: BlockType
    stem: StemType
    stem_channels: int
    shortcut: ShortcutType
    stages: tuple[Stage, ...]


def create_plan(
    owner: str,
    *,
    image_size: int,
    layout: Layout,
    depth: int | None,
    block_type: BlockType | None,
    base_channels: int | None,
    stem: StemType | None,
    shortcut: ShortcutType | None,
    stride_in_1x1: bool,
    width_per_group: int | None,
    as_published: AsPublished | None,
    se_reduction: int | None = None,
) -> Plan:
    """Fill in and check the options that `resnet` and the families built like it have in common.

    `as_published` "seed1" and "seed2" stand for the programs behind those documents, which differ from the paper in two
    places: shortcut B is the default everywhere, and the bottleneck units of the first stage are not expanded, so that
    it puts out `base_channels` (with a quarter of `width_per_group` inside) instead of four times as many, and starts
    with an identity shortcut. "seed3" changes nothing: that program built the same networks (and drew them with `init`
    "fan_in", which is its recipes' to say).

    Raises OptionError, in the name of `owner`, for values that no network has.
    """
    block_type, units = _units(owner, layout, depth, block_type)
    bottleneck = block_type == "bottleneck"
    base = base_channels if base_channels is not None else (16 if layout == "cifar" else 64)
    width = width_per_group if width_per_group is not None else base
    check_positive(owner, base_channels=base, width_per_group=width)
    if not bottleneck and width != base:
        raise OptionError(owner, "width_per_group", "basic units have no bottleneck to widen; use base_channels")
    if not bottleneck and stride_in_1x1:
        raise OptionError(owner, "stride_in_1x1", "basic units have no 1x1 convolution to put the stride on")

    seeds12 = as_published in ("seed1", "seed2")
    expansion = EXPANSION if bottleneck else 1
    stages = [Stage(n, width << i, expansion * base << i, 1 if i == 0 else 2) for i, n in enumerate(units)]
    if bottleneck and seeds12:
        if width < EXPANSION:
            option = "base_channels" if width_per_group is None else "width_per_group"
            raise OptionError(owner, option, f"at least {EXPANSION} with as_published={as_published!r}, got {width}")
        stages[0] = stages[0]._replace(width=width // EXPANSION, out_channels=base)
    if se_reduction is not None:
        check_positive(owner, se_reduction=se_reduction)
        if se_reduction > stages[0].out_channels:
            raise OptionError(
                owner,
                "se_reduction",
                f"expected at most {stages[0].out_channels}, the channels of the first stage, got {se_reduction}",
            )

    stem = stem or ("cifar" if image_size <= 64 else "imagenet")
    halvings = len(stages) - 1 + (2 if stem == "imagenet" else 0)
    check_image_size(owner, image_size, halvings, f"layout {layout!r} with stem {stem!r}")
    shortcut = shortcut or ("A" if layout == "cifar" and not bottleneck and not seeds12 else "B")
    return Plan(block_type, stem, base, shortcut, tuple(stages))


def _units(
    owner: str, layout: Layout, depth: int | None, block_type: BlockType | None
) -> tuple[BlockType, tuple[int, ...]]:
    """Return the type of the units and how many each stage has."""
    if depth is None:
        raise OptionError(
            owner,
            "depth",
            "required; valid are 6n+2 with basic units (20, 32, 44, 56, 110 ...) and 9n+2 with block_type 'bottleneck' "
            f"(29, 56, 110, 164, 1001 ...) for layout 'cifar', {_listed(IMAGENET_UNITS)} for layout 'imagenet'",
        )
    if layout == "imagenet":
        valid = {d: row for d, row in IMAGENET_UNITS.items() if block_type in (None, row[0])}
        if depth not in valid:
            of = f" with block_type {block_type!r}" if block_type else ""
            raise OptionError(owner, "depth", f"layout 'imagenet'{of} has {_listed(valid)}, got {depth}")
        return valid[depth]

    block_type = block_type or "basic"
    per_unit = {"basic": 6, "bottleneck": 9}
    step = per_unit.pop(block_type)
    hints = [f"block_type {b!r} has {depth}" for b, s in per_unit.items() if depth > 2 and (depth - 2) % s == 0]
    hints += [f"layout 'imagenet' has {depth}"] if depth in IMAGENET_UNITS else []
    units = units_per_stage(owner, depth, step, 2, what=f"layout 'cifar' with {block_type} units", hints=hints)
    return block_type, (units,) * 3


def units_per_stage(
    owner: str, depth: int | None, per_unit: int, others: int, *, what: str, hints: Iterable[str] = ()
) -> int:
    """Return n of a network of per_unit * n + others layers: how many units each of its stages has.

    Raises OptionError with the nearest depths and the `hints` unless `depth` is one of those that `what` can have.
    """
    if depth is None:
        first = _listed(per_unit * n + others for n in range(1, 5))
        raise OptionError(owner, "depth", f"required; {what} has depths {per_unit}n+{others} ({first} ...)")
    if depth > DEEPEST:
        raise OptionError(owner, "depth", f"expected at most {DEEPEST:,} layers, got {depth:.3g}")
    units, rest = divmod(depth - others, per_unit)
    if rest or units < 1:
        near = [per_unit * n + others for n in (units, units + 1) if n >= 1] or [per_unit + others]
        raise OptionError(
            owner,
            "depth",
            f"{what} has depths {per_unit}n+{others}, got {depth}; nearest: " + "; ".join([_listed(near), *hints]),
        )
    return units


def _listed(depths: Iterable[int]) -> str:
    return ", ".join(str(d) for d in depths)


def check_positive(owner: str, **values: object) -> None:
    """Raise OptionError for the first value that is not a whole number from 1 to LARGEST."""
    for name, value in values.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise OptionError(owner, name, f"expected a whole number of at least 1, got {show(value)}")
        if value > LARGEST:
            raise OptionError(owner, name, f"expected a whole number of at most {LARGEST:,}, got {value:.3g}")


def check_image_size(owner: str, image_size: int, halvings: int, what: str) -> None:
    """Raise OptionError if one of the network's strides of 2 would meet a map of a single pixel."""
    # Padded strides round up: after k of them 2 pixels are left of 2**k + 1 or more.
    smallest = 2 ** (halvings - 1) + 1
    if image_size < smallest:
        raise OptionError(
            owner, "image_size", f"{what} halves {halvings} times and needs at least {smallest}, got {image_size}"
        )


def check_rate(owner: str, **values: float) -> None:
    """Raise OptionError for the first value that is not the probability of a dropout, from 0 to under 1."""
    for name, value in values.items():
        if not 0 <= value < 1:
            raise OptionError(owner, name, f"expected a number from 0 to under 1, got {value}")


def convolution(
    in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, *, groups: int = 1, bias: bool = False
) -> nn.Conv2d:
    """Return a convolution whose output has the size of its input, divided by `stride` and rounded up.

    Its weights are drawn by `initialise`.
    """
    with undrawn():
        return nn.Conv2d(in_channels, out_channels, kernel_size, stride, kernel_size // 2, groups=groups, bias=bias)


def linear(in_features: int, out_features: int, *, bias: bool = True) -> nn.Linear:
    """Return a linear layer; its weights are drawn by `initialise`, or by the family itself."""
    with undrawn():
        return nn.Linear(in_features, out_features, bias)


def conv_bn_relu(
    in_channels: int,
    out_channels: int,
    kernel_size: int,
    stride: int = 1,
    *,
    groups: int = 1,
    bias: bool = False,
    relu: type[nn.ReLU | nn.ReLU6] | None = nn.ReLU,
) -> nn.Sequential:
    """Return a `convolution` and its BN, followed by `relu` unless that is None."""
    layers = nn.Sequential()
    layers.add_module("conv", convolution(in_channels, out_channels, kernel_size, stride, groups=groups, bias=bias))
    layers.add_module("bn", nn.BatchNorm2d(out_channels))
    if relu:
        layers.add_module("relu", relu(inplace=True))
    return layers


def unit_convolutions(
    in_channels: int,
    stage: Stage,
    stride: int,
    *,
    block_type: BlockType,
    stride_in_1x1: bool,
    groups: int = 1,
    bias: bool = False,
) -> list[nn.Conv2d]:
    """Return the convolutions of one residual branch: 3x3, 3x3 (basic) or 1x1, 3x3, 1x1 (bottleneck).

    The bottleneck's stride sits on the 3x3, or on the first 1x1 as in 1512.03385: fewer multiply-adds, same parameters.
    `groups` are those of the bottleneck's 3x3.
    """
    width, out_channels = stage.width, stage.out_channels
    if block_type == "basic":
        return [convolution(in_channels, width, 3, stride), convolution(width, out_channels, 3)]
    first, second = (stride, 1) if stride_in_1x1 else (1, stride)
    return [
        convolution(in_channels, width, 1, first, bias=bias),
        convolution(width, width, 3, second, groups=groups, bias=bias),
        convolution(width, out_channels, 1, bias=bias),
    ]


def create_stem(
    stem: StemType, in_channels: int, out_channels: int, *, bn_relu: bool = True, bias: bool = False
) -> nn.Sequential:
    """Return the layers before the first stage.

    "cifar": 3x3 convolution, then BN-ReLU where `bn_relu`. "imagenet": 7x7/2 convolution, BN-ReLU, 3x3/2 max-pooling.
    """
    layers = nn.Sequential()
    layers.add_module(
        "conv", convolution(in_channels, out_channels, *((3, 1) if stem == "cifar" else (7, 2)), bias=bias)
    )
    if bn_relu or stem == "imagenet":
        layers.add_module("bn", nn.BatchNorm2d(out_channels))
        layers.add_module("relu", nn.ReLU(inplace=True))
    if stem == "imagenet":
        layers.add_module("pool", nn.MaxPool2d(3, 2, padding=1))
    return layers


class ShortcutA(nn.Module):
    """Option A of 1512.03385: every `stride`-th pixel, and `extra` channels of zeros after the last; no parameters."""

    def __init__(self, extra: int, stride: int) -> None:
        super().__init__()
        self.extra, self.stride = extra, stride

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.extra))

    def extra_repr(self) -> str:
        return f"extra={self.extra}, stride={self.stride}"


class SqueezeExcitation(nn.Module):
    """x [N, C, H, W], every channel times a number from 0 to 1 that the means of all channels decide (1709.01507)."""

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        self.fc1 = linear(channels, channels // reduction)
        self.fc2 = linear(channels // reduction, channels)

    def forward(self, x: Tensor) -> Tensor:
        gate = torch.sigmoid(self.fc2(F.relu(self.fc1(x.mean((2, 3))), inplace=True)))
        return x * gate[:, :, None, None]


class Classifier(nn.Module, ABC):
    """Abstract: images [N, C, H, W] -> features [N, feature_dim, h, w] -> logits [N, num_classes].

    A family sets `feature_dim` and `classifier`, its last layer, and writes `forward_features`; features are the last
    map before global average pooling, with all its activations applied. A family with more than pooling before the
    last layer has a `forward_head` of its own.
    """

    feature_dim: int
    classifier: nn.Linear

    @abstractmethod
    def forward_features(self, images: Tensor) -> Tensor:
        """Return features [N, feature_dim, h, w] of images [N, C, H, W]."""

    def forward_head(self, features: Tensor) -> Tensor:
        """Return logits [N, num_classes] of features [N, feature_dim, h, w]."""
        logits: Tensor = self.classifier(features.mean((2, 3)))
        return logits

    def forward(self, images: Tensor) -> Tensor:
        """Return logits [N, num_classes] of images [N, C, H, W]."""
        return self.forward_head(self.forward_features(images))

    def reset_classifier(self, num_classes: int) -> None:
        """Replace the last layer by a freshly drawn one for `num_classes`; device, dtype, having a bias stay."""
        check_positive(type(self).__name__, num_classes=num_classes)
        weight, bias = self.classifier.weight, self.classifier.bias is not None
        self.classifier = nn.Linear(weight.shape[1], num_classes, bias, device=weight.device, dtype=weight.dtype)
        initialise(self.classifier)
