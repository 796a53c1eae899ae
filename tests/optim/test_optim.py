"""Optimisers, each against its paper's formula written as plainly as can be, and what they all promise."""

import io
from collections.abc import Callable
from math import sqrt
from typing import Any

import pytest
import torch
from torch import nn

from pictorch import optim
from pictorch.config import UserError
from pictorch.optim.sam import SAM


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


State = dict[str, Any]
# (w, g, state of this parameter, lr, t from 1) -> w
Formula = Callable[[torch.Tensor, torch.Tensor, State, float, int], torch.Tensor]
DECAY, FIRST_LR = 1e-2, 0.1


def moments(g: torch.Tensor, state: State, beta1: float, beta2: float) -> tuple[torch.Tensor, torch.Tensor]:
    state["m"] = beta1 * state.get("m", 0) + (1 - beta1) * g
    state["v"] = beta2 * state.get("v", 0) + (1 - beta2) * g * g
    return state["m"], state["v"]


def adam(w: torch.Tensor, g: torch.Tensor, state: State, lr: float, t: int) -> torch.Tensor:
    """arXiv:1412.6980, Algorithm 1, the decay added to the gradient."""
    m, v = moments(g + DECAY * w, state, 0.9, 0.999)
    return w - lr * (m / (1 - 0.9**t)) / ((v / (1 - 0.999**t)).sqrt() + 1e-8)


def adamw(w: torch.Tensor, g: torch.Tensor, state: State, lr: float, t: int) -> torch.Tensor:
    """arXiv:1711.05101, Algorithm 2, alpha times lambda being torch's lr times decay."""
    m, v = moments(g, state, 0.9, 0.999)
    return w - lr * (m / (1 - 0.9**t) / ((v / (1 - 0.999**t)).sqrt() + 1e-8) + DECAY * w)


def adabound_step(g: torch.Tensor, state: State, lr: float, t: int) -> torch.Tensor:
    """arXiv:1902.09843, Algorithm 2 with the bounds of the authors' code."""
    m, v = moments(g, state, 0.9, 0.999)
    rate = lr * sqrt(1 - 0.999**t) / (1 - 0.9**t) / (v.sqrt() + 1e-8)
    final = 0.1 * lr / FIRST_LR
    return rate.clamp(final * (1 - 1 / (1e-3 * t + 1)), final * (1 + 1 / (1e-3 * t))) * m


def adabound(w: torch.Tensor, g: torch.Tensor, state: State, lr: float, t: int) -> torch.Tensor:
    return w - adabound_step(g + DECAY * w, state, lr, t)


def adaboundw(w: torch.Tensor, g: torch.Tensor, state: State, lr: float, t: int) -> torch.Tensor:
    return w - adabound_step(g, state, lr, t) - DECAY * w


def lion(w: torch.Tensor, g: torch.Tensor, state: State, lr: float, t: int) -> torch.Tensor:
    """arXiv:2302.06675, Algorithm 2."""
    m = state.get("m", torch.zeros_like(w))
    state["m"] = 0.99 * m + 0.01 * g
    return w - lr * ((0.9 * m + 0.1 * g).sign() + DECAY * w)


def lars(w: torch.Tensor, g: torch.Tensor, state: State, lr: float, t: int) -> torch.Tensor:
    """arXiv:1708.03888, Algorithm 1; gains and biases as in plain SGD."""
    local = 0.001 * w.norm() / (g.norm() + DECAY * w.norm()) if w.ndim > 1 else 1.0
    state["v"] = 0.9 * state.get("v", 0) + lr * local * (g + DECAY * w)
    return w - state["v"]


def lars_seed2(w: torch.Tensor, g: torch.Tensor, state: State, lr: float, t: int) -> torch.Tensor:
    local = w.norm() / (1e-9 + g.norm() + DECAY * w.norm()) if w.norm() >= 1e-2 else 1.0
    state["v"] = 0.9 * state.get("v", 0) + lr * local * (g + DECAY * w)
    return w - state["v"]


