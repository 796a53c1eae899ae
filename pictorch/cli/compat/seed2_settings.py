"""What seed document 2's configuration sets here, as {our dotted key: value}, complete: what is off is there, too."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pictorch.cli.compat.seed2_keys import DATASETS, KEYS, LOSSES, differing
from pictorch.config import ConfigError, UserError
from pictorch.config.keywords import show
from pictorch.config.load import COMMAND_LINE
from pictorch.data.imagenet import CLASSES
from pictorch.data.own import IMAGE_SIZE
from pictorch.data.specs import SPECS
from pictorch.data.streaming import imagenet_resize

Settings = dict[str, Any]

CIFAR_NETWORKS = (
    "vgg",
    "resnet",
    "resnet_preact",
    "se_resnet_preact",
    "wrn",
    "densenet",
    "pyramidnet",
    "resnext",
    "shake_shake",
)
NETWORKS = {
    "cifar": CIFAR_NETWORKS,
    "imagenet": ("vgg", "resnet", "resnet_preact", "densenet", "pyramidnet", "resnext"),
}
# Up to this size our networks have the stem for small images, unless told.
LARGEST_SMALL = 64
PRECISIONS = {"O0": "fp32", "O1": "bf16", "O2": "bf16", "O3": "half"}
MEANINGS = {
    "bf16": "autocast in bfloat16, whose loss needs no scaling",
    "half": "weights in 16 bits throughout, float16 on a GPU and bfloat16 on a CPU",
}
# As that program has it (optim/lars.py): the whole ratio of norms, of gains and biases too.
LARS = {"optim.trust_coefficient": 1.0, "optim.scale_vectors": True}


@dataclass
class Given:
    """The program's configuration: all its values, the places of those that were written, and which have been used.

    `notes` collect what is to be said of it.
    """

    values: Mapping[str, Any]
    places: Mapping[str, str]
    used: set[str] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)

    def __call__(self, key: str) -> Any:
        """Return a value, which thereby counts as used."""
        self.used.add(key)
        return self.values[key]

    def refuse(self, key: str, expected: str) -> ConfigError:
        """Return the error that a value is none that can be had here."""
        place = f"{self.places[key]}: " if key in self.places else ""
        return ConfigError(f"{place}{key}: expected {expected}, got {show(self.values[key])}")

    def only(self, key: str, why: str) -> None:
        """Raise ConfigError unless a key that can have no other value here has its default."""
        if self(key) != KEYS[key].default:
            raise self.refuse(key, f"{show(KEYS[key].default)}, since {why}")


def settings(given: Given) -> Settings:
    """Return what the configuration sets here. Raises ConfigError for what cannot be had."""
    parts = (of_data, of_model, of_augmentation, of_optimiser, of_schedule, of_training)
    return {key: value for part in parts for key, value in part(given).items()}


def unused(given: Given) -> list[str]:
    """Return the notes on the keys that were written, are not at their defaults, and set nothing here."""
    left = [key for key in differing(given.values) if key in given.places and key not in given.used]
    reasons: dict[str, list[str]] = {}
    for key in left:
        reasons.setdefault(KEYS[key].why or why_ignored(key, given), []).append(key)
    listed = "; ".join(f"{', '.join(keys)} ({why})" for why, keys in reasons.items())
    return [f"without effect here: {listed}"] if listed else []


def why_ignored(key: str, given: Given) -> str:
    """Return what else would have to be chosen for a key to be used."""
    block, values = key.split(".")[:2], given.values
    if block[0] == "model":
        key = "model.type" if block[1] == values["model.name"] else "model.name"
    elif block[0] == "dataset":
        key = "dataset.name"
    elif block[0] == "scheduler":
        key = "scheduler.warmup.type" if block[1] == "warmup" else "scheduler.type"
    elif block[0] == "augmentation":
        return "it is not on"
    elif key == "train.val_ratio":
        key = "train.use_test_as_val"
    else:
        key = "train.use_apex" if key == "train.precision" else "train.optimizer"
    return f"{key} is {values[key]}"


def of_data(given: Given) -> Settings:
    name, own_part = given("dataset.name"), not given("train.use_test_as_val")
    held_out = given("train.val_ratio") if own_part else 0.0
    found: Settings = {
        "data.name": DATASETS[name],
        "data.val_fraction": held_out,
        "data.stratified": not held_out,
        "data.drop_last": given("train.dataloader.drop_last"),
    }
    if "train.dataloader.num_workers" in given.places:
        found["data.workers"] = given("train.dataloader.num_workers")
    own = known_sizes(name)
    given.used |= {f"dataset.{leaf}" for leaf, value in own.items() if given.values[f"dataset.{leaf}"] == value}
    if name == "ImageNet":
        found["data.name"] = os.path.expanduser(given("dataset.dataset_dir")) or "imagenet"
        # The default, 32, is another data set's.
        size = given("dataset.image_size") if "dataset.image_size" in given.places else IMAGE_SIZE
        found["data.image_size"] = None if size == IMAGE_SIZE else size
        found["data.channels"] = None if given("dataset.n_channels") == 3 else given("dataset.n_channels")
        check_test_transform(given, size)
    return found


def known_sizes(name: str) -> dict[str, int]:
    """Return the sizes that a data set decides, whatever is set."""
    if name == "ImageNet":
        return {"n_classes": CLASSES}
    spec = SPECS[DATASETS[name]]
    return {"image_size": spec.image_size, "n_channels": spec.in_channels, "n_classes": len(spec.classes)}


def check_test_transform(given: Given, image_size: int) -> None:
    """Note where the evaluation's images of ImageNet are others than those that were asked for."""
    asked = [given(f"tta.{leaf}") for leaf in ("use_resize", "use_center_crop", "resize")]
    ours = [True, True, imagenet_resize(image_size)]
    if asked != ours and any(key.startswith("tta.") for key in given.places):
        given.notes.append(
            f"tta: evaluation images are scaled to {ours[2]} pixels and cropped to {image_size} here, whatever is set"
        )


