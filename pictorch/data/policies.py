"""AutoAugment, RandAugment, TrivialAugment and AugMix: random operations of Pillow's, chosen anew for each image.

A choice is drawn as an operation, its place in OPERATIONS, and its argument: the factor of brightness, color, contrast
and sharpness, the bits of posterize, the threshold of solarize, the share of a shear, pixels, or degrees. Places that a
shear, a shift or a rotation leaves empty are black. Images of one channel have no color; the others work on them.
"""

from collections.abc import Callable
from difflib import get_close_matches
from typing import Any, Literal, final

import numpy as np
import torch
from torch import Tensor

from pictorch.data import pixels

OPERATIONS = (
    "identity",
    "shear_x",
    "shear_y",
    "translate_x",
    "translate_y",
    "rotate",
    "brightness",
    "color",
    "contrast",
    "sharpness",
    "posterize",
    "solarize",
    "autocontrast",
    "equalize",
    "invert",
)
WITH_ARGUMENT: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "brightness": pixels.brightness,
    "color": pixels.color,
    "contrast": pixels.contrast,
    "sharpness": pixels.sharpness,
    "posterize": pixels.posterize,
    "solarize": pixels.solarize,
}
WITHOUT_ARGUMENT: dict[str, Callable[[Tensor], Tensor]] = {
    "autocontrast": pixels.autocontrast,
    "equalize": pixels.equalize,
    "invert": pixels.invert,
}


def apply(
    images: Tensor,
    operations: Tensor,
    arguments: Tensor,
    resample: Callable[[Tensor, Tensor], Tensor] = pixels.affine,
) -> Tensor:
    """Return the images uint8 [B,C,S,S], each after its operation.

    operations: uint8 [B]; arguments: float64 [B]; resample: `pixels.affine` or `pixels.affine_bilinear`.
    """
    images, size = images.clone(), images.shape[2]

    def shift(images: Tensor, operations: Tensor, arguments: Tensor) -> Tensor:
        return pixels.affine(images, matrices(operations, arguments, size))

    def bend(images: Tensor, operations: Tensor, arguments: Tensor) -> Tensor:
        return resample(images, matrices(operations, arguments, size))

    # One operation an image, so that the order of what follows does not matter. A shift is by whole pixels, which any
    # resampling leaves as they are.
    shifts = (operations == OPERATIONS.index("translate_x")) | (operations == OPERATIONS.index("translate_y"))
    bends = (operations >= OPERATIONS.index("shear_x")) & (operations <= OPERATIONS.index("rotate")) & ~shifts
    pixels.on_(shifts, images, shift, operations, arguments)
    pixels.on_(bends, images, bend, operations, arguments)
    for name, function in WITH_ARGUMENT.items():
        pixels.on_(operations == OPERATIONS.index(name), images, function, arguments)
    for name, alone in WITHOUT_ARGUMENT.items():
        pixels.on_(operations == OPERATIONS.index(name), images, alone)
    return images


def matrices(operations: Tensor, arguments: Tensor, size: int) -> Tensor:
    """Return float64 [B,6], what `pixels.affine` takes, of geometric operations; the identity for all others.

    The AutoAugment authors' conventions (their augmentation_transforms.py): shears are about the top left corner, a
    positive shift moves the image left or up, a positive rotation is counter-clockwise about the centre.
    """

    def where(name: str) -> Tensor:
        return arguments.where(operations == OPERATIONS.index(name), 0.0)

    angle = -torch.deg2rad(where("rotate"))
    cos, sin = angle.cos(), angle.sin()
    left = cos * (-size / 2) + sin * (-size / 2) + size / 2
    top = -sin * (-size / 2) + cos * (-size / 2) + size / 2
    return torch.stack(
        [
            cos,
            sin + where("shear_x"),
            left + where("translate_x"),
            where("shear_y") - sin,
            cos,
            top + where("translate_y"),
        ],
        1,
    )


