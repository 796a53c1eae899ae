"""The 34 commands of the three seed documents (30 + 2 + 2), which documents.txt has word for word.

Each with what it means as `pictorch train`; and, in the slow test, started as a user does, one after another in one
checkout on real data.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from pictorch import models, runs
from pictorch.cli import claims
from pictorch.cli.compat import answer, seed1
from pictorch.cli.compat.command import differing, program_and_words, row_of, run
from pictorch.cli.training import recipe_and_overrides
from pictorch.config import UserError, load, to_dict
from pictorch.config.schema import flatten
from pictorch.experiments import published
from pictorch.runs import RunDir

CHECKOUT = Path(__file__).parents[3]
# command -> what stands behind `pictorch train`, without --out; nothing for test.py
COMMANDS = {
    command.rstrip("\n"): meaning.strip()
    for block in Path(__file__).with_name("documents.txt").read_text().split("\n\n")
    for command, _, meaning in [block.partition("\n= ")]
}
TRAINING = [command for command in COMMANDS if "test.py" not in command]
# What test.py tests is what the command before it has left.
SESSIONS = [[command] for command in TRAINING]
for command, before in zip(list(COMMANDS)[1:], COMMANDS, strict=False):
    if command not in TRAINING:
        SESSIONS[TRAINING.index(before)].append(command)


def dry_run(command: str, capsys: pytest.CaptureFixture[str]) -> list[str]:
    program, *argv = program_and_words(command)
    answer(Path(program).name, [*argv, "--dry_run"])
    return capsys.readouterr().out.splitlines()


def test_all_34_are_there() -> None:
    programs = [Path(program_and_words(command)[0]).name for command in COMMANDS]
    assert [programs.count(name) for name in ("main.py", "train.py", "test.py")] == [30, 3, 1]


@pytest.mark.parametrize("command", TRAINING)
def test_what_a_command_means(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    line = next(line for line in dry_run(command, capsys) if line.startswith("pictorch train "))
    *words, _, _ = shlex.split(line)[2:]
    assert " ".join(words) == COMMANDS[command]


@pytest.mark.parametrize("command", [command for command in TRAINING if "main.py" in command])
def test_the_canonical_line_makes_the_same_run(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Its configuration has all that the flags and the program's own files say, and the paper's network."""
    line = next(line for line in dry_run(command, capsys) if line.startswith("pictorch train "))
    *words, _, _ = shlex.split(line)[2:]
    config = load(*recipe_and_overrides(words)).config
    values, _ = seed1.settle(seed1.parse(program_and_words(command)[1:]))
    decided, keys = seed1.decide(values), flatten(to_dict(config))
    assert {key: keys.get(key) for key in decided} == decided
    spec = models.resolve(config.model.name, config.model.options)
    wanted = seed1.full(values["arch"], seed1.network(values))
    assert (spec.family, seed1.full(spec.family, spec.options)) == (values["arch"], wanted)


@pytest.mark.parametrize("row", [row for row in published.rows() if row.command], ids=lambda row: row.id)
def test_the_ledger_s_commands_are_the_documents(row: published.Published) -> None:
    assert " ".join(program_and_words(row.command)) in {" ".join(program_and_words(c)) for c in COMMANDS}


# The commands that do not make their row: output directory -> the keys in which they differ, and one as it is printed
OTHERWISE = {
    "results/wrn_28_10/00": (["train.batch_size"], "train.batch_size: this command 128, row 64"),
    "results/shake_shake_26_2x64d_SSI_cutout16": (["train.epochs"], "train.epochs: this command 300, row 1800"),
    "results/experiments/09_mixup/00": (
        ["schedule.milestones_epochs", "train.epochs"],
        "train.epochs: this command 160, row 300",
    ),
}


@pytest.mark.parametrize(
    "row", [row for row in published.rows() if row.command.count("main.py")], ids=lambda row: row.id
)
def test_a_command_as_published_makes_its_row(row: published.Published, capsys: pytest.CaptureFixture[str]) -> None:
    command = seed1.translate((*program_and_words(row.command), "--as_published", "--dry_run"))
    assert row_of(command) == row
    ours, theirs = load(command.recipe, command.overrides).config, load(row.recipe, row.overrides).config
    keys, printed = OTHERWISE.get(str(command.outdir), ([], ""))
    assert [key for key in differing(ours, theirs) if not key.startswith("model.")] == keys
    networks = [models.resolve(config.model.name, config.model.options) for config in (ours, theirs)]
    assert (
        len({(spec.family, json.dumps(seed1.full(spec.family, spec.options), sort_keys=True)) for spec in networks})
        == 1
    )
    run(command)
    assert printed in capsys.readouterr().out


@pytest.mark.parametrize("name", ["main.py", "train.py", "test.py"])
def test_the_programs_can_be_started_by_their_names(name: str) -> None:
    done = subprocess.run([CHECKOUT / name, "--help"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: ")


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the three programs, as a checkout has them."""
    place = tmp_path_factory.mktemp("checkout")
    for name in ("main.py", "train.py", "test.py"):
        shutil.copy(CHECKOUT / name, place)
    return place


@pytest.mark.slow
@pytest.mark.real_data
@pytest.mark.parametrize("commands", SESSIONS, ids=lambda commands: commands[-1])
def test_a_command_runs_word_for_word(commands: list[str], checkout: Path, tmp_path: Path) -> None:
    if not (Path(os.environ.get("PICTORCH_DATA", "")) / "cifar-10-batches-py").is_dir():
        pytest.skip("PICTORCH_DATA has no CIFAR-10")
    for command in commands:
        run_word_for_word(command, checkout, tmp_path)


def run_word_for_word(command: str, checkout: Path, tmp_path: Path) -> None:
    env = {**os.environ, "PICTORCH_MAX_STEPS": "1", "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", command], cwd=checkout, env=env, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    if command in TRAINING:
        place = re.search(r"^run +(\S+)$", done.stdout, re.M)
        assert place
        made = RunDir(checkout / place[1])
        row = runs.read_result(made)
        assert (row["steps"], row["complete"], row["dataset"]) == (1, False, "cifar10")
        assert 0 < row["test_images"] <= load(made.config).config.train.batch_size
        assert shlex.split(next(line for line in done.stdout.splitlines() if "--out" in line))[-1] == place[1]
        if "main.py" in command:
            state = torch.load(made.path / "model_state.pth", weights_only=True)
            assert state["accuracy"] == pytest.approx(row["test_top1"] / 100)
            assert json.loads((made.path / "config.json").read_text())["env_info"]
            assert json.loads((made.path / "all_scalars.json").read_text())["Test/Accuracy"]
        with pytest.raises(UserError, match=r"it stopped after step 1 .* nothing was added"):
            claims.add([str(made.path)], tmp_path, changed_code=False)
