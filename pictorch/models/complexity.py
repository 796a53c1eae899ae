"""Trainable parameters and multiply-adds of a network, in total and layer by layer.

    count(model, in_channels=3, image_size=32).macs

A multiply-add is one product in a convolution or a linear layer: outputs times weights per output, in one evaluation
forward of one image. Biases, batch normalisation, activations, pooling and the products inside attention do not count.
Parts that run in training only (auxiliary heads) have parameters but no multiply-adds. Layers are seen where they are
called as modules; a bare `F.conv2d` in somebody's forward is not.
"""

import copy
from itertools import chain
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn


class Complexity(NamedTuple):
    """Size of a network: `params` trainable parameters, `macs` multiply-adds per image."""

    params: int
    macs: int


class Layer(NamedTuple):
    """One layer: dotted `name`, class name, shape of its output for one image (no batch dimension), own counts."""

    name: str
    type: str
    output_shape: tuple[int, ...]
    params: int
    macs: int


def count(model: nn.Module, *, in_channels: int, image_size: int) -> Complexity:
    """Return trainable parameters and multiply-adds of `model` for one image [in_channels, image_size, image_size].

    One forward, on the CPU, or without memory where `model` is on the meta device; it leaves `model` as it is.
    """
    rows = layers(model, in_channels=in_channels, image_size=image_size)
    return Complexity(sum(row.params for row in rows), sum(row.macs for row in rows))


def layers(model: nn.Module, *, in_channels: int, image_size: int) -> list[Layer]:
    """Return the layers of `model` in the order in which an evaluation forward calls them; the columns sum to `count`.

    A layer is a module without children; identities and empty sequences are left out. A layer called twice has two
    rows, its parameters in the first. Modules that hold parameters outside the called layers follow, without a shape.
    """
    return _layers(_copy(model), in_channels, image_size)


def _layers(clone: nn.Module, in_channels: int, image_size: int) -> list[Layer]:
    names = {module: name for name, module in clone.named_modules()}
    rows: list[Layer] = []
    counted: set[Tensor] = set()

    def add(module: nn.Module, shape: tuple[int, ...], macs: int) -> None:
        new = {p for p in module.parameters(recurse=False) if p.requires_grad} - counted
        counted.update(new)
        rows.append(Layer(names[module], type(module).__name__, shape, sum(p.numel() for p in new), macs))

    def record(module: nn.Module, _inputs: Any, output: Any) -> None:
        macs = 0
        if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Linear):
            macs = output.numel() * module.weight[0].numel()
        add(module, tuple(output.shape[1:]) if isinstance(output, Tensor) else (), macs)

    for module in clone.modules():
        if not any(module.children()) and not isinstance(module, nn.Identity | nn.Sequential):
            module.register_forward_hook(record)
    example = next((p for p in clone.parameters() if p.is_floating_point()), torch.empty(0))
    with torch.no_grad(), torch.random.fork_rng(devices=()), torch.device(example.device):
        clone(torch.zeros(1, in_channels, image_size, image_size, dtype=example.dtype))
    for module in names:
        if any(p.requires_grad and p not in counted for p in module.parameters(recurse=False)):
            add(module, (), 0)
    return rows


def activation_bytes(model: nn.Module, *, in_channels: int, image_size: int, batch_size: int = 128) -> int:
    """Return the bytes that a float32 training forward on `batch_size` images keeps for its backward pass.

    They are counted where autograd saves them, each piece of memory once, weights and buffers left out. It is what
    grows with the batch; a step takes more for a moment, for gradients and for what a kernel works on.
    """
    clone = _meta_copy(model).train()
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage._cdata] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), torch.device("meta"):
        graph = clone(torch.zeros(batch_size, in_channels, image_size, image_size))
    for tensor in chain(clone.parameters(), clone.buffers()):
        kept.pop(tensor.untyped_storage()._cdata, None)
    del graph
    return sum(storage.nbytes() for storage in kept.values())


def _copy(model: nn.Module) -> nn.Module:
    """Return a copy of `model` in evaluation mode, on the meta device where a part of it is, else on the CPU, with the
    parameters that are there already."""
    if any(tensor.is_meta for tensor in chain(model.parameters(), model.buffers())):
        return _meta_copy(model)
    # deepcopy takes what it finds in the memo for its own work: so no weight is copied.
    memo: dict[int, Any] = {id(p): p if p.device.type == "cpu" else _parameter(p, "cpu") for p in model.parameters()}
    memo |= {id(b): b.detach().to("cpu", copy=True) for b in model.buffers()}
    return copy.deepcopy(model, memo).eval()


def _meta_copy(model: nn.Module) -> nn.Module:
    """Return a copy of `model` in evaluation mode, its tensors (shared ones still shared) on the meta device."""
    memo: dict[int, Any] = {id(p): _parameter(p, "meta") for p in model.parameters()}
    memo |= {id(b): b.detach().to("meta") for b in model.buffers()}
    return copy.deepcopy(model, memo).eval()


def _parameter(parameter: nn.Parameter, device: str) -> nn.Parameter:
    return nn.Parameter(parameter.detach().to(device), parameter.requires_grad)
