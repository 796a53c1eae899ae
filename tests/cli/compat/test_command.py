"""The seam of the seed documents' commands: the directory, the translation beside the table row, the run."""

import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from pictorch import api, runs
from pictorch.cli.compat import answer, command, document_of_train, seed1
from pictorch.cli.compat.command import Command
from pictorch.config import UserError
from pictorch.experiments import published
from pictorch.runs import RunDir, RunError

WRN = "--arch wrn --depth 28 --widening_factor 10 --seed 7 --outdir results/wrn_28_10/00"


def seed1_command(line: str) -> Command:
    return seed1.translate(("main.py", *shlex.split(line)))


def digits_command(outdir: str, written: list[Path] | None = None) -> Command:
    return Command(
        document="seed1",
        words=("main.py",),
        recipe="digits/resnet_preact_8",
        overrides=("train.epochs=1", "model.base_channels=4", "train.seed=3"),
        outdir=Path(outdir),
        notes=("a note",),
        finish=lambda run: None if written is None else written.append(run.path),
    )


def test_a_command_trains_and_leaves_its_files(capsys: pytest.CaptureFixture[str]) -> None:
    written: list[Path] = []
    command.run(digits_command("results", written))
    assert written == [Path("results")]
    assert runs.read_result(runs.open("results"))["recipe"] == "digits/resnet_preact_8"
    printed = capsys.readouterr().out.splitlines()
    line = "pictorch train digits/resnet_preact_8 train.epochs=1 model.base_channels=4 train.seed=3 --out results"
    assert printed[:2] == [line, "note: a note"]
    assert "no table row is made by this command" in printed


def test_a_directory_that_is_taken_is_not_written_into(capsys: pytest.CaptureFixture[str]) -> None:
    for place in ("results", "results/run-02", "results/run-03"):
        command.run(digits_command("results"))
        assert RunDir(Path(place)).result.exists()
    assert "results holds another run: this run goes to results/run-03\n" in capsys.readouterr().out
    command.run(digits_command("results/deeper/00"))
    assert RunDir(Path("results/deeper/00")).result.exists()
    with pytest.raises(RunError, match="this is inside the run directory"):
        api.train(api.load_config(), out="results/deeper/01")


def test_a_directory_with_something_else_is_left_alone(capsys: pytest.CaptureFixture[str]) -> None:
    Path("results").mkdir()
    Path("results/letter.txt").write_text("dear")
    command.run(replace(digits_command("results"), dry_run=True))
    assert capsys.readouterr().out.startswith("results is not empty: this run goes to results/run-02\n")
    assert [p.name for p in Path("results").iterdir()] == ["letter.txt"]


def test_a_file_in_the_directory_s_place_is_told() -> None:
    Path("results").write_text("")
    with pytest.raises(RunError, match="results: this is a file, not a directory"):
        command.run(digits_command("results"))


def test_the_differences_from_the_table_row_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    command.run(seed1_command(f"{WRN} --dry_run"))
    printed = capsys.readouterr().out.splitlines()
    name = "table row cifar10_papers: WRN-28-10 (test_error 4.03, median of 3)"
    assert printed[-2:] == [
        f"{name}: 1 difference; --strict_row takes its settings",
        "  train.batch_size: this command 128, row 64",
    ]
    assert not Path("results").exists()


@pytest.mark.parametrize("line", [WRN, f"--batch_size=128 {WRN} --seed 1", f"{WRN} --as_published --gpu -1"])
def test_the_row_is_found_however_its_command_is_written(line: str) -> None:
    row = command.row_of(seed1_command(line))
    assert row
    assert row.id == "seed1/cifar10_papers/wrn_28_10/document"


def test_another_command_has_no_row() -> None:
    assert command.row_of(seed1_command(f"{WRN} --epochs 100")) is None


def test_strict_row_takes_the_row_s_settings(capsys: pytest.CaptureFixture[str]) -> None:
    command.run(seed1_command(f"{WRN} --dry_run --strict_row --gpu -1"))
    line, *_ = capsys.readouterr().out.splitlines()
    assert line == (
        "pictorch train seed1/cifar10/wrn_28_10 as_published=seed1 train.seed=7 train.device=cpu "
        "--out results/wrn_28_10/00"
    )


def test_strict_row_needs_a_row() -> None:
    with pytest.raises(UserError, match=r"--strict_row: no table row is made by this command; `pictorch claims`"):
        command.run(seed1_command(f"{WRN} --epochs 100 --strict_row --dry_run"))


def test_mistakes_of_the_network_are_told_before_anything_is_made() -> None:
    with pytest.raises(UserError, match=r"model.depth: .*6n\+2"):
        command.run(seed1_command("--arch resnet --depth 57 --outdir results"))
    assert not Path("results").exists()


@pytest.mark.parametrize(
    ("words", "document"),
    [
        ("--config configs/cifar/resnet.yaml", "seed2"),
        ("--config=mine.yaml train.batch_size 64", "seed2"),
        ("train.batch_size 64", "seed2"),
        ("--conf mine.yaml", "seed2"),
        ("--resume runs/a", "seed2"),
        ("--config mine.yaml --help", "seed2"),
        ("--model resnet50 --dataset cifar10", "seed3"),
        ("--lr 0.1", "seed3"),
        ("--ckpt_dir c --log_dir l", "seed3"),
        ("--model resnet50 -h", "seed3"),
        ("", None),
        ("--help", None),
    ],
)
def test_whose_train_py_is_meant(words: str, document: str | None) -> None:
    assert document_of_train(words.split()) == document


def test_train_py_alone_shows_both(capsys: pytest.CaptureFixture[str]) -> None:
    answer("train.py", [])
    printed = capsys.readouterr().out
    assert "--config FILE" in printed
    assert "--model MODEL" in printed


@pytest.mark.parametrize(
    ("words", "row"),
    [
        ("--model resnet18 --dataset cifar10", "seed3/cifar10/resnet18/top1"),
        ("--model vgg16 --dataset cifar100", "seed3/cifar100/vgg16_bn/top1"),
        (
            "--config configs/cifar/resnet_preact.yaml model.resnet_preact.depth 20 train.batch_size 2048 "
            "train.base_lr 1.6 scheduler.type cosine scheduler.epochs 200 scheduler.lr_min_factor 0",
            "seed2/linear_scaling_cosine/2048_1.6/document",
        ),
    ],
)
def test_a_command_that_is_not_printed_has_the_row_of_its_settings(
    words: str, row: str, capsys: pytest.CaptureFixture[str]
) -> None:
    answer("train.py", [*words.split(), "--strict_row", "--dry_run"])
    number = published.find(row)
    printed = capsys.readouterr().out
    assert f"table row {number.table}: {number.row} " in printed
    assert f"pictorch train {shlex.join([number.recipe, *number.overrides])}" in printed
