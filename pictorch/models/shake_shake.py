"""Shake-Shake: "Shake-Shake regularization", X. Gastaldi, arXiv:1705.07485.

    create(depth=26, base_channels=32)                                     "26 2x32d": 2,923,162 parameters

A unit adds a random mixture of two branches ReLU-conv-BN-ReLU-conv-BN to its input, and backward another one:

    forward     y = skip + alpha branch1 + (1 - alpha) branch2
    backward    d branch1 = beta dy, d branch2 = (1 - beta) dy, d skip = dy

with alpha and beta drawn anew, each for itself, in every pass and unit. In evaluation both are 0.5. Nothing comes after
the addition; one ReLU precedes the global pooling. Where the width changes, which it does in the first stage, too, the
skip is ReLU, two subsamplings one pixel apart, each with a 1x1 convolution to half the channels, and BN.
"""

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pictorch.config.errors import OptionError
from pictorch.models.init import Mode, initialise
from pictorch.models.layers import (
    Classifier,
    check_image_size,
    check_positive,
    conv_bn_relu,
    convolution,
    linear,
    units_per_stage,
)

VARIANTS: dict[str, dict[str, object]] = {
    f"shake_shake_26_2x{k}d": {"depth": 26, "base_channels": k} for k in (32, 64, 96, 112)
}


def create(
    *,
    num_classes: int = 10,
    in_channels: int = 3,
    image_size: int = 32,
    depth: int | None = None,
    base_channels: int = 96,
    shake_forward: bool = True,
    shake_backward: bool = True,
    shake_image: bool = True,
    init: Mode = "fan_out",
    as_published: Literal["seed1", "seed2"] | None = None,
) -> nn.Module:
    """Return a shake-shake network for images [N, in_channels, image_size, image_size].

    depth: 6n+2; required. All networks of the paper have 26 layers.
    base_channels: width of a branch in the first stage, an even number; doubled from stage to stage.
    shake_forward: draw alpha in training, evenly from 0 to 1; else it is 0.5.
    shake_backward: draw beta likewise; else it is 0.5, also where alpha is drawn ("Shake-Even" of the paper).
    shake_image: draw one number an image; else one for the whole batch.
    init: fan of the convolutions' initial weights.
    as_published: "seed2" moves the skip's second subsampling to the other side: it sees the pixels 1, 3, 5 ... and not
        -1 (which is zero), 1, 3 ... "seed1" has that, too, and base_channels and a ReLU in the stem (the paper: 16 and
        none), so that the first stage keeps the width, and no ReLU before the pooling: 2,932,266 parameters for
        26 2x32d and not 2,923,162.

    Raises OptionError.
    """
    check_positive("shake_shake", base_channels=base_channels)
    if base_channels % 2:
        raise OptionError(
            "shake_shake", "base_channels", f"expected an even number, since a skip has two halves, got {base_channels}"
        )
    units = units_per_stage("shake_shake", depth, 6, 2, what="a network of three stages")
    check_image_size("shake_shake", image_size, 2, "the network")
    model = ShakeShake(
        units=units,
        stem_channels=base_channels if as_published == "seed1" else 16,
        width=base_channels,
        shake=(shake_forward, shake_backward, shake_image),
        stem_relu=as_published == "seed1",
        last_relu=as_published != "seed1",
        offset=-1 if as_published is None else 1,
        in_channels=in_channels,
        num_classes=num_classes,
    )
    initialise(model, init)
    return model


class ShakeShake(Classifier):
    """Stem, three stages of `units` units, ReLU, global average pooling, linear layer.

    `shake`: forward, backward and image of `create`; `offset`: see `Skip`.
    """

    def __init__(
        self,
        *,
        units: int,
        stem_channels: int,
        width: int,
        shake: tuple[bool, bool, bool],
        stem_relu: bool,
        last_relu: bool,
        offset: Literal[-1, 1],
        in_channels: int,
        num_classes: int,
    ) -> None:
        super().__init__()
        self.last_relu = last_relu
        self.stem = conv_bn_relu(in_channels, stem_channels, 3, relu=nn.ReLU if stem_relu else None)
        self.stages = nn.Sequential()
        channels = stem_channels
        for out_channels, stride in ((width, 1), (2 * width, 2), (4 * width, 2)):
            stage = nn.Sequential()
            for i in range(units):
                stage.append(ShakeUnit(channels, out_channels, stride if i == 0 else 1, shake, offset))
                channels = out_channels
            self.stages.append(stage)
        self.feature_dim = channels
        self.classifier = linear(channels, num_classes)

    def forward_features(self, images: Tensor) -> Tensor:
        features: Tensor = self.stages(self.stem(images))
        return F.relu(features, inplace=True) if self.last_relu else features


