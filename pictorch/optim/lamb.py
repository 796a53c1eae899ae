"""LAMB: Adam whose steps are scaled by each layer's norms (You et al., arXiv:1904.00962, Algorithm 2)."""

from typing import Any

import torch
from torch import Tensor

from pictorch.optim.moments import adam_direction, gather


class LAMB(torch.optim.Optimizer):
    """w <- w - lr |w| / |u| u, where u is Adam's direction plus weight_decay w, for each parameter.

    The ratio is 1 where one of the norms is 0, and for gains and biases, of fewer than two dimensions, unless
    `scale_vectors`: the authors' code leaves them out as well.
    """

    def __init__(
        self,
        params: Any,
        *,
        lr: float | Tensor,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.0,
        scale_vectors: bool = False,
    ) -> None:
        self.scale_vectors = scale_vectors
        # capturable: torch then loads "step" to the parameter's device.
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "capturable": True}
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Move the parameters by their gradients; a closure is not called."""
        for group in self.param_groups:
            params, *lists = gather(self, group, "exp_avg", "exp_avg_sq", "step")
            if not params:
                continue
            updates = adam_direction(*lists, betas=group["betas"], eps=group["eps"])
            torch._foreach_add_(updates, params, alpha=group["weight_decay"])
            scaled = [i for i, p in enumerate(params) if self.scale_vectors or p.ndim > 1]
            if scaled:
                ratios = trust([params[i] for i in scaled], [updates[i] for i in scaled])
                torch._foreach_mul_([updates[i] for i in scaled], ratios.unbind())
            torch._foreach_mul_(updates, group["lr"])
            torch._foreach_sub_(params, updates)


def trust(params: list[Tensor], updates: list[Tensor]) -> Tensor:
    """Return |w| / |u| [parameters], 1 where one of them is 0."""
    weights, moves = torch.stack(torch._foreach_norm(params)), torch.stack(torch._foreach_norm(updates))
    return torch.where((weights > 0) & (moves > 0), weights / moves, torch.ones_like(weights))
