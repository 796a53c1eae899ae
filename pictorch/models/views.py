"""The answer to several views of an image instead of one (test-time augmentation): the mean of their logits.

logits = answer(network, images, "mirror")

one             the image
mirror          the image and its mirror image, with weights 1/2
mirror_shift    these two with weights 1/4, and both moved by a pixel down and right, and up and left, with weights
                1/8; what the move uncovers is reflected at the border. The evaluation of airbench's programs at
                their level 2 (arXiv:2404.00498, section 3.5)
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from pictorch.config.schema import Views

# How many times as many images as there are go through the network.
COUNT: dict[Views, int] = {"one": 1, "mirror": 2, "mirror_shift": 6}


def answer(network: Callable[[Tensor], Tensor], images: Tensor, views: Views) -> Tensor:
    """Return the logits [N,K] of images [N,C,H,W], one network's pass for each view."""
    if views == "one":
        return network(images)
    both = mirrored(network, images)
    if views == "mirror":
        return both
    height, width = images.shape[2:]
    padded = F.pad(images, (1, 1, 1, 1), mode="reflect")
    corners = (padded[:, :, :height, :width], padded[:, :, 2:, 2:])
    moved = [mirrored(network, corner.contiguous(memory_format=torch.channels_last)) for corner in corners]
    return both / 2 + (moved[0] + moved[1]) / 4


def mirrored(network: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """Return the mean of the logits of the images and of their mirror images."""
    return (network(images) + network(images.flip(3))) / 2