def lamb(w: torch.Tensor, g: torch.Tensor, state: State, lr: float, t: int) -> torch.Tensor:
    """arXiv:1904.00962, Algorithm 2 with the identity for phi; gains and biases as in AdamW."""
    m, v = moments(g, state, 0.9, 0.999)
    u = m / (1 - 0.9**t) / ((v / (1 - 0.999**t)).sqrt() + 1e-6) + DECAY * w
    return w - lr * (w.norm() / u.norm() if w.ndim > 1 else 1.0) * u


SEED2 = {"trust_coefficient": 1.0, "eps": 1e-9, "threshold": 1e-2, "scale_vectors": True}
FORMULAS: list[tuple[str, Formula, dict[str, Any]]] = [
    ("adam", adam, {}),
    ("adamw", adamw, {}),
    ("adabound", adabound, {}),
    ("adaboundw", adaboundw, {}),
    ("lion", lion, {}),
    ("lars", lars, {"eps": 1e-300}),
    ("lars", lars_seed2, SEED2),
    ("lamb", lamb, {}),
]


def model_of(dtype: torch.dtype = torch.float64, device: str = "cpu") -> nn.Module:
    """Return a kernel, a bias that starts at zero, a norm and a matrix."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))
    nn.init.zeros_(model[0].bias)  # type: ignore[arg-type]
    return model.to(dtype=dtype, device=device)


def set_gradients(model: nn.Module, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator).to(parameter)


def move(optimizer: torch.optim.Optimizer, model: nn.Module, seed: int) -> None:
    set_gradients(model, seed)
    if isinstance(optimizer, SAM):
        optimizer.ascend()
        set_gradients(model, seed + 1000)
    optimizer.step()


@pytest.mark.parametrize(("name", "formula", "options"), FORMULAS, ids=[f[1].__name__ for f in FORMULAS])
def test_optimisers_are_their_papers_formulas(name: str, formula: Formula, options: dict[str, Any]) -> None:
    """20 steps in float64, with decay and a falling rate; one parameter misses some gradients."""
    model = model_of()
    optimizer = optim.create(model, name, lr=FIRST_LR, weight_decay=DECAY, **options)
    expected = [p.detach().clone() for p in model.parameters()]
    states: list[State] = [{"t": 0} for _ in expected]
    for step in range(20):
        lr = FIRST_LR * (1 - step / 20)
        set_gradients(model, step)
        if step % 3 == 1:
            model[3].bias.grad = None  # type: ignore[union-attr]
        for group in optimizer.param_groups:
            group["lr"] = lr
        for i, parameter in enumerate(model.parameters()):
            if parameter.grad is not None:
                states[i]["t"] += 1
                expected[i] = formula(expected[i], parameter.grad, states[i], lr, states[i]["t"])
        optimizer.step()
    for parameter, value in zip(model.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.detach(), value, rtol=1e-10, atol=1e-12)


def test_lars_of_seed_document_2_gives_its_programs_numbers() -> None:
    model = nn.Module()
    model.register_parameter("w", nn.Parameter(torch.tensor([3.0, 4.0], dtype=torch.float64)))
    optimizer = optim.create(model, "lars", lr=0.1, weight_decay=1e-4, momentum=0.9, **SEED2)
    model.w.grad = torch.tensor([0.6, 0.8], dtype=torch.float64)
    optimizer.step()
    # The local rate is 5 / (1 + 1e-4 * 5) = 4.9975; lr times it times (g + 1e-4 w) is a tenth of w.
    torch.testing.assert_close(model.w.detach(), torch.tensor([2.7, 3.6], dtype=torch.float64), rtol=1e-8, atol=0)
    assert optimizer.state[model.w]["momentum_buffer"][0] / (0.1 * 0.6003) == pytest.approx(4.9975, abs=1e-4)


def test_ratios_of_zero_norms_are_one() -> None:
    """Neither a kernel of zeros nor a gradient of zeros makes a NaN, and the first of them can leave zero."""
    for name in ("lars", "lamb"):
        model = model_of()
        nn.init.zeros_(model[0].weight)  # type: ignore[arg-type]
        optimizer = optim.create(model, name, lr=0.1, weight_decay=0.0)
        set_gradients(model, 0)
        model[3].weight.grad.zero_()  # type: ignore[union-attr,operator]
        before = model[3].weight.detach().clone()  # type: ignore[union-attr,operator]
        optimizer.step()
        assert all(p.isfinite().all() for p in model.parameters())
        assert model[0].weight.abs().max() > 1e-3  # type: ignore[union-attr,operator]
        assert torch.equal(model[3].weight, before)  # type: ignore[arg-type]


@pytest.mark.parametrize("nesterov", [True, False])
def test_muon_is_torchs_on_matrices_and_adamw_elsewhere(nesterov: bool) -> None:
    model, other = model_of(torch.float32), model_of(torch.float32)
    head = list(model[3].parameters())  # type: ignore[union-attr]
    optimizer = optim.create(model, "muon", lr=0.02, weight_decay=DECAY, head=head, nesterov=nesterov)
    kernel, *rest = other.parameters()
    before = kernel.detach().clone()
    matrix = nn.Parameter(before.flatten(1).clone())
    muon = torch.optim.Muon([matrix], lr=0.02, weight_decay=DECAY, nesterov=nesterov)
    adamw = torch.optim.AdamW(rest, lr=3e-4, weight_decay=DECAY, betas=(0.9, 0.95), eps=1e-10)
    for step in range(5):
        set_gradients(model, step)
        set_gradients(other, step)
        matrix.grad = kernel.grad.flatten(1)  # type: ignore[union-attr]
        optimizer.step(), muon.step(), adamw.step()  # type: ignore[no-untyped-call]
    ours, *others = model.parameters()
    # The iteration is in bfloat16, where a product of a batch may round otherwise: a step is 0.02 of singular value 1.
    torch.testing.assert_close(ours.flatten(1), matrix, rtol=0, atol=1e-3)
    assert (ours - before).abs().max() > 0.02
    for one, two in zip(others, rest, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-7)


def test_muons_steps_are_nearly_orthogonal() -> None:
    """Singular values of the step end between 0.5 and 1.5, times the square root of out / in where that is above 1."""
    for rows, columns in ((8, 32), (32, 8)):
        model = nn.Sequential(nn.Linear(columns, rows, bias=False))
        before = model[0].weight.detach().clone()
        optimizer = optim.create(model, "muon", lr=1.0, weight_decay=0.0)
        model[0].weight.grad = torch.randn(rows, columns, generator=torch.Generator().manual_seed(0))
        optimizer.step()
        values = torch.linalg.svdvals(before - model[0].weight.detach()) / max(1.0, sqrt(rows / columns))
        assert values.min() > 0.5
        assert values.max() < 1.5


@pytest.mark.parametrize("adaptive", [False, True])
def test_sam_steps_by_the_gradient_at_the_worst_point(adaptive: bool) -> None:
    """Loss (a . w^2) / 2, whose gradient is a w: e(w) is known, and SGD's momentum takes the gradient at w + e(w)."""
    a = torch.tensor([1.0, 4.0, 9.0], dtype=torch.float64)
    model = nn.Module()
    model.register_parameter("w", nn.Parameter(torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64)))
    optimizer = optim.create(model, "sam", lr=0.01, weight_decay=1e-2, momentum=0.9, rho=0.1, adaptive=adaptive)
    assert isinstance(optimizer, SAM)
    w, velocity = model.w.detach().clone(), torch.zeros(3, dtype=torch.float64)
    for _ in range(5):
        gradient = a * w
        scale = w.abs() if adaptive else torch.ones(3, dtype=torch.float64)
        worst = w + 0.1 * scale**2 * gradient / (scale * gradient).norm()
        velocity = 0.9 * velocity + a * worst + 1e-2 * w
        w = w - 0.01 * velocity

        model.w.grad = a * model.w.detach()
        optimizer.ascend()
        torch.testing.assert_close(model.w.detach(), worst, rtol=1e-10, atol=0)
        model.w.grad = a * model.w.detach()
        optimizer.step()
        torch.testing.assert_close(model.w.detach(), w, rtol=1e-10, atol=0)


