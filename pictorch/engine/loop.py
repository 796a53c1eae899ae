"""The training loop: epochs of steps, evaluation, checkpoints; started, stopped and resumed at any moment.

Every random number is a pure function of the seed and of where in the run it is used, and every schedule of the step,
so the state to save is small, and a resumed run is the uninterrupted one, bit for bit, on the same machine.
"""

import contextlib
import time
from collections.abc import Callable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pictorch import optim, runs
from pictorch.config import UserError
from pictorch.data.pipeline import Feed
from pictorch.data.streams import generator
from pictorch.engine import checkpoint
from pictorch.engine.build import Job
from pictorch.engine.evaluate import Evaluation, evaluate
from pictorch.engine.graphs import Record, Replayed, cuda_graph, own_stream
from pictorch.engine.interrupt import Stop, StopRequested
from pictorch.engine.progress import Progress, Snapshot
from pictorch.engine.state import State, content, load_checkpoint, take_weights
from pictorch.engine.step import move, statistics
from pictorch.metrics import TrainMeter, errors
from pictorch.optim.average import EMA, SWA, reestimate_bn
from pictorch.runs import RunDir


class Diverged(UserError):
    """The loss or the weights are no longer finite."""


def fit(job: Job, run: RunDir, state: State, *, progress: Progress, stop: Stop) -> tuple[Evaluation, Evaluation | None]:
    """Train from `state` (of `state.restore`) to the end; return the selected weights' answers on the test set.

    Where weights are averaged these are the average's, and the second are those of the weights that went into it. The
    job's network then holds the selected weights. Raises StopRequested when `stop` was set (the state is saved),
    Diverged when the loss is no longer finite (the last good checkpoint stays), RunError when the run directory cannot
    be written.
    """
    # Trackers that are slow to start are no part of training.
    state.session_started = time.perf_counter()
    with own_stream(job.device):
        return train_and_test(job, run, state, progress, stop)


def train_and_test(
    job: Job, run: RunDir, state: State, progress: Progress, stop: Stop
) -> tuple[Evaluation, Evaluation | None]:
    """Do what `fit` says, on the current stream."""
    train = job.config.train
    if job.world.leads:
        runs.rewind_metrics(run, state.epoch)
    step = create_step(job, compiled(job))
    evaluation = None
    while not over(job, state):
        try:
            evaluation = one_epoch(job, run, state, step, stop, progress)
        except StopRequested:
            save(job, run, state)
            raise
        progress.epoch(finish_epoch(job, run, state, evaluation))
    if train.select == "best-val":
        take_weights(job, job.world.lead(lambda: load_checkpoint(job, run.best_checkpoint)))
    raw = None
    if averaged(job):
        raw = evaluate_part(job, "test", stop)
        keep_average(job)
    if job.val_loader is not None or evaluation is None or raw:
        evaluation = evaluate_part(job, "test", stop)
    return evaluation, raw


def averaged(job: Job) -> str | None:
    """Return whose average of the weights there is, "ema" or "swa"; None where none was taken."""
    if isinstance(job.average, EMA):
        return "ema"
    return "swa" if isinstance(job.average, SWA) and job.average.count else None


def keep_average(job: Job) -> None:
    """Put the average of the weights in the place of the network's own for good.

    The statistics of batch norm are those of the average: averaged too (EMA), or estimated anew on an epoch of training
    images (SWA).
    """
    with job.average.apply():
        if isinstance(job.average, SWA):
            epoch = job.train_loader.epoch(job.config.train.epochs)
            with job.precision.autocast():
                reestimate_bn(job.model, (batch.images for batch in epoch))
            job.world.mean_(statistics(job.update.norms))
        kept = {name: tensor.clone() for name, tensor in job.model.state_dict().items()}
    job.model.load_state_dict(kept)


def over(job: Job, state: State) -> bool:
    """Return whether all epochs, or `max_steps` and the epoch that they end in, are done, or patience is at its end."""
    return (
        stopped_early(job, state)
        or state.epoch == job.config.train.epochs
        or (state.step == job.config.train.max_steps and not state.meter.steps)
    )


def stopped_early(job: Job, state: State) -> bool:
    """Return whether validation has not improved for `patience_epochs`."""
    patience = job.config.train.patience_epochs
    return patience is not None and state.best is not None and state.epoch - state.best["epoch"] >= patience


def create_step(
    job: Job, forward: Callable[[Tensor], Any], record: Record[tuple[Tensor, Tensor]] | None = None
) -> Callable[[Feed], tuple[Tensor, Tensor]]:
    """Return the step: what a batch is made of -> its mean loss [] and how many of its images were wrong [].

    All of it is on the device: augmentation, network, loss, gradients, optimiser, an average of the weights that moves
    with every step. On CUDA it is a graph, with train.cuda_graph, or what else `record` makes of it. The learning rate,
    the average's weight and the generators' seed are set before.
    """

    def step(feed: Feed) -> tuple[Tensor, Tensor]:
        batch = job.train_loader.batch(feed)
        loss, logits = move(forward, job.optimizer, batch, job.update)
        if averages_every_step(job):
            job.average.move()
        return job.world.of_step(loss, errors(logits, batch.labels))

    if record is None and job.device.type == "cuda" and job.config.train.cuda_graph:
        record = cuda_graph
    if record:
        optim.make_capturable(job.optimizer, job.device)
    return Replayed(step, record)


