"""Airbench: "94% on CIFAR-10 in 3.29 Seconds on a Single GPU", K. Jordan, arXiv:2404.00498.

    model = create()                                                            1,971,352 parameters that are trained
    model.whiten(images)                  before training: 5,000 training images, normalised as the network gets them
    create(variant=96)                                                         12,717,464 parameters that are trained

Networks of speed records for 94% and 96% of accuracy on CIFAR-10, from github.com/KellerJordan/cifar10-airbench. A 2x2
convolution whose fixed weights turn patches into uncorrelated components, then three blocks of 3x3 convolutions, BN
without scale and GELU, the first convolution followed by 2x2 max-pooling; then the maximum over the map, a linear layer
without bias, and logits divided by 9.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pictorch.config.errors import OptionError, UserError
from pictorch.config.keywords import show
from pictorch.models.layers import Classifier, check_positive, convolution, linear
from pictorch.models.resnet9 import Init, draw

VARIANTS: dict[str, dict[str, object]] = {"airbench94": {"variant": 94}, "airbench96": {"variant": 96}}
SMALLEST_IMAGE = 9
PATCH = 2
LOGIT_SCALE = 1 / 9


def create(
    *,
    num_classes: int = 10,
    in_channels: int = 3,
    image_size: int = 32,
    variant: Literal[94, 96] = 94,
    base_channels: int | None = None,
    widths: Sequence[int] | None = None,
    init: Init = "torch",
) -> nn.Module:
    """Return an airbench network for images [N, in_channels, image_size, image_size], of 9 pixels at least.

    variant: 94 has two convolutions a block and BN statistics of momentum 0.4; 96 has three, the last two of them with
        a residual connection, and momentum 0.1.
    base_channels: of the first block, 64 (94) or 128 (96); the other two have four times as many; or instead of it
    widths: channels of each of the three blocks. The paper's 96 has [128, 512, 512], its program since then
        [128, 384, 512].
    init: "torch" draws convolutions as the published program did, uniformly in +-1/sqrt(fan_in); "fan_out" and "fan_in"
        as for other families. In each case the first outputs of a 3x3 convolution start as copies of its inputs.

    Raises OptionError.
    """
    if widths is None:
        base = base_channels if base_channels is not None else {94: 64, 96: 128}[variant]
        check_positive("airbench", base_channels=base)
        widths = (base, 4 * base, 4 * base)
    elif base_channels is not None:
        raise OptionError("airbench", "widths", "give widths or base_channels, not both")
    elif len(widths) != 3 or min(widths) < 1:
        detail = f"expected three whole numbers of at least 1, got {show(widths)}"
        raise OptionError("airbench", "widths", detail)
    if image_size < SMALLEST_IMAGE:
        raise OptionError(
            "airbench",
            "image_size",
            f"a 2x2 convolution and three poolings by 2 need at least {SMALLEST_IMAGE}, got {image_size}",
        )
    model = Airbench(widths, residual=variant == 96, in_channels=in_channels, num_classes=num_classes)
    draw(model, init)
    model.set_fixed_weights()
    return model


class Airbench(Classifier):
    """Whitening, three blocks, global max-pooling, linear layer without bias, scale; see `create`."""

    def __init__(self, widths: Sequence[int], *, residual: bool, in_channels: int, num_classes: int) -> None:
        super().__init__()
        self.whitening = nn.Conv2d(in_channels, 2 * in_channels * PATCH**2, PATCH)
        self.whitening.weight.requires_grad_(False)
        self.blocks = nn.Sequential()
        channels = self.whitening.out_channels
        for out_channels in widths:
            self.blocks.append(Block(channels, out_channels, residual=residual))
            channels = out_channels
        self.feature_dim = channels
        self.classifier = linear(channels, num_classes, bias=False)

    def forward_features(self, images: Tensor) -> Tensor:
        features: Tensor = self.blocks(F.gelu(self.whitening(images)))
        return features

    def forward_head(self, features: Tensor) -> Tensor:
        # 32x32 images leave 3x3, the published kernel.
        pooled = F.max_pool2d(features, list(features.shape[2:])).flatten(1)
        logits: Tensor = self.classifier(pooled) * LOGIT_SCALE
        return logits

    @torch.no_grad()
    def set_fixed_weights(self) -> None:
        """Let whitening pass the pixels on with either sign, and 3x3 convolutions start with the identity, in place."""
        for module in self.blocks.modules():
            if isinstance(module, nn.Conv2d):
                first = module.weight[: module.in_channels]
                first.zero_()
                first[:, :, 1, 1].fill_diagonal_(1)
        self._set_whitening(torch.eye(self.whitening.out_channels // 2, device="cpu"))

    @torch.no_grad()
    def whiten(self, images: Tensor, eps: float = 5e-4) -> None:
        """Set the first convolution from images [N, C, H, W] so that its outputs are uncorrelated and of variance 1.

        Its filters are the eigenvectors of the patches' second moments, largest eigenvalue first, divided by
        sqrt(eigenvalue + eps), and then their negatives; the paper's section 3.2. `images` are normalised as the
        network will get them, on its device; some thousand do. Raises UserError for images of another shape.
        """
        channels = self.whitening.in_channels
        if images.ndim != 4 or images.shape[1] != channels or min(images.shape[2:]) < PATCH or len(images) == 0:
            raise UserError(f"whiten: expected images [N, {channels}, H, W], got {list(images.shape)}")
        moments, patches = torch.zeros((), device=images.device), 0
        # By parts, since the patches of all images take four times their memory.
        for part in torch.split(images, 1000):
            columns = F.unfold(part.float(), PATCH).transpose(0, 1).flatten(1)
            moments = moments + columns @ columns.T
            patches += columns.shape[1]
        eigenvalues, eigenvectors = torch.linalg.eigh(moments / patches)
        self._set_whitening((eigenvectors / (eigenvalues + eps).sqrt()).T.flip(0))

    def _set_whitening(self, filters: Tensor) -> None:
        weight = self.whitening.weight
        weight.copy_(torch.cat((filters, -filters)).view_as(weight))


class Block(nn.Module):
    """x [N, in_channels, H, W] -> [N, out_channels, H // 2, W // 2], by two convolutions, or three and a shortcut."""

    def __init__(self, in_channels: int, out_channels: int, *, residual: bool) -> None:
        super().__init__()
        momentum = 0.1 if residual else 0.4
        self.conv1, self.norm1 = convolution(in_channels, out_channels, 3), norm(out_channels, momentum)
        self.conv2, self.norm2 = convolution(out_channels, out_channels, 3), norm(out_channels, momentum)
        self.residual = residual
        if residual:
            self.conv3, self.norm3 = convolution(out_channels, out_channels, 3), norm(out_channels, momentum)

    def forward(self, x: Tensor) -> Tensor:
        x = F.gelu(self.norm1(F.max_pool2d(self.conv1(x), 2)))
        out = F.gelu(self.norm2(self.conv2(x)))
        return F.gelu(self.norm3(self.conv3(out)) + x) if self.residual else out


def norm(channels: int, momentum: float) -> nn.BatchNorm2d:
    """Return a BN whose scale stays 1; the published programs' epsilon."""
    bn = nn.BatchNorm2d(channels, eps=1e-12, momentum=momentum)
    bn.weight.requires_grad_(False)
    return bn
