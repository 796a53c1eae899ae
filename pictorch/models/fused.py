"""Batch norm with its activation in one pass, and depthwise convolutions backward, for training steps on a CPU.

    fuse_for_training(model)                                                in place; -> how many layers it found

The formulas are torch's, and so are results but for rounding: of a map that is normalised and activated in float32 and
rounded once. Where a layer is anything but what is fused here (another device, dtype or order of memory, evaluation,
hooks, torch.compile, torch.export), it is computed as it always was. Modules, parameters and the state dict stay.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from pictorch.models import kernels
from pictorch.models.kernels import Activation, Grid

ACTIVATIONS: dict[type[nn.Module], Activation] = {nn.ReLU: "relu", nn.ReLU6: "relu6"}


class Sequential(nn.Sequential):
    """Layers one after the other; in training, after `fuse_for_training`, several at once where that is faster."""

    fused = False

    def forward(self, input: Tensor) -> Tensor:
        """Return the last layer's output."""
        if not (self.fused and self.training and type(input) is Tensor) or torch.compiler.is_compiling():
            out: Tensor = super().forward(input)  # type: ignore[no-untyped-call]
            return out
        for layer, activation in steps(self):
            input = forward(layer, activation, input)
        return input


def fuse_for_training(model: nn.Module) -> int:
    """Let every nn.Sequential in `model` compute its batch norms, with the ReLU or ReLU6 after them, and its strided
    depthwise convolutions as `forward` does; return how many there are. In place, for CPUs."""
    found = 0
    for module in model.modules():
        if type(module) is nn.Sequential:
            module.__class__ = Sequential
        if isinstance(module, Sequential):
            module.__dict__["fused"] = True
            layers = [layer for layer, _ in steps(module)]
            found += sum(
                (is_plain_norm(layer) and kernels.available()) or is_strided_depthwise(layer) for layer in layers
            )
    return found


def steps(layers: nn.Sequential) -> Iterator[tuple[nn.Module, nn.Module | None]]:
    """Yield each layer, and with a batch norm the activation after it."""
    before: nn.Module | None = None
    for layer in layers:
        if before is not None and is_plain(layer, *ACTIVATIONS):
            yield before, layer
            before = None
            continue
        if before is not None:
            yield before, None
        before = layer if is_plain_norm(layer) else None
        if before is None:
            yield layer, None
    if before is not None:
        yield before, None


def forward(layer: nn.Module, activation: nn.Module | None, x: Tensor) -> Tensor:
    """Return activation(layer(x)) for a batch of training."""
    out: Tensor
    if is_plain_norm(layer):
        assert isinstance(layer, nn.BatchNorm2d)
        grid = grid_for(layer, x)
        if grid is not None:
            kind = ACTIVATIONS[type(activation)] if activation is not None else "none"
            out = NormActivation.apply(x, layer.weight, layer.bias, layer, kind, grid)  # type: ignore[no-untyped-call]
            return out
    elif is_strided_depthwise(layer) and x.dtype == torch.bfloat16 and x.device.type == "cpu":
        assert isinstance(layer, nn.Conv2d)
        out = StridedDepthwise.apply(x, layer.weight, layer.stride, layer.padding)  # type: ignore[no-untyped-call]
        return out
    out = layer(x)
    return out if activation is None else activation(out)


def is_plain(layer: nn.Module, *types: type[nn.Module]) -> bool:
    """Return whether the layer is of one of these very types, and nobody listens to it."""
    return type(layer) in types and not (
        layer._forward_hooks or layer._forward_pre_hooks or layer._backward_hooks or layer._backward_pre_hooks
    )


def is_plain_norm(layer: nn.Module) -> bool:
    """Return whether this is torch's own batch norm, with weights and running statistics that move by a momentum."""
    return (
        is_plain(layer, nn.BatchNorm2d)
        and layer.weight is not None
        and layer.running_mean is not None
        and layer.momentum is not None
    )


def is_strided_depthwise(layer: nn.Module) -> bool:
    """Return whether this is torch's own convolution of each channel with one filter, at some pixels only."""
    return (
        is_plain(layer, nn.Conv2d)
        and isinstance(layer, nn.Conv2d)
        and layer.groups == layer.in_channels == layer.out_channels
        and max(layer.stride) > 1
        and layer.bias is None
        and layer.padding_mode == "zeros"
        and not isinstance(layer.padding, str)
        and all(
            2 * p + 1 == k and d == 1 for p, k, d in zip(layer.padding, layer.kernel_size, layer.dilation, strict=True)
        )
    )