def averages_every_step(job: Job) -> bool:
    """Return whether the average of the weights takes in every update."""
    return job.average_every == 1 and job.average_after == 0


def one_epoch(
    job: Job,
    run: RunDir,
    state: State,
    step: Callable[[Feed], tuple[Tensor, Tensor]],
    stop: Stop,
    progress: Progress,
) -> Evaluation | None:
    """Train what is left of the epoch under way, then evaluate if it is due."""
    train, loader = job.config.train, job.train_loader
    check(job, stop)
    clock = time.perf_counter()
    feeds = loader.feeds(state.epoch, start_batch=state.step - state.epoch * len(loader))
    for feed in islice(feeds, train.max_steps and train.max_steps - state.step):
        seed_network(job.device, generator(train.seed, "step", state.step).initial_seed())
        lr = job.config.optim.lr * job.schedule(state.step)
        optim.set_lr(job.optimizer, lr)
        if averages_every_step(job):
            job.average.prepare(state.step)
        loss, wrong = step(feed)
        state.meter.add(loss, wrong, images=loader.images_in(feed))
        state.step += 1
        if not averages_every_step(job) and state.step > job.average_after and state.step % job.average_every == 0:
            job.average.update(state.step - 1)
        state.epoch_seconds, clock = state.epoch_seconds + time.perf_counter() - clock, time.perf_counter()
        if progress.due():
            refuse_divergence(job, run, state)
            progress.step(snapshot(job, state, lr))
        check(job, stop)
    refuse_divergence(job, run, state)  # waits for the device, so that the clock counts all of its work
    state.epoch_seconds += time.perf_counter() - clock
    last = state.epoch + 1 == train.epochs or state.step == train.max_steps
    if last or (state.epoch + 1) % train.eval_every_epochs == 0:
        with job.average.apply() if isinstance(job.average, EMA) else contextlib.nullcontext():
            return evaluate_part(job, "test" if job.val_loader is None else "val", stop)
    return None


def check(job: Job, stop: Stop) -> None:
    """Raise StopRequested where a stop was asked for, of any of the processes."""
    if job.world.any(stop.requested):
        raise StopRequested


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
    settings = job.config.evaluation
    if part == "val":
        settings = settings.model_copy(update={"test_mode": "eval"})
    return evaluate(
        job.model,
        loader,
        classes=job.classes,
        dataset=job.dataset.name,
        precision=job.precision,
        settings=settings,
        stop=stop,
        world=job.world,
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
    if job.world.leads:
        runs.append(run, row)
    if job.val_loader is not None and evaluation is not None:
        by_images = train.select_mean == "images"
        top1 = evaluation.top(1) if by_images else evaluation.top1_of_batches(job.val_loader.batch_size)
        if not state.best or top1 > state.best["val_top1"]:
            state.best = {"epoch": state.epoch + 1, "val_top1": top1}
            save(job, run, state, path=run.best_checkpoint)
    state.epoch, state.epoch_seconds = state.epoch + 1, 0.0
    state.meter = TrainMeter(steps=steps, device=job.device)
    if state.epoch % train.save_every_epochs == 0 or over(job, state):
        save(job, run, state)
    return row


def refuse_divergence(job: Job, run: RunDir, state: State) -> None:
    """Raise Diverged if a loss of the epoch under way, or a weight, is not finite. Reads the device."""
    bad = state.meter.first_bad_step()
    if bad is None and checkpoint.finite(chain(job.model.parameters(), job.model.buffers())):
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
    if job.world.leads:
        checkpoint.save(path or run.last_checkpoint, content(job, state))


def compiled(job: Job) -> Callable[[Tensor], Any]:
    """Return the network's forward in training, through torch.compile where the configuration asks for it."""
    plain: Callable[[Tensor], Any] = job.model
    if job.update.auxiliary_weights:
        plain = job.model.forward_with_auxiliary  # type: ignore[assignment]
    if not job.config.train.compile:
        return plain
    # Static shapes: with dynamic ones, which kernels run depends on the batch sizes seen before, and a resume has seen
    # others than the uninterrupted run.
    with compiler_explained():
        forward: Callable[[Tensor], Any] = torch.compile(plain, dynamic=False)

    def explained(images: Tensor) -> Any:
        with compiler_explained():
            return forward(images)

    return explained


@contextlib.contextmanager
def compiler_explained() -> Iterator[None]:
    """Turn what torch's compiler raises, or the file system under it, into a UserError."""
    try:
        yield
    except (RuntimeError, OSError) as error:
        if isinstance(error, RuntimeError):
            from torch._dynamo.exc import TorchDynamoException

            if not isinstance(error, TorchDynamoException):
                raise
        reason = str(error).partition("\n")[0]
        raise UserError(
            f"train.compile: torch cannot compile the network here ({reason}); its CPU back end needs "
            "a C++ compiler and a directory to write in; or train with train.compile=false"
        ) from error


def seed_network(device: torch.device, seed: int) -> None:
    """Seed the generators that the network's own random layers draw from.

    torch.manual_seed does the same for every back end and takes 180 microseconds a call; this takes one.
    """
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.default_generators[device.index or 0].manual_seed(seed)
