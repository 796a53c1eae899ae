"""Cutout, Dual-Cutout and Random Erasing: rectangles of whole batches overwritten, without a loop over images.

A box is int64 [top, left, height, width]; it may reach over the border, and one of height 0 covers nothing.
"""

from typing import Literal, final

import torch
from torch import Tensor

Program = Literal["seed1", "authors"]

# Rectangles are put in by bits, which gives exact zeros and keeps images without a box untouched. For 128 of CIFAR-10
# on one thread: 0.14 ms; torch.where with a boolean mask takes 0.6 ms, of which 0.2 ms goes into a boolean "or".
BITS = {torch.uint8: torch.uint8, torch.float32: torch.int32}


def outside(boxes: Tensor, size: int, channels: int, dtype: torch.dtype) -> Tensor:
    """Return [B,size,size*channels] of the integer `dtype`: 0 in an image's box, all bits set elsewhere."""
    along = torch.arange(size, device=boxes.device)
    top, left, height, width = boxes[:, :, None].unbind(1)
    rows = (along < top) | (along >= top + height)
    columns = ((along < left) | (along >= left + width)).repeat_interleave(channels, 1)
    return rows.to(dtype).neg_()[:, :, None] | columns.to(dtype).neg_()[:, None, :]


def overwrite(images: Tensor, boxes: Tensor, fill: Tensor | None = None) -> Tensor:
    """Return images [B,C,S,S] with `fill` in each one's box, or zeros; channels_last in and out.

    fill: of the images' dtype, broadcast to [B,S,S*C], where the channels of a pixel lie side by side.
    """
    n, channels, size, _ = images.shape
    dtype = BITS[images.dtype]
    bits = images.permute(0, 2, 3, 1).reshape(n, size, size * channels).view(dtype)
    keep = outside(boxes, size, channels, dtype)
    if fill is None:
        bits = keep.bitwise_and_(bits)
    else:
        other = fill.view(dtype)
        bits = keep.bitwise_and_(bits ^ other).bitwise_xor_(other)
    return bits.view(images.dtype).view(n, size, size, channels).permute(0, 3, 1, 2)


@final
class Cutout:
    """A square of zeros, the mean colour, in each image with probability `prob` (arXiv:1708.04552, section 3).

    Its centre is uniform over the image, so that the square may reach over the border and be clipped there; with
    `inside` every place wholly in the image is equally likely (the paper's alternative, there with `prob` 0.5).
    `program` "seed1" is that of seed document 1: a square of an even side has one centre more than there are pixels
    a side, so that its places are symmetric. "authors" is the paper's own: as many centres as pixels, and a square of
    an odd side loses a row and a column (15 covers 14).
    """

    name = "cutout"
    stage = "values"

    def __init__(self, *, size: int, prob: float = 1.0, inside: bool = False, program: Program = "seed1") -> None:
        """Raise ValueError for a `size` below 1 or a `prob` outside [0, 1]."""
        if size < 1 or not 0 <= prob <= 1:
            raise ValueError(f"cutout: expected a size of at least 1 and a prob in [0, 1], got {size} and {prob:g}")
        self.extra = program == "seed1" and size % 2 == 0
        self.size = size if program == "seed1" else size // 2 * 2
        self.prob, self.inside = prob, inside

    def draw(self, n: int, image_size: int, draws: torch.Generator) -> tuple[Tensor]:
        """Return the boxes int64 [n,4]. Raises ValueError where no square of the size fits inside."""
        if self.inside and self.size > image_size:
            raise ValueError(f"cutout: no square of {self.size} pixels fits inside an image of {image_size}")
        if self.inside:
            corners = torch.randint(image_size - self.size + 1, (n, 2), generator=draws)
        else:
            corners = torch.randint(image_size + self.extra, (n, 2), generator=draws) - self.size // 2
        sides = self.size * (torch.rand(n, 1, generator=draws) < self.prob).long()
        return (torch.cat([corners, sides, sides], 1),)

    def __call__(self, images: Tensor, boxes: Tensor) -> Tensor:
        """Return the images float32 [B,C,S,S] with zeros in their boxes."""
        return overwrite(images, boxes)


