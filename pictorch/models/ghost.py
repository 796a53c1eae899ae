"""Ghost batch normalisation (Hoffer et al., arXiv:1705.08741, Algorithm 1): statistics of parts of the batch.

    ghost_batch_norm(model, groups=4)                  each quarter of a batch is normalised by its own statistics

A large batch on one device then trains as the same batch on `groups` processes does, and as small batches do.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm


class GhostBatchNorm(_BatchNorm):
    """BN [N, C, ...] that in training normalises `groups` equal parts of the batch, in order, each on its own.

    The running statistics move once a batch, by the mean over the parts of their means and unbiased variances.
    """

    groups: int

    def _check_input_dim(self, input: Tensor) -> None:
        pass

    def forward(self, input: Tensor) -> Tensor:
        """Return input [N, C, ...] normalised. Raises ValueError where the parts would not be equal."""
        if not self.training or self.groups == 1:
            return super().forward(input)
        if len(input) % self.groups:
            raise ValueError(f"a batch of {len(input)} images does not divide into {self.groups} ghost batches")
        # A part is contiguous memory, so the fused kernel runs on it as it is; momentum 1 leaves a part's own
        # statistics in its row.
        dtype = torch.promote_types(input.dtype, torch.float32)
        means, variances = input.new_zeros(2, self.groups, self.num_features, dtype=dtype)
        parts = [
            F.batch_norm(part, mean, variance, self.weight, self.bias, training=True, momentum=1.0, eps=self.eps)
            for part, mean, variance in zip(input.chunk(self.groups), means, variances, strict=True)
        ]
        self.move_statistics(means.mean(0), variances.mean(0))
        return torch.cat(parts)

    @torch.no_grad()
    def move_statistics(self, mean: Tensor, variance: Tensor) -> None:
        """Count a batch of these statistics [C], as nn.BatchNorm2d does."""
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        # No momentum: the plain mean over all batches. A tensor, since reading the count would wait for the device.
        weight = 1 / self.num_batches_tracked.to(mean.dtype) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, weight)
        self.running_var.lerp_(variance, weight)


def ghost_batch_norm(model: nn.Module, groups: int) -> nn.Module:
    """Make each BN of `model` normalise `groups` parts of the batch on their own, in place; return the model.

    Evaluation and the state dict are as before. Raises ValueError for fewer than one group.
    """
    if groups < 1:
        raise ValueError(f"ghost batch norm: expected at least 1 group, got {groups}")
    for module in model.modules():
        # Subclasses are left alone: a frozen BN takes no statistics, and another's forward is not ours to replace.
        if type(module) in (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d):
            module.__class__ = GhostBatchNorm
            module.__dict__["groups"] = groups
    return model
