"""SAM: SGD by the gradients at the worst point nearby (Foret et al., arXiv:2010.01412, Algorithm 1)."""

from typing import Any

import torch
from torch import Tensor


class SAM(torch.optim.SGD):
    """Two passes a step: `ascend()` by the gradients at w, then `step()` by those that the caller computed at w + e(w).

    e(w) = rho g / |g|, the norm over all parameters; with `adaptive` rho w^2 g / |w g| (ASAM, arXiv:2102.11600). `step`
    moves back to w, bit for bit, before SGD's step of the keywords `sgd`.
    """

    ascends = True

    def __init__(self, params: Any, *, rho: float = 0.05, adaptive: bool = False, **sgd: Any) -> None:
        self.rho, self.adaptive = rho, adaptive
        self.moved: list[Tensor] = []
        self.origin: list[Tensor] = []
        super().__init__(params, **sgd)

    @torch.no_grad()
    def ascend(self) -> None:
        """Move the parameters that have a gradient to w + e(w), and remember w."""
        assert not self.moved, "SAM ascends once a step"
        self.moved = [p for group in self.param_groups for p in group["params"] if p.grad is not None]
        self.origin = [p.clone() for p in self.moved]
        gradients = [p.grad for p in self.moved if p.grad is not None]
        sizes = torch._foreach_abs(self.moved) if self.adaptive else None
        if sizes:
            gradients = list(torch._foreach_mul(gradients, sizes))
        norm = torch.stack(torch._foreach_norm(gradients)).norm()
        if sizes:
            gradients = list(torch._foreach_mul(gradients, sizes))
        # 1e-12 is the authors' guard against a gradient of zero.
        torch._foreach_add_(self.moved, torch._foreach_mul(gradients, self.rho / (norm + 1e-12)))

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Move back to w, and from there by the present gradients; a closure is not called."""
        assert self.moved, "SAM ascends before it steps"
        torch._foreach_copy_(self.moved, self.origin)
        self.moved, self.origin = [], []
        super().step()
