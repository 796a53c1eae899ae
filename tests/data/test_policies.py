"""Every policy against a loop over Pillow images given the same choices, and the distribution of what is drawn."""

import math

import numpy as np
import pytest
import torch
from data.test_pixels import CHANNELS, assert_same, samples
from PIL import Image, ImageEnhance, ImageOps
from scipy import stats
from torch import Tensor

from pictorch.data import policies
from pictorch.data.policies import OPERATIONS, POLICIES, AugMix, AutoAugment, RandAugment, TrivialAugment, create
from pictorch.data.streams import generator

N = 20_000
AFFINE, NEAREST, BILINEAR = Image.Transform.AFFINE, Image.Resampling.NEAREST, Image.Resampling.BILINEAR
RANGES = {
    (32, False): (0.3, 14, 30),
    (33, False): (0.3, 14, 30),
    (28, False): (0.3, 12, 30),
    (32, True): (0.99, 32, 135),
}


def pillow(image: Image.Image, name: str, argument: float, resample: Image.Resampling = NEAREST) -> Image.Image:
    """Return the image after the operation as the authors' programs call Pillow for it."""
    match name:
        case "shear_x":
            return image.transform(image.size, AFFINE, (1, argument, 0, 0, 1, 0), resample)
        case "shear_y":
            return image.transform(image.size, AFFINE, (1, 0, 0, argument, 1, 0), resample)
        case "translate_x":
            return image.transform(image.size, AFFINE, (1, 0, argument, 0, 1, 0), resample)
        case "translate_y":
            return image.transform(image.size, AFFINE, (1, 0, 0, 0, 1, argument), resample)
        case "rotate":
            return image.rotate(argument, resample)
        case "brightness" | "color" | "contrast" | "sharpness":
            return getattr(ImageEnhance, name.capitalize())(image).enhance(argument)
        case "posterize":
            return ImageOps.posterize(image, int(argument))
        case "solarize":
            return ImageOps.solarize(image, argument)
        case "autocontrast" | "equalize" | "invert":
            return getattr(ImageOps, name)(image)
    assert name == "identity"
    return image


def after(image: Image.Image, operations: Tensor, arguments: Tensor, resample: Image.Resampling) -> Image.Image:
    for operation, argument in zip(operations.tolist(), arguments.tolist(), strict=True):
        image = pillow(image, OPERATIONS[operation], argument, resample)
    return image


@pytest.mark.parametrize(
    "step",
    [
        *(AutoAugment(policy=policy) for policy in ("cifar10", "imagenet", "svhn")),
        RandAugment(),
        RandAugment(num_ops=3, magnitude=30),
        TrivialAugment(),
        TrivialAugment(wide=False),
    ],
    ids=["cifar10", "imagenet", "svhn", "rand", "rand-30", "wide", "narrow"],
)
@CHANNELS
@pytest.mark.parametrize("size", [28, 32, 33])
def test_against_pillow(step: AutoAugment | RandAugment | TrivialAugment, channels: int, size: int) -> None:
    images = samples(channels, size).repeat(16, 1, 1, 1).contiguous(memory_format=torch.channels_last)
    operations, arguments = step.draw(len(images), size, generator("policy"))
    before = images.clone()
    ours = step(images, operations, arguments)
    assert torch.equal(images, before)
    assert ours.is_contiguous(memory_format=torch.channels_last)
    assert_same(ours, images, lambda image, i: after(image, operations[i], arguments[i], NEAREST))
    # An image comes out the same in every batch.
    parts = (tensor[40:60] for tensor in (images, operations, arguments))
    assert torch.equal(step(*parts), ours[40:60])


@pytest.mark.parametrize("size", [8, 28, 32, 33])
@pytest.mark.parametrize("wide", [False, True])
def test_every_operation_at_every_magnitude(size: int, wide: bool) -> None:
    table = policies.arguments(31, size, wide=wide)
    operations = torch.arange(15, dtype=torch.uint8).repeat_interleave(62)
    arguments = table.view(-1)
    images = samples(3, size)[[0, 10]].repeat_interleave(len(operations), 0)
    ours = policies.apply(images, operations.repeat(2), arguments.repeat(2))
    assert_same(
        ours, images, lambda image, i: pillow(image, OPERATIONS[operations[i % 930]], float(arguments[i % 930]))
    )


