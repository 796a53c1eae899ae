"""Whether a network's answers tell images of its own kind from strangers: out-of-distribution detection.

Scores, all larger for what the network knows: the largest probability (D. Hendrycks and K. Gimpel, arXiv:1610.02136),
the largest logit (D. Hendrycks et al., arXiv:1911.11132) and the negative energy, the logarithm of the sum of the
logits' exponentials (W. Liu et al., arXiv:2010.03759).
"""

from collections.abc import Callable

import torch
from torch import Tensor


def largest_odds(logits: Tensor) -> Tensor:
    """Return the logarithm of the largest probability's odds [N]: in its order, also where it rounds to 1."""
    values, places = logits.double().max(dim=1)
    others = logits.double().scatter(1, places[:, None], -torch.inf)
    return values - others.logsumexp(dim=1)


SCORES: dict[str, Callable[[Tensor], Tensor]] = {
    "largest probability": largest_odds,
    "largest logit": lambda logits: logits.double().max(dim=1).values,
    "energy": lambda logits: logits.double().logsumexp(dim=1),
}


def auroc(own: Tensor, strangers: Tensor) -> float:
    """Return the probability (0..1) that an own image's score [N] is above a stranger's [M]; equal ones count half."""
    order = strangers.sort().values
    below = torch.searchsorted(order, own.contiguous(), right=False)
    up_to = torch.searchsorted(order, own.contiguous(), right=True)
    return float((below + up_to).double().mean() / (2 * len(order)))


def accepted_at(own: Tensor, strangers: Tensor, *, kept: float = 0.95) -> float:
    """Return the share (0..1) of strangers that pass a threshold which at least a share `kept` of own images passes."""
    rank = int(len(own) - -(-kept * len(own) // 1))
    threshold = own.sort().values[rank]
    return float((strangers >= threshold).double().mean())
