"""One update: what accumulation, clipping, views, SAM and the learning rates of groups do to the parameters."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pictorch import losses, optim
from pictorch.data.pipeline import Batch
from pictorch.engine.precision import Precision
from pictorch.engine.step import Update, batch_norms, train_step

FP32 = Precision("fp32", "cpu", "")


def network(norm: bool = False) -> nn.Sequential:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 4, 3), *([nn.BatchNorm2d(4)] if norm else []), nn.ReLU(), nn.Flatten(), nn.Linear(64, 5)]
    return nn.Sequential(*layers)


def batch(n: int = 12, views: int = 1) -> Batch:
    draws = torch.Generator().manual_seed(1)
    labels = torch.randint(5, (n,), generator=draws)
    targets = torch.softmax(torch.randn(n, 5, generator=draws), dim=1)
    return Batch(torch.randn(views * n, 3, 6, 6, generator=draws), targets, labels)


def step(model: nn.Module, name: str = "sgd", some: Batch | None = None, lr: float = 0.1, **update: Any) -> Tensor:
    """Take one step; return the change of all parameters, as a vector."""
    options = {"momentum": 0.0, "nesterov": False} if name in ("sgd", "sam") else {}
    optimizer = optim.create(model, name, lr=lr, weight_decay=0.0, **options)
    before = nn.utils.parameters_to_vector(model.parameters()).detach().clone()
    train_step(model, optimizer, some or batch(), lr=lr, update=Update(FP32, **update))
    return nn.utils.parameters_to_vector(model.parameters()).detach() - before


def gradient(model: nn.Module, some: Batch, loss: losses.Loss = losses.LOSSES["cross_entropy"]) -> Tensor:
    """The gradient of the whole batch's loss, as a vector, written the plain way."""
    value = loss(model(some.images), some.targets)
    return torch.cat([g.flatten() for g in torch.autograd.grad(value, list(model.parameters()))])


@pytest.mark.parametrize("parts", [2, 3, 5, 12, 20])
def test_accumulated_gradients_are_those_of_the_whole_batch(parts: int) -> None:
    """Also where the parts are not equal (12 images in 5), or fewer than asked for (in 20)."""
    model = network()
    loss_whole, logits_whole = run(copy.deepcopy(model), 1)
    loss_parts, logits_parts = run(copy.deepcopy(model), parts)
    torch.testing.assert_close(loss_parts, loss_whole)
    torch.testing.assert_close(logits_parts, logits_whole)
    torch.testing.assert_close(step(model, accumulate=parts), step(network()), atol=1e-6, rtol=1e-5)


def run(model: nn.Module, parts: int) -> tuple[Tensor, Tensor]:
    optimizer = optim.create(model, "sgd", lr=0.1, weight_decay=0.0)
    return train_step(model, optimizer, batch(), lr=0.1, update=Update(FP32, accumulate=parts))


@pytest.mark.parametrize("parts", [1, 4])
def test_the_norm_of_the_whole_batch_s_gradient_is_clipped_once(parts: int) -> None:
    model, some = network(), batch()
    whole = gradient(model, some)
    norm = float(whole.norm())
    change = step(network(), clip_norm=norm / 3, accumulate=parts, lr=1.0)
    torch.testing.assert_close(change, -whole / 3, atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(step(network(), clip_norm=10 * norm, lr=1.0), -whole, atol=1e-6, rtol=1e-4)


def test_each_group_has_its_factor_of_the_learning_rate() -> None:
    model = network()
    head = list(model[-1].parameters())
    optimizer = optim.create(
        model, "sgd", lr=0.1, weight_decay=0.0, momentum=0.0, nesterov=False, lr_head_factor=10.0, head=head
    )
    whole = gradient(model, batch())
    before = nn.utils.parameters_to_vector(model.parameters()).detach().clone()
    train_step(model, optimizer, batch(), lr=0.01, update=Update(FP32))
    change = nn.utils.parameters_to_vector(model.parameters()).detach() - before
    of_head = sum(p.numel() for p in head)
    torch.testing.assert_close(change[:-of_head], -0.01 * whole[:-of_head], atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(change[-of_head:], -0.1 * whole[-of_head:], atol=1e-6, rtol=1e-4)


def test_sam_steps_by_the_gradient_at_the_worst_point_nearby() -> None:
    """arXiv:2010.01412, Algorithm 1, written out."""
    model, some = network(), batch()
    first = gradient(model, some)
    climbed = copy.deepcopy(model)
    nn.utils.vector_to_parameters(
        nn.utils.parameters_to_vector(model.parameters()) + 0.05 * first / first.norm(), climbed.parameters()
    )
    torch.testing.assert_close(step(network(), "sam"), -0.1 * gradient(climbed, some), atol=1e-6, rtol=1e-4)


def test_sam_takes_the_statistics_of_batch_norm_at_the_weights_themselves() -> None:
    plain, sharp = network(norm=True), network(norm=True)
    step(plain)
    step(sharp, "sam", norms=batch_norms(sharp))
    assert torch.equal(plain[1].running_mean, sharp[1].running_mean)
    assert torch.equal(plain[1].running_var, sharp[1].running_var)
    assert sharp[1].momentum == 0.1


@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize("joint", [False, True])
def test_views_go_through_the_network_one_by_one_or_together(joint: bool, parts: int) -> None:
    calls: list[int] = []
    model, some = network(), batch(views=2)

    def forward(images: Tensor) -> Tensor:
        calls.append(len(images))
        return model(images)

    loss = losses.create("dual_cutout", alpha=0.5)._replace(joint=joint)
    optimizer = optim.create(model, "sgd", lr=1.0, weight_decay=0.0, momentum=0.0, nesterov=False)
    expected = gradient(model, some, loss)
    before = nn.utils.parameters_to_vector(model.parameters()).detach().clone()
    value, logits = train_step(forward, optimizer, some, lr=1.0, update=Update(FP32, loss=loss, accumulate=parts))
    change = nn.utils.parameters_to_vector(model.parameters()).detach() - before
    torch.testing.assert_close(change, -expected, atol=1e-5, rtol=1e-4)
    assert calls == ([24 // parts] if joint else [12 // parts] * 2) * parts
    assert logits.shape == (12, 5)
    assert value.shape == ()
