"""The training loop: epochs of steps, evaluation, checkpoints; started, stopped and resumed at any moment.

Every random number is a pure function of the seed and of where in the run it is used, and every schedule of the step,
so the state to save is small, and a resumed run is the uninterrupted one, bit for bit, on the same machine.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice
from math import isfinite
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pictorch import runs
from pictorch.config import UserError, config_hash
from pictorch.data.streams import generator
from pictorch.engine import checkpoint, trackers
from pictorch.engine.build import Job
from pictorch.engine.evaluate import Evaluation, evaluate
from pictorch.engine.interrupt import Interrupted, Stop, StopRequested, catch_signals
from pictorch.engine.progress import Progress, Snapshot
from pictorch.engine.step import train_step
from pictorch.metrics import TrainMeter
from pictorch.runs import RunDir


class Diverged(UserError):
    """The loss or the weights are no longer finite."""


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


def fit(job: Job, run: RunDir, *, progress: Progress) -> tuple[Evaluation, State]:
    """Train from where the run directory stands to the end; return the selected weights' answers on the test set.

    The job's network then holds the selected weights. Raises Interrupted after Ctrl-C or SIGTERM (the state is saved),
    Diverged when the loss is no longer finite (the last good checkpoint stays), RunError when the run directory cannot
    be written.
    """
    train = job.config.train
    state = restore(job, run)
    runs.rewind_metrics(run, state.epoch)
    tracking = trackers.create(run.tensorboard, tensorboard=job.config.track.tensorboard, first_epoch=state.epoch + 1)
    forward = compiled(job)
    evaluation = None
    try:
        with catch_signals() as stop:
            while not over(job, state):
                try:
                    evaluation = one_epoch(job, run, state, forward, stop, progress)
                except StopRequested:
                    save(job, run, state)
                    raise
                row = finish_epoch(job, run, state, evaluation)
                progress.epoch(row)
                for tracker in tracking:
                    tracker.epoch(row)
            if train.select == "best-val":
                job.model.load_state_dict(checkpoint.load(run.best_checkpoint)["model"])
            if job.val_loader is not None or evaluation is None:
                evaluation = evaluate_part(job, "test", stop)
    except StopRequested:
        raise Interrupted(f"stopped on request; continue with `pictorch train --resume {run.path}`") from None
    finally:
        for tracker in tracking:
            tracker.close()
    return evaluation, state


def over(job: Job, state: State) -> bool:
    """Return whether all of the run's epochs, or its `max_steps` and the epoch that they end in, are done."""
    return state.epoch == job.config.train.epochs or (
        state.step == job.config.train.max_steps and not state.meter.steps
    )


def one_epoch(
    job: Job, run: RunDir, state: State, forward: Callable[[Tensor], Tensor], stop: Stop, progress: Progress
) -> Evaluation | None:
    """Train what is left of the epoch under way, then evaluate if it is due."""
    train, loader = job.config.train, job.train_loader
    clock = time.perf_counter()
    batches = loader.epoch(state.epoch, start_batch=state.step - state.epoch * len(loader))
    for batch in islice(batches, train.max_steps and train.max_steps - state.step):
        seed_network(job.device, generator(train.seed, "step", state.step).initial_seed())
        lr = job.config.optim.lr * job.schedule(state.step)
        loss, logits = train_step(forward, job.optimizer, batch, lr=lr, precision=job.precision)
        state.meter.add(loss, logits, batch.labels)
        state.step += 1
        state.epoch_seconds, clock = state.epoch_seconds + time.perf_counter() - clock, time.perf_counter()
        if progress.due():
            refuse_divergence(job, run, state)
            progress.step(snapshot(job, state, lr))
        stop.check()
    refuse_divergence(job, run, state)  # waits for the device, so that the clock counts all of its work
    state.epoch_seconds += time.perf_counter() - clock
    last = state.epoch + 1 == train.epochs or state.step == train.max_steps
    if last or (state.epoch + 1) % train.eval_every_epochs == 0:
        return evaluate_part(job, "test" if job.val_loader is None else "val", stop)
    return None


def snapshot(job: Job, state: State, lr: float) -> Snapshot:
    """Return what a progress bar shows. Reads the device."""
    train, steps = job.config.train, len(job.train_loader)
    step = state.step - state.epoch * steps
    return Snapshot(
        epoch=state.epoch + 1,
        epochs=train.epochs,
        step=step,
        steps=steps,
        lr=lr,
        train_error=state.meter.compute()["train_error"],
        images_per_second=step * train.batch_size / state.epoch_seconds,
        seconds_left=(job.updates - state.step) * state.total_seconds / state.step,
    )


def evaluate_part(job: Job, part: str, stop: Stop) -> Evaluation:
    """Return the network's answers on the "val" or "test" part."""
    loader = job.val_loader if part == "val" else job.test_loader
    assert loader is not None
    return evaluate(
        job.model,
        loader,
        classes=job.classes,
        dataset=job.dataset.name,
        precision=job.precision,
        stop=stop,
    )


