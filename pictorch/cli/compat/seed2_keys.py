"""The 150 keys of seed document 2's configuration: default, which of our keys each sets, or why it has no meaning here.

How a key sets ours is said in `seed2_settings`; its type is that of its default.
"""

import ast
from collections.abc import Mapping
from typing import Any, NamedTuple

import yaml

from pictorch.cli.compat import seed1_flags
from pictorch.config import ConfigError
from pictorch.config.keywords import show


class Key(NamedTuple):
    """A key: its default, the keys of ours that it has a part in, the texts it may be, why it sets nothing here."""

    default: Any
    sets: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    why: str = ""


# The two documents are of one project.
DATASETS = {**seed1_flags.DATASETS, "ImageNet": "imagenet"}
OPTIMIZERS = ("sgd", "adam", "amsgrad", "lars", "adabound", "adaboundw")
BLOCK_TYPES = ("basic", "bottleneck")
# The program's order: it takes the first that is on.
LOSSES = ("mixup", "ricap", "cutmix", "label_smoothing", "dual_cutout")

# Milestones are counted from the end of the warm-up.
WARMUP = tuple(f"schedule.{key}" for key in ("warmup", "warmup_epochs", "warmup_start_factor", "milestones_epochs"))

DECIDED = "the data set decides it"
ON_DEVICE = "batches are made on the device"
ONE_PROCESS = "one process trains on the whole batch"
EVALUATION = "evaluate.py's; here it is `pictorch eval RUN_DIR`"
LOGGED = "what stands in metrics.jsonl is what is logged"


def model(name: str, **defaults: Any) -> dict[str, Key]:
    """Return the keys of one network, which set the model alone."""
    choices = {"block_type": BLOCK_TYPES}
    return {
        f"model.{name}.{leaf}": Key(default, ("model",), choices.get(leaf, ())) for leaf, default in defaults.items()
    }


def without(why: str, **defaults: Any) -> dict[str, Key]:
    """Return keys that have no meaning here; in their names, two underscores stand for a dot."""
    return {name.replace("__", "."): Key(default, why=why) for name, default in defaults.items()}


