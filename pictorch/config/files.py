"""YAML files and values as pictorch reads and writes them: each key with its line, no key twice, no surprises.

YAML 1.1 as PyYAML has it, but for numbers: `1e-3` is one, `010` and `1:30` are text and not 8 and 90.
"""

import re
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from pictorch.config.explain import ConfigError, Origins


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
    dropped = {*numbers, "tag:yaml.org,2002:timestamp"}
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


class YamlDumper(yaml.SafeDumper):
    """Writes what YamlLoader reads back as the same value: text that looks like one of our numbers is quoted."""

    yaml_implicit_resolvers = resolvers()


def dump(tree: dict[str, Any]) -> str:
    """Return nested dicts of plain values as YAML, in their order."""
    return str(yaml.dump(tree, Dumper=YamlDumper, sort_keys=False, allow_unicode=True))


def parse_value(text: str) -> Any:
    """Return the value that a text is in YAML, lists as tuples. Raises ValueError with the reason."""
    try:
        return frozen(yaml.load(text, Loader=YamlLoader))
    except yaml.YAMLError as error:
        raise ValueError(getattr(error, "problem", None) or str(error)) from None
    except (TypeError, RecursionError) as error:
        raise ValueError(str(error)) from None


def read_yaml(path: Path) -> Layer:
    """Return one YAML file as a layer. Raises ConfigError for what is not a file, not YAML, or says a key twice."""
    name = shown(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigError(f"{name}: cannot read this configuration: {reason}") from None
    loader = YamlLoader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return Layer({}, {})
        if not isinstance(node, yaml.MappingNode):
            raise ConfigError(f"{name}:1: expected `key: value` lines, got {text.strip()[:40]!r}")
        origins: Origins = {}
        return Layer(plain_mapping(loader, node, name, "", origins), origins)
    except ConfigError:
        raise
    except (ValueError, TypeError, RecursionError) as error:
        raise ConfigError(f"{name}: this is not valid YAML: {error}") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f":{mark.line + 1}" if mark else ""
        raise ConfigError(f"{name}{where}: this is not valid YAML: {error.problem or error.context}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{name}: this is not valid YAML: {error}") from None
    finally:
        loader.dispose()


def plain_mapping(
    loader: YamlLoader, node: yaml.MappingNode, name: str, prefix: str, origins: Origins
) -> dict[str, Any]:
    """Return a mapping node as a dict of plain values and note the line of every key."""
    tree: dict[str, Any] = {}
    for key_node, value_node in node.value:
        key, line = key_node.value, f"{name}:{key_node.start_mark.line + 1}"
        if not isinstance(key_node, yaml.ScalarNode) or key == "<<":
            raise ConfigError(f"{line}: expected a plain key; lists, mappings and merges (`<<`) are none")
        if key in tree:
            raise ConfigError(
                f"{line}: {prefix}{key}: this key stands here a second time; the first is {origins[prefix + key]}"
            )
        origins[prefix + key] = line
        if isinstance(value_node, yaml.MappingNode):
            tree[key] = plain_mapping(loader, value_node, name, f"{prefix}{key}.", origins)
        else:
            tree[key] = frozen(loader.construct_object(value_node, deep=True))
    return tree


def frozen(value: Any) -> Any:
    """Return the value with lists as tuples, as the frozen schema holds them."""
    if isinstance(value, dict):
        return {key: frozen(v) for key, v in value.items()}
    return tuple(frozen(v) for v in value) if isinstance(value, list) else value


def shown(path: Path) -> str:
    """Return a path as short as it can be read: relative to here where that is shorter."""
    try:
        return path.resolve().relative_to(Path.cwd()).as_posix()
    except ValueError:
        return path.as_posix()
