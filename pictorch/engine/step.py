"""One training step: a batch in, moved parameters out. Nothing in it reads the device."""

from collections.abc import Callable

import torch
from torch import Tensor

from pictorch.data.loader import Batch
from pictorch.engine.precision import Precision
from pictorch.losses import cross_entropy


def train_step(
    forward: Callable[[Tensor], Tensor],
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    *,
    lr: float,
    precision: Precision,
) -> tuple[Tensor, Tensor]:
    """Update the parameters behind `forward` on one batch; return the mean loss [] and the logits [N,K] before it."""
    for group in optimizer.param_groups:
        group["lr"] = lr
    with precision.autocast():
        logits = forward(batch.images)
    loss = cross_entropy(logits, batch.targets)
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return loss.detach(), logits.detach()
