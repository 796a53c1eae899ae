"""Seed document 2's train.py: its files, its 150 keys, what they become here, and the files that a run leaves."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from conftest import SMALL

from pictorch import api, runs
from pictorch.cli.compat import seed2
from pictorch.cli.compat.command import Command
from pictorch.cli.compat.seed2_keys import BLOCKS, KEYS, plain_default
from pictorch.cli.compat.seed2_settings import Given, settings, unused
from pictorch.config import Config, UserError, differences, load, to_dict
from pictorch.config.load import is_within
from pictorch.config.schema import flatten
from pictorch.data.specs import ImagesSpec
from pictorch.engine import build
from pictorch.engine.inputs import data
from pictorch.runs import RunDir

RESNET = "--config configs/cifar/resnet.yaml"
PREACT = "--config configs/cifar/resnet_preact.yaml"


def translated(words: str) -> Command:
    return seed2.translate(["train.py", *shlex.split(words)])


def config_of(words: str) -> Config:
    command = translated(words)
    return load(command.recipe, command.overrides).config


def given(words: str) -> Given:
    values, places, _ = seed2.configuration(seed2.take_apart(["train.py", *shlex.split(words)]))
    return Given(values, places)


def flat(words: str) -> dict[str, Any]:
    """Return the configuration as flat keys, without the search for the recipe that it is made of."""
    return flatten(to_dict(load(seed2.NOTHING, seed2.overrides_of(given(words))).config))


def notes_of(words: str) -> str:
    read = given(words)
    read("train.output_dir")
    settings(read)
    return "\n".join([*read.notes, *unused(read)])


def refused(words: str) -> str:
    with pytest.raises(UserError) as caught:
        translated(words)
    return str(caught.value)


def parameters(config: Config) -> int:
    """Count the network's parameters, of ImageNet's images where they are a folder's."""
    if config.data.name == "imagenet":
        spec: ImagesSpec = data.own.specification(
            "imagenet", tuple(map(str, range(1000))), image_size=224, channels=3, title=""
        )
    else:
        spec = data.find(config.data.name)
    with torch.device("meta"):
        return sum(p.numel() for p in build.create_model(config, spec).parameters())


# file -> parameters of the paper's network, epochs, milestones (of a cosine its end), batch size, rate, decay
FILES = {
    "cifar/vgg": (14_728_266, 160, [80, 120], 128, 0.1, 1e-4),
    "cifar/resnet": (1_727_962, 160, [80, 120], 128, 0.1, 1e-4),
    "cifar/resnet_preact": (1_727_962, 160, [80, 120], 128, 0.1, 1e-4),
    "cifar/se_resnet_preact": (1_746_232, 160, [80, 120], 128, 0.1, 1e-4),
    "cifar/wrn": (36_479_194, 200, [60, 120, 160], 128, 0.1, 5e-4),
    "cifar/densenet": (769_162, 300, [150, 225], 64, 0.1, 1e-4),
    "cifar/pyramidnet": (26_210_842, 300, [150, 225], 128, 0.1, 1e-4),
    "cifar/resnext": (34_426_698, 300, [150, 225], 128, 0.1, 5e-4),
    "cifar/shake_shake": (26_192_922, 1800, 0.0, 128, 0.2, 1e-4),
    "imagenet/resnet18": (11_689_512, 90, [30, 60], 256, 0.1, 1e-4),
    "imagenet/resnet34": (21_797_672, 90, [30, 60], 256, 0.1, 1e-4),
    "imagenet/resnet_preact_18": (11_687_720, 90, [30, 60], 256, 0.1, 1e-4),
    "imagenet/vgg16": (138_365_992, 90, [30, 60], 256, 0.01, 5e-4),
    "imagenet/densenet121": (7_978_856, 90, [30, 60], 256, 0.1, 1e-4),
    "imagenet/resnext50_32x4d": (25_028_904, 90, [30, 60], 256, 0.1, 1e-4),
    "imagenet/pyramidnet200": (62_368_168, 120, [60, 90, 105], 128, 0.05, 1e-4),
}
OVERLAYS = {
    "datasets/cifar10": {"data.name": "cifar10", "augment.crop.padding": 4, "augment.flip": True},
    "datasets/cifar100": {"data.name": "cifar100", "augment.flip": True},
    "datasets/mnist": {"data.name": "mnist", "augment.crop.padding": 4, "augment.flip": False},
    "datasets/fashion_mnist": {"data.name": "fashion_mnist", "augment.crop.padding": 4, "augment.flip": True},
    "datasets/kmnist": {"data.name": "kmnist", "augment.flip": False},
    "datasets/imagenet": {"data.name": "imagenet", "model.stem": "cifar"},
    "augmentations/cifar/cutmix": {"augment.cutmix.alpha": 1.0, "augment.cutmix.prob": 1.0},
    "augmentations/cifar/cutout": {"augment.cutout.size": 16, "augment.cutout.prob": 1.0},
    "augmentations/cifar/dual_cutout": {"augment.dual_cutout.size": 16, "augment.dual_cutout.alpha": 0.1},
    "augmentations/cifar/label_smoothing": {"augment.label_smoothing": 0.1},
    "augmentations/cifar/mixup": {"augment.mixup.alpha": 1.0},
    "augmentations/cifar/random_erasing": {"augment.random_erasing.area": [0.02, 0.4]},
    "augmentations/cifar/ricap": {"augment.ricap.beta": 0.3, "augment.crop": None},
}


