"""Layers computed at once in training: the same as one after the other, in the float64 of torch's own layers."""

import copy
import pickle
import warnings

import pytest
import torch
from torch import Tensor, nn

from pictorch import models
from pictorch.models import fused, kernels
from pictorch.models.fused import fuse_for_training
from pictorch.models.ghost import ghost_batch_norm

BN = nn.BatchNorm2d


def layers(channels: int = 16, activation: type[nn.Module] | None = nn.ReLU, **options: object) -> nn.Sequential:
    torch.manual_seed(0)
    norm = BN(channels, **options)  # type: ignore[arg-type]
    if norm.affine:
        nn.init.uniform_(norm.weight, 0.5, 3)
        nn.init.normal_(norm.bias)
    return nn.Sequential(norm, *([] if activation is None else [activation(inplace=True)]))  # type: ignore[call-arg]


def images(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(shape, generator=generator) * 2 + torch.randn(shape[1], 1, 1, generator=generator)
    return x.to(dtype).contiguous(memory_format=torch.channels_last)


def step(model: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """Return the output, every gradient and the state after one forward and backward pass."""
    x = x.clone().requires_grad_()
    out = model(x)
    model.zero_grad()
    gradient = images(*out.shape, seed=2) if out.dim() == 4 else torch.ones_like(out)
    # The same numbers whatever the dtype
    out.backward(gradient.bfloat16().to(out.dtype))
    found = {"output": out.detach(), "input": x.grad}
    found |= {name: p.grad for name, p in model.named_parameters()}
    return found | {f"state of {name}": value.clone() for name, value in model.state_dict().items()}  # type: ignore[return-value]


def distance(found: dict[str, Tensor], exact: dict[str, Tensor]) -> float:
    """Return the relative distance of all outputs, gradients and states together."""
    one, other = (torch.cat([values[name].double().flatten() for name in exact]) for values in (found, exact))
    return float((one - other).norm() / other.norm())


@pytest.fixture
def used(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the list of the fused layers that were computed."""
    calls: list[str] = []
    for kind in (fused.NormActivation, fused.StridedDepthwise):
        forward = kind.forward

        def watched(*args: object, name: str = kind.__name__, forward: object = forward) -> Tensor:
            calls.append(name)
            return forward(*args)  # type: ignore[operator, no-any-return]

        monkeypatch.setattr(kind, "forward", staticmethod(watched))
    return calls


def test_the_extra_is_installed_where_the_tests_run() -> None:
    assert kernels.available()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("activation", [None, nn.ReLU, nn.ReLU6])
@pytest.mark.parametrize("shape", [(16, 16, 8, 8), (5, 48, 4, 7), (8, 12, 6, 2), (4, 342, 8, 8), (2, 1280, 2, 3)])
def test_norm_and_activation_are_torchs(
    shape: tuple[int, ...], activation: type[nn.Module] | None, dtype: torch.dtype, used: list[str]
) -> None:
    plain = layers(shape[1], activation, momentum=0.3, eps=1e-3)
    ours = copy.deepcopy(plain)
    assert fuse_for_training(ours) == 1
    for seed in range(2):
        x = images(*shape, dtype=dtype, seed=seed)
        found, expected = step(ours, x), step(plain.double(), x.double())
        for name, value in expected.items():
            mapped = name in ("output", "input")
            near = 2**-8 if mapped and dtype == torch.bfloat16 else 1e-4
            torch.testing.assert_close(found[name].to(value.dtype), value, rtol=near, atol=near)
            assert found[name].dtype == (dtype if mapped else ours.state_dict()[name.split()[-1]].dtype)
    assert len(used) == 2


def test_results_do_not_depend_on_threads() -> None:
    ours, x, before = layers(), images(32, 16, 16, 16, dtype=torch.bfloat16), torch.get_num_threads()
    fuse_for_training(ours)
    found = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        found.append(step(copy.deepcopy(ours), x))
    torch.set_num_threads(before)
    assert kernels.grid_of(x).chunks > 1  # type: ignore[union-attr]
    for other in found[1:]:
        assert all(torch.equal(other[name], value) for name, value in found[0].items())


def test_a_far_mean_leaves_the_variance_its_digits() -> None:
    ours, x = layers(momentum=1.0), images(32, 16, 8, 8) + 3000
    fuse_for_training(ours)
    ours(x)
    variance = x.double().var((0, 2, 3))
    torch.testing.assert_close(ours[0].running_var.double(), variance, rtol=1e-4, atol=0)


def test_what_is_not_a_number_stays_so() -> None:
    ours, x = layers(), images(8, 16, 8, 8, dtype=torch.bfloat16)
    x[3, 5, 2, 2] = torch.nan
    fuse_for_training(ours)
    bad = ours(x).isnan()
    assert bad[:, 5].all()
    assert bad.sum() == bad[:, 5].numel()


@pytest.mark.parametrize(
    "case",
    ["eval", "double", "order", "no affine", "no statistics", "plain mean", "hook", "ghost", "no llvmlite", "odd"],
)
def test_everything_else_is_computed_as_before_bitwise(
    case: str, used: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, dict[str, object]] = {
        "no affine": {"affine": False},
        "no statistics": {"track_running_stats": False},
        "plain mean": {"momentum": None},
    }
    plain = layers(**options.get(case, {}))  # type: ignore[arg-type]
    x = images(8, 16, 8, 8)
    if case == "eval":
        plain.eval()
    if case == "double":
        plain, x = plain.double(), x.double()
    if case == "order":
        x = x.contiguous()
    if case == "odd":
        plain, x = layers(7), images(3, 7, 3, 3)
    if case == "ghost":
        ghost_batch_norm(plain, 2)
    if case == "no llvmlite":
        monkeypatch.setattr(kernels, "available", lambda: False)
    ours = copy.deepcopy(plain)
    if case == "hook":
        ours[1].register_forward_hook(lambda *_: None)
        ours[0].register_forward_hook(lambda *_: None)
    assert fuse_for_training(ours) == (case in ("eval", "double", "order", "odd"))
    expected = step(plain, x)
    assert all(torch.equal(value, expected[name]) for name, value in step(ours, x).items())
    assert used == []


def test_one_value_a_channel_is_refused_as_by_torch() -> None:
    ours = layers()
    fuse_for_training(ours)
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        ours(images(1, 16, 1, 1))


def test_what_stands_between_norms_is_computed(used: list[str]) -> None:
    plain = nn.Sequential(
        BN(16), BN(16), nn.ReLU(), nn.ReLU(), nn.Tanh(), BN(16), nn.Conv2d(16, 8, 1), nn.ReLU(), BN(8)
    )
    ours = copy.deepcopy(plain)
    assert fuse_for_training(ours) == 4
    expected = step(plain, images(8, 16, 8, 8))
    for name, value in step(ours, images(8, 16, 8, 8)).items():
        torch.testing.assert_close(value, expected[name], rtol=1e-3, atol=1e-4)
    assert len(used) == 4


@pytest.mark.parametrize("stride", [2, (1, 2), 3])
@pytest.mark.parametrize(("kernel", "size"), [(3, 8), (3, 9), (5, 8)])
def test_strided_depthwise_convolutions_are_torchs(
    kernel: int, size: int, stride: int | tuple[int, int], used: list[str]
) -> None:
    plain = nn.Sequential(nn.Conv2d(16, 16, kernel, stride, kernel // 2, groups=16, bias=False))
    ours = copy.deepcopy(plain).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    assert fuse_for_training(ours) == 1
    x = images(4, 16, size, size + 1, dtype=torch.bfloat16)
    plain[0].weight.data = plain[0].weight.data.bfloat16().float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = step(ours, x)
    for name, value in step(plain, x.float()).items():
        if "state" not in name:
            torch.testing.assert_close(found[name].float(), value, rtol=2**-6, atol=2**-4)
    assert found["0.weight"].dtype == torch.float32
    assert used == ["StridedDepthwise"]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("resnet_preact_20", {}),
        ("resnet_20", {}),
        ("mobilenet_v2_035", {}),
        ("densenet", {"depth": 10, "block_type": "bottleneck"}),
        ("densenet", {"depth": 10, "block_type": "bottleneck", "checkpointing": True}),
        ("shufflenet_v2_050", {}),
        ("shake_shake", {"depth": 8, "base_channels": 16}),
    ],
)
def test_networks_train_alike(name: str, options: dict[str, object], used: list[str]) -> None:
    torch.manual_seed(0)
    plain = models.create(name, num_classes=10, in_channels=3, image_size=32, **options)
    plain = plain.to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    ours = copy.deepcopy(plain)
    found = fuse_for_training(ours)
    x = images(8, 3, 32, 32)
    results = []
    for model in (plain, ours):
        torch.manual_seed(0)
        results.append(step(model, x))
    assert set(used) == {"NormActivation"}
    assert len(used) >= 0.9 * found
    assert results[0].keys() == results[1].keys()
    # Few values lie so near zero that rounding decides about their ReLU, but small batches amplify these.
    assert distance(results[1], results[0]) < 0.05
    plain.load_state_dict(ours.state_dict())
    assert torch.equal(ours.eval()(x), plain.eval()(x))


def test_fused_networks_are_copied_pickled_compiled_and_exported(used: list[str]) -> None:
    model = models.create("densenet", num_classes=10, in_channels=3, image_size=32, depth=7, block_type="basic")
    model = model.to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    fuse_for_training(model)
    x, expected = images(8, 3, 32, 32), None
    for again in (model, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        used.clear()
        out = copy.deepcopy(again)(x)
        assert used
        assert expected is None or torch.equal(out, expected)
        expected = out
    used.clear()
    compiled = torch.compile(copy.deepcopy(model), backend="eager", fullgraph=True)(x)
    torch.testing.assert_close(compiled, expected, rtol=1e-3, atol=1e-3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own, of how it exports
        exported = torch.export.export(model.eval(), (x,)).module()
    torch.testing.assert_close(exported(x), model(x))
    assert used == []


def test_a_frozen_norm_has_no_gradient_and_an_input_may_need_none(used: list[str]) -> None:
    ours = layers()
    fuse_for_training(ours)
    ours[0].weight.requires_grad_(False)
    ours(images(8, 16, 8, 8)).sum().backward()
    assert ours[0].weight.grad is None
    assert ours[0].bias.grad is not None
    assert len(used) == 1
