"""Lion: steps of one size by the sign of a momentum (Chen et al., arXiv:2302.06675, Program 1)."""

from typing import Any

import torch
from torch import Tensor

from pictorch.optim.moments import gather


class Lion(torch.optim.Optimizer):
    """w <- w - lr (sign(b1 m + (1 - b1) g) + weight_decay w), then m <- b2 m + (1 - b2) g."""

    def __init__(
        self, params: Any, *, lr: float | Tensor, betas: tuple[float, float] = (0.9, 0.99), weight_decay: float = 0.0
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Move the parameters by their gradients; a closure is not called."""
        for group in self.param_groups:
            params, grads, momenta = gather(self, group, "momentum")
            if not params:
                continue
            lr, (beta1, beta2) = group["lr"], group["betas"]
            updates = list(torch._foreach_lerp(momenta, grads, 1 - beta1))
            torch._foreach_sign_(updates)
            torch._foreach_add_(updates, params, alpha=group["weight_decay"])
            torch._foreach_mul_(updates, lr)
            torch._foreach_sub_(params, updates)
            torch._foreach_lerp_(momenta, grads, 1 - beta2)
