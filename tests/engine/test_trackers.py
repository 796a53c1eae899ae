"""Trackers against their real stores: what is written is read back; and a tracker that fails does not end a run."""

import json
import shutil
import struct
from pathlib import Path
from typing import Any

import pytest
from conftest import PressCtrlC, required_in_ci, same, small_config, state_of

from pictorch import api, runs
from pictorch.config import UserError, config_hash
from pictorch.config.schema import Track
from pictorch.engine import trackers
from pictorch.engine.interrupt import Interrupted
from pictorch.engine.progress import Silent
from pictorch.runs import RunDir

pytestmark = pytest.mark.filterwarnings("ignore:.*:DeprecationWarning")  # the packages' own, of one another
RECIPE = "small"


class Notes(Silent):
    def __init__(self) -> None:
        self.said: list[str] = []

    def note(self, text: str) -> None:
        self.said.append(text)


def rows_of(run: RunDir) -> list[dict[str, Any]]:
    return runs.read_metrics(run)


def test_no_tracker_changes_the_hash() -> None:
    plain = config_hash(small_config())
    assert config_hash(small_config().model_copy(update={"track": Track(mlflow="sqlite:///x.db", wandb=True)})) == plain


def test_a_missing_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trackers, "there", lambda package: False)
    with pytest.raises(UserError) as error:
        api.load_config(None, ["track.mlflow=true", "track.wandb=offline", "track.tensorboard=true"])
    assert str(error.value).splitlines() == [
        "command line: track.tensorboard: tensorboardX is missing; `python -m pip install 'pictorch[tb]'`, "
        "or set it to false",
        "command line: track.mlflow: mlflow is missing; `python -m pip install 'pictorch[mlflow]'`, or set it to false",
        "command line: track.wandb: wandb is missing; `python -m pip install 'pictorch[wandb]'`, or set it to false",
    ]
    assert api.load_config(None, ["track.tensorboard=auto"]).track == Track()


@pytest.fixture
def mlflow() -> Any:
    try:
        import mlflow
    except ImportError:
        required_in_ci("mlflow is not installed (extra `mlflow`)")
    return mlflow


def mlflow_store(mlflow: Any, file: str = "mlflow.db") -> Any:
    return mlflow.MlflowClient(f"sqlite:///{Path(file).absolute()}")


def mlflow_runs(mlflow: Any, file: str = "mlflow.db") -> list[Any]:
    client = mlflow_store(mlflow, file)
    return list(client.search_runs([client.get_experiment_by_name("pictorch").experiment_id]))


@pytest.mark.slow
def test_mlflow_gets_settings_rows_and_result(mlflow: Any) -> None:
    result = api.train(small_config("track.mlflow=true"), recipe=RECIPE, out=Path("run"))
    [run] = mlflow_runs(mlflow)
    assert run.info.run_name == "small, seed 1"
    assert run.info.status == "FINISHED"
    assert run.data.params["optim.lr"] == "0.1"
    assert run.data.params["model.base_channels"] == "8"
    assert run.data.metrics["result/test_error"] == pytest.approx(result.test_error)
    assert run.data.tags["precision"] == "fp32"
    history = mlflow_store(mlflow).get_metric_history(run.info.run_id, "train_loss")
    rows = rows_of(RunDir(Path("run")))
    assert [(m.step, m.value) for m in history] == [(row["epoch"], pytest.approx(row["train_loss"])) for row in rows]


@pytest.mark.slow
def test_a_resumed_run_is_the_same_run_of_mlflow(mlflow: Any, small_run: api.Result) -> None:
    with pytest.raises(Interrupted):
        api.train(small_config("track.mlflow=true"), recipe=RECIPE, out=Path("run"), progress=PressCtrlC(15))
    assert [run.info.status for run in mlflow_runs(mlflow)] == ["KILLED"]
    Path("run/last.ckpt").unlink()  # so that epoch 1 is trained again
    api.resume("run")
    [run] = mlflow_runs(mlflow)
    assert run.info.status == "FINISHED"
    history = mlflow_store(mlflow).get_metric_history(run.info.run_id, "test_error")
    assert [metric.step for metric in history] == [1, 2, 3]
    assert same(state_of(Path("run")), state_of(small_run.run_dir))


@pytest.mark.slow
def test_another_run_of_the_same_settings_is_another_run_of_mlflow(mlflow: Any) -> None:
    for name in ("one", "other"):
        uri = f"sqlite:///{Path('mine.db').absolute()}"
        api.train(small_config(f"track.mlflow={uri}", "train.epochs=1"), recipe=name, out=Path(name))
    found = mlflow_runs(mlflow, "mine.db")
    assert {run.info.run_name for run in found} == {"one, seed 1", "other, seed 1"}