@pytest.mark.parametrize(("size", "wide"), RANGES)
def test_arguments_of_rand_and_trivial_augment(size: int, wide: bool) -> None:
    shear, shift, degrees = RANGES[size, wide]
    table = dict(zip(OPERATIONS, policies.arguments(31, size, wide=wide), strict=True))
    middle = 16 if wide else 150 / 331 * size / 2
    for name, end, half in [
        ("shear_x", shear, shear / 2),
        ("translate_y", shift, math.floor(middle)),
        ("rotate", degrees, degrees / 2),
    ]:
        assert table[name][[0, 15, 30]].tolist() == pytest.approx(np.array([[0, 0], [half, -half], [end, -end]]))
    strongest = 0.99 if wide else 0.9
    for name in ("brightness", "color", "contrast", "sharpness"):
        assert table[name][10].tolist() == pytest.approx([1 + strongest / 3, 1 - strongest / 3])
    assert table["posterize"][[0, 9, 30]].tolist() == [[8, 8], [6, 6] if wide else [7, 7], [2, 2] if wide else [4, 4]]
    assert table["solarize"][[0, 9, 30]].tolist() == [[255, 255], [178.5, 178.5], [0, 0]]


def test_shifts_reach_the_pixel_that_they_come_to_exactly() -> None:
    # 150 / 331 of 331 pixels, by thirtieths, are five pixels each.
    table = policies.arguments(31, 331)
    assert table[OPERATIONS.index("translate_x"), :, 0].tolist() == list(range(0, 151, 5))


def test_policies_of_the_paper() -> None:
    assert [len(pairs) for pairs in POLICIES.values()] == [25, 25, 25]
    for pairs in POLICIES.values():
        for name, probability, magnitude in (sub for pair in pairs for sub in pair):
            assert name in OPERATIONS
            assert probability * 10 == round(probability * 10) <= 10
            assert magnitude in range(10)


def chi_square(observed: dict[tuple[float, ...], int], expected: dict[tuple[float, ...], float]) -> float:
    """Return the p-value of counts of N, what is expected fewer than five times counted together."""
    assert observed.keys() <= {key for key, probability in expected.items() if probability > 0}
    often = [key for key in expected if expected[key] * N >= 5]
    counts = [observed.get(key, 0) for key in often] + [N - sum(observed.get(key, 0) for key in often)]
    chances = [expected[key] * N for key in often] + [N - sum(expected[key] * N for key in often)]
    if chances[-1] < 1e-6:
        counts, chances = counts[:-1], chances[:-1]
    return float(stats.chisquare(counts, chances).pvalue)


def count(*columns: Tensor) -> dict[tuple[float, ...], int]:
    rows, counts = torch.cat([column.double() for column in columns], 1).unique(dim=0, return_counts=True)
    return {tuple(row): int(number) for row, number in zip(rows.tolist(), counts.tolist(), strict=True)}


@pytest.mark.parametrize("policy", ["cifar10", "imagenet", "svhn"])
def test_what_autoaugment_draws(policy: str) -> None:
    drawn = AutoAugment(policy=policy).draw(N, 32, generator("autoaugment"))  # type: ignore[arg-type]
    assert [(tensor.dtype, tensor.shape) for tensor in drawn] == [(torch.uint8, (N, 2)), (torch.float64, (N, 2))]
    table = policies.arguments(10, 32)
    expected: dict[tuple[float, ...], float] = {}
    for pair in POLICIES[policy]:
        outcomes: list[list[tuple[int, float, float]]] = []
        for name, probability, magnitude in pair:
            code = OPERATIONS.index(name)
            signs = table[code, magnitude].tolist()
            outcomes.append([(0, 0.0, 1 - probability), *((code, sign, probability / 2) for sign in signs)])
        for first, first_argument, p in outcomes[0]:
            for second, second_argument, q in outcomes[1]:
                key = (first, second, first_argument, second_argument)
                expected[key] = expected.get(key, 0) + p * q / 25
    assert chi_square(count(*drawn), expected) > 0.01


