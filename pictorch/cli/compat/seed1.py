"""Seed document 1's commands: `python main.py --arch wrn --outdir results` with its 55 flags and the later ones.

The flags beat a JSON file of that program (`--config`), which beats the file of the architecture. What they say becomes
overrides on that one of the document's recipes which needs the fewest.
"""

import functools
import json
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from pictorch import models
from pictorch.cli.compat.command import Command
from pictorch.cli.compat.seed1_files import write
from pictorch.cli.compat.seed1_flags import ARCHITECTURES, DATASETS, DEFAULTS, FLAGS, Flag, find, read
from pictorch.cli.paths import option_path
from pictorch.cli.text import say
from pictorch.config import Config, UserError, load, nearest, recipes, to_dict
from pictorch.config.load import SCALED
from pictorch.config.schema import (
    LARS,
    SGD,
    SGDR,
    Adam,
    Block,
    Constant,
    Cosine,
    Crop,
    Cutout,
    DualCutout,
    Mixup,
    Multistep,
    RandomErasing,
    Ricap,
    flatten,
)

Values = dict[str, Any]

# What that program's files have beside the flags' values, made from them.
DERIVED = ("input_shape", "n_classes", "use_gpu", "steps_per_epoch", "gpus")
# Its words for a network's options, where ours are others
OPTIONS = {"n_layers": "layers", "use_bn": "batch_norm", "pyramid_alpha": "alpha"}
# What a family does when an option is not given
IMPLIED: dict[str, dict[str, Any]] = {
    "vgg": {"base_channels": 64, "head": "linear"},
    "resnet": {"layout": "cifar", "block_type": "basic", "base_channels": 16},
    "resnet_preact": {
        "layout": "cifar",
        "block_type": "basic",
        "base_channels": 16,
        "remove_first_relu": False,
        "add_last_bn": False,
        "preact_stage": [True, True, True],
    },
    "wrn": {"widening_factor": 10, "base_channels": 16, "drop_rate": 0.0},
    "densenet": {"layout": "cifar", "block_type": "basic", "growth_rate": 12, "drop_rate": 0.0},
    "pyramidnet": {"layout": "cifar", "block_type": "basic", "base_channels": 16},
    "resnext": {"layout": "cifar", "cardinality": 8, "base_channels": 64},
    "shake_shake": {"base_channels": 96, "shake_forward": True, "shake_backward": True, "shake_image": True},
}
NAMES = ("optim.name", "schedule.name")
# Blocks of keys: augmentations, which setting the first key turns on; and those that have a name
BLOCKS: dict[str, type[Block]] = {
    "augment.crop": Crop,
    "augment.cutout": Cutout,
    "augment.dual_cutout": DualCutout,
    "augment.random_erasing": RandomErasing,
    "augment.mixup": Mixup,
    "augment.ricap": Ricap,
    "sgd": SGD,
    "adam": Adam,
    "lars": LARS,
    "constant": Constant,
    "multistep": Multistep,
    "cosine": Cosine,
    "sgdr": SGDR,
}
IMPLIED["se_resnet_preact"] = {**IMPLIED["resnet_preact"], "se_reduction": 16}
CROPPED = ("CIFAR10", "CIFAR100", "FashionMNIST", "KMNIST")
FLIPPED = ("CIFAR10", "CIFAR100", "FashionMNIST")


def translate(words: Sequence[str]) -> Command:
    """Return what a command of the document means; `words` are main.py and its flags. Raises UserError."""
    given = parse(words[1:])
    values, notes = settle(given)
    refuse_exclusives(values)
    notes += list(drop_ineffective(values, given))
    decided = decide(values)
    recipe, overrides = nearest_recipe(decided, values)
    if values["as_published"]:
        overrides = (*overrides, "as_published=seed1")
    return Command(
        document="seed1",
        words=tuple(words),
        recipe=recipe,
        overrides=overrides,
        outdir=Path(str(option_path("--outdir", values["outdir"]))),
        notes=tuple(notes),
        finish=partial(write, values=values),
        strict_row=values["strict_row"],
        dry_run=values["dry_run"],
    )


