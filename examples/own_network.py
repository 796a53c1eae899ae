"""A network of your own, trained by a recipe of the package.

A class that takes `num_classes`, and `in_channels` or `image_size` if it wants them, is named by its import path; its
other keywords are options of the recipe (`model.width=32`), checked before anything is trained. From the folder of this
script `pictorch train model.name=own_network:Small model.width=32` does the same.
"""

from torch import Tensor, nn

import pictorch


class Small(nn.Module):
    """Two convolutions and a linear layer: images [N,C,H,W] -> logits [N,K]."""

    def __init__(self, num_classes: int, in_channels: int, width: int = 16) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(in_channels, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, 2 * width, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(2 * width),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(2 * width, num_classes),
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images)


if __name__ == "__main__":
    config = pictorch.load_config(None, ["model={name: own_network:Small, width: 32}", "train.epochs=4"])
    result = pictorch.train(config, recipe="own_network")
    print(f"{result.test_error:.2f}% test error, {result.row['params']:,} parameters, in {result.run_dir}")
