"""Averages of weights against plain loops, and what the model is during and after their use."""

import copy
import io

import pytest
import torch
from torch import Tensor, nn

from pictorch.optim.average import EMA, SWA, Average, NoAverage, reestimate_bn
from pictorch.optim.groups import freeze


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.Flatten(), nn.Linear(16, 2)
    ).double()


def images(seed: int, count: int = 8) -> Tensor:
    return torch.randn(count, 3, 4, 4, generator=torch.Generator().manual_seed(seed)).double()


def train(model: nn.Module, seed: int) -> None:
    """Change parameters, statistics and the count of batches."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator))
        model.train()(images(seed))


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


@pytest.mark.parametrize("warmup", [False, True])
def test_ema_is_the_plain_recursion_of_weights_and_statistics(warmup: bool) -> None:
    model = network()
    average = EMA(model, decay=0.6, warmup=warmup)
    expected = {k: v.clone() for k, v in model.state_dict().items() if v.is_floating_point()}
    for step in range(20):
        train(model, step)
        average.update(step)
        decay = min(0.6, (1 + step) / (10 + step)) if warmup else 0.6
        expected = {k: decay * v + (1 - decay) * model.state_dict()[k] for k, v in expected.items()}
    live = copy.deepcopy(model.state_dict())
    with average.apply():
        state = model.state_dict()
        assert state["1.num_batches_tracked"] == 20
        for name, value in expected.items():
            torch.testing.assert_close(state[name], value, rtol=1e-12, atol=1e-12)
        assert not torch.equal(state["1.running_mean"], live["1.running_mean"])
    assert same(model.state_dict(), live)


def test_the_decay_can_be_changed_without_touching_the_move() -> None:
    """A graph that was captured of `move` reads the tensor that `set_decay` fills."""
    one, other = network(), network()
    whole, parts = EMA(one, decay=0.9, warmup=True), EMA(other, decay=0.9, warmup=True)
    weight = parts.weight
    for step in range(3):
        train(one, step)
        train(other, step)
        whole.update(step)
        parts.prepare(step)
        parts.move()
    assert parts.weight is weight
    assert same(whole.state_dict(), parts.state_dict())


def test_swa_is_the_mean_of_the_epochs_it_was_given() -> None:
    model = network()
    average = SWA(model)
    seen: list[dict[str, Tensor]] = []
    for epoch in range(6):
        train(model, epoch)
        if epoch >= 2:
            average.update(epoch)
            seen.append({k: p.detach().clone() for k, p in model.named_parameters()})
    with average.apply():
        for name, parameter in model.named_parameters():
            mean = torch.stack([weights[name] for weights in seen]).mean(0)
            torch.testing.assert_close(parameter.detach(), mean, rtol=1e-12, atol=1e-12)


def test_swa_before_its_start_is_the_model() -> None:
    model = network()
    average = SWA(model)
    train(model, 0)
    live = copy.deepcopy(model.state_dict())
    with average.apply():
        assert same(model.state_dict(), live)


def test_statistics_estimated_for_the_average_are_given_back() -> None:
    model = network()
    average = SWA(model)
    for epoch in range(3):
        train(model, epoch)
        average.update(epoch)
    live = copy.deepcopy(model.state_dict())
    with average.apply():
        reestimate_bn(model, [images(9)])
        assert model.state_dict()["1.num_batches_tracked"] == 1
    assert same(model.state_dict(), live)


@pytest.mark.parametrize("kind", ["none", "ema", "swa"])
def test_a_loaded_average_goes_on_bitwise(kind: str) -> None:
    def create(model: nn.Module) -> Average:
        return {"none": NoAverage, "ema": lambda: EMA(model, decay=0.9, warmup=True), "swa": lambda: SWA(model)}[kind]()

    model, other = network(), network()
    average = create(model)
    for step in range(3):
        train(model, step)
        average.update(step)
    file = io.BytesIO()
    torch.save((model.state_dict(), average.state_dict()), file)
    weights, state = torch.load(io.BytesIO(file.getvalue()), weights_only=True)
    other.load_state_dict(weights)
    continued = create(other)
    continued.load_state_dict(state)
    for step in range(3, 5):
        train(model, step)
        train(other, step)
        average.update(step)
        continued.update(step)
    with average.apply(), continued.apply():
        assert same(model.state_dict(), other.state_dict())


def test_the_model_is_given_back_after_an_error_too() -> None:
    model = network()
    average = EMA(model, decay=0.5, warmup=False)
    train(model, 0)
    live = copy.deepcopy(model.state_dict())
    with pytest.raises(RuntimeError, match="evaluation"), average.apply():
        raise RuntimeError("evaluation")
    assert same(model.state_dict(), live)


def test_reestimated_statistics_are_the_plain_mean_over_the_batches() -> None:
    model = network().eval()
    batches = [images(seed) for seed in range(5)]
    reestimate_bn(model, batches)
    outputs = [model[0](batch) for batch in batches]  # type: ignore[operator]
    means = torch.stack([out.mean((0, 2, 3)) for out in outputs]).mean(0)
    variances = torch.stack([out.var((0, 2, 3)) for out in outputs]).mean(0)
    bn = model[1]
    torch.testing.assert_close(bn.running_mean, means)
    torch.testing.assert_close(bn.running_var, variances)
    assert bn.momentum == 0.1
    assert not model.training


def test_reestimation_leaves_frozen_statistics() -> None:
    model = network()
    train(model, 0)
    freeze(model, ["1"])
    before = model[1].running_var.clone()  # type: ignore[union-attr,operator]
    reestimate_bn(model, [images(1)])
    assert torch.equal(model[1].running_var, before)  # type: ignore[arg-type]
