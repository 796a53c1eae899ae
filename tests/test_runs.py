"""The run directory: nothing half-written, nothing overwritten, everything readable after a kill."""

import datetime
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from pictorch import runs
from pictorch.runs import RunError


def make(path: Path) -> runs.RunDir:
    return runs.create(path, {"train": {"epochs": 3}}, {"torch": "x"})


def test_a_new_run_has_its_configuration_and_environment(tmp_path: Path) -> None:
    run = make(tmp_path / "deep/er/run")
    assert yaml.safe_load(run.config.read_text()) == {"train": {"epochs": 3}}
    assert runs.read_json(run.env) == {"torch": "x"}
    assert sorted(p.name for p in run.path.iterdir()) == ["config.yaml", "env.json"]
    assert sorted(p.name for p in run.path.parent.iterdir()) == ["run"]


def test_an_empty_directory_may_become_a_run(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    assert make(tmp_path / "run").config.exists()


def test_another_run_is_never_overwritten(tmp_path: Path) -> None:
    run = make(tmp_path / "run")
    before = run.config.read_bytes()
    with pytest.raises(RunError, match="holds another run, which stays as it is"):
        runs.create(run.path, {"train": {"epochs": 4}}, {})
    assert run.config.read_bytes() == before


def test_other_files_are_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(RunError, match="not empty and not a run"):
        make(tmp_path)


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("/proc/run", "/proc/run: cannot write here"),
        ("x" * 300, "x: cannot write here: File name too long"),
        ("file", "file: this is a file, not a directory; give another --out"),
        ("file/run/deeper", "file/run/deeper: .*/file is a file, not a directory; give another --out"),
        ("one/two/three", "one/two/three: this is inside the run directory .*/one; give another --out"),
    ],
)
def test_a_place_that_cannot_be_made_a_run(place: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    make(tmp_path / "one")
    with pytest.raises(RunError, match=message):
        make(tmp_path / place)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "here", "one"]
    assert make(tmp_path / "one/../two").config.exists()


def test_checking_a_place_makes_nothing(tmp_path: Path) -> None:
    runs.check_new(tmp_path / "deep/er/run")
    assert not (tmp_path / "deep").exists()


@pytest.mark.skipif(os.name == "posix" and os.geteuid() == 0, reason="root may write everywhere")
def test_a_place_without_permission_is_told_before_anything_is_done(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(RunError, match="run: cannot write here: Permission denied"):
        runs.check_new(tmp_path / "run")


def test_a_path_is_taken_as_the_user_writes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ann")
    assert runs.directory("~/runs/1") == runs.directory(Path("~/runs/1")) == Path("/home/ann/runs/1")
    for place, message in (
        ("", "expected the path of a run directory, got an empty text"),
        ("a\0b", r"'a\\x00b': a path cannot hold a NUL character"),
        ("~nobody-of-that-name/run", "~nobody-of-that-name/run: "),
    ):
        with pytest.raises(RunError, match=message):
            runs.open(place)


def test_the_command_to_resume_can_be_pasted(tmp_path: Path) -> None:
    assert runs.RunDir(Path("my runs/1")).resume_command() == "pictorch train --resume 'my runs/1'"


def test_opening_what_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="there is no such run directory"):
        runs.open(tmp_path / "none")
    make(tmp_path / "all/one")
    with pytest.raises(RunError, match=r"not a run directory: it has no config\.yaml; did you mean .*all/one\?"):
        runs.open(tmp_path / "all")
    with pytest.raises(RunError, match=r"config\.yaml: this is a file, not a run directory; did you mean .*/all/one\?"):
        runs.open(tmp_path / "all/one/config.yaml")
    with pytest.raises(RunError, match="x: cannot read here: File name too long"):
        runs.open(tmp_path / ("x" * 300))


def test_the_hint_looks_two_levels_down_and_not_through_a_disk(tmp_path: Path) -> None:
    make(tmp_path / "1/2/3")
    with pytest.raises(RunError, match=r"did you mean .*1/2/3\?"):
        runs.open(tmp_path / "1")
    with pytest.raises(RunError, match=r"it has no config\.yaml$"):
        runs.open(tmp_path)


def test_collect_finds_runs_at_any_depth(tmp_path: Path) -> None:
    paths = [make(tmp_path / name).path for name in ("b", "a/c", "a/d/e")]
    (tmp_path / "x").mkdir()
    assert [run.path for run in runs.collect([tmp_path])] == sorted(paths)


def test_default_paths_are_fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    now = datetime.datetime(2026, 1, 2, 3, 4, 5)
    first = runs.default_path("cifar10/resnet_20", 7, now=now)
    assert first == Path("runs/cifar10-resnet_20/20260102-030405-seed7")
    make(first)
    assert runs.default_path("cifar10/resnet_20", 7, now=now).name == "20260102-030405-seed7-2"