def image_size(given: Given) -> int:
    """Return the size of the images that the network sees."""
    name = DATASETS[given.values["dataset.name"]]
    return SPECS[name].image_size if name in SPECS else int(of_data(given)["data.image_size"] or IMAGE_SIZE)


def of_model(given: Given) -> Settings:
    """Return the network's name and those of its options that are not its defaults."""
    kind, name = given("model.type"), given("model.name")
    if name not in NETWORKS[kind]:
        raise given.refuse("model.name", f"one of model.type {kind}: {', '.join(NETWORKS[kind])}")
    options, defaults = OPTIONS[name](given, kind)
    options["init"] = given("model.init_mode").removeprefix("kaiming_")
    defaults = {"init": "fan_in" if name == "wrn" else "fan_out", **defaults}
    small = image_size(given) <= LARGEST_SMALL
    if name == "vgg":
        options["head"], defaults["head"] = ("linear" if kind == "cifar" else "fc4096"), "linear" if small else "fc4096"
    elif kind == "imagenet":
        options["layout"] = "imagenet"
    if name not in ("vgg", "wrn", "shake_shake"):
        options["stem"], defaults["stem"] = kind, "cifar" if small else "imagenet"
    kept = {f"model.{option}": value for option, value in options.items() if defaults.get(option) != value}
    return {"model.name": name, **kept, "model.init_from": given("train.checkpoint") or None}


Options = tuple[dict[str, Any], dict[str, Any]]  # a network's options, and the defaults of those that have some


def of_resnet(given: Given, kind: str, name: str = "resnet") -> Options:
    block, base = given(f"model.{name}.block_type"), given(f"model.{name}.initial_channels")
    options = {"depth": depth(given, kind, name), "block_type": block, "base_channels": base}
    return options, {"base_channels": 16 if kind == "cifar" else 64}


def of_resnet_preact(given: Given, kind: str, name: str = "resnet_preact") -> Options:
    options, defaults = of_resnet(given, kind, name)
    for leaf in ("remove_first_relu", "add_last_bn"):
        options[leaf], defaults[leaf] = given(f"model.{name}.{leaf}"), False
    shared = given(f"model.{name}.preact_stage")
    if not all(shared):  # all true is the default, whatever the number of stages
        options["preact_stage"] = tuple(shared)
    return options, defaults