def parse(words: Sequence[str]) -> Values:
    """Return the values of the flags that are given, as argparse takes them: shortened, with `=`, the last one wins."""
    given: Values = {}
    rest = iter(words)
    for word in rest:
        if word in ("-h", "--help"):
            say(usage())
            raise SystemExit(0)
        if not word.startswith("--"):
            raise UserError(f"main.py: {word!r}: expected a flag, such as --arch resnet; main.py --help lists them")
        name, equals, text = word.partition("=")
        flag = find(name)
        if flag.kind == "switch":
            if equals:
                raise UserError(f"main.py: {flag.written} takes no value, got {text!r}")
            given[flag.name] = True
            continue
        value = text if equals else next(rest, None)
        if value is None or (not equals and value.startswith("--")):
            raise UserError(f"main.py: {flag.written}: a value is missing")
        given[flag.name] = read(flag, value, f"main.py: {flag.written}")
    if given.pop("no-tensorboard", False):
        given["tensorboard"] = False
    return given


def usage() -> str:
    """Return all flags, with their kind, default, choices and whom they belong to."""
    lines = ["usage: python main.py --arch ARCH --outdir DIR [--FLAG VALUE ...]     (seed document 1)", ""]
    for flag in FLAGS.values():
        kind = ", ".join(flag.choices) or flag.kind
        default = "" if flag.kind == "switch" or flag.default is None else f", default {flag.default}"
        whose = f"; for --{flag.of[0]} {', '.join(map(str, flag.of[1]))}" if flag.of else ""
        lines.append(f"  {flag.written:34}{kind}{default}{whose}")
    return "\n".join(lines)


def settle(given: Values) -> tuple[Values, list[str]]:
    """Return every flag's value: as given, else of the --config file, of the architecture's own file, or its default.

    Raises UserError when the architecture or the directory is missing.
    """
    of_file = read_file(given["config"]) if "config" in given else {}
    arch = given.get("arch", of_file.get("arch"))
    if arch is None:
        raise UserError(f"main.py: --arch is missing; expected one of {', '.join(ARCHITECTURES)} (or --config FILE)")
    if "outdir" not in given:
        raise UserError("main.py: --outdir is missing: the directory for the run's files, such as --outdir results")
    defaults = {flag.name: flag.default for flag in FLAGS.values()}
    values = {**defaults, **DEFAULTS[arch], **of_file, **given, "arch": arch}
    if values["use_random_crop"] is None:
        values["use_random_crop"] = values["dataset"] in CROPPED
    if values["use_horizontal_flip"] is None:
        values["use_horizontal_flip"] = values["dataset"] in FLIPPED
    # That program took a file's values for what has no default alone: a run's own config.json did not repeat the run.
    taken = [key for key in of_file if key not in given and defaults[key] not in (None, of_file[key])]
    listed = ", ".join(f"{key}={json.dumps(of_file[key])}" for key in taken)
    return values, [f"{given['config']}: {listed}: taken, which that program did not do"] if taken else []


def read_file(name: str) -> Values:
    """Return the values of a JSON file of that program; of one of its own nine also where there is no such file."""
    path = Path(str(option_path("--config", name)))
    if not path.exists() and path.parent.name == "configs" and path.stem in DEFAULTS and path.suffix == ".json":
        return {"arch": path.stem, **DEFAULTS[path.stem]}
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"main.py: --config: {name}: cannot read this file: {error.strerror}") from None
    except json.JSONDecodeError as error:
        raise UserError(f"{name}:{error.lineno}: this is not valid JSON: {error.msg}") from None
    except ValueError:
        raise UserError(f"{name}: this is not UTF-8 text") from None
    if not isinstance(tree, dict) or not all(isinstance(section, dict) for section in tree.values()):
        raise UserError(f"{name}: expected sections of settings, such as model_config and optim_config")
    values: Values = {}
    for section in (section for key, section in tree.items() if key != "env_info"):
        for key, value in section.items():
            if key in DERIVED or key == "outdir" or value is None:
                continue
            if key not in FLAGS:
                raise UserError(f"{name}: {key}: unknown setting{nearest(key, FLAGS)}")
            text = value if isinstance(value, str) else json.dumps(value)
            values[key] = read(FLAGS[key], text, f"{name}: {key}")
    return values


def refuse_exclusives(values: Values) -> None:
    """Raise UserError for augmentations that the program did not take together."""
    for exclusive in (("use_mixup", "use_ricap", "use_dual_cutout"), ("use_cutout", "use_dual_cutout")):
        if sum(values[name] for name in exclusive) > 1:
            listed = f"{', '.join(f'--{name}' for name in exclusive[:-1])} and --{exclusive[-1]}"
            both = " and ".join(f"--{name}" for name in exclusive if values[name])
            raise UserError(f"main.py: only one of {listed} can be given, got {both}")


