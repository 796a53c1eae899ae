"""An augmentation of your own, in the package's loader.

A step is a class with a `name`, a `stage` and two methods: `draw` makes the random numbers of a whole epoch, and the
call applies the rows of one batch. So every image's augmentation depends on (seed, epoch, position) alone, and an epoch
can be made again, or gone on with from any batch, to the same bits.
"""

import torch
from torch import Tensor

from pictorch import data
from pictorch.data.loader import ResidentLoader
from pictorch.data.pipeline import Pipeline


class Stripes:
    """Every image loses one row of pixels, which is set to the mean, with probability `prob`."""

    name = "stripes"
    stage = "values"  # after normalising, where the mean is 0; a step on "pixels" gets uint8

    def __init__(self, *, prob: float) -> None:
        self.prob = prob

    def draw(self, n: int, image_size: int, draws: torch.Generator) -> tuple[Tensor]:
        rows = torch.randint(image_size, (n,), generator=draws)
        return (torch.where(torch.rand(n, generator=draws) < self.prob, rows, image_size),)

    def __call__(self, images: Tensor, rows: Tensor) -> Tensor:
        kept = torch.arange(images.shape[2], device=images.device) != rows[:, None]
        return images * kept[:, None, :, None]


digits = data.open("digits", root=data.root())
pipeline = Pipeline(
    num_classes=10,
    image_size=digits.spec.image_size,
    mean=digits.spec.mean,
    std=digits.spec.std,
    device="cpu",
    seed=1,
    crop_padding=1,
    steps=[Stripes(prob=0.5)],
)
loader = ResidentLoader(split=digits.train, pipeline=pipeline, batch_size=64, shuffle=True, drop_last=True)

first = next(loader.epoch(3))
again = next(loader.epoch(3))
striped = (first.images == 0).all(dim=3).any(dim=2).any(dim=1)
print(f"{tuple(first.images.shape)}, {striped.float().mean():.0%} of the images have a row of zeros")
print("epoch 3 made again is the same:", torch.equal(first.images, again.images))
