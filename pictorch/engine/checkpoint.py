"""Checkpoints: tensors and plain values only, read back with `weights_only=True`, so that none can run code."""

import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch

from pictorch import runs
from pictorch.config import UserError

FORMAT = 1
KEYS = frozenset({"format", "config_hash", "epoch", "step", "model", "optimizer", "meter", "best", "seconds"})


class CheckpointError(UserError):
    """A checkpoint that is truncated, foreign, or of another run."""


def save(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint atomically; `state` has all of KEYS but `format`."""
    state = {"format": FORMAT, **state}
    assert state.keys() == KEYS
    buffer = io.BytesIO()
    torch.save(state, buffer)
    runs.write(path, buffer.getvalue())


def load(path: Path) -> dict[str, Any]:
    """Return the checkpoint with its tensors on the CPU. Raises CheckpointError naming the file."""
    then = f"nothing was changed; to train from the start again, delete {path.name} and resume once more"
    damaged = f"{path}: this checkpoint is truncated or damaged"
    try:
        # The directory of the archive stands at its end: a file cut anywhere has none.
        if not zipfile.is_zipfile(path):
            raise CheckpointError(f"{damaged} ({path.stat().st_size:,} bytes); {then}")
        state = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot read this checkpoint: {error.strerror or error}") from None
    except pickle.UnpicklingError:
        raise CheckpointError(
            f"{path}: this checkpoint holds something else than tensors and plain values and was not read; {then}"
        ) from None
    except (RuntimeError, EOFError, KeyError, TypeError, AttributeError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0][:120]
        raise CheckpointError(f"{damaged} ({reason}); {then}") from None
    if not isinstance(state, dict) or not state.keys() >= KEYS - {"meter"} or state["format"] != FORMAT:
        raise CheckpointError(f"{path}: this file is not a checkpoint of pictorch (format {FORMAT}); {then}")
    return state
