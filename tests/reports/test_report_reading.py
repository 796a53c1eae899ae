"""Run directories as a report reads them: what is whole is reported, what is not is named with its reason."""

import json
from pathlib import Path

import pytest

from pictorch import api
from pictorch.config import UserError, load
from pictorch.reports import reading
from tests.conftest import rewrite
from tests.reports.runs_on_disk import write_run


def test_a_configuration_is_read_as_the_loader_reads_it(small_run: api.Result, tmp_path: Path) -> None:
    for file in (
        small_run.run_dir / "config.yaml",
        write_run(tmp_path / "a", "optim.lr=1e-3", "augment.mixup.alpha=1", "schedule=constant").config,
    ):
        assert reading.read_config(file) == load(file).config


def test_a_real_run_is_read(small_run: api.Result) -> None:
    [run], refused = reading.read_all([small_run.run_dir])
    assert (run.complete, run.seed, run.error, run.left_out) == (True, 1, small_run.test_error, 0)
    assert [row["epoch"] for row in run.rows] == [1, 2, 3]
    assert refused == []


def test_damaged_lines_are_left_out_and_counted(tmp_path: Path) -> None:
    directory = write_run(tmp_path / "a", epochs=4)
    first, second, third, fourth = directory.metrics.read_text().splitlines()
    huge = json.dumps({**json.loads(third), "train_loss": 10**400})
    odd = '{"epoch": NaN, "train_loss": 1.0}'
    directory.metrics.write_text("\n".join([first, second[:30], huge, odd, "\x00\x00", "", fourth[:-1], "[1]"]))
    [run], _ = reading.read_all([tmp_path])
    assert [row["epoch"] for row in run.rows] == [1]
    assert run.left_out == 6


def test_rows_come_in_the_order_of_their_epochs(tmp_path: Path) -> None:
    directory = write_run(tmp_path / "a", epochs=3)
    lines = directory.metrics.read_text().splitlines()
    directory.metrics.write_text("\n".join(reversed(lines)))
    [run], _ = reading.read_all([tmp_path])
    assert [row["epoch"] for row in run.rows] == [1, 2, 3]


def test_what_cannot_be_reported_is_named_with_its_reason(tmp_path: Path) -> None:
    write_run(tmp_path / "good")
    newer = write_run(tmp_path / "newer")
    newer.config.write_text(newer.config.read_text().replace("train:\n", "train:\n  warp_speed: 9\n"))
    torn = write_run(tmp_path / "torn")
    torn.result.write_text(torn.result.read_text()[:50])
    older = write_run(tmp_path / "older")
    row = json.loads(older.result.read_text())
    del row["views"]
    older.result.write_text(json.dumps(row))
    write_run(tmp_path / "homeless").env.unlink()
    write_run(tmp_path / "nameless").config.unlink()
    found, refused = reading.read_all([tmp_path])
    reasons = {Path(place).name: reason for place, reason in refused}
    assert [run.directory.path.name for run in found] == ["good"]
    assert "train.warp_speed: unknown key" in reasons.pop("newer")
    assert "cannot read this file of the run" in reasons.pop("torn")
    assert "views: missing or of another type" in reasons.pop("older")
    assert "env.json: this file of the run is missing" in reasons.pop("homeless")
    assert "config.yaml: this file of the run is missing" in reasons.pop("nameless")
    assert reasons == {}


def test_a_run_that_is_named_twice_is_read_once(tmp_path: Path) -> None:
    directory = write_run(tmp_path / "a")
    (tmp_path / "b").symlink_to(directory.path)
    found, _ = reading.read_all([tmp_path, directory.path, tmp_path / "b"])
    assert [run.directory.path for run in found] == [directory.path]


def test_without_a_run_it_says_where_it_looked(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"{tmp_path}: there is no run directory here or below"):
        reading.read_all([tmp_path])
    with pytest.raises(UserError, match="there is no such run directory"):
        reading.read_all([tmp_path / "gone"])
    rewrite(write_run(tmp_path / "a").result, test_error="five")
    with pytest.raises(UserError, match=r"none of the 1 run directories here can be reported:\n.*test_error: missing"):
        reading.read_all([tmp_path])


def test_a_name_that_is_no_text_is_shown_escaped(tmp_path: Path) -> None:
    assert reading.printable("run-\udcff") == "run-\\udcff"
