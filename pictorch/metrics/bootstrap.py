"""How far a figure of N test images may be off: the bootstrap over images (Efron and Tibshirani 1993, chapter 13).

A figure that is a function of sums over images is resampled as such: the sums of each resample are one product of how
often it drew each image with the images' values.
"""

from collections.abc import Callable
from statistics import NormalDist

import numpy as np
import torch
from torch import Tensor

LEVEL = 0.95
RESAMPLES = 2000
AT_ONCE = 50
NORMAL = NormalDist().inv_cdf((1 + LEVEL) / 2)  # standard errors on each side of a mean that LEVEL takes in

Figure = Callable[[Tensor], Tensor]  # sums [B,J] -> the figure of each resample [B]


def interval(
    values: Tensor, figure: Figure, *, bounds: tuple[float, float] | None = None, basic: bool = False
) -> tuple[float, float]:
    """Return the interval of LEVEL of a figure of the columns' sums of values float64 [N,J]; the same at each call.

    The percentile interval; the basic one, cut off at `bounds`, of figures that resampling makes larger, as it does
    distances: an expected calibration error's percentiles may lie above it altogether (ibid., section 13.4).
    """
    n = len(values)
    draws = np.random.RandomState(0)  # the one stream that NumPy promises to keep
    found = []
    for start in range(0, RESAMPLES, AT_ONCE):
        rows = min(AT_ONCE, RESAMPLES - start)
        drawn = torch.from_numpy(draws.randint(n, size=(rows, n)))
        often = torch.zeros(rows, n, dtype=values.dtype).scatter_add_(
            1, drawn, torch.ones_like(drawn, dtype=values.dtype)
        )
        found.append(figure(often @ values))
    quantiles = torch.tensor([(1 - LEVEL) / 2, (1 + LEVEL) / 2], dtype=values.dtype)
    low, high = torch.quantile(torch.cat(found), quantiles).tolist()
    if basic:
        [here] = figure(values.sum(dim=0, keepdim=True)).tolist()
        low, high = 2 * here - high, 2 * here - low
    if bounds:
        low, high = (min(max(end, bounds[0]), bounds[1]) for end in (low, high))
    return low, high


def mean_interval(values: Tensor) -> tuple[float, float]:
    """Return the interval of the mean of values [N]."""
    n = len(values)
    return interval(values.double()[:, None], lambda sums: sums[:, 0] / n)


def share_interval(hits: Tensor) -> tuple[float, float]:
    """Return the interval of the mean of hits [N], each 0 or 1; Wilson's (1927) where all are the same.

    Of those every resample has the same mean, and an interval of no width would say that a hundred images are certain.
    """
    n = len(hits)
    share = float(hits.double().mean())
    if 0 < share < 1:
        return mean_interval(hits)
    reach = NORMAL**2 / (n + NORMAL**2)
    return (1 - reach, 1.0) if share else (0.0, reach)


def calibration_interval(confidence: Tensor, right: Tensor, places: Tensor, bins: int) -> tuple[float, float]:
    """Return the interval of the expected calibration error (0..1) of confidences and hits [N] in bins int64 [N]."""
    n = len(places)
    gaps = torch.zeros(n, bins, dtype=torch.float64)
    gaps[torch.arange(n), places] = right.double() - confidence.double()
    return interval(gaps, lambda sums: sums.abs().sum(dim=1) / n, bounds=(0.0, 1.0), basic=True)
