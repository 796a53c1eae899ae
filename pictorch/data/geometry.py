"""Rotation and the random resized crop: whole batches of uint8 images, resampled as Pillow does it."""

import math
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor

ATTEMPTS = 10  # torchvision's
# Larger pieces need memory that is fetched anew from the system each time: 128 of CIFAR-10 on one thread take 4 ms in
# pieces of 32 and 11 ms at once.
CPU_IMAGES = 32


@final
class Rotate:
    """Rotation about the centre by a uniform angle of at most `degrees`, nearest neighbour, with black corners.

    torchvision's RandomRotation with its defaults, so equal to Pillow's Image.rotate in every pixel.
    """

    name = "rotate"
    stage = "pixels"

    def __init__(self, *, degrees: float) -> None:
        """Raise ValueError for `degrees` outside [0, 180]."""
        if not 0 <= degrees <= 180:
            raise ValueError(f"rotate: expected degrees in [0, 180], got {degrees:g}")
        self.degrees = degrees

    def draw(self, n: int, image_size: int, draws: torch.Generator) -> tuple[Tensor]:
        """Return int32 [n,4], the rotations as `fixed_point` gives them."""
        angles = (2 * torch.rand(n, dtype=torch.float64, generator=draws) - 1) * self.degrees
        return (fixed_point(angles, image_size),)

    def __call__(self, images: Tensor, rotations: Tensor) -> Tensor:
        """Return the images uint8 [B,C,S,S] rotated."""
        n, channels, size, _ = images.shape
        # A black border takes in all places outside, so that the gather needs no mask.
        border = F.pad(images.contiguous(memory_format=torch.channels_last), [1] * 4)
        side = size + 2
        cos, sin, left, top = rotations[:, :, None].unbind(1)
        along = torch.arange(size, dtype=torch.int32, device=images.device)
        x = (left + sin * along)[:, :, None] + (cos * along)[:, None, :]
        y = (top + cos * along)[:, :, None] - (sin * along)[:, None, :]
        first = torch.arange(n, dtype=torch.int32, device=images.device)[:, None, None] * side**2 + side + 1
        x = x.bitwise_right_shift_(16).clamp_(-1, size)
        place = y.bitwise_right_shift_(16).clamp_(-1, size).mul_(side).add_(x).add_(first)
        rows = border.permute(0, 2, 3, 1).reshape(-1, channels)
        return rows.index_select(0, place.view(-1)).view(n, size, size, channels).permute(0, 3, 1, 2)


def fixed_point(angles: Tensor, size: int) -> Tensor:
    """Return int32 [n,4]: cos, sin, and the source x and y of the pixel at the top left, in units of 2**-16 pixels.

    angles: float64 [n], degrees counter-clockwise; size: of the square images, below 16,384. The arithmetic is
    Pillow's (Image.rotate and affine_fixed of its Geometry.c), which decides between neighbours in these units.
    """
    radians = -torch.deg2rad(angles)
    cos, sin = radians.cos(), radians.sin()
    left = cos * (-size / 2) + sin * (-size / 2) + size / 2
    top = -sin * (-size / 2) + cos * (-size / 2) + size / 2
    numbers = torch.stack([cos, sin, left + cos * 0.5 + sin * 0.5, top - sin * 0.5 + cos * 0.5], 1)
    return (numbers * 65536 + 0.5).floor().int()


@final
class ResizedCrop:
    """A random part of the image, resized: the crop of Szegedy et al. 2014 (arXiv:1409.4842, section 6).

    The part has a share of the image's area that is uniform in `area`, and a width divided by height that is
    log-uniform in `aspect`; what fits in none of ten attempts is the largest central part of such an aspect. This is
    torchvision's RandomResizedCrop.
    """

    name = "resized_crop"

    def __init__(
        self, *, area: tuple[float, float] = (0.08, 1.0), aspect: tuple[float, float] = (3 / 4, 4 / 3)
    ) -> None:
        """Raise ValueError for ranges that are none."""
        if not 0 < area[0] <= area[1] <= 1 or not 0 < aspect[0] <= aspect[1]:
            raise ValueError(
                "resized_crop: expected 0 < lowest <= highest for area (at most 1) and aspect, "
                f"got area {area} and aspect {aspect}"
            )
        self.area, self.aspect = area, aspect

    def draw(self, n: int, image_size: int, draws: torch.Generator) -> tuple[Tensor]:
        """Return float32 [n,22]: what `draw_boxes` draws; `image_size` plays no part in it."""
        return (draw_boxes(n, draws),)

    def boxes(self, drawn: Tensor, heights: Tensor | int, widths: Tensor | int) -> Tensor:
        """Return int64 [n,4], the parts of images of these sizes."""
        return boxes(drawn, heights, widths, area=self.area, aspect=self.aspect)

    def __call__(self, images: Tensor, boxes: Tensor, size: int) -> Tensor:
        """Return the parts int64 [B,4] of images uint8 [B,C,H,W] as uint8 [B,C,size,size]."""
        return resample(images, boxes, size)


def draw_boxes(n: int, draws: torch.Generator) -> Tensor:
    """Return float32 [n,22], uniform in [0,1): area and aspect of ten attempts, then the place, top and left.

    The numbers do not depend on the images' sizes, which a loader of files learns only when it reads them.
    """
    return torch.rand(n, 2 * ATTEMPTS + 2, generator=draws)


