"""YAML recipes, `extends`, overrides, defaults -> Config, or one message with every mistake and the place it stands."""

import os
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pictorch.config import quirks, recipes
from pictorch.config.contradictions import contradictions
from pictorch.config.errors import nearest
from pictorch.config.explain import ConfigError, Origins, block_keys, explain_all, known_blocks, known_keys
from pictorch.config.files import Layer, absolute, parse, read_yaml, shown
from pictorch.config.keywords import show
from pictorch.config.schema import MOST_EPOCHS, Config, Document, Train, flatten, to_dict

COMMAND_LINE = "command line"
SCALED = (
    ("schedule", "milestones_epochs"),
    ("schedule", "warmup_epochs"),
    ("schedule", "first_cycle_epochs"),
    ("swa", "start_epochs"),
)
KEY = re.compile(r"[A-Za-z_]\w*(\.\w+){0,9}")


@dataclass(frozen=True)
class Loaded:
    """A configuration, where each value was written, what the loader changed by itself, and the recipe's name."""

    config: Config
    origins: Origins
    notes: tuple[str, ...]
    recipe: str


def load(
    source: str | Path | None = None,
    overrides: Sequence[str] = (),
    *,
    check: Callable[[Loaded, Collection[str]], list[str]] | None = None,
) -> Loaded:
    """Return the complete configuration of a recipe name, a YAML file's Path, or (None) the default recipe.

    `overrides` are `a.b=value`, or `a.b` followed by `value`; values are YAML. A single one may be a plain str.
    `check` returns further mistakes, of what only the components know, in those top-level blocks that are free of
    mistakes so far; in the Loaded that it is given, the other blocks have their defaults. Raises UserError for an
    unknown recipe, ConfigError that tells every mistake and what the loader changed by itself.
    """
    if source is None:
        source = recipes.DEFAULT
    path = source if isinstance(source, Path) else recipes.find(source)
    notes: list[str] = []
    below = Layer({}, {})
    layers = (*read_chain(path), parse_overrides([overrides] if isinstance(overrides, str) else overrides))
    for layer in layers:
        merge(below, layer, notes)
    tree, origins = below
    for block in ("loss", "optim", "schedule"):
        if isinstance(tree.get(block), dict):
            tree[block].setdefault("name", getattr(Config(), block).name)
    config, mistakes, sound = validate(tree, origins)
    if config.as_published and not mistakes:
        take_quirks(config, config.as_published, below, said_beside(layers), notes)
        config, mistakes, sound = validate(tree, origins)
    loaded = Loaded(config, origins, tuple(notes), path.stem if isinstance(source, Path) else source)
    mistakes += contradictions(config, origins, sound)
    if check:
        mistakes += check(loaded, sound)
    if mistakes:
        raise complaint(mistakes, loaded)
    return loaded


def said_beside(layers: Sequence[Layer]) -> set[str]:
    """Return the keys of the last layer that says `as_published` and of those laid over it: what it does not change."""
    last = max(i for i, layer in enumerate(layers) if "as_published" in layer.origins)
    return {key for layer in layers[last:] for key in layer.origins}


def take_quirks(config: Config, document: Document, below: Layer, said: Collection[str], notes: list[str]) -> None:
    """Set the keys of all quirks of a document's program that apply, but for those in `said`; say so in `notes`.

    What a recipe has is changed. What stands beside or over `as_published`, on the command line or in the same file,
    stays, so that a resolved configuration is loaded as it is.
    """
    place = f"as_published={document}"
    flat = flatten(to_dict(config))
    wanted: dict[str, tuple[Any, list[str]]] = {}
    for quirk in quirks.of_document(document, config):
        for key, value in quirk.settings(document).items():
            wanted.setdefault(key, (value, []))[1].append(quirk.name)
    if not wanted:
        notes.append(f"{place}: its program has no quirk for this configuration: nothing is changed")
    for key, (value, names) in wanted.items():
        new = flatten({key: value})
        if all(k in flat and show(flat[k]) == show(v) for k, v in new.items()):
            continue
        if key in said:
            was = below.origins.get(key, COMMAND_LINE)
            notes.append(f"{place}: {key} stays as it is given ({was}), not {show(value)} ({', '.join(names)})")
            continue
        notes.append(f"{place}: {key}={show(value)} ({', '.join(names)})")
        tree, origins = value, dict.fromkeys(new, place)
        for part in reversed(key.split(".")):
            tree = {part: tree}
        lay_over(below, Layer(tree, {**origins, key: place}))


