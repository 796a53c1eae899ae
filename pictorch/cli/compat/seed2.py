"""Seed document 2's train.py: `python train.py --config FILE [--config FILE ...] [KEY VALUE ...]`, or `--resume DIR`.

The files of that program lie in `seed2/` beside this one, by their own paths, written anew in its format. Later files
stand over earlier ones, so that those of data sets and augmentations combine, and keys and values over all of them.
"""

import io
import os
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from pictorch import api, runs
from pictorch.cli import claims, training
from pictorch.cli.compat import command
from pictorch.cli.compat.command import Command, key_of
from pictorch.cli.compat.seed2_keys import BLOCKS, KEYS, differing, plain_default, read
from pictorch.cli.compat.seed2_settings import Given, explained, flattened, settings, unused
from pictorch.cli.paths import option_path
from pictorch.cli.progress import create as create_progress
from pictorch.cli.text import say
from pictorch.config import Config, ConfigError, UserError, differences, dump, load, nearest, recipes
from pictorch.config.files import absolute, shown
from pictorch.config.keywords import show
from pictorch.config.load import COMMAND_LINE, is_within
from pictorch.runs import RunDir

SHIPPED = Path(__file__).with_suffix("")  # the folder beside this file
# The defaults of our configuration alone: an empty file.
NOTHING = Path(os.devnull)
AS_PUBLISHED = "as_published"
SWITCHES = ("--as_published", "--strict_row", "--dry_run", "--help")
OPTIONS = ("--config", "--resume", "--local_rank")
# The blocks that our own configuration has and that program's has not.
OURS = ("data", "augment", "loss", "schedule", "ema", "swa", "evaluation", "track", "extends")
USAGE = """\
usage: python train.py [--config FILE ...] [KEY VALUE ...]      later files stand over earlier ones
       python train.py --resume DIRECTORY

--as_published     the networks, and whatever else, as that program had them, not as the papers
--strict_row       the settings of the document's table row that the command belongs to
--dry_run          print what the command means as `pictorch train`, and stop
--local_rank N     accepted: one process trains on the whole batch, every other ends at once

FILE is yours, or one of that program's:"""


@dataclass(frozen=True)
class Words:
    """The command's words, taken apart; `pairs` are its keys and values."""

    configs: tuple[str, ...]
    resume: str | None
    local_rank: int
    switches: frozenset[str]
    pairs: tuple[tuple[str, str], ...]


def train(words: Sequence[str]) -> None:
    """Run the command `words`, the program first: train, or continue what was interrupted."""
    said = take_apart(words)
    if "--help" in said.switches:
        say("\n".join([USAGE, *(f"  {name}" for name in shipped())]))
    elif said.resume is not None:
        resume(said)
    else:
        command.run(translate(words))


def translate(words: Sequence[str]) -> Command:
    """Return what a command that begins a run means here. Raises UserError for the mistakes in it."""
    said = take_apart(words)
    if said.resume is not None:
        raise UserError("--resume continues a run, and is no command that begins one")
    values, places, published = configuration(said)
    given = Given(values, places)
    outdir = Path(str(option_path("train.output_dir", given("train.output_dir"))))
    if values["train.resume"]:
        raise given.refuse("train.resume", f"false; a run is continued with `python train.py --resume {outdir}`")
    recipe, overrides = canonical(given, published)
    notes = [*given.notes, *unused(given)]
    if said.local_rank:
        notes.append(f"process {said.local_rank} ends here: process 0 trains on the whole batch")
    return Command(
        document="seed2",
        words=tuple(words),
        recipe=recipe,
        overrides=overrides,
        outdir=outdir,
        notes=tuple(notes),
        finish=partial(write_files, values=values, published=published),
        strict_row="--strict_row" in said.switches,
        dry_run="--dry_run" in said.switches or said.local_rank > 0,
    )