def uniform(table: Tensor, bins: slice) -> dict[tuple[float, ...], float]:
    """Return the chances of (operation, argument): each of 14 operations, magnitudes in `bins` and two signs alike."""
    expected: dict[tuple[float, ...], float] = {}
    for operation in range(14):
        values = table[operation, bins].flatten().tolist()
        for value in values:
            expected[operation, value] = expected.get((operation, value), 0) + 1 / 14 / len(values)
    return expected


@pytest.mark.parametrize("magnitude", [0, 9, 30])
def test_what_randaugment_draws(magnitude: int) -> None:
    operations, arguments = RandAugment(num_ops=3, magnitude=magnitude).draw(N, 32, generator("randaugment"))
    expected = uniform(policies.arguments(31, 32), slice(magnitude, magnitude + 1))
    for slot in range(3):
        assert chi_square(count(operations[:, slot : slot + 1], arguments[:, slot : slot + 1]), expected) > 0.01
    pairs = {(float(a), float(b)): 1 / 196 for a in range(14) for b in range(14)}
    assert chi_square(count(operations[:, :2]), pairs) > 0.01


@pytest.mark.parametrize("wide", [False, True])
def test_what_trivialaugment_draws(wide: bool) -> None:
    operations, arguments = TrivialAugment(wide=wide).draw(N, 32, generator("trivialaugment"))
    assert operations.shape == arguments.shape == (N, 1)
    assert chi_square(count(operations, arguments), uniform(policies.arguments(31, 32, wide=wide), slice(31))) > 0.01


@pytest.mark.parametrize("options", [{}, {"severity": 10, "width": 2, "depth": 4}, {"consistency": True}])
@CHANNELS
@pytest.mark.parametrize("size", [28, 33])
def test_augmix_against_pillow(options: dict[str, int], channels: int, size: int) -> None:
    step = AugMix(**options)
    images = samples(channels, size).repeat(3, 1, 1, 1).contiguous(memory_format=torch.channels_last)
    n = len(images)
    operations, arguments, weights = step.draw(n, size, generator("augmix"))
    before = images.clone()
    ours = step(images, operations, arguments, weights)
    assert torch.equal(images, before)
    assert ours.dtype == torch.float32
    assert ours.is_contiguous(memory_format=torch.channels_last)
    assert len(ours) == step.views * n
    if step.views == 3:
        assert torch.equal(ours[:n], images.float())
        ours = ours[n:]
    for view, part in enumerate(ours.split(n)):
        expected = weights[:, view, :1, None, None] * images
        for chain in range(step.width):
            augmented = policies.in_turn(images, operations[:, view, chain, :0], arguments[:, view, chain, :0])
            for slot in range(operations.shape[3]):
                drawn = operations[:, view, chain, slot], arguments[:, view, chain, slot]
                given, augmented = augmented, policies.apply(augmented, *drawn, policies.pixels.affine_bilinear)
                rows = [tensor[:, None] for tensor in drawn]
                assert_same(augmented, given, lambda image, i, r=rows: after(image, r[0][i], r[1][i], BILINEAR))
            expected = expected + weights[:, view, 1 + chain, None, None, None] * augmented
        torch.testing.assert_close(part, expected, rtol=1e-6, atol=1e-4)


