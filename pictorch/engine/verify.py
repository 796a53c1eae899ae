"""The proof that a run which is killed and resumed ends with the bits of the uninterrupted one: kills, and comparison.

A session of the run is one or more processes that keep a `Journal`, a byte for every step, so that whoever kills them
knows where the run is. A kill leaves the journal and the run directory as they were at that moment; from both is read
what it hit.
"""

import contextlib
import math
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import load_file

from pictorch import runs
from pictorch.config import Config, UserError
from pictorch.engine import checkpoint
from pictorch.engine.build import Job, build
from pictorch.engine.estimate import estimate
from pictorch.engine.memory import enough_memory
from pictorch.engine.progress import Silent
from pictorch.runs import RunDir

CLOCKS = ("seconds", "images_per_second", "train_seconds", "peak_memory_bytes", "finished")
PLACES = ("commit", "torch", "device")  # of the last session
SECONDS_BETWEEN_LOOKS = 0.002
LONGEST_END = 120.0  # seconds that the processes of a run may take to end after one of them was killed
MOST_SECONDS, EPOCHS = 60.0, 10  # of a run that is made shorter
BEGUN, STEP, EPOCH, TRAINED = b"b", b"s", b"e", b"t"


class Journal(Silent):
    """Writes to a file where a session is: the process's number, then a byte an event."""

    def __init__(self, path: Path) -> None:
        self.file = path.open("wb", buffering=0)
        self.file.write(f"{os.getpid()}\n".encode())

    def start(self, job: Job, run: RunDir) -> None:
        self.file.write(BEGUN)

    def due(self) -> bool:
        self.file.write(STEP)
        return False

    def epoch(self, row: dict[str, Any]) -> None:
        self.file.write(EPOCH)

    def close(self) -> None:
        self.file.write(TRAINED)


@dataclass(frozen=True)
class Aim:
    """When to kill: this share of the epoch's time into it, while a checkpoint of it is written, this share of the time
    that starting or writing the results takes."""

    what: Literal["moment", "checkpoint", "start", "results"]
    epoch: int = 0
    share: float = 0.0


@dataclass(frozen=True)
class Hit:
    """Where a kill hit: after so many of the run's steps, in this epoch (from 1 on), and what was going on."""

    epoch: int
    step: int
    phase: str
    whom: str


@dataclass(frozen=True)
class Pace:
    """The uninterrupted run: the steps done after each epoch, and seconds of a step, an epoch, its start, its end."""

    ends: tuple[int, ...]
    step: float
    epoch: float
    start: float
    results: float


def aims(kills: int, epochs: int, chance: random.Random) -> list[Aim]:
    """Return when to kill a run: mostly uniform over its time, a fifth while it writes a checkpoint, a tenth while it
    starts, and one while it writes its results; in an order in which the run gets to each."""
    starts, checkpoints, results = kills // 10, kills // 5, int(kills >= 5)
    timed = [moment(epochs, chance) for _ in range(kills - starts - checkpoints - results)]
    timed += [Aim("checkpoint", chance.randrange(epochs)) for _ in range(checkpoints)]
    timed.sort(key=lambda aim: (aim.epoch, 1.0 if aim.what == "checkpoint" else aim.share))
    for _ in range(starts):
        timed.insert(chance.randrange(len(timed) + 1), Aim("start", share=chance.random()))
    return timed + [Aim("results", share=chance.random())] * results


def moment(epochs: int, chance: random.Random) -> Aim:
    """Return a moment in a run of so many epochs."""
    return Aim("moment", chance.randrange(epochs), chance.random())


