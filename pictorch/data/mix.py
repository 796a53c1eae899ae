"""Mixtures of the images of a batch with one another, and of their targets by the same shares.

What a batch gets is drawn beforehand (`draw`, row b for batch b of the epoch); the call consists of whole-batch tensor
operations that do not look at values, so that it can be captured as a CUDA graph. A batch that the probability leaves
alone gets a share of 1 or an empty box and goes through the same operations, which then change nothing.

A permutation is drawn as sort keys, so that a last batch of fewer images takes its part of them. Images are finite
float32 [B,C,S,S] in channels_last order, targets float32 [B,K]. Neither is changed. For 128 images of CIFAR-10 on one
thread Mixup takes 0.10 ms, CutMix 0.18 ms, RICAP 0.60 ms and ResizeMix 0.75 ms, in a process that has used tensors of
8 MB, as any training has; before that the C library returns memory to the system and asks for it again at each call.
"""

from typing import Literal, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def smooth(targets: Tensor, epsilon: float) -> Tensor:
    """Return (1 - epsilon) * targets + epsilon / K: label smoothing (arXiv:1512.00567, section 7). targets: [B,K]."""
    return (1 - epsilon) * targets + epsilon / targets.shape[1]


def draw_keys(shape: tuple[int, ...], numbers: np.random.Generator) -> Tensor:
    """Return float32 sort keys of independent permutations along the last dimension."""
    return torch.from_numpy(numbers.random(shape, dtype=np.float32))


def permutation(keys: Tensor, n: int) -> Tensor:
    """Return int64 [...,n]: the permutations of n images by the first n keys of each row.

    The sort is stable, so that equal keys give the same permutation on every device.
    """
    return keys[..., :n].argsort(stable=True)


def draw_beta(alpha: float, prob: float, batches: int, numbers: np.random.Generator) -> NDArray[np.float64]:
    """Return float64 [batches], of Beta(alpha, alpha) with probability `prob` and else 1. It is 1 for alpha 0."""
    applied = numbers.random(batches) < prob
    return np.where(applied, numbers.beta(alpha, alpha, batches), 1.0) if alpha else np.ones(batches)


def check(name: str, prob: float, alpha: float = 0.0) -> None:
    """Raise ValueError for a probability outside [0, 1] or an alpha below 0."""
    if not (0 <= prob <= 1 and alpha >= 0):
        raise ValueError(f"{name}: expected a prob in [0, 1] and an alpha of at least 0, got {prob:g} and {alpha:g}")


def as_lines(images: Tensor) -> Tensor:
    """Return images [B,C,S,S] in channels_last order as [B,S,S*C], their lines of pixels; no copy.

    Operations along 96 values instead of 3 are up to 10 times as fast.
    """
    return images.permute(0, 2, 3, 1).flatten(2)


def as_images(lines: Tensor, channels: int) -> Tensor:
    """Return [B,S,S*C] as images [B,C,S,S] in channels_last order; no copy."""
    n, size, _ = lines.shape
    return lines.view(n, size, size, channels).permute(0, 3, 1, 2)


def outside(box: Tensor, size: int, channels: int) -> Tensor:
    """Return float32 [S,S*C], 0 in the box int64 [4] of top, left, height and width, 1 elsewhere.

    As a weight of lerp, which gives either of its ends exactly, in a fifth of the time of torch.where with a mask.
    """
    along = torch.arange(size, device=box.device)
    top, left, height, width = box.unbind()
    rows = (along < top) | (along >= top + height)
    columns = (along < left) | (along >= left + width)
    return (rows[:, None] | columns.repeat_interleave(channels)).float()


def mixed_targets(targets: Tensor, order: Tensor, kept: Tensor) -> Tensor:
    """Return kept * targets + (1 - kept) * targets[order] of [B,K]; order: int64 [B]; kept: float32 []."""
    return targets.index_select(0, order).lerp_(targets, kept)


def kept_share(box: Tensor, size: int) -> Tensor:
    """Return float32 []: the share of an image's pixels outside the box int64 [4]."""
    return 1 - box[2] * box[3] / size**2


