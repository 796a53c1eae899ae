"""Initial weights of the convolutional families.

Convolution: normal, mean 0, standard deviation sqrt(2 / fan), bias 0 (He et al., "Delving Deep into Rectifiers",
arXiv:1502.01852). Batch normalisation: weight 1, bias 0. Linear: uniform in +-1/sqrt(in_features), bias 0. With mode
"fan_out" these are the rules of the ResNet authors' Torch code, and of most CIFAR programs after it.

    initialise(model, "fan_in")

"fan_out_all" and "fan_in_all" are the rule of document 2's later program: linear weights are drawn like convolutions',
so that those of the last layer have a deviation of sqrt(2 / num_classes), and biases of convolutions stay torch's.

`fan` is kernel area x channels. Of a grouped convolution, "fan_out" counts all output channels, not those of one
group, as the Torch code (kW * kH * nOutputPlane) and torch.nn.init do; "fan_in" counts the channels that one output
reads, in_channels / groups. So a depthwise convolution of C channels gets weights smaller by sqrt(C) with "fan_out".
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any, Literal

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.overrides import TorchFunctionMode

Mode = Literal["fan_out", "fan_in", "fan_out_all", "fan_in_all"]


def initialise(model: nn.Module, mode: Mode = "fan_out") -> None:
    """Draw new weights for every convolution and linear layer in `model`, in place.

    Draws from torch's global generator in the order of `model.modules()`. Batch normalisation begins with 1 and 0 as
    torch makes it. Tensors on the meta device are left alone.
    """
    everything, fan = mode.endswith("_all"), mode.removesuffix("_all")
    for module in model.modules():
        if not isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Linear) or module.weight.is_meta:
            continue
        linear = isinstance(module, nn.Linear)
        if linear and not everything:
            bound = module.weight.shape[1] ** -0.5
            nn.init.uniform_(module.weight, -bound, bound)
        else:
            nn.init.kaiming_normal_(module.weight, mode=fan, nonlinearity="relu")  # type: ignore[arg-type]
        if module.bias is not None and (linear or not everything):
            nn.init.zeros_(module.bias)


def draw_norm_weights(model: nn.Module) -> None:
    """Draw the weights of every batch normalisation from 0 to 1, as Torch7 made them; in place."""
    for module in model.modules():
        if isinstance(module, _BatchNorm) and module.affine:
            nn.init.uniform_(module.weight)


_drawn_later = ContextVar("_drawn_later", default=False)


@contextmanager
def drawn_later() -> Iterator[None]:
    """Promise that all weights made within are drawn before anybody sees them, so that `undrawn` may skip that."""
    token = _drawn_later.set(True)
    try:
        yield
    finally:
        _drawn_later.reset(token)


def undrawn() -> AbstractContextManager[Any]:
    """Return the context in which a layer is made: Undrawn within `drawn_later`, else one that does nothing."""
    return Undrawn() if _drawn_later.get() else nullcontext()


class Undrawn(TorchFunctionMode):
    """While it is entered, the weights of new convolutions and linear layers stay as their memory is.

    Drawing them twice, by torch's rule and then by `initialise`, is most of the time that a network takes to build:
    75 ms instead of 43 for ResNet-18. It looks at every operation, so it is entered for a layer at a time. Tensors on
    the meta device are never drawn: there is nothing to draw, and torch loads its compiler (1 s) to do it.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if name == "kaiming_uniform_" or name in ("normal_", "uniform_", "trunc_normal_"):
            tensor = kwargs["tensor"] if "tensor" in kwargs else args[0]
            if name == "kaiming_uniform_" or tensor.is_meta:
                return tensor
        return func(*args, **kwargs)
