"""A trained network in one file: safetensors with the network's name, options and whatever else using it needs."""

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from pictorch import models
from pictorch.config import OptionError, UserError


def to_bytes(model: nn.Module, metadata: dict[str, Any]) -> bytes:
    """Return the file's content: the state of `model`, and `metadata` as one JSON object under the key "pictorch".

    `load` needs the keys model, options, num_classes, in_channels and image_size among the metadata.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    # One key, because the format writes several in an order that changes from call to call.
    return bytes(save(tensors, {"pictorch": json.dumps(metadata, sort_keys=True)}))


def load(path: Path) -> tuple[nn.Module, dict[str, Any]]:
    """Return the network in eval mode with its weights, on the CPU, and the metadata.

    Raises UserError naming the file when it is missing, damaged, or was not written by `to_bytes`.
    """
    if not path.is_file():
        raise UserError(f"{path}: there are no weights here; a run writes them when it is finished")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = json.loads((file.metadata() or {})["pictorch"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        model = models.create(
            metadata["model"],
            **{key: metadata[key] for key in ("num_classes", "in_channels", "image_size")},
            **metadata["options"],
        )
        model.load_state_dict(tensors)
    except (SafetensorError, OSError, json.JSONDecodeError) as error:
        raise UserError(f"{path}: this weights file is damaged: {error}") from None
    except (KeyError, TypeError, RuntimeError, OptionError) as error:
        raise UserError(f"{path}: this file's weights and description do not fit each other: {error}") from None
    return model.eval(), metadata
