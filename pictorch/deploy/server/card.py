"""What a network is, what it was trained on and how it was tested: the model card of a served run."""

import json
from collections.abc import Mapping
from typing import Any

from pictorch import runs
from pictorch.deploy.predict import Predictor
from pictorch.runs import RunDir


def card(run: RunDir, predictor: Predictor, protocol_card: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return the card as one JSON object; what the run directory does not say (any more) is null.

    Accuracies and errors are in per cent, of `test_images` test images.
    """
    metadata = predictor.metadata
    result = runs.read_result(run) if run.result.exists() else {}
    env = runs.read_json(run.env) if run.env.exists() else {}
    told = {
        "name": result.get("recipe") or metadata["model"],
        "run": run.path.resolve().name,
        "network": {
            "model": metadata["model"],
            "options": metadata["options"],
            "parameters": sum(parameter.numel() for parameter in predictor.model.parameters()),
            "multiply_adds": result.get("macs"),
            "weights_sha256": metadata["sha256"],
        },
        "data": {
            "name": metadata["dataset"],
            "classes": len(predictor.classes),
            "channels": metadata["in_channels"],
            "image_size": metadata["image_size"],
            "checksum": env.get("data_checksum"),
            "official_files": env.get("data_official"),
        },
        "test": None if not result else tested(result),
        "training": {
            key: result.get(key)
            for key in ("epochs", "steps", "seed", "selection", "averaged", "precision", "train_seconds", "device")
        },
        "provenance": {
            key: result.get(key, env.get(key)) for key in ("commit", "config_hash", "torch", "finished", "complete")
        },
        "protocol": protocol(predictor, result),
        "protocol_card": dict(protocol_card or {}),
        "notes": notes(result),
    }
    card: dict[str, Any] = json.loads(encodable(json.dumps(told, ensure_ascii=False)))
    return card


def encodable(text: str) -> str:
    """Return a text that UTF-8 can hold: names of folders may have bytes that are of no encoding."""
    return text.encode("utf-8", "replace").decode()


def tested(result: dict[str, Any]) -> dict[str, Any]:
    """Return the figures of the test: of how many images, of one run, by how many views."""
    keys = ("test_error", "test_top1", "test_top5", "test_images", "views")
    return {**{key: result[key] for key in keys}, "runs": 1}


def protocol(predictor: Predictor, result: dict[str, Any]) -> str:
    """Return in words what an image goes through, and whose weights answer."""
    metadata = predictor.metadata
    size = metadata["image_size"]
    colours = "grey" if metadata["in_channels"] == 1 else "RGB"
    if metadata.get("resize"):
        scaled = f"scaled as in its evaluation (shorter side {metadata['resize']}), its central {size} x {size} pixels"
    else:
        scaled = f"its central square, scaled to {size} x {size} pixels (bicubic)"
    views = "one view" if predictor.views == "one" else f"the mean of several views ({predictor.views})"
    chosen = {"last": "the last epoch's", "best-val": "the epoch's with the best validation error"}
    weights = chosen.get(result.get("selection", ""), "the run's")
    return (
        f"An image is turned upright, made {colours}, {scaled}, normalised by the mean and standard deviation of the "
        f"training data; {views} of it is answered by {weights} weights."
    )


def notes(result: dict[str, Any]) -> list[str]:
    """Return what a reader should know before believing an answer."""
    told = [
        "It answers with one of its classes for every picture, also for one that shows none of them.",
        "Probabilities are the network's softmax. They are not calibrated: 90% need not be right nine times in ten.",
    ]
    if not result:
        return ["This run directory has no result: how good the network is, is not known here.", *told]
    if not result["complete"]:
        told.insert(0, "This run was cut short (few steps or few test images): its figures are no result.")
    return [*told, "The test error is that of one run; other seeds give others."]
