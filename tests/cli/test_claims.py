"""`pictorch claims`: what it prints, and what it refuses."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import SMALL, rewrite

from pictorch.cli.app import app
from pictorch.experiments import ledger, published
from pictorch.runs import RunDir

ROWS = [
    {"id": "seed1/cells/small_net/document", "value": "6.52", "statistic": "median of 3", "n": "3", "spread": ""},
    {"id": "seed1/cells/small_net/paper", "value": "40.00", "statistic": "mean of 5", "n": "5", "spread": "3.00"},
    {"id": "seed1/cells/wide_net/document", "value": "", "statistic": "1 run", "n": "1", "spread": ""},
    {"id": "seed2/cells/wide_net/document", "value": "5.00", "statistic": "1 run", "n": "1", "spread": ""},
]
Command = Callable[..., tuple[str, str, int]]


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Command]:
    """Run `pictorch claims` on a ledger of its own, with four numbers about SMALL; return output, errors and status."""
    columns = list(published.Published.__dataclass_fields__)
    lines = [",".join(columns)]
    for row in ROWS:
        document, table, *_ = str(row["id"]).split("/")
        wide = "wide" in str(row["id"])
        cells = dict.fromkeys(columns, "") | {
            **row,
            "document": document,
            "table": table,
            "recipe": "digits/resnet_preact_8",
            "metric": "test_error",
            "overrides": " ".join([*SMALL, "optim.lr=0.2"] if wide else SMALL),
            "epochs": "3",
        }
        lines.append(",".join(cells.values()))
    (tmp_path / "ledger").mkdir()
    (tmp_path / "ledger" / "published.csv").write_text("\n".join(lines) + "\n")
    monkeypatch.setattr(published, "path", lambda: tmp_path / "ledger" / "published.csv")
    published.rows.cache_clear()

    def run(*words: str) -> tuple[str, str, int]:
        with pytest.raises(SystemExit) as stopped:
            app(["claims", *words], prog_name="pictorch")
        printed = capsys.readouterr()
        return printed.out, printed.err, int(stopped.value.code or 0)

    yield run
    published.rows.cache_clear()


def test_numbers_stand_by_table_until_they_are_run(command: Command) -> None:
    out, _, status = command()
    assert status == 0
    assert out.splitlines() == [
        "seed1/cells",
        "  small_net                                         6.52  median of 3 not run",
        "  small_net/paper                           40.00 ± 3.00  mean of 5   not run",
        "",
        "seed2/cells",
        "  wide_net                                          5.00  1 run       not run",
        "",
        "3 published numbers: 3 not run",
    ]


def test_added_runs_get_a_verdict_each_and_nothing_is_wider_than_a_screen(
    command: Command, known_run: RunDir, known_second: RunDir, tmp_path: Path
) -> None:
    out, _, _ = command("add", str(known_run.path), str(known_second.path))
    assert out.splitlines()[0].endswith("% test error, last epoch, test set not used to select")
    rows = ledger.read(tmp_path / "ledger")
    out, _, _ = command()
    lines = out.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[1].endswith("median of 3 worse") or lines[1].endswith("median of 3 undecided")
    mean = sum(run.test_error for run in rows) / 2
    assert lines[2].startswith(f"    ours: n 2, median {mean:.2f}, mean {mean:.2f}, 95% ")
    assert "difference of the errors +" in lines[3]
    assert "margin 2.57" in lines[3]  # 1.96 * sqrt(6.52 * 93.48 / 355)
    assert "    last epoch, test set not used to select" in lines
    found = json.loads(command("--json")[0])
    assert [claim["id"] for claim in found["claims"]] == [row["id"] for row in ROWS if row["value"]]
    assert found["claims"][0]["ours"][0]["values"] == [run.test_error for run in rows]
    assert found["other_runs"] == []


def test_a_run_of_another_configuration_stands_apart(command: Command, known_run: RunDir, tmp_path: Path) -> None:
    """What its files say is changed alike, so that it is a run of another learning rate."""
    from pictorch.config import config_hash, load

    known_run.config.write_text(known_run.config.read_text().replace("  lr: 0.1\n", "  lr: 0.05\n"))
    rewrite(known_run.result, config_hash=config_hash(load(known_run.config).config))
    command("add", str(known_run.path))
    out, _, _ = command()
    above, _, below = out.partition("\nother runs, not comparable\n")
    assert "n 1" not in above
    assert "small, seed 1: " in below
    assert "nearest seed1/cells/small_net/document: optim.lr 0.05 instead of default" in " ".join(below.split())
    assert "other runs" not in command("seed1")[0], "a pattern asks for those numbers alone"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("smal_net",), "no published number matches 'smal_net'; did you mean 'small_net'?"),
        (("xyz",), "no published number matches 'xyz'; known: seed1/cells, seed2/cells"),
        (("add",), "no run directory is given; write `pictorch claims add RUN_DIR`"),
        (("add", "nowhere"), "nowhere: there is no such run directory"),
        (("seed1", "seed2"), "expected one pattern, or `add` and run directories, got seed1 seed2"),
        (("--changed-code",), "--changed-code is for `pictorch claims add`"),
        (("--ledger", "nowhere"), "--ledger: nowhere: there is no such folder"),
        (("--ledger", ""), "--ledger: expected a path, got an empty text"),
    ],
)
def test_mistakes_are_one_sentence(command: Command, words: tuple[str, ...], message: str) -> None:
    out, error, status = command(*words)
    assert (out, status) == ("", 2)
    assert message in error
    assert error.startswith("error: ")
    assert error.count("\n") == 1


def test_runs_can_be_kept_elsewhere(command: Command, known_run: RunDir, tmp_path: Path) -> None:
    elsewhere = tmp_path / "mine"
    elsewhere.mkdir()
    command("add", str(known_run.path), "--ledger", str(elsewhere))
    assert "n 1" in command("--ledger", str(elsewhere))[0]
    assert "n 1" not in command()[0]


def test_an_installed_packages_ledger_is_not_added_to(command: Command, known_run: RunDir, tmp_path: Path) -> None:
    (tmp_path / "__init__.py").write_text("")
    _, error, status = command("add", str(known_run.path))
    assert (status, "give --ledger DIR" in error) == (2, True)
    assert not (tmp_path / "ledger" / ledger.RUNS).exists()


def test_changed_code_is_refused_and_then_recorded(command: Command, known_run: RunDir, tmp_path: Path) -> None:
    rewrite(known_run.env, dirty="feed" * 16)
    _, error, status = command("add", str(known_run.path))
    assert status == 2
    assert "differed from its commit" in error
    copy = shutil.copytree(known_run.path, tmp_path / "copy")
    command("add", str(copy), "--changed-code")
    assert "its code differed from commit 0123456789ab" in command()[0]
