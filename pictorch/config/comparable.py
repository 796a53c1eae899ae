"""What of a configuration decides the result: two runs with the same such settings are runs of the same experiment."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from pictorch.config.schema import EXECUTION_KEYS, Config, flatten, to_dict

# What only changes other keys while the configuration is loaded; those are counted themselves.
LOADING_KEYS = frozenset({"as_published", "schedule.scale"})
ON = "on"


def decisive_settings(config: Config) -> dict[str, Any]:
    """Return {dotted key: plain value} of what decides the result, in the order of the keys.

    Left out are EXECUTION_KEYS, and what has its default, so that a key that is added later changes nothing for older
    runs; but names stand there always, and a block that is off by default is "on".
    """
    flat = flatten(to_dict(config))
    defaults = set(at_default(config))
    counted = {key: value for key, value in flat.items() if key not in EXECUTION_KEYS | LOADING_KEYS | defaults}
    if config.train.select == "last" and config.train.patience_epochs is None:
        counted.pop("train.eval_every_epochs", None)  # nobody looks at these evaluations
    return dict(sorted({**counted, **dict.fromkeys(optional_blocks(config), ON)}.items()))


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