def test_the_files_are_those_of_the_program() -> None:
    assert seed2.shipped() == sorted(f"configs/{name}.yaml" for name in (*FILES, *OVERLAYS))


@pytest.mark.parametrize("name", FILES)
def test_each_file_is_the_network_and_the_schedule_that_it_names(name: str) -> None:
    params, epochs, shape, batch, lr, decay = FILES[name]
    command = translated(f"--config configs/{name}.yaml")
    config = load(command.recipe, command.overrides).config
    assert parameters(config) == params
    assert (config.train.epochs, config.train.batch_size) == (epochs, batch)
    assert (config.optim.lr, config.optim.weight_decay, config.optim.name) == (lr, decay, "sgd")
    schedule = config.schedule.model_dump()
    assert schedule.get("milestones_epochs", schedule.get("final_factor")) == (
        tuple(shape) if isinstance(shape, list) else shape
    )
    assert (config.train.seed, config.train.precision) == (0, "fp32")
    set_name, _, network = name.partition("/")
    assert command.outdir == Path(f"experiments/{'cifar10' if set_name == 'cifar' else set_name}/{network}/exp00")
    assert not command.notes


@pytest.mark.parametrize("name", [*FILES, *OVERLAYS])
def test_the_canonical_line_is_the_whole_configuration(name: str) -> None:
    words = f"--config configs/{name}.yaml"
    named, plain = config_of(words), load(seed2.NOTHING, seed2.overrides_of(given(words))).config
    assert seed2.network(named) == seed2.network(plain)
    assert not differences(named.model_copy(update={"model": plain.model}), plain)


@pytest.mark.parametrize("name", OVERLAYS)
def test_overlays_stand_over_the_file_before(name: str) -> None:
    words = f"{PREACT} --config configs/{name}.yaml"
    assert OVERLAYS[name].items() <= flat(words).items()
    assert config_of(words).train.epochs == 160
    assert not notes_of(words)


def test_overlays_of_data_and_of_augmentation_combine() -> None:
    files = ("cifar/wrn", "datasets/fashion_mnist", "augmentations/cifar/cutout", "augmentations/cifar/mixup")
    found = flat(" ".join(f"--config configs/{name}.yaml" for name in files))
    expected = {"data.name": "fashion_mnist", "augment.cutout.size": 16, "augment.mixup.alpha": 1.0, "optim.lr": 0.1}
    assert expected.items() <= found.items()
    assert found["schedule.milestones_epochs"] == [60, 120, 160]