class Session:
    """Processes that train the run in `run` to its end, unless they are killed: `command` starts them.

    They write `journal`, and each further one of several `journal` with its rank as ending.
    """

    def __init__(self, command: Sequence[str], run: RunDir, journal: Path, *, processes: int) -> None:
        self.run, self.first_step = run, last_step(run)
        self.journals = [journal.with_suffix(f".{rank}") for rank in range(processes)]
        for path in self.journals:
            path.unlink(missing_ok=True)
        self.errors = journal.with_suffix(".errors")
        self.started = time.perf_counter()
        with self.errors.open("wb") as errors:
            self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors)

    def numbers(self) -> list[int]:
        """Return the numbers of the processes that have begun to write their journals."""
        lines = [path.read_text().partition("\n") for path in self.journals if path.exists()]
        return [int(number) for number, newline, _ in lines if newline]

    def events(self) -> bytes:
        """Return what the first process has written so far."""
        return self.journals[0].read_bytes().partition(b"\n")[2] if self.journals[0].exists() else b""

    def wait(self, reached: Callable[[], bool], *, between: float = SECONDS_BETWEEN_LOOKS) -> bool:
        """Wait until something is reached; return False where the processes ended before."""
        while not reached():
            if self.process.poll() is not None:
                return False
            time.sleep(between)
        return True

    def step(self) -> int:
        """Return how many steps of the run are done; 0 before the session has taken one."""
        taken = self.events().count(STEP)
        return self.first_step + taken if taken else 0

    def reach(self, aim: Aim, pace: Pace) -> bool:
        """Wait for the moment to kill; return False where the run ended before."""
        if aim.what == "start":
            end = self.started + aim.share * pace.start
            known = self.wait(lambda: len(self.numbers()) == len(self.journals))
            return known and self.wait(lambda: time.perf_counter() >= end or BEGUN in self.events())
        if aim.what == "results":
            return self.wait(lambda: TRAINED in self.events()) and self.pause(aim.share * pace.results)
        before = pace.ends[aim.epoch - 1] if aim.epoch else 0
        if aim.what == "checkpoint":
            # Whatever checkpoint comes next, where that one was written between two looks.
            return self.wait(lambda: self.step() >= pace.ends[aim.epoch]) and self.wait(self.stopped, between=0)
        steps = min(int(aim.share * pace.epoch / pace.step), pace.ends[aim.epoch] - before)
        rest = aim.share * pace.epoch - steps * pace.step
        return self.wait(lambda: self.step() >= max(1, before + steps)) and self.pause(rest)

    def writing(self) -> bool:
        """Return whether last.ckpt is being written."""
        return any(name.startswith(f".{self.run.last_checkpoint.name}.") for name in os.listdir(self.run.path))

    def stopped(self) -> bool:
        """Stop the processes while last.ckpt is being written; return whether that came in time, else they go on."""
        if not self.writing():
            return False
        self.send(signal.SIGSTOP)
        time.sleep(SECONDS_BETWEEN_LOOKS)  # a rename that is under way is done first
        if not self.writing():
            self.send(signal.SIGCONT)
            return False
        return True

    def send(self, number: signal.Signals, rank: int | None = None) -> None:
        """Send a signal to one of the processes, or to all."""
        found = self.numbers()
        for process in found if rank is None else found[rank : rank + 1]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, number)

    def pause(self, seconds: float) -> bool:
        time.sleep(seconds)
        return self.process.poll() is None

    def kill(self, rank: int | None) -> None:
        """Send SIGKILL to one of the processes, or to all and what started them; wait until they have ended."""
        self.send(signal.SIGKILL, rank)
        if rank is None:
            self.process.kill()
        self.send(signal.SIGCONT)
        self.end()

    def end(self) -> int:
        """Wait for the processes' end; return the exit status. Raises UserError where they do not end."""
        try:
            return self.process.wait(timeout=LONGEST_END)
        except subprocess.TimeoutExpired:
            self.send(signal.SIGKILL)
            self.process.kill()
            raise UserError(f"{self.run.path}: {LONGEST_END:.0f} s after a kill the others had not ended") from None

    def hit(self, ends: Sequence[int], whom: str) -> Hit:
        """Return what a kill has hit, from what it left."""
        events, rows = self.events(), len(runs.read_metrics(self.run))
        step = self.first_step + events.count(STEP)
        done = sum(end <= step for end in ends)
        closing = events.endswith(STEP) and step in ends  # the steps of an epoch are done, and not yet all of it
        half = [path.name for path in self.run.path.glob(f".*{runs.PARTIAL}")] if self.run.path.is_dir() else []
        if BEGUN not in events:
            phase = "starting"
        elif half:
            phase = f"writing {half[0][1:].rpartition(runs.PARTIAL)[0].rpartition('.')[0]}"
        elif TRAINED in events:
            phase = "writing the results"
        elif closing:
            phase = "evaluating" if rows < done else "between the row and the checkpoint"
        else:
            phase = "training"
        return Hit(done if closing else min(done + 1, len(ends)), step, phase, whom)


def last_step(run: RunDir) -> int:
    """Return at which step a run was saved last; 0 where it was not."""
    return int(checkpoint.load(run.last_checkpoint)["step"]) if run.last_checkpoint.exists() else 0


def uninterrupted(start: Callable[[RunDir], Session], run: RunDir) -> Pace:
    """Train the run in one session; return its pace. Raises UserError with what the session said where it failed."""
    session = start(run)
    session.wait(lambda: BEGUN in session.events())
    begun = time.perf_counter() - session.started
    session.wait(lambda: TRAINED in session.events())
    trained = time.perf_counter()
    finished(session)
    results = time.perf_counter() - trained
    rows, result = runs.read_metrics(run), runs.read_result(run)
    ends = tuple(int(row["step"]) for row in rows)
    step = sum(row["seconds"] for row in rows) / ends[-1]
    # A process that has written its results needs a while to end, and the first one draws its curves more slowly.
    return Pace(ends, step, result["train_seconds"] / len(rows), begun, results / 4)


def finished(session: Session) -> None:
    """Wait for a session's end. Raises UserError with what it said where it failed."""
    if session.end() != 0:
        said = session.errors.read_text(errors="replace").strip()
        raise UserError(f"{session.run.path}: a session failed: {said.removeprefix('error: ') or 'without a word'}")