def take_apart(words: Sequence[str]) -> Words:
    """Return the options, switches, keys and values of a command. Raises ConfigError for what is none of them."""
    values: dict[str, list[str]] = {option: [] for option in OPTIONS}
    switches, loose = set(), []
    rest = iter(words[1:])
    for word in rest:
        name, equals, value = word.partition("=")
        name = {"--local-rank": "--local_rank", "-h": "--help"}.get(name, name)
        if name in OPTIONS:
            text = value if equals else next(rest, "")
            values[name].append(text if name == "--local_rank" else str(option_path(name, text)))
        elif word in SWITCHES or name == "--help":
            switches.add(name)
        elif re.match("--?[A-Za-z]", word):
            hint = nearest(name, [*OPTIONS, *SWITCHES])
            raise ConfigError(f"{COMMAND_LINE}: {name}: unknown option{hint}; a key is written without dashes")
        else:
            loose.append(word)
    if len(loose) % 2:
        raise ConfigError(f"{COMMAND_LINE}: {loose[-1]}: expected KEY VALUE pairs, and this key has no value")
    if values["--resume"] and (values["--config"] or loose):
        raise ConfigError(f"{COMMAND_LINE}: --resume continues a run as it began: leave out --config and KEY VALUE")
    return Words(
        configs=tuple(values["--config"]),
        resume=values["--resume"][-1] if values["--resume"] else None,
        local_rank=rank(values["--local_rank"]),
        switches=frozenset(switches),
        pairs=tuple(zip(loose[::2], loose[1::2], strict=True)),
    )


def rank(texts: Sequence[str]) -> int:
    """Return the last of the values of --local_rank. Raises ConfigError for what is no number."""
    if texts and not texts[-1].isdecimal():
        raise ConfigError(f"{COMMAND_LINE}: --local_rank: expected a whole number, got {show(texts[-1])}")
    return int(texts[-1]) if texts else 0


def configuration(said: Words) -> tuple[dict[str, Any], dict[str, str], bool]:
    """Return the program's configuration, all 150 keys, the places of those written, and whether as published."""
    values = {key: plain_default(key) for key in KEYS}
    places: dict[str, str] = {}
    published = "--as_published" in said.switches
    layers = [*(item for name in said.configs for item in read_file(find(name)))]
    for key, value, place in [*layers, *((key, value, COMMAND_LINE) for key, value in said.pairs)]:
        if key == AS_PUBLISHED:
            published = is_published(value, place)
        elif key in KEYS:
            values[key], places[key] = read(key, value, place), place
        elif key in BLOCKS:
            within = ", ".join(known for known in KEYS if known.startswith(f"{key}."))
            raise ConfigError(f"{place}: {key}: expected a block of keys, got {show(value)}; its keys: {within}")
        else:
            raise ConfigError(f"{place}: {key}: unknown key{near_key(key)}")
    return values, places, published


def is_published(value: object, place: str) -> bool:
    """Return whether `as_published` is on: true, or this document's name. Raises ConfigError for other values."""
    on = {"true": True, "seed2": True, "false": False, "null": False, "none": False}.get(str(value).lower())
    if on is None:
        raise ConfigError(f"{place}: {AS_PUBLISHED}: expected true or false, got {show(value)}")
    return on


def near_key(key: str) -> str:
    """Return the hint for an unknown key: the keys of that last word, or the nearest."""
    if key.partition(".")[0] in OURS:
        return "; this is a key of pictorch's own configuration: `pictorch train --config FILE key=value`"
    same = [known for known in KEYS if known.rpartition(".")[2] == key.rpartition(".")[2]]
    return "; did you mean " + " or ".join(map(repr, same)) + "?" if same else nearest(key, KEYS)


def shipped() -> list[str]:
    """Return the names of the program's files."""
    return sorted(path.relative_to(SHIPPED).as_posix() for path in SHIPPED.rglob("*.yaml"))


