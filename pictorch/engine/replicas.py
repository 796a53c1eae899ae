"""Several runs of one recipe at once: other seeds, or other learning rates. Each ends as the run that it is alone.

On a CPU each is a process, of one thread, so that none waits for another's. On a GPU, which a small network does not
fill, they are threads of one process, each with a CUDA stream of its own, over one copy of the images.
"""

import contextlib
import io
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from pictorch import runs
from pictorch.config import Config, UserError
from pictorch.data.loader import ResidentLoader
from pictorch.engine import inputs
from pictorch.engine.build import Job, build
from pictorch.engine.estimate import Estimate, estimate
from pictorch.engine.interrupt import Interrupted, Stop, StopRequested, catch_signals
from pictorch.engine.progress import Progress, Silent, Snapshot
from pictorch.runs import RunDir

POLL_SECONDS = 0.1
# Of a GPU's free memory: the allocator's blocks do not fit each other without a rest.
USABLE_SHARE = 0.9
Row = dict[str, Any]  # a result.json


@dataclass(frozen=True)
class Replica:
    """One of the runs; `name` is what tells it from the others: "seed 3", "lr 0.1"."""

    name: str
    config: Config
    run: RunDir


@dataclass(frozen=True)
class Outcome:
    """What became of a replica: its result, or why it failed (`mistake`: the user can mend it), or neither: stopped."""

    replica: Replica
    row: Row | None = None
    failure: str | None = None
    mistake: bool = False

    @property
    def stopped(self) -> bool:
        return self.row is None and self.failure is None


class Listener(Protocol):
    """Who hears of all replicas."""

    between: float
    """Seconds from one Snapshot of a replica to the next"""

    def start(self, job: Job, group: Sequence[Replica], at_once: int) -> None:
        """The replicas are about to be trained, `at_once` at a time; `job` is the first one's."""

    def of(self, replica: Replica) -> Progress:
        """Return who hears of this replica, from a thread of its own; its `start` is not called."""

    def end(self, outcome: Outcome) -> None:
        """A replica has ended; called in its thread."""

    def close(self) -> None:
        """All have ended."""


class Quiet:
    """Nobody listens."""

    between = float("inf")

    def start(self, job: Job, group: Sequence[Replica], at_once: int) -> None: ...

    def of(self, replica: Replica) -> Progress:
        return Silent()

    def end(self, outcome: Outcome) -> None: ...

    def close(self) -> None: ...


class Failed(UserError):
    """Some replicas failed, the others are finished; `outcomes` are those of all."""

    def __init__(self, outcomes: Sequence[Outcome]) -> None:
        self.outcomes = outcomes
        failed = [outcome for outcome in outcomes if outcome.failure]
        self.mistake = all(outcome.mistake for outcome in failed)
        super().__init__("\n  ".join([f"{len(failed)} of {len(outcomes)} replicas failed:", *map(why, failed)]))


class Lost(Exception):
    """A replica's process ended without a result."""


class Broken(Lost):
    """A fault of ours ended a replica's process, which has told it: it would end so again."""


def several(config: Config) -> bool:
    """Return whether a configuration is that of replicas, and not of one run."""
    return config.train.replicas > 1 or config.train.replica_lrs is not None


def configurations(config: Config) -> dict[str, Config]:
    """Return the configuration that each replica has alone, under its name."""
    train, lrs = config.train, config.train.replica_lrs

    def alone(seed: int, lr: float) -> Config:
        one = train.model_copy(update={"seed": seed, "replicas": 1, "replica_lrs": None})
        return config.model_copy(update={"train": one, "optim": config.optim.model_copy(update={"lr": lr})})

    if lrs:
        return {f"lr {lr}": alone(train.seed, lr) for lr in lrs}
    seeds = range(train.seed, train.seed + train.replicas)
    return {f"seed {seed}": alone(seed, config.optim.lr) for seed in seeds}


@contextlib.contextmanager
def reserved(config: Config, recipe: str) -> Iterator[list[Replica]]:
    """Yield the replicas, each with a fresh directory under `runs/`; those that stay empty are removed at the end."""
    group: list[Replica] = []
    try:
        for name, alone in configurations(config).items():
            path = runs.default_path(recipe, alone.train.seed)
            runs.check_new(path)
            with runs.explained(path):
                path.mkdir(parents=True)
            group.append(Replica(name, alone, RunDir(path)))
        yield group
    finally:
        for replica in group:
            with contextlib.suppress(OSError):
                os.removedirs(replica.run.path)


