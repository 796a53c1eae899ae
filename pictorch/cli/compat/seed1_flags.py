"""The flags of seed document 1's main.py, those of its later versions, and what its nine JSON files set.

github.com/hysts/pytorch_image_classification, commit da2bdcf (2018-03), and its train.py before 6ff2a13 (2019-05).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pictorch.config import UserError, nearest

Kind = Literal["int", "float", "bool", "text", "list", "switch"]  # a list is JSON, a switch has no value

RESIDUAL = ("resnet", "resnet_preact", "se_resnet_preact")
PREACT = ("resnet_preact", "se_resnet_preact")
BLOCKS = (*RESIDUAL, "densenet", "pyramidnet")
WIDTHS = (*RESIDUAL, "wrn", "pyramidnet", "resnext", "shake_shake")
DEPTHS = (*WIDTHS, "densenet")


@dataclass(frozen=True)
class Flag:
    """One flag: its value's kind, the part of config.json that it stands in, and its default.

    `of` says which value of another flag it belongs to (the architecture, the optimiser ...). `later`: it came after
    the commit of the document.
    """

    name: str
    kind: Kind
    section: str
    default: Any = None
    of: tuple[str, tuple[Any, ...]] | None = None
    choices: tuple[str, ...] = ()
    later: bool = False

    @property
    def written(self) -> str:
        return f"--{self.name}"

    def acts(self, values: Mapping[str, Any]) -> bool:
        """Return whether what the flag belongs to is on; a dual cutout has the flags of a cutout."""
        if self.of is None:
            return True
        owner, wanted = self.of
        return values[owner] in wanted or (owner == "use_cutout" and values["use_dual_cutout"])


def of_arch(*names: str) -> tuple[str, tuple[Any, ...]]:
    return "arch", names


SGD, MULTISTEP, SGDR = ("optimizer", ("sgd",)), ("scheduler", ("multistep",)), ("scheduler", ("sgdr",))
CUTOUT, ERASING, MIXUP = ("use_cutout", (True,)), ("use_random_erasing", (True,)), ("use_mixup", (True,))
ARCHITECTURES = (
    "densenet",
    "pyramidnet",
    "resnet",
    "resnet_preact",
    "resnext",
    "se_resnet_preact",
    "shake_shake",
    "vgg",
    "wrn",
)
DATASETS = {
    "CIFAR10": "cifar10",
    "CIFAR100": "cifar100",
    "MNIST": "mnist",
    "FashionMNIST": "fashion_mnist",
    "KMNIST": "kmnist",
}

FLAGS: dict[str, Flag] = {
    flag.name: flag
    for flag in (
        Flag("arch", "text", "model_config", choices=ARCHITECTURES),
        Flag("config", "text", ""),
        Flag("n_channels", "list", "model_config", of=of_arch("vgg")),
        Flag("n_layers", "list", "model_config", of=of_arch("vgg")),
        Flag("use_bn", "bool", "model_config", of=of_arch("vgg")),
        Flag("base_channels", "int", "model_config", of=of_arch(*WIDTHS)),
        Flag("block_type", "text", "model_config", of=of_arch(*BLOCKS), choices=("basic", "bottleneck")),
        Flag("depth", "int", "model_config", of=of_arch(*DEPTHS)),
        Flag("remove_first_relu", "bool", "model_config", of=of_arch(*PREACT)),
        Flag("add_last_bn", "bool", "model_config", of=of_arch(*PREACT)),
        Flag("preact_stage", "list", "model_config", of=of_arch(*PREACT)),
        Flag("widening_factor", "int", "model_config", of=of_arch("wrn")),
        Flag("growth_rate", "int", "model_config", of=of_arch("densenet")),
        Flag("compression_rate", "float", "model_config", of=of_arch("densenet")),
        Flag("drop_rate", "float", "model_config", of=of_arch("wrn", "densenet")),
        Flag("pyramid_alpha", "int", "model_config", of=of_arch("pyramidnet")),
        Flag("cardinality", "int", "model_config", of=of_arch("resnext")),
        Flag("shake_forward", "bool", "model_config", of=of_arch("shake_shake")),
        Flag("shake_backward", "bool", "model_config", of=of_arch("shake_shake")),
        Flag("shake_image", "bool", "model_config", of=of_arch("shake_shake")),
        Flag("se_reduction", "int", "model_config", of=of_arch("se_resnet_preact")),
        Flag("outdir", "text", "run_config"),
        Flag("seed", "int", "run_config", 17),
        Flag("test_first", "bool", "run_config", True),
        Flag("gpu", "text", "run_config", "0"),
        Flag("device", "text", "run_config", later=True),
        Flag("fp16", "switch", "run_config", later=True),
        Flag("use_amp", "switch", "run_config", later=True),
        Flag("tensorboard", "switch", "run_config", True),
        Flag("no-tensorboard", "switch", ""),
        Flag("tensorboard_train_images", "switch", "run_config"),
        Flag("tensorboard_test_images", "switch", "run_config"),
        Flag("tensorboard_model_params", "switch", "run_config"),
        Flag("epochs", "int", "optim_config"),
        Flag("batch_size", "int", "optim_config"),
        Flag("ghost_batch_size", "int", "optim_config", later=True),
        Flag("optimizer", "text", "optim_config", choices=("sgd", "adam", "lars")),
        Flag("base_lr", "float", "optim_config"),
        Flag("weight_decay", "float", "optim_config"),
        Flag("no_weight_decay_on_bn", "switch", "optim_config", later=True),
        Flag("gradient_clip", "float", "optim_config", later=True),
        Flag("momentum", "float", "optim_config", of=("optimizer", ("sgd", "lars"))),
        Flag("nesterov", "bool", "optim_config", of=SGD),
        Flag("scheduler", "text", "optim_config", choices=("none", "multistep", "cosine", "sgdr")),
        Flag("milestones", "list", "optim_config", of=MULTISTEP),
        Flag("lr_decay", "float", "optim_config", of=MULTISTEP),
        Flag("lr_min", "float", "optim_config", 0.0, of=("scheduler", ("cosine", "sgdr"))),
        Flag("T0", "int", "optim_config", of=SGDR, later=True),
        Flag("Tmult", "int", "optim_config", of=SGDR, later=True),
        Flag("betas", "list", "optim_config", of=("optimizer", ("adam",))),
        Flag("lars_eps", "float", "optim_config", 1e-9, of=("optimizer", ("lars",)), later=True),
        Flag("lars_thresh", "float", "optim_config", 1e-2, of=("optimizer", ("lars",)), later=True),
        Flag("dataset", "text", "data_config", "CIFAR10", choices=tuple(DATASETS)),
        Flag("num_workers", "int", "data_config", 7),
        Flag("use_random_crop", "bool", "data_config", later=True),
        Flag("random_crop_padding", "int", "data_config", 4, of=("use_random_crop", (True,)), later=True),
        Flag("use_horizontal_flip", "bool", "data_config", later=True),
        Flag("use_cutout", "switch", "data_config", False),
        Flag("use_dual_cutout", "switch", "data_config", False, later=True),
        Flag("cutout_size", "int", "data_config", 16, of=CUTOUT),
        Flag("cutout_prob", "float", "data_config", 1.0, of=CUTOUT),
        Flag("cutout_inside", "switch", "data_config", False, of=CUTOUT),
        Flag("dual_cutout_alpha", "float", "data_config", 0.1, of=("use_dual_cutout", (True,)), later=True),
        Flag("use_random_erasing", "switch", "data_config", False),
        Flag("random_erasing_prob", "float", "data_config", 0.5, of=ERASING),
        Flag("random_erasing_area_ratio_range", "list", "data_config", [0.02, 0.4], of=ERASING),
        Flag("random_erasing_min_aspect_ratio", "float", "data_config", 0.3, of=ERASING),
        Flag("random_erasing_max_attempt", "int", "data_config", 20, of=ERASING),
        Flag("use_mixup", "switch", "data_config", False),
        Flag("mixup_alpha", "float", "data_config", 1.0, of=MIXUP),
        Flag("use_ricap", "switch", "data_config", False, later=True),
        Flag("ricap_beta", "float", "data_config", 0.3, of=("use_ricap", (True,)), later=True),
        Flag("use_label_smoothing", "switch", "data_config", False, later=True),
        Flag("label_smoothing_epsilon", "float", "data_config", 0.1, of=("use_label_smoothing", (True,)), later=True),
        Flag("as_published", "switch", "", False, later=True),
        Flag("strict_row", "switch", "", False, later=True),
        Flag("dry_run", "switch", "", False, later=True),
    )
}
OURS = ("as_published", "strict_row", "dry_run")


def training(epochs: int, milestones: list[int], **others: Any) -> dict[str, Any]:
    """Return the optimiser's part of a JSON file: SGD and multistep, unless told."""
    return {
        "optimizer": "sgd",
        "base_lr": 0.1,
        "momentum": 0.9,
        "weight_decay": 1e-4,
        "nesterov": True,
        "epochs": epochs,
        "scheduler": "multistep",
        "milestones": milestones,
        "lr_decay": 0.1,
        "batch_size": 128,
        **others,
    }


