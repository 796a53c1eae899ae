"""YAML recipes, `extends`, overrides, defaults -> Config, or one message with every mistake and the place it stands."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pictorch.config import recipes
from pictorch.config.errors import UserError
from pictorch.config.explain import ConfigError, Origins, block_keys, explain_all, place_of
from pictorch.config.files import Layer, parse_value, read_yaml, shown
from pictorch.config.schema import Config, Train

COMMAND_LINE = "command line"
KEY = re.compile(r"[A-Za-z_]\w*(\.\w+)*")


@dataclass(frozen=True)
class Loaded:
    """A configuration, where each value was written, what the loader changed by itself, and the recipe's name."""

    config: Config
    origins: Origins
    notes: tuple[str, ...]
    recipe: str


def load(source: str | Path | None = None, overrides: Sequence[str] = ()) -> Loaded:
    """Return the complete configuration of a recipe name, a YAML file's Path, or (None) the default recipe.

    `overrides` are `a.b=value`, or `a.b` followed by `value`; values are YAML. Raises UserError for an
    unknown recipe, ConfigError for every mistake in what it holds.
    """
    if source is None:
        source = recipes.DEFAULT
    path = source if isinstance(source, Path) else recipes.find(source)
    notes: list[str] = []
    tree: dict[str, Any] = {}
    origins: Origins = {}
    for layer in (*read_chain(path), parse_overrides(overrides)):
        merge(tree, origins, layer, notes)
    if isinstance(tree.get("schedule"), dict):
        tree["schedule"].setdefault("name", Config().schedule.name)
    config = validate(tree, origins)
    check(config, origins)
    return Loaded(config, origins, tuple(notes), path.stem if isinstance(source, Path) else source)


def read_chain(path: Path, seen: tuple[Path, ...] = ()) -> list[Layer]:
    """Return the layers of a YAML file, its `extends` ancestors first."""
    path = path.resolve()
    if path in seen:
        circle = " -> ".join(shown(p) for p in (*seen, path))
        raise ConfigError(f"{shown(path)}: extends: the files extend each other in a circle: {circle}")
    layer = read_yaml(path)
    parent = layer.tree.pop("extends", None)
    place = layer.origins.pop("extends", shown(path))
    if parent is None:
        return [layer]
    if not isinstance(parent, str):
        raise ConfigError(f"{place}: extends: expected the name of a recipe or of a file, got {parent!r}")
    beside = path.parent / (parent if parent.endswith((".yaml", ".yml")) else f"{parent}.yaml")
    if not beside.is_file():
        try:
            beside = recipes.find(parent)
        except UserError as error:
            raise ConfigError(f"{place}: extends: {error}") from None
    return [*read_chain(beside, (*seen, path)), layer]


def parse_overrides(tokens: Sequence[str]) -> Layer:
    """Return `a.b=v` and `a.b v` tokens as a layer. Raises ConfigError for a token that is neither."""
    tree: dict[str, Any] = {}
    origins: Origins = {}
    rest = iter(tokens)
    for token in rest:
        if token.startswith("-"):
            raise ConfigError(
                f"{COMMAND_LINE}: {token}: unknown option; a setting is written key=value, for example train.epochs=2"
            )
        key, equals, text = token.partition("=")
        if not KEY.fullmatch(key):
            raise ConfigError(f"{COMMAND_LINE}: {token!r}: expected key=value, for example train.epochs=2")
        if not equals:
            following = next(rest, None)
            if following is None:
                raise ConfigError(f"{COMMAND_LINE}: {key}: no value is given for it; write {key}=value")
            text = following
        try:
            value = parse_value(text)
        except ValueError as error:
            raise ConfigError(f"{COMMAND_LINE}: {key}: {text!r} is not a YAML value: {error}") from None
        put(tree, key, value)
        origins[key] = COMMAND_LINE
    return Layer(tree, origins)


def put(tree: dict[str, Any], key: str, value: Any) -> None:
    """Set a dotted key in nested dicts, making the blocks on the way."""
    *blocks, leaf = key.split(".")
    for block in blocks:
        if not isinstance(tree.get(block), dict):
            tree[block] = {}
        tree = tree[block]
    if isinstance(value, dict) and isinstance(tree.get(leaf), dict):
        lay_over(tree[leaf], value)
    else:
        tree[leaf] = value


