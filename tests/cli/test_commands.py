"""The commands as a user types them: output, exit status, and one clear message for a mistake."""

import fcntl
import io
import json
import os
import pty
import re
import select
import shlex
import signal
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest
from conftest import SMALL
from PIL import Image

from pictorch import api, runs
from pictorch.cli import main

QUICK = (*SMALL, "train.epochs=1", "data.fraction=0.3")


def process(*words: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run the command as a user does, which takes two seconds to start."""
    command = [sys.executable, "-m", "pictorch", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env=os.environ | env, check=False)


def pictorch(*words: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run the command in this process, where an exception that gets out of it fails the test."""
    handler = signal.getsignal(signal.SIGINT)
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["pictorch", *words])
        patch.setattr(sys, "stdout", out)
        patch.setattr(sys, "stderr", err)
        for name, value in env.items():
            patch.setenv(name, value)
        try:
            with pytest.raises(SystemExit) as ended:
                main()
        finally:
            signal.signal(signal.SIGINT, handler)
    for stream in (out, err):
        stream.seek(0)
    assert isinstance(ended.value.code, int)
    return subprocess.CompletedProcess(words, ended.value.code, out.read(), err.read())


def refused(*words: str, **env: str) -> str:
    """Return the message of a command that must end as a user's mistake: status 2, one message, no traceback."""
    done = pictorch(*words, **env)
    assert done.returncode == 2, done.stderr
    assert len(re.findall("^error: |^Error: ", done.stderr, re.MULTILINE)) == 1, done.stderr
    return done.stderr


def test_a_mistake_in_a_process_of_its_own() -> None:
    done = process("train", "train.epochs=-1")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == "error: command line: train.epochs: expected a value above 0, got -1\n"


def test_help_answers_without_torch() -> None:
    code = "import sys, pictorch.cli; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
    seconds = []
    for words in (["--help"], ["train", "-h"], ["eval", "-h"], ["predict", "--help"], ["recipes", "-h"], ["-h"]):
        before = os.times()
        done = process(*words)
        after = os.times()
        # Of the CPU: what a user waits for where nothing else runs.
        seconds.append(sum(after[2:4]) - sum(before[2:4]))
        assert done.returncode == 0
        assert "Usage: pictorch" in done.stdout
    assert min(seconds) < 0.5


def test_version() -> None:
    assert re.fullmatch(r"pictorch \d+\.\d+\.\d+\n", process("--version").stdout)


def test_train_prints_plain_lines_a_result_and_what_to_do_next() -> None:
    done = process("train", *SMALL, "--out", "run")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    out = done.stdout
    assert "\x1b" not in out
    assert len(re.findall(r"^epoch \d: error train [\d.]+%, test [\d.]+%, loss [\d.]+, lr ", out, re.MULTILINE)) == 3
    row = runs.read_json(Path("run/result.json"))
    assert f"{row['test_error']:.2f}%" in out
    assert "Next: pictorch eval run" in out
    assert row["recipe"] == "digits/resnet_preact_8"