@final
class DualCutout:
    """Two independent Cutouts of each image: all first views, then all second views (arXiv:1802.07426)."""

    name = "dual_cutout"
    stage = "values"
    views = 2

    def __init__(self, *, size: int, prob: float = 1.0, inside: bool = False) -> None:
        """Raise ValueError as Cutout does."""
        self.cutout = Cutout(size=size, prob=prob, inside=inside)

    def draw(self, n: int, image_size: int, draws: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return the boxes of the first and of the second views, each int64 [n,4]."""
        return *self.cutout.draw(n, image_size, draws), *self.cutout.draw(n, image_size, draws)

    def __call__(self, images: Tensor, first: Tensor, second: Tensor) -> Tensor:
        """Return [2B,C,S,S] of images [B,C,S,S]."""
        views = torch.cat([overwrite(images, first), overwrite(images, second)])
        return views.contiguous(memory_format=torch.channels_last)


@final
class RandomErasing:
    """A rectangle of random area and aspect in each image with probability `prob` (arXiv:1708.04896, Algorithm 1).

    Its share S of the image's area is uniform in `area`, its height sqrt(S r) and width sqrt(S / r) with r uniform in
    [`min_aspect`, 1 / `min_aspect`], or log-uniform as in torchvision (`aspect`). It is drawn anew until both sides are
    smaller than the image's, at most `max_attempt` times, after which the image stays as it is.

    `fill` "pixel" gives each pixel and channel its own whole number of 0..255, the best of the paper (RE-R); this is
    done before normalising. "mean" is 0 after normalising, as in the authors' code; "one" is a single number of U(0,1)
    for the whole box after normalising, as in the program of seed document 1.

    `program` "seed1" truncates the sides and never covers the last row or column; "authors" rounds them and does. (The
    authors try 100 times; after 20 a box is missing once in 10^25.)
    """

    name = "random_erasing"

    def __init__(
        self,
        *,
        prob: float = 0.5,
        area: tuple[float, float] = (0.02, 0.4),
        min_aspect: float = 0.3,
        max_attempt: int = 20,
        fill: Literal["pixel", "mean", "one"] = "pixel",
        aspect: Literal["uniform", "log-uniform"] = "uniform",
        program: Program = "seed1",
    ) -> None:
        """Raise ValueError for values outside their ranges."""
        if not (0 <= prob <= 1 and 0 < min_aspect <= 1 and max_attempt >= 1):
            raise ValueError(
                "random_erasing: expected prob in [0, 1], min_aspect in (0, 1] and a max_attempt of at least 1, "
                f"got {prob:g}, {min_aspect:g} and {max_attempt}"
            )
        if not 0 <= area[0] <= area[1] <= 1:
            raise ValueError(f"random_erasing: expected 0 <= lowest <= highest <= 1 for area, got {area}")
        self.prob, self.area, self.min_aspect, self.max_attempt = prob, area, min_aspect, max_attempt
        self.fill, self.aspect, self.program = fill, aspect, program
        self.stage = "pixels" if fill == "pixel" else "values"

    def draw(self, n: int, image_size: int, draws: torch.Generator) -> tuple[Tensor, ...]:
        """Return the boxes int64 [n,4] and, if the fill has any, what it is made of [n]."""
        boxes = torch.zeros(n, 4, dtype=torch.int64)
        pending = (torch.rand(n, generator=draws) < self.prob).nonzero()[:, 0]
        for _ in range(self.max_attempt):
            if not len(pending):
                break
            sides = self.attempt(len(pending), image_size, draws)
            fits = (sides < image_size).all(1)
            boxes[pending[fits]] = torch.cat([self.place(sides[fits], image_size, draws), sides[fits]], 1)
            pending = pending[~fits]
        if self.fill == "mean":
            return (boxes,)
        if self.fill == "one":
            return boxes, torch.rand(n, generator=draws)
        return boxes, torch.randint(-(2**31), 2**31, (n,), generator=draws, dtype=torch.int64).int()

    def attempt(self, n: int, image_size: int, draws: torch.Generator) -> Tensor:
        """Return int64 [n,2]: heights and widths, some of which may not fit into the image."""
        share, aspect = torch.rand(2, n, dtype=torch.float64, generator=draws)
        share = (self.area[0] + (self.area[1] - self.area[0]) * share) * image_size**2
        if self.aspect == "uniform":
            aspect = self.min_aspect + (1 / self.min_aspect - self.min_aspect) * aspect
        else:
            aspect = self.min_aspect ** (2 * aspect - 1)
        sides = torch.stack([share * aspect, share / aspect], 1).sqrt()
        return (sides.trunc() if self.program == "seed1" else sides.round()).long()

    def place(self, sides: Tensor, image_size: int, draws: torch.Generator) -> Tensor:
        """Return int64 [n,2]: uniform top and left corners of boxes of these sides, which are below `image_size`."""
        places = image_size - sides + (self.program == "authors")
        return (torch.rand(sides.shape, dtype=torch.float64, generator=draws) * places).long()

    def __call__(self, images: Tensor, boxes: Tensor, made_of: Tensor | None = None) -> Tensor:
        """Return the images [B,C,S,S], uint8 for the fill "pixel" and float32 otherwise, with their boxes filled."""
        if made_of is None:
            return overwrite(images, boxes)
        if self.fill == "one":
            return overwrite(images, boxes, made_of[:, None, None])
        _, channels, size, _ = images.shape
        return overwrite(images, boxes, noise(made_of, size * size * channels).view(-1, size, size * channels))


def noise(seeds: Tensor, n: int) -> Tensor:
    """Return uint8 [B,n], uniform and independent: byte i is a hash of (seed, i). seeds: int32 [B].

    A number for every pixel need not be drawn and kept for an epoch, and a position's are the same on every device. The
    hash is Wellons' lowbias32 (https://nullprogram.com/blog/2018/07/31/) of a Weyl sequence, four bytes at a time.
    """
    words = torch.arange(-(-n // 4), dtype=torch.int32, device=seeds.device) * -0x61C88647 + seeds[:, None]
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B - 2**32)):
        words = words.bitwise_xor_((words >> shift).bitwise_and_(0xFFFFFFFF >> shift)).mul_(factor)
    words = words.bitwise_xor_((words >> 16).bitwise_and_(0xFFFF))
    return words.view(torch.uint8)[:, :n].contiguous()
