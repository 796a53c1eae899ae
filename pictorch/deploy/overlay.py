"""Heat-maps as pictures: laid over their image, and beside it with a title."""

import io
import warnings
from collections.abc import Sequence
from functools import cache

import numpy as np
import numpy.typing as npt
from PIL import Image
from torch import Tensor

COLOURS = "inferno"  # of matplotlib, perceptually uniform
OPACITY = 0.75  # of the hottest pixel; what is cold is clear
SHORTEST = 256  # pixels a side that small images are enlarged to, by a whole number


def overlay(pixels: Tensor, heatmap: Tensor, *, scale: int | None = None) -> Image.Image:
    """Return an image uint8 [C,S,S], C being 1 or 3, with a heat-map [S,S] from 0 to 1 over it, RGB.

    Each pixel of the image becomes `scale` x `scale` pixels (so many that there are 256 a side or more), and heat
    lies over it the more opaque, the hotter it is.
    """
    base = np.asarray(picture(pixels, scale=scale), dtype=np.float32)
    smooth = Image.fromarray(heatmap.numpy().astype(np.float32)).resize(base.shape[1::-1], Image.Resampling.BILINEAR)
    heat = np.asarray(smooth).clip(0, 1)
    colours = colour_table()[(heat * 255).round().astype(np.uint8)]
    opacity = OPACITY * heat[..., None]
    return Image.fromarray((base * (1 - opacity) + colours * opacity).round().astype(np.uint8))


def picture(pixels: Tensor, *, scale: int | None = None) -> Image.Image:
    """Return an image uint8 [C,S,S] as RGB, each pixel `scale` x `scale` large."""
    scale = scale or max(-(-SHORTEST // pixels.shape[2]), 1)
    values = pixels.expand(3, -1, -1).permute(1, 2, 0).contiguous().numpy()
    return Image.fromarray(values.repeat(scale, 0).repeat(scale, 1))


@cache
def colour_table() -> npt.NDArray[np.float32]:
    """Return the colours float32 [256,3] from 0 to 255, cold ones first."""
    from matplotlib import colormaps

    return np.array(colormaps[COLOURS](np.arange(256))[:, :3] * 255, dtype=np.float32)


def as_png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def figure(panels: Sequence[tuple[str, Image.Image]], title: str) -> bytes:
    """Return a PNG of the pictures side by side, each under its name, and a title over all."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    drawn = Figure(figsize=(2.7 * len(panels), 3.3))
    FigureCanvasAgg(drawn)
    drawn.subplots_adjust(left=0.02, right=0.98, bottom=0.02, top=0.82, wspace=0.05)
    for place, (name, image) in enumerate(panels, 1):
        axes = drawn.add_subplot(1, len(panels), place)
        axes.imshow(np.asarray(image), interpolation="none")
        axes.set_axis_off()
        axes.set_title(name, fontsize=8, parse_math=False)
    drawn.suptitle(title, fontsize=9, y=0.98, va="top", parse_math=False)
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # a name in letters that the font lacks
        drawn.savefig(buffer, format="png", dpi=120)
    return buffer.getvalue()
