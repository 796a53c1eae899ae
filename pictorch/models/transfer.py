"""Start a network from weights that were trained before: a run's, a safetensors file, or a torch file of tensors.

    transferred = start_from(model, read_state(path), source=str(path))

What fits is taken over by name; a last layer for other classes stays as it was drawn. Files of torchvision and timm,
which have other names, are taken over by the order of their layers (models/pretrained.py).
"""

import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from pictorch.config import UserError
from pictorch.models.pretrained import counted, in_order

# What wrappers (DataParallel, torch.compile, Lightning) put in front of every key.
PREFIXES = ("module.", "_orig_mod.", "model.")
# Where programs keep the state among other things.
NESTED = ("state_dict", "model_state_dict", "model", "net")
COUNTER = "num_batches_tracked"


@dataclass(frozen=True)
class Transferred:
    """Which of the network's tensors were taken over, which stay as drawn (with the reason), and what was left over."""

    taken: tuple[str, ...]
    drawn: tuple[str, ...]
    unused: tuple[str, ...]

    def describe(self, source: str) -> list[str]:
        """Return what happened, a line for each of the three that is not empty."""
        lines = [f"{len(self.taken)} of {len(self.taken) + len(self.drawn)} tensors are those of {source}"]
        if self.drawn:
            lines.append(f"as drawn: {listed(self.drawn)}")
        if self.unused:
            lines.append(f"not used of {source}: {listed(self.unused)}")
        return lines


def listed(names: tuple[str, ...], most: int = 8) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def read_state(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a .safetensors file or of a torch file by name, on the CPU.

    Torch files are read with weights_only, so that none can run code; of the objects of known training programs the
    state dictionary is taken. Raises UserError naming the file.
    """
    if not path.is_file():
        raise UserError(f"{path}: there is no such file of weights; expected a run directory or a .safetensors file")
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise UserError(
            f"{path}: this file holds something else than tensors and plain values and was not read"
        ) from None
    except (SafetensorError, OSError, RuntimeError, EOFError, ValueError, KeyError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0][:200]
        raise UserError(f"{path}: this file of weights is damaged or of an unknown kind: {reason}") from None
    return state_of(content, path)


def state_of(content: Any, path: Path) -> dict[str, Tensor]:
    """Return the state dictionary in what a torch file held. Raises UserError naming the file."""
    for key in NESTED:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
            break
    if not isinstance(content, Mapping) or not any(isinstance(value, Tensor) for value in content.values()):
        raise UserError(f"{path}: this file holds no network's weights: no tensors by name were found in it")
    return {str(key): value for key, value in content.items() if isinstance(value, Tensor)}


def bare(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the state without the prefixes that all of its keys have."""
    keys = list(state)
    while prefix := next((p for p in PREFIXES if all(key.startswith(p) for key in keys)), None):
        keys = [key.removeprefix(prefix) for key in keys]
    return dict(zip(keys, state.values(), strict=True))


def start_from(model: nn.Module, state: Mapping[str, Tensor], *, source: str) -> Transferred:
    """Copy into `model` what fits of `state`, and return what was done. Raises UserError if no weight fits."""
    theirs, ours = bare(state), model.state_dict()
    wanted = counted(ours)
    if not set(wanted) <= theirs.keys():
        pairs = in_order(model, theirs)
        # Some names can be the same by chance; what tells is that all layers but the last agree in order.
        alike = all(ours[our].shape == theirs[their].shape for our, their in pairs[:-2])
        if alike and len(pairs) == len(wanted) == len(counted(theirs)):
            theirs = {our: theirs[their] for our, their in pairs}
    fitting = {key for key in wanted if key in theirs and theirs[key].shape == ours[key].shape}
    if not fitting:
        raise UserError(
            f"{source}: none of its {len(theirs)} tensors has the name and shape of one of this network's: "
            f"expected {listed(tuple(wanted), 3)}, found {listed(tuple(theirs), 3)}"
        )
    counters = {key for key in ours if key.endswith(COUNTER) and key in theirs and not theirs[key].shape}
    model.load_state_dict({key: theirs[key] for key in fitting | counters}, strict=False)
    drawn = tuple(f"{key} {why(key, ours, theirs)}" for key in wanted if key not in fitting)
    unused = tuple(key for key in theirs if key not in ours)
    return Transferred(tuple(key for key in wanted if key in fitting), drawn, unused)


def why(key: str, ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> str:
    if key not in theirs:
        return "(not in the file)"
    return f"({list(ours[key].shape)}, in the file {list(theirs[key].shape)})"