def arguments(bins: int, image_size: int, *, wide: bool = False) -> Tensor:
    """Return float64 [15,bins,2]: each operation's argument at each magnitude, with either sign.

    torchvision's ranges, evenly spaced: shear 0.3, shift 150/331 of the side, rotation 30 degrees, factors 1 +- 0.9,
    8 to 4 bits, threshold 255 to 0. `wide`: 0.99, 32 pixels, 135 degrees, 1 +- 0.99, 8 to 2 bits.
    """
    magnitude = torch.arange(bins, dtype=torch.float64)
    last = bins - 1
    shear, degrees, factor, dropped = (0.99, 135.0, 0.99, 6) if wide else (0.3, 30.0, 0.9, 4)
    # In whole numbers, as magnitude * step might stop just short of a pixel.
    shift = (32 * magnitude) // last if wide else (150 * image_size * magnitude) // (331 * last)
    signed = dict.fromkeys(("shear_x", "shear_y"), shear * magnitude / last)
    signed |= dict.fromkeys(("translate_x", "translate_y"), shift)
    signed["rotate"] = degrees * magnitude / last
    signed |= dict.fromkeys(("brightness", "color", "contrast", "sharpness"), factor * magnitude / last)
    table = torch.zeros(len(OPERATIONS), bins, 2, dtype=torch.float64)
    for name, values in signed.items():
        centre = 1.0 if name in WITH_ARGUMENT else 0.0
        table[OPERATIONS.index(name)] = torch.stack([centre + values, centre - values], 1)
    table[OPERATIONS.index("posterize")] = (8 - (dropped * magnitude / last).round())[:, None]
    table[OPERATIONS.index("solarize")] = (255 * (last - magnitude) / last)[:, None]
    return table


def in_turn(images: Tensor, operations: Tensor, arguments: Tensor) -> Tensor:
    """Return the images uint8 [B,C,S,S], in channels_last order, after K operations each; both [B,K]."""
    images = images.contiguous()
    for operation, argument in zip(operations.unbind(1), arguments.unbind(1), strict=True):
        images = apply(images, operation, argument)
    return images.contiguous(memory_format=torch.channels_last)


