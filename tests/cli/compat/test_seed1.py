"""Seed document 1's flags: what each means, what is refused, and the files that its users find in OUTDIR."""

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch

from pictorch import api, models, runs
from pictorch.cli.compat import seed1, seed1_files
from pictorch.cli.compat.command import Command
from pictorch.cli.compat.seed1_flags import ARCHITECTURES, DEFAULTS, FLAGS, OURS
from pictorch.config import Config, UserError, load, to_dict
from pictorch.config.schema import flatten
from pictorch.runs import RunDir


def translate(line: str) -> Command:
    return seed1.translate(("main.py", *shlex.split(line)))


def config_of(line: str) -> Config:
    command = translate(f"{line} --outdir results")
    return load(command.recipe, command.overrides).config


def keys_of(line: str) -> dict[str, Any]:
    return flatten(to_dict(config_of(line)))


def test_the_55_flags_of_the_document_s_commit_are_there() -> None:
    assert sum(not flag.later for flag in FLAGS.values()) == 55


# Each flag, a command that has it, and the keys that it then sets.
MEANINGS: dict[str, tuple[str, dict[str, Any]]] = {
    "arch": ("--arch densenet", {"model.name": "densenet_bc_100_12"}),
    "config": ("--config configs/wrn.json", {"model.name": "wrn_28_10", "train.batch_size": 128}),
    "n_channels": ("--arch vgg --n_channels '[32, 64, 128, 256, 256]'", {"model.base_channels": 32}),
    "n_layers": ("--arch vgg --n_layers '[1, 1, 2, 2, 2]'", {"model.layers": [1, 1, 2, 2, 2]}),
    "use_bn": ("--arch vgg --use_bn False", {"model.batch_norm": False}),
    "base_channels": ("--arch resnet --base_channels 32", {"model.base_channels": 32}),
    "block_type": ("--arch resnet --block_type bottleneck", {"model.block_type": "bottleneck"}),
    "depth": ("--arch resnet --depth 20", {"model.depth": 20}),
    "remove_first_relu": ("--arch resnet_preact --remove_first_relu TRUE", {"model.remove_first_relu": True}),
    "add_last_bn": ("--arch resnet_preact --add_last_bn true", {"model.add_last_bn": True}),
    "preact_stage": (
        "--arch resnet_preact --preact_stage '[true, false, false]'",
        {"model.preact_stage": [True, False, False]},
    ),
    "widening_factor": ("--arch wrn --widening_factor 4", {"model.widening_factor": 4}),
    "growth_rate": ("--arch densenet --growth_rate 24", {"model.growth_rate": 24}),
    "compression_rate": ("--arch densenet --compression_rate 0.7", {"model.compression_rate": 0.7}),
    "drop_rate": ("--arch wrn --drop_rate 0.3", {"model.drop_rate": 0.3}),
    "pyramid_alpha": ("--arch pyramidnet --pyramid_alpha 48", {"model.alpha": 48}),
    "cardinality": ("--arch resnext --cardinality 2", {"model.cardinality": 2}),
    "shake_forward": ("--arch shake_shake --shake_forward false", {"model.shake_forward": False}),
    "shake_backward": ("--arch shake_shake --shake_backward false", {"model.shake_backward": False}),
    "shake_image": ("--arch shake_shake --shake_image false", {"model.shake_image": False}),
    "se_reduction": ("--arch se_resnet_preact --se_reduction 8", {"model.se_reduction": 8}),
    "seed": ("--arch resnet --seed 5", {"train.seed": 5}),
    "gpu": ("--arch resnet --gpu -1", {"train.device": "cpu"}),
    "device": ("--arch resnet --device cpu", {"train.device": "cpu"}),
    "fp16": ("--arch resnet --fp16", {"train.precision": "half"}),
    "use_amp": ("--arch resnet --use_amp", {"train.precision": "bf16"}),
    "no-tensorboard": ("--arch resnet --no-tensorboard", {"track.tensorboard": False}),
    "epochs": ("--arch resnet --epochs 300", {"train.epochs": 300, "schedule.milestones_epochs": [80, 120]}),
    "batch_size": ("--arch resnet --batch_size 32", {"train.batch_size": 32, "optim.lr": 0.1}),
    "ghost_batch_size": ("--arch resnet --ghost_batch_size 32", {"train.ghost_batches": 4}),
    "optimizer": ("--arch resnet --optimizer adam", {"optim.name": "adam", "schedule.name": "constant"}),
    "base_lr": ("--arch resnet --base_lr 0.025", {"optim.lr": 0.025}),
    "weight_decay": ("--arch resnet --weight_decay 5e-4", {"optim.weight_decay": 5e-4}),
    "no_weight_decay_on_bn": ("--arch resnet --no_weight_decay_on_bn", {"optim.decay_norm_and_bias": False}),
    "gradient_clip": ("--arch resnet --gradient_clip 2", {"optim.clip_norm": 2.0}),
    "momentum": ("--arch resnet --momentum 0.8", {"optim.momentum": 0.8}),
    "nesterov": ("--arch resnet --nesterov false", {"optim.nesterov": False}),
    "scheduler": ("--arch wrn --scheduler cosine", {"schedule.name": "cosine", "schedule.final_factor": 0.0}),
    "milestones": ("--arch resnet --milestones '[10, 20]'", {"schedule.milestones_epochs": [10, 20]}),
    "lr_decay": ("--arch resnet --lr_decay 0.2", {"schedule.gamma": 0.2}),
    "lr_min": ("--arch wrn --scheduler cosine --lr_min 0.01", {"schedule.final_factor": pytest.approx(0.1)}),
    "T0": (
        "--arch wrn --scheduler sgdr --T0 10",
        {"schedule.name": "sgdr", "schedule.first_cycle_epochs": 10, "schedule.per": "epoch"},
    ),
    "Tmult": ("--arch wrn --scheduler sgdr --T0 10 --Tmult 2", {"schedule.cycle_factor": 2}),
    "betas": ("--arch resnet --optimizer adam --betas '[0.8, 0.99]'", {"optim.betas": [0.8, 0.99]}),
    "lars_eps": ("--arch resnet --optimizer lars --lars_eps 1e-8", {"optim.eps": 1e-8, "optim.threshold": 0.01}),
    "lars_thresh": ("--arch resnet --optimizer lars --lars_thresh 0.1", {"optim.threshold": 0.1}),
    "dataset": ("--arch resnet --dataset MNIST", {"data.name": "mnist", "augment.crop": None, "augment.flip": False}),
    "num_workers": ("--arch resnet --num_workers 2", {"data.workers": 2}),
    "use_random_crop": ("--arch resnet --use_random_crop false", {"augment.crop": None}),
    "random_crop_padding": ("--arch resnet --random_crop_padding 2", {"augment.crop.padding": 2}),
    "use_horizontal_flip": ("--arch resnet --use_horizontal_flip false", {"augment.flip": False}),
    "use_cutout": ("--arch resnet --use_cutout", {"augment.cutout.size": 16, "augment.cutout.prob": 1.0}),
    "cutout_size": ("--arch resnet --use_cutout --cutout_size 8", {"augment.cutout.size": 8}),
    "cutout_prob": ("--arch resnet --use_cutout --cutout_prob 0.5", {"augment.cutout.prob": 0.5}),
    "cutout_inside": ("--arch resnet --use_cutout --cutout_inside", {"augment.cutout.inside": True}),
    "use_dual_cutout": ("--arch resnet --use_dual_cutout --cutout_size 8", {"augment.dual_cutout.size": 8}),
    "dual_cutout_alpha": ("--arch resnet --use_dual_cutout --dual_cutout_alpha 1", {"augment.dual_cutout.alpha": 1}),
    "use_random_erasing": (
        "--arch resnet --use_random_erasing",
        {"augment.random_erasing.prob": 0.5, "augment.random_erasing.aspect": "uniform"},
    ),
    "random_erasing_prob": (
        "--arch resnet --use_random_erasing --random_erasing_prob 1",
        {"augment.random_erasing.prob": 1.0},
    ),
    "random_erasing_area_ratio_range": (
        "--arch resnet --use_random_erasing --random_erasing_area_ratio_range '[0.1, 0.2]'",
        {"augment.random_erasing.area": [0.1, 0.2]},
    ),
    "random_erasing_min_aspect_ratio": (
        "--arch resnet --use_random_erasing --random_erasing_min_aspect_ratio 0.5",
        {"augment.random_erasing.min_aspect": 0.5},
    ),
    "random_erasing_max_attempt": (
        "--arch resnet --use_random_erasing --random_erasing_max_attempt 5",
        {"augment.random_erasing.max_attempt": 5},
    ),
    "use_mixup": ("--arch resnet --use_mixup", {"augment.mixup.alpha": 1.0}),
    "mixup_alpha": ("--arch resnet --use_mixup --mixup_alpha 0.2", {"augment.mixup.alpha": 0.2}),
    "use_ricap": ("--arch resnet --use_ricap", {"augment.ricap.beta": 0.3}),
    "ricap_beta": ("--arch resnet --use_ricap --ricap_beta 1", {"augment.ricap.beta": 1.0}),
    "use_label_smoothing": ("--arch resnet --use_label_smoothing", {"augment.label_smoothing": 0.1}),
    "label_smoothing_epsilon": (
        "--arch resnet --use_label_smoothing --label_smoothing_epsilon 0.2",
        {"augment.label_smoothing": 0.2},
    ),
}
NO_KEY = {"outdir", "test_first", "tensorboard", *OURS, *(name for name in FLAGS if name.startswith("tensorboard_"))}