# The overrides of the program's users (its README), and what each sets here.
SHAKE, PYRAMID = "--config configs/cifar/shake_shake.yaml", "--config configs/cifar/pyramidnet.yaml"
OVERRIDES: list[tuple[str, str, dict[str, Any]]] = [
    *((PREACT, f"model.resnet_preact.depth {n}", {}) for n in (20, 56)),
    (PREACT, "model.resnet_preact.depth 164 model.resnet_preact.block_type bottleneck", {}),
    (PREACT, "model.resnet_preact.preact_stage '[True, True, True]'", {}),
    (PREACT, "model.resnet_preact.preact_stage '[True, False, False]'", {"model.preact_stage": [True, False, False]}),
    (PREACT, "model.resnet_preact.remove_first_relu True", {"model.remove_first_relu": True}),
    (PREACT, "model.resnet_preact.add_last_bn True", {"model.add_last_bn": True}),
    (PREACT, "model.resnet_preact.add_last_bn False", {}),
    *((PREACT, f"train.base_lr {lr}", {"optim.lr": lr}) for lr in (0.02, 0.025, 0.05, 0.1, 0.2, 1.5, 1.6)),
    *((PREACT, f"train.batch_size {n}", {"train.batch_size": n}) for n in (32, 64, 128, 256, 512, 4096)),
    (
        PREACT,
        "train.optimizer lars",
        {
            "optim.name": "lars",
            "optim.momentum": 0.9,
            "optim.trust_coefficient": 1.0,
            "optim.eps": 1e-9,
            "optim.threshold": 0.01,
            "optim.scale_vectors": True,
        },
    ),
    (PREACT, "train.subdivision 32", {"optim.accumulate": 32}),
    (PREACT, "train.precision O1", {"train.precision": "bf16"}),
    (PREACT, "train.precision O2", {"train.precision": "bf16"}),
    (PREACT, "train.precision O3", {"train.precision": "half"}),
    (PREACT, "train.optimizer amsgrad train.base_lr 1e-3", {"optim.name": "adam", "optim.amsgrad": True}),
    (PREACT, "train.precision O1 train.use_apex False", {"train.precision": "fp32"}),
    (PREACT, "train.no_weight_decay_on_bn True", {"optim.decay_norm_and_bias": False}),
    (PREACT, "train.weight_decay 5e-4", {"optim.weight_decay": 5e-4}),
    (PREACT, "train.distributed True", {}),
    (PREACT, "scheduler.type cosine", {"schedule.name": "cosine", "schedule.final_factor": 0.001}),
    (PREACT, "scheduler.epochs 200", {"train.epochs": 200, "schedule.milestones_epochs": [80, 120]}),
    (PREACT, "scheduler.epochs 300", {"train.epochs": 300, "schedule.milestones_epochs": [80, 120]}),
    (PREACT, "augmentation.use_cutout True", {"augment.cutout.size": 16}),
    (PREACT, "augmentation.use_random_erasing True", {"augment.random_erasing.max_attempt": 20}),
    (PREACT, "augmentation.use_mixup True", {"augment.mixup.alpha": 1.0}),
    (
        PREACT,
        "augmentation.use_ricap True augmentation.use_random_crop False",
        {"augment.ricap.beta": 0.3, "augment.crop": None},
    ),
]


@pytest.mark.parametrize(("file", "override", "expected"), OVERRIDES)
def test_the_overrides_of_its_users(file: str, override: str, expected: dict[str, Any]) -> None:
    found = flat(f"{file} {override}")
    assert expected.items() <= {**dict.fromkeys(expected), **found}.items()