@final
class Mixup:
    """Each image and target mixed with another's: lambda x + (1 - lambda) x' (arXiv:1710.09412).

    One lambda of Beta(alpha, alpha) and one permutation a batch, as in the authors' code; alpha 0 mixes nothing.
    """

    name = "mixup"

    def __init__(self, *, alpha: float = 1.0, prob: float = 1.0) -> None:
        """Raise ValueError for an `alpha` below 0 or a `prob` outside [0, 1]."""
        check(self.name, prob, alpha)
        self.alpha, self.prob = alpha, prob

    def draw(
        self, batches: int, batch_size: int, image_size: int, numbers: np.random.Generator
    ) -> tuple[Tensor, Tensor]:
        """Return sort keys [batches,batch_size] and lambda float32 [batches]."""
        keys = draw_keys((batches, batch_size), numbers)
        return keys, torch.from_numpy(draw_beta(self.alpha, self.prob, batches, numbers)).float()

    def __call__(self, images: Tensor, targets: Tensor, keys: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mixed images and targets; keys: of the batch; kept: float32 [], lambda."""
        order = permutation(keys, len(images))
        lines = as_lines(images)
        mixed = lines.index_select(0, order).lerp_(lines, kept)
        return as_images(mixed, images.shape[1]), mixed_targets(targets, order, kept)


@final
class CutMix:
    """A square of another image pasted in at the same place (arXiv:1905.04899).

    As in the authors' code: one lambda of Beta(alpha, alpha), one box and one permutation a batch; half the box's side
    is half of sqrt(1 - lambda) of the image's, rounded down, around any pixel as centre, clipped at the border. The
    targets' shares are then those of the pixels that are left, not lambda.

    `program` "seed2" is that of seed document 2: the centre lies anywhere, the sides are rounded last, and the shares
    stay lambda, of which the border's cut makes more: 0.5 in the mean, where 0.68 of the pixels are left.
    """

    name = "cutmix"

    def __init__(
        self, *, alpha: float = 1.0, prob: float = 1.0, program: Literal["authors", "seed2"] = "authors"
    ) -> None:
        """Raise ValueError for an `alpha` below 0 or a `prob` outside [0, 1]."""
        check(self.name, prob, alpha)
        self.alpha, self.prob, self.program = alpha, prob, program

    def draw(self, batches: int, batch_size: int, image_size: int, numbers: np.random.Generator) -> tuple[Tensor, ...]:
        """Return sort keys [batches,batch_size] and boxes int64 [batches,4]: top, left, height, width, all inside.

        And, of the program "seed2", lambda float32 [batches].
        """
        keys = draw_keys((batches, batch_size), numbers)
        kept = draw_beta(self.alpha, self.prob, batches, numbers)
        if self.program == "seed2":
            sides = image_size * np.sqrt(1 - kept)[:, None]
            middles = image_size * numbers.random((batches, 2))
            edges = [np.clip(middles + sign * sides / 2, 0, image_size).round().astype(np.int64) for sign in (-1, 1)]
            boxes = np.concatenate([edges[0], edges[1] - edges[0]], axis=1)
            return keys, torch.from_numpy(boxes), torch.from_numpy(kept).float()
        half = (image_size * np.sqrt(1 - kept)).astype(np.int64)[:, None] // 2
        centres = numbers.integers(image_size, size=(batches, 2))
        starts, ends = np.maximum(centres - half, 0), np.minimum(centres + half, image_size)
        return keys, torch.from_numpy(np.concatenate([starts, ends - starts], axis=1))

    def __call__(
        self, images: Tensor, targets: Tensor, keys: Tensor, box: Tensor, kept: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the mixed images and targets; keys, box, kept: of the batch."""
        _, channels, size, _ = images.shape
        order = permutation(keys, len(images))
        lines = as_lines(images)
        mixed = lines.index_select(0, order).lerp_(lines, outside(box, size, channels))
        return as_images(mixed, channels), mixed_targets(
            targets, order, kept_share(box, size) if kept is None else kept
        )


@final
class ResizeMix:
    """Another whole image, made smaller, pasted in at a random place (arXiv:2012.11101).

    One factor tau, uniform in `scale`, one place and one permutation a batch. The patch has a side of tau times the
    image's, rounded to whole pixels and at least one; every place wholly inside the image is equally likely. The
    paper does not say how images are resized: here bilinearly, two pixels a side and without a low-pass filter, the
    values of torch.nn.functional.interpolate. The targets' shares are those of the pixels.
    """

    name = "resizemix"

    def __init__(self, *, scale: tuple[float, float] = (0.1, 0.8), prob: float = 1.0) -> None:
        """Raise ValueError for a `scale` that is not a lowest and a highest value in [0, 1] or a `prob` outside it."""
        check(self.name, prob)
        if not 0 <= scale[0] <= scale[1] <= 1:
            raise ValueError(f"{self.name}: expected 0 <= lowest <= highest <= 1 for scale, got {scale}")
        self.scale, self.prob = scale, prob

    def draw(
        self, batches: int, batch_size: int, image_size: int, numbers: np.random.Generator
    ) -> tuple[Tensor, Tensor]:
        """Return sort keys [batches,batch_size] and boxes int64 [batches,4]: top, left, height, width, all inside."""
        keys = draw_keys((batches, batch_size), numbers)
        applied = numbers.random((batches, 1)) < self.prob
        sides = np.rint(image_size * numbers.uniform(*self.scale, (batches, 1))).clip(1).astype(np.int64)
        corners = numbers.integers(image_size - sides + 1, size=(batches, 2))
        boxes = np.concatenate([corners, sides, sides], axis=1)
        return keys, torch.from_numpy(boxes * applied)

    def __call__(self, images: Tensor, targets: Tensor, keys: Tensor, box: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mixed images and targets; keys, box: of the batch."""
        n, channels, size, _ = images.shape
        order = permutation(keys, n)
        lines = as_lines(images)
        above, below, share = neighbours(box[0], box[2], size)
        starts = order[:, None] * size
        # One dimension after the other, lines as a whole first: 0.4 ms. Pixels by their four neighbours: 1.9 ms.
        small = between(lines.view(n * size, -1), 0, starts + above, starts + below, share.repeat(n)[:, None])
        before, after, share = neighbours(box[1], box[3], size)
        first = before[:, None] * channels + torch.arange(channels, device=images.device)
        second = first + ((after - before) * channels)[:, None]
        small = between(small, 1, first, second, share.repeat_interleave(channels))
        mixed = small.view_as(lines).lerp_(lines, outside(box, size, channels))
        return as_images(mixed, channels), mixed_targets(targets, order, kept_share(box, size))


def between(values: Tensor, dim: int, first: Tensor, second: Tensor, share: Tensor) -> Tensor:
    """Return what lies between the rows or columns `first` and `second` of a matrix, by the share of the second."""
    return values.index_select(dim, first.view(-1)).lerp_(values.index_select(dim, second.view(-1)), share)


def neighbours(start: Tensor, side: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the two pixels of an image that each pixel along a patch of it lies between, and the share of the second.

    start, side: int64 [], where the patch begins and its length, which the image's `size` is shrunk to. Returns int64
    [S], int64 [S] and float32 [S] for all pixels of the line, valid indices outside the patch, too.
    """
    along = torch.arange(size, device=start.device)
    at = ((along - start + 0.5) * (size / side.clamp(min=1)) - 0.5).clamp(0, size - 1)
    first = at.long()
    return first, (first + 1).clamp(max=size - 1), at - first


@final
class Ricap:
    """Patches of four images put together at one point, the targets' shares those of their areas (arXiv:1811.09030).

    As in the authors' code: one boundary point a batch, round(S * Beta(beta, beta)) in both directions, four
    independent permutations, and each patch cut from its image at a place of its own, uniform over all that fit.
    """

    name = "ricap"

    def __init__(self, *, beta: float = 0.3) -> None:
        """Raise ValueError for a `beta` that is not above 0."""
        if not beta > 0:
            raise ValueError(f"{self.name}: expected a beta above 0, got {beta:g}")
        self.beta = beta

    def draw(self, batches: int, batch_size: int, image_size: int, numbers: np.random.Generator) -> tuple[Tensor, ...]:
        """Return sort keys [batches,4,batch_size], boundaries int64 [batches,2], shifts [batches,4,2], shares.

        The patches are top left, top right, bottom left and bottom right; a boundary is the height and width of the
        first. A patch's pixel comes from so many rows and columns (`shifts`, int64) further on in the image that it is
        cut from. Its share of the area is float32 [batches,4].
        """
        keys = draw_keys((batches, 4, batch_size), numbers)
        boundaries = np.rint(image_size * numbers.beta(self.beta, self.beta, (batches, 2))).astype(np.int64)
        edges, beyond = boundaries[:, None], np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
        sides = np.where(beyond, image_size - edges, edges)
        corners = numbers.integers(image_size - sides + 1)
        shares = (sides.prod(axis=2) / image_size**2).astype(np.float32)
        return keys, *map(torch.from_numpy, (boundaries, corners - beyond * edges, shares))

    def __call__(
        self, images: Tensor, targets: Tensor, keys: Tensor, boundary: Tensor, shifts: Tensor, shares: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the mixed images and targets; what was drawn: of the batch."""
        n, channels, size, _ = images.shape
        orders = permutation(keys, n)
        along = torch.arange(size, device=images.device)
        upper, left = along < boundary[0], along < boundary[1]
        # Which pixel of the batch each one comes from, less its own place in the image: for lines, then for pixels.
        starts = orders * size**2 + shifts[:, :1] * size + shifts[:, 1:]
        lines = torch.where(upper, starts[:2, :, None], starts[2:, :, None])
        index = torch.where(left, lines[0, :, :, None], lines[1, :, :, None])
        index += along[:, None] * size + along
        pixels = images.permute(0, 2, 3, 1).reshape(-1, channels)
        mixed = pixels.index_select(0, index.view(-1)).view(n, size, size, channels)
        parts = targets.index_select(0, orders.view(-1)).view(4, n, -1)
        return mixed.permute(0, 3, 1, 2), (parts * shares[:, None, None]).sum(0)
