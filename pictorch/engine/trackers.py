"""Where a run's rows go beside metrics.jsonl: TensorBoard, MLflow, Weights & Biases.

A tracker is made at the start of each session of a run, gets every row, and the result once there is one. No training
code knows of it: `Trackers.beside` makes it listen to what a run says anyway. What a tracker raises costs the tracker
and not the run.
"""

import hashlib
import importlib
import json
import logging
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pictorch import runs
from pictorch.config import to_dict
from pictorch.config.schema import Track, flatten
from pictorch.runs import RunDir

if TYPE_CHECKING:
    from pictorch.engine.build import Job
    from pictorch.engine.progress import Progress, Snapshot

PROJECT = "pictorch"  # MLflow's experiment and W&B's project, unless their own environment variables name one
MLFLOW_STORE = "mlflow.db"  # in the working directory
MOST_PARAMETERS = 100  # that MLflow takes at a time
PACKAGES = {"tensorboard": ("tensorboardX", "tb"), "mlflow": ("mlflow", "mlflow"), "wandb": ("wandb", "wandb")}


@dataclass(frozen=True)
class Session:
    """What a tracker is told of a run at the start of a session.

    `identity` is the same in all sessions of a run and in no other run; `settings` are the configuration's keys.
    """

    run: RunDir
    identity: str
    name: str
    settings: dict[str, Any]


class Tracker(Protocol):
    """One place where rows go."""

    def epoch(self, row: dict[str, Any]) -> None:
        """An epoch is over; `row` is its line of metrics.jsonl."""

    def finish(self, result: dict[str, Any]) -> None:
        """The run is finished; `result` is its result.json."""

    def close(self) -> None:
        """No more rows in this session, whether the run is finished or not."""


class TensorBoard:
    """TensorBoard event files with a curve for every number of the rows."""

    def __init__(self, directory: Path, *, first_epoch: int) -> None:
        from tensorboardX import SummaryWriter

        # purge_step: a resumed run writes some epochs again; the viewer then drops what the killed one had written.
        self.writer = SummaryWriter(str(directory), purge_step=first_epoch, write_to_disk=True)

    def epoch(self, row: dict[str, Any]) -> None:
        for key, value in row.items():
            if key not in ("epoch", "step") and value is not None:
                group = key.partition("_")[0] if key.startswith(("train_", "val_", "test_")) else "run"
                self.writer.add_scalar(f"{group}/{key}", value, row["epoch"])
        self.writer.flush()

    def finish(self, result: dict[str, Any]) -> None: ...

    def close(self) -> None:
        self.writer.close()


class MLflow:
    """A run of an MLflow store: settings as parameters, rows as metrics with the epoch as step, the result beside."""

    def __init__(self, session: Session, uri: str | None) -> None:
        # A server that is gone is tried for seconds, not for the two minutes that are MLflow's own way.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        from mlflow import MlflowClient
        from mlflow.entities import Metric, Param, RunTag

        self.Metric, self.Tag = Metric, RunTag
        for name in ("mlflow", "alembic"):
            logging.getLogger(name).setLevel(logging.WARNING)
        own = f"sqlite:///{Path(MLFLOW_STORE).absolute()}"
        self.client = MlflowClient(uri or os.environ.get("MLFLOW_TRACKING_URI") or own)
        experiment = self.experiment(os.environ.get("MLFLOW_EXPERIMENT_NAME") or PROJECT)
        self.status, self.logged = "KILLED", 0
        found = self.client.search_runs([experiment], f"tags.pictorch_run = '{session.identity}'")
        if found:
            self.id = found[0].info.run_id
            history = self.client.get_metric_history(self.id, "train_loss")
            self.logged = max((metric.step for metric in history), default=0)
            self.client.update_run(self.id, status="RUNNING")
            return
        tags = {"pictorch_run": session.identity, "run_dir": str(session.run.path.absolute())}
        self.id = self.client.create_run(experiment, run_name=session.name, tags=tags).info.run_id
        settings = [Param(key, str(value)) for key, value in session.settings.items()]
        for start in range(0, len(settings), MOST_PARAMETERS):
            self.client.log_batch(self.id, params=settings[start : start + MOST_PARAMETERS])

    def experiment(self, name: str) -> str:
        """Return the number of the experiment, which is made where it is not there."""
        from mlflow.exceptions import MlflowException

        if found := self.client.get_experiment_by_name(name):
            return str(found.experiment_id)
        try:
            return str(self.client.create_experiment(name))
        except MlflowException:  # another run of a sweep has just made it
            if found := self.client.get_experiment_by_name(name):
                return str(found.experiment_id)
            raise

    def epoch(self, row: dict[str, Any]) -> None:
        if row["epoch"] > self.logged:  # a resumed run writes some epochs again, with the same figures
            self.log({key: value for key, value in row.items() if key != "epoch"}, row["epoch"])

    def finish(self, result: dict[str, Any]) -> None:
        numbers = {key: value for key, value in result.items() if isinstance(value, int | float)}
        self.log({f"result/{key}": value for key, value in numbers.items()}, result["epochs"])
        words = {key: value for key, value in result.items() if isinstance(value, str)}
        self.client.log_batch(self.id, tags=[self.Tag(key, value) for key, value in words.items()])
        self.status = "FINISHED"

    def log(self, values: dict[str, Any], epoch: int) -> None:
        now = int(time.time() * 1000)
        self.client.log_batch(self.id, metrics=[self.Metric(k, float(v), now, epoch) for k, v in values.items()])

    def close(self) -> None:
        self.client.set_terminated(self.id, self.status)