def drop_ineffective(values: Values, given: Values) -> Iterator[str]:
    """Turn off in `values` what has no effect in that program, and say so of what was given."""
    if values["optimizer"] == "adam" and values["scheduler"] != "none":
        values["scheduler"] = "none"
        if "scheduler" in given:
            yield "ignored: --scheduler: that program trains with --optimizer adam at a constant rate"
    if values["use_random_erasing"] and values["use_cutout"]:
        values["use_cutout"] = False
        yield "ignored: --use_cutout: --use_random_erasing comes first in that program"
    first = next((name for name in ("use_mixup", "use_ricap") if values[name]), None)
    if values["use_label_smoothing"] and first:
        values["use_label_smoothing"] = False
        yield f"ignored: --use_label_smoothing: that program's loss of --{first} has none"
    if values["use_label_smoothing"] and values["use_dual_cutout"]:
        raise UserError("main.py: --use_dual_cutout has a loss of its own: leave out --use_label_smoothing")
    for name in given:
        if whose := belongs_elsewhere(FLAGS[name], values):
            yield f"ignored: --{name} {whose}"
    yield from said_of_machine(given)
    if values["scheduler"] == "multistep" and (late := [m for m in values["milestones"] if m >= values["epochs"]]):
        yield f"milestones {late} are not reached in {values['epochs']} epochs"


def belongs_elsewhere(flag: Flag, values: Values) -> str:
    """Return "belongs to X, and --arch is Y" of a flag that does nothing here, else nothing."""
    if flag.of is None or flag.acts(values):
        return ""
    owner, wanted = flag.of
    if wanted == (True,):
        return f"needs --{owner}{' true' if FLAGS[owner].kind == 'bool' else ''}"
    to = ", ".join(wanted) if owner == "arch" else f"--{owner} {' or '.join(wanted)}"
    return f"belongs to {to}, and --{owner} is {values[owner]}"


def said_of_machine(given: Values) -> Iterator[str]:
    """Yield a note on what is given and has no, or another, meaning here."""
    if "," in given.get("gpu", ""):
        yield f"--gpu {given['gpu']}: one device is used"
    images = [f"--{name}" for name in given if name.startswith("tensorboard_")]
    if images:
        yield f"{', '.join(images)}: no meaning here: TensorBoard gets numbers alone"
    if given.get("fp16") and not given.get("use_amp"):
        yield "--fp16: train.precision=half: batch norm is in 16 bits, too"
    if given.get("no_weight_decay_on_bn"):
        yield "--no_weight_decay_on_bn: optim.decay_norm_and_bias=false: the last layer's bias is not decayed either"


def decide(values: Values) -> Values:
    """Return {our key: value} for all that the flags decide, but for the network; a block that is off is None."""
    return {
        "data.name": DATASETS[values["dataset"]],
        **of_augmentation(values),
        **of_optimiser(values),
        **of_schedule(values),
        **of_training(values),
    }


def of_augmentation(values: Values) -> Values:
    blocks: dict[str, Values | None] = dict.fromkeys(
        ("resized_crop", "rotate", "jitter", "policy", "cutmix", "resizemix", "crop", "cutout", "dual_cutout")
    ) | dict.fromkeys(("random_erasing", "mixup", "ricap"))
    square = {"size": values["cutout_size"], "prob": values["cutout_prob"], "inside": values["cutout_inside"]}
    if values["use_random_crop"]:
        blocks["crop"] = {"padding": values["random_crop_padding"], "mode": "constant"}
    if values["use_cutout"]:
        blocks["cutout"] = square
    if values["use_dual_cutout"]:
        blocks["dual_cutout"] = {**square, "alpha": values["dual_cutout_alpha"]}
    if values["use_random_erasing"]:
        blocks["random_erasing"] = {
            "prob": values["random_erasing_prob"],
            "area": values["random_erasing_area_ratio_range"],
            "min_aspect": values["random_erasing_min_aspect_ratio"],
            "max_attempt": values["random_erasing_max_attempt"],
            "aspect": "uniform",
        }
    if values["use_mixup"]:
        blocks["mixup"] = {"alpha": values["mixup_alpha"]}
    if values["use_ricap"]:
        blocks["ricap"] = {"beta": values["ricap_beta"]}
    smoothing = values["label_smoothing_epsilon"] if values["use_label_smoothing"] else 0.0
    keys: Values = {"augment.flip": values["use_horizontal_flip"], "augment.label_smoothing": smoothing}
    for name, block in blocks.items():
        keys |= {f"augment.{name}": None} if block is None else {f"augment.{name}.{k}": v for k, v in block.items()}
    return keys