def on_a_terminal(columns: int, term: str, *words: str) -> str:
    """Return what the command shows on a terminal of this width, without the codes that move the cursor."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    env = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "LINES")} | {"TERM": term}
    process = subprocess.Popen([sys.executable, "-m", "pictorch", *words], stdout=slave, stderr=slave, env=env)
    os.close(slave)
    shown = b""
    while process.poll() is None or select.select([master], [], [], 0)[0]:
        if select.select([master], [], [], 0.1)[0]:
            try:
                shown += os.read(master, 65536)
            except OSError:
                break
    os.close(master)
    assert process.wait() == 0
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode()).replace("\r", "\n")


@pytest.mark.parametrize(
    ("columns", "first", "last"),
    [
        (
            140,
            r"error \d+\.\d\d%, [\d,]+ images/s, .* left, lr [\d.e-]+",
            r"error \d+\.\d\d%, [\d,]+ images/s, test \d+\.\d\d%",
        ),
        (80, r"error \d+\.\d\d%, [\d,]+ images/s, .* left", r"error \d+\.\d\d%, [\d,]+ images/s, test \d+\.\d\d%"),
        (40, r"error \d+\.\d\d%", r"error \d+\.\d\d%"),
    ],
)
def test_train_draws_a_live_bar_that_fits_the_terminal(columns: int, first: str, last: str) -> None:
    shown = on_a_terminal(columns, "xterm", "train", *SMALL, "train.epochs=12", "--out", "run")
    frames = [line for line in shown.splitlines() if line.startswith("epoch ")]
    assert re.match(rf"epoch 1/12 ━{{5,}} +\d+% {first}", frames[0].replace("╸", "━").replace("╺", "━"))
    assert re.match(rf"epoch 12/12 ━{{5,}} 100% {last} *$", frames[-1])
    assert max(map(len, frames)) <= columns


def test_a_terminal_that_cannot_redraw_gets_lines() -> None:
    shown = on_a_terminal(80, "dumb", "train", *QUICK, "--out", "run")
    assert re.search(r"^epoch 1: error train [\d.]+%, test [\d.]+%, loss", shown, re.MULTILINE)
    assert "━━━━━" not in shown.replace(shown[shown.index("Finished") :], "")


def test_lists_are_wrapped_on_a_terminal_only() -> None:
    assert max(map(len, on_a_terminal(60, "xterm", "recipes").splitlines())) <= 60
    assert re.search(r"^cifar10/resnet_110 .*batch 128$", pictorch("recipes").stdout, re.MULTILINE)


def test_ctrl_c_within_an_import_ends_with_one_line() -> None:
    """The signal comes while torch is being imported, and then everything it raises is lost in there."""
    code = """
import os, signal, sys
class Finder:
    def find_spec(self, name, path, target=None):
        if name == "torch._C":
            try:
                os.kill(os.getpid(), signal.SIGINT)
                while True: pass
            except KeyboardInterrupt as error:
                raise ImportError("a broken torch") from error
