"""How parameters move: parameter groups, optimisers, schedules."""

from typing import Any

import torch
from torch import nn

from pictorch.optim.groups import parameter_groups


def create(
    model: nn.Module, name: str, *, lr: float, weight_decay: float, decay_norm_and_bias: bool, **options: Any
) -> torch.optim.Optimizer:
    """Return the optimiser `name` over the model's parameters; `options` are the optimiser's own keywords."""
    groups = parameter_groups(model, weight_decay=weight_decay, decay_norm_and_bias=decay_norm_and_bias)
    optimizers = {"sgd": torch.optim.SGD}
    # fused: one kernel over all parameters; the same updates as the loop over parameters, to rounding.
    return optimizers[name](groups, lr=lr, fused=True, **options)
