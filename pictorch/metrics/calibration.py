"""Whether probabilities are worth what they say: proper scores, calibration errors, temperature scaling.

Expected calibration error: images are put into bins by the probability of their answer; the mean over images of the
distance between a bin's accuracy and its mean probability (C. Guo, G. Pleiss, Y. Sun, K. Weinberger, On Calibration of
Modern Neural Networks, arXiv:1706.04599, section 2). Its bins are equally wide; adaptive ones hold equally many images
(J. Nixon et al., Measuring Calibration in Deep Learning, arXiv:1904.01685, section 4).
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

BINS = 15  # as in Guo et al.
COLDEST, HOTTEST = 1e-3, 1e3  # temperatures looked at
NEWTON_STEPS = 60


class Scores(NamedTuple):
    """What is known of each of N images, float64 [N]: negative log-likelihood (nats), Brier score (0..2), probability
    of the answer, and 1.0 where it is right."""

    nll: Tensor
    brier: Tensor
    confidence: Tensor
    right: Tensor


class Bins(NamedTuple):
    """Bins of images by confidence, [M] each: how many images, their mean confidence and accuracy (0..1; 0 if none)."""

    images: Tensor
    confidence: Tensor
    accuracy: Tensor

    @property
    def error(self) -> float:
        """Expected calibration error, 0..1."""
        share = self.images.double() / self.images.sum()
        return float((share * (self.accuracy - self.confidence).abs()).sum())


def scores(logits: Tensor, labels: Tensor, temperature: float = 1.0) -> Scores:
    """Return the scores of logits [N,K], divided by a temperature, for labels int64 [N].

    The Brier score is the squared distance between the probabilities and the label (G. Brier 1950, over all classes).
    """
    logs = (logits.double() / temperature).log_softmax(dim=1)
    probabilities = logs.exp()
    of_label = probabilities.gather(1, labels[:, None])[:, 0]
    # The logits decide, as in `ranked`.
    answers = logits.argmax(dim=1)
    return Scores(
        nll=-logs.gather(1, labels[:, None])[:, 0],
        brier=probabilities.square().sum(dim=1) - 2 * of_label + 1,
        confidence=probabilities.gather(1, answers[:, None])[:, 0],
        right=(answers == labels).double(),
    )


def equally_wide(confidence: Tensor, bins: int = BINS) -> Tensor:
    """Return the bin int64 [N] of each confidence [N]: ((b / bins, (b + 1) / bins], and 0 in the first."""
    return ((confidence * bins).ceil().to(torch.int64) - 1).clamp(0, bins - 1)


def equally_full(confidence: Tensor, bins: int = BINS) -> Tensor:
    """Return the bin int64 [N] of each confidence [N], bounded by quantiles; equal confidences share one."""
    bounds = torch.quantile(confidence, torch.linspace(0, 1, bins + 1, dtype=confidence.dtype)[1:-1])
    return torch.bucketize(confidence, bounds.contiguous())


def binned(found: Scores, places: Tensor, bins: int = BINS) -> Bins:
    """Return the bins of images by their places int64 [N]."""
    images, confidence, right = (
        torch.zeros(bins, dtype=torch.float64).index_add(0, places, values)
        for values in (torch.ones_like(found.right), found.confidence, found.right)
    )
    least = images.clamp(min=1)
    return Bins(images.to(torch.int64), confidence / least, right / least)


def temperature(logits: Tensor, labels: Tensor) -> float:
    """Return the temperature by which logits [N,K] are divided for the least negative log-likelihood of labels [N].

    That is convex in the inverse of the temperature, so that Newton's method, kept between bounds, finds it; where the
    least lies beyond COLDEST or HOTTEST (every answer is right; the logits say nothing), that bound (Guo et al.,
    section 4.2).
    """
    values = logits.double() - logits.double().max(dim=1, keepdim=True).values
    of_label = values.gather(1, labels[:, None])[:, 0].mean()
    low, high = math.log(1 / HOTTEST), math.log(1 / COLDEST)
    at = 0.0  # the logarithm of the inverse temperature
    for _ in range(NEWTON_STEPS):
        inverse = math.exp(at)
        weights = (values * inverse).softmax(dim=1)
        mean = (weights * values).sum(dim=1)
        slope = float(mean.mean() - of_label) * inverse
        low, high = (low, at) if slope > 0 else (at, high)
        bend = float(((weights * values.square()).sum(dim=1) - mean.square()).mean()) * inverse**2 + slope
        step = at - slope / bend if bend > 0 else math.inf
        following = step if low < step < high else (low + high) / 2
        if abs(following - at) < 1e-9:
            break
        at = following
    return math.exp(-at)
