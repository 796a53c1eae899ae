"""GoogLeNet: "Going Deeper with Convolutions", C. Szegedy, W. Liu, Y. Jia et al., arXiv:1409.4842.

    create(image_size=224, num_classes=1000)                           as in the paper, without BN: 6,998,552 parameters
    create(batch_norm=True)                                                    for 32x32 images: 5,983,402 parameters

Nine inception modules: 1x1, 3x3, 5x5 convolutions and a pooled 1x1 side by side, each with ReLU, their outputs
concatenated in this order. `forward` never runs the auxiliary heads; a training step that wants them calls

    logits, *others = model.forward_with_auxiliary(images)
    loss = criterion(logits) + sum(w * criterion(o) for w, o in zip(model.auxiliary_weights, others))
"""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pictorch.config.errors import OptionError
from pictorch.models.init import Mode, initialise
from pictorch.models.layers import Classifier, StemType, check_rate, convolution, linear

Branch = Literal["5x5", "3x3"]

VARIANTS: dict[str, dict[str, object]] = {
    "googlenet_bn": {"batch_norm": True},
    "googlenet_aux": {"aux_logits": True},
    # Layers and weights as in TensorFlow's slim and torchvision
    "googlenet_torchvision": {"stem": "imagenet", "batch_norm": True, "branch5x5": "3x3"},
}

# 1409.4842, table 1: channels of 1x1, 3x3 reduce, 3x3, 5x5 reduce, 5x5, pool proj; pooling precedes 4a and 5a
INCEPTIONS = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}
# section 5: the heads that follow these modules, and what their losses count
AUXILIARY_WEIGHTS = {"4a": 0.3, "4d": 0.3}


def create(
    *,
    num_classes: int = 10,
    in_channels: int = 3,
    image_size: int = 32,
    stem: StemType | None = None,
    batch_norm: bool | None = None,
    drop_rate: float | None = None,
    branch5x5: Branch = "5x5",
    aux_logits: bool = False,
    init: Mode = "fan_out",
    as_published: Literal["seed3"] | None = None,
) -> nn.Module:
    """Return a GoogLeNet for images [N, in_channels, image_size, image_size].

    stem: "cifar" (3x3 64, 1x1 64, 3x3 192 at full resolution) or "imagenet" (7x7/2 and pooling, ..., pooling); the
        former up to image_size 64.
    batch_norm: BN after every convolution, which then has no bias. Without it, as in the paper, convolutions have
        biases, and the stem two local response normalisations.
    drop_rate: dropout before the last layer, 0.4 as in the paper. (The auxiliary heads have 0.7.)
    branch5x5: "5x5" as in the paper; "3x3" as in TensorFlow's slim and torchvision, together with their last pooling of
        2x2 pixels and not 3x3, so that their weights fit.
    aux_logits: the two auxiliary heads, which only `forward_with_auxiliary` runs; 6.4 million parameters for 1000
        classes, no multiply-adds.
    init: fan of the convolutions' initial weights.
    as_published: "seed3" has BN and no dropout unless told, the stem 3x3 64, 3x3 192 and pooling in place of "cifar",
        and poolings padded on both sides: 5,979,178 parameters.

    Raises OptionError.
    """
    seed3 = as_published == "seed3"
    drop_rate = drop_rate if drop_rate is not None else (0.0 if seed3 else 0.4)
    check_rate("googlenet", drop_rate=drop_rate)
    stem = stem or ("cifar" if image_size <= 64 or seed3 else "imagenet")
    # So that every pooling makes one pixel of two or more; it halves rounding down, or up where it is padded.
    smallest = {"cifar": 5 if seed3 else 4, "imagenet": 17 if seed3 else 31}[stem]
    if image_size < smallest:
        raise OptionError(
            "googlenet", "image_size", f"stem {stem!r} and its poolings need at least {smallest}, got {image_size}"
        )
    model = GoogLeNet(
        stem=stem,
        batch_norm=seed3 if batch_norm is None else batch_norm,
        drop_rate=drop_rate,
        branch5x5=branch5x5,
        aux_logits=aux_logits,
        seed3=seed3,
        in_channels=in_channels,
        num_classes=num_classes,
    )
    initialise(model, init)
    return model