def merge(tree: dict[str, Any], origins: Origins, layer: Layer, notes: list[str]) -> None:
    """Lay `layer` over `tree` in place.

    A block whose `name` changes drops the options that the old name had; a run whose `train.epochs` changes has its
    schedule scaled. Both are said in `notes`.
    """
    for block in ("model", "optim", "schedule"):
        drop_foreign_options(tree, block, layer, notes)
    epochs = epochs_of(tree)
    lay_over(tree, layer.tree)
    origins.update(layer.origins)
    if tree.get("schedule") and epochs != epochs_of(tree):
        scale_schedule(tree["schedule"], epochs, epochs_of(tree), layer, notes)


def epochs_of(tree: dict[str, Any]) -> int:
    """Return `train.epochs`, or its default as long as there is no valid one."""
    train = tree.get("train")
    epochs = train.get("epochs") if isinstance(train, dict) else None
    return epochs if type(epochs) is int and epochs > 0 else Train().epochs


def lay_over(below: dict[str, Any], above: dict[str, Any]) -> None:
    for key, value in above.items():
        if isinstance(value, dict) and isinstance(below.get(key), dict):
            lay_over(below[key], value)
        elif isinstance(value, dict):
            below[key] = {}
            lay_over(below[key], value)
        else:
            below[key] = value


def drop_foreign_options(tree: dict[str, Any], block: str, layer: Layer, notes: list[str]) -> None:
    below, above = tree.get(block), layer.tree.get(block)
    if not isinstance(below, dict) or not isinstance(above, dict):
        return
    name = above.get("name", below.get("name"))
    if name == below.get("name") or not isinstance(name, str):
        return
    kept = block_keys(block, name)
    dropped = [key for key in below if key not in kept]
    for key in dropped:
        del below[key]
    dropped = [key for key in dropped if key not in above]
    if dropped:
        place = layer.origins.get(f"{block}.name", COMMAND_LINE)
        listed = ", ".join(f"{block}.{key}" for key in dropped)
        notes.append(f"{place}: {block}.name is now {name!r}, so {listed} of the recipe no longer apply")


def scale_schedule(schedule: dict[str, Any], old: int, new: int, layer: Layer, notes: list[str]) -> None:
    """Stretch what the schedule counts in epochs from `old` to `new`, but for what `layer` gives itself."""
    if not isinstance(schedule, dict) or schedule.get("scale") is False:
        return
    for key in ("milestones_epochs", "warmup_epochs"):
        given = schedule.get(key)
        numbers = given if isinstance(given, tuple) else (given,)
        if f"schedule.{key}" in layer.origins or not all(type(n) in (int, float) and n > 0 for n in numbers):
            continue
        scaled = tuple(n * new / old for n in numbers)
        schedule[key] = scaled if isinstance(given, tuple) else scaled[0]
        was, now = (", ".join(f"{n:g}" for n in ns) for ns in (numbers, scaled))
        notes.append(f"schedule.{key}: {was} became {now} with train.epochs (schedule.scale=false keeps it)")


def check(config: Config, origins: Origins) -> None:
    """Raise ConfigError for values that are each valid but do not go together."""
    mistakes = []
    if config.train.select == "best-val" and not config.data.val_fraction:
        mistakes.append(("train.select", "best-val needs a validation part: set data.val_fraction, for example 0.1"))
    if config.optim.nesterov and not config.optim.momentum:
        mistakes.append(("optim.nesterov", "needs optim.momentum above 0; set it, or optim.nesterov=false"))
    if config.schedule.warmup_epochs > config.train.epochs:
        text = f"{config.schedule.warmup_epochs:g} epochs of warm-up do not fit into train.epochs={config.train.epochs}"
        mistakes.append(("schedule.warmup_epochs", text))
    milestones = getattr(config.schedule, "milestones_epochs", ())
    if list(milestones) != sorted(set(milestones)):
        mistakes.append(("schedule.milestones_epochs", f"expected rising epochs, got {list(milestones)}"))
    if mistakes:
        raise ConfigError("\n".join(f"{place_of(key, origins)}{key}: {text}" for key, text in mistakes))


def validate(tree: dict[str, Any], origins: Origins) -> Config:
    """Return the Config of nested dicts. Raises ConfigError that lists every mistake with its place."""
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        raise explain_all(error, tree, origins) from None