def grid_for(norm: nn.BatchNorm2d, x: Tensor) -> Grid | None:
    """Return the table that x is for the kernels; None where torch is to normalise it."""
    plain = (
        norm.training
        and x.device.type == "cpu"
        and x.dtype in kernels.KINDS
        and norm.weight.dtype == torch.float32
        and x.dim() == 4
        and x.shape[1] == norm.num_features
        and x.numel() > norm.num_features
        and x.is_contiguous(memory_format=torch.channels_last)
    )
    return kernels.grid_of(x) if plain and kernels.available() else None


class NormActivation(torch.autograd.Function):
    """activation(batch norm(x)) [N,C,H,W], the running statistics moved; backward, what is activated is found anew."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, norm: nn.BatchNorm2d, activation: Activation, grid: Grid
    ) -> Tensor:
        channels, count, repeats = x.shape[1], x.numel() // x.shape[1], grid.width // x.shape[1]
        # Differences from any image's values are small enough for the squares' sum to keep its digits.
        shift = x[0, :, 0, 0].float()
        sums = total(kernels.run("moments", grid, [x], [shift.repeat(repeats)]), channels).div_(count)
        mean, variance = shift + sums[0], torch.addcmul(sums[1], sums[0], sums[0], value=-1)
        factor = (variance + norm.eps).rsqrt_()
        scale = factor * weight
        rows = torch.stack((scale, bias - mean * scale, mean)).float().repeat(1, repeats)
        out = kernels.run("normalise", grid, [x], [rows[0], rows[1]], activation)
        move_statistics(norm, rows[2, :channels], variance * (count / (count - 1)))
        ctx.save_for_backward(x, weight, rows, factor)
        ctx.activation, ctx.grid = activation, grid
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor, Tensor, None, None, None]:
        x, weight, rows, factor = ctx.saved_tensors
        grid, channels = ctx.grid, x.shape[1]
        maps = [x, gradient.contiguous(memory_format=torch.channels_last)]
        sums = total(kernels.run("sums", grid, maps, list(rows), ctx.activation), channels)
        weight_gradient, bias_gradient = sums[1] * factor, sums[0]
        x_gradient = None
        if ctx.needs_input_grad[0]:
            part = factor * weight / -(x.numel() // channels)
            slope = part * factor * weight_gradient
            constant = part * bias_gradient - slope * rows[2, :channels]
            more = torch.stack((slope, constant)).float().repeat(1, grid.width // channels)
            x_gradient = kernels.run("gradient", grid, maps, [rows[0], rows[1], more[0], more[1]], ctx.activation)
        return x_gradient, weight_gradient.float(), bias_gradient.float(), None, None, None


def total(sums: Tensor, channels: int) -> Tensor:
    """Return float64 [sums, channels] of the kernels' [chunks, sums, width]."""
    # Not over both at once, which torch does slowly: 2.5 ms for 300 chunks of 150 channels, and so 0.2.
    return sums.sum(0, dtype=torch.float64).view(sums.shape[1], -1, channels).sum(1)


def move_statistics(norm: nn.BatchNorm2d, mean: Tensor, variance: Tensor) -> None:
    """Count a batch of these statistics [C], as torch does."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    assert norm.momentum is not None
    if norm.num_batches_tracked is not None:
        norm.num_batches_tracked.add_(1)
    norm.running_mean.lerp_(mean, norm.momentum)
    norm.running_var.lerp_(variance.to(norm.running_var.dtype), norm.momentum)


class StridedDepthwise(torch.autograd.Function):
    """A depthwise convolution with stride; its input's gradient is that of one without, of a gradient between zeros.

    oneDNN's own for bfloat16 takes 20 times as long (257 ms and not 13, of [128,144,32,32] on one core).
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: tuple[int, int], padding: tuple[int, int]) -> Tensor:
        ctx.dtype, weight = weight.dtype, weight.to(x.dtype)
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.padding = stride, padding
        return F.conv2d(x, weight, None, stride, padding, groups=len(weight))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        x, weight = ctx.saved_tensors
        x_gradient = weight_gradient = None
        if ctx.needs_input_grad[0]:
            spread = torch.zeros_like(x)
            spread[:, :, :: ctx.stride[0], :: ctx.stride[1]] = gradient
            x_gradient = F.conv2d(spread, weight.flip(2, 3), None, 1, ctx.padding, groups=len(weight))
        if ctx.needs_input_grad[1]:
            weight_gradient = torch.ops.aten.convolution_backward(
                gradient,
                x,
                weight,
                None,
                ctx.stride,
                ctx.padding,
                (1, 1),
                False,
                (0, 0),
                len(weight),
                (False, True, False),
            )[1].to(ctx.dtype)
        return x_gradient, weight_gradient, None, None
