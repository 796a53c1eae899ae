"""Ghost batch norm against a slow reference: a BN of its own for every part of the batch."""

import copy

import pytest
import torch
from torch import Tensor, nn

from pictorch import models
from pictorch.models.ghost import ghost_batch_norm


def bn(**options: object) -> nn.BatchNorm2d:
    layer = nn.BatchNorm2d(3, **options)  # type: ignore[arg-type]
    torch.manual_seed(0)
    if layer.affine:
        nn.init.uniform_(layer.weight)
        nn.init.uniform_(layer.bias)
    return layer


def slow(layers: list[nn.BatchNorm2d], images: Tensor) -> Tensor:
    """Return what as many processes compute, each with its part of the batch."""
    return torch.cat([layer(part) for layer, part in zip(layers, images.chunk(len(layers)), strict=True)])


@pytest.mark.parametrize("options", [{}, {"momentum": None}, {"affine": False}, {"momentum": 0.4, "eps": 1e-2}])
@pytest.mark.parametrize("groups", [2, 4])
def test_parts_are_normalised_alone_and_statistics_are_their_mean(groups: int, options: dict[str, object]) -> None:
    ghost = ghost_batch_norm(nn.Sequential(bn(**options)), groups).double()
    layers = [bn(**options).double() for _ in range(groups)]
    for step in range(3):
        images = torch.randn(8, 3, 5, 4, generator=torch.Generator().manual_seed(step)).double()
        ours, theirs = images.clone().requires_grad_(), images.clone().requires_grad_()
        out, expected = ghost(ours), slow(layers, theirs)
        torch.testing.assert_close(out, expected, rtol=1e-12, atol=1e-12)
        (out**3).sum().backward()
        (expected**3).sum().backward()
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-9, atol=1e-12)
    for name in ("running_mean", "running_var"):
        mean = torch.stack([getattr(layer, name) for layer in layers]).mean(0)
        torch.testing.assert_close(getattr(ghost[0], name), mean, rtol=1e-12, atol=1e-12)
    assert ghost[0].num_batches_tracked == 3
    if ghost[0].affine:
        total = sum(layer.weight.grad for layer in layers)  # type: ignore[misc]
        torch.testing.assert_close(ghost[0].weight.grad, total, rtol=1e-9, atol=1e-12)
    assert torch.equal(ghost.eval()(images[:3]), nn.functional.batch_norm(
        images[:3], ghost[0].running_mean, ghost[0].running_var, ghost[0].weight, ghost[0].bias, eps=ghost[0].eps
    ))  # fmt: skip


def test_one_group_is_bn_bitwise() -> None:
    plain = models.create("resnet_preact_20", num_classes=10, in_channels=3, image_size=32)
    ghost = ghost_batch_norm(copy.deepcopy(plain), 1)
    images = torch.randn(4, 3, 32, 32)
    for model in (plain, ghost):
        model.train()(images).sum().backward()
    assert plain.state_dict().keys() == ghost.state_dict().keys()
    assert all(torch.equal(plain.state_dict()[k], v) for k, v in ghost.state_dict().items())
    pairs = zip(plain.parameters(), ghost.parameters(), strict=True)
    assert all(torch.equal(p.grad, q.grad) for p, q in pairs)  # type: ignore[arg-type]


def test_evaluation_is_the_plain_networks() -> None:
    plain = models.create("resnet_preact_20", num_classes=10, in_channels=3, image_size=32)
    ghost = ghost_batch_norm(copy.deepcopy(plain), 2)
    ghost.load_state_dict(plain.state_dict())
    images = torch.randn(3, 3, 32, 32)
    assert torch.equal(plain.eval()(images), ghost.eval()(images))


def test_a_second_pass_of_checkpointing_does_not_count() -> None:
    torch.manual_seed(0)
    options = {"depth": 22, "block_type": "bottleneck", "num_classes": 10, "in_channels": 3, "image_size": 32}
    plain = models.create("densenet", **options)
    checkpointing = models.create("densenet", checkpointing=True, **options)
    checkpointing.load_state_dict(plain.state_dict())
    images = torch.randn(4, 3, 32, 32)
    for model in (plain, checkpointing):
        ghost_batch_norm(model, 2).train()(images).sum().backward()
    torch.testing.assert_close(plain.state_dict(), checkpointing.state_dict())


def test_layout_and_type_are_kept() -> None:
    for dtype in (torch.float32, torch.bfloat16):
        images = torch.randn(4, 3, 5, 5).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        images = images.to(dtype).requires_grad_()
        out = ghost_batch_norm(nn.Sequential(bn()), 2)(images)
        out.sum().backward()
        assert out.dtype == dtype
        assert out.is_contiguous(memory_format=torch.channels_last)
        assert images.grad.is_contiguous(memory_format=torch.channels_last)


def test_a_batch_that_does_not_divide_is_named() -> None:
    model = ghost_batch_norm(nn.Sequential(bn()), 3)
    with pytest.raises(ValueError, match="a batch of 8 images does not divide into 3 ghost batches"):
        model(torch.randn(8, 3, 2, 2))
    with pytest.raises(ValueError, match="at least 1 group, got 0"):
        ghost_batch_norm(model, 0)
