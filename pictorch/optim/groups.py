"""Parameter groups by what a parameter is: decayed, or a norm's or bias and so perhaps not."""

from typing import Any

from torch import nn


def parameter_groups(model: nn.Module, *, weight_decay: float, decay_norm_and_bias: bool) -> list[dict[str, Any]]:
    """Return optimiser groups in which each trainable parameter of `model` stands exactly once.

    The papers' code decays every parameter (one group). With `decay_norm_and_bias=False`, parameters of fewer than two
    dimensions (norms' gains and shifts, biases) are not decayed; what decides is the shape, never the name.
    """
    trainable = [p for p in model.parameters() if p.requires_grad]
    if decay_norm_and_bias:
        return [{"params": trainable, "weight_decay": weight_decay}]
    weights = [p for p in trainable if p.ndim >= 2]
    vectors = [p for p in trainable if p.ndim < 2]
    assert len(weights) + len(vectors) == len(trainable)
    groups = [{"params": weights, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return [g for g in groups if g["params"]]