def complaint(mistakes: Sequence[str], loaded: Loaded) -> ConfigError:
    """Return the mistakes as one error, with the notes behind them: what was changed may be what went wrong."""
    return ConfigError("\n".join([*mistakes, *(f"note: {note}" for note in loaded.notes)]))


def read_chain(path: Path, seen: tuple[Path, ...] = ()) -> list[Layer]:
    """Return the layers of a YAML file, its `extends` ancestors first."""
    path = absolute(path)
    if path in seen:
        circle = " -> ".join(shown(p) for p in (*seen, path))
        raise ConfigError(f"{shown(path)}: extends: the files extend each other in a circle: {circle}")
    layer = name_blocks(read_yaml(path))
    parent = layer.tree.pop("extends", None)
    place = layer.origins.pop("extends", shown(path))
    if parent is None:
        return [layer]
    if not isinstance(parent, str):
        raise ConfigError(f"{place}: extends: expected the name of a recipe or of a file, got {show(parent)}")
    return [*read_chain(find_parent(parent, path.parent, place), (*seen, path)), layer]


def find_parent(name: str, directory: Path, place: str) -> Path:
    """Return the file that `extends: name` means: one beside the file that says so, else a shipped recipe."""
    file = name if name.endswith((".yaml", ".yml")) else f"{name}.yaml"
    beside = directory / os.path.expanduser(file)
    if os.path.isfile(beside):
        return beside
    if name in recipes.names():
        return recipes.find(name)
    hint = nearest(name, recipes.names())
    raise ConfigError(
        f"{place}: extends: there is neither a file {show(shown(beside))} nor a recipe {show(name)}{hint}"
    )


def parse_overrides(tokens: Sequence[str]) -> Layer:
    """Return `a.b=v` and `a.b v` tokens as a layer. Raises ConfigError for a token that is neither."""
    whole = Layer({}, {})
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
        lay_over(whole, override(key, text))
    return whole


def override(key: str, text: str) -> Layer:
    """Return one setting of the command line as a layer."""
    tree, origins = parse(text, lambda line: COMMAND_LINE, key)
    while key:
        origins[key] = COMMAND_LINE
        key, _, leaf = key.rpartition(".")
        tree = {leaf: tree}
    return name_blocks(Layer(tree, origins))


def merge(below: Layer, above: Layer, notes: list[str]) -> None:
    """Lay `above` over `below` in place.

    A block whose `name` changes drops the options that the old name had; a run whose `train.epochs` changes has its
    schedule scaled. Both are said in `notes`.
    """
    for block in ("model", "loss", "optim", "schedule"):
        drop_foreign_options(below, block, above, notes)
    old = epochs_of(below.tree)
    lay_over(below, above)
    new = epochs_of(below.tree)
    if old and new and old != new:
        scale_epochs(below.tree, old, new, above, notes)


def name_blocks(layer: Layer) -> Layer:
    """Return the layer with {name: text} for a text where a block with a name belongs.

    So `optim: adam` and `augment.policy=randaugment` are enough where no option is given.
    """
    for key in [key for key in known_blocks() if f"{key}.name" in known_keys()]:
        *path, leaf = key.split(".")
        block: Any = layer.tree
        for part in path:
            block = block.get(part) if isinstance(block, dict) else None
        if isinstance(block, dict) and isinstance(block.get(leaf), str):
            block[leaf] = {"name": block[leaf]}
            layer.origins[f"{key}.name"] = layer.origins.get(key, COMMAND_LINE)
    return layer