def of_se_resnet_preact(given: Given, kind: str) -> Options:
    options, defaults = of_resnet_preact(given, kind, "se_resnet_preact")
    return options | {"se_reduction": given("model.se_resnet_preact.se_reduction")}, defaults | {"se_reduction": 16}


def of_vgg(given: Given, kind: str) -> Options:
    channels, layers = given("model.vgg.n_channels"), given("model.vgg.n_layers")
    doubled = [min(channels[0] << i, channels[0] * 8) for i in range(len(layers))] if channels else []
    if channels != doubled or not channels:
        listed = show(doubled or KEYS["model.vgg.n_channels"].default)
        raise given.refuse("model.vgg.n_channels", f"widths that double up to eight times the first, {listed}")
    options = {"layers": tuple(layers), "base_channels": channels[0], "batch_norm": given("model.vgg.use_bn")}
    return options, {"base_channels": 64, "batch_norm": False}


def of_wrn(given: Given, kind: str) -> Options:
    options = {leaf: given(f"model.wrn.{leaf}") for leaf in ("depth", "widening_factor", "drop_rate")}
    return options | {"base_channels": given("model.wrn.initial_channels")}, {"base_channels": 16, "drop_rate": 0.0}


def of_densenet(given: Given, kind: str) -> Options:
    from pictorch.models.densenet import IMAGENET_BLOCKS

    leaves = ("block_type", "growth_rate", "drop_rate", "compression_rate")
    options = {leaf: given(f"model.densenet.{leaf}") for leaf in leaves}
    defaults: dict[str, Any] = {"drop_rate": 0.0, "compression_rate": 1.0 if options["block_type"] == "basic" else 0.5}
    if kind == "cifar":
        return {"depth": given("model.densenet.depth")} | options, defaults
    blocks = tuple(given("model.densenet.n_blocks"))
    named = next((depth for depth, known in IMAGENET_BLOCKS.items() if known == blocks), None)
    defaults |= {"block_type": "bottleneck", "growth_rate": 48 if named == 161 else 32}
    return ({"depth": named} if named else {"blocks": blocks}) | options, defaults


def of_pyramidnet(given: Given, kind: str) -> Options:
    options, defaults = of_resnet(given, kind, "pyramidnet")
    return options | {"alpha": given("model.pyramidnet.alpha")}, defaults


def of_resnext(given: Given, kind: str) -> Options:
    given.only("model.resnext.initial_channels", "ResNeXt's stem has so many channels here")
    options = {leaf: given(f"model.resnext.{leaf}") for leaf in ("cardinality", "base_channels")}
    return {"depth": depth(given, kind, "resnext")} | options, {}


def of_shake_shake(given: Given, kind: str) -> Options:
    shakes = ("shake_forward", "shake_backward", "shake_image")
    options = {leaf: given(f"model.shake_shake.{leaf}") for leaf in ("depth", *shakes)}
    return options | {"base_channels": given("model.shake_shake.initial_channels")}, dict.fromkeys(shakes, True)


OPTIONS: dict[str, Callable[[Given, str], Options]] = {
    "vgg": of_vgg,
    "resnet": of_resnet,
    "resnet_preact": of_resnet_preact,
    "se_resnet_preact": of_se_resnet_preact,
    "wrn": of_wrn,
    "densenet": of_densenet,
    "pyramidnet": of_pyramidnet,
    "resnext": of_resnext,
    "shake_shake": of_shake_shake,
}


def depth(given: Given, kind: str, name: str) -> int:
    """Return the network's depth: as written, or that of the ImageNet network with these numbers of blocks."""
    from pictorch.models.pyramidnet import UNITS

    if kind == "cifar":
        return int(given(f"model.{name}.depth"))
    key = f"model.{name}.n_blocks"
    block = "bottleneck" if name == "resnext" else given(f"model.{name}.block_type")
    known = {units: depth for depth, (kind_of_block, units) in UNITS.items() if kind_of_block == block}
    if (units := tuple(given(key))) not in known:
        raise given.refuse(key, f"with {block} units {' or '.join(map(show, known))}")
    return known[units]


def of_augmentation(given: Given) -> Settings:
    return {
        **of_crop(given),
        **of_cutout(given),
        **of_losses(given),
    }