sys.meta_path.insert(0, Finder())
from pictorch.cli import main
main()
"""
    done = subprocess.run(
        [sys.executable, "-c", code, "train", "--dry-run"], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "interrupted\n")


def test_train_writes_under_runs_by_default() -> None:
    assert pictorch("train", *QUICK).returncode == 0
    [run] = runs.collect([Path("runs")])
    assert run.path.parent == Path("runs/digits-resnet_preact_8")


def test_dry_run_prints_the_price_and_writes_nothing() -> None:
    done = pictorch("train", "--dry-run", *SMALL)
    assert done.returncode == 0, done.stderr
    assert "base_channels: 8" in done.stdout
    for name in ("parameters", "multiply-adds", "updates", "first step", "the whole run", "memory"):
        assert name in done.stdout
    assert re.search(r"updates\s+│ 33, each on 128 images", done.stdout)
    assert list(Path.cwd().iterdir()) == []


def test_overrides_in_two_tokens_and_notes() -> None:
    done = pictorch("train", "train.epochs", "1", "data.fraction", "0.3", "--out", "run")
    assert done.returncode == 0, done.stderr
    assert "note: schedule.warmup_epochs: 2 became 0.0666667 with train.epochs" in done.stdout


def test_eval_prints_tables_and_json(small_run: api.Result) -> None:
    done = pictorch("eval", str(small_run.run_dir), "--out", "seen")
    assert done.returncode == 0, done.stderr
    assert f"top-1 {small_run.test_top1:.2f}%" in done.stdout
    assert "Per class" in done.stdout
    assert "Confusion matrix" in done.stdout
    report = json.loads(pictorch("eval", str(small_run.run_dir), "--json", "--out", "seen").stdout)
    assert report["error"] == small_run.test_error
    assert sum(map(sum, report["confusion"])) == report["images"] == 355
    assert len(report["per_class"]) == 10


def test_predict_names_images(small_run: api.Result) -> None:
    Image.new("L", (40, 30), 128).save("grey.png")
    Image.new("RGB", (8, 8), (255, 0, 0)).save("red.jpg")
    Path("text.png").write_text("no image")
    done = pictorch("predict", str(small_run.run_dir), "grey.png", "red.jpg", "--top-k", "3")
    assert done.returncode == 0, done.stderr
    assert len(re.findall(r"^ +[\d.]+%  \d$", done.stdout, re.MULTILINE)) == 6
    done = pictorch("predict", str(small_run.run_dir), "--json", "none.png", "text.png", "grey.png")
    assert done.returncode == 2
    assert json.loads(done.stdout)["source"] == "grey.png"
    assert "none.png: there is no such file" in done.stderr
    assert "text.png: this is not an image file that Pillow knows" in done.stderr
    assert "2 of 3 files could not be read" in done.stderr


def test_lists() -> None:
    assert "resnet_preact_20" in pictorch("models").stdout
    assert "cifar10/resnet_preact_20" in pictorch("recipes").stdout
    assert json.loads(pictorch("models", "resnet_20", "--layers", "--json").stdout)[0]["name"] == "stem.conv"
    assert "no network matches 'resnett*'" in refused("models", "resnett*")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["trian"], "Did you mean 'train'?"),
        (["train", "cifar10/resnet_preact_2"], "no recipe 'cifar10/resnet_preact_2'; did you mean"),
        (["train", "train.epohcs=3"], "error: command line: train.epohcs: unknown key; did you mean 'epochs'?"),
        (["train", "train.epochs=-3"], "error: command line: train.epochs: expected a value above 0, got -3"),
        (["train", "train.epochs", "-3"], "error: command line: train.epochs: expected a value above 0, got -3"),
        (["train", "train.epochs=many"], "train.epochs: expected a whole number, got 'many'"),
        (["train", "model.name=resnet_111"], "command line: model.name: resnet_111: unknown model; did you mean"),
        (["train", "model.dept=8"], "command line: model.dept: unknown option; did you mean 'depth'?"),
        (
            ["train", "model.depth=9"],
            "command line: model.depth: layout 'cifar' with basic units has depths 6n+2, got 9",
        ),
        (["train", "data.name=digit"], "command line: data.name:"),
        (["train", "train.batch_size=5000"], "5,000"),
        (["train", "digits/resnet_preact_8", "--batch-size", "64"], "a setting is written train.batch_size=64"),
        (["train", "--out", "--dry-run"], "--out: expected a path, got --dry-run; a path of that name is ./--dry-run"),
        (["train", "--confg", "x.yaml"], "--confg: unknown option; did you mean --config?"),
        (["train", "--config", "none.yaml"], "none.yaml: cannot read this configuration: No such file"),
        (["train", "a", "--config", "b.yaml"], "give either the recipe 'a' or --config b.yaml, not both"),
        (["train", "--resume", ""], "--resume: expected a path, got an empty text"),
        (["train", "model.num_classes=5"], "command line: model.num_classes: the data set 'digits' decides this"),
        (["train", "--resume", "nowhere"], "nowhere: there is no such run directory"),
        (["train", "--resume", "x", "--out", "y"], "--resume continues a run in its own directory"),
        (["train", *QUICK, "--out", "/proc/run"], "/proc/run: cannot write here"),
        (["train", "cifar10/resnet_preact_20", "--data-dir", "empty"], "cifar-10-batches-py"),
        (["eval", "nowhere"], "nowhere: there is no such run directory"),
        (["eval"], "Missing argument 'RUN_DIR'"),
        (["predict", "nowhere", "x.png"], "nowhere: there is no such run directory"),
    ],
)
def test_a_mistake_ends_with_one_message_and_status_2(words: list[str], said: str) -> None:
    assert said in refused(*words)
    assert list(Path.cwd().iterdir()) == []


def test_a_file_that_begins_with_a_dash(small_run: api.Result) -> None:
    Image.new("L", (8, 8)).save("-dash.bmp")
    run = str(small_run.run_dir)
    assert "-dash.bmp would be read as an option; to name the file, write ./-dash.bmp" in " ".join(
        refused("predict", run, "-dash.bmp").split()
    )
    for words in (["./-dash.bmp"], ["--", "-dash.bmp"]):
        assert pictorch("predict", run, *words).returncode == 0


def test_a_tilde_is_the_home_directory(tmp_path: Path) -> None:
    home = {"HOME": str(tmp_path)}
    assert pictorch("train", *QUICK, "--out", "~/run", **home).returncode == 0
    assert (tmp_path / "run" / "result.json").is_file()
    assert pictorch("eval", "~/run", "--json", **home).returncode == 0


def test_an_out_directory_with_another_run_is_left_alone(small_run: api.Result) -> None:
    assert "holds another run" in refused("train", *QUICK, "--out", str(small_run.run_dir))


def test_resume_with_other_settings_is_refused(small_run: api.Result) -> None:
    message = refused("train", "--resume", str(small_run.run_dir), *SMALL, "optim.lr=0.7")
    assert "optim.lr: 0.1 in the run, 0.7 given" in message


def test_resume_of_a_finished_run_shows_its_result(small_run: api.Result) -> None:
    done = pictorch("train", "--resume", str(small_run.run_dir))
    assert done.returncode == 0
    assert f"{small_run.test_error:.2f}%" in done.stdout


def test_tensorboard_is_asked_for_and_missing(tmp_path: Path) -> None:
    (tmp_path / "tensorboardX.py").write_text("raise ImportError('missing')\n")
    words = ("train", *QUICK, "track.tensorboard=true", "--out", "run")
    done = process(*words, PYTHONPATH=str(tmp_path))
    assert done.returncode == 2
    assert "tensorboardX is missing; `python -m pip install 'pictorch[tb]'`" in done.stderr


def test_a_full_disk_is_said_and_the_run_goes_on_later() -> None:
    """The kernel's limit on the size of files stands in for a full disk: checkpoints do not fit."""
    limited = f"ulimit -f 40; exec {sys.executable} -m pictorch train {' '.join(SMALL)} --out run"
    done = subprocess.run(["bash", "-c", limited], capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert "last.ckpt: cannot write here: File too large; what was written before is whole" in done.stderr
    assert pictorch("train", "--resume", "run").returncode == 0


def into_a_closed_pipe(*words: str) -> subprocess.CompletedProcess[str]:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        command = [sys.executable, "-m", "pictorch", *words]
        return subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    finally:
        os.close(writer)


def test_a_reader_of_a_list_that_goes_away_is_no_failure() -> None:
    done = into_a_closed_pipe("models")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("words", [["--help"], ["train", "--help"]])
def test_help_into_a_closed_pipe_is_silent(words: list[str]) -> None:
    assert into_a_closed_pipe(*words).stderr == ""


@pytest.mark.parametrize("words", [["--help"], ["models"], ["recipes", "--json"], ["train", *QUICK, "--out", "run"]])
def test_output_that_cannot_be_written_is_said(words: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "pictorch", *words]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "error: standard output: cannot write here: No space left on device\n"
    assert words[0] != "train" or runs.read_json(Path("run/result.json"))["complete"]


def test_a_run_goes_on_when_nobody_reads_its_lines() -> None:
    done = into_a_closed_pipe("train", *SMALL, "--out", "run")
    assert (done.returncode, done.stderr) == (0, "")
    assert runs.read_json(Path("run/result.json"))["complete"]


def test_the_next_command_repeats_the_run_with_another_seed() -> None:
    done = pictorch("train", *QUICK, "--out", "my run")
    [command] = re.findall(r"pictorch (train --config .*)", done.stdout)
    done = pictorch(*shlex.split(command))
    assert done.returncode == 0, done.stderr
    first, second = (runs.read_json(run.result) for run in runs.collect([Path()]))
    assert (first["seed"], second["seed"]) == (1, 2)
    assert first["config_hash"] == second["config_hash"]
    assert first["recipe"] == second["recipe"] == "digits/resnet_preact_8"


def test_resume_compares_settings_with_the_runs_own() -> None:
    assert pictorch("train", *QUICK, "--data-dir", "/nowhere", "--out", "run").returncode == 0
    for words in ([], ["--data-dir", "/elsewhere"], ["train.epochs=1"], QUICK):
        assert pictorch("train", "--resume", "run", *words).returncode == 0
    message = refused("train", "--resume", "run", "train.batch_size=64")
    assert message.count(" in the run, ") == 1
