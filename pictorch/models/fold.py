"""A network as its evaluation computes it: batch norm folded into the convolutions, weights cast once.

    answer = fold(model, torch.bfloat16)          logits float32 [N,K] of images [N,C,H,W]; `model` stays as it is

In evaluation batch norm is a factor and a shift for each channel. Where a convolution feeds that norm alone they go
into its weights and bias, in float32, before these are cast. With oneDNN, on a CPU, moreover

- an activation behind a convolution is computed with it,
- a convolution whose output is added to a map that nobody reads any more adds to that map in place,
- a norm and its ReLU without a convolution before them, as in pre-activation networks, are a depthwise 1x1 convolution,
  which reads and writes the map once and not twice.

This is found in what torch.fx records of the network; a network that it cannot record is evaluated as it is.
"""

import operator
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.proxy import GraphAppendingTracer
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_weights

from pictorch.models.layers import Classifier

# In oneDNN's words: the name, and its numbers.
Activation = tuple[str, tuple[float, ...]]
NONE: Activation = ("none", ())
RELU: Activation = ("relu", ())
RELU6: Activation = ("hardtanh", (0.0, 6.0))
ACTIVATIONS: Mapping[object, Activation] = {
    F.relu: RELU,
    torch.relu: RELU,
    torch.relu_: RELU,
    "relu": RELU,
    "relu_": RELU,
    F.relu6: RELU6,
}
ADDITIONS = (operator.add, operator.iadd, torch.add, "add", "add_")
NEW = (operator.add, torch.add, F.pad)  # whose output has memory of its own


def fold(model: nn.Module, dtype: torch.dtype = torch.float32) -> Callable[[Tensor], Tensor]:
    """Return images [N,C,H,W] -> logits float32 [N,K], as `model`, in eval mode, has them with its present weights.

    With `dtype` bfloat16 the network is computed as in autocast, but the head of our own families in float32.
    """
    assert not model.training
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    ours = isinstance(model, Classifier) and type(model).forward is Classifier.forward
    recorder = record(model, model.forward_features if ours else model)  # type: ignore[arg-type]
    network: Callable[[Tensor], Tensor] = model
    head: Any = None
    if recorder:
        network = Folding(recorder, dtype, fused=has_onednn(device, dtype)).network()
        head = model.forward_head if ours else None

    def answer(images: Tensor) -> Tensor:
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
            out = network(images).to(torch.float32)
        if head is None:
            return out
        with torch.autocast(device.type, enabled=False):
            logits: Tensor = head(out)
        return logits

    return answer


def has_onednn(device: torch.device, dtype: torch.dtype) -> bool:
    """Return whether convolutions of this kind can be oneDNN's."""
    if device.type != "cpu" or not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    return dtype == torch.float32 or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


class Recorder(GraphAppendingTracer):
    """Records torch's functions as they are called with a proxy, and the tensors that they are given.

    torch.fx.symbolic_trace would record modules, and for that changes nn.Module itself for a while, under the feet of
    a run in another thread.
    """

    def __init__(self) -> None:
        super().__init__(fx.Graph())
        self.tensors: dict[str, Tensor] = {}

    def create_arg(self, a: Any) -> Any:
        if not isinstance(a, Tensor):
            return super().create_arg(a)
        name = f"tensor_{len(self.tensors)}"
        self.tensors[name] = a.detach()
        return self.create_node("get_attr", name, (), {})


@torch.no_grad()
def record(model: nn.Module, method: Callable[[Any], Any]) -> Recorder | None:
    """Return what a method of the network does with images; None where torch.fx cannot tell."""
    recorder = Recorder()
    # A norm asks how many dimensions its input has, which a proxy cannot say.
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    for norm in norms:
        norm.__dict__["_check_input_dim"] = lambda input: None
    try:
        out = method(recorder.create_proxy("placeholder", "images", (), {}))
        recorder.create_node("output", "output", (recorder.create_arg(out),), {})
    # What a network's code does with a tensor that has no values yet is its own, and so is what it raises.
    except Exception:
        return None
    finally:
        for norm in norms:
            del norm.__dict__["_check_input_dim"]
    return recorder


