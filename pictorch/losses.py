"""Losses: logits and target distributions in, one scalar out.

    loss = create("focal", gamma=1.5)
    loss(logits, targets)

Targets are soft everywhere, so that mixes and label smoothing go with every loss.
"""

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import NamedTuple, final

import torch
import torch.nn.functional as F
from torch import Tensor

from pictorch.config.errors import OptionError, nearest
from pictorch.config.keywords import check_keywords, show


@final
class Loss(NamedTuple):
    """A loss as training calls it: logits [V*B,K], targets [B,K] -> float32 [], whatever the logits' type.

    V is the number of `views` of each image, whose logits are stacked: all first views, all second ... The views of a
    `joint` loss go through the network together; else each is a forward pass of its own, with its own statistics of
    batch normalisation.
    """

    function: Callable[[Tensor, Tensor], Tensor]
    views: int = 1
    joint: bool = True

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        return self.function(logits.to(torch.float32), targets)


def create(name: str, **options: object) -> Loss:
    """Return the loss `name`, one of LOSSES, with the options of its function.

    Raises OptionError, a ValueError, for an unknown name or option and for a value of the wrong type or below 0.
    """
    if name not in LOSSES:
        raise OptionError(name, None, f"unknown loss{nearest(name, LOSSES)}")
    loss = LOSSES[name]
    check_keywords(loss.function, options, owner=name, given=frozenset({"logits", "targets"}))
    for option, value in options.items():
        if isinstance(value, float | int) and not value >= 0:
            raise OptionError(name, option, f"expected a number of at least 0, got {show(value)}")
    return loss._replace(function=partial(loss.function, **options))


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the mean cross-entropy of logits [N,K] against target distributions [N,K], in float32.

    Soft targets serve mixup, CutMix and label smoothing alike; with a one-hot target it is the usual cross-entropy.
    """
    return F.cross_entropy(logits.to(torch.float32), targets)


def binary_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the binary cross-entropy of each class on its own, the mean over all images and classes.

    ResNet strikes back (arXiv:2110.00476) trains with it. The mean over classes is that of timm's program
    and of torch; its gradient is K times smaller than that of their sum, which matters to the learning rate of SGD.
    Targets stay as soft as they are: there is no threshold above which a share of an image counts as the whole.
    """
    return F.binary_cross_entropy_with_logits(logits, targets)


def focal(logits: Tensor, targets: Tensor, *, gamma: float = 2.0, alpha: float | None = None) -> Tensor:
    """Return the mean over images of -alpha * sum_k t_k (1 - p_k)^gamma log p_k, p the softmax of the logits.

    The focal loss of arXiv:1708.02002 (equation 5) for K exclusive classes; the paper has the same for two. With
    `gamma` 0 and without `alpha`, a factor for all classes, it is the cross-entropy.
    """
    log_p = logits.log_softmax(dim=1)
    # Where p rounds to 1, the power's slope would be infinite for gamma < 1, and the gradient not a number.
    rest = (-torch.expm1(log_p)).clamp(min=torch.finfo(logits.dtype).tiny)
    loss = -(targets * rest**gamma * log_p).sum(dim=1).mean()
    return loss if alpha is None else alpha * loss


def dual_cutout(logits: Tensor, targets: Tensor, *, alpha: float = 0.1) -> Tensor:
    """Return (CE1 + CE2) / 2 + alpha * MSE(logits1, logits2) of two views of each image (arXiv:1802.07426).

    logits: [2B,K]. The mean squared error is over images and classes. 0.1 is the paper's for CIFAR, the default of its
    program 0.01.
    """
    first, second = logits.chunk(2)
    return F.cross_entropy(logits, targets.repeat(2, 1)) + alpha * F.mse_loss(first, second)


def augmix(logits: Tensor, targets: Tensor, *, alpha: float = 12.0) -> Tensor:
    """Return CE of the clean view + alpha * JSD of the answers to three views (AugMix, arXiv:1912.02781, section 3).

    logits: [3B,K], the clean images first. JSD, the Jensen-Shannon divergence, is the mean over the views of
    KL(p_view || M), and over images, with M the mean of the three distributions, clamped at 1e-7 as in the authors'
    code, which has alpha 12 as well.
    """
    log_p = logits.log_softmax(dim=1).view(3, *targets.shape)
    mixture = log_p.exp().mean(dim=0).clamp(min=1e-7).log().expand_as(log_p)
    # By log p the gradient is finite where p is 0, too, unlike that of F.kl_div(mixture, p).
    divergence = (log_p.exp() * (log_p - mixture)).sum(dim=2).mean()
    return F.cross_entropy(logits[: len(targets)], targets) + alpha * divergence


LOSSES: Mapping[str, Loss] = MappingProxyType(
    {
        "cross_entropy": Loss(cross_entropy),
        "bce": Loss(binary_cross_entropy),
        "focal": Loss(focal),
        "dual_cutout": Loss(dual_cutout, views=2, joint=False),
        "augmix": Loss(augmix, views=3),
    }
)