def test_every_flag_has_a_meaning() -> None:
    assert MEANINGS.keys() | NO_KEY == FLAGS.keys()


@pytest.mark.parametrize("flag", MEANINGS)
def test_a_flag_sets_its_keys(flag: str) -> None:
    line, expected = MEANINGS[flag]
    keys = keys_of(line)
    assert {key: keys.get(key) for key in expected} == expected


@pytest.mark.parametrize("flag", MEANINGS)
def test_the_canonical_line_has_all_that_the_flags_decide(flag: str) -> None:
    line, _ = MEANINGS[flag]
    values, _ = seed1.settle(seed1.parse([*shlex.split(line), "--outdir", "results"]))
    list(seed1.drop_ineffective(values, {}))
    keys = keys_of(line)
    assert {key: keys.get(key) for key in seed1.decide(values)} == seed1.decide(values)


@pytest.mark.parametrize("flag", MEANINGS)
def test_a_run_s_config_json_repeats_it(flag: str) -> None:
    line, _ = MEANINGS[flag]
    values, _ = seed1.settle(seed1.parse([*shlex.split(line), "--outdir", "results"]))
    described = seed1_files.describe(config_of(line), values, {"torch": "2", "cuda": None, "gpu": None})
    Path("config.json").write_text(json.dumps(described))
    assert config_of("--config config.json") == config_of(line)


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_each_architecture_is_the_paper_s_with_its_file_s_settings(arch: str) -> None:
    config = config_of(f"--arch {arch}")
    spec = models.resolve(config.model.name, config.model.options)
    wanted = seed1.full(arch, seed1.network({**DEFAULTS[arch], "arch": arch}))
    assert (spec.family, seed1.full(arch, spec.options)) == (arch, wanted)
    assert "as_published" not in config.model.options
    file = DEFAULTS[arch]
    assert (config.train.epochs, config.train.batch_size) == (file["epochs"], file["batch_size"])
    assert (config.optim.lr, config.optim.weight_decay) == (file["base_lr"], file["weight_decay"])


