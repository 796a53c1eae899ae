"""What of a configuration decides the result: two runs with the same such settings are runs of the same experiment."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from pictorch.config.schema import EXECUTION_KEYS, Config, flatten, to_dict

# What only changes other keys while the configuration is loaded; those are counted themselves.
LOADING_KEYS = frozenset({"as_published", "schedule.scale"})
ON = "on"
# (name, options) of a network as written -> its family, and the options that are not the family's defaults.
Network = Callable[[str, Mapping[str, Any]], tuple[str, Mapping[str, Any]]]


def decisive_settings(config: Config, network: Network) -> dict[str, Any]:
    """Return {dotted key: plain value} of what decides the result, in the order of the keys.

    Left out are EXECUTION_KEYS, and what has its default, so that a key that is added later changes nothing for older
    runs; but names stand there always, and a block that is off by default is "on". A network is what `network` says,
    so that a named variant and its family with the same options are the same.
    """
    flat = flatten(to_dict(config))
    family, options = network(config.model.name, config.model.options)
    written = {"model.name": family, **{f"model.{key}": plain(value) for key, value in options.items()}}
    left_out = {*EXECUTION_KEYS, *LOADING_KEYS, *at_default(config)}
    left_out.update(key for key in flat if key.startswith("model.") and key != "model.init_from")
    counted = {key: value for key, value in flat.items() if key not in left_out} | written
    if config.train.select == "last" and config.train.patience_epochs is None:
        counted.pop("train.eval_every_epochs", None)  # nobody looks at these evaluations
    return dict(sorted({**counted, **dict.fromkeys(optional_blocks(config), ON)}.items()))


def whole_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return {dotted key: plain value} of `decisive_settings` with the defaults that it left out, but a network's.

    Those that a later version does not take are returned as they are.
    """
    tree: dict[str, Any] = {}
    for key, value in settings.items():
        *blocks, leaf = key.split(".")
        place = tree
        for block in blocks:
            place = place.setdefault(block, {})
        if value != ON:
            place[leaf] = value
        elif leaf not in place:
            place[leaf] = {}
    try:
        whole = flatten(to_dict(Config.model_validate(tree)))
    except ValidationError:
        return dict(settings)
    return {key: value for key, value in whole.items() if key not in LOADING_KEYS} | dict(settings)


def plain(value: object) -> Any:
    """Return an option as YAML and JSON have it: a list for a tuple."""
    return json.loads(json.dumps(value))


def comparable_hash(settings: Mapping[str, Any]) -> str:
    """Return 12 hex digits that are equal for the same decisive settings."""
    return hashlib.sha256(json.dumps(dict(settings), sort_keys=True).encode()).hexdigest()[:12]


def at_default(block: BaseModel, prefix: str = "") -> Iterator[str]:
    """Yield the dotted keys, names aside, whose value is the default of their block's kind."""
    for name, field in type(block).model_fields.items():
        value = getattr(block, name)
        if isinstance(value, BaseModel):
            yield from at_default(value, f"{prefix}{name}.")
        elif name != "name" and value == field.default:
            yield prefix + name


def optional_blocks(block: BaseModel, prefix: str = "") -> Iterator[str]:
    """Yield the dotted keys of blocks that are there and are not by default."""
    for name, field in type(block).model_fields.items():
        value = getattr(block, name)
        if isinstance(value, BaseModel):
            if field.default is None:
                yield prefix + name
            yield from optional_blocks(value, f"{prefix}{name}.")
