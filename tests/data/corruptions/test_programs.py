"""The parts that the benchmark took from ImageMagick, OpenCV and scikit-image, against these where they are installed.

They are no dependency, even of the tests: `pip install wand opencv-python-headless scikit-image` and ImageMagick's
libmagickwand. What needs none of them is in test_corruptions.py.
"""

import ctypes
from io import BytesIO
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from pictorch.data import corruptions
from pictorch.data.corruptions import blur, digital, filters, parameters, weather
from pictorch.data.corruptions.draws import generator

DRAWS = np.random.default_rng(17)
# Before this ImageMagick 6 rounded to 8 bits, and so do we; since then it cuts off.
CUTS_OFF = (6, 9, 10, 69)


def installed(name: str) -> Any:
    return pytest.importorskip(name, reason=f"{name} is not installed", exc_type=ImportError)


def colours(size: int) -> Any:
    return DRAWS.integers(0, 256, (size, size, 3), dtype=np.uint8)


@pytest.mark.parametrize(("radius", "sigma"), [(6, 1), (8, 2), (9, 2.5), (14, 12), (20, 15)])
@pytest.mark.parametrize("degrees", [-45, -30, 0, 12.3, 45, -90, -133.3])
@pytest.mark.parametrize("channels", [1, 3])
def test_motion_blur_is_imagemagicks(channels: int, degrees: float, radius: float, sigma: float) -> None:
    installed("wand.api")
    from wand.api import library
    from wand.image import Image as WandImage
    from wand.version import MAGICK_VERSION_INFO

    blurred = library.MagickMotionBlurImage
    blurred.argtypes = (ctypes.c_void_p, ctypes.c_double, ctypes.c_double, ctypes.c_double)
    image = colours(32)[..., :channels]
    Image.fromarray(image if channels == 3 else image[..., 0]).save(file := BytesIO(), "PNG")
    with WandImage(blob=file.getvalue()) as theirs:
        blurred(theirs.wand, radius, sigma, degrees)
        expected = np.asarray(Image.open(BytesIO(theirs.make_blob()))).reshape(image.shape)
    one = torch.from_numpy(image).permute(2, 0, 1)[None].contiguous()
    if CUTS_OFF <= MAGICK_VERSION_INFO < (7,):
        quanta = filters.motion_quanta(one, radius, sigma, [degrees])
        found = quanta.int().div(257, rounding_mode="floor")
    else:
        found = filters.motion(one, radius, sigma, [degrees]).int()
    gap = np.abs(found[0].permute(1, 2, 0).numpy() - expected)
    assert gap.max() <= 1
    assert (gap == 0).mean() > 0.999


@pytest.mark.parametrize("severity", corruptions.SEVERITIES)
@pytest.mark.parametrize("size", [32, 224])
def test_defocus_is_opencvs(size: int, severity: int) -> None:
    cv2 = installed("cv2")
    radius, alias_blur = parameters.row("defocus_blur", severity, size, size)
    reach, window = (8, 3) if radius <= 8 else (radius, 5)
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    disk = (x**2 + y**2 <= radius**2).astype(np.float32)
    disk = cv2.GaussianBlur(disk / disk.sum(), (window, window), alias_blur)
    image = colours(size)
    image[: size // 2, : size // 2] = 255
    channels = [cv2.filter2D(image[..., channel] / 255, -1, disk) for channel in range(3)]
    expected = np.uint8(np.clip(np.stack(channels), 0, 1) * 255)
    found = blur.defocus_blur(torch.from_numpy(image).permute(2, 0, 1)[None], [], radius, alias_blur)[0].numpy()
    gap = np.abs(found.astype(int) - expected)
    assert gap.max() <= 1
    assert (gap == 0).mean() > 0.9999


def test_a_fifth_of_a_photograph_is_opencvs() -> None:
    cv2 = installed("cv2")
    for height, width in ((330, 410), (331, 412), (333, 413), (334, 414)):
        photograph = DRAWS.integers(0, 256, (height, width, 3), dtype=np.uint8)
        expected = cv2.resize(photograph, (0, 0), fx=0.2, fy=0.2)
        found = photograph[2::5, 2::5]
        assert found.shape == expected.shape
        assert np.array_equal(found, expected)


def test_luma_is_opencvs() -> None:
    cv2 = installed("cv2")
    light = np.float32(colours(64)) / np.float32(255)
    found = weather.luma(torch.from_numpy(light).permute(2, 0, 1)[None])[0, 0].numpy()
    assert np.abs(found - cv2.cvtColor(light, cv2.COLOR_RGB2GRAY)).max() < 2e-7


@pytest.mark.parametrize("size", [9, 32, 225])
def test_the_warp_is_opencvs(size: int) -> None:
    cv2 = installed("cv2")
    shifts = DRAWS.uniform(-size / 9, size / 9, (4, 3, 2))
    light = np.float32(colours(size)) / np.float32(255)
    matrices = digital.matrices(shifts, size, size)
    found = digital.warp(torch.from_numpy(light).permute(2, 0, 1).expand(4, -1, -1, -1), matrices)
    third = size // 3 * np.array([[1, 1], [1, -1], [-1, -1]])
    before = np.float32(size // 2 + third)
    for one, shift in zip(found, shifts, strict=True):
        matrix = cv2.getAffineTransform(before, before + np.float32(shift))
        expected = cv2.warpAffine(light, matrix, (size, size), borderMode=cv2.BORDER_REFLECT_101)
        gap = np.abs(one.permute(1, 2, 0).numpy() - expected)
        if int(cv2.__version__.split(".")[0]) < 5:
            assert gap.max() < 1e-6
        else:  # 5 does not round places to 1/32 of a pixel: at most 1/64 off, each way, of neighbours that differ by 1
            assert gap.max() < 4 / 64
            assert gap.max() > 1e-6


@pytest.mark.parametrize("severity", corruptions.SEVERITIES)
def test_brightness_and_impulse_noise_are_scikit_images(severity: int) -> None:
    installed("skimage")
    from skimage.color import hsv2rgb, rgb2hsv
    from skimage.util import random_noise

    image = colours(32)
    image[:8] = image[:8, :, :1]
    image[8:12, :, 1] = image[8:12, :, 0]
    one = torch.from_numpy(image).permute(2, 0, 1)[None]

    hsv = rgb2hsv(image / 255)
    hsv[..., 2] = np.clip(hsv[..., 2] + parameters.row("brightness", severity, 32, 32)[0], 0, 1)
    expected = np.uint8(np.clip(hsv2rgb(hsv), 0, 1) * 255)
    found = corruptions.corrupt(one, "brightness", severity, seed=1)[0].permute(1, 2, 0).numpy()
    assert np.array_equal(found, expected)

    amount = parameters.row("impulse_noise", severity, 32, 32)[0]
    noisy = random_noise(image / 255, "s&p", amount=amount, rng=generator(1, "impulse_noise", severity, 0))
    found = corruptions.corrupt(one, "impulse_noise", severity, seed=1)[0].permute(1, 2, 0).numpy()
    assert np.array_equal(found, np.uint8(noisy * 255))


@pytest.mark.parametrize("severity", corruptions.SEVERITIES)
def test_the_blur_of_glass_is_scikit_images(severity: int) -> None:
    installed("skimage")
    from skimage.filters import gaussian

    image = colours(32) / 255
    sigma = parameters.row("glass_blur", severity, 32, 32)[0]
    found = filters.gaussian(torch.from_numpy(image).permute(2, 0, 1)[None], sigma)[0].permute(1, 2, 0).numpy()
    assert np.array_equal(found, gaussian(image, sigma=sigma, channel_axis=-1))
