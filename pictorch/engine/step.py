"""One training step: a batch in, moved parameters out. Nothing in it reads the device."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from pictorch import losses, optim
from pictorch.data.pipeline import Batch, Share
from pictorch.engine.distributed import ALONE, World
from pictorch.engine.precision import Precision
from pictorch.optim.sam import SAM


@dataclass(frozen=True)
class Update:
    """How one update of the parameters is computed.

    The loss of the network's auxiliary heads is added with `auxiliary_weights`. The gradients are computed in
    `accumulate` parts of the batch one after the other, and are those of the whole batch but for what batch norm sees;
    the norm of the whole batch's gradient is clipped to `clip_norm`. `norms` are the network's batch norms. Of several
    processes, a `world`, each has a part of the batch; the gradients and the norms' statistics are those of all.
    """

    precision: Precision
    loss: losses.Loss = losses.LOSSES["cross_entropy"]
    auxiliary_weights: Sequence[float] = ()
    accumulate: int = 1
    clip_norm: float | None = None
    norms: Sequence[_BatchNorm] = ()
    world: World = ALONE


def train_step(
    forward: Callable[[Tensor], Any], optimizer: torch.optim.Optimizer, batch: Batch, *, lr: float, update: Update
) -> tuple[Tensor, Tensor]:
    """Update the parameters behind `forward` on one batch; return the mean loss [] and the logits [B,K] before it.

    With auxiliary weights, `forward` returns as many further logits. Of several views of an image the logits are those
    of the first.
    """
    optim.set_lr(optimizer, lr)
    return move(forward, optimizer, batch, update)


def move(
    forward: Callable[[Tensor], Any], optimizer: torch.optim.Optimizer, batch: Batch, update: Update
) -> tuple[Tensor, Tensor]:
    """Do a `train_step` at the learning rate that the optimiser has: all of it on the device."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    loss, logits = gradients(forward, batch, update)
    update.world.mean_([*slopes(parameters), *statistics(update.norms)])
    if isinstance(optimizer, SAM):
        optimizer.ascend()
        optimizer.zero_grad(set_to_none=True)
        with statistics_kept(update.norms):
            gradients(forward, batch, update)
        update.world.mean_(slopes(parameters))
    if update.clip_norm is not None:
        optim.clip(parameters, update.clip_norm)
    optim.step(optimizer)
    optimizer.zero_grad(set_to_none=True)
    return loss, logits


def gradients(forward: Callable[[Tensor], Any], batch: Batch, update: Update) -> tuple[Tensor, Tensor]:
    """Add the gradients of the batch's mean loss to the parameters; return that loss [] and the logits [B,K]."""
    parts = list(split(batch, update.accumulate, update.loss.views)) if update.accumulate > 1 else [batch]
    total, logits = None, []
    for some in parts:
        with update.precision.autocast():
            outputs = answers(forward, some.images, update.loss)
        heads = outputs if update.auxiliary_weights else (outputs,)
        loss = update.loss(heads[0], some.targets)
        for weight, head in zip(update.auxiliary_weights, heads[1:], strict=True):
            loss = loss + weight * update.loss(head, some.targets)
        if len(parts) > 1:
            loss = loss * (len(some.labels) / len(batch.labels))
        loss.backward()  # type: ignore[no-untyped-call]
        total = loss.detach() if total is None else total + loss.detach()
        logits.append(heads[0].detach()[: len(some.labels)])
    assert total is not None
    return total, torch.cat(logits) if len(logits) > 1 else logits[0]


def answers(forward: Callable[[Tensor], Any], images: Tensor, loss: losses.Loss) -> Any:
    """Return what `forward` says of images [V*B,C,H,W]: of all at once, or of one view after the other."""
    if loss.views == 1 or loss.joint:
        return forward(images)
    each = [forward(view) for view in images.chunk(loss.views)]
    return tuple(map(torch.cat, zip(*each, strict=True))) if isinstance(each[0], tuple) else torch.cat(each)


def split(batch: Batch, parts: int, views: int) -> Iterator[Batch]:
    """Yield consecutive parts of the batch, as equal as can be and none empty, each with all views of its images."""
    n = len(batch.labels)
    for index in range(parts):
        share = Share(index, parts)
        at = share.positions(n)
        if at.start < at.stop:
            yield share.take(batch, views)


def slopes(parameters: Sequence[Tensor]) -> list[Tensor]:
    """Return the gradients that there are."""
    return [parameter.grad for parameter in parameters if parameter.grad is not None]


def statistics(norms: Sequence[_BatchNorm]) -> list[Tensor]:
    """Return the norms' running means and variances."""
    return [each for norm in norms for each in (norm.running_mean, norm.running_var) if each is not None]


@contextmanager
def statistics_kept(norms: Sequence[_BatchNorm]) -> Iterator[None]:
    """Leave the norms' running statistics as they are: those of SAM's first pass are at the weights themselves."""
    before = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, before, strict=True):
            norm.momentum = momentum


def batch_norms(model: nn.Module) -> tuple[_BatchNorm, ...]:
    """Return the batch norms of a network."""
    return tuple(module for module in model.modules() if isinstance(module, _BatchNorm))