def epochs_of(tree: dict[str, Any]) -> int | None:
    """Return `train.epochs`, its default where it is not given, None where it is not valid."""
    train = tree.get("train", {})
    epochs = train.get("epochs", Train().epochs) if isinstance(train, dict) else None
    return epochs if type(epochs) is int and 0 < epochs <= MOST_EPOCHS else None


def lay_over(below: Layer, above: Layer, prefix: str = "") -> None:
    """Put the values of `above` and their places into `below`; blocks are merged key by key.

    Where a block belongs and `below` has something else, that stays, to be told as the mistake that it is.
    """
    for name, value in above.tree.items():
        key, under = prefix + name, below.tree.get(name)
        if isinstance(value, dict) and isinstance(under, dict):
            lay_over(Layer(under, below.origins), Layer(value, above.origins), f"{key}.")
        elif not (isinstance(value, dict) and under is not None and key in known_blocks()):
            forget(below.origins, key)
            below.tree[name] = value
            below.origins.update((k, place) for k, place in above.origins.items() if is_within(k, key))


def forget(origins: Origins, key: str) -> None:
    """Remove the places of a key and of all keys below it."""
    for other in [other for other in origins if is_within(other, key)]:
        del origins[other]


def is_within(key: str, block: str) -> bool:
    return key == block or key.startswith(f"{block}.")


def drop_foreign_options(lower: Layer, block: str, layer: Layer, notes: list[str]) -> None:
    below, above = lower.tree.get(block), layer.tree.get(block)
    if not isinstance(below, dict) or not isinstance(above, dict):
        return
    name = above.get("name", below.get("name"))
    if name == below.get("name") or not isinstance(name, str) or not name:
        return
    kept = block_keys(block, name)
    if block == "optim" and kept < block_keys(block, "") and {name, below.get("name")} - {"sgd", "sam"}:
        kept -= {"lr", "weight_decay"}  # what suits one optimiser is off by orders of magnitude in another
    dropped = [key for key in below if key not in kept]
    for key in dropped:
        del below[key]
        forget(lower.origins, f"{block}.{key}")
    dropped = [key for key in dropped if key not in above]
    if dropped:
        place = layer.origins.get(f"{block}.name", COMMAND_LINE)
        listed = ", ".join(f"{block}.{key}" for key in dropped)
        notes.append(f"{place}: {block}.name is now {name!r}, so {listed} of the recipe no longer apply")


def scale_epochs(tree: dict[str, Any], old: int, new: int, layer: Layer, notes: list[str]) -> None:
    """Stretch what the schedule and SWA count in epochs from `old` to `new`, but for what `layer` gives itself."""
    for block, leaf in SCALED:
        values = tree.get(block)
        if not isinstance(values, dict) or values.get("scale") is False:
            continue
        given = values.get(leaf)
        numbers = given if isinstance(given, tuple) else (given,)
        if f"{block}.{leaf}" in layer.origins or not all(type(n) in (int, float) and n > 0 for n in numbers):
            continue
        scaled = tuple(n * new / old for n in numbers)
        values[leaf] = scaled if isinstance(given, tuple) else scaled[0]
        was, now = (", ".join(f"{n:g}" for n in ns) for ns in (numbers, scaled))
        keeps = " (schedule.scale=false keeps it)" if block == "schedule" else ""
        notes.append(f"{block}.{leaf}: {was} became {now} with train.epochs{keeps}")


def validate(tree: dict[str, Any], origins: Origins) -> tuple[Config, list[str], set[str]]:
    """Return the Config of nested dicts, its mistakes, and the top-level blocks without any.

    The blocks with mistakes have their defaults in the Config.
    """
    blocks = set(Config.model_fields)
    try:
        return Config.model_validate(tree), [], blocks
    except ValidationError as error:
        sound = blocks - {str(detail["loc"][0]) for detail in error.errors()}
        config = Config.model_validate({block: tree[block] for block in sound & tree.keys()})
        return config, explain_all(error, tree, origins), sound
