"""Layers that see the parts of a batch that several processes hold as if one held them all, in parts of the same size.

    synchronised_batch_norm(model, cuda=False)                          statistics of the whole batch
    whole_batch_draws(model, rank=0, size=2)                            each part's rows of what is drawn for the whole

On CUDA the first is torch.nn.SyncBatchNorm, which refuses the CPU; there the sums are all-reduces of ours.
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.modules.batchnorm import _BatchNorm

from pictorch.models.ghost import GhostBatchNorm
from pictorch.models.shake_shake import ShakeUnit


class SynchronisedBatchNorm(GhostBatchNorm):
    """BN [N, C, ...] that in training normalises by the statistics of all processes' inputs together."""

    groups = 1

    def forward(self, input: Tensor) -> Tensor:
        """Return input [N, C, ...] normalised. Raises ValueError for a single value a channel, which has no spread."""
        if not self.training:
            return super().forward(input)
        if dist.get_world_size() * input.numel() == self.num_features:
            raise ValueError(f"batch norm expects more than one value a channel in training, got {tuple(input.shape)}")
        weight = input.new_ones(self.num_features) if self.weight is None else self.weight
        bias = input.new_zeros(self.num_features) if self.bias is None else self.bias
        out, mean, variance = Normalise.apply(input, weight, bias, self.eps)  # type: ignore[no-untyped-call]
        self.move_statistics(mean, variance)
        return out  # type: ignore[no-any-return]


class Normalise(torch.autograd.Function):
    """(input - mean) / sqrt(variance + eps) * weight + bias, of all processes' inputs [N, C, ...].

    Also returned are the mean [C] and the unbiased variance [C], without a gradient. The formulas are those of batch
    norm (arXiv:1502.03167), the sums over all processes.
    """

    @staticmethod
    def forward(ctx: Any, input: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, ...]:
        x = input.to(torch.promote_types(input.dtype, torch.float32))
        dims = [0, *range(2, x.dim())]
        # Each part's own statistics first, which lose no digits, and one exchange: each waits for the slowest process.
        parts = gathered(torch.stack(torch.var_mean(x, dims, correction=0)))
        mean = parts[:, 1].mean(0)
        variance = (parts[:, 0] + (parts[:, 1] - mean).square()).mean(0)
        count = len(parts) * x.numel() // x.shape[1]
        centred = x - along(mean, x)
        factor = (variance + eps).rsqrt()
        ctx.save_for_backward(centred, weight, factor)
        ctx.count = count
        out = (centred * along(factor * weight, x) + along(bias.to(x.dtype), x)).to(input.dtype)
        # Unbiased, as running statistics are.
        variance *= count / (count - 1)
        ctx.mark_non_differentiable(mean, variance)
        return out, mean, variance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, *_: Tensor) -> tuple[Tensor | None, Tensor, Tensor, None]:
        centred, weight, factor = ctx.saved_tensors
        dims = [0, *range(2, centred.dim())]
        g = gradient.to(centred.dtype)
        # Here: those of this process's part, for its own parameters; then of all parts, for the input's gradient.
        sums = torch.stack((g.sum(dims), (g * centred).sum(dims)))
        weight_gradient, bias_gradient = (sums[1] * factor).to(weight.dtype), sums[0].to(weight.dtype)
        x_gradient = None
        if ctx.needs_input_grad[0]:
            means = sums / ctx.count
            dist.all_reduce(means)
            x_gradient = g - along(means[0], g) - centred * along(means[1] * factor.square(), g)
            x_gradient = (x_gradient * along(factor * weight, g)).to(gradient.dtype)
        return x_gradient, weight_gradient, bias_gradient, None


def along(values: Tensor, x: Tensor) -> Tensor:
    """Return values [C] as they stand beside x [N, C, ...]."""
    return values.view(1, -1, *[1] * (x.dim() - 2))


def gathered(values: Tensor) -> Tensor:
    """Return the values [...] of all processes, one after the other [W,...]."""
    everyone = [torch.empty_like(values) for _ in range(dist.get_world_size())]
    dist.all_gather(everyone, values)
    return torch.stack(everyone)


def synchronised_batch_norm(model: nn.Module, *, cuda: bool) -> nn.Module:
    """Make each BN of `model` take its statistics over all processes; return the model, changed in place on a CPU."""
    if cuda:
        return nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-any-return, no-untyped-call]
    for module in model.modules():
        if is_batch_norm(module):
            module.__class__ = SynchronisedBatchNorm
    return model


class WholeBatchDropout(nn.Dropout):
    """Dropout of rows `rank` * N to (`rank` + 1) * N of `size` * N, as a process has it that draws for all of them."""

    rank, size = 0, 1

    def forward(self, input: Tensor) -> Tensor:
        """Return input [N, ...], zeros for a share `p` of its values, the others scaled."""
        if not self.training or not self.p:
            return super().forward(input)
        layout = torch.channels_last if input.dim() == 4 and is_channels_last(input) else torch.contiguous_format
        whole = torch.ones(
            (self.size * len(input), *input.shape[1:]), dtype=input.dtype, device=input.device
        ).contiguous(memory_format=layout)
        return input * super().forward(whole).chunk(self.size)[self.rank]


def is_channels_last(input: Tensor) -> bool:
    return input.is_contiguous(memory_format=torch.channels_last) and not input.is_contiguous()


def whole_batch_draws(model: nn.Module, *, rank: int, size: int) -> nn.Module:
    """Make the dropout and the shaking of `model` those of part `rank` of `size` of a batch; return it, changed.

    Every process then has to draw from a generator of the same seed.
    """
    for module in model.modules():
        if type(module) is nn.Dropout:
            module.__class__ = WholeBatchDropout
        if isinstance(module, WholeBatchDropout | ShakeUnit):
            module.__dict__.update(rank=rank, size=size)
    return model


def is_batch_norm(module: nn.Module) -> bool:
    """Return whether this is one of torch's own batch norms: a frozen one takes no statistics."""
    return isinstance(module, _BatchNorm) and type(module) in (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
