"""The comparison with a record program: a program that prints a table as those do, and our side on the digits."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest
from conftest import small_config

from pictorch import data
from pictorch.config import UserError

PROGRAM = """
import sys, torch
from torchvision.transforms import Normalize
train = torch.load("cifar10/train.pt")
assert train["images"].shape == (1442, 8, 8, 1) and train["labels"].shape == (1442,) and len(train["classes"]) == 10
images = train["images"].permute(0, 3, 1, 2) / 255
assert torch.equal(Normalize(torch.tensor((0.5,)), torch.tensor((0.25,)))(images), (images - 0.5) / 0.25)
print("|  run     |  epoch  |  val_acc  |  tta_val_acc  |  time_seconds  |")
for run in range(int(open(sys.argv[0]).read()[-2:])):
    print(f"|  {run}  |      0  |   0.9300  |               |        0.5000  |")
    print(f"|       |   eval  |   0.9300  |       0.940{run}  |        {run}.5000  |")
# """


@pytest.fixture(scope="module")
def records() -> ModuleType:
    path = Path(__file__).parents[2] / "benchmarks" / "records.py"
    spec = importlib.util.spec_from_file_location("records", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_programs_first_run_does_not_count_and_it_is_stopped(records: ModuleType, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM + "99")
    runs = list(records.record_runs(program, data.open("digits", root=tmp_path), 2))
    assert runs == [(pytest.approx(94.01), 1.5), (pytest.approx(94.02), 2.5)]


def test_a_program_that_ends_too_early_is_quoted(records: ModuleType, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM + "02")
    with pytest.raises(UserError, match=r"(?s)program\.py ended after 2 of 4 runs; it said:\n.*0\.9401"):
        list(records.record_runs(program, data.open("digits", root=tmp_path), 3))


def test_our_runs_are_of_the_engine_and_each_has_its_seed(records: ModuleType, tmp_path: Path) -> None:
    config = small_config("train.epochs=2", "train.seed=7")
    runs = list(records.our_runs("speed/mine", config, 2, tmp_path))
    rows = [json.loads((tmp_path / f"seed{seed}" / "result.json").read_text()) for seed in (7, 8)]
    assert [(row["seed"], row["recipe"]) for row in rows] == [(7, "speed/mine"), (8, "speed/mine")]
    assert [run.top1 for run in runs] == [row["test_top1"] for row in rows]
    training = [records.training_seconds(tmp_path / f"seed{seed}") for seed in (7, 8)]
    assert all(run.seconds > steps > 0 for run, steps in zip(runs, training, strict=True))


def test_the_first_epoch_warms_up(records: ModuleType, tmp_path: Path) -> None:
    rows = ['{"epoch": 1, "seconds": 90.0}', '{"epoch": 2, "seconds": 1.0}', '{"epoch": 3, "seconds": 3.0}']
    (tmp_path / "metrics.jsonl").write_text("\n".join(rows) + "\n")
    assert records.training_seconds(tmp_path) == 6
    with pytest.raises(UserError, match=r"train\.epochs: expected at least 2, as the first one warms up, got 1"):
        list(records.our_runs("speed/mine", small_config("train.epochs=1"), 1, tmp_path))


def test_the_summary(records: ModuleType) -> None:
    runs = [records.Run(94.0, 2.5), records.Run(94.2, 2.6), records.Run(93.8, 2.4)]
    assert records.summary("ours", runs) == "# ours: n=3, 94.00 +- 0.20% test accuracy, median 2.500 s"
