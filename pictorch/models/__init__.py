"""Papers' networks by name.

    create("resnet", depth=110)        a family with its options
    create("resnet_110", num_classes=100)        a named variant: options under a name
    create("my_package.nets:MyNet")              a user's own, and timm's as "timm:NAME" (`foreign`)

Every network takes images [N, in_channels, H, W] and returns logits [N, num_classes]; `forward_features` and
`forward_head` are its two halves, `feature_dim` the channels between them, and `reset_classifier(num_classes)` replaces
the last layer. A family is one module with `create` and `VARIANTS`.
"""

import inspect
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from fnmatch import fnmatchcase
from types import MappingProxyType, ModuleType
from typing import Any, NamedTuple

import torch
from torch import nn

from pictorch.config.errors import OptionError, nearest
from pictorch.config.keywords import check_keywords, show
from pictorch.models import (
    airbench,
    densenet,
    foreign,
    googlenet,
    mobilenet_v1,
    mobilenet_v2,
    pyramidnet,
    resnet,
    resnet9,
    resnet_preact,
    resnext,
    shake_shake,
    shufflenet_v1,
    shufflenet_v2,
    vgg,
    vit,
    wrn,
    xception,
)
from pictorch.models.init import Undrawn, drawn_later
from pictorch.models.layers import check_positive

__all__ = ["Family", "ModelSpec", "create", "families", "list_models", "options_of", "resolve", "summary"]

# What every network is given by its data set: no options of a family.
SIZES = frozenset({"num_classes", "in_channels", "image_size"})


class Family(NamedTuple):
    """A kind of network: the function that builds it, its named variants and its paper.

    Where families share the function: `defaults` that are this one's, and options of the others that it goes `without`.
    """

    create: Callable[..., nn.Module]
    variants: Mapping[str, dict[str, object]]
    paper: str
    defaults: Mapping[str, object] = MappingProxyType({})
    without: frozenset[str] = frozenset()


def _family(module: ModuleType, **others: Any) -> Family:
    return Family(module.create, module.VARIANTS, str(module.__doc__).split("\n", 1)[0], **others)


_FAMILIES: dict[str, Family] = {
    "resnet": _family(resnet, without=frozenset({"se_reduction"})),
    "resnet_preact": _family(resnet_preact, without=frozenset({"se_reduction"})),
    "se_resnet": Family(resnet.create, resnet.SE_VARIANTS, resnet.SE_PAPER, {"se_reduction": 16}),
    "se_resnet_preact": Family(
        resnet_preact.create, resnet_preact.SE_VARIANTS, resnet_preact.SE_PAPER, {"se_reduction": 16}
    ),
    "densenet": _family(densenet),
    "pyramidnet": _family(pyramidnet),
    "vgg": _family(vgg),
    "wrn": _family(wrn),
    "resnext": _family(resnext),
    "shake_shake": _family(shake_shake),
    "mobilenet_v1": _family(mobilenet_v1),
    "mobilenet_v2": _family(mobilenet_v2),
    "shufflenet_v1": _family(shufflenet_v1),
    "shufflenet_v2": _family(shufflenet_v2),
    "resnet9": _family(resnet9),
    "airbench": _family(airbench),
    "googlenet": _family(googlenet),
    "xception": _family(xception),
    "vit": _family(vit),
}
_VARIANTS: dict[str, tuple[str, dict[str, object]]] = {
    name: (family, options) for family, entry in _FAMILIES.items() for name, options in entry.variants.items()
}


class ModelSpec(NamedTuple):
    """A family and the options of its `create` that are not left to their defaults."""

    family: str
    options: dict[str, Any]


def create(
    name: str, *, num_classes: int = 10, in_channels: int = 3, image_size: int = 32, **options: object
) -> nn.Module:
    """Return a freshly initialised network for square images [N, in_channels, image_size, image_size].

    `name` is a family or a named variant (`list_models()`), `options` are those of the family. Convolutional networks
    run on other image sizes, too; `image_size` decides their stem and is checked against their strides. The weights
    are drawn from torch's global generator; under `torch.device("meta")` nothing is allocated.

    Raises OptionError, a ValueError, for what is unknown, missing, contradictory or impossible.
    """
    spec = resolve(name, options)
    check_positive(name, num_classes=num_classes, in_channels=in_channels, image_size=image_size)
    sizes = {"num_classes": num_classes, "in_channels": in_channels, "image_size": image_size}
    if foreign.is_foreign(name):
        return foreign.create(name, **sizes, **spec.options)
    with drawn_later(), Undrawn() if torch.get_default_device().type == "meta" else nullcontext():
        return _FAMILIES[spec.family].create(**sizes, **spec.options)


def list_models(pattern: str = "*") -> list[str]:
    """Return the families, each followed by its named variants, that match a shell pattern ("resnet_preact*")."""
    names = [n for family, entry in _FAMILIES.items() for n in (family, *entry.variants)]
    return [name for name in names if fnmatchcase(name, pattern)]


def families() -> Mapping[str, Family]:
    """Return the families by name, in the order in which they are listed."""
    return MappingProxyType(_FAMILIES)


def options_of(family: str) -> list[str]:
    """Return the names of a family's options."""
    entry = _FAMILIES[family]
    return [name for name in inspect.signature(entry.create).parameters if name not in entry.without | SIZES]


def summary(name: str) -> str:
    """Return a family's paper, or the family and options that a named variant stands for."""
    if name in _VARIANTS:
        family, options = _VARIANTS[name]
        return f"{family} with {', '.join(f'{option}={value}' for option, value in options.items())}"
    return _FAMILIES[resolve(name).family].paper


def resolve(name: str, options: Mapping[str, object] | None = None) -> ModelSpec:
    """Return the family that `name` stands for with `options` and the variant's own merged, names and types checked.

    A network of somebody else's is its own family. Raises OptionError for an unknown name or option, a value of the
    wrong type, and an option that contradicts the variant (`resnet_110` with depth 20); whether the values go together
    is for `create` to say.
    """
    options = dict(options or {})
    if foreign.is_foreign(str(name)):
        foreign.check(name, options)
        return ModelSpec(name, options)
    if name not in _FAMILIES and name not in _VARIANTS:
        raise OptionError(str(name), None, f"unknown model{_suggestion(str(name))}")
    family, fixed = _VARIANTS.get(name, (name, {}))
    entry = _FAMILIES[family]
    check_keywords(entry.create, options, owner=family, given=entry.without | SIZES)
    for option, value in fixed.items():
        if options.get(option) not in (None, value):
            raise OptionError(
                name, option, f"{name} has {show(value)}, got {show(options[option])}; {family!r} takes others"
            )
    defaults = {option: value for option, value in entry.defaults.items() if options.get(option) is None}
    return ModelSpec(family, {**options, **defaults, **fixed})


def _suggestion(name: str) -> str:
    close = nearest(name, list_models())
    # Nothing close: the families alone, since all variants together fill a screen.
    return close if "did you mean" in close else nearest(name, _FAMILIES)