@pytest.mark.parametrize(
    ("words", "params"),
    [
        (f"{PREACT} model.resnet_preact.depth 20", 269_722),
        (f"{PREACT} model.resnet_preact.depth 164 model.resnet_preact.block_type bottleneck", 1_703_258),
        (
            f"{PYRAMID} model.pyramidnet.depth 110 model.pyramidnet.block_type basic model.pyramidnet.alpha 84",
            3_904_446,
        ),
        (
            f"{PYRAMID} model.pyramidnet.depth 110 model.pyramidnet.block_type basic model.pyramidnet.alpha 270",
            28_485_477,
        ),
        ("--config configs/cifar/resnext.yaml model.resnext.cardinality 4", 17_562_442),
        (f"{SHAKE} model.shake_shake.initial_channels 32", 2_923_162),
        (f"{SHAKE} model.shake_shake.initial_channels 64", 11_653_978),
    ],
)
def test_the_networks_of_its_users(words: str, params: int) -> None:
    assert parameters(config_of(words)) == params


# Off its default, a value of each kind; where that alone changes nothing, what has to be on.
VALUES: dict[str, str] = {
    "device": "cpu",
    "dataset.name": "CIFAR100",
    "dataset.dataset_dir": "/data/imagenet",
    "dataset.n_channels": "1",
    "model.type": "imagenet",
    "model.name": "wrn",
    "model.init_mode": "kaiming_fan_in",
    "model.vgg.n_channels": "[32, 64, 128, 256, 256]",
    "model.vgg.n_layers": "(1, 1, 2, 2, 2)",
    "model.densenet.depth": "40",
    "model.densenet.n_blocks": "[6, 12, 32, 32]",
    "model.densenet.drop_rate": "0.2",
    "model.pyramidnet.depth": "164",
    "model.pyramidnet.n_blocks": "[3, 4, 6, 3]",
    "model.resnext.depth": "20",
    "model.resnext.n_blocks": "[3, 4, 23, 3]",
    "model.wrn.depth": "16",
    "model.wrn.drop_rate": "0.3",
    "model.shake_shake.depth": "14",
    "model.se_resnet_preact.se_reduction": "8",
    "train.checkpoint": "weights.pth",
    "train.precision": "O1",
    "train.optimizer": "adam",
    "train.gradient_clip": "1",
    "train.momentum": "0.8",
    "train.val_ratio": "0.1",
    "optim.adam.betas": "(0.8, 0.99)",
    "optim.adabound.betas": "(0.8, 0.99)",
    "scheduler.type": "linear",
    "scheduler.milestones": "[60, 90]",
    "scheduler.warmup.type": "linear",
    "scheduler.warmup.epochs": "5",
    "scheduler.T_mul": "2",
    "augmentation.random_crop.padding_mode": "reflect",
    "augmentation.random_horizontal_flip.prob": "0",
    "augmentation.cutout.prob": "0.5",
    "augmentation.random_erasing.area_ratio_range": "[0.1, 0.2]",
    **{f"model.{name}.depth": "20" for name in ("resnet", "resnet_preact", "se_resnet_preact")},
    **{f"model.{name}.n_blocks": "[3, 4, 6, 3]" for name in ("resnet", "resnet_preact")},
    **{f"model.{name}.preact_stage": "[True, False, False]" for name in ("resnet_preact", "se_resnet_preact")},
}
# What has to be on, by the longest beginning of the key.
CONTEXTS: dict[str, str] = {
    "dataset.": "dataset.name ImageNet",
    "dataset.name": "",
    "dataset.n_classes": "",
    "model.type": "model.name resnet model.resnet.depth 20 model.resnet.initial_channels 64",
    "train.nesterov": "train.momentum 0.5",
    "train.precision": "",
    "train.use_apex": "train.precision O1",
    "train.val_ratio": "train.use_test_as_val False",
    "train.use_test_as_val": "train.val_ratio 0.1",
    "optim.adam.": "train.optimizer adam",
    "optim.lars.": "train.optimizer lars",
    "optim.adabound.": "train.optimizer adabound",
    "scheduler.lr_min_factor": "scheduler.type cosine",
    "scheduler.T": "scheduler.type sgdr",
    "scheduler.warmup.": "scheduler.warmup.type exponential scheduler.warmup.epochs 2",
    "scheduler.warmup.type": "scheduler.warmup.epochs 5",
    "augmentation.cutout.": "augmentation.use_cutout True",
    "augmentation.cutout.dual_cutout_alpha": "augmentation.use_dual_cutout True",
    **{f"augmentation.{n}.": f"augmentation.use_{n} True" for n in ("random_erasing", "mixup", "ricap", "cutmix")},
    "augmentation.label_smoothing.": "augmentation.use_label_smoothing True",
}
# What those keys can be here has one value; another is refused.
FIXED = {"augmentation.random_crop.fill", "augmentation.cutout.mask_color", "model.resnext.initial_channels"}


