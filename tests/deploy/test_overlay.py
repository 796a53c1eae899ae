"""Heat over an image: what is cold stays as it is, what is hot has the map's colours."""

import io

import numpy as np
import pytest
import torch
from matplotlib import colormaps
from PIL import Image

from pictorch.deploy.overlay import OPACITY, as_png, figure, overlay, picture


@pytest.mark.parametrize(("channels", "size", "side"), [(1, 8, 256), (3, 32, 256), (3, 28, 280), (3, 224, 448)])
def test_small_images_are_enlarged_by_a_whole_number(channels: int, size: int, side: int) -> None:
    pixels = torch.randint(0, 256, (channels, size, size), dtype=torch.uint8)
    drawn = overlay(pixels, torch.zeros(size, size))
    assert (drawn.mode, drawn.size) == ("RGB", (side, side))
    assert drawn.tobytes() == picture(pixels).tobytes()
    inner = np.asarray(drawn)[:: side // size, :: side // size]
    assert np.array_equal(inner, pixels.expand(3, -1, -1).permute(1, 2, 0).numpy())
    assert overlay(pixels, torch.zeros(size, size), scale=1).size == (size, size)


@pytest.mark.parametrize("heat", [0.25, 0.5, 1.0])
def test_heat_is_mixed_with_the_image(heat: float) -> None:
    pixels = torch.full((1, 8, 8), 100, dtype=torch.uint8)
    drawn = np.asarray(overlay(pixels, torch.full((8, 8), heat), scale=2)).astype(float)
    colour = np.array(colormaps["inferno"](round(255 * heat))[:3]) * 255
    expected = 100 * (1 - OPACITY * heat) + colour * OPACITY * heat
    np.testing.assert_allclose(drawn, np.broadcast_to(expected, drawn.shape), atol=0.51)


def test_the_hottest_place_is_where_the_map_has_it() -> None:
    heat = torch.zeros(8, 8)
    heat[1, 6] = 1
    drawn = np.asarray(overlay(torch.zeros(3, 8, 8, dtype=torch.uint8), heat, scale=10)).sum(2)
    row, column = np.unravel_index(drawn.argmax(), drawn.shape)
    assert (row // 10, column // 10) == (1, 6)


def test_a_figure_has_any_title() -> None:
    image = Image.new("RGB", (16, 16))
    content = figure([("a_b$x", image), ("gradcam", image)], "100% $\\frac 语言\nx" + "y" * 200)
    with Image.open(io.BytesIO(content)) as drawn:
        assert drawn.format == "PNG"
        assert drawn.width > drawn.height
    with Image.open(io.BytesIO(as_png(image))) as plain:
        assert plain.size == (16, 16)
