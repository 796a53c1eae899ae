"""One training step: a batch in, moved parameters out. Nothing in it reads the device."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from pictorch.data.pipeline import Batch
from pictorch.engine.precision import Precision
from pictorch.losses import cross_entropy


def train_step(
    forward: Callable[[Tensor], Any],
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    *,
    lr: float,
    precision: Precision,
    auxiliary_weights: Sequence[float] = (),
) -> tuple[Tensor, Tensor]:
    """Update the parameters behind `forward` on one batch; return the mean loss [] and the logits [N,K] before it.

    With `auxiliary_weights`, `forward` returns as many further logits [N,K], whose losses are added with these weights.
    """
    for group in optimizer.param_groups:
        group["lr"] = lr
    with precision.autocast():
        outputs = forward(batch.images)
    logits, *others = outputs if auxiliary_weights else (outputs,)
    loss = cross_entropy(logits, batch.targets)
    for weight, other in zip(auxiliary_weights, others, strict=True):
        loss = loss + weight * cross_entropy(other, batch.targets)
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return loss.detach(), logits.detach()