def train_all(
    group: Sequence[Replica],
    work: Callable[[Replica], Row],
    *,
    at_once: int,
    stop: Stop,
    listener: Listener,
    ask: Callable[[], None] = lambda: None,
    kill: Callable[[], None] = lambda: None,
) -> list[Outcome]:
    """Return what became of each replica. `work` trains one, in a thread of its own, and returns its result.

    Once `stop` is set no further replica is begun, and `ask` is called, again and again, to pass it on; a second Ctrl-C
    calls `kill`.
    """

    def attempt(replica: Replica) -> Outcome:
        if stop.requested:
            return Outcome(replica)
        try:
            outcome = Outcome(replica, row=work(replica))
        except StopRequested:
            outcome = Outcome(replica)
        except UserError as error:
            outcome = Outcome(replica, failure=str(error), mistake=True)
        except Lost as error:
            outcome = Outcome(replica, failure=None if stop.requested else str(error))
        # Whatever goes wrong with one, the others go on.
        except Exception as error:
            traceback.print_exc()
            outcome = Outcome(replica, failure=f"{type(error).__name__}: {error}")
        listener.end(outcome)
        return outcome

    with ThreadPoolExecutor(at_once) as pool:
        futures = [pool.submit(attempt, replica) for replica in group]
        try:
            while wait(futures, timeout=POLL_SECONDS).not_done:
                if stop.requested:
                    ask()
        except KeyboardInterrupt:
            kill()
    return [future.result() for future in futures]


def finished(outcomes: Sequence[Outcome]) -> list[Row]:
    """Return the results of replicas that are all finished.

    Raises Interrupted, which says how to go on with each, when some were stopped, else Failed when some failed.
    """
    if any(outcome.stopped for outcome in outcomes):
        raise interrupted(outcomes)
    if any(outcome.failure for outcome in outcomes):
        raise Failed(outcomes)
    return [outcome.row for outcome in outcomes if outcome.row is not None]


def interrupted(outcomes: Sequence[Outcome]) -> KeyboardInterrupt:
    """Return what says of each replica where it is and how to go on; without a word where none had begun."""
    begun = [outcome for outcome in outcomes if outcome.replica.run.config.exists()]
    if not begun:
        return KeyboardInterrupt()
    lines = ["stopped on request"]
    if stopped := [outcome.replica for outcome in begun if outcome.stopped]:
        lines = ["stopped on request; continue each with"]
        lines += [f"  `{replica.run.resume_command()}` ({replica.name})" for replica in stopped]
    lines += [f"failed: {why(outcome)}" for outcome in outcomes if outcome.failure]
    lines += [f"finished: {outcome.replica.name} in {outcome.replica.run.path}" for outcome in begun if outcome.row]
    if left := [outcome.replica.name for outcome in outcomes if outcome.stopped and outcome not in begun]:
        lines.append(f"not begun: {', '.join(left)}")
    return Interrupted("\n".join(lines))


def why(outcome: Outcome) -> str:
    """Return which replica failed, where its directory is, and why."""
    replica = outcome.replica
    where = f" in {replica.run.path}" if replica.run.config.exists() else ""
    return f"{replica.name}{where}: {outcome.failure}"


# Processes: a parent speaks to the process of a replica, or of several one after another, through its standard input
# and output.


@dataclass(frozen=True)
class Request:
    """What a process is to do, and what it must know of the command that began it: to train in the directory `run`,
    from where that is, or without one to measure what a run costs."""

    config: Config
    recipe: str
    run: RunDir | None
    together: int
    between: float
    argv: Sequence[str]


class Teller(Silent):
    """Passes on what a replica's process has to say, as (name of a method of Progress, its argument)."""

    def __init__(self, tell: Callable[[str, Any], None], between: float) -> None:
        self.tell, self.between, self.told = tell, between, time.perf_counter()

    def note(self, text: str) -> None:
        self.tell("note", text)

    def due(self) -> bool:
        return time.perf_counter() - self.told >= self.between

    def step(self, snapshot: Snapshot) -> None:
        self.told = time.perf_counter()
        self.tell("step", snapshot)

    def epoch(self, row: dict[str, Any]) -> None:
        self.told = time.perf_counter()
        self.tell("epoch", row)