class Folding:
    """A recorded network, whose convolutions, and what goes into them, are replaced by layers of this module."""

    def __init__(self, recorder: Recorder, dtype: torch.dtype, *, fused: bool) -> None:
        self.graph, self.tensors, self.dtype, self.fused = recorder.graph, recorder.tensors, dtype, fused
        self.layers: dict[str, nn.Module] = {}
        self.factors: dict[fx.Node, Tensor] = {}  # by which a convolution's weights multiply this input's channels
        for node in list(self.graph.nodes):
            if node.target is F.dropout and not node.kwargs["training"]:
                node.replace_all_uses_with(node.args[0])
                self.graph.erase_node(node)
        self.order = {node: i for i, node in enumerate(self.graph.nodes)}
        for node in list(self.order):
            if is_convolution(node):
                self.fold_convolution(node)
            elif fused and is_norm(node) and (activation := activation_of(only_user(node))) != NONE:
                self.fold_norm(node, activation)

    def network(self) -> fx.GraphModule:
        for node in list(self.graph.nodes):
            if node.op == "get_attr" and not node.users:
                self.graph.erase_node(node)
        return fx.GraphModule({**self.tensors, **self.layers}, self.graph)

    def tensor(self, node: Any) -> Tensor | None:
        return None if node is None else self.tensors[node.target]

    def norm(self, node: fx.Node) -> "Norm":
        values = (*node.args[1:], node.kwargs["weight"], node.kwargs["bias"])
        return (*map(self.tensor, values), node.kwargs["eps"])  # type: ignore[return-value]

    def fold_convolution(self, node: fx.Node) -> None:
        """Put one convolution in the place of this one and of what follows it."""
        nodes: list[Any] = [node]
        norm = None
        if is_norm(only_user(node)):
            nodes.append(only_user(node))
            norm = self.norm(nodes[-1])
        other = self.addend(nodes[-1], node) if self.fused else None
        if other:
            nodes.append(only_user(nodes[-1]))
        activation = activation_of(only_user(nodes[-1])) if self.fused else NONE
        # Behind a sum oneDNN is given ReLU alone.
        if activation == RELU or (activation != NONE and not other):
            nodes.append(only_user(nodes[-1]))
        else:
            activation = NONE
        weight, bias = map(self.tensor, node.args[1:3])
        assert weight is not None
        if (factors := self.factors.get(node.args[0])) is not None:  # type: ignore[arg-type]
            weight = weight * factors[:, None, None]
        layer: Any = AddedConvolution if other else Convolution if self.fused else PlainConvolution
        self.replace(nodes, layer(weight, bias, node.args[3:], norm, activation, self.dtype), other)

    def fold_norm(self, node: fx.Node, activation: Activation) -> None:
        """Put one layer in the place of a norm and its activation."""
        last = only_user(node)
        assert last is not None
        readers = list(last.users)
        # ReLU lets positive factors through.
        exact = activation == RELU and all(is_convolution(each) and each.args[6] == 1 for each in readers)
        layer = Normalisation(self.norm(node), activation, self.dtype, exact=exact)
        new = self.replace([node, last], layer)
        if exact:
            self.factors[new] = layer.factors

    def replace(self, nodes: list[Any], layer: nn.Module, other: fx.Node | None = None) -> fx.Node:
        """Put a layer in the place of nodes that follow one another, the first of which has one input; return it."""
        first, last = nodes[0], nodes[-1]
        name = f"folded_{self.order[first]}"
        self.layers[name] = layer
        with self.graph.inserting_before(first):
            new = self.graph.call_module(name, (first.args[0], *([other] if other else [])))
        last.replace_all_uses_with(new)
        for node in reversed(nodes):
            self.graph.erase_node(node)
        self.order[new] = self.order[first]
        return new

    def addend(self, node: fx.Node, convolution: fx.Node) -> fx.Node | None:
        """Return the map to which the node's output is added, where its convolution may add to it in place.

        That map has memory of its own, is there before the convolution, and nobody reads it after that.
        """
        total = only_user(node)
        if total is None or total.target not in ADDITIONS or len(total.args) != 2 or total.kwargs:
            return None
        other = total.args[1] if total.args[0] is node else total.args[0]
        if not isinstance(other, fx.Node) or not (other.target in self.layers or other.target in NEW):
            return None
        readers = [user for user in other.users if user is not total]
        earlier = all(self.order[each] < self.order[convolution] for each in (other, *readers))
        return other if earlier and all(self.only_reads(reader) for reader in readers) else None

    def only_reads(self, node: fx.Node) -> bool:
        """Return whether the node surely leaves its inputs as they are, and has an output of its own."""
        if node.target in self.layers:
            return len(node.args) == 1
        return is_norm(node) or (node.target is F.relu and not node.kwargs["inplace"])


def only_user(node: fx.Node | None) -> fx.Node | None:
    """Return the node that alone takes this one's output; None where there are several."""
    return next(iter(node.users)) if node is not None and len(node.users) == 1 else None


def is_convolution(node: fx.Node) -> bool:
    """Return whether the node is a convolution as nn.Conv2d calls it, whose padding is given in pixels."""
    return (
        node.target is torch.conv2d
        and len(node.args) == 7
        and isinstance(node.args[1], fx.Node)
        and node.args[1].op == "get_attr"
        and isinstance(node.args[4], tuple)
    )