def of_optimiser(values: Values) -> Values:
    keys = {
        "optim.name": values["optimizer"],
        "optim.lr": values["base_lr"],
        "optim.weight_decay": values["weight_decay"],
        "optim.decay_norm_and_bias": not values["no_weight_decay_on_bn"],
        "optim.clip_norm": values["gradient_clip"],
    }
    if values["optimizer"] == "adam":
        return keys | {"optim.betas": values["betas"] or [0.9, 0.999]}
    keys["optim.momentum"] = values["momentum"]
    if values["optimizer"] == "sgd":
        return keys | {"optim.nesterov": values["nesterov"]}
    return keys | {
        "optim.trust_coefficient": 1.0,
        "optim.eps": values["lars_eps"],
        "optim.threshold": values["lars_thresh"],
        "optim.scale_vectors": True,
    }


def of_schedule(values: Values) -> Values:
    floor = values["lr_min"] / values["base_lr"] if values["base_lr"] else 0.0
    keys: Values = {"schedule.warmup_epochs": 0.0, "schedule.per": "step"}
    if values["scheduler"] == "cosine":
        return keys | {"schedule.name": "cosine", "schedule.final_factor": floor}
    if values["scheduler"] == "sgdr":
        if values["T0"] is None:
            raise UserError(
                "main.py: --scheduler sgdr: --T0 is missing: the epochs of the first cycle, such as --T0 10"
            )
        cycles = {"schedule.first_cycle_epochs": float(values["T0"]), "schedule.cycle_factor": values["Tmult"] or 1.0}
        return keys | {"schedule.name": "sgdr", "schedule.per": "epoch", "schedule.final_factor": floor} | cycles
    reached = [m for m in values["milestones"] if m < values["epochs"]] if values["scheduler"] == "multistep" else []
    if not reached:
        return keys | {"schedule.name": "constant"}
    multistep = {"schedule.milestones_epochs": reached, "schedule.gamma": values["lr_decay"]}
    return keys | {"schedule.name": "multistep"} | multistep


def of_training(values: Values) -> Values:
    keys = {"train.epochs": values["epochs"], "train.batch_size": values["batch_size"], "train.seed": values["seed"]}
    keys["train.ghost_batches"] = 1
    if (ghost := values["ghost_batch_size"]) is not None:
        if ghost < 1 or values["batch_size"] % ghost:
            raise UserError(f"main.py: --ghost_batch_size: expected a divisor of {values['batch_size']}, got {ghost}")
        keys["train.ghost_batches"] = values["batch_size"] // ghost
    if values["gpu"] == "-1" or values["device"]:
        keys["train.device"] = values["device"] or "cpu"
    if values["fp16"] or values["use_amp"]:
        keys["train.precision"] = "bf16" if values["use_amp"] else "half"
    if values["num_workers"] != FLAGS["num_workers"].default:
        keys["data.workers"] = values["num_workers"]
    if not values["tensorboard"]:
        keys["track.tensorboard"] = False
    return keys


def network(values: Values) -> Values:
    """Return the options of the family that --arch names, in our words."""
    arch = values["arch"]
    mine = [name for name, flag in FLAGS.items() if flag.of and flag.of[0] == "arch" and arch in flag.of[1]]
    options = {OPTIONS.get(name, name): values[name] for name in mine}
    if arch == "vgg":
        options["base_channels"] = first_width(options.pop("n_channels"), stages=len(values["n_layers"]))
        options["head"] = "linear"
    return options


def first_width(widths: list[Any], *, stages: int) -> Any:
    """Return the width of VGG's first stage. Raises UserError for widths that ours cannot have."""
    if not widths or widths != [widths[0] * min(8, 2**stage) for stage in range(stages)]:
        raise UserError(
            f"main.py: --n_channels: expected a width for each of the {stages} stages of --n_layers, doubled from one "
            f"to the next up to eight times the first, such as [64, 128, 256, 512, 512]; got {widths}"
        )
    return widths[0]


