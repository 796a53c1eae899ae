"""Our finished runs as rows of the ledger: `runs.csv`, a row a run, and `curves.csv`, its learning curve.

A run gets in once, whole, with files that agree with each other, and with code that a commit names.
"""

import csv
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from pictorch import runs
from pictorch.config import Config, UserError, config_hash, load
from pictorch.config.comparable import Network, comparable_hash, decisive_settings
from pictorch.runs import RunDir, RunError

RUNS, CURVES = "runs.csv", "curves.csv"
CURVE_COLUMNS = ("run", "epoch", "train_error", "val_error", "test_error")
MOST_POINTS = 200  # of a learning curve: a picture shows no more
SELECTION = {"last": "last epoch", "best-val": "epoch of the best validation error"}


@dataclass(frozen=True)
class Run:
    """A row of runs.csv. Errors and accuracies are in per cent of the test images."""

    run: str
    """12 hex digits of configuration, seed, predictions and the time it finished"""
    recipe: str
    config_hash: str
    comparable: str
    """Hash of `settings`"""
    commit: str
    dirty: str
    """Hash of what differed from the commit; empty: nothing"""
    source: str
    """First digits of the hash of the package's sources"""
    dataset: str
    data_checksum: str
    data_official: bool
    hardware: str
    device: str
    torch: str
    precision: str
    threads: int
    replicas: int
    model: str
    params: int
    seed: int
    epochs: int
    steps: int
    test_images: int
    views: str
    selection: str
    test_in_selection: bool
    """Whether test images took part in choosing the weights"""
    test_error: float
    top1: float
    top5: float
    seconds: float
    """Wall time of training, with evaluation and saving"""
    date: str
    settings: str
    """What decides the result, as JSON: all that `comparable` is the hash of"""

    @property
    def decisive(self) -> dict[str, Any]:
        """Return `settings` as {dotted key: value}."""
        return dict(json.loads(self.settings))

    @property
    def protocol(self) -> str:
        """How the weights were chosen and the test images answered, in words."""
        chosen = SELECTION.get(self.selection, self.selection)
        return f"{chosen}, test set {'' if self.test_in_selection else 'not '}used to select{runs.of_views(self.views)}"

    def metric(self, name: str) -> float:
        """Return test_error, top1 or top5."""
        return float(getattr(self, name))


COLUMNS = tuple(field.name for field in fields(Run))
PARSERS: dict[Any, Callable[[str], Any]] = {
    str: str,
    int: int,
    float: float,
    bool: lambda text: {"yes": True, "no": False}[text],
}


def read(ledger: Path) -> list[Run]:
    """Return the rows of runs.csv, in its order. Raises UserError where the file is not of this version."""
    path = ledger / RUNS
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        table = csv.DictReader(file)
        if tuple(table.fieldnames or ()) != COLUMNS:
            raise UserError(f"{path}: expected the columns {','.join(COLUMNS)}")
        return [parse(row, f"{path}:{table.line_num}") for row in table]


def parse(row: dict[str, str], place: str) -> Run:
    """Return a row of runs.csv. Raises UserError naming its place for what is no value of its column."""
    try:
        return Run(**{field.name: PARSERS[field.type](row[field.name]) for field in fields(Run)})
    except (KeyError, ValueError, TypeError) as error:
        raise UserError(f"{place}: this is no row of a run: {error}") from None


def read_curves(ledger: Path) -> dict[str, list[dict[str, float]]]:
    """Return {run: [{epoch, train_error, val_error or test_error}]} of curves.csv."""
    path = ledger / CURVES
    curves: dict[str, list[dict[str, float]]] = {}
    if path.exists():
        with path.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                point = {key: float(value) for key, value in row.items() if key != "run" and value}
                curves.setdefault(row["run"], []).append(point)
    return curves


def add(places: Sequence[str], ledger: Path, network: Network, *, changed_code: bool = False) -> list[Run]:
    """Append finished runs and their learning curves to the ledger; all of them, or none. Return their rows.

    Raises UserError for a run that is there already, is not complete, whose files do not agree, or, unless
    `changed_code`, whose code differed from its commit.
    """
    known = {run.run for run in read(ledger)}
    added: list[Run] = []
    curves: list[dict[str, Any]] = []
    for place in places:
        directory = runs.open(place)
        run = examine(directory, network, changed_code=changed_code)
        if run.run in known:
            raise UserError(f"{directory.path}: this run is in {ledger / RUNS} already, as {run.run}")
        known.add(run.run)
        added.append(run)
        curves += curve(directory, run.run)
    rows = [{key: written(value) for key, value in asdict(run).items()} for run in added]
    append(ledger / CURVES, CURVE_COLUMNS, curves)  # a run without a curve would be worse than a curve without a run
    append(ledger / RUNS, COLUMNS, rows)
    return added


def written(value: object) -> object:
    """Return a value as it stands in the file: yes or no for a truth value."""
    return ("yes" if value else "no") if isinstance(value, bool) else value


def append(path: Path, columns: Sequence[str], rows: Iterable[dict[str, Any]]) -> None:
    """Add rows to a CSV file, which is made where there is none."""
    with runs.explained(path):
        new = not path.exists()
        with path.open("a", newline="", encoding="utf-8") as file:
            table = csv.DictWriter(file, columns, lineterminator="\n")
            if new:
                table.writeheader()
            table.writerows(rows)


