"""Every augmentation against a slow loop over single pixels, and the distribution of what is drawn."""

import numpy as np
import pytest
import torch
from scipy import stats

from pictorch.config import UserError
from pictorch.data.augment import (
    coefficients,
    crop_flip,
    draw_alternating_flips,
    draw_crop_offsets,
    draw_flips,
    normalise,
    pad,
    with_mirror_images,
)
from pictorch.data.streams import generator

SHAPES = pytest.mark.parametrize("shape", [(6, 3, 8, 8), (5, 1, 7, 7), (1, 3, 4, 4), (4, 5, 6, 6), (3, 2, 1, 1)])
LAST = torch.channels_last


def noise(*shape: int) -> torch.Tensor:
    return torch.randint(256, shape, dtype=torch.uint8, generator=generator("noise"))


@SHAPES
@pytest.mark.parametrize("padding", [0, 1, 4])
def test_pad(shape: tuple[int, ...], padding: int) -> None:
    images = noise(*shape)
    padded = pad(images, padding)
    n, channels, height, width = shape
    assert padded.shape == (n, channels, height + 2 * padding, width + 2 * padding)
    assert padded.is_contiguous(memory_format=LAST)
    for y in range(padded.shape[2]):
        for x in range(padded.shape[3]):
            inside = padding <= y < padding + height and padding <= x < padding + width
            expected = images[:, :, y - padding, x - padding] if inside else torch.zeros(n, channels)
            assert padded[:, :, y, x].tolist() == expected.tolist()


@pytest.mark.parametrize("shape", [(6, 3, 8, 8), (5, 1, 7, 9), (4, 5, 5, 5)])
@pytest.mark.parametrize("padding", [0, 1, 4])
def test_reflected_padding_mirrors_without_repeating_the_edge(shape: tuple[int, ...], padding: int) -> None:
    images = noise(*shape)
    padded = pad(images, padding, "reflect")
    around = [(0, 0), (0, 0), (padding, padding), (padding, padding)]
    assert np.array_equal(padded.numpy(), np.pad(images.numpy(), around, mode="reflect"))
    assert padded.is_contiguous(memory_format=LAST)
    line = pad(torch.arange(4, dtype=torch.uint8).expand(1, 1, 4, 4), 2, "reflect")[0, 0, 3]
    assert line.tolist() == [2, 1, 0, 1, 2, 3, 2, 1]


def test_an_image_cannot_be_mirrored_further_than_it_reaches() -> None:
    assert pad(noise(1, 3, 8, 8), 7, "reflect").shape == (1, 3, 22, 22)
    with pytest.raises(UserError) as error:
        pad(noise(1, 3, 8, 8), 8, "reflect")
    assert str(error.value) == (
        "a crop's padding of 8 pixels cannot mirror images of 8 x 8: expected at most 7, or the mode 'constant'"
    )


@SHAPES
@pytest.mark.parametrize("padding", [0, 2])
def test_crop_flip(shape: tuple[int, ...], padding: int) -> None:
    images = noise(*shape)
    n, channels, size, _ = shape
    padded = pad(images, padding)
    index = torch.randint(n, (9,), generator=generator("index"))
    offsets = draw_crop_offsets(9, padding, generator("crop"))
    flips = draw_flips(9, generator("flip"))
    batch = crop_flip(with_mirror_images(padded), index, offsets, flips, size)
    assert batch.shape == (9, channels, size, size)
    assert batch.dtype == torch.uint8
    assert batch.is_contiguous(memory_format=LAST)
    for b in range(9):
        top, left = offsets[b].tolist()
        for c in range(channels):
            for y in range(size):
                row = [int(padded[index[b], c, top + y, left + x]) for x in range(size)]
                assert batch[b, c, y].tolist() == (row[::-1] if flips[b] else row)


def test_crop_flip_reaches_every_corner() -> None:
    padded = pad(noise(1, 3, 4, 4), 1)
    for top in range(3):
        for left in range(3):
            batch = crop_flip(padded, torch.tensor([0]), torch.tensor([[top, left]]), None, 4)
            assert torch.equal(batch, padded[:, :, top : top + 4, left : left + 4])