KEYS: dict[str, Key] = {
    "device": Key("cuda", ("train.device",)),
    **without("the fastest kernels are searched for unless cudnn.deterministic is on", cudnn__benchmark=True),
    "cudnn.deterministic": Key(False, ("train.deterministic",)),
    "dataset.name": Key("CIFAR10", ("data.name",), tuple(DATASETS)),
    "dataset.dataset_dir": Key("", ("data.name",)),
    "dataset.image_size": Key(32, ("data.image_size", "model")),
    "dataset.n_channels": Key(3, ("data.channels",)),
    **without(DECIDED, dataset__n_classes=10),
    "model.type": Key("cifar", ("model", "augment"), ("cifar", "imagenet")),
    "model.name": Key("resnet_preact", ("model",)),
    "model.init_mode": Key("kaiming_fan_out", ("model.init",), ("kaiming_fan_out", "kaiming_fan_in")),
    **model("vgg", n_channels=[64, 128, 256, 512, 512], n_layers=[2, 2, 3, 3, 3], use_bn=True),
    **model("resnet", depth=110, n_blocks=[2, 2, 2, 2], block_type="basic", initial_channels=16),
    **model(
        "resnet_preact",
        depth=110,
        n_blocks=[2, 2, 2, 2],
        block_type="basic",
        initial_channels=16,
        remove_first_relu=False,
        add_last_bn=False,
        preact_stage=[True, True, True],
    ),
    **model("wrn", depth=28, initial_channels=16, widening_factor=10, drop_rate=0.0),
    **model(
        "densenet",
        depth=100,
        n_blocks=[6, 12, 24, 16],
        block_type="bottleneck",
        growth_rate=12,
        drop_rate=0.0,
        compression_rate=0.5,
    ),
    **model("pyramidnet", depth=272, n_blocks=[3, 24, 36, 3], initial_channels=16, block_type="bottleneck", alpha=200),
    **model("resnext", depth=29, n_blocks=[3, 4, 6, 3], initial_channels=64, cardinality=8, base_channels=4),
    **model("shake_shake", depth=26, initial_channels=96, shake_forward=True, shake_backward=True, shake_image=True),
    **model(
        "se_resnet_preact",
        depth=110,
        initial_channels=16,
        se_reduction=16,
        block_type="basic",
        remove_first_relu=False,
        add_last_bn=False,
        preact_stage=[True, True, True],
    ),
    "train.checkpoint": Key("", ("model.init_from",)),
    **without("a run is continued with --resume DIR", train__resume=False, train__start_epoch=0),
    "train.use_apex": Key(True, ("train.precision",)),
    "train.precision": Key("O0", ("train.precision",), ("O0", "O1", "O2", "O3")),
    "train.batch_size": Key(128, ("train.batch_size",)),
    "train.subdivision": Key(1, ("optim.accumulate",)),
    "train.optimizer": Key("sgd", ("optim",), OPTIMIZERS),
    "train.base_lr": Key(0.1, ("optim.lr",)),
    "train.momentum": Key(0.9, ("optim.momentum",)),
    "train.nesterov": Key(True, ("optim.nesterov",)),
    "train.weight_decay": Key(1e-4, ("optim.weight_decay",)),
    "train.no_weight_decay_on_bn": Key(False, ("optim.decay_norm_and_bias",)),
    "train.gradient_clip": Key(0.0, ("optim.clip_norm",)),
    "train.seed": Key(0, ("train.seed",)),
    **without("nothing is evaluated before the first epoch", train__val_first=True),
    "train.val_period": Key(1, ("train.eval_every_epochs",)),
    "train.val_ratio": Key(0.0, ("data.val_fraction", "data.stratified")),
    "train.use_test_as_val": Key(True, ("data.val_fraction", "data.stratified")),
    "train.output_dir": Key("experiments/exp00"),
    **without("there is a line an epoch", train__log_period=100),
    "train.checkpoint_period": Key(10, ("train.save_every_epochs",)),
    "train.use_tensorboard": Key(True, ("track.tensorboard",)),
    **without(ONE_PROCESS, train__distributed=False),
    **without(LOGGED, tensorboard__train_images=False, tensorboard__val_images=False, tensorboard__model_params=False),
    "optim.adam.betas": Key((0.9, 0.999), ("optim.betas",)),
    "optim.lars.eps": Key(1e-9, ("optim.eps",)),
    "optim.lars.threshold": Key(1e-2, ("optim.threshold",)),
    "optim.adabound.betas": Key((0.9, 0.999), ("optim.betas",)),
    "optim.adabound.final_lr": Key(0.1, ("optim.final_lr",)),
    "optim.adabound.gamma": Key(1e-3, ("optim.gamma",)),
    "scheduler.epochs": Key(160, ("train.epochs",)),
    "scheduler.type": Key("multistep", ("schedule",), ("constant", "linear", "multistep", "cosine", "sgdr")),
    "scheduler.milestones": Key([80, 120], ("schedule.milestones_epochs",)),
    "scheduler.lr_decay": Key(0.1, ("schedule.gamma",)),
    "scheduler.lr_min_factor": Key(0.001, ("schedule.final_factor",)),
    "scheduler.T0": Key(10, ("schedule.first_cycle_epochs",)),
    "scheduler.T_mul": Key(1.0, ("schedule.cycle_factor",)),
    "scheduler.warmup.type": Key("none", WARMUP, ("none", "linear", "exponential")),
    "scheduler.warmup.epochs": Key(0, WARMUP),
    "scheduler.warmup.start_factor": Key(1e-3, ("schedule.warmup_start_factor",)),
    "scheduler.warmup.exponent": Key(4, ("schedule.warmup_exponent",)),
    "train.dataloader.num_workers": Key(2, ("data.workers",)),
    "train.dataloader.drop_last": Key(True, ("data.drop_last",)),
    **without(ON_DEVICE, train__dataloader__pin_memory=False, train__dataloader__non_blocking=False),
    **without(
        "a figure does not depend on it: every image is evaluated once",
        validation__batch_size=256,
        validation__dataloader__num_workers=2,
        validation__dataloader__drop_last=False,
        validation__dataloader__pin_memory=False,
        validation__dataloader__non_blocking=False,
    ),
    **without(
        ONE_PROCESS,
        train__dist__backend="nccl",
        train__dist__init_method="env://",
        train__dist__world_size=-1,
        train__dist__node_rank=-1,
        train__dist__local_rank=0,
        train__dist__use_sync_bn=False,
    ),
    "augmentation.use_random_crop": Key(True, ("augment.crop", "augment.resized_crop")),
    "augmentation.use_random_horizontal_flip": Key(True, ("augment.flip",)),
    "augmentation.use_cutout": Key(False, ("augment.cutout",)),
    "augmentation.use_random_erasing": Key(False, ("augment.random_erasing",)),
    "augmentation.use_dual_cutout": Key(False, ("augment.dual_cutout",)),
    "augmentation.use_mixup": Key(False, ("augment.mixup",)),
    "augmentation.use_ricap": Key(False, ("augment.ricap",)),
    "augmentation.use_cutmix": Key(False, ("augment.cutmix",)),
    "augmentation.use_label_smoothing": Key(False, ("augment.label_smoothing",)),
    "augmentation.random_crop.padding": Key(4, ("augment.crop.padding",)),
    **without("the padding is black", augmentation__random_crop__fill=0),
    "augmentation.random_crop.padding_mode": Key("constant", ("augment.crop.mode",), ("constant", "reflect")),
    "augmentation.random_horizontal_flip.prob": Key(0.5, ("augment.flip",)),
    "augmentation.cutout.prob": Key(1.0, ("augment.cutout.prob", "augment.dual_cutout.prob")),
    "augmentation.cutout.mask_size": Key(16, ("augment.cutout.size", "augment.dual_cutout.size")),
    "augmentation.cutout.cut_inside": Key(False, ("augment.cutout.inside", "augment.dual_cutout.inside")),
    **without("the square has the mean colour, which is 0 after normalising", augmentation__cutout__mask_color=0),
    "augmentation.cutout.dual_cutout_alpha": Key(0.1, ("augment.dual_cutout.alpha",)),
    "augmentation.random_erasing.prob": Key(0.5, ("augment.random_erasing.prob",)),
    "augmentation.random_erasing.area_ratio_range": Key([0.02, 0.4], ("augment.random_erasing.area",)),
    "augmentation.random_erasing.min_aspect_ratio": Key(0.3, ("augment.random_erasing.min_aspect",)),
    "augmentation.random_erasing.max_attempt": Key(20, ("augment.random_erasing.max_attempt",)),
    "augmentation.mixup.alpha": Key(1.0, ("augment.mixup.alpha",)),
    "augmentation.ricap.beta": Key(0.3, ("augment.ricap.beta",)),
    "augmentation.cutmix.alpha": Key(1.0, ("augment.cutmix.alpha",)),
    "augmentation.label_smoothing.epsilon": Key(0.1, ("augment.label_smoothing",)),
    **without(
        "images of ImageNet are scaled to 256 pixels and cropped to 224, or in that proportion; others stay whole",
        tta__use_resize=False,
        tta__use_center_crop=False,
        tta__resize=256,
    ),
    **without(
        EVALUATION,
        test__checkpoint="",
        test__output_dir="",
        test__batch_size=256,
        test__dataloader__num_workers=2,
        test__dataloader__pin_memory=False,
    ),
}
BLOCKS = {key.rsplit(".", n)[0] for key in KEYS for n in range(1, key.count(".") + 1)}
WORDS: Mapping[type, tuple[str, str]] = {
    bool: ("true or false", "true or false"),
    int: ("a whole number", "whole numbers"),
    float: ("a number", "numbers"),
    str: ("text", "texts"),
}


