"""What the corruptions are made of, against SciPy and plain loops, at sizes and angles of all kinds."""

import math

import numpy as np
import pytest
import torch
from data.corruptions import per_image
from scipy import ndimage

from pictorch.data.corruptions import blur, digital, filters

DRAWS = np.random.default_rng(11)


@pytest.mark.parametrize("sigma", [0.05, 0.25, 0.4, 1.5, 6])
@pytest.mark.parametrize(("height", "width"), [(8, 8), (9, 31)])
def test_gaussian_is_scipys_to_the_bit(height: int, width: int, sigma: float) -> None:
    images = DRAWS.random((2, 3, height, width))
    expected = ndimage.gaussian_filter(images, (0, 0, sigma, sigma), mode="nearest")
    assert np.array_equal(filters.gaussian(torch.from_numpy(images), sigma).numpy(), expected)


@pytest.mark.parametrize("size", [8, 32, 61])
@pytest.mark.parametrize("sigma", [0.32, 2.4, 6.4, 50])
def test_the_matrix_of_a_gaussian_is_scipys_filter(size: int, sigma: float) -> None:
    rows = DRAWS.random((3, size))
    expected = ndimage.gaussian_filter1d(rows, sigma, mode="reflect", truncate=3)
    found = rows @ filters.reflected_gaussian(size, sigma).numpy().T
    assert np.abs(found - expected).max() < 1e-12


@pytest.mark.parametrize("size", range(8, 97))
def test_zoom_is_scipys(size: int) -> None:
    """The last row and column, too, where SciPy's rounding puts zeros: sizes 25, 35, 41 and others."""
    images = DRAWS.random((1, 1, size, size)) + 1
    for factor in [*np.arange(1, 1.31, 0.01), 1.25, 1.75, 2.25, 2, 2.5, 3, 4, 4.5]:
        expected = per_image.magnified(images[0, 0][..., None], factor)[..., 0]
        found = filters.clipped_zoom(torch.from_numpy(images), float(factor))[0, 0].numpy()
        assert np.abs(found - expected).max() < 1e-12


def test_zoom_of_sides_that_differ() -> None:
    image = DRAWS.random((25, 40)) + 1
    for factor in (1, 1.06, 1.75, 3):
        found = filters.clipped_zoom(torch.from_numpy(image)[None, None], factor)[0, 0].numpy()
        assert np.abs(found - per_image.magnified(image[..., None], factor)[..., 0]).max() < 1e-12


@pytest.mark.parametrize(("radius", "sigma"), [(6, 1), (9, 2.5), (20, 15), (2.5, 2)])
def test_motion_along_every_angle(radius: float, sigma: float) -> None:
    degrees = [*range(-180, 181, 15), 26.565051177077994, 63.4, 1e-9]
    images = DRAWS.integers(0, 256, (len(degrees), 3, 12, 17), dtype=np.uint8)
    found = filters.motion(torch.from_numpy(images), radius, sigma, degrees).permute(0, 2, 3, 1).numpy()
    expected = np.stack(
        [
            per_image.along(image, radius, sigma, angle)
            for image, angle in zip(images.transpose(0, 2, 3, 1), degrees, strict=True)
        ]
    )
    assert np.abs(found.astype(int) - expected).max() <= 1
    assert (found == expected).mean() > 0.999


def test_motion_leaves_flat_images_as_they_are() -> None:
    images = torch.arange(256, dtype=torch.uint8)[:, None, None, None].expand(-1, 1, 9, 9).contiguous()
    assert torch.equal(filters.motion(images, 9, 2.5, [17.0] * 256), images)


@pytest.mark.parametrize(("size", "decay"), [(8, 3), (32, 1.75), (64, 1.4)])
def test_plasma_is_that_of_loops_and_fills_its_range(size: int, decay: float) -> None:
    uniform = np.stack([np.random.default_rng(seed).random(size * size - 1) for seed in range(3)])
    maps = filters.plasma(torch.from_numpy(uniform), decay).numpy()
    for seed, found in enumerate(maps):
        assert np.abs(found - per_image.plasma(size, decay, np.random.default_rng(seed))).max() < 1e-12
    assert (maps.min((1, 2)) == 0).all()
    assert (maps.max((1, 2)) == 1).all()


@pytest.mark.parametrize("reach", [1, 2, 4])
def test_pixels_taken_in_turn(reach: int) -> None:
    height, width = 13, 19
    rows, columns = np.arange(height - reach, reach, -1), np.arange(width - reach, reach, -1)
    at = (rows[:, None] * width + columns).ravel()
    shifts = DRAWS.integers(-reach, reach, (5, len(at), 2))
    source = at + shifts[..., 1] * width + shifts[..., 0]
    found = blur.taken_from(torch.from_numpy(at), torch.from_numpy(source), height * width).numpy()
    for places, sources in zip(found, source, strict=True):
        pixels = np.arange(height * width)
        for to, of in zip(at, sources, strict=True):
            pixels[to] = pixels[of]
        assert np.array_equal(places, pixels)


def test_the_longest_chain_is_followed() -> None:
    """Every pixel takes that of the one after it, which has just taken its own: all have the last one's."""
    at = torch.arange(98, -1, -1)
    assert (blur.taken_from(at, at[None] + 1, 100) == 99).all()


@pytest.mark.parametrize(("size", "new"), [(32, 30), (32, 20), (20, 32), (28, 18), (224, 56), (8, 5), (5, 8), (9, 9)])
def test_box_weights_fill_their_windows(size: int, new: int) -> None:
    matrix = digital.box(size, new).numpy()
    assert matrix.shape == (new, size)
    assert np.abs(matrix.sum(1) - 2**22).max() <= math.ceil(size / new)
    assert (np.diff(matrix.argmax(1)) >= 0).all()


@pytest.mark.parametrize("places", ["reflect", "symmetric"])
def test_mirrors_are_numpys(places: str) -> None:
    row = np.arange(7)
    at = torch.arange(-13, 20)
    function = digital.mirrored if places == "reflect" else digital.reflected
    found = function(at.double(), 7).long()
    assert np.array_equal(row[found.numpy()], np.pad(row, 13, places))
