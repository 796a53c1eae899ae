"""Seed document 3's two commands: `python train.py --model resnet50 --dataset cifar10`, and `test.py` with the same.

Its program trains every network by one recipe, keeps the best and the latest weights in checkpoints/DATASET, and tests
the best. What it writes for TensorBoard lies in runs/DATASET/MODEL, which is the run directory here.
"""

import argparse
import contextlib
import io
import os
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from pictorch import api, runs
from pictorch.cli.compat.command import Command
from pictorch.cli.paths import option_path
from pictorch.cli.text import say
from pictorch.config import Config, UserError, nearest, quirks
from pictorch.runs import RunDir

if TYPE_CHECKING:
    from torch import Tensor

    from pictorch.engine.evaluate import Evaluation

# The networks of the program's train.py, then those of its tables alone -> what makes the recipe's network each of them
NETWORKS: dict[str, tuple[str, ...]] = {
    "resnet18": ("model.name=resnet18",),
    "resnet34": ("model.name=resnet34",),
    "resnet50": (),
    "resnet101": ("model.name=resnet101",),
    "resnet152": ("model.name=resnet152",),
    **{f"resnext{depth}": (f"model.name=resnext{depth}_32x4d",) for depth in (50, 101, 152)},
    "mobilenetv1": ("model.name=mobilenet_v1_100",),
    "mobilenetv2": ("model.name=mobilenet_v2_100",),
    **{f"vgg{depth}": (f"model.name=vgg{depth}_bn", "model.head=fc4096") for depth in (11, 13, 16, 19)},
    **{f"vit_{size}": (f"model.name=vit_{size}",) for size in ("xs", "s", "base", "large", "huge")},
    **{f"densenet{depth}": (f"model.name=densenet{depth}",) for depth in (121, 169, 201, 264)},
    "googlenet": ("model.name=googlenet_bn",),
    "xception": ("model.name=xception",),
    "shufflenet": ("model.name=shufflenet_v1_g3",),
}
# data set -> its folder under the data root
FOLDERS = {"cifar10": "cifar-10-batches-py", "cifar100": "cifar-100-python"}
# flag -> our key
SETTINGS = {
    "num_epochs": "train.epochs",
    "batch_size": "train.batch_size",
    "lr": "optim.lr",
    "momentum": "optim.momentum",
    "weight_decay": "optim.weight_decay",
    "seed": "train.seed",
}
EPOCHS, WARMUP_EPOCHS, EPOCHS_OF_A_RATE = 200, 10, 60


class Parser(argparse.ArgumentParser):
    """The flags as argparse takes them for that program, shortened ones too; a mistake is a UserError."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{self.prog}: {message.removeprefix('argument ')}")

    def parse(self, words: Sequence[str]) -> argparse.Namespace:
        """Return the flags' values. Raises UserError naming the nearest flag for an unknown one."""
        given, unknown = self.parse_known_args(words)
        if unknown:
            flag = unknown[0].partition("=")[0]
            known = [name for name in self._option_string_actions if name.startswith("--")]
            what = "unknown flag" if flag.startswith("-") else "expected a flag and its value"
            self.error(f"{unknown[0] if what != 'unknown flag' else flag}: {what}{nearest(flag, known)}")
        return given


def whole(least: int) -> Callable[[str], int]:
    """Return what reads a flag that takes a whole number of at least `least`."""

    def read(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"expected a whole number of at least {least}, got {text!r}")
        return int(text)

    return read


def number(text: str) -> float:
    """Return a flag's number."""
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a number, got {text!r}") from None


def one_of(names: Iterable[str]) -> Callable[[str], str]:
    """Return what reads a flag that takes one of the names."""

    def read(text: str) -> str:
        if text not in names:
            raise argparse.ArgumentTypeError(f"seed document 3 has no {text!r}{nearest(text, names)}")
        return text

    return read


