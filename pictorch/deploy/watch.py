"""What a network does with an image, seen from outside: its feature maps, its attention, and what all goes through.

    with Watch() as watch:
        logits = network(images)
    watch.last_map(logits, images)

It listens to torch's functions as they are called, in this thread alone. So it needs no list of layers by family, sees
an activation that is no module, and finds the same in anybody's network; no module is changed but where names are asked
for, and then by hooks that hear this thread only and are taken away again.
"""

import threading
from collections.abc import Callable, Mapping
from math import isqrt
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

SOFTMAX = (torch.softmax, Tensor.softmax, F.softmax)


class Map(NamedTuple):
    """A feature map [N,C,s,s], or [N,s,s,C]: the function of torch that made it, and the how many-th call that was."""

    tensor: Tensor
    function: str
    step: int

    @property
    def side(self) -> int:
        """Its pixels a side."""
        return channels_first(self.tensor).shape[3]


class Attention(NamedTuple):
    """The mean over heads of an attention's weights [N,T,T], rows summing to one; None where they are no such."""

    weights: Tensor | None
    step: int


class Returned(NamedTuple):
    """What a module returned, after so many calls."""

    module: str
    tensor: Tensor
    step: int


class Watch(TorchFunctionMode):
    """Within it maps, attention and, with a `model`, what its modules return are kept; gradients must be enabled.

    The output of the module `layer` is kept as it is even where a later function changes it in place.
    """

    def __init__(self, model: nn.Module | None = None, layer: str | None = None) -> None:
        super().__init__()
        self.maps: dict[int, Map] = {}
        self.attentions: list[Attention] = []
        self.returned: list[Returned] = []
        self.step = 0
        self.model, self.layer = model, layer
        self.hooks: list[Any] = []

    def __enter__(self) -> "Watch":
        super().__enter__()  # type: ignore[no-untyped-call]
        mine = threading.get_ident()

        def listener(name: str) -> Callable[..., Tensor | None]:
            def hear(_module: nn.Module, _inputs: Any, output: Any) -> Tensor | None:
                if threading.get_ident() != mine or not isinstance(output, Tensor):
                    return None
                self.returned.append(Returned(name, output, self.step))
                return output.clone() if name == self.layer else None

            return hear

        if self.model is not None:
            self.hooks = [module.register_forward_hook(listener(name)) for name, module in self.model.named_modules()]
        return self

    def __exit__(self, *raised: Any) -> None:
        for hook in self.hooks:
            hook.remove()
        super().__exit__(*raised)  # type: ignore[no-untyped-call]

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Call the function, and keep what it made."""
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        self.step += 1
        if func is F.scaled_dot_product_attention:
            self.attentions.append(Attention(fused_attention(*args, **kwargs), self.step))
        elif func is F.multi_head_attention_forward:
            self.attentions.append(Attention(module_attention(func, args, kwargs), self.step))
        elif func in SOFTMAX and is_attention(out):
            self.attentions.append(Attention(out.detach().mean(1), self.step))
        elif isinstance(out, Tensor) and is_map(out):
            # A function that works in place returns what it was given: the map as it is from now on.
            self.maps.pop(id(out), None)
            self.maps[id(out)] = Map(out, getattr(func, "__name__", str(func)), self.step)
        return out

    def last_map(self, logits: Tensor, images: Tensor, side: int = 2) -> Map | None:
        """Return the last map of at least `side` pixels a side that all goes through, from the images to the logits.

        What a pooling made is none: the map that it reads is finer and says the same. None where there is no such map.
        """
        for found in reversed(self.maps.values()):
            if found.side >= side and "pool" not in found.function and carries_all(found.tensor, logits, images):
                return found
        return None

    def name_of(self, found: Map) -> str:
        """Return the innermost module that returned the map, or the function that made it and the module before."""
        for returned in self.returned:
            if returned.tensor is found.tensor and returned.step == found.step:
                return returned.module
        before = [returned.module for returned in self.returned if returned.step < found.step]
        return f"{found.function.strip('_')} after {before[-1]}" if before else found.function


def is_map(tensor: Tensor) -> bool:
    """Return whether this is a square map with a gradient, of more than a pixel, for each of some images."""
    if tensor.dim() != 4 or tensor.grad_fn is None:
        return False
    _, first, second, third = tensor.shape
    return (second == third or first == second) and second > 1


def is_attention(out: Any) -> bool:
    """Return whether this is the softmax of the scores of each token for each, [N,heads,T,T]."""
    return isinstance(out, Tensor) and out.dim() == 4 and out.shape[2] == out.shape[3]


def channels_first(features: Tensor) -> Tensor:
    """Return a map [N,C,s,s], [N,s,s,C], or tokens [N,k+s*s,C] of which the first k belong to no place, as [N,C,s,s].

    Raises ValueError for anything else, and a single pixel.
    """
    if features.dim() == 3:
        tokens = features.shape[1]
        side = isqrt(tokens)
        features = features[:, tokens - side**2 :].reshape(len(features), side, side, -1)
    if features.dim() == 4 and features.shape[2] == features.shape[3] > 1:
        return features
    if features.dim() == 4 and features.shape[1] == features.shape[2] > 1:
        return features.permute(0, 3, 1, 2)
    raise ValueError(f"no square map: {list(features.shape)}")


def carries_all(features: Tensor, logits: Tensor, images: Tensor) -> bool:
    """Return whether every way from the images, a leaf of the graph, to the logits goes through this tensor."""
    todo, seen = [logits.grad_fn], {features.grad_fn}
    while todo:
        node = todo.pop()
        if node is None or node in seen:
            continue
        if getattr(node, "variable", None) is images:
            return False
        seen.add(node)
        todo += [edge[0] for edge in node.next_functions]
    return True


@torch.no_grad()
def fused_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor | None:
    """Return the weights [N,T,T] by which F.scaled_dot_product_attention mixes, over heads the mean.

    None where queries are not the keys' tokens, or not all of them see all.
    """
    if attn_mask is not None or is_causal or enable_gqa or query.dim() != 4 or query.shape[2] != key.shape[2]:
        return None
    scores = query @ key.transpose(2, 3) * (query.shape[3] ** -0.5 if scale is None else scale)
    return scores.softmax(3).mean(1)


@torch.no_grad()
def module_attention(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor | None:
    """Return the weights [N,T,T] of a call of nn.MultiheadAttention, over heads the mean; None as above."""
    given = {**kwargs, "need_weights": True, "average_attn_weights": True}
    if kwargs.get("attn_mask") is not None or kwargs.get("key_padding_mask") is not None:
        return None
    weights: Tensor = func(*args, **given)[1]
    return weights if weights.dim() == 3 and weights.shape[1] == weights.shape[2] else None