def test_sam_returns_to_the_very_weights_and_minds_the_order() -> None:
    model = model_of(torch.float32)
    optimizer = optim.create(model, "sam", lr=0.0, weight_decay=0.0)
    assert isinstance(optimizer, SAM)
    before = [p.detach().clone() for p in model.parameters()]
    move(optimizer, model, 0)
    assert all(torch.equal(p, b) for p, b in zip(model.parameters(), before, strict=True))
    with pytest.raises(AssertionError, match="ascends before it steps"):
        optimizer.step()
    assert [name for name, (kind, _) in optim.OPTIMIZERS.items() if getattr(kind, "ascends", False)] == ["sam"]


@pytest.mark.parametrize("name", optim.OPTIMIZERS)
def test_a_loaded_optimiser_goes_on_bitwise(name: str) -> None:
    options: dict[str, Any] = {"lr": 0.01, "weight_decay": DECAY, "decay_norm_and_bias": False, "lr_head_factor": 3.0}
    options |= {"momentum": 0.9} if name in ("sgd", "sam") else {}
    model, other = model_of(torch.float32), model_of(torch.float32)
    optimizer = optim.create(model, name, head=list(model[3].parameters()), **options)  # type: ignore[union-attr]
    for step in range(3):
        move(optimizer, model, step)
    file = io.BytesIO()
    torch.save((model.state_dict(), optimizer.state_dict()["state"]), file)
    weights, state = torch.load(io.BytesIO(file.getvalue()), weights_only=True)
    other.load_state_dict(weights)
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    assert state.keys() == set(range(len(parameters)))
    for index, slots in state.items():
        for slot, value in slots.items():
            assert value.shape == (() if slot == "step" else parameters[index].shape)
            assert value.is_floating_point()

    continued = optim.create(other, name, head=list(other[3].parameters()), **options)  # type: ignore[union-attr]
    continued.load_state_dict({**continued.state_dict(), "state": state})
    for step in range(3, 6):
        move(optimizer, model, step)
        move(continued, other, step)
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), other.parameters(), strict=True))