def find(name: str) -> Path:
    """Return the user's file, or else the program's of that name. Raises ConfigError with the nearest names."""
    path, ours = Path(name), SHIPPED / os.path.normpath(name)
    # A recipe of ours may have the name of one of theirs.
    if path.is_file() and not (ours.is_file() and absolute(path).is_relative_to(absolute(recipes.directory()))):
        return path
    if os.path.normpath(name) in shipped():
        return ours
    raise ConfigError(f"{COMMAND_LINE}: --config: there is no file {name}{nearest(name, shipped())}")


class Loader(yaml.SafeLoader):
    """Reads what that program wrote, too: lists that were tuples have a tag of Python's."""


Loader.add_constructor("tag:yaml.org,2002:python/tuple", Loader.construct_yaml_seq)  # type: ignore[type-var]


def read_file(path: Path) -> list[tuple[str, Any, str]]:
    """Return (dotted key, value, place) of a YAML file, in its order. Raises ConfigError for what is none."""
    name = shown(path)
    try:
        loader = Loader(path.read_text(encoding="utf-8"))
        node = loader.get_single_node()
        if node is not None and not isinstance(node, yaml.MappingNode):
            raise ConfigError(f"{name}:1: expected `key: value` lines")
        return list(leaves(loader, node, "", name)) if node else []
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigError(f"{name}: cannot read this configuration: {reason}") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{name}:{mark.line + 1}" if mark else name
        raise ConfigError(f"{place}: this is not valid YAML: {getattr(error, 'problem', error)}") from None


def leaves(loader: Loader, node: yaml.MappingNode, above: str, name: str) -> Iterator[tuple[str, Any, str]]:
    """Yield (dotted key, value, place) of what a mapping holds."""
    loader.flatten_mapping(node)
    for key_node, value_node in node.value:
        key = f"{above}{key_node.value}"
        if isinstance(value_node, yaml.MappingNode) and value_node.value:
            yield from leaves(loader, value_node, f"{key}.", name)
        else:
            value = loader.construct_object(value_node, deep=True)
            yield (
                key,
                list(value) if isinstance(value, list | tuple) else value,
                f"{name}:{key_node.start_mark.line + 1}",
            )


def canonical(given: Given, published: bool) -> tuple[str, tuple[str, ...]]:
    """Return the recipe, and the fewest overrides on it, that make the configuration. Raises ConfigError."""
    whole = overrides_of(given)
    try:
        plain = api.load_checked(NOTHING, whole).config
    except UserError as error:
        raise explained(error, given) from None
    whole += [f"{AS_PUBLISHED}=seed2"] if published else []
    wanted = load(NOTHING, whole).config if published else plain
    on = ((name, overrides_on(name, whole, wanted)) for name in candidates(plain))
    recipe, overrides = next((name, needed) for name, needed in on if needed is not None)
    return recipe, tuple(overrides)


def overrides_of(given: Given) -> list[str]:
    """Return overrides that make the whole configuration of nothing. Raises ConfigError."""
    return [f"{key}={text(value)}" for key, value in flattened(settings(given))]


def candidates(config: Config) -> list[str]:
    """Return the recipes from which a configuration can be made, the nearest first.

    They are the document's own, and the data set's for networks of that family.
    """
    near = f"{config.data.name}/{config.model.name}"
    names = [name for name in recipes.names() if name.startswith(("seed2/", near))] or recipes.names()
    return sorted(names, key=lambda name: len(apart(load(name).config, config)))


def overrides_on(recipe: str, whole: Sequence[str], wanted: Config) -> list[str] | None:
    """Return the fewest of the overrides that make a configuration of a recipe; None where all of them do not."""

    def make(overrides: Sequence[str]) -> bool:
        try:
            return not apart(load(recipe, overrides).config, wanted)
        except UserError:
            return False

    keys = apart(load(recipe).config, wanted)
    needed = [one for one in whole if any(is_within(key, key_of(one)) for key in keys)]
    if not make(needed):
        needed = list(whole)
    if not make(needed):
        return None
    for one in reversed(tuple(needed)):
        fewer = [override for override in needed if override != one]
        needed = fewer if make(fewer) else needed
    return needed