def parser_of(program: str, what: str, *, required: bool) -> Parser:
    """Return a parser of the flags that train.py and test.py share; the latter requires the first two."""
    parser = Parser(prog=program, description=what)
    names, sets = ", ".join(NETWORKS), " or ".join(FOLDERS)
    parser.add_argument("--model", type=one_of(NETWORKS), required=required, default="resnet50", help=names)
    parser.add_argument("--dataset", type=one_of(FOLDERS), required=required, default="cifar10", help=sets)
    parser.add_argument("--log_dir", default="runs", help="the run and its TensorBoard events: LOG_DIR/DATASET/MODEL")
    parser.add_argument(
        "--ckpt_dir", default="checkpoints", help="weights: CKPT_DIR/DATASET/MODEL_best.pth and MODEL_latest.pth"
    )
    return parser


def train_parser(program: str) -> Parser:
    """Return the parser of train.py."""
    parser = parser_of(program, "Train a network by seed document 3's recipe.", required=False)
    parser.add_argument("--num_epochs", type=whole(1), default=EPOCHS, help=f"default: {EPOCHS}")
    parser.add_argument("--batch_size", type=whole(1), default=128, help="default: 128")
    parser.add_argument("--lr", type=number, default=0.1, help="default: 0.1")
    parser.add_argument("--momentum", type=number, default=0.9, help="default: 0.9")
    parser.add_argument("--weight_decay", type=number, default=5e-4, help="default: 0.0005")
    ours = parser.add_argument_group("not of that program")
    ours.add_argument("--seed", type=whole(0), default=1, help="of weights, order and augmentation (default: 1)")
    ours.add_argument("--as_published", action="store_true", help="the network, and the rest, as that program had it")
    ours.add_argument("--strict_row", action="store_true", help="take the settings of the table row")
    ours.add_argument("--dry_run", action="store_true", help="print what the command means, and stop")
    return parser


def translate(words: Sequence[str]) -> Command:
    """Return what a train.py command means here; `words` are its words, the program first.

    Raises UserError for a wrong flag, and for a --ckpt_dir that cannot be written to.
    """
    parser = train_parser(words[0])
    flags = parser.parse(words[1:])
    if flags.ckpt_dir != parser.get_default("ckpt_dir"):
        check_writable(checkpoints_of(flags))
    given = [flag for flag in SETTINGS if getattr(flags, flag) != parser.get_default(flag)]
    settings = {SETTINGS[flag]: getattr(flags, flag) for flag in given} | rates(flags.num_epochs, flags.lr)
    return Command(
        document="seed3",
        words=tuple(words),
        recipe=recipe_of(flags),
        overrides=(
            *NETWORKS[flags.model],
            *(f"{key}={value}" for key, value in settings.items()),
            *(["as_published=seed3"] if flags.as_published else []),
            *data_override(flags.dataset),
        ),
        outdir=run_place(flags),
        notes=(f"that program draws anew in every run; here runs of the same --seed, now {flags.seed}, are the same",),
        finish=partial(leave_files, flags=flags),
        strict_row=flags.strict_row,
        dry_run=flags.dry_run,
    )


def recipe_of(flags: argparse.Namespace) -> str:
    """Return the recipe of the data set, which NETWORKS give another network."""
    return f"seed3/{flags.dataset}/resnet50"


def run_place(flags: argparse.Namespace) -> Path:
    """Return the directory of the command's first run."""
    return Path(option_path("--log_dir", flags.log_dir) or "", flags.dataset, flags.model)


def checkpoints_of(flags: argparse.Namespace) -> Path:
    """Return the directory of the weights of all networks on the data set."""
    return Path(option_path("--ckpt_dir", flags.ckpt_dir) or "", flags.dataset)


def best_of(flags: argparse.Namespace) -> Path:
    """Return the file of the network's best weights, which test.py tests."""
    return checkpoints_of(flags) / f"{flags.model}_best.pth"