class Processes:
    """Processes that train one run after another, so that what a process needs to start is paid once.

    `command` is that of one, in which `serve` has to be called. Each call of `train` or `measure` takes one that has
    nothing to do, or starts one; `together` is how many there are to be at a time.
    """

    def __init__(self, command: Sequence[str], *, together: int, between: float = float("inf")) -> None:
        self.command, self.together, self.between = command, together, between
        self.running: list[subprocess.Popen[bytes]] = []
        self.idle: list[subprocess.Popen[bytes]] = []
        self.stopping, self.lock = False, threading.Lock()

    def train(self, config: Config, run: RunDir, recipe: str, progress: Progress) -> Row:
        """Train a run in a process; return its result.

        Raises as the process did: StopRequested, UserError, Broken; Lost where it ended without a word.
        """
        return dict(self.answer(Request(config, recipe, run, self.together, self.between, sys.argv), progress))

    def measure(self, config: Config) -> tuple[float, Estimate]:
        """Return the seconds that building a run takes in a process, and what its steps do. Raises as `train` does."""
        seconds, cost = self.answer(Request(config, "", None, self.together, self.between, sys.argv), Silent())
        return seconds, cost

    def answer(self, request: Request, progress: Progress) -> Any:
        process = self.free()
        assert process.stdin
        with self.lock:
            if self.stopping:
                raise StopRequested
            with contextlib.suppress(BrokenPipeError):  # it ended already; how is seen below
                os.write(process.stdin.fileno(), pickle.dumps(request))
        last, value = self.listen(process.stdout, progress)
        if last in ("done", "mistake"):
            self.idle.append(process)
            if last == "mistake":
                raise UserError(value)
            return value
        status = self.ended(process)
        if last == "stopped":
            raise StopRequested
        if last == "fault":
            raise Broken(value)
        raise Lost(lost(status, request.run))

    def free(self) -> subprocess.Popen[bytes]:
        """Return a process that waits for a request."""
        with self.lock:
            if self.stopping:
                raise StopRequested
            while self.idle:
                process = self.idle.pop()
                if process.poll() is None:
                    return process
            places = os.pathsep.join(place or os.getcwd() for place in sys.path)
            # In a session of its own: Ctrl-C is sent to all processes of a terminal's, and is the parent's to pass on.
            process = subprocess.Popen(
                self.command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                start_new_session=True,
                env=os.environ | {"PYTHONPATH": places},
            )
            self.running.append(process)
            return process

    def listen(self, stream: Any, progress: Progress) -> tuple[str, Any]:
        """Pass on what a process says; return its last word, ("", None) without one."""
        try:
            while True:
                kind, value = pickle.load(stream)
                if kind not in ("note", "step", "epoch"):
                    return kind, value
                getattr(progress, kind)(value)
        except (EOFError, pickle.UnpicklingError):
            return "", None
        finally:
            progress.close()

    def ask_to_stop(self) -> None:
        """Close the processes' standard input, which they take for a request to stop."""
        with self.lock:
            self.stopping = True
            for process in self.running:
                if process.stdin and not process.stdin.closed:
                    process.stdin.close()

    def kill(self) -> None:
        for process in self.running:
            process.kill()

    def close(self) -> None:
        """Let all processes end, and wait until they have."""
        self.ask_to_stop()
        for process in self.running:
            self.ended(process)

    def ended(self, process: subprocess.Popen[bytes]) -> int:
        """Return the exit status of a process that ends, once it has."""
        with self.lock:
            if process.stdin and not process.stdin.closed:
                process.stdin.close()
        status = process.wait()
        if process.stdout:
            process.stdout.close()
        return status


def lost(status: int, run: RunDir | None) -> str:
    """Return how a process ended that left no result."""
    how = f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
    then = f"; continue with `{run.resume_command()}`" if run and run.config.exists() else ""
    return f"its process {how}{then}"


