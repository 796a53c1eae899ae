"""What the optimisers that torch lacks share: their slots as parallel lists, and Adam's moments and direction.

Lists go through torch._foreach: one kernel over many parameters on a CUDA device, no Python loop on a CPU. Steps are
counted in tensors and rates may be tensors, so nothing here reads the device and a step can be captured as a graph.
"""

from typing import Any

import torch
from torch import Tensor


def gather(optimizer: torch.optim.Optimizer, group: dict[str, Any], *names: str) -> list[list[Tensor]]:
    """Return, as parallel lists, the group's parameters that have a gradient, the gradients, and the slots `names`.

    Slots that are not there yet start at zero: "step" is 0-dimensional, the others have the parameter's shape.
    """
    params = [p for p in group["params"] if p.grad is not None]
    for p in params:
        state = optimizer.state[p]
        if not state:
            for name in names:
                state[name] = torch.zeros((), device=p.device) if name == "step" else torch.zeros_like(p)
    return [params, [p.grad for p in params], *([optimizer.state[p][name] for p in params] for name in names)]


def move_moments(
    grads: list[Tensor], firsts: list[Tensor], seconds: list[Tensor], steps: list[Tensor], betas: tuple[float, float]
) -> Tensor:
    """Count the step, move Adam's moments (arXiv:1412.6980, Algorithm 1), in place; return the steps [parameters].

    The steps are float64, so that 1 - beta ** step is exact where it is small.
    """
    torch._foreach_add_(steps, 1)
    torch._foreach_lerp_(firsts, grads, 1 - betas[0])
    torch._foreach_mul_(seconds, betas[1])
    torch._foreach_addcmul_(seconds, grads, grads, 1 - betas[1])
    return torch.stack(steps).double()


def adam_direction(
    grads: list[Tensor],
    firsts: list[Tensor],
    seconds: list[Tensor],
    steps: list[Tensor],
    *,
    betas: tuple[float, float],
    eps: float,
) -> list[Tensor]:
    """Move Adam's moments in place; return its direction m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t)) + eps)."""
    step = move_moments(grads, firsts, seconds, steps, betas)
    denominators = torch._foreach_sqrt(seconds)
    torch._foreach_div_(denominators, (1 - betas[1] ** step).sqrt().unbind())
    torch._foreach_add_(denominators, eps)
    torch._foreach_mul_(denominators, (1 - betas[0] ** step).unbind())
    return list(torch._foreach_div(firsts, denominators))
