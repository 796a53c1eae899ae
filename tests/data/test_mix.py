"""Mixes against loops over pixels written from the papers, and what is drawn against the published distributions."""

import itertools
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.special import betainc
from torch import Tensor

from pictorch.data.mix import CutMix, Mixup, ResizeMix, Ricap, smooth
from pictorch.data.streams import generator, numpy_generator

MIXES = [Mixup(), CutMix(), ResizeMix(), Ricap()]
DRAWS = 20_000
named = pytest.mark.parametrize("mix", MIXES, ids=lambda mix: mix.name)


def batch(n: int, channels: int, size: int) -> tuple[Tensor, Tensor]:
    """Return random images in channels_last order and one-hot targets, each image a class of its own."""
    images = torch.randn(n, channels, size, size, generator=generator("images", n, channels, size))
    return images.contiguous(memory_format=torch.channels_last), torch.eye(n)


def drawn(mix: Any, batches: int = 1, batch_size: int = 5, image_size: int = 32, *key: int) -> list[Tensor]:
    return list(mix.draw(batches, batch_size, image_size, numpy_generator("drawn", mix.name, *key)))


def order_of(keys: Tensor, n: int) -> list[int]:
    """Return the permutation that sort keys stand for, by Python's own stable sort."""
    return sorted(range(n), key=lambda i: float(keys[i]))


