"""A trained network in one file: safetensors with the network's name, options and whatever else using it needs."""

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from pictorch import models
from pictorch.config import OptionError, UserError
from pictorch.models import views

SIZES = ("num_classes", "in_channels", "image_size")
# What `load` needs of the metadata: what is expected of each key, and how it is told, given all the metadata.
NEEDED: dict[str, tuple[str, Callable[[Any, dict[str, Any]], bool]]] = {
    "model": ("a text", lambda value, _: isinstance(value, str)),
    "options": ("an object", lambda value, _: isinstance(value, dict)),
    **dict.fromkeys(SIZES, ("a whole number above 0", lambda value, _: type(value) is int and value > 0)),
    "dataset": ("a text", lambda value, _: isinstance(value, str)),
    "classes": ("num_classes texts", lambda value, all: is_list(value, str, all["num_classes"])),
    "mean": ("in_channels numbers", lambda value, all: is_numbers(value, all["in_channels"])),
    "std": (
        "in_channels numbers above 0",
        lambda value, all: is_numbers(value, all["in_channels"]) and min(value) > 0,
    ),
    "sha256": ("a text", lambda value, _: isinstance(value, str)),
}
# What files of other versions may lack, and what decides answers where it is there.
OPTIONAL: dict[str, tuple[str, Callable[[Any, dict[str, Any]], bool]]] = {
    "resize": (
        "null, or a whole number from image_size on",
        lambda value, all: value is None or (type(value) is int and value >= all["image_size"]),
    ),
    "mean_image": ("in_channels times image_size times image_size numbers", lambda value, all: is_image(value, all)),
    "config": (
        f"an object whose evaluation.views, if it has one, is {', '.join(views.COUNT)}",
        lambda value, _: isinstance(value, dict) and has_known_views(value.get("evaluation", {})),
    ),
}


def to_bytes(model: nn.Module, metadata: dict[str, Any]) -> bytes:
    """Return the file's content: the state of `model`, and `metadata` as one JSON object under the key "pictorch".

    `metadata` has all keys of NEEDED but sha256, which is the one of the tensors and added here.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    # One key, because the format writes several in an order that changes from call to call.
    text = json.dumps({**metadata, "sha256": checksum(tensors)}, sort_keys=True)
    return bytes(save(tensors, {"pictorch": text}))


def checksum(tensors: Mapping[str, Tensor]) -> str:
    """Return the sha256, in hex, over name, type, shape and bytes of contiguous tensors on the CPU, sorted by name."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def load(path: Path) -> tuple[nn.Module, dict[str, Any]]:
    """Return the network in eval mode with its weights, on the CPU, and the metadata.

    Raises UserError naming the file when it is missing, damaged to the bit, or was not written by `to_bytes`.
    """
    if not path.is_file():
        raise UserError(f"{path}: there are no weights here; a run writes them when it is finished")
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get("pictorch")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: this weights file is damaged: {error}") from None
    if text is None:
        raise UserError(
            f"{path}: this file was not written by pictorch: it has weights, but does not say of what network"
        )
    metadata = read_metadata(path, text)
    if checksum(tensors) != metadata["sha256"]:
        raise UserError(f"{path}: this weights file is damaged: its weights do not have the sha256 that it notes")
    # Asked here, since not every answer shows it: the ReLU behind a folded convolution makes NaN 0 on a CPU.
    if spoilt := [name for name, tensor in tensors.items() if tensor.is_floating_point() and tensor.isnan().any()]:
        raise UserError(
            f"{path}: these weights are no numbers (NaN), the first in {min(spoilt)}: nothing follows of them"
        )
    try:
        model = models.create(metadata["model"], **{key: metadata[key] for key in SIZES}, **metadata["options"])
    except (OptionError, TypeError) as error:
        raise UserError(f"{path}: the network of these weights cannot be built: {error}") from None
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        what = " ".join(str(error).split())[:300]
        raise UserError(f"{path}: these weights are not those of a {metadata['model']}: {what}") from None
    return model.eval(), metadata


def read_metadata(path: Path, text: str) -> dict[str, Any]:
    """Return the metadata's JSON object. Raises UserError naming the file and the key that is not as it has to be."""
    try:
        metadata = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: this weights file is damaged: its metadata is no JSON: {error}") from None
    if not isinstance(metadata, dict):
        raise UserError(f"{path}: this weights file is damaged: its metadata is no JSON object")
    for key, (expected, holds) in (NEEDED | OPTIONAL).items():
        if key not in metadata:
            if key in OPTIONAL:
                continue
            raise UserError(f"{path}: {key} is missing among the metadata of this weights file; expected {expected}")
        if not holds(metadata[key], metadata):
            found = repr(metadata[key])[:80]
            raise UserError(f"{path}: {key} in the metadata of this weights file: expected {expected}, got {found}")
    return metadata


def is_numbers(value: Any, length: int) -> bool:
    return is_list(value, (int, float), length) and all(map(math.isfinite, value))


def is_image(value: Any, metadata: dict[str, Any]) -> bool:
    try:
        image = torch.tensor(value, dtype=torch.float32)
    except (TypeError, ValueError, RuntimeError):
        return False
    shape = (metadata["in_channels"], metadata["image_size"], metadata["image_size"])
    return tuple(image.shape) == shape and bool(image.isfinite().all())


def has_known_views(settings: Any) -> bool:
    return isinstance(settings, dict) and settings.get("views", "one") in list(views.COUNT)


def is_list(value: Any, kind: type | tuple[type, ...], length: int) -> bool:
    return isinstance(value, list) and len(value) == length and all(isinstance(item, kind) for item in value)
