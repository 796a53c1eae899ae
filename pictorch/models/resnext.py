"""ResNeXt: "Aggregated Residual Transformations for Deep Neural Networks", S. Xie et al., arXiv:1611.05431.

    create(depth=29, cardinality=8, base_channels=64)                                           34,426,698 parameters
    create(layout="imagenet", depth=50, image_size=224, num_classes=1000)                       25,028,904 parameters

A ResNet of bottleneck units whose 3x3 convolution has `cardinality` groups (form C of the paper's figure 3), with the
stride on it. The units put out 256 channels in the first stage and twice as many in every next one, however wide they
are inside.
"""

from torch import nn

from pictorch.config.errors import OptionError
from pictorch.models.init import Mode, initialise
from pictorch.models.layers import (
    AsPublished,
    Layout,
    StemType,
    check_positive,
    create_plan,
    units_per_stage,
)
from pictorch.models.resnet import ResNet

VARIANTS: dict[str, dict[str, object]] = {
    **{
        f"resnext_{d}_{c}x{b}d": {"layout": "cifar", "depth": d, "cardinality": c, "base_channels": b}
        for d, c, b in [(29, 4, 64), (29, 8, 64), (29, 16, 64)]
    },
    **{
        f"resnext{d}_{c}x{b}d": {"layout": "imagenet", "depth": d, "cardinality": c, "base_channels": b}
        for d, c, b in [(50, 32, 4), (101, 32, 4), (101, 32, 8), (101, 64, 4), (152, 32, 4)]
    },
}
DEPTHS = (50, 101, 152)


def create(
    *,
    num_classes: int = 10,
    in_channels: int = 3,
    image_size: int = 32,
    layout: Layout = "cifar",
    depth: int | None = None,
    cardinality: int | None = None,
    base_channels: int | None = None,
    stem: StemType | None = None,
    init: Mode = "fan_out",
    as_published: AsPublished | None = None,
) -> nn.Module:
    """Return a ResNeXt for images [N, in_channels, image_size, image_size].

    depth: 9n+2 for layout "cifar" (three stages), 50, 101 or 152 for "imagenet" (four); required.
    cardinality: groups of the 3x3 convolutions, 8 ("cifar") or 32 ("imagenet").
    base_channels: width of one group in the first stage, 64 ("cifar") or 4 ("imagenet"); doubled from stage to stage.
    stem: "cifar" (3x3, stride 1) or "imagenet" (7x7/2, max-pooling), of 64 channels; the former up to image_size 64.
    init: fan of the convolutions' initial weights.
    as_published: "seed3" has biases in all convolutions: 23,026,826 parameters for `resnext50_32x4d` and 10 classes
        and not 22,992,714. "seed1" and "seed2" change nothing: those programs built the paper's networks.

    Raises OptionError.
    """
    cardinality = cardinality if cardinality is not None else (8 if layout == "cifar" else 32)
    base_channels = base_channels if base_channels is not None else (64 if layout == "cifar" else 4)
    check_positive("resnext", cardinality=cardinality, base_channels=base_channels)
    check_positive("resnext", **{"cardinality x base_channels": cardinality * base_channels})
    _check_depth(layout, depth)
    plan = create_plan(
        "resnext",
        image_size=image_size,
        layout=layout,
        depth=depth,
        block_type="bottleneck",
        base_channels=64,
        stem=stem,
        shortcut="B",
        stride_in_1x1=False,
        width_per_group=cardinality * base_channels,
        as_published=None,
    )
    model = ResNet(
        **plan._asdict(),
        groups=cardinality,
        bias=as_published == "seed3",
        in_channels=in_channels,
        num_classes=num_classes,
    )
    initialise(model, init)
    return model


def _check_depth(layout: Layout, depth: int | None) -> None:
    """Raise OptionError, which unlike the one of `create_plan` speaks of no other units, unless the depth exists."""
    if depth is None:
        valid = "9n+2 (20, 29, 38 ...) for layout 'cifar', 50, 101, 152 for layout 'imagenet'"
        raise OptionError("resnext", "depth", f"required; valid are {valid}")
    if layout == "cifar":
        hints = [f"layout 'imagenet' has {depth}"] if depth in DEPTHS else []
        units_per_stage("resnext", depth, 9, 2, what="layout 'cifar'", hints=hints)
    elif depth not in DEPTHS:
        raise OptionError("resnext", "depth", f"layout 'imagenet' has 50, 101, 152, got {depth}")
