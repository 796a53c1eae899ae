"""Optimisers and parameter groups."""

import pytest
import torch
from torch import nn

from pictorch import optim


def network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))


def decayed(optimizer: torch.optim.Optimizer, model: nn.Module) -> set[str]:
    names = {id(p): name for name, p in model.named_parameters()}
    groups = [g for g in optimizer.param_groups if g["weight_decay"] > 0]
    return {names[id(p)] for group in groups for p in group["params"]}


def create(model: nn.Module, **changes: object) -> torch.optim.Optimizer:
    options = {"lr": 0.1, "weight_decay": 1e-2, "decay_norm_and_bias": True, "momentum": 0.9, "nesterov": True}
    return optim.create(model, "sgd", **options | changes)  # type: ignore[arg-type]


def test_the_papers_decay_acts_on_everything() -> None:
    model = network()
    assert decayed(create(model), model) == {name for name, _ in model.named_parameters()}


def test_norms_and_biases_can_be_left_out() -> None:
    model = network()
    optimizer = create(model, decay_norm_and_bias=False)
    assert decayed(optimizer, model) == {"0.weight", "3.weight"}
    counted = [p for group in optimizer.param_groups for p in group["params"]]
    assert len(counted) == len({id(p) for p in counted}) == len(list(model.parameters()))


def test_frozen_parameters_stand_in_no_group() -> None:
    model = network()
    model[0].weight.requires_grad_(False)  # type: ignore[index]
    for flag in (True, False):
        groups = create(model, decay_norm_and_bias=flag).param_groups
        assert all(p.requires_grad for group in groups for p in group["params"])


@pytest.mark.parametrize("nesterov", [True, False])
def test_sgd_is_the_textbooks(nesterov: bool) -> None:
    """v <- m v + (g + d w); w <- w - lr (g + d w + m v) with Nesterov, else w - lr v; the first v is the gradient."""
    torch.manual_seed(0)
    weight = nn.Parameter(torch.randn(5, 3, dtype=torch.float64))
    model = nn.Module()
    model.register_parameter("weight", weight)
    optimizer = create(model, nesterov=nesterov)
    expected, velocity = weight.detach().clone(), None
    for _ in range(4):
        gradient = torch.randn_like(expected)
        weight.grad = gradient.clone()
        optimizer.step()
        gradient = gradient + 1e-2 * expected
        velocity = gradient.clone() if velocity is None else 0.9 * velocity + gradient
        expected = expected - 0.1 * (gradient + 0.9 * velocity if nesterov else velocity)
        torch.testing.assert_close(weight.detach(), expected, rtol=1e-12, atol=1e-12)