def examine(directory: RunDir, network: Network, *, changed_code: bool) -> Run:
    """Return the ledger's row of a finished run. Raises RunError where it is no result, as `add` says."""
    result, config = runs.read_result(directory), load(directory.config).config
    env = runs.read_json(directory.env)
    for complaint in (*incomplete(config, result), *disagreements(directory, config, result, env)):
        raise RunError(f"{directory.path}: {complaint}; nothing was added")
    dirty = changes(env)
    if dirty and not changed_code:
        raise RunError(
            f"{directory.path}: the code of this run differed from its commit {result['commit']}, so that nobody else "
            "can run it; nothing was added (--changed-code adds it among the runs that count for nothing)"
        )
    settings = decisive_settings(config, network)
    return Run(
        run=identity(directory, result),
        recipe=result["recipe"],
        config_hash=result["config_hash"],
        comparable=comparable_hash(settings),
        commit=result["commit"] or "",
        dirty=dirty,
        source=str(env.get("source_sha256", ""))[:12],
        dataset=result["dataset"],
        data_checksum=result["data_checksum"],
        data_official=bool(env.get("data_official", False)),
        hardware=result["device"],
        device=str(env.get("device", "")),
        torch=result["torch"],
        precision=result["precision"],
        threads=int(env.get("threads", 0)),
        replicas=int(env.get("replicas", 1)),
        model=result["model"],
        params=result["params"],
        seed=result["seed"],
        epochs=result["epochs"],
        steps=result["steps"],
        test_images=result["test_images"],
        views=result["views"],
        selection=result["selection"],
        test_in_selection="test" in result["selection"],
        test_error=round(result["test_error"], 6),
        top1=round(result["test_top1"], 6),
        top5=round(result["test_top5"], 6),
        seconds=round(result["train_seconds"], 1),
        date=result["finished"],
        settings=json.dumps(settings, separators=(",", ":")),
    )


def incomplete(config: Config, result: dict[str, Any]) -> Iterator[str]:
    """Yield why a run is no whole one."""
    if config.train.max_steps is not None:
        yield f"it stopped after step {result['steps']} (train.max_steps), which is no result"
    if config.evaluation.max_images is not None:
        yield f"it was tested on {result['test_images']} images only (evaluation.max_images), which is no result"
    if not result["complete"]:
        yield f"it did not train its {config.train.epochs} epochs to their end, which is no result"


def disagreements(directory: RunDir, config: Config, result: dict[str, Any], env: dict[str, Any]) -> Iterator[str]:
    """Yield in what the files of a run contradict each other."""
    expected = {
        "config_hash": config_hash(config),
        "seed": config.train.seed,
        "selection": config.train.select,
        "views": config.evaluation.in_words,
        "commit": last_session(env).get("commit"),
        "data_checksum": env.get("data_checksum"),
    }
    for key, value in expected.items():
        if result[key] != value:
            file = directory.env.name if key in ("commit", "data_checksum") else directory.config.name
            yield f"{directory.result.name} says {key} {result[key]}, {file} {value}: one of them was changed"
    if not result["commit"]:
        yield "no commit is known of its code, so that nobody else can run it"
    labels, classes = predictions(directory)
    hits = classes == labels[:, None]
    recomputed = {
        "test_images": len(labels),
        "test_error": 100 * int((~hits[:, 0]).sum()) / len(labels),
        "test_top1": 100 * int(hits[:, 0].sum()) / len(labels),
        "test_top5": 100 * int(hits.any(axis=1).sum()) / len(labels),
    }
    for key, value in recomputed.items():
        if abs(result[key] - value) > 1e-9:
            yield f"{directory.result.name} says {key} {result[key]}, {directory.predictions.name} make it {value}"


def predictions(directory: RunDir) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return label [N] and the most probable classes [N,5] of the test images. Raises RunError without them."""
    try:
        with np.load(directory.predictions, allow_pickle=False) as archive:
            labels, classes = archive["label"], archive["classes"]
    # Damaged bytes end in exceptions of zipfile, zlib or numpy, according to where the damage is.
    except Exception as error:
        raise RunError(f"{directory.predictions}: cannot read this file of the run: {error}") from None
    if not len(labels) or labels.shape != classes.shape[:1] or classes.ndim != 2:
        raise RunError(f"{directory.predictions}: expected label [N] and classes [N,5] of some images")
    return labels, classes


def sessions(env: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what a run was made with, an entry each time it was started or resumed."""
    return [env, *(env.get("resumed") or [])]


def last_session(env: dict[str, Any]) -> dict[str, Any]:
    """Return env.json with the entries of the last session in the place of the first one's."""
    return {**env, **sessions(env)[-1]}


def changes(env: dict[str, Any]) -> str:
    """Return the first digits of the hash of what differed from the commit in any session; empty for nothing."""
    return next((str(session["dirty"])[:12] for session in sessions(env) if session.get("dirty")), "")


def identity(directory: RunDir, result: dict[str, Any]) -> str:
    """Return 12 hex digits of a run, wherever its directory lies."""
    labels, classes = predictions(directory)
    said = [result[key] for key in ("config_hash", "seed", "finished")]
    return hashlib.sha256(json.dumps(said).encode() + labels.tobytes() + classes.tobytes()).hexdigest()[:12]


def curve(directory: RunDir, run: str) -> Iterator[dict[str, Any]]:
    """Yield the learning curve's rows: of each evaluated epoch, or of MOST_POINTS of them and the last."""
    evaluated = [row for row in runs.read_metrics(directory) if {"val_error", "test_error"} & row.keys()]
    step = -(-len(evaluated) // MOST_POINTS)
    for row in evaluated[::-1][:: max(1, step)][::-1]:
        point = {key: round(row[key], 3) for key in CURVE_COLUMNS[2:] if key in row}
        yield {"run": run, "epoch": int(row["epoch"]), **point}