def apart(one: Config, other: Config) -> dict[str, tuple[Any, Any]]:
    """Return in what two configurations differ; not in their network where that is one under two names."""
    if network(one) == network(other):
        one = one.model_copy(update={"model": other.model})
    return differences(one, other)


def network(config: Config) -> tuple[str, dict[str, Any], str | None]:
    """Return a configuration's family, those of its options that are not defaults, and where its weights come from."""
    return *claims.network(config.model.name, config.model.options), config.model.init_from


def text(value: object) -> str:
    """Return a value as an override writes it: a text without quotes that it does not need, 5.0 as 5."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(text, value))}]"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, str) and re.fullmatch(r"[A-Za-z/.~][\w/.~+-]*", value) and yaml.safe_load(value) == value:
        return value
    return show(value)


def resume(said: Words) -> None:
    """Continue the run in a directory, and leave the files that its own command does. Raises UserError."""
    place = Path(str(said.resume))
    run = runs.open(place)
    theirs = {key.partition(".")[0] for key, _, _ in read_file(run.config)}
    if "scheduler" in theirs:
        raise UserError(
            f"{run.config}: this is that program's own configuration, whose checkpoints cannot be gone on from here; "
            f"`python train.py --config {run.config}` trains anew"
        )
    began = shlex.split(str(runs.read_json(run.env).get("command", "")))
    if "--dry_run" in said.switches:
        say(run.resume_command())
        return
    result = api.resume(place, progress=create_progress())
    training.show_result(result)
    if began[:1] == ["train.py"] and "--resume" not in began:
        translate(began).finish(run)


def write_files(run: RunDir, *, values: Mapping[str, Any], published: bool) -> None:
    """Write what users of that program look for beside a finished run's own files.

    config_min.yaml, the difference to the program's defaults; env.yaml; log.txt, a line an epoch; checkpoint_NNNNN.pth,
    the network's weights under "model", and last_checkpoint, which has its name. Raises RunError.
    """
    changed = differing(values) | ({AS_PUBLISHED: True} if published else {})
    runs.write_text(run.path / "config_min.yaml", dump(nested(changed)) if changed else "")
    env = runs.read_json(run.env)
    info = {"pytorch_version": env["torch"], "cuda_version": env["cuda"]}
    info |= {"num_gpus": 1, "gpu_name": env["gpu"]} if env["gpu"] else {}
    runs.write_text(run.path / "env.yaml", dump({"env_info": info}))
    rows = runs.read_metrics(run)
    runs.write_text(run.path / "log.txt", "".join(f"{log_line(row)}\n" for row in rows))
    write_checkpoint(run, epochs=int(runs.read_result(run)["epochs"]))


def nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Return {a: {b: c}} of {a.b: c}."""
    tree: dict[str, Any] = {}
    for key, value in flat.items():
        *path, leaf = key.split(".")
        block = tree
        for part in path:
            block = block.setdefault(part, {})
        block[leaf] = value
    return tree


def log_line(row: Mapping[str, Any]) -> str:
    """Return an epoch's row of metrics.jsonl as a line, accuracies from 0 to 1 as that program logs them."""
    parts = [f"Epoch {row['epoch']}", f"lr {row['lr']:.6f}", f"loss {row['train_loss']:.4f}"]
    parts += [
        f"{name} acc@1 {1 - row[f'{name}_error'] / 100:.4f}"
        for name in ("train", "val", "test")
        if f"{name}_error" in row
    ]
    return "  ".join([*parts, f"elapsed {row['seconds']:.2f}"])


def write_checkpoint(run: RunDir, *, epochs: int) -> None:
    """Write the finished run's weights as that program's last checkpoint."""
    import torch
    from safetensors.torch import load_file

    buffer = io.BytesIO()
    torch.save({"model": load_file(run.weights), "epoch": epochs}, buffer)
    path = run.path / f"checkpoint_{epochs:05d}.pth"
    runs.write(path, buffer.getvalue())
    runs.write_text(run.path / "last_checkpoint", path.name)
