"""Losses: logits and a target distribution in, one scalar out."""

import torch
import torch.nn.functional as F
from torch import Tensor


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the mean cross-entropy of logits [N,K] against target distributions [N,K], in float32.

    Soft targets serve mixup, CutMix and label smoothing alike; with a one-hot target it is the usual cross-entropy.
    """
    return F.cross_entropy(logits.to(torch.float32), targets)
