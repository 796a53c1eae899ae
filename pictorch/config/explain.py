"""A configuration's mistakes, a line each: `place: key: what is wrong, what was expected, the nearest right thing`."""

import re
from functools import cache
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from pictorch.config.errors import OptionError, UserError, nearest
from pictorch.config.keywords import LIMITS, describe, limit_text, show
from pictorch.config.schema import Config, Model

Origins = dict[str, str]  # dotted key -> the place it was written: "file:line" or "command line"


class ConfigError(UserError):
    """One or more mistakes in a configuration, each on a line of its own: `place: key: what is wrong`."""


def explain_all(error: ValidationError, tree: dict[str, Any], origins: Origins) -> list[str]:
    """Return pydantic's error, a line a mistake; `tree` is what was validated, `origins` where each key was written."""
    lines: dict[str, list[str]] = {}
    for detail in error.errors():
        # A list with a bad item is reported a second time as too short, though it is not empty.
        if not (detail["type"] == "too_short" and detail["input"]):
            key = written_key([str(part) for part in detail["loc"]])
            lines.setdefault(key, []).append(explain(detail, tree, origins))
            # A key of several types is reported once for each of them.
            if len(lines[key]) > 1 and key in known_keys() and "tuple" not in str(known_keys()[key]):
                got = show(detail["input"])
                lines[key] = [f"{place_of(key, origins)}{key}: expected {expected(key, detail)}, got {got}"]
    return [line for of_key in lines.values() for line in of_key]


def explain(error: ErrorDetails, tree: dict[str, Any], origins: Origins) -> str:
    """Return one pydantic error as `place: key: what is wrong, what was expected`."""
    parts = [str(part) for part in error["loc"]]
    key = written_key(parts)
    place, got = place_of(key, origins), error["input"]
    context = error.get("ctx", {})
    match error["type"]:
        case "extra_forbidden":
            return f"{place}{key}: unknown key{near_key(key, tree)}"
        case "union_tag_invalid":
            key, name = f"{key}.name", got["name"]
            names = [str(t).strip(" '") for t in str(context["expected_tags"]).split(",")]
            hint = nearest(name if isinstance(name, str) else "", names)
            return f"{place_of(key, origins)}{key}: unknown name {show(name)}{hint}"
        case "union_tag_not_found":
            return f"{place}{key}: its name is missing; write {key}.name"
        case "missing":
            # The name is what asks for the key; the block itself may stand in another file.
            name_key = f"{key.rpartition('.')[0]}.name"
            place = place_of(name_key, origins) if name_key in origins else place
            return f"{place}{key}: this key is needed and has no default"
        case "literal_error" if isinstance(got, str):
            choices = re.findall(r"'([^']*)'", str(context["expected"]))
            hint = nearest(got, choices) if len(choices) > 1 else ""
            return f"{place}{key}: expected {context['expected']}, got {show(got)}{hint}"
        case "greater_than" | "greater_than_equal" | "less_than" | "less_than_equal":
            limits = " and ".join(f"{LIMITS[k]} {limit_text(v)}" for k, v in context.items() if k in LIMITS)
            return f"{place}{key}: expected a value {limits}, got {show(got)}"
        case "finite_number":
            return f"{place}{key}: expected a finite number, got {show(got)}"
        case "string_too_short":
            return f"{place}{key}: expected a text that is not empty, got {show(got)}"
        case "too_short":
            return f"{place}{key}: expected at least {context.get('min_length', 1)} value, got an empty list"
    return f"{place}{key}: expected {expected(key, error)}, got {show(got)}"


def expected(key: str, error: ErrorDetails) -> str:
    annotation = known_keys().get(key)
    if annotation is None:
        return {"model_type": "a block of keys", "model_attributes_type": "a block of keys"}.get(
            error["type"], error["msg"].lower().removeprefix("input should be ")
        )
    return describe(annotation)


def written_key(parts: list[str]) -> str:
    """Return the dotted key as a user writes it: pydantic's location without union tags and list positions."""
    known, blocks = set(known_keys()), known_blocks()
    key = ""
    for i, part in enumerate(parts):
        longer = f"{key}.{part}" if key else part
        if longer in known or longer in blocks or (i == len(parts) - 1 and key not in known):
            key = longer
    return key


def place_of(key: str, origins: Origins) -> str:
    """Return `file:line: ` of a key, of the nearest block above it, or of a key below it; "" for a default."""
    above = key
    while above:
        if above in origins:
            return f"{origins[above]}: "
        above = above.rpartition(".")[0]
    below = [place for other, place in origins.items() if other.startswith(f"{key}.")]
    return f"{below[-1]}: " if below else ""


def near_key(key: str, tree: dict[str, Any]) -> str:
    """Return the hint for an unknown key: why it is none here, or the nearest keys of its block or of all."""
    known = known_keys()
    block, _, leaf = key.rpartition(".")
    if key in known and key.partition(".")[0] not in tree:
        return f"; keys are nested: `{block}:` on a line, `{leaf}:` indented below it"
    if key in known:
        name = tree[block].get("name")
        return f" of {block} {show(name)}; its keys: {', '.join(sorted(block_keys(block, name)))}"
    same_leaf = [k for k in known if k.rpartition(".")[2] == leaf]
    if same_leaf:
        return "; did you mean " + " or ".join(repr(k) for k in same_leaf) + "?"
    beside = [k.removeprefix(f"{block}.") for k in known if block and k.startswith(f"{block}.")]
    return nearest(leaf, beside or list(Config.model_fields))


@cache
def known_keys() -> dict[str, Any]:
    """Return {dotted key: annotation} of the whole schema, all members of a union together."""
    keys: dict[str, Any] = {}

    def walk(model: type[BaseModel], prefix: str) -> None:
        for name, field in model.model_fields.items():
            members = blocks_of(field.annotation)
            for member in members:
                walk(member, f"{prefix}{name}.")
            if not members:
                keys[prefix + name] = field.annotation

    walk(Config, "")
    return keys


@cache
def known_blocks() -> set[str]:
    """Return the dotted keys of the schema that hold further keys."""
    return {key.rsplit(".", n)[0] for key in known_keys() for n in range(1, key.count(".") + 1)}


def blocks_of(annotation: Any) -> list[type[BaseModel]]:
    """Return the blocks that an annotation allows, however deep in unions."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [block for inner in get_args(annotation) for block in blocks_of(inner)]


def locate(error: OptionError, block: str, origins: Origins) -> ConfigError:
    """Return a component's OptionError as a ConfigError that says where the option was written."""
    key = f"{block}.{error.option}" if error.option else f"{block}.name"
    if error.option and key not in origins:
        return ConfigError(f"{place_of(f'{block}.name', origins)}{block}: {error}")
    return ConfigError(
        f"{place_of(key, origins)}{key}: {error.detail}" if error.option else f"{place_of(key, origins)}{key}: {error}"
    )


def block_keys(block: str, name: str) -> set[str]:
    """Return the keys that `block` can have under `name`; of a model the name only, as options are the family's own."""
    if block == "model":
        return set(Model.model_fields)
    members = blocks_of(Config.model_fields[block].annotation)
    for member in members:
        if member.model_fields["name"].default == name:
            return set(member.model_fields)
    return {key for member in members for key in member.model_fields}
