"""ResNet9: "How to Train Your ResNet", D. Page, 2018, myrtle.ai/learn/how-to-train-your-resnet.

    create()                                                                                     6,573,120 parameters

The network of the DAWNBench entries of 2018: on a CIFAR-10 training set, 94% in 24 epochs. Three stages of convolution,
BN, ReLU and 2x2 max-pooling; the first and the last of them go on with a residual branch of two convolution-BN-ReLU.
Then the maximum over the map, a linear layer without bias, and logits divided by 8.
"""

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from pictorch.config.errors import OptionError
from pictorch.models.init import initialise
from pictorch.models.layers import Classifier, check_positive, conv_bn_relu, convolution, linear

Init = Literal["torch", "fan_out", "fan_in"]

VARIANTS: dict[str, dict[str, object]] = {}
SMALLEST_IMAGE = 8


def create(
    *,
    num_classes: int = 10,
    in_channels: int = 3,
    image_size: int = 32,
    base_channels: int = 64,
    logit_scale: float = 0.125,
    init: Init = "torch",
) -> nn.Module:
    """Return a ResNet-9 for images [N, in_channels, image_size, image_size], of 8 pixels at least.

    base_channels: channels of the first convolution; the stages have 2, 4 and 8 times as many.
    logit_scale: what the last layer's outputs are multiplied by.
    init: "torch" draws convolutions as the published program did, uniformly in +-1/sqrt(fan_in); "fan_out" and "fan_in"
        as for other families.

    Raises OptionError.
    """
    check_positive("resnet9", base_channels=base_channels)
    if not 0 < logit_scale < float("inf"):
        raise OptionError("resnet9", "logit_scale", f"expected a number above 0, got {logit_scale}")
    if image_size < SMALLEST_IMAGE:
        raise OptionError(
            "resnet9", "image_size", f"three poolings by 2 need at least {SMALLEST_IMAGE}, got {image_size}"
        )
    model = ResNet9(base_channels, logit_scale, in_channels=in_channels, num_classes=num_classes)
    draw(model, init)
    return model


def draw(model: nn.Module, init: Init) -> None:
    """Draw new weights for every layer, in place: as `initialise`, or convolutions by torch's own rule."""
    initialise(model, "fan_in" if init == "torch" else init)
    if init == "torch":
        for module in model.modules():
            if isinstance(module, nn.Conv2d):
                bound = module.weight[0].numel() ** -0.5
                nn.init.uniform_(module.weight, -bound, bound)


class ResNet9(Classifier):
    """Stem, three stages, global max-pooling, linear layer without bias, scale; see `create`."""

    def __init__(self, base_channels: int, logit_scale: float, *, in_channels: int, num_classes: int) -> None:
        super().__init__()
        c = base_channels
        self.stem = conv_bn_relu(in_channels, c, 3)
        self.stages = nn.Sequential(stage(c, 2 * c), stage(2 * c, 4 * c), stage(4 * c, 8 * c))
        self.stages[0].add_module("residual", ResidualBranch(2 * c))
        self.stages[2].add_module("residual", ResidualBranch(8 * c))
        self.logit_scale = logit_scale
        self.feature_dim = 8 * c
        self.classifier = linear(self.feature_dim, num_classes, bias=False)

    def forward_features(self, images: Tensor) -> Tensor:
        features: Tensor = self.stages(self.stem(images))
        return features

    def forward_head(self, features: Tensor) -> Tensor:
        # 32x32 images leave 4x4, the published kernel.
        pooled = F.max_pool2d(features, list(features.shape[2:])).flatten(1)
        logits: Tensor = self.classifier(pooled) * self.logit_scale
        return logits


def stage(in_channels: int, out_channels: int) -> nn.Sequential:
    """Return convolution-BN-ReLU and 2x2 max-pooling."""
    layers = nn.Sequential()
    layers.add_module("conv", convolution(in_channels, out_channels, 3))
    layers.add_module("bn", nn.BatchNorm2d(out_channels))
    # Pooling first gives the same values and gradients, with a quarter of the ReLU.
    layers.add_module("pool", nn.MaxPool2d(2))
    layers.add_module("relu", nn.ReLU(inplace=True))
    return layers


class ResidualBranch(nn.Module):
    """x [N, channels, H, W] -> x + branch(x); both are past their ReLU, and none follows."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(conv_bn_relu(channels, channels, 3), conv_bn_relu(channels, channels, 3))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.branch(x)
        return out