# Operation, probability, magnitude (0 for operations that have none); two in turn.
Sub = tuple[tuple[str, float, int], tuple[str, float, int]]
POLICIES: dict[str, tuple[Sub, ...]] = {
    "cifar10": (
        (("invert", 0.1, 0), ("contrast", 0.2, 6)),
        (("rotate", 0.7, 2), ("translate_x", 0.3, 9)),
        (("sharpness", 0.8, 1), ("sharpness", 0.9, 3)),
        (("shear_y", 0.5, 8), ("translate_y", 0.7, 9)),
        (("autocontrast", 0.5, 0), ("equalize", 0.9, 0)),
        (("shear_y", 0.2, 7), ("posterize", 0.3, 7)),
        (("color", 0.4, 3), ("brightness", 0.6, 7)),
        (("sharpness", 0.3, 9), ("brightness", 0.7, 9)),
        (("equalize", 0.6, 0), ("equalize", 0.5, 0)),
        (("contrast", 0.6, 7), ("sharpness", 0.6, 5)),
        (("color", 0.7, 7), ("translate_x", 0.5, 8)),
        (("equalize", 0.3, 0), ("autocontrast", 0.4, 0)),
        (("translate_y", 0.4, 3), ("sharpness", 0.2, 6)),
        (("brightness", 0.9, 6), ("color", 0.2, 8)),
        (("solarize", 0.5, 2), ("invert", 0.0, 0)),
        (("equalize", 0.2, 0), ("autocontrast", 0.6, 0)),
        (("equalize", 0.2, 0), ("equalize", 0.6, 0)),
        (("color", 0.9, 9), ("equalize", 0.6, 0)),
        (("autocontrast", 0.8, 0), ("solarize", 0.2, 8)),
        (("brightness", 0.1, 3), ("color", 0.7, 0)),
        (("solarize", 0.4, 5), ("autocontrast", 0.9, 0)),
        (("translate_y", 0.9, 9), ("translate_y", 0.7, 9)),
        (("autocontrast", 0.9, 0), ("solarize", 0.8, 3)),
        (("equalize", 0.8, 0), ("invert", 0.1, 0)),
        (("translate_y", 0.7, 9), ("autocontrast", 0.9, 0)),
    ),
    "imagenet": (
        (("posterize", 0.4, 8), ("rotate", 0.6, 9)),
        (("solarize", 0.6, 5), ("autocontrast", 0.6, 0)),
        (("equalize", 0.8, 0), ("equalize", 0.6, 0)),
        (("posterize", 0.6, 7), ("posterize", 0.6, 6)),
        (("equalize", 0.4, 0), ("solarize", 0.2, 4)),
        (("equalize", 0.4, 0), ("rotate", 0.8, 8)),
        (("solarize", 0.6, 3), ("equalize", 0.6, 0)),
        (("posterize", 0.8, 5), ("equalize", 1.0, 0)),
        (("rotate", 0.2, 3), ("solarize", 0.6, 8)),
        (("equalize", 0.6, 0), ("posterize", 0.4, 6)),
        (("rotate", 0.8, 8), ("color", 0.4, 0)),
        (("rotate", 0.4, 9), ("equalize", 0.6, 0)),
        (("equalize", 0.0, 0), ("equalize", 0.8, 0)),
        (("invert", 0.6, 0), ("equalize", 1.0, 0)),
        (("color", 0.6, 4), ("contrast", 1.0, 8)),
        (("rotate", 0.8, 8), ("color", 1.0, 2)),
        (("color", 0.8, 8), ("solarize", 0.8, 7)),
        (("sharpness", 0.4, 7), ("invert", 0.6, 0)),
        (("shear_x", 0.6, 5), ("equalize", 1.0, 0)),
        (("color", 0.4, 0), ("equalize", 0.6, 0)),
        (("equalize", 0.4, 0), ("solarize", 0.2, 4)),
        (("solarize", 0.6, 5), ("autocontrast", 0.6, 0)),
        (("invert", 0.6, 0), ("equalize", 1.0, 0)),
        (("color", 0.6, 4), ("contrast", 1.0, 8)),
        (("equalize", 0.8, 0), ("equalize", 0.6, 0)),
    ),
    "svhn": (
        (("shear_x", 0.9, 4), ("invert", 0.2, 0)),
        (("shear_y", 0.9, 8), ("invert", 0.7, 0)),
        (("equalize", 0.6, 0), ("solarize", 0.6, 6)),
        (("invert", 0.9, 0), ("equalize", 0.6, 0)),
        (("equalize", 0.6, 0), ("rotate", 0.9, 3)),
        (("shear_x", 0.9, 4), ("autocontrast", 0.8, 0)),
        (("shear_y", 0.9, 8), ("invert", 0.4, 0)),
        (("shear_y", 0.9, 5), ("solarize", 0.2, 6)),
        (("invert", 0.9, 0), ("autocontrast", 0.8, 0)),
        (("equalize", 0.6, 0), ("rotate", 0.9, 3)),
        (("shear_x", 0.9, 4), ("solarize", 0.3, 3)),
        (("shear_y", 0.8, 8), ("invert", 0.7, 0)),
        (("equalize", 0.9, 0), ("translate_y", 0.6, 6)),
        (("invert", 0.9, 0), ("equalize", 0.6, 0)),
        (("contrast", 0.3, 3), ("rotate", 0.8, 4)),
        (("invert", 0.8, 0), ("translate_y", 0.0, 2)),
        (("shear_y", 0.7, 6), ("solarize", 0.4, 8)),
        (("invert", 0.6, 0), ("rotate", 0.8, 4)),
        (("shear_y", 0.3, 7), ("translate_x", 0.9, 3)),
        (("shear_x", 0.1, 6), ("invert", 0.6, 0)),
        (("solarize", 0.7, 2), ("translate_y", 0.6, 7)),
        (("shear_y", 0.8, 4), ("invert", 0.8, 0)),
        (("shear_x", 0.7, 9), ("translate_y", 0.8, 3)),
        (("shear_y", 0.8, 5), ("autocontrast", 0.7, 0)),
        (("shear_x", 0.7, 2), ("invert", 0.1, 0)),
    ),
}


