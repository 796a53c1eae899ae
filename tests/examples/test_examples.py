"""Every script of examples/ runs as it is, from any folder, and says what it is for."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent.parent.parent / "examples"
# What each prints at its end, as a pattern: figures are the run's own.
SAYS = {
    "own_network": r"^\d+\.\d\d% test error, 19,562 parameters, in runs/own_network/",
    "own_augmentation": r"\(64, 1, 8, 8\), \d+% of the images have a row.*\nepoch 3 made again is the same: True$",
    "own_loop": r"epoch 6: loss 0\.\d+, test error (\d|1\d)\.\d\d%$",
    "own_listener": r"^epoch,lr,train_loss,test_error\n1,.*\n2,.*\n3,.*$",
    "two_recipes": r"plain +\d.*\nlabel smoothing +\d.*\ndifference [+-]\d+\.\d\d points",
    "surest_mistakes": r"^\d+ of 355 images are wrong.*\n(test image \d+, a \d: \d \d+%, \d \d+%\n?){1,3}$",
}


def test_every_example_is_known() -> None:
    assert {path.stem for path in FOLDER.glob("*.py")} == SAYS.keys()


@pytest.mark.slow
@pytest.mark.parametrize("name", SAYS)
def test_an_example_runs(name: str, tmp_path: Path) -> None:
    paths = os.pathsep.join(filter(None, (str(FOLDER.parent), os.environ.get("PYTHONPATH", ""))))
    done = subprocess.run(
        [sys.executable, str(FOLDER / f"{name}.py")],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": paths, "PYTHONWARNINGS": "error"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert re.search(SAYS[name], done.stdout.strip()), done.stdout
