"""Where a run is: what a checkpoint holds of it, and how a job goes on from one.

A checkpoint's content is checked against what the job would save itself, all of it, before anything is taken over.
"""

import time
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import Any

from torch import Size, Tensor

from pictorch import runs
from pictorch.config import config_hash
from pictorch.engine import checkpoint
from pictorch.engine.build import Job
from pictorch.metrics import TrainMeter
from pictorch.runs import RunDir


@dataclass
class State:
    """Where a run is: whole epochs done, steps done, the meter of the epoch under way, the best epoch, the seconds.

    `epoch_seconds` are those of training in the epoch under way, `earlier_seconds` those of the sessions before this
    one, which began at `session_started`.
    """

    epoch: int
    step: int
    meter: TrainMeter
    best: dict[str, float] | None = None
    epoch_seconds: float = 0.0
    earlier_seconds: float = 0.0
    session_started: float = field(default_factory=time.perf_counter)

    @property
    def total_seconds(self) -> float:
        """Seconds of the whole run so far, with evaluation and saving, over all its sessions."""
        return self.earlier_seconds + time.perf_counter() - self.session_started


def content(job: Job, state: State) -> dict[str, Any]:
    """Return what a checkpoint holds."""
    return {
        "config_hash": config_hash(job.config),
        "seed": job.config.train.seed,
        "epoch": state.epoch,
        "step": state.step,
        "model": job.model.state_dict(),
        # Its groups are the configuration's, and which keys they have is the torch version's.
        "optimizer": job.optimizer.state_dict()["state"],
        "average": job.average.state_dict(),
        "meter": state.meter.state_dict(),
        "best": state.best,
        "seconds": {"epoch": state.epoch_seconds, "total": state.total_seconds},
    }


def restore(job: Job, run: RunDir) -> State:
    """Return the state of the run directory's last checkpoint, loaded into the job; a fresh one where there is none.

    Changes nothing there. Raises CheckpointError or RunError when the run cannot be continued from its files.
    """
    state = State(0, 0, TrainMeter(steps=len(job.train_loader), device=job.device))
    saved = job.world.lead(lambda: saved_state(job, run))
    if saved is not None:
        take_weights(job, saved)
        job.optimizer.load_state_dict({**job.optimizer.state_dict(), "state": saved["optimizer"]})
        state.meter.load_state_dict(saved["meter"])
        state.epoch, state.step, state.best = saved["epoch"], saved["step"], saved["best"]
        state.epoch_seconds, state.earlier_seconds = saved["seconds"]["epoch"], saved["seconds"]["total"]
    return state


def saved_state(job: Job, run: RunDir) -> dict[str, Any] | None:
    """Return the content of the run directory's last checkpoint, checked with all that goes with it; None without."""
    saved = None
    if run.last_checkpoint.exists():
        saved = load_checkpoint(job, run.last_checkpoint)
        if saved["best"] and job.config.train.select == "best-val":
            load_checkpoint(job, run.best_checkpoint)  # found damaged at the end, it would have cost the run
    runs.first_rows(run, saved["epoch"] if saved else 0)
    return saved


def take_weights(job: Job, saved: dict[str, Any]) -> None:
    """Put a checkpoint's weights, and their average, into the job."""
    job.model.load_state_dict(saved["model"])
    job.average.load_state_dict(saved["average"])


def load_checkpoint(job: Job, path: Path) -> dict[str, Any]:
    """Return a checkpoint of this job's run. Raises CheckpointError when it is another's, or cannot be gone on from."""
    saved = checkpoint.load(path)
    of, ours = (saved["config_hash"], saved["seed"]), (config_hash(job.config), job.config.train.seed)
    if of != ours:
        raise checkpoint.CheckpointError(
            f"{path}: this checkpoint belongs to configuration {of[0]} with seed {of[1]}, "
            f"not to the {ours[0]} with seed {ours[1]} of the run's config.yaml; nothing was changed"
        )
    if reason := flaw(job, saved):
        raise checkpoint.CheckpointError(f"{path}: its content does not fit this run: {reason}; nothing was changed")
    return saved


def flaw(job: Job, saved: dict[str, Any]) -> str | None:
    """Return why the job cannot go on from a checkpoint's content, or None."""
    fresh = State(0, 0, TrainMeter(steps=len(job.train_loader), device=job.device))
    best = {"epoch": 0, "val_top1": 0.0} if saved["best"] is not None and job.val_loader else None
    expected = {**content(job, fresh), "best": best}
    for key in ("model", "average", "meter", "best", "seconds"):
        if reason := checkpoint.misfit(saved[key], expected[key], key):
            return reason
    if not all(0 <= value < inf for value in saved["seconds"].values()):
        return "its seconds are not a time"
    if not in_run(job, saved["epoch"], saved["step"], saved["meter"]["steps"]):
        return "its position is not one of the run's"
    parameters = [parameter for group in job.optimizer.param_groups for parameter in group["params"]]
    slots = saved["optimizer"]
    if not all(fits(slot, index, parameters) for index, slot in slots.items()):
        return "its optimizer is not one of these parameters"
    moments = [value for slot in slots.values() for value in slot.values() if isinstance(value, Tensor)]
    if not checkpoint.finite([*saved["model"].values(), *averaged(saved["average"]), *moments]):
        return "its weights or the optimizer's moments are not finite"
    return None


def averaged(saved: dict[str, Any]) -> list[Tensor]:
    """Return the tensors of an average's state, however nested."""
    inner = [averaged(value) if isinstance(value, dict) else [value] for value in saved.values()]
    return [tensor for tensors in inner for tensor in tensors]


def in_run(job: Job, epoch: int, step: int, metered: int) -> bool:
    """Return whether a run of the job can be there: `metered` steps into an epoch, or at the end of its updates."""
    steps = len(job.train_loader)
    at_end = step == job.updates and metered == 0 and epoch == -(-step // steps)
    return at_end or (0 <= metered == step - epoch * steps <= steps and epoch >= 0 and step <= job.updates)


def fits(slot: Any, index: Any, parameters: list[Tensor]) -> bool:
    """Return whether an optimiser's slot (name -> tensor) can be that of the parameter with this index."""
    if type(index) is not int or index not in range(len(parameters)) or not isinstance(slot, dict):
        return False
    shapes = {name: Size() if name == "step" else parameters[index].shape for name in slot}
    return all(
        value is None or (isinstance(value, Tensor) and value.is_floating_point() and value.shape == shapes[name])
        for name, value in slot.items()
    )