def of_crop(given: Given) -> Settings:
    found: Settings = {"augment.crop": None, "augment.resized_crop": None}
    if given("augmentation.use_random_crop") and given("model.type") == "imagenet":
        found["augment.resized_crop"] = {}
    elif given("augmentation.use_random_crop") and (padding := given("augmentation.random_crop.padding")):
        given.only("augmentation.random_crop.fill", "images are padded with black")
        mode = given("augmentation.random_crop.padding_mode")
        found["augment.crop"] = {"padding": padding, "mode": mode}
    found["augment.flip"] = False
    if given("augmentation.use_random_horizontal_flip") and given("augmentation.random_horizontal_flip.prob"):
        given.only("augmentation.random_horizontal_flip.prob", "every second image is mirrored at random")
        found["augment.flip"] = True
    return found


def of_cutout(given: Given) -> Settings:
    found: Settings = {"augment.cutout": None, "augment.random_erasing": None}
    if given("augmentation.use_cutout"):
        found["augment.cutout"] = square(given)
    if given("augmentation.use_random_erasing"):
        leaves = {"prob": "prob", "area": "area_ratio_range", "min_aspect": "min_aspect_ratio"}
        leaves |= {"max_attempt": "max_attempt"}
        block = {ours: given(f"augmentation.random_erasing.{theirs}") for ours, theirs in leaves.items()}
        found["augment.random_erasing"] = block
    return found


def square(given: Given) -> Settings:
    """Return the options of the square that is cut out."""
    given.only("augmentation.cutout.mask_color", "it is the mean colour, which is 0 after normalising")
    leaves = {"size": "mask_size", "prob": "prob", "inside": "cut_inside"}
    return {ours: given(f"augmentation.cutout.{theirs}") for ours, theirs in leaves.items()}


def of_losses(given: Given) -> Settings:
    """Return what the first of the exclusive losses sets; the program drops the others, and here a note says so."""
    on = [name for name in LOSSES if given(f"augmentation.use_{name}")]
    found: Settings = {f"augment.{name}": None for name in LOSSES} | {"augment.label_smoothing": 0.0}
    if not on:
        return found
    if on[1:]:
        dropped = ", ".join(f"augmentation.use_{name}" for name in on[1:])
        given.notes.append(f"{dropped} ignored, as that program did: augmentation.use_{on[0]} comes first")
    match on[0]:
        case "mixup":
            found["augment.mixup"] = {"alpha": given("augmentation.mixup.alpha")}
        case "ricap":
            found["augment.ricap"] = {"beta": given("augmentation.ricap.beta")}
        case "cutmix":
            # That program mixes every batch; the paper every second one of CIFAR.
            found["augment.cutmix"] = {"alpha": given("augmentation.cutmix.alpha"), "prob": 1.0}
        case "label_smoothing":
            found["augment.label_smoothing"] = given("augmentation.label_smoothing.epsilon")
        case _:
            alpha = given("augmentation.cutout.dual_cutout_alpha")
            found["augment.dual_cutout"] = {**square(given), "alpha": alpha}
    return found


def of_optimiser(given: Given) -> Settings:
    name = given("train.optimizer")
    found: Settings = {
        "optim.name": "adam" if name == "amsgrad" else name,
        "optim.lr": given("train.base_lr"),
        "optim.weight_decay": given("train.weight_decay"),
        "optim.decay_norm_and_bias": not given("train.no_weight_decay_on_bn"),
        "optim.clip_norm": given("train.gradient_clip") or None,
        "optim.accumulate": given("train.subdivision"),
    }
    if given("train.no_weight_decay_on_bn"):
        given.notes.append("train.no_weight_decay_on_bn: biases are not decayed either")
    match name:
        case "sgd":
            found |= {f"optim.{leaf}": given(f"train.{leaf}") for leaf in ("momentum", "nesterov")}
        case "lars":
            found |= {f"optim.{leaf}": given(f"optim.lars.{leaf}") for leaf in ("eps", "threshold")}
            found |= {"optim.momentum": given("train.momentum"), **LARS}
        case "adabound" | "adaboundw":
            found |= {f"optim.{leaf}": given(f"optim.adabound.{leaf}") for leaf in ("betas", "final_lr", "gamma")}
        case _:
            found["optim.betas"] = given("optim.adam.betas")
    if name == "amsgrad":
        found["optim.amsgrad"] = True
    return found