def context(key: str) -> str:
    if key.startswith("model.") and key.count(".") == 2:
        _, name, leaf = key.split(".")
        on = f"model.name {name}"
        if leaf == "n_blocks":
            return f"{on} model.type imagenet dataset.name ImageNet"
        return on if leaf in ("depth", "block_type") else f"{on} {smaller(name)}"
    near = [beginning for beginning in CONTEXTS if key.startswith(beginning)]
    return CONTEXTS[max(near, key=len)] if near else ""


def smaller(name: str) -> str:
    return "model.pyramidnet.depth 164" if name == "pyramidnet" else ""


def value_of(key: str) -> str:
    default = KEYS[key].default
    if key in VALUES:
        return VALUES[key]
    if isinstance(default, bool):
        return str(not default)
    if isinstance(default, str):
        other = [choice for choice in KEYS[key].choices if choice != default]
        return other[0] if other else "elsewhere"
    return str([2 * item for item in default] if isinstance(default, list) else 2 * default or 1)


@pytest.mark.parametrize("key", KEYS)
def test_every_key_sets_what_the_table_says_or_is_named(key: str) -> None:
    words, value = context(key), value_of(key)
    changing = f"{words} {key} {shlex.quote(value)}"
    assert seed2.read(key, value, "here") != plain_default(key)
    if key in FIXED or key == "train.resume":
        assert f"command line: {key}: expected " in refused(changing)
    elif key == "train.output_dir":
        assert translated(f"{key} {value}").outdir == Path(value)
    elif KEYS[key].sets:
        before, after = flat(words), flat(changing)
        changed = {k for k in before.keys() | after.keys() if before.get(k) != after.get(k)}
        assert changed
        assert all(any(is_within(one, ours) for ours in KEYS[key].sets) for one in changed), changed
        assert not re.search(rf"without effect here.*(: |, |; ){re.escape(key)}(,| \()", notes_of(changing))
    else:
        notes = notes_of(changing)
        assert key in notes
        assert KEYS[key].why in notes


