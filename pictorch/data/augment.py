"""Augmentations of a batch of images: pure functions on the device, their randomness passed in.

The images are uint8 [N,C,H,W] stored pixel by pixel (torch.channels_last); so is what comes out.
"""

import torch
import torch.nn.functional as F

from pictorch.config.errors import UserError


def pad(images: torch.Tensor, padding: int, mode: str = "constant") -> torch.Tensor:
    """Return `images` with `padding` pixels on each side, in channels_last order.

    "constant" pads with zeros. They are put in before normalising, so they are black, as in the program of seed
    document 1 and in torchvision; the original ResNet code pads normalised images, with the mean colour. "reflect"
    mirrors the image without repeating its edge, as the program of Wide ResNets (arXiv:1605.07146) does. Raises
    UserError where the image is too small for that.
    """
    if mode == "reflect" and padding >= min(images.shape[2:]):
        height, width = images.shape[2:]
        raise UserError(
            f"a crop's padding of {padding} pixels cannot mirror images of {height} x {width}: expected at most "
            f"{min(height, width) - 1}, or the mode 'constant'"
        )
    # The first change of order makes the padding three times as fast, the last is for images of one pixel alone.
    padded = F.pad(images.contiguous(memory_format=torch.channels_last), [padding] * 4, mode)
    return padded.contiguous(memory_format=torch.channels_last)


def draw_crop_offsets(n: int, padding: int, generator: torch.Generator, *, larger: int = 0) -> torch.Tensor:
    """Return int64 [n,2]: the top and left corner of a crop in the padded image, uniform on 0..2*padding.

    A crop that is `larger` than the image by so many pixels has as many places less.
    """
    return torch.randint(2 * padding - larger + 1, (n, 2), generator=generator)


def draw_flips(n: int, generator: torch.Generator) -> torch.Tensor:
    """Return bool [n], True with probability one half."""
    return torch.randint(2, (n,), generator=generator).bool()


def draw_alternating_flips(images: torch.Tensor, epoch: int, size_of_set: int, draws: torch.Generator) -> torch.Tensor:
    """Return bool [n]: a random half of the set in epoch 0, and in every other epoch those not in the one before.

    images: int64 [n], the image at each position; draws: must be the same in every epoch. Two epochs show each image
    both ways ("Alternating flip" of Jordan 2024, arXiv:2404.00498).
    """
    return draw_flips(size_of_set, draws)[images] ^ (epoch % 2 == 1)


def with_mirror_images(images: torch.Tensor) -> torch.Tensor:
    """Return [2N,C,H,W] in channels_last order: the images, then each one's mirror image."""
    return torch.cat([images, images.flip(3)]).contiguous(memory_format=torch.channels_last)


def crop_flip(
    source: torch.Tensor, index: torch.Tensor, offsets: torch.Tensor, flips: torch.Tensor | None, size: int
) -> torch.Tensor:
    """Return the batch [B,C,size,size]: image `index[b]` of `source`, cropped at `offsets[b]`, mirrored if `flips[b]`.

    source: [N,C,H,W] in channels_last order, with flips as `with_mirror_images` returns it; index: int64 [B]; offsets:
    int64 [B,2], top and left; flips: bool [B], or None for none. The random crop and mirroring of He et al. 2015
    (arXiv:1512.03385, section 4.2).
    """
    count, channels, height, width = source.shape
    left = offsets[:, 1]
    if flips is not None:
        index = index + flips * (count // 2)
        left = torch.where(flips, width - size - left, left)
    first = (index * height + offsets[:, 0]) * width + left
    starts = first[:, None] + torch.arange(size, device=source.device) * width
    # A line of a crop is one stretch of memory, and index_select copies it whole: 0.06 ms for 128 of CIFAR-10 on one
    # thread. A gather of single pixels, mirrored by its indices instead of a mirrored copy, takes 0.5 ms.
    pixels = source.permute(0, 2, 3, 1).view(-1)
    lines = pixels.as_strided((count * height * width - size + 1, size * channels), (channels, 1))
    batch = lines.index_select(0, starts.view(-1))
    return batch.view(-1, size, size, channels).permute(0, 3, 1, 2)


def coefficients(mean: torch.Tensor, std: torch.Tensor, image_size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return scale and shift [S*S*C], for each value of an image stored pixel by pixel: (x / 255 - mean) / std.

    mean, std: float32 [C], of images in [0, 1]. A mean image [C,S,S] is subtracted pixel by pixel, as He et al. 2015
    (arXiv:1512.03385, section 4.2) do.
    """
    scale = (1 / (255 * std)).repeat(image_size**2)
    if mean.ndim == 1:
        return scale, (-mean / std).repeat(image_size**2)
    return scale, (-mean / std[:, None, None]).permute(1, 2, 0).reshape(-1)


def normalise(images: torch.Tensor, scale: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
    """Return images * scale + shift in float32, in channels_last order.

    images: [N,C,S,S] in channels_last order, uint8 or float32; scale, shift: of `coefficients`.
    """
    n, channels, size, _ = images.shape
    # Whole images as rows, and no fused multiply-add: the vector loops run along 3,072 values instead of 3 (0.05 ms
    # instead of 0.33 ms for 128 of CIFAR-10), and an image's result does not depend on its place in the batch.
    rows = images.permute(0, 2, 3, 1).reshape(n, -1)
    rows = rows.to(torch.float32, copy=True).mul_(scale).add_(shift)
    return rows.view(n, size, size, channels).permute(0, 3, 1, 2)