class ShakeUnit(nn.Module):
    """x [N, in_channels, H, W] -> skip(x) + a mixture of two branches of ReLU(x).

    The images are part `rank` of `size` of a batch, for all of which the numbers are drawn.
    """

    rank, size = 0, 1

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int,
        shake: tuple[bool, bool, bool],
        offset: Literal[-1, 1],
    ) -> None:
        super().__init__()
        self.shake_forward, self.shake_backward, self.shake_image = shake
        self.branch1 = create_branch(in_channels, out_channels, stride)
        self.branch2 = create_branch(in_channels, out_channels, stride)
        self.skip = Skip(in_channels, out_channels, stride, offset) if in_channels != out_channels else None

    def forward(self, x: Tensor) -> Tensor:
        # One for both branches and the skip, each of which begins with it.
        activated = F.relu(x)
        first, second = self.branch1(activated), self.branch2(activated)
        if self.training and (self.shake_forward or self.shake_backward):
            # One number an image or one for all; both in one draw, since of two the compiler may change the order.
            size = (2, self.size * len(x) if self.shake_image else 1, 1, 1, 1)
            alpha, beta = torch.rand(size, device=first.device, dtype=first.dtype)
            if self.size > 1 and self.shake_image:
                alpha, beta = (each.chunk(self.size)[self.rank] for each in (alpha, beta))
            mixture: Tensor = Shake.apply(  # type: ignore[no-untyped-call]
                first, second, alpha if self.shake_forward else 0.5, beta if self.shake_backward else 0.5
            )
        else:
            mixture = torch.lerp(second, first, 0.5)
        return mixture.add_(x if self.skip is None else self.skip(activated))

    def extra_repr(self) -> str:
        return (
            f"shake_forward={self.shake_forward}, shake_backward={self.shake_backward}, shake_image={self.shake_image}"
        )


class Shake(torch.autograd.Function):
    """alpha first + (1 - alpha) second, with beta in the place of alpha backward; it keeps no map for that."""

    generate_vmap_rule = True

    @staticmethod
    def forward(first: Tensor, second: Tensor, alpha: Tensor | float, beta: Tensor | float) -> Tensor:
        return torch.lerp(second, first, alpha)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor | float, Tensor | float], output: Tensor) -> None:
        beta = inputs[3]
        if isinstance(beta, Tensor):
            ctx.save_for_backward(beta)
        else:
            ctx.beta = beta

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None]:
        beta = ctx.saved_tensors[0] if ctx.saved_tensors else ctx.beta
        first = beta * gradient
        return first, gradient - first, None, None


class Skip(nn.Module):
    """ReLU(x) [N, in_channels, H, W] -> [N, out_channels, H / stride, W / stride]: the shortcut of another width.

    Half the channels come from the pixels stride * i, the others from the pixels stride * i + offset, which are zero
    outside the map.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, offset: Literal[-1, 1]) -> None:
        super().__init__()
        self.stride, self.offset = stride, offset
        self.conv1 = convolution(in_channels, out_channels // 2, 1, stride)
        self.conv2 = convolution(in_channels, out_channels // 2, 1)
        self.bn = nn.BatchNorm2d(out_channels)

    def forward(self, activated: Tensor) -> Tensor:
        s = self.stride
        if self.offset == -1:
            shifted = F.pad(activated[:, :, s - 1 : -1 : s, s - 1 : -1 : s], (1, 0, 1, 0))
        else:
            shifted = F.pad(activated[:, :, 1:, 1:], (0, 1, 0, 1))[:, :, ::s, ::s]
        out: Tensor = self.bn(torch.cat([self.conv1(activated), self.conv2(shifted)], 1))
        return out

    def extra_repr(self) -> str:
        return f"stride={self.stride}, offset={self.offset}"


def create_branch(in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
    """Return conv-BN-ReLU-conv-BN; the ReLU before it is the unit's."""
    layers = nn.Sequential()
    layers.add_module("conv1", convolution(in_channels, out_channels, 3, stride))
    layers.add_module("bn1", nn.BatchNorm2d(out_channels))
    layers.add_module("relu", nn.ReLU(inplace=True))
    layers.add_module("conv2", convolution(out_channels, out_channels, 3))
    layers.add_module("bn2", nn.BatchNorm2d(out_channels))
    return layers