@pytest.mark.parametrize("dataset", ["CIFAR10", "CIFAR100", "MNIST", "FashionMNIST", "KMNIST"])
def test_data_sets(dataset: str) -> None:
    config = config_of(f"--arch resnet_preact --depth 20 --dataset {dataset}")
    assert config.data.name == {"FashionMNIST": "fashion_mnist"}.get(dataset, dataset.lower())
    assert (config.augment.crop is not None, config.augment.flip) == (dataset != "MNIST", dataset[0] in "CF")


def test_flags_may_be_shortened_and_joined() -> None:
    short, full = translate("--arch=resnet --de 56 --out=a --use_cut"), translate("--arch resnet --outdir a --depth 56")
    assert (short.recipe, short.outdir) == (full.recipe, full.outdir)
    assert set(short.overrides) == {*full.overrides, "augment.cutout.size=16"}
    # One flag of the document's commit, three of the later versions
    assert config_of("--arch resnet --use_ran").augment.random_erasing


@pytest.mark.parametrize("text", ["true", "True", "TRUE"])
def test_truth_in_any_case(text: str) -> None:
    assert config_of(f"--arch resnet_preact --add_last_bn {text}").model.options["add_last_bn"] is True


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "--arch is missing; expected one of densenet, pyramidnet, .*, wrn"),
        ("--arch resnet", "--outdir is missing: .*--outdir results"),
        ("--arch resent --outdir a", "--arch: expected one of densenet.*got 'resent'; did you mean 'resnet'"),
        ("--arch resnet --outdir a --deph 56", "--deph: unknown flag; did you mean '--depth'"),
        ("--arch resnet --outdir a --cutout", "--cutout could be --cutout_size or --cutout_prob or --cutout_inside"),
        ("--arch resnet --outdir a 56", "'56': expected a flag, such as --arch resnet"),
        ("--arch resnet --outdir", "--outdir: a value is missing"),
        ("--arch resnet --outdir --depth 56", "--outdir: a value is missing"),
        ("--arch resnet --outdir a --use_cutout=yes", "--use_cutout takes no value, got 'yes'"),
        ("--arch resnet --outdir a --depth 5.5", "--depth: expected a whole number, got '5.5'"),
        ("--arch resnet --outdir a --base_lr high", "--base_lr: expected a number, got 'high'"),
        ("--arch resnet --outdir a --nesterov yes", "--nesterov: expected true or false, got 'yes'"),
        ("--arch resnet --outdir a --scheduler step", "--scheduler: expected one of none, .* 'multistep'"),
        (
            "--arch resnet --outdir a --milestones '[80 120]'",
            r"--milestones: this is not a JSON list: Expecting ',' delimiter at character 5 of '\[80 120\]'",
        ),
        ("--arch resnet --outdir a --milestones 80", r"--milestones: expected a JSON list, such as '\[80, 120\]'"),
        (
            "--arch resnet --outdir a --use_mixup --use_ricap",
            "only one of --use_mixup, --use_ricap and --use_dual_cutout can be given, got --use_mixup and --use_ricap",
        ),
        ("--arch resnet --outdir a --use_cutout --use_dual_cutout", "only one of --use_cutout and --use_dual_cutout"),
        ("--arch resnet --outdir a --scheduler sgdr", "--T0 is missing: .*--T0 10"),
        ("--arch resnet --outdir a --ghost_batch_size 48", "--ghost_batch_size: expected a divisor of 128, got 48"),
        ("--arch vgg --outdir a --n_channels '[64, 100]'", "--n_channels: expected a width for each of the 5 stages"),
        ("--arch vgg --outdir a --n_layers '[2, 2]'", "--n_channels: expected a width for each of the 2 stages"),
        ("--arch resnet --outdir a --milestones '[\"80\"]'", r"--milestones: expected a JSON list, .*\[\"80\"\]"),
        ("--config no.json --outdir a", "no.json: cannot read this file: No such file or directory"),
    ],
)
def test_mistakes_are_told(line: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        translate(line)


@pytest.mark.parametrize(
    ("line", "note"),
    [
        ("--arch resnet --pyramid_alpha 84", "ignored: --pyramid_alpha belongs to pyramidnet, and --arch is resnet"),
        ("--arch resnet --drop_rate 0", "ignored: --drop_rate belongs to wrn, densenet, and --arch is resnet"),
        ("--arch resnet --cutout_size 8", "ignored: --cutout_size needs --use_cutout"),
        (
            "--arch wrn --scheduler cosine --milestones '[9]'",
            "ignored: --milestones belongs to --scheduler multistep, and --scheduler is cosine",
        ),
        (
            "--arch resnet --optimizer adam --scheduler cosine",
            "ignored: --scheduler: that program trains with --optimizer adam at a constant rate",
        ),
        (
            "--arch resnet --use_cutout --use_random_erasing",
            "ignored: --use_cutout: --use_random_erasing comes first in that program",
        ),
        (
            "--arch resnet --use_mixup --use_label_smoothing",
            "ignored: --use_label_smoothing: that program's loss of --use_mixup has none",
        ),
        ("--arch resnet --gpu 0,1", "--gpu 0,1: one device is used"),
        ("--arch resnet --epochs 100", "milestones [120] are not reached in 100 epochs"),
        (
            "--arch resnet --tensorboard_train_images",
            "--tensorboard_train_images: no meaning here: TensorBoard gets numbers alone",
        ),
    ],
)
def test_what_has_no_effect_is_said(line: str, note: str) -> None:
    assert note in translate(f"{line} --outdir a").notes


def test_milestones_beyond_the_end_are_never_reached() -> None:
    assert keys_of("--arch resnet --epochs 100")["schedule.milestones_epochs"] == [80]
    assert keys_of("--arch resnet --epochs 40")["schedule.name"] == "constant"


def test_as_published_is_the_preset_of_the_document() -> None:
    command = translate("--arch resnet --outdir a --as_published")
    assert command.overrides[-1] == "as_published=seed1"


def test_a_file_of_that_program_is_beaten_by_the_flags() -> None:
    sections = {
        "model_config": {"arch": "wrn", "depth": 16, "widening_factor": 4, "input_shape": [1, 3, 32, 32]},
        "optim_config": {"epochs": 10, "base_lr": 0.2, "milestones": [5, 8]},
        "data_config": {"use_cutout": True, "n_classes": 10, "use_gpu": True},
        "env_info": {"pytorch_version": "0.3.1"},
    }
    Path("mine.json").write_text(json.dumps(sections))
    command = translate("--config mine.json --outdir a --base_lr 0.05")
    config = load(command.recipe, command.overrides).config
    assert config.model.options == {"depth": 16, "widening_factor": 4}
    assert (config.optim.lr, config.train.epochs, config.optim.weight_decay) == (0.05, 10, 5e-4)
    assert config.augment.cutout
    assert command.notes == ("mine.json: use_cutout=true: taken, which that program did not do",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"model_config": {"arch": "wrn",}}', "mine.json:1: this is not valid JSON"),
        ("[1]", "mine.json: expected sections of settings, such as model_config and optim_config"),
        ('{"optim_config": {"epoch": 3}}', "mine.json: epoch: unknown setting; did you mean 'epochs'"),
        ('{"optim_config": {"epochs": 1.5}}', "mine.json: epochs: expected a whole number, got '1.5'"),
    ],
)
def test_a_file_that_is_not_one_of_that_program(text: str, message: str) -> None:
    Path("mine.json").write_text(text)
    with pytest.raises(UserError, match=message):
        translate("--config mine.json --arch wrn --outdir a")