def nearest_recipe(decided: Values, values: Values) -> tuple[str, tuple[str, ...]]:
    """Return the document's recipe that needs the fewest overrides for what was decided, and these.

    One of the same data and family comes first.
    """
    arch, options = values["arch"], network(values)
    costs = {}
    for name, config, keys in candidates():
        needed = (*of_network(config, arch, options), *overrides(keys, decided))
        strange = (config.data.name != decided["data.name"], models.resolve(config.model.name).family != arch)
        costs[name] = (sum(strange), len(needed), name, needed)
    *_, name, needed = min(costs.values())
    return name, needed


@functools.cache
def candidates() -> tuple[tuple[str, Config, Values], ...]:
    """Return the document's recipes: name, configuration, and that as {dotted key: value} without what is off."""
    found = []
    for name in recipes.names():
        if name.startswith("seed1/"):
            config = load(name).config
            found.append((name, config, {k: v for k, v in flatten(to_dict(config)).items() if v is not None}))
    return tuple(found)


def overrides(recipe: Mapping[str, Any], decided: Values) -> Iterator[str]:
    """Yield what sets the decided keys on top of a recipe's {dotted key: value}, names first.

    With a new number of epochs, what is counted in them is said again, since it would be scaled.
    """
    rescaled = {".".join(key) for key in SCALED} if recipe["train.epochs"] != decided["train.epochs"] else set()
    for key, value in sorted(decided.items(), key=lambda item: item[0] not in NAMES):
        if value is None:
            same = not any(name == key or name.startswith(f"{key}.") for name in recipe)
        else:
            same = unset(key, recipe, decided) == value and not (key in rescaled and value)
        if not same:
            yield f"{key}={written(value)}"


def unset(key: str, recipe: Mapping[str, Any], decided: Values) -> Any:
    """Return a key's value where it is not set on top of the recipe, but its block and the block's name are."""
    block, _, leaf = key.rpartition(".")
    if block in BLOCKS and not any(name.startswith(f"{block}.") for name in recipe):
        return None if leaf == next(iter(BLOCKS[block].model_fields)) else default(BLOCKS[block], leaf)
    named = BLOCKS.get(decided.get(f"{block}.name", ""))
    if named and recipe[f"{block}.name"] != decided[f"{block}.name"] and leaf != "name":
        # A rate that suits one optimiser is not kept for another.
        kept = None if key in ("optim.lr", "optim.weight_decay") else recipe.get(key)
        return default(named, leaf) if kept is None else kept
    return recipe.get(key)


def default(block: type[Block], key: str) -> Any:
    """Return a key's default, a list where it is a tuple."""
    value = block.model_fields[key].default
    return list(value) if isinstance(value, tuple) else value


def of_network(config: Config, family: str, wanted: Values) -> Iterator[str]:
    """Yield what makes a recipe's network the family's with the `wanted` options."""
    spec = models.resolve(config.model.name, config.model.options)
    of_variant = {} if config.model.name == spec.family else models.resolve(config.model.name).options
    have, want = full(spec.family, spec.options), full(family, wanted)
    differing = [key for key in {**want, **have} if have.get(key) != want.get(key)]
    if spec.family != family or any(key in of_variant for key in differing):
        yield f"model.name={family}"  # without the options that stood beside the old one
        differing = [key for key in want if want[key] != implied(family, want).get(key)]
    yield from (f"model.{key}={written(want.get(key))}" for key in differing)


def full(family: str, options: Mapping[str, Any]) -> Values:
    """Return a network's options with those that the family implies, sequences as lists."""
    given = {key: list(value) if isinstance(value, tuple) else value for key, value in options.items()}
    given = {key: value for key, value in given.items() if value is not None}
    return {**implied(family, given), **given}


def implied(family: str, options: Mapping[str, Any]) -> Values:
    """Return what the family does where an option is not given."""
    if family == "densenet":
        compression = 0.5 if options.get("block_type") == "bottleneck" else 1.0
        return {**IMPLIED[family], "compression_rate": compression}
    return IMPLIED.get(family, {})


def written(value: Any) -> str:
    """Return a value as an override has it."""
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