def test_crop_flip_changes_nothing_given_to_it() -> None:
    padded = pad(noise(3, 3, 4, 4), 1)
    arguments = (
        with_mirror_images(padded),
        torch.tensor([2, 0]),
        torch.tensor([[0, 2], [1, 1]]),
        torch.tensor([True, False]),
    )
    copies = [argument.clone() for argument in arguments]
    crop_flip(*arguments, 4)
    assert all(torch.equal(a, b) for a, b in zip(arguments, copies, strict=True))


@SHAPES
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_normalise(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    images = pad(noise(*shape), 0).to(dtype)
    mean = torch.linspace(0.2, 0.6, shape[1])
    std = torch.linspace(0.35, 0.2, shape[1])
    before = images.clone()
    out = normalise(images, *coefficients(mean, std, shape[2]))
    assert out.dtype == torch.float32
    assert out.shape == images.shape
    assert out.is_contiguous(memory_format=LAST)
    assert torch.equal(images, before)
    for n in range(shape[0]):
        for c in range(shape[1]):
            for y in range(shape[2]):
                for x in range(shape[3]):
                    expected = (int(images[n, c, y, x]) / 255 - float(mean[c])) / float(std[c])
                    assert float(out[n, c, y, x]) == pytest.approx(expected, abs=1e-6, rel=1e-6)


def test_normalise_gives_an_image_the_same_bits_in_every_batch() -> None:
    images = pad(noise(37, 3, 9, 9), 0)
    mean, std = torch.tensor([0.49, 0.48, 0.44]), torch.tensor([0.24, 0.25, 0.26])
    of_all = coefficients(mean, std, 9)
    whole = normalise(images, *of_all)
    for size in (1, 2, 5, 16):
        parts = torch.cat([normalise(part, *of_all) for part in images.split(size)])
        assert torch.equal(parts, whole)


def test_black_padding_is_black_after_normalising() -> None:
    mean, std = torch.tensor([0.5, 0.4, 0.3]), torch.tensor([0.25, 0.2, 0.3])
    out = normalise(pad(noise(2, 3, 4, 4), 1), *coefficients(mean, std, 6))
    torch.testing.assert_close(out[:, :, 0, 0], (-mean / std).expand(2, 3))


def test_offsets_are_uniform_and_the_two_are_independent() -> None:
    offsets = draw_crop_offsets(20_000, 4, generator(0, 0, "crop"))
    assert offsets.shape == (20_000, 2)
    assert offsets.dtype == torch.int64
    cells = (offsets[:, 0] * 9 + offsets[:, 1]).bincount(minlength=81)
    assert len(cells) == 81
    assert stats.chisquare(cells.numpy()).pvalue > 0.01


def test_no_padding_leaves_no_choice() -> None:
    assert not draw_crop_offsets(100, 0, generator(0)).any()


def test_flips_are_even() -> None:
    flips = draw_flips(20_000, generator(0, 0, "flip"))
    assert flips.dtype == torch.bool
    assert stats.chisquare(flips.long().bincount().numpy()).pvalue > 0.01


def test_alternating_flips_show_each_image_one_way_and_then_the_other() -> None:
    n = 20_000
    before: dict[int, bool] = {}
    for epoch in range(4):
        order = torch.randperm(n, generator=generator(0, epoch, "order"))[: n - 5]  # as drop_last leaves it
        flips = draw_alternating_flips(order, epoch, n, generator(0, "flip"))
        assert flips.dtype == torch.bool
        now = dict(zip(order.tolist(), flips.tolist(), strict=True))
        assert all(now[image] != before[image] for image in now.keys() & before.keys())
        assert stats.chisquare(flips.long().bincount().numpy()).pvalue > 0.01
        before = now


def test_what_is_drawn_for_one_purpose_says_nothing_of_another() -> None:
    offsets = draw_crop_offsets(20_000, 4, generator(0, 0, "crop"))
    flips = draw_flips(20_000, generator(0, 0, "flip"))
    table = (flips.long() * 9 + offsets[:, 0]).bincount(minlength=18).view(2, 9)
    assert stats.chi2_contingency(table.numpy()).pvalue > 0.01