def finish_epoch(job: Job, run: RunDir, state: State, evaluation: Evaluation | None) -> dict[str, Any]:
    """Write the epoch's row, keep the best weights by validation, move to the next epoch, save; return the row.

    In this order a kill at any moment leaves rows and weights from which a resumed run writes the same ones again.
    """
    train, steps = job.config.train, len(job.train_loader)
    trained = state.step - state.epoch * steps
    row: dict[str, Any] = {
        "epoch": state.epoch + 1,
        "step": state.step,
        "lr": job.config.optim.lr * job.schedule(state.step - 1),
        **state.meter.compute(),
    }
    part = "test" if job.val_loader is None else "val"
    if evaluation is not None:
        row |= {f"{part}_loss": evaluation.loss, f"{part}_error": evaluation.error}
    images = min(trained * train.batch_size, job.train_loader.images_per_epoch)
    row |= {"seconds": state.epoch_seconds, "images_per_second": images / state.epoch_seconds}
    runs.append(run, row)
    if part == "val" and evaluation is not None and (not state.best or evaluation.top(1) > state.best["val_top1"]):
        state.best = {"epoch": state.epoch + 1, "val_top1": evaluation.top(1)}
        save(job, run, state, path=run.best_checkpoint)
    state.epoch, state.epoch_seconds = state.epoch + 1, 0.0
    state.meter = TrainMeter(steps=steps, device=job.device)
    if state.epoch % train.save_every_epochs == 0 or over(job, state):
        save(job, run, state)
    return row


def refuse_divergence(job: Job, run: RunDir, state: State) -> None:
    """Raise Diverged if a loss of the epoch under way, or a weight, is not finite. Reads the device."""
    bad = state.meter.first_bad_step()
    weights_sum = torch.stack([p.detach().sum(dtype=torch.float32) for p in job.model.parameters()]).sum()
    if bad is None and isfinite(float(weights_sum)):
        return
    step = state.step if bad is None else state.step - state.meter.steps + bad + 1
    kept = f"; {run.last_checkpoint} keeps the last good state" if run.last_checkpoint.exists() else ""
    what = "weights are" if bad is None else "loss is"
    raise Diverged(
        f"training diverged: the {what} not finite at step {step} (epoch {state.epoch + 1}) "
        f"with optim.lr={job.config.optim.lr:g}{kept}; lower optim.lr, or warm it up with schedule.warmup_epochs"
    )


def save(job: Job, run: RunDir, state: State, *, path: Path | None = None) -> None:
    """Write last.ckpt (or `path`), unless the state is not finite: then raise Diverged and leave the old file."""
    refuse_divergence(job, run, state)
    checkpoint.save(
        path or run.last_checkpoint,
        {
            "config_hash": config_hash(job.config),
            "seed": job.config.train.seed,
            "epoch": state.epoch,
            "step": state.step,
            "model": job.model.state_dict(),
            "optimizer": job.optimizer.state_dict(),
            "meter": state.meter.state_dict(),
            "best": state.best,
            "seconds": {"epoch": state.epoch_seconds, "total": state.total_seconds},
        },
    )


def restore(job: Job, run: RunDir) -> State:
    """Return the state of the run directory's last checkpoint, loaded into the job; a fresh one where there is none."""
    state = State(0, 0, TrainMeter(steps=len(job.train_loader), device=job.device))
    if not run.last_checkpoint.exists():
        return state
    saved = checkpoint.load(run.last_checkpoint)
    of, ours = (saved["config_hash"], saved["seed"]), (config_hash(job.config), job.config.train.seed)
    if of != ours:
        raise checkpoint.CheckpointError(
            f"{run.last_checkpoint}: this checkpoint belongs to configuration {of[0]} with seed {of[1]}, "
            f"not to the {ours[0]} with seed {ours[1]} of {run.config}; nothing was changed"
        )
    try:
        job.model.load_state_dict(saved["model"])
        job.optimizer.load_state_dict(saved["optimizer"])
        state.meter.load_state_dict(saved["meter"])
        state.epoch, state.step, state.best = saved["epoch"], saved["step"], saved["best"]
        state.epoch_seconds, state.earlier_seconds = saved["seconds"]["epoch"], saved["seconds"]["total"]
        assert 0 <= state.step - state.epoch * len(job.train_loader) <= len(job.train_loader) or over(job, state)
    except (RuntimeError, ValueError, KeyError, TypeError, AttributeError, AssertionError) as error:
        reason = (str(error) or "its position is not one of the run's").splitlines()[0]
        raise checkpoint.CheckpointError(
            f"{run.last_checkpoint}: its content does not fit this run: {reason}"
        ) from None
    return state


def compiled(job: Job) -> Callable[[Tensor], Tensor]:
    """Return the network's forward, through torch.compile where the configuration asks for it."""
    if not job.config.train.compile:
        return job.model
    # Static shapes: with dynamic ones, which kernels run depends on the batch sizes seen before, and a resume has seen
    # others than the uninterrupted run.
    forward: Callable[[Tensor], Tensor] = torch.compile(job.model, dynamic=False)
    return forward


def seed_network(device: torch.device, seed: int) -> None:
    """Seed the generators that the network's own random layers draw from.

    torch.manual_seed does the same for every back end and takes 180 microseconds a call; this takes one.
    """
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.default_generators[device.index or 0].manual_seed(seed)