def is_norm(node: fx.Node | None) -> bool:
    """Return whether the node is a batch norm by running statistics, as torch's modules call it."""
    if node is None or node.target is not F.batch_norm or len(node.args) != 3 or node.kwargs["training"]:
        return False
    values = (*node.args[1:], node.kwargs["weight"], node.kwargs["bias"])
    return None not in node.args and all(isinstance(v, fx.Node) and v.op == "get_attr" for v in values if v is not None)


def activation_of(node: fx.Node | None) -> Activation:
    """Return what the node computes of its one input; NONE where that is no activation."""
    return NONE if node is None else ACTIVATIONS.get(node.target, NONE)


# Running mean, running variance, weight, bias, eps.
Norm = tuple[Tensor, Tensor, Tensor | None, Tensor | None, float]
# Stride, padding, dilation, groups.
Geometry = tuple[tuple[int, int], tuple[int, int], tuple[int, int], int]


class PlainConvolution(nn.Module):
    """x [N,C,H,W] -> norm(conv(x)), by torch's own convolution."""

    bias_dtype: torch.dtype | None = None

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None,
        geometry: Geometry,
        norm: Norm | None,
        activation: Activation,
        dtype: torch.dtype,
    ) -> None:
        super().__init__()
        if norm is not None:
            mean, variance, scale, shift, eps = norm
            weight, bias = fuse_conv_bn_weights(weight, bias, mean, variance, eps, scale, shift)
        self.dtype = dtype
        self.weight = weight.detach().to(dtype=dtype, memory_format=torch.channels_last)
        self.bias = None if bias is None else bias.detach().to(self.bias_dtype or dtype)
        self.stride, self.padding, self.dilation, self.groups = geometry
        self.activation, self.numbers = activation

    def forward(self, x: Tensor) -> Tensor:
        x = x.to(self.dtype)
        return F.conv2d(x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


class Convolution(PlainConvolution):
    """x [N,C,H,W] -> activation(norm(conv(x))), by oneDNN."""

    bias_dtype = torch.float32  # oneDNN adds it before it rounds

    def forward(self, x: Tensor) -> Tensor:
        geometry = (self.padding, self.stride, self.dilation, self.groups)
        out: Tensor = torch.ops.mkldnn._convolution_pointwise(
            x.to(self.dtype), self.weight, self.bias, *geometry, self.activation, self.numbers, ""
        )
        return out


class AddedConvolution(PlainConvolution):
    """x [N,C,H,W], other -> activation(norm(conv(x)) + other), by oneDNN in the memory of `other` where that fits."""

    def forward(self, x: Tensor, other: Tensor) -> Tensor:  # type: ignore[override]
        x = x.to(self.dtype)
        if other.dtype != self.dtype or other.shape != self.shape(x):
            out = super().forward(x) + other
            return out if self.activation == "none" else out.relu_()
        geometry = (self.padding, self.stride, self.dilation, self.groups)
        activation = None if self.activation == "none" else self.activation
        added: Tensor = torch.ops.mkldnn._convolution_pointwise_(
            other, x, self.weight, self.bias, *geometry, "add", None, activation, [], ""
        )
        return added

    def shape(self, x: Tensor) -> tuple[int, ...]:
        """Return the shape of the convolution's output."""
        sizes = zip(x.shape[2:], self.weight.shape[2:], self.padding, self.stride, self.dilation, strict=True)
        return (len(x), len(self.weight), *((n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, p, s, d in sizes))


class Normalisation(nn.Module):
    """x [N,C,H,W] -> activation(norm(x)), by oneDNN; where `exact`, still to be multiplied by `factors` [C].

    Those make up for the rounding of the norm's scale to `dtype`.
    """

    def __init__(self, norm: Norm, activation: Activation, dtype: torch.dtype, *, exact: bool) -> None:
        super().__init__()
        mean, variance, weight, bias, eps = norm
        scale = torch.rsqrt(variance + eps)
        scale = scale if weight is None else scale * weight
        self.dtype = dtype
        self.scale = scale.to(dtype)
        self.factors = torch.where(self.scale != 0, scale / self.scale, 1.0) if exact else torch.ones_like(scale)
        self.shift = (0 if bias is None else bias / self.factors) - mean * self.scale
        self.activation, self.numbers = activation

    def forward(self, x: Tensor) -> Tensor:
        x = x.to(self.dtype)
        maps = x if x.ndim == 4 else x.reshape(*x.shape[:2], -1, 1)  # norms of vectors and volumes
        weight, once = self.scale[:, None, None, None], (1, 1)
        out: Tensor = torch.ops.mkldnn._convolution_pointwise(
            maps, weight, self.shift, (0, 0), once, once, len(weight), self.activation, self.numbers, ""
        )
        return out if x.ndim == 4 else out.reshape(x.shape)