@pytest.mark.slow
def test_a_store_that_cannot_be_reached_is_noted_and_the_run_goes_on(mlflow: Any) -> None:
    notes = Notes()
    Path("file").touch()
    settings = (f"track.mlflow=sqlite:///{Path('file/mlflow.db').absolute()}", "train.epochs=1")
    assert api.train(small_config(*settings), out=Path("run"), progress=notes).row["complete"]
    [said] = notes.said
    assert said.startswith("track.mlflow: ")
    assert said.endswith("; the run goes on without it")


@pytest.mark.slow
def test_a_store_that_goes_away_is_noted_once(mlflow: Any) -> None:
    class RemoveStore(Notes):
        def epoch(self, row: dict[str, Any]) -> None:
            shutil.rmtree("store", ignore_errors=True)

    notes = RemoveStore()
    Path("store").mkdir()
    settings = (f"track.mlflow=sqlite:///{Path('store/mlflow.db').absolute()}", "train.epochs=3")
    assert api.train(small_config(*settings), out=Path("run"), progress=notes).row["complete"]
    assert [said.partition(":")[0] for said in notes.said] == ["track.mlflow"]


@pytest.fixture
def wandb() -> Any:
    try:
        import wandb
    except ImportError:
        required_in_ci("wandb is not installed (extra `wandb`)")
    return wandb


def wandb_records(run: RunDir) -> list[Any]:
    """Return the records of all sessions' files, in their order: after a header of 7 bytes a LevelDB log.

    Its records have a checksum (4 bytes), a length (2), a kind (1: 1 is whole, 2 to 4 first, middle and last part), and
    lie in blocks of 32 KiB, of which the last 6 bytes are never a record's beginning.
    """
    import wandb
    from wandb.proto import wandb_internal_pb2

    wandb.teardown()  # ends W&B's own process, which writes out what it holds back
    found = []
    for path in sorted((run.path / "wandb").glob("offline-run-*/run-*.wandb")):
        data, at, whole = path.read_bytes(), 7, b""
        while at < len(data):
            if 32768 - at % 32768 < 7:
                at += 32768 - at % 32768
            _, length, kind = struct.unpack_from("<IHB", data, at)
            whole += data[at + 7 : at + 7 + length]
            at += 7 + length
            if kind in (1, 4):
                found.append(wandb_internal_pb2.Record.FromString(whole))
                whole = b""
    return found


def items(records: list[Any], kind: str) -> list[dict[str, Any]]:
    """Return the values of all records of a kind."""
    found = [getattr(record, kind) for record in records if record.WhichOneof("record_type") == kind]
    lists = [one.item if kind == "history" else one.update for one in found]
    return [{item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in one} for one in lists]


@pytest.mark.slow
def test_wandb_offline_writes_rows_settings_and_result(wandb: Any, small_run: api.Result) -> None:
    result = api.train(small_config("track.wandb=offline"), recipe=RECIPE, out=Path("run"))
    run = RunDir(Path("run"))
    records = wandb_records(run)
    [begun] = [record.run for record in records if record.WhichOneof("record_type") == "run"]
    assert (begun.project, begun.display_name) == ("pictorch", "small, seed 1")
    config = {item.key: json.loads(item.value_json) for item in begun.config.update}
    assert config["optim.lr"] == 0.1
    history = items(records, "history")
    assert [row["train_loss"] for row in history] == [row["train_loss"] for row in rows_of(run)]
    assert [row["epoch"] for row in history] == [1, 2, 3]
    summary = {key: value for update in items(records, "summary") for key, value in update.items()}
    assert summary["result/test_error"] == result.test_error
    assert same(state_of(run.path), state_of(small_run.run_dir))


@pytest.mark.slow
def test_a_resumed_run_has_the_same_name_at_wandb(wandb: Any) -> None:
    with pytest.raises(Interrupted):
        api.train(small_config("track.wandb=offline"), recipe=RECIPE, out=Path("run"), progress=PressCtrlC(15))
    api.resume("run")
    records = wandb_records(RunDir(Path("run")))
    begun = {record.run.run_id for record in records if record.WhichOneof("record_type") == "run"}
    assert len(begun) == 1
    assert [row["epoch"] for row in items(records, "history")] == [1, 2, 3]