PREACT_DEFAULTS = {"remove_first_relu": False, "add_last_bn": False, "preact_stage": [True, True, True]}
SE_DEFAULTS = {"remove_first_relu": True, "add_last_bn": True, "preact_stage": [True, False, False], "se_reduction": 16}
BASIC_110 = {"depth": 110, "block_type": "basic", "base_channels": 16}

# configs/ARCH.json, by architecture
DEFAULTS: dict[str, dict[str, Any]] = {
    "vgg": {
        "n_channels": [64, 128, 256, 512, 512],
        "n_layers": [2, 2, 3, 3, 3],
        "use_bn": True,
        **training(160, [80, 120]),
    },
    "resnet": {**BASIC_110, **training(160, [80, 120])},
    "resnet_preact": {**BASIC_110, **PREACT_DEFAULTS, **training(160, [80, 120])},
    "se_resnet_preact": {**BASIC_110, **SE_DEFAULTS, **training(160, [80, 120])},
    "wrn": {
        "depth": 28,
        "widening_factor": 10,
        "base_channels": 16,
        "drop_rate": 0.0,
        **training(200, [60, 120, 160], lr_decay=0.2, weight_decay=5e-4),
    },
    "densenet": {
        "depth": 100,
        "block_type": "bottleneck",
        "growth_rate": 12,
        "compression_rate": 0.5,
        "drop_rate": 0.0,
        **training(300, [150, 225], batch_size=64),
    },
    "pyramidnet": {
        "depth": 272,
        "block_type": "bottleneck",
        "pyramid_alpha": 200,
        "base_channels": 16,
        **training(300, [150, 225]),
    },
    "resnext": {"depth": 29, "cardinality": 8, "base_channels": 64, **training(300, [150, 225], weight_decay=5e-4)},
    "shake_shake": {
        "depth": 26,
        "base_channels": 96,
        "shake_forward": True,
        "shake_backward": True,
        "shake_image": True,
        **training(1800, [], base_lr=0.2, scheduler="cosine"),
    },
}


