"""What the tests of runs share: a small configuration on the embedded digits, and a run of it."""

from pathlib import Path

import pytest

from pictorch import api
from pictorch.config import Config

SMALL = (
    "model.base_channels=8",
    "train.epochs=3",
    "train.batch_size=128",
    "train.precision=fp32",
    "track.tensorboard=false",
)


def small_config(*overrides: str) -> Config:
    return api.load_config(None, [*SMALL, *overrides])


@pytest.fixture(scope="session")
def small_run(tmp_path_factory: pytest.TempPathFactory) -> api.Result:
    """A finished run of SMALL; tests only read it."""
    return api.train(small_config(), recipe="small", out=tmp_path_factory.mktemp("runs") / "small")


@pytest.fixture(autouse=True)
def in_a_directory_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs without --out go to runs/ in the current directory: not in the checkout."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
