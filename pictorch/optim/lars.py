"""LARS: SGD whose steps are scaled by each layer's norms (You et al., arXiv:1708.03888, section 4, Algorithm 1)."""

from typing import Any

import torch
from torch import Tensor

from pictorch.optim.moments import gather


class LARS(torch.optim.Optimizer):
    """v <- momentum v + lr L (g + weight_decay w), then w <- w - v, with a factor L for each parameter.

    L = trust_coefficient |w| / (|g| + weight_decay |w| + eps), and 1 where |w| is `threshold` or less: a tensor that
    starts at zero would stay there. Gains and biases, of fewer than two dimensions, have L = 1 unless `scale_vectors`:
    so do the published large-batch runs, and one number's ratio of norms says nothing. Seed document 2's program is
    trust_coefficient=1, eps=1e-9, threshold=1e-2, scale_vectors=True.
    """

    def __init__(
        self,
        params: Any,
        *,
        lr: float | Tensor,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        trust_coefficient: float = 0.001,
        eps: float = 1e-9,
        threshold: float = 0.0,
        scale_vectors: bool = False,
    ) -> None:
        self.scale_vectors = scale_vectors
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "trust_coefficient": trust_coefficient,
            "eps": eps,
            "threshold": threshold,
        }
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Move the parameters by their gradients; a closure is not called."""
        for group in self.param_groups:
            params, grads, velocities = gather(self, group, "momentum_buffer")
            if not params:
                continue
            updates = list(torch._foreach_add(grads, params, alpha=group["weight_decay"]))
            scaled = [i for i, p in enumerate(params) if self.scale_vectors or p.ndim > 1]
            if scaled:
                factors = trust([params[i] for i in scaled], [grads[i] for i in scaled], group)
                torch._foreach_mul_([updates[i] for i in scaled], factors.unbind())
            torch._foreach_mul_(updates, group["lr"])
            torch._foreach_mul_(velocities, group["momentum"])
            torch._foreach_add_(velocities, updates)
            torch._foreach_sub_(params, velocities)


def trust(params: list[Tensor], grads: list[Tensor], group: dict[str, Any]) -> Tensor:
    """Return the factors L [parameters]."""
    weights, gradients = torch.stack(torch._foreach_norm(params)), torch.stack(torch._foreach_norm(grads))
    factors = group["trust_coefficient"] * weights / (gradients + group["weight_decay"] * weights + group["eps"])
    return torch.where(weights <= group["threshold"], torch.ones_like(factors), factors)