def test_help_lists_every_flag(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        translate("--arch resnet --help")
    assert ended.value.code == 0
    printed = capsys.readouterr().out
    assert all(f"  {flag.written}" in printed for flag in FLAGS.values())


def test_the_files_that_users_expect(known_run: RunDir) -> None:
    translate("--arch resnet_preact --depth 20 --outdir a --use_mixup").finish(known_run)
    rows = runs.read_metrics(known_run)

    described = json.loads((known_run.path / "config.json").read_text())
    assert list(described) == ["model_config", "optim_config", "data_config", "run_config", "env_info"]
    assert described["model_config"]["depth"] == 20
    assert described["data_config"]["mixup_alpha"] == 1.0
    assert "cutout_size" not in described["data_config"]
    assert described["optim_config"]["epochs"] == len(rows)

    scalars = json.loads((known_run.path / "all_scalars.json").read_text())
    assert [point[1] for point in scalars["Test/Accuracy"]] == [0, 1, 2, 3]
    assert 0 < scalars["Test/Accuracy"][0][2] < 0.3  # untrained
    assert [point[2] for point in scalars["Train/Loss"]] == [row["train_loss"] for row in rows]
    assert [point[1:] for point in scalars["Train/LearningRate"]] == [[row["step"], row["lr"]] for row in rows]

    state = torch.load(known_run.path / "model_state.pth", weights_only=True)
    assert list(state) == ["config", "state_dict", "optimizer", "epoch", "accuracy", "best_accuracy", "best_epoch"]
    config = api.load_config(known_run.config)
    model = models.create(config.model.name, in_channels=1, image_size=8, **config.model.options)
    model.load_state_dict(state["state_dict"])
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    optimizer.load_state_dict(state["optimizer"])
    assert optimizer.param_groups[0]["momentum"] == 0.9
    assert state["epoch"] == 3
    assert state["accuracy"] == pytest.approx(1 - rows[-1]["test_error"] / 100)
    assert state["best_accuracy"] == pytest.approx(1 - min(row["test_error"] for row in rows) / 100)
    assert not (known_run.path / "model_best_state.pth").exists()
    assert json.dumps(state["config"])