def find(word: str) -> Flag:
    """Return the flag that a word with dashes names, in full or shortened to what only one flag begins with.

    What was enough among the flags of the document's commit still is. Raises UserError with the nearest flags.
    """
    known = {flag.written.replace("-", "_"): flag for flag in FLAGS.values()}
    name = word.replace("-", "_")
    if name in known:
        return known[name]
    begun = [flag for key, flag in known.items() if key.startswith(name)]
    among = [flag for flag in begun if not flag.later] or begun
    if len(among) == 1:
        return among[0]
    if among:
        raise UserError(f"main.py: {word} could be {' or '.join(flag.written for flag in begun)}; write it in full")
    raise UserError(f"main.py: {word}: unknown flag{nearest(word, [flag.written for flag in FLAGS.values()])}")


def read(flag: Flag, text: str, where: str) -> Any:
    """Return a value as the program read it from text. Raises UserError that names the place."""
    if flag.kind in ("int", "float"):
        try:
            return int(text) if flag.kind == "int" else float(text)
        except ValueError:
            what = "a whole number" if flag.kind == "int" else "a number"
            raise UserError(f"{where}: expected {what}, got {text!r}") from None
    if flag.kind in ("bool", "switch"):
        if text.lower() not in ("true", "false"):
            raise UserError(f"{where}: expected true or false, got {text!r}")
        return text.lower() == "true"
    if flag.kind == "list":
        return read_list(text, where)
    if flag.choices and text not in flag.choices:
        raise UserError(
            f"{where}: expected one of {', '.join(flag.choices)}, got {text!r}{nearest(text, flag.choices)}"
        )
    return text


def read_list(text: str, where: str) -> list[Any]:
    """Return a JSON list of numbers or truth values. Raises UserError that says where in the text it is none."""
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(
            f"{where}: this is not a JSON list: {error.msg} at character {error.pos + 1} of {text!r}"
        ) from None
    if not isinstance(value, list) or not all(isinstance(item, int | float) for item in value):
        raise UserError(f"{where}: expected a JSON list, such as '[80, 120]' or '[true, false, false]', got {text!r}")
    return value