OURS = ["adabound", "adaboundw", "lamb", "lars", "lion", "muon"]


@pytest.mark.parametrize("name", OURS)
def test_the_rate_may_be_a_tensor(name: str) -> None:
    results = []
    for lr in (0.01, torch.tensor(0.01, dtype=torch.float64)):
        model = model_of()
        optimizer = optim.create(model, name, lr=lr, weight_decay=DECAY, head=list(model[3].parameters()))  # type: ignore[union-attr]
        for step in range(3):
            move(optimizer, model, step)
        results.append([p.detach() for p in model.parameters()])
    torch.testing.assert_close(*results, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", [*OURS, "sam"])
def test_a_step_reads_nothing_from_the_device(name: str) -> None:
    """Tensors of the meta device have no values: whoever reads one fails, as it would while a graph is captured."""
    model = model_of(torch.float32, "meta")
    optimizer = optim.create(model, name, lr=0.01, weight_decay=DECAY)
    for group in optimizer.param_groups:
        group["lr"] = torch.tensor(0.01, device="meta")
    for parameter in model.parameters():
        parameter.grad = torch.empty_like(parameter)
    if isinstance(optimizer, SAM):
        optimizer.ascend()  # its step is torch's
    else:
        optimizer.step()
        optimizer.step()


def test_an_unknown_optimiser_is_named_with_the_nearest() -> None:
    with pytest.raises(UserError, match=r"no optimiser 'adanw'; did you mean .*'adamw'"):
        optim.create(network(), "adanw", lr=0.1, weight_decay=0.0)


def test_clipping_scales_all_gradients_by_one_factor() -> None:
    model = model_of()
    set_gradients(model, 0)
    before = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    assert optim.clip(model.parameters(), 2.0) == pytest.approx(before.norm())
    after = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    torch.testing.assert_close(after, before * 2 / before.norm(), rtol=1e-5, atol=0)
    optim.clip(model.parameters(), 3.0)
    torch.testing.assert_close(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]), after)
