"""Losses against their definitions written out in float64, and against torch's where torch has them."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from pictorch.losses import LOSSES, augmix, binary_cross_entropy, create, cross_entropy, dual_cutout, focal

NAMES = sorted(LOSSES)


def sample(views: int = 1, n: int = 6, k: int = 4, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """Return random logits [views*n,k] and soft targets [n,k]."""
    generator = torch.Generator().manual_seed(views)
    logits = 2 * torch.randn(views * n, k, generator=generator, dtype=dtype)
    return logits, torch.randn(n, k, generator=generator, dtype=dtype).softmax(dim=1)


def slow_cross_entropy(logits: Tensor, targets: Tensor) -> float:
    total = 0.0
    for row, target in zip(logits.double(), targets.double(), strict=True):
        p = row.exp() / row.exp().sum()
        total -= sum(float(t * q.log()) for t, q in zip(target, p, strict=True))
    return total / len(targets)


def slow_binary_cross_entropy(logits: Tensor, targets: Tensor) -> float:
    p, t = 1 / (1 + (-logits.double()).exp()), targets.double()
    return float(-(t * p.log() + (1 - t) * (1 - p).log()).sum() / targets.numel())


def slow_focal(logits: Tensor, targets: Tensor, gamma: float = 2.0, alpha: float = 1.0) -> float:
    total = 0.0
    for row, target in zip(logits.double(), targets.double(), strict=True):
        p = row.exp() / row.exp().sum()
        total -= sum(alpha * float(t * (1 - q) ** gamma * q.log()) for t, q in zip(target, p, strict=True))
    return total / len(targets)


def slow_dual_cutout(logits: Tensor, targets: Tensor, alpha: float = 0.1) -> float:
    first, second = logits[: len(targets)], logits[len(targets) :]
    squares = sum(float(a - b) ** 2 for a, b in zip(first.flatten(), second.flatten(), strict=True))
    entropy = 0.5 * (slow_cross_entropy(first, targets) + slow_cross_entropy(second, targets))
    return entropy + alpha * squares / first.numel()


def slow_augmix(logits: Tensor, targets: Tensor, alpha: float = 12.0) -> float:
    """The authors' program: torch's KL divergence of each view from the clamped mixture."""
    clean, *others = logits.double().chunk(3)
    views = [F.softmax(view, dim=1) for view in (clean, *others)]
    mixture = torch.clamp(sum(views, torch.zeros(())) / 3, 1e-7, 1).log()
    divergence = sum(float(F.kl_div(mixture, view, reduction="batchmean")) for view in views) / 3
    return slow_cross_entropy(clean, targets) + alpha * divergence


SLOW: dict[str, Any] = {
    "cross_entropy": slow_cross_entropy,
    "bce": slow_binary_cross_entropy,
    "focal": slow_focal,
    "dual_cutout": slow_dual_cutout,
    "augmix": slow_augmix,
}


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("cross_entropy", {}),
        ("bce", {}),
        ("focal", {}),
        ("focal", {"gamma": 0.5, "alpha": 0.25}),
        ("dual_cutout", {}),
        ("dual_cutout", {"alpha": 1.5}),
        ("augmix", {}),
        ("augmix", {"alpha": 1.0}),
    ],
)
def test_definition(name: str, options: dict[str, float]) -> None:
    loss = create(name, **options)
    logits, targets = sample(loss.views)
    ours = loss(logits, targets)
    assert ours.shape == ()
    assert abs(float(ours) - SLOW[name](logits, targets, **options)) < 3e-6


@pytest.mark.parametrize(
    ("name", "views", "joint"),
    [
        ("cross_entropy", 1, True),
        ("bce", 1, True),
        ("focal", 1, True),
        ("dual_cutout", 2, False),
        ("augmix", 3, True),
    ],
)
def test_views(name: str, views: int, joint: bool) -> None:
    loss = create(name)
    assert (loss.views, loss.joint) == (views, joint)
    with pytest.raises((ValueError, RuntimeError)):
        loss(*sample(views + 1))


def test_one_hot_targets_are_labels() -> None:
    logits, labels = torch.randn(6, 4), torch.tensor([0, 1, 2, 3, 0, 1])
    targets = F.one_hot(labels, 4).float()
    torch.testing.assert_close(cross_entropy(logits, targets), F.cross_entropy(logits, labels))


def test_binary_cross_entropy_is_torchs() -> None:
    logits, targets = sample()
    assert torch.equal(create("bce")(logits, targets), F.binary_cross_entropy_with_logits(logits, targets))


def test_focal_loss_of_two_classes_is_the_papers() -> None:
    """Equation 5: -alpha (1 - p_t)^gamma log p_t, with p the sigmoid of the difference of the two logits."""
    logits, labels = torch.tensor([[0.0, 1.5], [0.0, -2.0], [0.0, 0.3]]), torch.tensor([1, 1, 0])
    p = torch.sigmoid(logits[:, 1])
    p_t = torch.where(labels == 1, p, 1 - p)
    expected = -(0.25 * (1 - p_t) ** 2 * p_t.log()).mean()
    torch.testing.assert_close(create("focal", gamma=2.0, alpha=0.25)(logits, torch.eye(2)[labels]), expected)


def test_focal_loss_without_its_power_is_the_cross_entropy() -> None:
    torch.testing.assert_close(create("focal", gamma=0.0)(*sample()), cross_entropy(*sample()))


def test_equal_views_cost_nothing_more() -> None:
    logits, targets = sample()
    for name, views in (("dual_cutout", 2), ("augmix", 3)):
        loss = create(name, alpha=100.0)(logits.repeat(views, 1), targets)
        torch.testing.assert_close(loss, cross_entropy(logits, targets), rtol=1e-4, atol=1e-5)


def test_the_divergence_of_disjoint_answers_is_log_3() -> None:
    logits = 100 * torch.eye(3)
    loss = create("augmix", alpha=1.0)(logits, torch.tensor([[1.0, 0.0, 0.0]]))
    assert abs(float(loss) - 1.0986123) < 1e-5


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_logits_are_computed_in_float32(name: str, dtype: torch.dtype) -> None:
    loss = create(name)
    logits, targets = sample(loss.views)
    logits = logits.to(dtype)
    assert loss(logits, targets).dtype == torch.float32
    torch.testing.assert_close(loss(logits, targets), loss(logits.float(), targets), rtol=0, atol=0)
    with torch.autocast("cpu", dtype):
        torch.testing.assert_close(loss(logits, targets), loss(logits.float(), targets), rtol=0, atol=0)


@pytest.mark.parametrize(("function", "views"), [(binary_cross_entropy, 1), (focal, 1), (dual_cutout, 2), (augmix, 3)])
def test_gradient_is_that_of_the_definition(function: Any, views: int) -> None:
    logits, targets = sample(views, 3, 4, torch.float64)
    assert torch.autograd.gradcheck(function, (logits.requires_grad_(), targets))


def test_gradient_of_the_cross_entropy() -> None:
    logits, targets = sample()
    (gradient,) = torch.autograd.grad(cross_entropy(logits.requires_grad_(), targets), logits)
    torch.testing.assert_close(gradient, (logits.softmax(dim=1) - targets).detach() / len(targets))


@pytest.mark.parametrize(("name", "options"), [*((name, {}) for name in NAMES), ("focal", {"gamma": 0.5})])
def test_answers_without_any_doubt_have_a_finite_gradient(name: str, options: dict[str, float]) -> None:
    loss = create(name, **options)
    sure = torch.tensor([[500.0, 0.0, -500.0], [0.0, 500.0, -500.0]])
    for targets in (torch.eye(3)[:2], torch.eye(3)[1:]):
        logits = torch.cat([sure.roll(view, 0) for view in range(loss.views)]).requires_grad_()
        value = loss(logits, targets)
        (gradient,) = torch.autograd.grad(value, logits)
        assert value.isfinite()
        assert gradient.isfinite().all()


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("focl", {}, "focl: unknown loss; did you mean 'focal'?"),
        ("focal", {"gama": 1.0}, "focal: gama: unknown option; did you mean 'gamma'?"),
        ("focal", {"gamma": "2"}, "focal: gamma: expected a number, got '2'"),
        ("focal", {"gamma": -1.0}, "focal: gamma: expected a number of at least 0, got -1.0"),
        ("augmix", {"alpha": float("nan")}, "augmix: alpha: expected a number of at least 0, got .nan"),
        ("dual_cutout", {"logits": 1.0}, "dual_cutout: logits: unknown option; known: alpha"),
    ],
)
def test_what_is_wrong_is_named(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as caught:
        create(name, **options)
    assert str(caught.value) == message