def test_there_are_150_keys() -> None:
    assert len(KEYS) == 150
    assert not BLOCKS & KEYS.keys()
    assert all(key.sets or key.why or name == "train.output_dir" for name, key in KEYS.items())
    assert all(key.default in key.choices for key in KEYS.values() if key.choices)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            "--config configs/cifar/resnet_preac.yaml",
            "command line: --config: there is no file configs/cifar/resnet_preac.yaml; did you mean "
            "'configs/cifar/resnet_preact.yaml'",
        ),
        ("--conifg configs/cifar/resnet.yaml", "command line: --conifg: unknown option; did you mean '--config'?"),
        (f"{RESNET} train.bas_lr 0.1", "command line: train.bas_lr: unknown key; did you mean 'train.base_lr'"),
        (f"{RESNET} base_lr 0.1", "command line: base_lr: unknown key; did you mean 'train.base_lr'?"),
        (f"{RESNET} train.batch_size", "command line: train.batch_size: expected KEY VALUE pairs"),
        (f"{RESNET} train.batch_size 12.5", "train.batch_size: expected a whole number, got '12.5'"),
        (f"{RESNET} train.nesterov 1", "train.nesterov: expected true or false, got '1'"),
        (f"{RESNET} train.base_lr fast", "train.base_lr: expected a number, got 'fast'"),
        (f"{RESNET} train.base_lr -1", "command line: train.base_lr: expected a value above 0, got -1 (optim.lr here)"),
        (
            f"{PREACT} model.resnet_preact.preact_stage '[True, False, Fal'",
            "preact_stage: expected a list of true or false, got '[True, False, Fal': it breaks off at character 18",
        ),
        (
            f"{PREACT} scheduler.milestones '[80, true]'",
            "milestones: expected a list of whole numbers, got",
        ),
        (f"{PREACT} model.resnet_preact.depth 111", "model.resnet_preact.depth: layout 'cifar' with basic units has"),
        (f"{RESNET} model.name resnet_pre", "model.name: expected one of model.type cifar: vgg, resnet, resnet_preact"),
        (f"{RESNET} model.type imagenet model.name wrn", "model.name: expected one of model.type imagenet: vgg"),
        (f"{RESNET} dataset.name CIFAR-10", "dataset.name: expected 'CIFAR10' or 'CIFAR100' or"),
        (f"{RESNET} model 3", "model: expected a block of keys, got '3'; its keys: model.type, model.name"),
        (f"{RESNET} as_published maybe", "as_published: expected true or false, got 'maybe'"),
        (f"{RESNET} --local_rank x", "command line: --local_rank: expected a whole number, got 'x'"),
        (f"--resume experiments/exp00 {RESNET}", "--resume continues a run as it began: leave out --config"),
        (
            "--config configs/imagenet/resnet18.yaml model.resnet.n_blocks '[2, 2, 2, 3]'",
            "model.resnet.n_blocks: expected with basic units [2, 2, 2, 2] or [3, 4, 6, 3], got [2, 2, 2, 3]",
        ),
        (
            "--config configs/cifar/vgg.yaml model.vgg.n_channels '[64, 128, 256, 512, 1024]'",
            "n_channels: expected widths that double up to eight times the first, [64, 128, 256, 512, 512], got",
        ),
        (f"{RESNET} train.resume True", "train.resume: expected false; a run is continued with `python train.py --res"),
        (
            f"{RESNET} augmentation.use_cutout True augmentation.use_dual_cutout True",
            "compares views of the same image",
        ),
    ],
)
def test_mistakes_are_told_in_the_programs_words(words: str, said: str) -> None:
    assert said in refused(words)


def test_the_first_loss_is_taken_and_the_others_are_named() -> None:
    words = f"{PREACT} augmentation.use_ricap True augmentation.use_label_smoothing True augmentation.use_cutmix True"
    found = flat(words)
    assert (found["augment.ricap.beta"], found["augment.cutmix"], found["augment.label_smoothing"]) == (0.3, None, 0.0)
    assert "augmentation.use_cutmix, augmentation.use_label_smoothing ignored" in notes_of(words)


def test_what_sets_nothing_is_named_with_the_reason() -> None:
    words = f"{PREACT} model.vgg.use_bn False scheduler.T0 5 train.dataloader.pin_memory True test.batch_size 8"
    said = notes_of(words)
    assert "model.vgg.use_bn (model.name is resnet_preact)" in said
    assert "scheduler.T0 (scheduler.type is multistep)" in said
    assert "train.dataloader.pin_memory (batches are made on the device)" in said
    assert "test.batch_size (evaluate.py's; here it is `pictorch eval RUN_DIR`)" in said


def test_what_is_mapped_to_something_like_it_is_said() -> None:
    assert "train.precision O1: autocast in bfloat16" in notes_of(f"{PREACT} train.precision O1")
    assert "train.precision O3: weights in 16 bits" in notes_of(f"{PREACT} train.precision O3")
    assert "biases are not decayed either" in notes_of(f"{PREACT} train.no_weight_decay_on_bn True")


