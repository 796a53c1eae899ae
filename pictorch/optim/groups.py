"""Parameter groups by what a parameter is, the last layer, and parts of a network that do not move."""

from collections.abc import Collection, Iterator, Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase
from functools import cache
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from pictorch.config.errors import UserError

# Their parameters are gains, shifts and tables of vectors, whatever their shape.
NO_WEIGHTS = (_NormBase, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm, nn.Embedding)
BACKBONE = "backbone"


def parameter_groups(
    model: nn.Module,
    *,
    weight_decay: float,
    decay_norm_and_bias: bool,
    decay_only: Sequence[str] | None = None,
    head: Collection[nn.Parameter] = (),
    lr_head_factor: float = 1.0,
    matrices_apart: bool = False,
) -> list[dict[str, Any]]:
    """Return optimiser groups in which each trainable parameter of `model` stands exactly once.

    The papers' code decays every parameter (one group). With `decay_norm_and_bias=False` only weights are decayed, in
    the sense of `is_weight`; with `decay_only` those of them whose names match one of these patterns (with * and ?), as
    programs do that decide by a part of the name. Groups carry "lr_factor": `lr_head_factor` for the parameters of
    `head`, else 1. With `matrices_apart` they carry "muon", true for weights that are not the head's.
    """
    heads = {id(p) for p in head}
    apart = lr_head_factor != 1
    groups: dict[tuple[bool, bool, bool], dict[str, Any]] = {}
    owned = owners(model)
    named = None if decay_only is None else {id(p) for p in matching(model, decay_only)}
    for parameter, owner in owned:
        weight, of_head = is_weight(owner, parameter), id(parameter) in heads
        decayed, muon = decay_norm_and_bias or weight, weight and not of_head
        decayed = decayed and (named is None or id(parameter) in named)
        group = groups.setdefault(
            (apart and of_head, not decayed, matrices_apart and not muon),
            {
                "params": [],
                "weight_decay": weight_decay if decayed else 0.0,
                "lr_factor": lr_head_factor if of_head else 1.0,
                **({"muon": muon} if matrices_apart else {}),
            },
        )
        group["params"].append(parameter)
    assert len(owned) == len({id(p) for g in groups.values() for p in g["params"]})
    assert sum(len(g["params"]) for g in groups.values()) == sum(p.requires_grad for p in model.parameters())
    return [groups[key] for key in sorted(groups)]


def matching(model: nn.Module, patterns: Sequence[str]) -> list[nn.Parameter]:
    """Return the parameters whose dotted names match a pattern. Raises UserError where there are none."""
    names = dict(model.named_parameters())
    found = [parameter for name, parameter in names.items() if any(fnmatchcase(name, p) for p in patterns)]
    if not found:
        near = ", ".join(map(repr, get_close_matches(patterns[0] if patterns else "", names, cutoff=0)))
        raise UserError(f"no parameter has a name like {' or '.join(map(repr, patterns))}; the nearest are {near}")
    return found


def owners(model: nn.Module) -> list[tuple[nn.Parameter, nn.Module]]:
    """Return the trainable parameters in the model's order, each once, with the module that holds it first."""
    first: dict[int, tuple[nn.Parameter, nn.Module]] = {}
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            if parameter.requires_grad:
                first.setdefault(id(parameter), (parameter, module))
    return list(first.values())


def is_weight(owner: nn.Module, parameter: nn.Parameter) -> bool:
    """Return whether a parameter multiplies inputs: not a bias, a norm's, nor a token or a table of embeddings.

    Tokens and position embeddings are what a module holds beside its sub-modules; layers have none (attention aside).
    """
    layer = isinstance(owner, nn.MultiheadAttention) or next(owner.children(), None) is None
    return parameter.ndim >= 2 and layer and not isinstance(owner, NO_WEIGHTS)


def head(model: nn.Module, num_classes: int) -> nn.Module:
    """Return the layer whose outputs are the classes: the last Linear or 1x1 Conv2d of `num_classes`, in module order.

    Our GoogLeNet's auxiliary heads come before its classifier, so they are part of the backbone. Raises UserError.
    """
    found = [layer for layer in outputs(model) if layer.weight.shape[0] == num_classes]
    if not found:
        raise UserError(f"{type(model).__name__} has no Linear or 1x1 Conv2d layer of {num_classes} outputs")
    return found[-1]


def outputs(model: nn.Module) -> Iterator[nn.Linear | nn.Conv2d]:
    """Yield the Linear and 1x1 Conv2d layers in the model's order."""
    for module in model.modules():
        if isinstance(module, nn.Linear) or (isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1)):
            yield module


def freeze(model: nn.Module, patterns: Sequence[str]) -> list[str]:
    """Make the parameters and the norms' statistics of the matching modules stay as they are; return the parameters.

    A pattern (with * and ?) matches the dotted names of modules; "backbone" is everything but the last layer. BN layers
    in it use their running statistics from now on, after `model.train()` too. Raises UserError for a pattern that
    matches nothing.
    """
    modules = {name: module for name, module in model.named_modules() if name}
    matched: list[nn.Module] = []
    for pattern in patterns:
        if pattern == BACKBONE and BACKBONE not in modules:
            last = list(outputs(model))[-1:]
            matched += [module for module in model.modules() if module not in last]
            continue
        found = [name for name in modules if fnmatchcase(name, pattern)]
        if not found:
            near = ", ".join(map(repr, get_close_matches(pattern, [BACKBONE, *modules], cutoff=0)))
            raise UserError(f"no module has a name like {pattern!r}; the nearest names are {near}")
        matched += [part for name in found for part in modules[name].modules()]
    frozen = {id(p) for module in matched for p in module.parameters(recurse=False)}
    for module in matched:
        if isinstance(module, _NormBase):
            module.__class__ = unmoved(type(module))  # type: ignore[arg-type]
            module.eval()
    for parameter in model.parameters():
        if id(parameter) in frozen:
            parameter.requires_grad_(False)
    return [name for name, parameter in model.named_parameters() if id(parameter) in frozen]


@cache
def unmoved(kind: type[_NormBase]) -> type[_NormBase]:
    """Return the class of norms like `kind` that stay in evaluation, and whose statistics nothing resets.

    A class rather than a hook: the mode is right at once, and copies of the model have it too.
    """
    if kind.__name__.startswith("Unmoved"):
        return kind

    def train(self: nn.Module, mode: bool = True) -> nn.Module:
        return kind.train(self, False)

    return type(f"Unmoved{kind.__name__}", (kind,), {"train": train, "reset_running_stats": lambda self: None})