class GoogLeNet(Classifier):
    """Stem, inception modules, global average pooling, dropout, linear layer; arguments as in `create`.

    `auxiliary_weights` are the weights of the losses of the auxiliary logits, in their order; empty without heads.
    """

    def __init__(
        self,
        *,
        stem: StemType,
        batch_norm: bool,
        drop_rate: float,
        branch5x5: Branch,
        aux_logits: bool,
        seed3: bool,
        in_channels: int,
        num_classes: int,
    ) -> None:
        super().__init__()
        self.stem = _stem(in_channels, stem, batch_norm=batch_norm, seed3=seed3)
        self.inceptions = nn.Sequential()
        self.auxiliary = nn.ModuleDict()
        channels = 192
        for name, widths in INCEPTIONS.items():
            if name in ("4a", "5a"):
                self.inceptions.add_module(
                    f"pool{name[0]}", _pool(2 if (name, branch5x5) == ("5a", "3x3") else 3, seed3)
                )
            self.inceptions.add_module(name, Inception(channels, widths, batch_norm=batch_norm, branch5x5=branch5x5))
            channels = widths[0] + widths[2] + widths[4] + widths[5]
            if aux_logits and name in AUXILIARY_WEIGHTS:
                self.auxiliary[name] = AuxiliaryHead(channels, num_classes, batch_norm=batch_norm)
        self.auxiliary_weights = tuple(AUXILIARY_WEIGHTS[name] for name in self.auxiliary)
        self.dropout = nn.Dropout(drop_rate)
        self.feature_dim = channels
        self.classifier = linear(channels, num_classes)

    def forward_features(self, images: Tensor) -> Tensor:
        features: Tensor = self.inceptions(self.stem(images))
        return features

    def forward_head(self, features: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.dropout(features.mean((2, 3))))
        return logits

    def forward_with_auxiliary(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return the logits [N, num_classes] of the network and of its auxiliary heads, for a loss in training."""
        x = self.stem(images)
        auxiliary = []
        for name, layer in self.inceptions.named_children():
            x = layer(x)
            if name in self.auxiliary:
                auxiliary.append(self.auxiliary[name](x))
        return (self.forward_head(x), *auxiliary)

    def reset_classifier(self, num_classes: int) -> None:
        """Replace the last layer, and those of the auxiliary heads, by freshly drawn ones for `num_classes`."""
        super().reset_classifier(num_classes)
        for head in self.auxiliary.values():
            assert isinstance(head, AuxiliaryHead)
            head.reset_classifier(num_classes)


class Inception(nn.Module):
    """x [N, in_channels, H, W] -> [N, widths[0] + widths[2] + widths[4] + widths[5], H, W]; widths as in INCEPTIONS."""

    def __init__(
        self, in_channels: int, widths: tuple[int, int, int, int, int, int], *, batch_norm: bool, branch5x5: Branch
    ) -> None:
        super().__init__()
        one, reduce3, three, reduce5, five, proj = widths
        self.branch1 = _conv_relu(in_channels, one, 1, batch_norm=batch_norm)
        self.branch3 = nn.Sequential(
            _conv_relu(in_channels, reduce3, 1, batch_norm=batch_norm),
            _conv_relu(reduce3, three, 3, batch_norm=batch_norm),
        )
        self.branch5 = nn.Sequential(
            _conv_relu(in_channels, reduce5, 1, batch_norm=batch_norm),
            _conv_relu(reduce5, five, 5 if branch5x5 == "5x5" else 3, batch_norm=batch_norm),
        )
        self.branch_pool = nn.Sequential(
            nn.MaxPool2d(3, 1, padding=1), _conv_relu(in_channels, proj, 1, batch_norm=batch_norm)
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.branch1(x), self.branch3(x), self.branch5(x), self.branch_pool(x)], 1)


class AuxiliaryHead(Classifier):
    """x [N, in_channels, h, w] -> logits [N, num_classes]: pooling to 4x4, 1x1 convolution, two linear layers."""

    def __init__(self, in_channels: int, num_classes: int, *, batch_norm: bool) -> None:
        super().__init__()
        self.feature_dim = 128
        self.convolution = _conv_relu(in_channels, self.feature_dim, 1, batch_norm=batch_norm)
        self.hidden = linear(self.feature_dim * 4 * 4, 1024)
        self.dropout = nn.Dropout(0.7)
        self.classifier = linear(1024, num_classes)

    def forward_features(self, images: Tensor) -> Tensor:
        # The paper's 5x5/3 makes 4x4 of 14x14 to 16x16 pixels; other sizes are brought to the 4x4 that `hidden` takes.
        if min(images.shape[2:]) >= 14:
            images = F.avg_pool2d(images, 5, 3)
        features: Tensor = self.convolution(F.adaptive_avg_pool2d(images, 4))
        return features

    def forward_head(self, features: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.dropout(F.relu(self.hidden(features.flatten(1)))))
        return logits


def _stem(in_channels: int, stem: StemType, *, batch_norm: bool, seed3: bool) -> nn.Sequential:
    """Return the layers before the first inception module, which put out 192 channels."""
    imagenet = stem == "imagenet"
    layers = nn.Sequential()
    kernel, stride = (7, 2) if imagenet else (3, 1)
    layers.add_module("conv1", _conv_relu(in_channels, 64, kernel, stride, batch_norm=batch_norm))
    if imagenet:
        layers.add_module("pool1", _pool(3, seed3))
    if not batch_norm:
        layers.add_module("norm1", nn.LocalResponseNorm(5))
    if imagenet or not seed3:
        layers.add_module("conv2", _conv_relu(64, 64, 1, batch_norm=batch_norm))
    layers.add_module("conv3", _conv_relu(64, 192, 3, batch_norm=batch_norm))
    if not batch_norm:
        layers.add_module("norm3", nn.LocalResponseNorm(5))
    if imagenet or seed3:
        layers.add_module("pool3", _pool(3, seed3))
    return layers


def _pool(kernel_size: int, padded: bool) -> nn.MaxPool2d:
    """Return a pooling that halves, over the pixels that are there (as Caffe does it), or padded on both sides."""
    return nn.MaxPool2d(kernel_size, 2, padding=kernel_size // 2 if padded else 0, ceil_mode=not padded)


def _conv_relu(
    in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, *, batch_norm: bool
) -> nn.Sequential:
    """Return convolution, BN if `batch_norm`, ReLU; the output has the input's size, divided by `stride`."""
    layers = nn.Sequential()
    layers.add_module("conv", convolution(in_channels, out_channels, kernel_size, stride, bias=not batch_norm))
    if batch_norm:
        # eps of slim and torchvision
        layers.add_module("bn", nn.BatchNorm2d(out_channels, eps=1e-3))
    layers.add_module("relu", nn.ReLU(inplace=True))
    return layers