@final
class AutoAugment:
    """One of 25 pairs of operations, each operation with its probability (arXiv:1805.09501).

    The sub-policies are those of the paper's appendix tables, the ranges those of its table of operations in ten
    magnitudes 0..9, evenly spaced. Where the paper leaves a choice, it is torchvision's: magnitude 9 is the strongest,
    so posterize goes down to 4 bits and solarize to threshold 0, of 255; brightness, color, contrast and sharpness are
    1 +- 0.1 * magnitude and shears, shifts and rotations have either sign, with equal chances. The authors' CIFAR
    program differs: a magnitude is a tenth of the range, the factors are 0.1 + 0.18 * magnitude without a sign,
    posterize keeps 4 to 1 bits, shifts are by as many pixels as the magnitude, empty places become the mean colour,
    and it has 95 sub-policies.
    """

    name = "autoaugment"
    stage = "pixels"

    def __init__(self, *, policy: Literal["cifar10", "imagenet", "svhn"] = "cifar10") -> None:
        """Raise ValueError for a `policy` that there is not."""
        if policy not in POLICIES:
            raise ValueError(f"autoaugment: expected a policy of {', '.join(POLICIES)}, got {policy!r}")
        self.policy = POLICIES[policy]

    def draw(self, n: int, image_size: int, draws: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return operations uint8 [n,2] and arguments float64 [n,2]."""
        chosen = torch.randint(len(self.policy), (n,), generator=draws)
        happens = torch.rand(n, 2, generator=draws)
        sign = torch.randint(2, (n, 2), generator=draws)
        operation = torch.tensor([[OPERATIONS.index(name) for name, _, _ in pair] for pair in self.policy])[chosen]
        probability = torch.tensor([[prob for _, prob, _ in pair] for pair in self.policy])[chosen]
        magnitude = torch.tensor([[magnitude for _, _, magnitude in pair] for pair in self.policy])[chosen]
        operation = operation.where(happens < probability, 0)
        return operation.to(torch.uint8), arguments(10, image_size)[operation, magnitude, sign]

    def __call__(self, images: Tensor, operations: Tensor, arguments: Tensor) -> Tensor:
        """Return the images, uint8 [B,C,S,S] in channels_last order."""
        return in_turn(images, operations, arguments)


@final
class RandAugment:
    """`num_ops` operations in turn, each any of 14 with equal chances, all of one magnitude (arXiv:1909.13719).

    The operations are those of the paper's section 3: identity, autocontrast, equalize, rotate, solarize, color,
    posterize, contrast, brightness, sharpness, shear and translate along x and y. The magnitude is one of torchvision's
    31 bins, 0..30, evenly spaced over AutoAugment's ranges, with a random sign as there. In the authors' program 10 is
    the end of the range and 30 three times that.
    """

    name = "randaugment"
    stage = "pixels"

    def __init__(self, *, num_ops: int = 2, magnitude: int = 9) -> None:
        """Raise ValueError for `num_ops` below 1 or a `magnitude` outside 0..30."""
        if num_ops < 1 or not 0 <= magnitude <= 30:
            raise ValueError(
                f"randaugment: expected num_ops of at least 1 and magnitude in 0..30, got {num_ops} and {magnitude}"
            )
        self.num_ops, self.magnitude = num_ops, magnitude

    def draw(self, n: int, image_size: int, draws: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return operations uint8 [n,num_ops] and arguments float64 [n,num_ops]."""
        operation = torch.randint(14, (n, self.num_ops), generator=draws)
        sign = torch.randint(2, (n, self.num_ops), generator=draws)
        return operation.to(torch.uint8), arguments(31, image_size)[operation, self.magnitude, sign]

    def __call__(self, images: Tensor, operations: Tensor, arguments: Tensor) -> Tensor:
        """Return the images, uint8 [B,C,S,S] in channels_last order."""
        return in_turn(images, operations, arguments)


@final
class TrivialAugment:
    """One of RandAugment's 14 operations, of any of 31 magnitudes, all with equal chances (arXiv:2103.10158).

    `wide` has the ranges of the paper's TA (Wide), otherwise RandAugment's, its TA (RA). As in torchvision the factors
    of brightness, color, contrast and sharpness lie around 1 with a random sign; the authors' program has 0.01..2 (RA:
    0.1..1.9) without one, and cuts degrees to whole numbers.
    """

    name = "trivialaugment"
    stage = "pixels"

    def __init__(self, *, wide: bool = True) -> None:
        self.wide = wide

    def draw(self, n: int, image_size: int, draws: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return operations uint8 [n,1] and arguments float64 [n,1]."""
        operation = torch.randint(14, (n, 1), generator=draws)
        magnitude = torch.randint(31, (n, 1), generator=draws)
        sign = torch.randint(2, (n, 1), generator=draws)
        return operation.to(torch.uint8), arguments(31, image_size, wide=self.wide)[operation, magnitude, sign]

    def __call__(self, images: Tensor, operations: Tensor, arguments: Tensor) -> Tensor:
        """Return the images, uint8 [B,C,S,S] in channels_last order."""
        return in_turn(images, operations, arguments)


AUGMIX = (*OPERATIONS[1:6], *OPERATIONS[10:14])


@final
class AugMix:
    """The image mixed with `width` chains of `depth` random operations on it (arXiv:1912.02781, section 3, algorithm).

    The chains' weights are Dirichlet(alpha, ...), the share of all chains Beta(alpha, alpha). A `depth` below 1 is
    drawn for each chain, 1..3. Operations and arguments are the authors' program's: nine, without those that ImageNet-C
    tests, of a level uniform in [0.1, severity) for each, tenths of shear 0.3, a third of the side, 30 degrees, 256 and
    4 (bits 4 to 1), cut to whole numbers but for the shear; resampled with BILINEAR. The result is not rounded. The
    paper mixes normalised images, which is the same, as normalising is affine. With `consistency` the images come
    first, unchanged, then two independent mixtures.
    """

    name = "augmix"
    stage = "pixels"

    def __init__(
        self, *, severity: int = 3, width: int = 3, depth: int = -1, alpha: float = 1.0, consistency: bool = False
    ) -> None:
        """Raise ValueError for a `severity` outside 1..10, a `width` below 1 or an `alpha` that is not above 0."""
        if not 1 <= severity <= 10 or width < 1 or not 0 < alpha < float("inf"):
            raise ValueError(
                "augmix: expected severity in 1..10, width of at least 1 and alpha above 0, "
                f"got {severity}, {width} and {alpha:g}"
            )
        self.severity, self.width, self.depth, self.alpha = severity, width, depth, alpha
        self.mixtures = 2 if consistency else 1
        self.views = 3 if consistency else 1

    def draw(self, n: int, image_size: int, draws: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Return, for V mixtures of W chains of at most D operations, operations uint8 and arguments float64 [n,V,W,D],
        and weights float32 [n,V,1+W]: of the image and of each chain, 1 in all."""
        chains = (n, self.mixtures, self.width)
        shape = (*chains, self.depth if self.depth > 0 else 3)
        choice = torch.randint(len(AUGMIX), shape, generator=draws)
        level = 0.1 + (self.severity - 0.1) * torch.rand(shape, dtype=torch.float64, generator=draws)
        sign = 1 - 2 * torch.randint(2, shape, generator=draws)
        operation = torch.tensor([OPERATIONS.index(name) for name in AUGMIX])[choice]
        argument = torch.zeros(shape, dtype=torch.float64)
        for name, values in (
            ("posterize", 4 - (level * 4 / 10).floor()),
            ("rotate", (level * 30 / 10).floor() * sign),
            ("solarize", 256 - (level * 256 / 10).floor()),
            ("shear_x", level * 0.3 / 10 * sign),
            ("shear_y", level * 0.3 / 10 * sign),
            ("translate_x", (level * (image_size / 3) / 10).floor() * sign),
            ("translate_y", (level * (image_size / 3) / 10).floor() * sign),
        ):
            argument = values.where(operation == OPERATIONS.index(name), argument)
        if self.depth < 1:
            depth = torch.randint(1, 4, chains, generator=draws)
            operation = operation.where(torch.arange(3) < depth[..., None], 0)
        return operation.to(torch.uint8), argument, self.draw_weights(chains, draws)

    def draw_weights(self, chains: tuple[int, int, int], draws: torch.Generator) -> Tensor:
        # torch's Dirichlet and Beta take no generator.
        numbers = np.random.default_rng(int(torch.randint(2**63 - 1, (), generator=draws)))
        shares = torch.from_numpy(numbers.dirichlet([self.alpha] * chains[2], chains[:2]))
        mixed = torch.from_numpy(numbers.beta(self.alpha, self.alpha, (*chains[:2], 1)))
        return torch.cat([1 - mixed, mixed * shares], 2).float()

    def __call__(self, images: Tensor, operations: Tensor, arguments: Tensor, weights: Tensor) -> Tensor:
        """Return float32 [B,C,S,S] of values in 0..255, or [3B,C,S,S], in channels_last order."""
        images = images.contiguous()
        n, mixtures, width, depth = operations.shape
        chains = images.repeat_interleave(mixtures * width, 0)
        for step in range(depth):
            operation, argument = (drawn[..., step].flatten() for drawn in (operations, arguments))
            chains = apply(chains, operation, argument, pixels.affine_bilinear)
        chains = chains.view(n, mixtures, width, *images.shape[1:])
        weights = weights[..., None, None, None]
        original = images.float()
        mixed = original[:, None] * weights[:, :, 0]
        for chain in range(width):
            mixed = mixed + chains[:, :, chain] * weights[:, :, 1 + chain]
        views = mixed.unbind(1) if self.views == 1 else (original, *mixed.unbind(1))
        return torch.cat(views).contiguous(memory_format=torch.channels_last)


STEPS: dict[str, type[AutoAugment | RandAugment | TrivialAugment | AugMix]] = {
    step.name: step for step in (AutoAugment, RandAugment, TrivialAugment, AugMix)
}


def create(name: str, **options: Any) -> AutoAugment | RandAugment | TrivialAugment | AugMix:
    """Return the policy `name` with its options. Raises ValueError for a name or values that there are not."""
    if name not in STEPS:
        near = get_close_matches(name, STEPS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"policy: expected one of {', '.join(STEPS)}, got {name!r}{hint}")
    return STEPS[name](**options)