def of_schedule(given: Given) -> Settings:
    name = given("scheduler.type")
    found: Settings = of_warmup(given)
    if name in ("linear", "cosine", "sgdr"):
        found["schedule.final_factor"] = given("scheduler.lr_min_factor")
    if name == "sgdr":
        found |= {"schedule.first_cycle_epochs": float(given("scheduler.T0"))}
        found |= {"schedule.cycle_factor": given("scheduler.T_mul")}
    if name == "multistep":
        # The program counts milestones from the end of the warm-up.
        shifted = [epoch + found["schedule.warmup_epochs"] for epoch in given("scheduler.milestones")]
        reached = [epoch for epoch in shifted if epoch < given("scheduler.epochs")]
        if reached != shifted:
            late = ", ".join(f"{epoch:g}" for epoch in shifted if epoch not in reached)
            given.notes.append(f"scheduler.milestones: {late} is never reached in {given('scheduler.epochs')} epochs")
        gamma = given("scheduler.lr_decay")
        found |= {"schedule.milestones_epochs": reached, "schedule.gamma": gamma} if reached else {}
        name = "multistep" if reached else "constant"
    return {"schedule.name": name, **found}


def of_warmup(given: Given) -> Settings:
    kind = given("scheduler.warmup.type")
    if kind == "none" or not given("scheduler.warmup.epochs"):
        return {"schedule.warmup_epochs": 0}
    found: Settings = {
        "schedule.warmup": kind,
        "schedule.warmup_epochs": given("scheduler.warmup.epochs"),
        "schedule.warmup_start_factor": given("scheduler.warmup.start_factor"),
    }
    if kind == "exponential":
        found["schedule.warmup_exponent"] = float(given("scheduler.warmup.exponent"))
    return found


def of_training(given: Given) -> Settings:
    device, epochs = given("device"), given("scheduler.epochs")
    # Its default of 10 was for files that stay; of a checkpoint that is written anew there can be one an epoch.
    checkpoints = "train.checkpoint_period" in given.places
    precision = PRECISIONS[given("train.precision")] if given("train.use_apex") else "fp32"
    if precision in MEANINGS:
        given.notes.append(f"train.precision {given('train.precision')}: {MEANINGS[precision]}")
    return {
        "train.epochs": epochs,
        "train.batch_size": given("train.batch_size"),
        "train.seed": given("train.seed"),
        # The program falls back on the CPU by itself.
        "train.device": "auto" if device == "cuda" else device,
        "train.precision": precision,
        "train.deterministic": given("cudnn.deterministic"),
        "train.select": "last",
        "train.eval_every_epochs": given("train.val_period") or epochs,
        "train.save_every_epochs": given("train.checkpoint_period") if checkpoints else 1,
        "track.tensorboard": "auto" if given("train.use_tensorboard") else False,
    }


def flattened(found: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Return settings with those of a block one by one: a.b {c: 1} becomes a.b.c 1."""
    flat: list[tuple[str, Any]] = []
    for key, value in found.items():
        if isinstance(value, Mapping) and value:
            flat += [(f"{key}.{leaf}", inner) for leaf, inner in value.items()]
        else:
            flat.append((key, value))
    return flat


def explained(error: UserError, given: Given) -> ConfigError:
    """Return an error about our keys in words of the program's: the key that was written, and where."""
    lines = []
    for line in str(error).splitlines():
        place, _, rest = line.partition(": ")
        ours, _, said = rest.partition(": ")
        written = [key for key in given.places if key in given.used and sets(key, ours)]
        near = [key for key in written if ours in KEYS[key].sets or key.rpartition(".")[2] == ours.rpartition(".")[2]]
        if place == COMMAND_LINE and written:
            keys = near or written
            lines.append(f"{given.places[keys[-1]]}: {', '.join(keys)}: {said} ({ours} here)")
        else:
            lines.append(line)
    return ConfigError("\n".join(lines))


def sets(key: str, ours: str) -> bool:
    """Return whether a key of the program has a part in a key of ours."""
    return any(ours == part or ours.startswith(f"{part}.") for part in KEYS[key].sets)