def killed(
    start: Callable[[RunDir], Session],
    run: RunDir,
    pace: Pace,
    left: list[Aim],
    chance: random.Random,
    told: Callable[[Hit], None],
) -> None:
    """Train the run in sessions that are killed where `left` says, until it ends; takes from `left` what was hit.

    Raises UserError where a session fails.
    """
    while left:
        session = start(run)
        if not session.reach(left[0], pace):
            finished(session)
        else:
            several = len(session.journals)
            rank = chance.randrange(several) if several > 1 and chance.random() < 0.5 else None
            whom = "" if several == 1 else "all processes" if rank is None else f"process {rank}"
            session.send(signal.SIGSTOP)  # so that none goes on while it is read what is hit
            try:
                time.sleep(SECONDS_BETWEEN_LOOKS)
                hit = session.hit(pace.ends, whom)
                session.kill(rank)
            finally:
                session.send(signal.SIGCONT)
        if run.result.exists():  # it ended before its kill, which another run of it gets
            if left[0].what == "results":
                left[0] = replace(left[0], share=left[0].share / 2)
            elif left[0].what == "checkpoint" and left[0].epoch:
                left[0] = replace(left[0], epoch=0)  # any checkpoint of the next run will do
            else:
                left[0] = moment(len(pace.ends), chance)
            return
        left.pop(0)
        told(hit)
    finished(start(run))


def state_of(run: RunDir) -> dict[str, Any]:
    """Return all of a finished run that must be the same to the bit: what it holds but for when and where."""
    checkpoints = [path for path in (run.last_checkpoint, run.best_checkpoint) if path.exists()]
    saved = {path.name: {k: v for k, v in checkpoint.load(path).items() if k != "seconds"} for path in checkpoints}
    rows = [figures(row) for row in runs.read_metrics(run)]
    weights = load_file(run.weights)
    return {
        **saved,
        run.weights.name: weights,
        run.metrics.name: rows,
        run.result.name: figures(runs.read_result(run)),
    }


def figures(row: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key not in (*CLOCKS, *PLACES)}


def first_difference(one: Any, other: Any, name: str = "") -> str | None:
    """Return the first place where two states differ, and how; None where they are the same, bit for bit."""
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return tensor_difference(one, other, name)
    if isinstance(one, dict) and isinstance(other, dict):
        for key in [*one, *(key for key in other if key not in one)]:
            inner = f"{name}.{key}" if name else str(key)
            if key not in one or key not in other:
                return f"{inner} is only in {'the second' if key in other else 'the first'}"
            if found := first_difference(one[key], other[key], inner):
                return found
        return None
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        return first_difference(dict(enumerate(one)), dict(enumerate(other)), name)
    return None if type(one) is type(other) and one == other else f"{name}: {one!r} and {other!r}"


def tensor_difference(one: torch.Tensor, other: torch.Tensor, name: str) -> str | None:
    """Return how two tensors differ, None where they have the same bits."""
    if one.shape != other.shape or one.dtype != other.dtype:
        return f"{name}: {checkpoint.kind(one)} and {checkpoint.kind(other)}"
    bits = [t.contiguous().reshape(-1).view(torch.uint8).view(t.numel(), -1) for t in (one, other) if t.numel()]
    if not bits or torch.equal(*bits):
        return None
    places = (bits[0] != bits[1]).any(1).nonzero().flatten()
    first = int(places[0])
    values = [f"{t.reshape(-1)[first].item():.9g}" for t in (one, other)]
    return (
        f"{name}: {len(places):,} of {one.numel():,} values of {checkpoint.kind(one)}, "
        f"the first at {first}: {values[0]} and {values[1]}"
    )


def tensors(state: Any) -> int:
    """Return how many tensors a state holds."""
    if isinstance(state, dict | list):
        return sum(map(tensors, state.values() if isinstance(state, dict) else state))
    return int(isinstance(state, torch.Tensor))


def shortened(config: Config) -> list[str]:
    """Return the overrides (`key=value`) that make a run of about a minute, of ten epochs, of one that takes longer.

    A few measured steps say how long it takes. Raises UserError as building the run does.
    """
    with enough_memory(config):
        job = build(config)
        with job.process_settings():
            cost = estimate(job)
    if cost.run_seconds <= MOST_SECONDS:
        return []
    images = job.train_loader.images_per_epoch
    wanted = config.train.batch_size * max(2, int(MOST_SECONDS / EPOCHS / 2 / cost.step_seconds))
    changes = [f"train.epochs={min(EPOCHS, config.train.epochs)}"]
    if wanted < images:
        # Rounded up, since a batch less can be none.
        changes.append(f"data.fraction={math.ceil(config.data.fraction * wanted / images * 1e5) / 1e5}")
    return [*changes, f"evaluation.max_images={wanted}"]