def test_amsgrad_is_adam_with_the_largest_moment() -> None:
    config = config_of(f"{PREACT} train.optimizer amsgrad train.base_lr 1e-3")
    model = torch.nn.Linear(2, 2)
    assert build.create_optimizer(config, model, 2).param_groups[0]["amsgrad"] is True


def test_milestones_count_from_the_warm_up_and_those_beyond_the_end_are_named() -> None:
    words = f"{PREACT} scheduler.epochs 100 scheduler.warmup.type linear scheduler.warmup.epochs 5"
    found = flat(words)
    assert found["schedule.milestones_epochs"] == [85]
    assert (found["schedule.warmup_epochs"], found["schedule.warmup_start_factor"]) == (5, 1e-3)
    assert "scheduler.milestones: 125 is never reached in 100 epochs" in notes_of(words)
    assert flat(f"{PREACT} scheduler.epochs 50")["schedule.name"] == "constant"


def test_files_as_that_program_wrote_them(tmp_path: Path) -> None:
    """Tuples of Python's, numbers and lists as texts, Apex's levels, both types of networks."""
    written = tmp_path / "config.yaml"
    written.write_text(
        "device: cuda\n"
        "model:\n  type: imagenet\n  name: resnet_preact\n"
        "  resnet_preact:\n    n_blocks: (3, 4, 6, 3)\n    block_type: bottleneck\n    initial_channels: 64\n"
        "    preact_stage: '[True, True, True, False]'\n"
        "optim:\n  adam:\n    betas: !!python/tuple\n    - 0.8\n    - 0.99\n"
        "train:\n  optimizer: adam\n  base_lr: 1e-3\n  weight_decay: '5e-4'\n  precision: O1\n  use_apex: true\n"
        "dataset:\n  name: ImageNet\n  image_size: 160\n"
        "scheduler: &schedule\n  epochs: 90\n  type: cosine\n"
    )
    found = flat(f"--config {written}")
    expected = {
        "model.layout": "imagenet",
        "model.depth": 50,
        "model.block_type": "bottleneck",
        "model.preact_stage": [True, True, True, False],
        "optim.betas": [0.8, 0.99],
        "optim.lr": 1e-3,
        "optim.weight_decay": 5e-4,
        "train.precision": "bf16",
        "data.image_size": 160,
        "schedule.name": "cosine",
    }
    assert expected.items() <= found.items()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("train: [1, 2", "config.yaml:1: this is not valid YAML"),
        ("train:\n  base_lr: fast\n", "config.yaml:2: train.base_lr: expected a number, got 'fast'"),
        ("train:\n  batch_size:\n    all: 3\n", "config.yaml:3: train.batch_size.all: unknown key"),
        ("extends: cifar10/resnet_110\n", "config.yaml:1: extends: unknown key; this is a key of pictorch's own"),
        ("3\n", "config.yaml:1: expected `key: value` lines"),
        ("a: !!python/object:os.system {}\n", "config.yaml:1: this is not valid YAML"),
    ],
)
def test_mistakes_in_a_file_have_their_place(
    text: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("config.yaml").write_text(text)
    assert said in refused("--config config.yaml")


def test_the_users_file_stands_before_the_programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert config_of(RESNET).train.epochs == 160
    own = tmp_path / "configs" / "cifar" / "resnet.yaml"
    own.parent.mkdir(parents=True)
    own.write_text("scheduler:\n  epochs: 7\n  type: cosine\n")
    assert config_of(RESNET).train.epochs == 7


def test_a_recipe_of_ours_does_not_hide_a_file_of_theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tmp_path / "configs" / "imagenet" / "resnet18.yaml"
    own.parent.mkdir(parents=True)
    own.write_text("extends: resnet_50\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(seed2.recipes, "directory", lambda: tmp_path / "configs")
    assert seed2.find("configs/imagenet/resnet18.yaml") == seed2.SHIPPED / "configs/imagenet/resnet18.yaml"


def test_switches() -> None:
    command = translated(f"{RESNET} --strict_row --dry_run")
    assert (command.strict_row, command.dry_run, command.document) == (True, True, "seed2")
    assert command.words == ("train.py", *shlex.split(RESNET), "--strict_row", "--dry_run")
    other = translated(f"{RESNET} --local-rank=1")
    assert other.dry_run
    assert "process 1 ends here: process 0 trains on the whole batch" in other.notes
    assert not translated(f"{RESNET} --local_rank 0").dry_run


@pytest.mark.parametrize("words", [f"{RESNET} --as_published", f"{RESNET} as_published True"])
def test_as_published_is_the_programs_network(words: str) -> None:
    assert "as_published=seed2" in translated(words).overrides
    assert parameters(config_of(words)) == 1_730_714
    assert parameters(config_of(RESNET)) == 1_727_962


def test_what_is_written_stays_as_published() -> None:
    words = "--config configs/cifar/shake_shake.yaml --as_published"
    assert config_of(words).schedule.model_dump()["final_factor"] == 0.0


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """A short run on the digits, which stands for one of the program's data sets."""
    path = tmp_path_factory.mktemp("runs") / "exp00"
    config = api.load_config(None, [*SMALL, "train.epochs=2"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["train.py", *shlex.split(PREACT), "train.base_lr", "0.2"])
        api.train(config, out=path)
    return RunDir(path)


def test_a_run_leaves_what_its_users_look_for(finished: RunDir) -> None:
    translated(f"{PREACT} train.base_lr 0.2 scheduler.milestones '[1]'").finish(finished)
    assert yaml.safe_load((finished.path / "config_min.yaml").read_text()) == {
        "train": {"base_lr": 0.2, "output_dir": "experiments/cifar10/resnet_preact/exp00"},
        "scheduler": {"milestones": [1]},
    }
    env = yaml.safe_load((finished.path / "env.yaml").read_text())
    assert env["env_info"]["pytorch_version"] == torch.__version__
    lines = (finished.path / "log.txt").read_text().splitlines()
    rows = runs.read_metrics(finished)
    assert len(lines) == 2
    assert f"test acc@1 {1 - rows[1]['test_error'] / 100:.4f}" in lines[1]
    assert (finished.path / "last_checkpoint").read_text() == "checkpoint_00002.pth"
    checkpoint = torch.load(finished.path / "checkpoint_00002.pth", weights_only=True)
    assert checkpoint["epoch"] == 2
    model = api.load_checked(finished.config).config
    network = build.create_model(model, data.find("digits"))
    network.load_state_dict(checkpoint["model"])


def test_what_a_run_leaves_is_its_command_again(finished: RunDir) -> None:
    words = f"{PREACT} train.base_lr 0.2 optim.adam.betas '(0.8, 0.9)' as_published True"
    translated(words).finish(finished)
    again = translated(f"--config {finished.path / 'config_min.yaml'}")
    assert (again.recipe, again.overrides) == (translated(words).recipe, translated(words).overrides)


def test_resume_continues_a_run_and_leaves_its_files(finished: RunDir, capsys: pytest.CaptureFixture[str]) -> None:
    (finished.path / "config_min.yaml").unlink(missing_ok=True)
    seed2.train(["train.py", "--resume", str(finished.path)])
    assert "test error" in capsys.readouterr().out
    assert yaml.safe_load((finished.path / "config_min.yaml").read_text())["train"]["base_lr"] == 0.2


def test_a_directory_of_that_program_is_not_gone_on_from(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("scheduler:\n  epochs: 160\n")
    with pytest.raises(UserError, match=r"that program's own configuration.*--config .*config.yaml` trains anew"):
        seed2.train(["train.py", "--resume", str(tmp_path)])


def test_help_lists_the_files(capsys: pytest.CaptureFixture[str]) -> None:
    seed2.train(["train.py", "--help"])
    said = capsys.readouterr().out
    assert "--as_published" in said
    assert all(f"  {name}\n" in said for name in seed2.shipped())