def test_what_augmix_draws() -> None:
    step = AugMix(severity=3, width=3)
    operations, arguments, _ = step.draw(N, 32, generator("augmix"))
    assert operations.shape == arguments.shape == (N, 1, 3, 3)
    # Depth 1..3 of each chain: operations first, nothing after them.
    happens = operations[:, 0, 0] > 0
    assert not (happens[:, 1:] & ~happens[:, :-1]).any()
    depths = {(float(depth),): 1 / 3 for depth in (1, 2, 3)}
    assert chi_square(count(happens.sum(1, keepdim=True)), depths) > 0.01
    # Nine operations, their arguments those of a level uniform in [0.1, 3).
    step = AugMix(severity=3, width=1, depth=1)
    operation, argument, _ = (tensor.reshape(N, -1) for tensor in step.draw(N, 32, generator("augmix")))
    names = ("autocontrast", "equalize", "posterize", "rotate", "solarize", "shear_x", "shear_y")
    names += ("translate_x", "translate_y")
    codes = {name: OPERATIONS.index(name) for name in names}
    assert chi_square(count(operation), {(float(code),): 1 / 9 for code in codes.values()}) > 0.01
    of = {name: argument[operation == code] for name, code in codes.items()}
    shares = stats.uniform(0.1, 2.9).cdf
    for name in ("shear_x", "shear_y"):
        assert stats.kstest((of[name].abs() / 0.03).numpy(), shares).pvalue > 0.01
        assert stats.binomtest(int((of[name] > 0).sum()), len(of[name])).pvalue > 0.01
    for name, low, high in [("posterize", 3, 4), ("rotate", -8, 8), ("solarize", 180, 254), ("translate_x", -3, 3)]:
        assert (float(of[name].min()), float(of[name].max())) == (low, high)
        assert torch.equal(of[name], of[name].round())
    # int(level * 0.4) is 1 from level 2.5 on, int(level * 10.67 / 10) from 0.9375 on.
    threes = int((of["posterize"] == 3).sum())
    assert stats.binomtest(threes, len(of["posterize"]), 0.5 / 2.9).pvalue > 0.01
    still = int((of["translate_x"] == 0).sum())
    assert stats.binomtest(still, len(of["translate_x"]), 0.8375 / 2.9).pvalue > 0.01


@pytest.mark.parametrize("alpha", [0.3, 1.0, 4.0])
def test_weights_of_augmix(alpha: float) -> None:
    weights = AugMix(alpha=alpha, width=3).draw(N, 8, generator("weights"))[2][:, 0].double().numpy()
    assert weights.min() >= 0
    np.testing.assert_allclose(weights.sum(1), 1, rtol=1e-6)
    assert stats.kstest(1 - weights[:, 0], stats.beta(alpha, alpha).cdf).pvalue > 0.01
    # One part of Dirichlet(alpha, alpha, alpha) is Beta(alpha, 2 alpha); without chains of next to no weight.
    mixed = weights[:, 0] < 0.999
    share = weights[mixed, 2] / (1 - weights[mixed, 0])
    assert stats.kstest(share, stats.beta(alpha, 2 * alpha).cdf).pvalue > 0.01
    assert abs(stats.pearsonr(weights[mixed, 0], share).statistic) < 0.03


def test_two_mixtures_are_independent() -> None:
    operations, _, weights = AugMix(consistency=True, depth=1).draw(N, 32, generator("two"))
    assert operations.shape == (N, 2, 3, 1)
    assert abs(stats.pearsonr(weights[:, 0, 0], weights[:, 1, 0]).statistic) < 0.03
    table = np.histogram2d(operations[:, 0, 0, 0].numpy(), operations[:, 1, 0, 0].numpy(), bins=range(16))[0]
    used = table.sum(0) > 0
    assert stats.chi2_contingency(table[used][:, used]).pvalue > 0.01


@pytest.mark.parametrize("name", ["autoaugment", "randaugment", "trivialaugment", "augmix"])
def test_equal_generators_draw_the_same(name: str) -> None:
    step = create(name)
    assert (step.name, step.stage) == (name, "pixels")
    one, same, other = (step.draw(64, 32, generator(key)) for key in (0, 0, 1))
    assert all(torch.equal(a, b) for a, b in zip(one, same, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("autoaugment", {"policy": "cifar"}, "expected a policy of cifar10, imagenet, svhn, got 'cifar'"),
        ("randaugment", {"magnitude": 31}, r"magnitude in 0\.\.30, got 2 and 31"),
        ("randaugment", {"num_ops": 0}, "num_ops of at least 1"),
        ("augmix", {"severity": 11}, r"severity in 1\.\.10"),
        ("augmix", {"alpha": 0.0}, "alpha above 0"),
        ("augmix", {"width": 0}, "width of at least 1"),
        ("randaugmant", {}, "expected one of autoaugment, .* got 'randaugmant'; did you mean 'randaugment'"),
    ],
)
def test_impossible_options(name: str, options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        create(name, **options)
