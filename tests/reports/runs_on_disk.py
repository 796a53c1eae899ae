"""Run directories written for the tests of reports, in the real formats and without training."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from pictorch import data, runs
from pictorch.config import config_hash, dump, load
from pictorch.runs import RunDir

CHECKSUM = data.open("digits", root=Path()).checksum
FILLER: dict[Any, Any] = {str: "one", bool: False, int: 1, (int, float): 1.5}  # else null
DIGITS = tuple(str(digit) for digit in range(10))


def write_run(
    path: Path,
    *overrides: str,
    error: float | None = 5.0,
    epochs: int = 4,
    recipe: str = "digits/resnet_preact_8",
    classes: tuple[str, ...] = DIGITS,
    images: int = 40,
    **result: Any,
) -> RunDir:
    """Write the run directory of a recipe with overrides; one that is not finished where `error` is None."""
    config = load("digits/resnet_preact_8", [f"train.epochs={epochs}", *overrides]).config
    path.mkdir(parents=True)
    run = RunDir(path)
    tree = json.loads(config.model_dump_json())
    run.config.write_text(dump(tree))
    env = {
        "pictorch": "0.1.0",
        "commit": "0123456789abcdef",
        "dirty": None,
        "torch": "2.13.0",
        "cpu": "a processor",
        "gpu": None,
        "data_root": "/nowhere",
        "command": f"pictorch train --out {path}",
        "precision": "fp32",
        "recipe": recipe,
        "dataset": "digits",
        "data_checksum": CHECKSUM,
        "data_official": True,
        "resumed": [],
    }
    run.env.write_text(json.dumps(env))
    run.metrics.write_text("".join(json.dumps(row) + "\n" for row in rows(epochs, config.train.seed, error or 5.0)))
    if error is None:
        return run
    run.predictions.write_bytes(predictions(images, len(classes), error, config.train.seed))
    mistakes = [
        {"index": i, "label": classes[1], "predicted": classes[7], "probability": 0.99 - i / 1000} for i in range(8)
    ]
    run.mistakes.write_text(json.dumps({"mistakes": mistakes}))
    run.weights.write_bytes(save({"w": np.zeros(1)}, {"pictorch": json.dumps({"classes": classes})}))
    row = {
        "recipe": recipe,
        "config_hash": config_hash(config),
        "complete": config.train.max_steps is None,
        "seed": config.train.seed,
        "dataset": "digits",
        "test_error": error,
        "test_top1": 100 - error,
        "test_top5": 99.0,
        "test_images": images,
        "data_checksum": CHECKSUM,
        "finished": f"2026-11-21T12:00:{config.train.seed % 60:02d}+00:00",
        "train_seconds": 65.0,
        **result,
    }
    full = {key: row[key] if key in row else FILLER.get(kind) for key, kind in runs.RESULT.items()}
    run.result.write_text(json.dumps(full))
    return run


def rows(epochs: int, seed: int, error: float) -> list[dict[str, float]]:
    """Return learning curves that end at the error."""
    noise = np.random.default_rng(seed).normal(1, 0.02, (epochs, 4)).tolist()
    return [
        {
            "epoch": k,
            "step": 22 * k,
            "lr": 0.1 * (1 - k / epochs),
            "train_loss": 2.3 / k * a,
            "train_error": 60 / k * b,
            "test_loss": 2.5 / k * c,
            "test_error": error if k == epochs else error + 60 / k * d,
            "seconds": 1.5,
            "images_per_second": 2345.678,
        }
        for k, (a, b, c, d) in enumerate(noise, 1)
    ]


def predictions(images: int, num_classes: int, error: float, seed: int) -> bytes:
    """Return predictions.npz in which that per cent of the images is answered as the next class."""
    labels = np.arange(images, dtype=np.int16) % num_classes
    wrong = np.random.default_rng(seed).permutation(images) < images * error / 100
    first = (labels + wrong) % num_classes
    classes = (first[:, None] + np.arange(min(5, num_classes))) % num_classes
    buffer = io.BytesIO()
    probabilities = np.full(classes.shape, 0.2, np.float32)
    np.savez_compressed(buffer, label=labels, classes=classes.astype(np.int16), probabilities=probabilities)
    return buffer.getvalue()