def boxes(
    drawn: Tensor,
    heights: Tensor | int,
    widths: Tensor | int,
    *,
    area: tuple[float, float] = (0.08, 1.0),
    aspect: tuple[float, float] = (3 / 4, 4 / 3),
) -> Tensor:
    """Return int64 [n,4], top, left, height and width: the random parts that `ResizedCrop` describes.

    drawn: [n,22] as `draw_boxes` gives it; heights, widths: int64 [n], or int where all are equal.
    """
    n, uniform = len(drawn), drawn.double()
    height, width = (torch.as_tensor(side, device=drawn.device).expand(n) for side in (heights, widths))
    shares = area[0] + (area[1] - area[0]) * uniform[:, :ATTEMPTS]
    lowest, highest = math.log(aspect[0]), math.log(aspect[1])
    ratios = (lowest + (highest - lowest) * uniform[:, ATTEMPTS:-2]).exp()
    areas = shares * (height * width)[:, None]
    high, wide = (areas / ratios).sqrt().round().long(), (areas * ratios).sqrt().round().long()
    fits = (high > 0) & (high <= height[:, None]) & (wide > 0) & (wide <= width[:, None])
    # The first that fits; where none does, argmax says 0, which is then replaced.
    first, found = fits.byte().argmax(1, keepdim=True), fits.any(1)
    tallest, widest = (width.double() / aspect[0]).round(), (height.double() * aspect[1]).round()
    central = torch.stack([height.minimum(tallest), width.minimum(widest)], 1).clamp_(min=1)
    sides = torch.cat([high.gather(1, first), wide.gather(1, first)], 1).where(found[:, None], central.long())
    room = torch.stack([height, width], 1) - sides
    corners = (uniform[:, -2:] * (room + 1)).long().where(found[:, None], room // 2)
    return torch.cat([corners, sides], 1)


def resample(images: Tensor, boxes: Tensor, size: int) -> Tensor:
    """Return the parts `boxes` of images, resized with antialiased bilinear weights; channels_last in and out.

    images: uint8 [B,C,H,W]; boxes: int64 [B,4], top, left, height, width, inside the images; returns uint8
    [B,C,size,size]. Lines, then columns, each rounded to whole grey levels: equal in every pixel to Pillow's resize of
    the cropped part, but where Pillow 13 finds it cheaper to begin with the columns. Then some differ by 1.
    """
    n, channels, height, width = images.shape
    if images.device.type == "cpu" and n > CPU_IMAGES:
        pieces = [slice(at, at + CPU_IMAGES) for at in range(0, n, CPU_IMAGES)]
        return torch.cat([resample(images[piece], boxes[piece], size) for piece in pieces])
    top, left, high, wide = boxes.unbind(1)
    # Whole numbers below 2**53 throughout: exact on every device, whatever the order of its sums or its TF32. Lines lie
    # across, so that both products are of whole batches of matrices: [B,W,H*C], then [B,H,size*C].
    pixels = images.permute(0, 2, 3, 1).double().transpose(1, 2).reshape(n, width, height * channels)
    lines = torch.bmm(weights(left, wide, width, size), pixels).mul_(2**-22).add_(0.5).floor_()
    lines = lines.view(n, size, height, channels).transpose(1, 2).reshape(n, height, size * channels)
    resized = torch.bmm(weights(top, high, height, size), lines).mul_(2**-22).add_(0.5)
    return resized.to(torch.uint8).view(n, size, size, channels).permute(0, 3, 1, 2)


def weights(starts: Tensor, lengths: Tensor, old: int, new: int) -> Tensor:
    """Return float64 [B,new,old]: what each of `old` pixels of a line gives to each of the `new` of its part.

    A triangle of two source or two resulting pixels, whichever is larger, cut at the part's ends, in whole numbers that
    add up to about 2**22: BILINEAR of Pillow's Resample.c.
    """
    scale = (lengths.double() / new)[:, None]
    centres = (torch.arange(new, device=starts.device) + 0.5) * scale
    places = torch.arange(old, device=starts.device) - starts[:, None] + 0.5
    inside = (places > 0) & (places < lengths[:, None])
    apart = (places[:, None, :] - centres[:, :, None]).abs_().div_(scale.clamp(min=1)[:, :, None])
    triangle = apart.neg_().add_(1).clamp_(min=0).mul_(inside[:, None, :])
    return triangle.mul_(2**22 / triangle.sum(2, keepdim=True)).add_(0.5).floor_()


def resample_one(image: Tensor, box: tuple[int, int, int, int], size: int) -> Tensor:
    """Return the part `box` of one image uint8 [C,h,w] as uint8 [C,size,size], as `resample` does, on a CPU."""
    top, left, height, width = box
    part = image[None, :, top : top + height, left : left + width]
    return F.interpolate(part, (size, size), mode="bilinear", antialias=True)[0]


def evaluation_crop(image: Tensor, size: int = 224, resize: int = 256) -> Tensor:
    """Return uint8 [C,size,size]: the middle of one image uint8 [C,h,w] whose shorter side became `resize`.

    The evaluation crop of ImageNet as torchvision's Resize and CenterCrop make it: the longer side is rounded down,
    the corner to the nearest pixel. Raises ValueError for a `size` above `resize`.
    """
    if size > resize:
        raise ValueError(f"no crop of {size} pixels fits into an image whose shorter side is {resize}")
    _, height, width = image.shape
    short = min(height, width)
    high, wide = height * resize // short, width * resize // short
    resized = F.interpolate(image[None], (high, wide), mode="bilinear", antialias=True)[0]
    top, left = round((high - size) / 2), round((wide - size) / 2)
    return resized[:, top : top + size, left : left + size]