def slow_mixup(images: Tensor, targets: Tensor, keys: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
    order, share = order_of(keys, len(images)), float(kept)
    mixed = [share * images[i] + (1 - share) * images[order[i]] for i in range(len(images))]
    rows = [share * targets[i] + (1 - share) * targets[order[i]] for i in range(len(images))]
    return torch.stack(mixed), torch.stack(rows)


def slow_paste(
    images: Tensor, targets: Tensor, patches: Tensor, order: list[int], box: Tensor
) -> tuple[Tensor, Tensor]:
    """Put patch i, [C,height,width], into the box of image i; the targets' shares are counted pixel by pixel."""
    top, left, height, width = box.tolist()
    mixed, rows = images.clone(), targets.clone()
    for i, (y, x) in itertools.product(range(len(images)), itertools.product(range(height), range(width))):
        mixed[i, :, top + y, left + x] = patches[i, :, y, x]
        rows[i] += (targets[order[i]] - targets[i]) / images[0, 0].numel()
    return mixed, rows


def slow_cutmix(images: Tensor, targets: Tensor, keys: Tensor, box: Tensor) -> tuple[Tensor, Tensor]:
    order = order_of(keys, len(images))
    top, left, height, width = box.tolist()
    patches = images[order][:, :, top : top + height, left : left + width]
    return slow_paste(images, targets, patches, order, box)


def slow_resizemix(images: Tensor, targets: Tensor, keys: Tensor, box: Tensor) -> tuple[Tensor, Tensor]:
    order, side = order_of(keys, len(images)), int(box[2])
    others = images[order].contiguous()
    patches = F.interpolate(others, (side, side), mode="bilinear") if side else others[:, :, :0, :0]
    return slow_paste(images, targets, patches, order, box)


def slow_ricap(
    images: Tensor, targets: Tensor, keys: Tensor, boundary: Tensor, shifts: Tensor, _: Tensor
) -> tuple[Tensor, Tensor]:
    orders = [order_of(row, len(images)) for row in keys]
    mixed, rows = torch.empty_like(images), torch.zeros_like(targets)
    for i, y, x in itertools.product(range(len(images)), range(images.shape[2]), range(images.shape[3])):
        patch = 2 * (y >= boundary[0]) + (x >= boundary[1])
        down, across = shifts[patch].tolist()
        assert y + down >= 0
        assert x + across >= 0
        mixed[i, :, y, x] = images[orders[patch][i], :, y + down, x + across]
        rows[i] += targets[orders[patch][i]] / images[0, 0].numel()
    return mixed, rows


SLOW = {"mixup": slow_mixup, "cutmix": slow_cutmix, "resizemix": slow_resizemix, "ricap": slow_ricap}


@named
@pytest.mark.parametrize(("channels", "size", "n"), [(3, 8, 5), (1, 7, 4), (3, 5, 1)])
def test_loop_over_pixels(mix: Any, channels: int, size: int, n: int) -> None:
    images, targets = batch(n, channels, size)
    before = images.clone(), targets.clone()
    columns = drawn(mix, batches=6, batch_size=5, image_size=size)  # more keys than images: the last batch of an epoch
    for row in zip(*columns, strict=True):
        mixed, rows = mix(images, targets, *row)
        expected, shares = SLOW[mix.name](images, targets, *row)
        torch.testing.assert_close(mixed, expected, rtol=1e-5, atol=2e-6)
        torch.testing.assert_close(rows, shares, rtol=1e-5, atol=2e-6)
        assert mixed.is_contiguous(memory_format=torch.channels_last)
        assert mixed.data_ptr() != images.data_ptr()
    assert torch.equal(images, before[0])
    assert torch.equal(targets, before[1])


@pytest.mark.parametrize("mix", MIXES[1:], ids=lambda mix: mix.name)
def test_pixels_come_from_the_images_that_the_targets_name(mix: Any) -> None:
    n, size = 6, 9
    images = torch.arange(n, dtype=torch.float32)[:, None, None, None].expand(n, 3, size, size)
    images = images.contiguous(memory_format=torch.channels_last)
    for row in zip(*drawn(mix, 30, n, size), strict=True):
        mixed, targets = mix(images, torch.eye(n), *row)
        counted = torch.stack([(mixed == i).sum(dim=(1, 2, 3)) for i in range(n)], dim=1)
        torch.testing.assert_close(targets, counted / (3 * size**2))


def test_mixups_targets_are_the_shares_of_the_images() -> None:
    images = torch.eye(6)[:, :, None, None].contiguous(memory_format=torch.channels_last)  # channel i: share of image i
    for keys, kept in zip(*drawn(Mixup(), 30, 6, 1), strict=True):
        mixed, targets = Mixup()(images, torch.eye(6), keys, kept)
        torch.testing.assert_close(mixed[:, :, 0, 0], targets)


@named
def test_targets_stay_distributions(mix: Any) -> None:
    images, _ = batch(16, 3, 8)
    targets = torch.rand(16, 10, generator=generator("targets")).softmax(dim=1)
    for row in zip(*drawn(mix, 20, 16, 8), strict=True):
        _, mixed = mix(images, targets, *row)
        torch.testing.assert_close(mixed.sum(dim=1), torch.ones(16))
        assert (mixed >= 0).all()


@pytest.mark.parametrize("kind", [Mixup, CutMix, ResizeMix])
def test_a_batch_that_the_probability_leaves_alone_is_unchanged(kind: Any) -> None:
    images, targets = batch(5, 3, 8)
    for row in zip(*drawn(kind(prob=0.0), 4, 5, 8), strict=True):
        mixed, rows = kind()(images, targets, *row)
        assert torch.equal(mixed, images)
        assert torch.equal(rows, targets)
    changed = [
        not torch.equal(kind()(images, targets, *row)[1], targets)
        for row in zip(*drawn(kind(prob=0.3), 1000, 5, 8), strict=True)
    ]
    # An order of five may be the identity (once in 120), and a box of CutMix empty (lambda above 1 - 1/16).
    assert abs(np.mean(changed) - 0.3) < 0.06


def test_alpha_0_mixes_nothing() -> None:
    assert (drawn(Mixup(alpha=0.0), 50)[1] == 1).all()
    assert (drawn(CutMix(alpha=0.0), 50)[1][:, 2:] == 0).all()


@named
def test_nothing_is_read_back_from_the_device(mix: Any) -> None:
    # Tensors on "meta" have no values: to read one is an error.
    images, targets = batch(4, 3, 8)
    row = [tensor[0].to("meta") for tensor in drawn(mix, 1, 5, 8)]
    mixed, rows = mix(images.to("meta"), targets.to("meta"), *row)
    assert mixed.shape == (4, 3, 8, 8)
    assert rows.shape == (4, 4)


@named
@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_captured_as_a_cuda_graph(mix: Any) -> None:
    images, targets = batch(16, 3, 32)
    rows = list(zip(*drawn(mix, 3, 16, 32), strict=True))
    inputs = [tensor.cuda() for tensor in (images, targets, *rows[0])]
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        mix(*inputs)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        outputs = mix(*inputs)
    for row in rows:
        for static, tensor in zip(inputs[2:], row, strict=True):
            static.copy_(tensor)
        graph.replay()
        for ours, expected in zip(outputs, mix(images, targets, *row), strict=True):
            torch.testing.assert_close(ours.cpu(), expected)


@named
def test_equal_streams_draw_the_same(mix: Any) -> None:
    for first, again in zip(drawn(mix, 7), drawn(mix, 7), strict=True):
        assert torch.equal(first, again)
    assert not torch.equal(drawn(mix, 7)[0], drawn(mix, 7, 5, 32, 1)[0])


@pytest.mark.parametrize("alpha", [2.0, 1.0, 0.5])
def test_lambda_is_of_the_beta_distribution(alpha: float) -> None:
    _, kept = drawn(Mixup(alpha=alpha), DRAWS, 1)
    expected = betainc(alpha, alpha, np.sort(kept.double().numpy()))
    steps = np.arange(DRAWS + 1) / DRAWS
    distance = max(np.abs(expected - steps[1:]).max(), np.abs(expected - steps[:-1]).max())
    assert distance < 1.63 / DRAWS**0.5  # Kolmogorov-Smirnov, 1 %


@pytest.mark.parametrize(("alpha", "mean"), [(1.0, 0.75), (0.5, 0.82), (0.2, 0.90)])
def test_mean_share_of_the_larger_image(alpha: float, mean: float) -> None:
    _, kept = drawn(Mixup(alpha=alpha), DRAWS, 1)
    assert abs(float(torch.maximum(kept, 1 - kept).mean()) - mean) < 0.007


@named
def test_permutations_are_uniform(mix: Any) -> None:
    keys = drawn(mix, DRAWS, 3)[0].view(-1, 3)
    orders = [tuple(order) for order in keys.argsort().tolist()]
    counts = [orders.count(order) for order in itertools.permutations(range(3))]
    assert chi_square(np.array(counts), np.full(6, len(orders) / 6)) < 20.5  # 5 degrees of freedom, 0.1 %


def chi_square(counts: np.ndarray, expected: np.ndarray) -> float:
    assert abs(counts.sum() - expected.sum()) < 1e-6 * counts.sum()
    return float(((counts - expected) ** 2 / expected).sum())


def boxes_of_the_authors(size: int) -> np.ndarray:
    """Return [size+1,size+1]: P(start, end) of CutMix's box along one direction, by all sides and centres.

    1 - lambda is uniform, so the side int(size * sqrt(1 - lambda)) is at least s with probability 1 - (s / size)^2.
    """
    table = np.zeros((size + 1, size + 1))
    for side, centre in itertools.product(range(size), range(size)):
        start, end = max(centre - side // 2, 0), min(centre + side // 2, size)
        table[start, end] += (((side + 1) / size) ** 2 - (side / size) ** 2) / size
    return table


@pytest.mark.parametrize("direction", [0, 1])
def test_boxes_of_cutmix_are_those_of_the_authors_code(direction: int) -> None:
    size = 8
    _, boxes = drawn(CutMix(), DRAWS, 1, size)
    starts, ends = boxes[:, direction].numpy(), (boxes[:, direction] + boxes[:, direction + 2]).numpy()
    counts = np.zeros((size + 1, size + 1))
    np.add.at(counts, (starts, ends), 1)
    expected = boxes_of_the_authors(size) * DRAWS
    possible = expected > 0
    assert counts[~possible].sum() == 0
    freedom = possible.sum() - 1
    assert chi_square(counts[possible], expected[possible]) < freedom + 3.1 * (2 * freedom) ** 0.5


def test_cutmix_keeps_less_where_lambda_says_so() -> None:
    """The mean share that is left: exactly that of the authors' boxes, far from the mean of lambda, one half."""
    size, expected = 32, 0.0
    for side in range(size):
        chance = ((side + 1) / size) ** 2 - (side / size) ** 2
        length = np.mean([min(c + side // 2, size) - max(c - side // 2, 0) for c in range(size)])
        expected += chance * (1 - length**2 / size**2)
    _, boxes = drawn(CutMix(), DRAWS, 1, size)
    kept = 1 - (boxes[:, 2] * boxes[:, 3]).double() / size**2
    assert abs(float(kept.mean()) - expected) < 4 * float(kept.std()) / DRAWS**0.5
    assert expected > 0.67


def test_patches_of_resizemix_are_uniform_in_scale_and_place() -> None:
    _, boxes = drawn(ResizeMix(scale=(0.25, 0.75)), DRAWS, 1, 8)
    top, left, height, width = boxes.T
    assert torch.equal(height, width)
    # tau * 8 is uniform on [2, 6]: half a pixel rounds to 2 and to 6, a whole one to 3, 4 and 5.
    counts = torch.bincount(height, minlength=7).numpy()[2:]
    assert chi_square(counts, np.array([1, 2, 2, 2, 1]) / 8 * DRAWS) < 18.5  # 4 degrees of freedom, 0.1 %
    for side in range(2, 7):
        places = 8 - side + 1
        chosen = height == side
        found = torch.bincount(top[chosen] * places + left[chosen], minlength=places**2).numpy()
        freedom = places**2 - 1
        assert chi_square(found, np.full(places**2, chosen.sum() / places**2)) < freedom + 3.5 * (2 * freedom) ** 0.5


def test_a_patch_of_resizemix_has_at_least_one_pixel() -> None:
    _, boxes = drawn(ResizeMix(scale=(0.0, 0.01)), 20, 1, 8)
    assert (boxes[:, 2:] == 1).all()


def test_a_whole_image_of_resizemix_replaces_the_other() -> None:
    images, targets = batch(5, 3, 8)
    mix = ResizeMix(scale=(1.0, 1.0))
    keys, box = (tensor[0] for tensor in drawn(mix, 1, 5, 8))
    mixed, rows = mix(images, targets, keys, box)
    assert torch.equal(mixed, images[keys.argsort()])
    assert torch.equal(rows, targets[keys.argsort()])


def test_published_facts_of_ricap() -> None:
    _, boundaries, _, shares = drawn(Ricap(), DRAWS, 1, 32)
    assert abs(float((shares == 1).any(dim=1).float().mean()) - 0.103) < 0.009
    assert abs(float(shares.max(dim=1).values.mean()) - 0.751) < 0.006
    assert abs(float(boundaries.double().mean()) - 16) < 0.3
    torch.testing.assert_close(shares.sum(dim=1), torch.ones(DRAWS))


def test_boundaries_of_ricap_are_rounded_from_the_beta_distribution() -> None:
    _, boundaries, _, _ = drawn(Ricap(), DRAWS, 1, 8)
    below = betainc(0.3, 0.3, ((np.arange(10) - 0.5) / 8).clip(0, 1))
    for direction in (0, 1):
        counts = torch.bincount(boundaries[:, direction], minlength=9).numpy()
        assert chi_square(counts, np.diff(below) * DRAWS) < 26.1  # 8 degrees of freedom, 0.1 %


def test_patches_of_ricap_are_cut_at_uniform_places_that_fit() -> None:
    _, boundaries, shifts, _ = drawn(Ricap(beta=1.0), DRAWS, 1, 4)
    for patch, direction, edge in itertools.product(range(4), range(2), range(5)):
        second = (patch // 2, patch % 2)[direction]
        chosen = boundaries[:, direction] == edge
        corners = shifts[chosen, patch, direction] + (edge if second else 0)
        places = 4 - (4 - edge if second else edge) + 1
        found = torch.bincount(corners, minlength=places).numpy()
        assert len(found) == places
        if places > 1:
            assert chi_square(found, np.full(places, len(corners) / places)) < (places - 1) + 20


def test_the_four_permutations_of_ricap_are_independent() -> None:
    keys = drawn(Ricap(), DRAWS, 1)[0].view(DRAWS, 4)
    assert float((torch.corrcoef(keys.T) - torch.eye(4)).abs().max()) < 4 / DRAWS**0.5


def test_label_smoothing_is_torchs() -> None:
    targets = torch.eye(10)[:7]
    smoothed = smooth(targets, 0.1)
    assert abs(float(smoothed[0, 0]) - 0.91) < 1e-6
    assert abs(float(smoothed[0, 1]) - 0.01) < 1e-6
    logits = torch.randn(7, 10, generator=generator("logits"))
    expected = torch.nn.CrossEntropyLoss(label_smoothing=0.1)(logits, torch.arange(7))
    torch.testing.assert_close(F.cross_entropy(logits, smoothed), expected)
    assert torch.equal(smooth(targets, 0.0), targets)


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (Mixup, {"alpha": -1.0}, "mixup: expected a prob in [0, 1] and an alpha of at least 0, got 1 and -1"),
        (Mixup, {"prob": 1.5}, "mixup: expected a prob in [0, 1] and an alpha of at least 0, got 1.5 and 1"),
        (
            CutMix,
            {"alpha": float("nan")},
            "cutmix: expected a prob in [0, 1] and an alpha of at least 0, got 1 and nan",
        ),
        (ResizeMix, {"scale": (0.8, 0.1)}, "resizemix: expected 0 <= lowest <= highest <= 1 for scale, got (0.8, 0.1)"),
        (ResizeMix, {"prob": -0.1}, "resizemix: expected a prob in [0, 1]"),
        (Ricap, {"beta": 0.0}, "ricap: expected a beta above 0, got 0"),
    ],
)
def test_impossible_values_are_refused(kind: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as caught:
        kind(**options)
    assert message in str(caught.value)


def test_document_2_s_cutmix_does_not_correct_the_share_for_the_border() -> None:
    mix = CutMix(program="seed2")
    _, boxes, kept = drawn(mix, DRAWS)
    left = 1 - boxes[:, 2] * boxes[:, 3] / 32**2
    assert boxes.min() >= 0
    assert (boxes[:, :2] + boxes[:, 2:]).max() <= 32
    # Means of behaviours measured on the program itself: 0.5 drawn, 0.679 left, 0.18 apart.
    assert float(kept.mean()) == pytest.approx(0.5, abs=0.01)
    assert float(left.mean()) == pytest.approx(0.679, abs=0.01)
    assert float((left - kept).abs().mean()) == pytest.approx(0.18, abs=0.01)
    images, targets = batch(5, 3, 8)
    keys, boxes, kept = drawn(mix, 4, 5, 8)
    for row in zip(keys, boxes, kept, strict=True):
        mixed, rows = mix(images, targets, *row)
        order = torch.tensor(order_of(row[0], 5))
        torch.testing.assert_close(mixed, slow_cutmix(images, targets, *row[:2])[0], rtol=1e-5, atol=2e-6)
        torch.testing.assert_close(rows, row[2] * targets + (1 - row[2]) * targets[order])
