"""YAML files and values as pictorch reads and writes them: each key with its place, no key twice, no surprises.

YAML 1.1 as PyYAML has it, but for numbers (`1e-3` is one, `010` and `1:30` are text and not 8 and 90), and without
tags, aliases and merges: what is written is what is meant.
"""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from pictorch.config.explain import ConfigError, Origins
from pictorch.config.keywords import show

DEEPEST = 20
# A number of more digits is a mistake; Python itself refuses to read, or to print, one of more than 4,300.
MOST_DIGITS = 100


class Layer(NamedTuple):
    """One source of values: nested dicts, and for each dotted key the place it was written."""

    tree: dict[str, Any]
    origins: Origins


def resolvers() -> dict[str, list[tuple[str, re.Pattern[str]]]]:
    """Return PyYAML's rules for plain scalars, first letter -> (tag, pattern), with our numbers."""
    numbers = {"tag:yaml.org,2002:int": r"[-+]?(0|[1-9][0-9_]*|0x[0-9a-fA-F]+)"}
    numbers["tag:yaml.org,2002:float"] = (
        r"[-+]?((\d[\d_]*\.\d*|\.\d+)([eE][-+]?\d+)?|\d+[eE][-+]?\d+|\.(inf|Inf|INF))|\.(nan|NaN|NAN)"
    )
    dropped = {*numbers, *(f"tag:yaml.org,2002:{kind}" for kind in ("timestamp", "merge", "value"))}
    rules = {
        first: [rule for rule in kept if rule[0] not in dropped]
        for first, kept in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    for first in "-+.0123456789":
        rules.setdefault(first, []).extend((tag, re.compile(f"^({pattern})$")) for tag, pattern in numbers.items())
    return rules


class YamlLoader(yaml.SafeLoader):
    """Reads our YAML."""

    yaml_implicit_resolvers = resolvers()

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event: yaml.Event = self.peek_event()  # type: ignore[no-untyped-call]
        what = "aliases (`*name`)" if isinstance(event, yaml.AliasEvent) else "tags (`!!int`)"
        if isinstance(event, yaml.AliasEvent) or getattr(event, "tag", None):
            problem = f"{what} are not supported; write the value itself"
            raise yaml.composer.ComposerError(None, None, problem, event.start_mark)  # type: ignore[arg-type]
        return super().compose_node(parent, index)


class YamlDumper(yaml.SafeDumper):
    """Writes what YamlLoader reads back as the same value: text that looks like one of our numbers is quoted."""

    yaml_implicit_resolvers = resolvers()


def dump(tree: dict[str, Any]) -> str:
    """Return nested dicts of plain values as YAML, in their order."""
    return str(yaml.dump(tree, Dumper=YamlDumper, sort_keys=False, allow_unicode=True))


def read_yaml(path: Path) -> Layer:
    """Return one YAML file as a layer. Raises ConfigError for what is not a file, not YAML, or says a key twice."""
    name = shown(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigError(f"{name}: cannot read this configuration: {reason}") from None
    tree, origins = parse(text, lambda line: f"{name}:{line}")
    if tree is not None and not isinstance(tree, dict):
        raise ConfigError(f"{name}:1: expected `key: value` lines, got {show(text.strip()[:40])}")
    return Layer(tree or {}, origins)


def parse(text: str, place: Callable[[int], str], key: str = "") -> tuple[Any, Origins]:
    """Return the value of a YAML text, mappings as dicts and lists as tuples, and where each key in it stands.

    `place` names the place of a line, `key` is the dotted key that the value is for, of a whole file "". Raises
    ConfigError for what is not YAML, or says a key twice.
    """
    said = f"{key}: this is not valid YAML" if key else "this is not valid YAML"
    origins: Origins = {}
    try:
        loader = YamlLoader(text)
        node = loader.get_single_node()
        return None if node is None else plain(loader, node, place, key, origins), origins
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise ConfigError(f"{place(line)}: {said}: it has the character U+{ord(text[error.position]):04X}") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        quote = "; a text with * in front stands in quotes" if "alias" in str(error.context) else ""
        raise ConfigError(
            f"{place(mark.line + 1 if mark else 1)}: {said}: {error.problem or error.context}{quote}"
        ) from None
    except RecursionError:
        raise ConfigError(f"{place(1)}: {said}: it is nested more than {DEEPEST} levels deep") from None


def plain(
    loader: YamlLoader, node: yaml.Node, place: Callable[[int], str], key: str, origins: Origins, depth: int = 1
) -> Any:
    """Return a node as a plain value and note the place of every key in it, dotted below `key`."""
    where = place(node.start_mark.line + 1) + (f": {key}" if key else "")
    if depth > DEEPEST:
        raise ConfigError(f"{where}: expected at most {DEEPEST} levels of nesting, got more")
    if isinstance(node, yaml.SequenceNode):
        return tuple(plain(loader, item, place, key, {}, depth + 1) for item in node.value)
    if isinstance(node, yaml.MappingNode):
        return plain_mapping(loader, node, place, key, origins, depth)
    if node.tag == "tag:yaml.org,2002:int" and len(node.value) > MOST_DIGITS:
        raise ConfigError(f"{where}: expected a number of at most {MOST_DIGITS} digits, got {len(node.value)}")
    return loader.construct_object(node)


def plain_mapping(
    loader: YamlLoader, node: yaml.MappingNode, place: Callable[[int], str], key: str, origins: Origins, depth: int
) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for key_node, value_node in node.value:
        name, here = key_node.value, place(key_node.start_mark.line + 1)
        said = f"{here}: {key}: " if key else f"{here}: "
        if not isinstance(key_node, yaml.ScalarNode) or name == "<<":
            raise ConfigError(f"{said}expected a plain key; lists, mappings and merges (`<<`) are none")
        inner = f"{key}.{name}" if key else name
        if name in tree:
            first = origins[inner]
            also = f"; the first is {first}" if first != here else ""
            raise ConfigError(f"{here}: {inner}: this key stands here a second time{also}")
        origins[inner] = here
        tree[name] = plain(loader, value_node, place, inner, origins, depth + 1)
    return tree


def absolute(path: Path) -> Path:
    """Return the path with `~` expanded and links followed. Raises ConfigError for one that no file can have."""
    try:
        return Path(os.path.realpath(os.path.expanduser(path)))
    except ValueError as error:
        raise ConfigError(f"{show(str(path))}: this is not the path of a file: {error}") from None


def shown(path: Path) -> str:
    """Return a path as short as it can be read: relative to here where that is shorter."""
    try:
        return Path(os.path.realpath(path)).relative_to(Path.cwd()).as_posix()
    except ValueError:
        return path.as_posix()
