"""What the tests of runs share: a small configuration on the embedded digits, a run of it, stops and comparisons."""

import json
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch

from pictorch import api, runs
from pictorch.cli import evaluation
from pictorch.config import Config
from pictorch.engine import checkpoint
from pictorch.engine.progress import Silent
from pictorch.engine.verify import first_difference
from pictorch.runs import RunDir

CHROMIUM = ["--no-sandbox", "--disable-background-networking", "--disable-dev-shm-usage", "--disable-gpu"]
SMALL = (
    "model.base_channels=8",
    "train.epochs=3",
    "train.batch_size=128",
    "train.precision=fp32",
    "track.tensorboard=false",
)


def pytest_configure() -> None:
    # Workers side by side take one thread each: with more they wait for each other at every layer.
    if "PYTEST_XDIST_WORKER" in os.environ:
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        torch.set_num_threads(1)


def required_in_ci(reason: str) -> NoReturn:
    """Skip a test for what this machine lacks; fail it where PICTORCH_CI says that all is installed."""
    if os.environ.get("PICTORCH_CI"):
        pytest.fail(f"PICTORCH_CI is set, and yet: {reason}", pytrace=False)
    pytest.skip(reason)


def small_config(*overrides: str) -> Config:
    return api.load_config(None, [*SMALL, *overrides])


TIMES = ("seconds", "images_per_second")


def state_of(run_dir: Path) -> dict[str, Any]:
    """Return what must be equal to the bit: weights, optimiser, position, and the rows without their clock."""
    run = runs.open(run_dir)
    saved = checkpoint.load(run.last_checkpoint)
    rows = [{k: v for k, v in row.items() if k not in TIMES} for row in runs.read_metrics(run)]
    return {**{key: saved[key] for key in ("model", "optimizer", "average", "epoch", "step", "best")}, "rows": rows}


def same(one: Any, other: Any) -> bool:
    return first_difference(one, other) is None


class PressCtrlC(Silent):
    """Send this process the signal after so many steps of the session."""

    def __init__(self, after: int, number: int = signal.SIGINT) -> None:
        self.left, self.number = after, number

    def due(self) -> bool:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), self.number)
        return False


@pytest.fixture(scope="session")
def small_run(tmp_path_factory: pytest.TempPathFactory) -> api.Result:
    """A finished run of SMALL; tests only read it."""
    return api.train(small_config(), recipe="small", out=tmp_path_factory.mktemp("runs") / "small")


def rewrite(file: Path, **values: Any) -> None:
    """Change values of a run's JSON file."""
    runs.write_json(file, json.loads(file.read_text()) | values)


def of_known_code(source: Path, place: Path) -> RunDir:
    """Copy a run as one of a commit's code: the tree that the tests run from may differ from its commit."""
    commit = "0123456789abcdef0123456789abcdef01234567"
    run = RunDir(shutil.copytree(source, place))
    rewrite(run.env, commit=commit, dirty=None)
    rewrite(run.result, commit=commit)
    return run


@pytest.fixture
def known_run(small_run: api.Result, tmp_path: Path) -> RunDir:
    """A finished run of SMALL that the ledger takes; tests may change it."""
    return of_known_code(small_run.run_dir, tmp_path / "first")


@pytest.fixture(scope="session")
def second_run(tmp_path_factory: pytest.TempPathFactory) -> api.Result:
    """The run of SMALL with another seed; tests only read it."""
    return api.train(small_config("train.seed=2"), recipe="small", out=tmp_path_factory.mktemp("runs") / "second")


@pytest.fixture
def known_second(second_run: api.Result, tmp_path: Path) -> RunDir:
    """`known_run` with another seed."""
    return of_known_code(second_run.run_dir, tmp_path / "second")


def evaluated(run: RunDir, *words: str, **options: object) -> None:
    """Call `pictorch eval` on a run, with `words` and the other options of the command."""
    settings = {
        "corruptions": None,
        "foreign": [],
        "frost_dir": None,
        "out": None,
        "data_dir": None,
        "device": "cpu",
        "as_json": False,
    }
    evaluation.evaluate(str(run.path), words, **(settings | options))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless chromium."""
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        required_in_ci("no chromium on the PATH")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        required_in_ci('playwright is not installed (pip install "pictorch[browser]")')
    with sync_playwright() as driver:
        one = driver.chromium.launch(executable_path=program, args=CHROMIUM)
        yield one
        one.close()


@pytest.fixture(autouse=True)
def in_a_directory_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs without --out go to runs/ in the current directory: not in the checkout."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
