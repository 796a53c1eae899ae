"""AdaBound: Adam whose rates are held between bounds that close in on SGD's (Luo et al., arXiv:1902.09843).

As in the authors' code (github.com/Luolc/AdaBound): the final rate follows the schedule, and AdaBoundW's decay, which
seed document 2's program used, is weight_decay w a step, whatever the learning rate.
"""

from typing import Any

import torch
from torch import Tensor

from pictorch.optim.moments import gather, move_moments


class AdaBound(torch.optim.Optimizer):
    """w <- w - clip(lr sqrt(1 - b2^t) / (1 - b1^t) / (sqrt(v) + eps), low, high) m, element by element.

    low = f (1 - 1 / (gamma t + 1)) and high = f (1 + 1 / (gamma t)) with f = final_lr times the learning rate over its
    first value. The decay is added to the gradient, or taken from the weights where `decoupled` (AdaBoundW).
    """

    def __init__(
        self,
        params: Any,
        *,
        lr: float | Tensor,
        betas: tuple[float, float] = (0.9, 0.999),
        final_lr: float = 0.1,
        gamma: float = 1e-3,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        decoupled: bool = False,
    ) -> None:
        self.decoupled = decoupled
        self.first_lr = lr.clone() if isinstance(lr, Tensor) else lr
        # capturable: torch then loads "step" to the parameter's device.
        defaults = {"lr": lr, "betas": betas, "final_lr": final_lr, "gamma": gamma, "eps": eps, "capturable": True}
        super().__init__(params, {**defaults, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Move the parameters by their gradients; a closure is not called."""
        for group in self.param_groups:
            params, grads, firsts, seconds, steps = gather(self, group, "exp_avg", "exp_avg_sq", "step")
            if not params:
                continue
            if not self.decoupled:
                grads = list(torch._foreach_add(grads, params, alpha=group["weight_decay"]))
            step = move_moments(grads, firsts, seconds, steps, group["betas"])
            updates = self.rates(seconds, step, group)
            torch._foreach_mul_(updates, firsts)
            if self.decoupled:
                torch._foreach_add_(updates, params, alpha=group["weight_decay"])
            torch._foreach_sub_(params, updates)

    def rates(self, seconds: list[Tensor], step: Tensor, group: dict[str, Any]) -> list[Tensor]:
        """Return the rate of every element after `step` [parameters] steps."""
        lr, gamma, (beta1, beta2) = group["lr"], group["gamma"], group["betas"]
        final_lr = group["final_lr"] * lr / self.first_lr
        rates = list(torch._foreach_sqrt(seconds))
        torch._foreach_add_(rates, group["eps"])
        torch._foreach_reciprocal_(rates)
        torch._foreach_mul_(rates, (lr * (1 - beta2**step).sqrt() / (1 - beta1**step)).unbind())
        torch._foreach_clamp_min_(rates, (final_lr * (1 - 1 / (gamma * step + 1))).to(rates[0].dtype).unbind())
        torch._foreach_clamp_max_(rates, (final_lr * (1 + 1 / (gamma * step))).to(rates[0].dtype).unbind())
        return rates
