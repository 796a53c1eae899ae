"""What a finished run leaves: its result row, its predictions, its surest mistakes, its weights with all they need."""

import datetime
from typing import Any

from pictorch import data, runs
from pictorch.config import config_hash, to_dict
from pictorch.data import own
from pictorch.engine.build import Job
from pictorch.engine.environment import last_session
from pictorch.engine.evaluate import Evaluation
from pictorch.engine.loop import averaged, stopped_early
from pictorch.engine.memory import peak_memory_bytes
from pictorch.engine.state import State
from pictorch.models import weights
from pictorch.runs import RunDir


def result_row(job: Job, run: RunDir, state: State, evaluation: Evaluation, raw: Evaluation | None) -> dict[str, Any]:
    """Return result.json: one flat row with the keys of `runs.RESULT`.

    `raw` are the answers of the weights behind an average, where one was evaluated. `train_seconds` counts evaluation
    and saving, as published training times do; `images_per_second` is training alone.
    """
    env, rows = last_session(runs.read_json(run.env)), runs.read_metrics(run)
    best = state.best or {}
    last_val = 100 - rows[-1].get("val_error", float("nan")) if best else None
    return {
        "recipe": env["recipe"],
        "config_hash": config_hash(job.config),
        "complete": complete(job, state),
        "seed": job.config.train.seed,
        "dataset": job.dataset.name,
        "model": job.config.model.name,
        "params": job.complexity.params,
        "macs": job.complexity.macs,
        "epochs": state.epoch,
        "steps": state.step,
        "selection": job.config.train.select,
        "averaged": averaged(job),
        "stopped_early": stopped_early(job, state),
        "test_images": evaluation.images,
        "views": evaluation.views,
        "test_error": evaluation.error,
        "test_top1": evaluation.top(1),
        "test_top5": evaluation.top(5),
        "test_loss": evaluation.loss,
        "raw_test_error": None if raw is None else raw.error,
        "val_top1": best["val_top1"] if job.config.train.select == "best-val" else last_val,
        "best_val_top1": best.get("val_top1"),
        "best_epoch": best.get("epoch"),
        "train_seconds": state.total_seconds,
        "images_per_second": state.step
        * job.train_loader.images_per_epoch
        / len(job.train_loader)
        / max(1e-9, sum(row.get("seconds", 0.0) for row in rows)),
        "peak_memory_bytes": peak_memory_bytes(job.device),
        "device": env["gpu"] or env["cpu"],
        "precision": job.precision.name,
        "torch": env["torch"],
        "commit": env["commit"],
        "data_checksum": job.dataset.checksum,
        "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def complete(job: Job, state: State) -> bool:
    """Return whether the run trained all that it was to, and answered every image."""
    trained = stopped_early(job, state) or state.step == job.config.train.epochs * len(job.train_loader)
    return trained and job.config.evaluation.max_images is None


def write_artefacts(job: Job, run: RunDir, evaluation: Evaluation) -> None:
    """Write predictions.npz, mistakes.json and model.safetensors of the selected weights."""
    runs.write(run.predictions, evaluation.npz())
    runs.write_json(run.mistakes, {"mistakes": evaluation.mistakes()})
    spec = job.dataset.spec
    metadata: dict[str, Any] = {
        "model": job.config.model.name,
        "options": job.config.model.options,
        "num_classes": len(spec.classes),
        "in_channels": spec.in_channels,
        "image_size": spec.image_size,
        "dataset": job.dataset.name,
        "classes": list(spec.classes),
        "mean": list(spec.mean),
        "std": list(spec.std),
        "resize": own.evaluation_resize(spec.image_size) if isinstance(job.dataset.test, data.Images) else None,
        "test_error": evaluation.error,
        "config": to_dict(job.config),
    }
    if job.mean.ndim > 1:
        metadata["mean_image"] = job.mean.tolist()
    runs.write(run.weights, weights.to_bytes(job.model, metadata))
