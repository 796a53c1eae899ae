"""Muon: orthogonalised momentum for the hidden layers' matrices, AdamW for everything else.

K. Jordan et al., kellerjordan.github.io/posts/muon and github.com/KellerJordan/Muon; the iteration, its coefficients
and the scale of the step are those of torch.optim.Muon, which takes matrices only, one by one, and reads a rate that is
a tensor. Kernels are [out, in * height * width] matrices, as in github.com/KellerJordan/cifar10-airbench.
"""

from math import sqrt
from typing import Any

import torch
from torch import Tensor

from pictorch.optim.moments import adam_direction, gather

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
EPS = 1e-7


class Muon(torch.optim.Optimizer):
    """Groups with "muon" true: m <- momentum m + (1 - momentum) g, w <- (1 - lr decay) w - lr max(1, out / in)^1/2 O.

    O is the orthogonalised (1 - momentum) g + momentum m with `nesterov`, else the orthogonalised m, by `ns_steps`
    Newton-Schulz iterations in bfloat16. Groups with "muon" false: AdamW with `adamw_betas` and `adamw_eps`.
    """

    def __init__(
        self,
        params: Any,
        *,
        lr: float | Tensor,
        momentum: float = 0.95,
        nesterov: bool = True,
        ns_steps: int = 5,
        weight_decay: float = 0.0,
        adamw_betas: tuple[float, float] = (0.9, 0.95),
        adamw_eps: float = 1e-10,
    ) -> None:
        muon = {"muon": True, "momentum": momentum, "nesterov": nesterov, "ns_steps": ns_steps}
        # capturable: torch then loads "step" to the parameter's device.
        adamw = {"betas": adamw_betas, "eps": adamw_eps, "capturable": True}
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, **muon, **adamw})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Move the parameters by their gradients; a closure is not called."""
        for group in self.param_groups:
            if group["muon"]:
                params, grads, momenta = gather(self, group, "momentum_buffer")
                updates = muon_direction(grads, momenta, group) if params else []
            else:
                params, *lists = gather(self, group, "exp_avg", "exp_avg_sq", "step")
                updates = adam_direction(*lists, betas=group["betas"], eps=group["eps"]) if params else []
            if params:
                torch._foreach_mul_(params, 1 - group["lr"] * group["weight_decay"])
                torch._foreach_mul_(updates, group["lr"])
                torch._foreach_sub_(params, updates)


def muon_direction(grads: list[Tensor], momenta: list[Tensor], group: dict[str, Any]) -> list[Tensor]:
    """Move the momenta in place; return the directions, in the shapes of `grads`, scaled by max(1, out / in)^1/2."""
    torch._foreach_lerp_(momenta, grads, 1 - group["momentum"])
    updates = list(torch._foreach_lerp(grads, momenta, group["momentum"])) if group["nesterov"] else list(momenta)
    # Matrices of one shape are one batch of products: a ResNet has a handful of shapes.
    alike: dict[torch.Size, list[int]] = {}
    for i, grad in enumerate(grads):
        alike.setdefault(grad.shape, []).append(i)
    for shape, where in alike.items():
        matrices = torch.stack([updates[i].flatten(1) for i in where])
        scale = sqrt(max(1.0, matrices.shape[1] / matrices.shape[2]))
        directions = orthogonalise(matrices, group["ns_steps"]).to(matrices.dtype) * scale
        for i, direction in zip(where, directions, strict=True):
            updates[i] = direction.view(shape)
    return updates


def orthogonalise(matrices: Tensor, steps: int) -> Tensor:
    """Return bfloat16 matrices [n, rows, columns] of the same singular vectors, with singular values near 1."""
    a, b, c = COEFFICIENTS
    x = matrices.bfloat16()
    tall = x.shape[1] > x.shape[2]
    x = x.mT if tall else x
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=EPS)
    for _ in range(steps):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x