class WandB:
    """A run of Weights & Biases: settings as its configuration, rows as its history over the epoch, the result."""

    def __init__(self, session: Session, *, offline: bool) -> None:
        import wandb

        # create_new: several runs may be trained in threads of one process.
        settings = wandb.Settings(console="off", silent=True, reinit="create_new", disable_git=True)
        self.run = wandb.init(
            project=os.environ.get("WANDB_PROJECT") or PROJECT,
            dir=session.run.path.absolute(),  # W&B's own process has another working directory
            id=session.identity,
            resume=None if offline else "allow",
            name=session.name,
            config=session.settings,
            mode="offline" if offline else None,
            settings=settings,
        )
        self.run.define_metric("*", step_metric="epoch")
        self.status = 1

    def epoch(self, row: dict[str, Any]) -> None:
        self.run.log(row)

    def finish(self, result: dict[str, Any]) -> None:
        self.run.summary.update({f"result/{key}": value for key, value in result.items()})
        self.status = 0

    def close(self) -> None:
        self.run.finish(exit_code=self.status)


class Trackers:
    """The trackers of a run in one session; one that fails is left out from then on, with a note."""

    def __init__(self, wanted: dict[str, Callable[[], Tracker]], note: Callable[[str], None]) -> None:
        self.note, self.trackers = note, dict[str, Tracker]()
        for name, create in wanted.items():
            try:
                self.trackers[name] = create()
            except Exception as error:
                self.give_up(name, error)

    def give_up(self, name: str, error: Exception) -> None:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        self.note(f"track.{name}: {reason[:200]}; the run goes on without it")

    def tell(self, what: str, *values: Any) -> None:
        for name, tracker in list(self.trackers.items()):
            try:
                getattr(tracker, what)(*values)
            except Exception as error:
                del self.trackers[name]
                self.give_up(name, error)

    def finish(self, result: dict[str, Any]) -> None:
        """Tell the finished run's result.json."""
        self.tell("finish", result)

    def close(self) -> None:
        """End the session."""
        self.tell("close")

    def beside(self, listener: "Progress") -> "Progress":
        """Return what passes on to the listener all that a run says, and its rows to the trackers, too."""
        return Beside(listener, self) if self.trackers else listener


class Beside:
    """A listener with trackers beside it."""

    def __init__(self, listener: "Progress", trackers: Trackers) -> None:
        self.listener, self.trackers = listener, trackers

    def note(self, text: str) -> None:
        self.listener.note(text)

    def start(self, job: "Job", run: RunDir) -> None:
        self.listener.start(job, run)

    def due(self) -> bool:
        return self.listener.due()

    def step(self, snapshot: "Snapshot") -> None:
        self.listener.step(snapshot)

    def epoch(self, row: dict[str, Any]) -> None:
        self.listener.epoch(row)
        self.trackers.tell("epoch", row)

    def close(self) -> None:
        self.listener.close()


def missing(track: Track) -> Iterator[tuple[str, str]]:
    """Yield (key, what is wrong) of each tracker that is asked for and whose package is not there."""
    for name, asked in track:
        package, extra = PACKAGES[name]
        if asked and asked != "auto" and not there(package):
            yield (
                f"track.{name}",
                f"{package} is missing; `python -m pip install 'pictorch[{extra}]'`, or set it to false",
            )


def there(package: str) -> bool:
    """Return whether a package can be imported."""
    try:
        importlib.import_module(package)
    except ImportError:
        return False
    return True


def create(job: "Job", run: RunDir, *, first_epoch: int, note: Callable[[str], None]) -> Trackers:
    """Return the trackers that the job's configuration asks for, for a session of its run in this directory.

    Of several processes that train the run only the first has any.
    """
    track = job.config.track
    if not job.world.leads:
        return Trackers({}, note)
    env = {key: value for key, value in runs.read_json(run.env).items() if key != "resumed"}
    begun = json.dumps(env, sort_keys=True).encode() + run.config.read_bytes()
    session = Session(
        run=run,
        identity=hashlib.sha256(begun).hexdigest()[:16],
        name=f"{env.get('recipe', 'custom')}, seed {job.config.train.seed}",
        settings={key: value for key, value in flatten(to_dict(job.config)).items() if value is not None},
    )
    wanted: dict[str, Callable[[], Tracker]] = {}
    if track.tensorboard is True or (track.tensorboard and there("tensorboardX")):
        wanted["tensorboard"] = lambda: TensorBoard(run.tensorboard, first_epoch=first_epoch)
    if track.mlflow:
        wanted["mlflow"] = lambda: MLflow(session, track.mlflow if isinstance(track.mlflow, str) else None)
    if track.wandb:
        wanted["wandb"] = lambda: WandB(session, offline=track.wandb == "offline")
    return Trackers(wanted, note)
