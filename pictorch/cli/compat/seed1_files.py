"""The files that seed document 1's users look for in OUTDIR, made from a finished run: its numbers in their places.

config.json, all_scalars.json (as TensorBoardX exports scalars), model_state.pth, and model_best_state.pth where the run
keeps its best validation epoch. Parameters have our networks' names. There is no Test/Time: it is not measured alone.
"""

import datetime
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from pictorch import api, runs
from pictorch.cli.compat.seed1_flags import FLAGS
from pictorch.cli.text import say
from pictorch.config import Config
from pictorch.config.schema import Multistep
from pictorch.engine import checkpoint
from pictorch.engine.build import build, create_optimizer
from pictorch.engine.interrupt import Stop
from pictorch.engine.loop import evaluate_part
from pictorch.models import weights
from pictorch.runs import RunDir

# Their tag -> our column; what is a share there is an error in per cent here.
EPOCH_TAGS = {
    "Train/Loss": "train_loss",
    "Train/Accuracy": "train_error",
    "Train/Time": "seconds",
    "Test/Loss": "test_loss",
    "Test/Accuracy": "test_error",
}
STEP_TAGS = {"Train/LearningRate": "lr", "Train/RunningLoss": "train_loss", "Train/RunningAccuracy": "train_error"}


def write(run: RunDir, *, values: Mapping[str, Any]) -> None:
    """Write the files; `values` are those of the flags."""
    config = api.load_config(run.config)
    env = runs.read_json(run.env)
    described = describe(config, {**values, "outdir": str(run.path)}, env)
    rows = runs.read_metrics(run)
    runs.write_json(run.path / "config.json", described)
    runs.write(run.path / "model_state.pth", state(run.last_checkpoint, run, config, described, rows))
    best = "no model_best_state.pth: the test set chooses no weights here"
    if run.best_checkpoint.exists():
        runs.write(run.path / "model_best_state.pth", state(run.best_checkpoint, run, config, described, rows))
        best = "model_best_state.pth"
    if values["tensorboard"]:
        before = untrained_error(config) if values["test_first"] else None
        runs.write_json(run.path / "all_scalars.json", scalars(rows, env, before))
    say(f"\nThere are also config.json, model_state.pth{', all_scalars.json' * values['tensorboard']}; {best}.")


def describe(config: Config, values: Mapping[str, Any], env: Mapping[str, Any]) -> dict[str, Any]:
    """Return config.json: the flags' values in that program's sections, with what the run had where that is another."""
    written = [flag for flag in FLAGS.values() if values[flag.name] is not None and flag.acts(values)]
    sections: dict[str, dict[str, Any]] = {
        name: {flag.name: values[flag.name] for flag in written if flag.section == name}
        for name in ("model_config", "optim_config", "data_config", "run_config")
    }
    grey = "MNIST" in values["dataset"]
    classes = 100 if values["dataset"] == "CIFAR100" else 10
    train: dict[str, Any] = {"epochs": config.train.epochs, "batch_size": config.train.batch_size}
    if isinstance(config.schedule, Multistep):
        train["milestones"] = [int(epoch) for epoch in config.schedule.milestones_epochs]
    on_gpu = env["gpu"] is not None
    sections["model_config"] |= {"input_shape": [1, 1, 28, 28] if grey else [1, 3, 32, 32], "n_classes": classes}
    sections["optim_config"] |= train | {"base_lr": config.optim.lr}
    sections["data_config"] |= {"n_classes": classes, "batch_size": config.train.batch_size, "use_gpu": on_gpu}
    sections["run_config"] |= {"use_gpu": on_gpu}
    info = {"pytorch_version": env["torch"], "cuda_version": env["cuda"]} | ({"gpu0": env["gpu"]} if on_gpu else {})
    return {**sections, "env_info": info}


def scalars(
    rows: list[dict[str, Any]], env: Mapping[str, Any], untrained: float | None
) -> dict[str, list[list[float]]]:
    """Return {tag: [[time, epoch or step, value] ...]}; times are the start and the seconds of training since then."""
    clock = datetime.datetime.fromisoformat(env["started"]).timestamp()
    curves: dict[str, list[list[float]]] = {tag: [] for tag in (*STEP_TAGS, *EPOCH_TAGS)}
    if untrained is not None:
        curves["Test/Accuracy"].append([clock, 0, 1 - untrained / 100])
    for row in rows:
        clock += row["seconds"]
        for tags, at in ((STEP_TAGS, row["step"]), (EPOCH_TAGS, row["epoch"])):
            for tag, column in tags.items():
                if column in row:
                    value = 1 - row[column] / 100 if column.endswith("_error") else row[column]
                    curves[tag].append([clock, at, value])
    return curves


def untrained_error(config: Config) -> float:
    """Return the test error of the network that the seed draws, per cent: epoch 0 of --test_first."""
    job = build(config)
    with job.process_settings():
        return evaluate_part(job, "test", Stop()).error


def state(path: Path, run: RunDir, config: Config, described: dict[str, Any], rows: list[dict[str, Any]]) -> bytes:
    """Return a checkpoint of ours as that program's: torch.load(weights_only=True) reads it.

    On a GPU its names begin with `module.`, as there. The best accuracy is that of the test set, as there; here it
    chooses nothing.
    """
    saved = checkpoint.load(path)
    model, metadata = weights.load(run.weights)
    groups = create_optimizer(config, model, len(metadata["classes"])).state_dict()["param_groups"]
    accuracies = {row["epoch"]: 1 - row["test_error"] / 100 for row in rows if "test_error" in row}
    best = max(accuracies, key=lambda epoch: (accuracies[epoch], -epoch), default=0)
    prefix = "module." if described["run_config"]["use_gpu"] else ""
    buffer = io.BytesIO()
    content = {
        "config": described,
        "state_dict": {f"{prefix}{name}": tensor for name, tensor in saved["model"].items()},
        "optimizer": {"state": saved["optimizer"], "param_groups": groups},
        "epoch": saved["epoch"],
        "accuracy": accuracies.get(saved["epoch"], 0.0),
        "best_accuracy": accuracies.get(best, 0.0),
        "best_epoch": best,
    }
    torch.save(content, buffer)
    return buffer.getvalue()
