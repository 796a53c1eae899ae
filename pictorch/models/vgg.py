"""VGG: "Very Deep Convolutional Networks for Large-Scale Image Recognition", K. Simonyan, A. Zisserman, 1409.1556.

    create(depth=16, image_size=224, num_classes=1000)                          as in the paper: 138,357,544 parameters
    create(layers=[2, 2, 3, 3, 3], batch_norm=True)                             for 32x32 images: 14,728,266 parameters

Stages of 3x3 convolutions with ReLU, each stage ending in 2x2 max-pooling; then the head. Convolutions have biases.
"""

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from pictorch.config.errors import OptionError
from pictorch.config.keywords import show
from pictorch.models.init import Mode, draw_norm_weights, initialise
from pictorch.models.layers import Classifier, check_positive, check_rate, convolution, linear

Head = Literal["linear", "fc512", "fc4096"]
AsPublished = Literal["seed1", "seed3"]

# 1409.1556, table 1: columns A, B, D, E
DEPTHS = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
HIDDEN = {"linear": 0, "fc512": 512, "fc4096": 4096}
# The side of the map that the fully connected layers of the paper see
LARGEST_SIDE = 7

VARIANTS: dict[str, dict[str, object]] = {
    **{f"vgg{depth}": {"depth": depth, "batch_norm": False} for depth in DEPTHS},
    **{f"vgg{depth}_bn": {"depth": depth, "batch_norm": True} for depth in DEPTHS},
    # "VGG-like (depth 15)" of seed document 1
    "vgg_15": {"layers": (2, 2, 3, 3, 3), "batch_norm": True, "head": "linear"},
}


def create(
    *,
    num_classes: int = 10,
    in_channels: int = 3,
    image_size: int = 32,
    depth: int | None = None,
    layers: Sequence[int] | None = None,
    base_channels: int = 64,
    batch_norm: bool | None = None,
    drop_rate: float | None = None,
    head: Head | None = None,
    init: Mode = "fan_out",
    as_published: AsPublished | None = None,
) -> nn.Module:
    """Return a VGG network for images [N, in_channels, image_size, image_size].

    depth: 11, 13, 16 or 19 layers, the paper's three fully connected ones included; or instead of it
    layers: how many convolutions each stage has; each stage halves the image.
    base_channels: width of the first stage; doubled from stage to stage, up to eight times as much.
    batch_norm: BN between convolution and ReLU; the paper has none.
    head: "linear" (one layer on the averaged map), "fc512" or "fc4096" (two hidden layers of so many units, on a map of
        at most 7x7 pixels); "linear" for images of up to 64 pixels, else the paper's "fc4096".
    drop_rate: dropout after each hidden layer of the head, 0.5 as in the paper; of head "linear", before it, and 0.
    init: fan of the convolutions' initial weights.
    as_published: "seed1" has BN, its weights drawn from 0 to 1, head "linear", and a ReLU behind the first convolution
        of each stage only. "seed3" has BN, head "fc4096", no biases in the convolutions, and weights of deviation 0.1.

    Raises OptionError.
    """
    stages = stages_of(depth, layers)
    check_positive("vgg", base_channels=base_channels)
    if image_size < 2 ** len(stages):
        least = 2 ** len(stages)
        raise OptionError("vgg", "image_size", f"{len(stages)} poolings need at least {least}, got {image_size}")
    if head is None:
        head = "fc4096" if as_published == "seed3" or (image_size > 64 and not as_published) else "linear"
    drop_rate = drop_rate if drop_rate is not None else (0.0 if head == "linear" else 0.5)
    check_rate("vgg", drop_rate=drop_rate)
    model = VGG(
        stages=stages,
        base_channels=base_channels,
        batch_norm=as_published is not None if batch_norm is None else batch_norm,
        bias=as_published != "seed3",
        every_relu=as_published != "seed1",
        side=min(LARGEST_SIDE, image_size >> len(stages)),
        hidden=HIDDEN[head],
        drop_rate=drop_rate,
        in_channels=in_channels,
        num_classes=num_classes,
    )
    initialise(model, init)
    if as_published == "seed1":
        draw_norm_weights(model)
    elif as_published == "seed3":
        for module in model.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.normal_(module.weight, std=0.1)
    return model


def stages_of(depth: int | None, layers: Sequence[int] | None) -> tuple[int, ...]:
    """Return how many convolutions each stage has."""
    if layers is None and depth is None:
        raise OptionError("vgg", "depth", f"required; valid are {', '.join(map(str, DEPTHS))}, or give layers")
    if layers is None:
        if depth not in DEPTHS:
            raise OptionError("vgg", "depth", f"VGG has {', '.join(map(str, DEPTHS))}, got {depth}; or give layers")
        return DEPTHS[depth]
    if depth is not None:
        raise OptionError("vgg", "layers", f"give either depth or layers, got depth {depth} and layers {show(layers)}")
    if not 1 <= len(layers) <= 10 or any(not 1 <= n <= 1000 for n in layers):
        raise OptionError("vgg", "layers", f"expected 1 to 10 stages of 1 to 1,000 convolutions, got {show(layers)}")
    return tuple(layers)


class VGG(Classifier):
    """Stages of convolutions and pooling, then the head; `side` is that of the map which hidden layers see."""

    def __init__(
        self,
        *,
        stages: Sequence[int],
        base_channels: int,
        batch_norm: bool,
        bias: bool,
        every_relu: bool,
        side: int,
        hidden: int,
        drop_rate: float,
        in_channels: int,
        num_classes: int,
    ) -> None:
        super().__init__()
        self.stages = nn.Sequential()
        channels = in_channels
        for i, convolutions in enumerate(stages):
            stage = nn.Sequential()
            for j in range(convolutions):
                width = base_channels << min(i, 3)
                stage.append(convolution(channels, width, 3, bias=bias))
                if batch_norm:
                    stage.append(nn.BatchNorm2d(width))
                if every_relu or j == 0:
                    stage.append(nn.ReLU(inplace=True))
                channels = width
            stage.append(nn.MaxPool2d(2))
            self.stages.append(stage)
        self.feature_dim = channels
        self.side = side if hidden else 1
        inputs = channels * self.side**2
        self.head = nn.Sequential()
        for _ in range(2 if hidden else 0):
            self.head.extend([linear(inputs, hidden), nn.ReLU(inplace=True), nn.Dropout(drop_rate)])
            inputs = hidden
        if not hidden and drop_rate:
            self.head.append(nn.Dropout(drop_rate))
        self.classifier = linear(inputs, num_classes)

    def forward_features(self, images: Tensor) -> Tensor:
        features: Tensor = self.stages(images)
        return features

    def forward_head(self, features: Tensor) -> Tensor:
        if features.shape[2:] != (self.side, self.side):
            features = F.adaptive_avg_pool2d(features, self.side)
        logits: Tensor = self.classifier(self.head(features.flatten(1)))
        return logits
