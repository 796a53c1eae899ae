"""Checkpoints: tensors and plain values only, read back with `weights_only=True`, so that none can run code."""

import io
import pickle
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from pictorch import runs
from pictorch.config import UserError

FORMAT = 3
TYPES: dict[str, type | tuple[type, ...]] = {
    "format": int,
    "config_hash": str,
    "seed": int,
    "epoch": int,
    "step": int,
    "model": dict,
    "optimizer": dict,
    "average": dict,
    "meter": dict,
    "best": (dict, type(None)),
    "seconds": dict,
}


class CheckpointError(UserError):
    """A checkpoint that is truncated, damaged, foreign, or of another run."""


def save(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint atomically; `state` has all of TYPES' keys but `format`."""
    state = {"format": FORMAT, **state}
    assert state.keys() == TYPES.keys()
    buffer = io.BytesIO()
    torch.save(state, buffer)
    runs.write(path, buffer.getvalue())


def load(path: Path) -> dict[str, Any]:
    """Return the checkpoint with its tensors on the CPU. Raises CheckpointError naming the file."""
    then = "nothing was changed; to train from the start again, delete the run's .ckpt files and resume once more"
    damaged = f"{path}: this checkpoint is truncated or damaged"
    try:
        # torch does not check the sums that the archive holds of its parts: a flipped bit would go on unnoticed.
        with zipfile.ZipFile(path) as archive:
            if part := archive.testzip():
                raise CheckpointError(f"{damaged} (in its part {part}); {then}")
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(f"{path}: this checkpoint is missing; {then}") from None
    except OSError as error:
        raise CheckpointError(f"{path}: cannot read this checkpoint: {error.strerror or error}") from None
    except pickle.UnpicklingError:
        raise CheckpointError(
            f"{path}: this checkpoint holds something else than tensors and plain values and was not read; {then}"
        ) from None
    except CheckpointError:
        raise
    # Damage ends in exceptions of zipfile, zlib, pickle or torch, according to where it is.
    except Exception as error:
        reason = (str(error) or type(error).__name__).splitlines()[0][:120]
        raise CheckpointError(f"{damaged} ({path.stat().st_size:,} bytes: {reason}); {then}") from None
    whole = isinstance(state, dict) and all(isinstance(state.get(key), kind) for key, kind in TYPES.items())
    if not whole or state["format"] != FORMAT:
        raise CheckpointError(f"{path}: this file is not a checkpoint of pictorch (format {FORMAT}); {then}")
    return dict(state)


def misfit(found: Any, expected: Any, name: str) -> str | None:
    """Return the first place where `found` has other keys, types, shapes or dtypes than `expected`; None without one.

    Of tensors and numbers the values do not matter.
    """
    if isinstance(found, dict) and isinstance(expected, dict):
        for key in [*expected, *found]:
            if key not in found or key not in expected:
                return f"{name}.{key} is {'unknown' if key in found else 'missing'}"
            if inner := misfit(found[key], expected[key], f"{name}.{key}"):
                return inner
        return None
    if isinstance(found, torch.Tensor) and isinstance(expected, torch.Tensor):
        if found.shape == expected.shape and found.dtype == expected.dtype:
            return None
        return f"{name} is {kind(found)}, expected {kind(expected)}"
    return None if type(found) is type(expected) else f"{name} is {kind(found)}, expected {kind(expected)}"


def kind(value: Any) -> str:
    """Return "float32 [10, 64]" of a tensor, "int" of a number."""
    if isinstance(value, torch.Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}"
    return type(value).__name__


def finite(tensors: Iterable[torch.Tensor]) -> bool:
    """Return whether no value of the tensors is NaN or infinite. Reads the device, once."""
    checks = [tensor.detach().isfinite().all() for tensor in tensors]
    return not checks or bool(torch.stack(checks).all())