def read(key: str, value: object, place: str) -> Any:
    """Return a value of `key` in the type of its default; texts that write a value (`'[True, True]'`) are that value.

    Raises ConfigError that says what was expected.
    """
    default, choices = KEYS[key].default, KEYS[key].choices
    if isinstance(default, str):
        text = "" if value is None else value
        if not isinstance(text, str) or (choices and text not in choices):
            expected = " or ".join(map(show, choices)) if choices else "text"
            raise ConfigError(f"{place}: {key}: expected {expected}, got {show(value)}")
        return text
    said = f"{place}: {key}: expected {described(default)}, got {show(value)}"
    plain = literal(value, said) if isinstance(value, str) else value
    if isinstance(default, list | tuple):
        if not isinstance(plain, list | tuple) or not all(fits(item, type(default[0])) for item in plain):
            raise ConfigError(said)
        return [type(default[0])(item) for item in plain]
    if not fits(plain, type(default)):
        raise ConfigError(said)
    return type(default)(plain)


def described(default: object) -> str:
    """Return the type of a default in words."""
    if isinstance(default, list | tuple):
        return f"a list of {WORDS[type(default[0])][1]}"
    return WORDS[type(default)][0]


def fits(value: object, kind: type) -> bool:
    return type(value) is kind or (kind is float and type(value) is int)


def literal(text: str, said: str) -> object:
    """Return the value that a text writes, in Python's or in YAML's words. Raises ConfigError for a broken list."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, RecursionError):
        pass
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f": it breaks off at character {mark.column + 1}" if mark else ""
        raise ConfigError(f"{said}{where}") from None


def differing(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of the values that are not the program's defaults."""
    return {key: value for key, value in values.items() if value != plain_default(key)}


def plain_default(key: str) -> Any:
    """Return a key's default, tuples as lists, as `read` returns values."""
    default = KEYS[key].default
    return list(default) if isinstance(default, tuple) else default