def check_writable(directory: Path) -> None:
    """Raise UserError unless a directory is, or can be made, there; makes nothing."""
    there = next(path for path in (directory, *directory.parents) if path.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise UserError(f"--ckpt_dir: expected a place for {directory}, but {there} is no directory to write to")


def rates(epochs: int, lr: float) -> dict[str, object]:
    """Return the settings that give another number of epochs that program's rates, which do not stretch with it.

    10 epochs of warm-up, a tenth from epoch 70 on, and of that a tenth each 60 epochs; a short run ends on the way.
    """
    if epochs == EPOCHS:
        return {}
    settings: dict[str, object] = {"schedule.scale": "false"}
    if milestones := list(range(WARMUP_EPOCHS + EPOCHS_OF_A_RATE - 1, epochs, EPOCHS_OF_A_RATE)):
        settings["schedule.milestones_epochs"] = milestones
    else:
        settings["schedule.name"] = "constant"
    if epochs < WARMUP_EPOCHS:
        settings |= {"schedule.warmup_epochs": epochs, "optim.lr": lr * epochs / WARMUP_EPOCHS}
    return settings


def data_override(dataset: str) -> list[str]:
    """Return what takes the data in ./data, where that program has them, unless PICTORCH_DATA names another place."""
    here = "PICTORCH_DATA" not in os.environ and Path("data", FOLDERS[dataset]).is_dir()
    return ["data.dir=data"] if here else []


def leave_files(run: RunDir, *, flags: argparse.Namespace) -> None:
    """Write a finished run's weights and its curves for TensorBoard where that program's users look for them.

    Raises RunError where they cannot be written.
    """
    from pictorch.engine import checkpoint
    from pictorch.models import weights

    best, latest = best_of(flags), checkpoints_of(flags) / f"{flags.model}_latest.pth"
    with runs.explained(best.parent):
        best.parent.mkdir(parents=True, exist_ok=True)
    runs.write(best, torch_file(weights.load(run.weights)[0].state_dict()))
    runs.write(latest, torch_file(checkpoint.load(run.last_checkpoint)["model"]))
    write_curves(run)
    say(
        f"{best}: the weights of {run.path} with the best validation\n"
        f"{latest}: its weights at the end\n"
        f"Test it: {command_line('test.py', flags)}"
    )


def torch_file(state: Mapping[str, "Tensor"]) -> bytes:
    """Return a file of tensors by name, as that program's torch.save(model.state_dict(), path) makes it."""
    import torch

    buffer = io.BytesIO()
    torch.save({name: tensor.contiguous() for name, tensor in state.items()}, buffer)
    return buffer.getvalue()


def write_curves(run: RunDir) -> None:
    """Write that program's four curves into the run directory: losses, and accuracies from 0 to 1, at every epoch."""
    try:
        from tensorboardX import FileWriter
        from tensorboardX.proto.summary_pb2 import Summary
    except ImportError:
        say("note: no curves for TensorBoard: tensorboardX is missing; `python -m pip install 'pictorch[tb]'`")
        return
    # Not a SummaryWriter, which would make training_loss of "training loss".
    writer = FileWriter(str(run.path))
    for row in runs.read_metrics(run):
        for part, name in (("train", "training"), ("val", "validation")):
            if f"{part}_loss" in row:
                points = {"loss": row[f"{part}_loss"], "accuracy": 1 - row[f"{part}_error"] / 100}
                values = [Summary.Value(tag=f"{name} {what}", simple_value=point) for what, point in points.items()]
                writer.add_summary(Summary(value=values), row["epoch"])
    writer.close()


def evaluate(words: Sequence[str]) -> None:
    """Test the best weights that a train.py command left, and print the accuracies: what test.py does.

    `words` are the command's, the program first. Raises UserError when there are no such weights, or they are not of
    this network.
    """
    from pictorch.models.transfer import read_state

    parser = parser_of(words[0], "Test the best weights that train.py left.", required=True)
    parser.add_argument("--as_published", action="store_true", help="test in training mode, as that program does")
    flags = parser.parse(words[1:])
    path, trained = best_of(flags), runs.collect([run_place(flags)])
    if not path.is_file():
        leave_late(path, flags, trained)
    state = read_state(path)
    run = origin(state, trained)
    settings = [*data_override(flags.dataset), "evaluation.max_images=null"]
    if flags.as_published:
        settings += quirks.find("test_in_training_mode")[0].switches[0].split()
    config = api.load_config(run.config, settings) if run else fitting(path, state, flags, settings)
    how = "in evaluation mode" if config.evaluation.test_mode == "eval" else "in training mode, as that program tests"
    say(f"{path}: {told(run) if run else f'weights of no run in {run_place(flags)}'}; tested {how}")
    answers = answers_of(state, config)
    say(
        f"{answers.images:,} test images of {answers.dataset}\n"
        f"Top-1 Accuracy: {answers.top(1) / 100:.4f}, Top-5 Accuracy: {answers.top(5) / 100:.4f}"
    )


def leave_late(path: Path, flags: argparse.Namespace, trained: Sequence[RunDir]) -> None:
    """Write the files of a run that `pictorch train --resume` finished after train.py was stopped.

    Raises UserError where there is none, with the command that makes them and what there is.
    """
    if finished := [run for run in trained if run.result.exists()]:
        whole_last = sorted(finished, key=lambda run: bool(runs.read_result(run)["complete"]))
        leave_files(whole_last[-1], flags=flags)
        return
    how = f"`{command_line('train.py', flags)}` makes them"
    if trained:
        how = f"the run in {trained[-1].path} is not finished: continue it with `{trained[-1].resume_command()}`"
    there = ", ".join(str(file) for file in sorted(path.parent.parent.glob("*/*_best.pth")))
    raise UserError(f"{path}: there are no such weights: {how}" + (f"; there are {there}" if there else ""))


def origin(state: Mapping[str, "Tensor"], trained: Sequence[RunDir]) -> RunDir | None:
    """Return the last of the runs whose selected weights are these, to the bit, or None."""
    from pictorch.models import weights

    checksum = weights.checksum({name: tensor.contiguous() for name, tensor in state.items()})
    for run in reversed(trained):
        with contextlib.suppress(UserError):  # without weights so far, or with damaged ones: not these
            if weights.load(run.weights)[1]["sha256"] == checksum:
                return run
    return None


def fitting(path: Path, state: dict[str, "Tensor"], flags: argparse.Namespace, settings: Sequence[str]) -> Config:
    """Return the configuration that weights alone fit: the network as the paper has it, else as that program had it.

    Raises UserError for the weights of another network, or of another program.
    """
    import torch

    from pictorch import data
    from pictorch.engine.build import create_model
    from pictorch.engine.checkpoint import misfit

    reasons = []
    for published in ([], ["as_published=seed3"]):
        config = api.load_config(recipe_of(flags), [*NETWORKS[flags.model], *published, *settings])
        with torch.device("meta"):
            model = create_model(config, data.find(flags.dataset))
        reason = misfit(state, dict(model.state_dict()), "weights")
        if not reason:
            return config
        reasons.append(reason)
    raise UserError(
        f"{path}: these are not weights of {flags.model} on {flags.dataset} that pictorch trained: {reasons[0]}; "
        "what the document's own program saved has other names and is not read"
    )


def answers_of(state: Mapping[str, "Tensor"], config: Config) -> "Evaluation":
    """Return the answers of weights on the test images, as at the end of a run of this configuration."""
    from pictorch.engine.build import build
    from pictorch.engine.interrupt import Stop
    from pictorch.engine.loop import evaluate_part

    job = build(api.capped(config))
    job.model.load_state_dict(state)
    with job.process_settings():
        return evaluate_part(job, "test", Stop())


def told(run: RunDir) -> str:
    """Return where a run's weights come from."""
    row = runs.read_result(run)
    but = "" if row["complete"] else "; the run is incomplete, and its accuracy no result"
    return f"the weights of {run.path}, epoch {row['best_epoch']} of {row['epochs']}, seed {row['seed']}{but}"


def command_line(program: str, flags: argparse.Namespace) -> str:
    """Return the command for this network, data set and places."""
    words = ["--model", flags.model, "--dataset", flags.dataset]
    words += ["--log_dir", flags.log_dir] if flags.log_dir != "runs" else []
    words += ["--ckpt_dir", flags.ckpt_dir] if flags.ckpt_dir != "checkpoints" else []
    return f"python {program} {shlex.join(words)}"