def serve(work: Callable[[Request, Progress, Stop], Any]) -> None:
    """Do what standard input asks for, one Request after another, in this process; tell on standard output how it goes.

    The end of standard input is a request to stop: the parent's, or the parent's own end, however it came.
    """
    requests: queue.SimpleQueue[Request | None] = queue.SimpleQueue()
    answers = io.FileIO(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a network prints is no answer

    def tell(kind: str, value: Any) -> None:
        with contextlib.suppress(BrokenPipeError):
            answers.write(pickle.dumps((kind, value)))

    def read(stop: Stop) -> None:
        try:
            while True:
                requests.put(pickle.load(sys.stdin.buffer))
        except EOFError:
            pass
        finally:
            stop.requested = True
            requests.put(None)

    with catch_signals() as stop:
        threading.Thread(target=read, args=(stop,), daemon=True).start()
        while (request := requests.get()) is not None:
            sys.argv = list(request.argv)
            try:
                tell("done", work(request, Teller(tell, request.between), stop))
            except StopRequested:
                tell("stopped", None)
                return
            except UserError as error:
                tell("mistake", str(error))
            except Exception as error:
                traceback.print_exc()
                tell("fault", f"{type(error).__name__}: {error}")
                sys.exit(1)


# Threads: what replicas in one process share, and what they must not.


@dataclass(frozen=True)
class Needs:
    """What a replica needs: bytes of images, which all share, bytes of its own, and whether random numbers."""

    shared_bytes: int
    own_bytes: int
    draws: bool


def why_not_at_once(group: Sequence[Replica]) -> str | None:
    """Return why threads would not end with what the replicas are alone; None where they do.

    Raises UserError when not all that are trained at once fit into a GPU's memory.
    """
    job = build(group[0].config)
    device = job.device
    with job.process_settings():
        needed = needs(job)
    why_not = None
    if needed.draws:
        why_not = "the network draws random numbers in training, and a process has one generator for them"
    # The cast is kept for the second pass, but a pass of any thread that ends clears what is kept: then the gradients
    # of the two are added after they were cast back, and not before.
    if job.precision.name != "fp32" and job.update.loss.views > 1 and not job.update.loss.joint:
        why_not = "each step casts the weights once for two passes, and a process has one place to keep that"
    del job
    if device.type == "cuda":
        torch.cuda.empty_cache()
        refuse_too_many(1 if why_not else len(group), needed, torch.cuda.mem_get_info(device)[0], device)
    return why_not


@contextlib.contextmanager
def on_device(device: torch.device) -> Iterator[None]:
    """Make a GPU this thread's current one, which each thread has for itself."""
    with torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext():
        yield


def needs(job: Job) -> Needs:
    """Return what a run of the job needs, from a few real steps of it; the job is used up.

    A network that draws random numbers in training (dropout, shake-shake) has them from the one generator that a
    process has for a device, so that two such networks cannot be trained at the same time.
    """
    before = generator_states(job.device)
    peak = estimate(job).peak_memory_bytes
    if job.device.type == "cuda":
        peak = torch.cuda.max_memory_reserved(job.device)  # with what the allocator and the graphs keep for themselves
    draws = any(not torch.equal(*states) for states in zip(before, generator_states(job.device), strict=True))
    shared = 0 if job.config.data.split_seed == "run" else sum(tensor.nbytes for tensor in images(job))
    return Needs(shared, peak - shared, draws)


def generator_states(device: torch.device) -> list[Tensor]:
    """Return the states of the generators that a network on the device draws from."""
    return [torch.get_rng_state(), *([torch.cuda.get_rng_state(device)] if device.type == "cuda" else [])]


def images(job: Job) -> list[Tensor]:
    """Return what the job's loaders hold on the device."""
    loaders = (job.train_loader, job.val_loader, job.test_loader)
    return [t for loader in loaders if isinstance(loader, ResidentLoader) for t in (loader.source, loader.labels)]


def build_all(group: Sequence[Replica]) -> dict[str, Job]:
    """Return the replicas' jobs by their names, over one copy of the images."""
    jobs: dict[str, Job] = {}
    for replica in group:
        jobs[replica.name] = build(replica.config)
        share_images(jobs[replica.name], jobs[group[0].name])
    # They were made on the device's default stream; each replica goes on on its own.
    if jobs[group[0].name].device.type == "cuda":
        torch.cuda.synchronize(jobs[group[0].name].device)
    return jobs


def share_images(job: Job, first: Job) -> None:
    """Let the job's loaders serve the images of `first` in the place of their own, where they are the same."""
    if inputs.split_seed(job.config) != inputs.split_seed(first.config):
        return
    job.dataset = first.dataset
    pairs = ((job.train_loader, first.train_loader), (job.val_loader, first.val_loader))
    for own, other in (*pairs, (job.test_loader, first.test_loader)):
        if isinstance(own, ResidentLoader) and isinstance(other, ResidentLoader):
            own.source, own.labels = other.source, other.labels


def refuse_too_many(replicas: int, needed: Needs, free_bytes: int, device: torch.device) -> None:
    """Raise UserError unless so many replicas fit into the device's free memory.

    While a replica is built it has the images twice.
    """
    room = USABLE_SHARE * free_bytes - 2 * needed.shared_bytes
    most = max(0, int(room // max(1, needed.own_bytes)))
    if replicas > most:
        total = 2 * needed.shared_bytes + replicas * needed.own_bytes
        raise UserError(
            f"{replicas} replicas need about {total / 2**30:.3g} GiB, and {device} has "
            f"{free_bytes / 2**30:.3g} GiB free, of which {USABLE_SHARE:.0%} can be used: expected at most {most}"
        )