def test_rows_survive_a_torn_last_line(tmp_path: Path) -> None:
    run = make(tmp_path / "run")
    for epoch in (1, 2, 3):
        runs.append(run, {"epoch": epoch})
    with run.metrics.open("a") as file:
        file.write('{"no": "epoch"}\n[1]\n')
        file.write('{"epoch": 4, "train_l\n')
        file.write("[" * 100_000 + '\n{"epoch": 5, "lr": "high"}\n')
    assert [row["epoch"] for row in runs.read_metrics(run)] == [1, 2, 3]
    runs.rewind_metrics(run, 2)
    assert run.metrics.read_text() == '{"epoch": 1}\n{"epoch": 2}\n'


def test_rows_that_were_trained_must_be_there(tmp_path: Path) -> None:
    run = make(tmp_path / "run")
    for epoch in (1, 3):
        runs.append(run, {"epoch": epoch})
    before = run.metrics.read_bytes()
    assert runs.first_rows(run, 1) == [{"epoch": 1}]
    with pytest.raises(
        RunError, match=r"metrics\.jsonl: expected one row for each of the 3 epochs .* whole ones of 2; nothing"
    ):
        runs.rewind_metrics(run, 3)
    assert run.metrics.read_bytes() == before
    run.metrics.unlink()
    run.metrics.mkdir()
    with pytest.raises(RunError, match=r"metrics\.jsonl: cannot read this file of the run: Is a directory"):
        runs.read_metrics(run)


def test_a_failed_write_leaves_the_old_file() -> None:
    """A file-size limit of the kernel stands in for a full disk: the write fails half-way with an OSError."""
    program = (
        "import resource, signal, sys; from pathlib import Path; from pictorch import runs\n"
        "path = Path(sys.argv[1]); runs.write(path, b'old')\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try: runs.write(path, b'n' * 5000)\n"
        "except runs.RunError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, "last.ckpt"], capture_output=True, text=True, check=True)
    assert "last.ckpt: cannot write here: File too large; what was written before is whole" in done.stdout
    assert Path("last.ckpt").read_bytes() == b"old"
    assert [p.name for p in Path().iterdir()] == ["last.ckpt"]


def test_what_a_kill_left_half_written_is_swept(tmp_path: Path) -> None:
    run = make(tmp_path / "run")
    (run.path / ".last.ckpt.x1y2.partial").write_bytes(b"half")
    for name in (".config.yaml.swp", ".my.notes", ".hidden"):
        (run.path / name).write_text("mine")
    (run.path / ".cache.d").mkdir()
    runs.sweep(run)
    names = sorted(p.name for p in run.path.iterdir())
    assert names == [".cache.d", ".config.yaml.swp", ".hidden", ".my.notes", "config.yaml", "env.json"]


def test_a_kill_before_the_configuration_is_written_leaves_room_for_the_run(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run/env.json").write_text("{}")
    (tmp_path / "run/.config.yaml.abc.partial").write_text("half")
    assert sorted(p.name for p in make(tmp_path / "run").path.iterdir()) == ["config.yaml", "env.json"]


def test_json_of_a_run_is_checked(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is missing"):
        runs.read_json(tmp_path / "result.json")
    (tmp_path / "result.json").write_text("{")
    with pytest.raises(RunError, match=r"result\.json: cannot read this file of the run"):
        runs.read_json(tmp_path / "result.json")
    (tmp_path / "result.json").write_text("[" * 100_000)
    with pytest.raises(RunError, match=r"result\.json: cannot read this file of the run: maximum recursion"):
        runs.read_json(tmp_path / "result.json")
    (tmp_path / "result.json").write_text("[]")
    with pytest.raises(RunError, match="expected a JSON object, got list"):
        runs.read_json(tmp_path / "result.json")


def test_a_result_without_its_keys_is_refused(tmp_path: Path) -> None:
    run = make(tmp_path / "run")
    row = {key: kind() if isinstance(kind, type) else kind[0](1) for key, kind in runs.RESULT.items()}
    runs.finish(run, row)
    assert runs.read_result(run) == row
    runs.finish(run, {**row, "test_error": "low", "val_top1": None, "macs": None})
    with pytest.raises(RunError, match=r"result\.json: macs, test_error: .*`pictorch train --resume .*run` writes it"):
        runs.read_result(run)


def test_two_processes_do_not_share_a_run(tmp_path: Path) -> None:
    run = make(tmp_path / "run")
    program = (
        "import sys; from pathlib import Path; from pictorch import runs\n"
        "with runs.lock(runs.open(Path(sys.argv[1]))): pass\n"
    )
    other = [sys.executable, "-c", program, str(run.path)]
    with runs.lock(run):
        refused = subprocess.run(other, capture_output=True, text=True, check=False)
    assert "another process is training in this run directory" in refused.stderr
    subprocess.run(other, check=True)


def test_finish_writes_the_result(tmp_path: Path) -> None:
    run = make(tmp_path / "run")
    runs.finish(run, {"test_error": 1.5})
    assert json.loads(run.result.read_text()) == {"test_error": 1.5}
    assert os.stat(run.result).st_mode & 0o777 == 0o644
