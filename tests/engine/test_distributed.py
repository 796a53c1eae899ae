"""One run on two processes, against the same run on one: weights, figures, resume, and what users get wrong."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from conftest import same, state_of
from safetensors.torch import load_file
from torch import nn

from pictorch import api, runs
from pictorch.config import UserError
from pictorch.data.pipeline import Batch, Share
from pictorch.engine import distributed
from pictorch.engine.distributed import World
from pictorch.models.synchronised import whole_batch_draws

TINY = (
    "model.name=resnet_preact",
    "model.depth=8",
    "model.base_channels=8",
    "train.batch_size=32",
    "train.precision=fp32",
    "train.threads=1",
    "train.epochs=2",
    "data.fraction=0.15",
    "track.tensorboard=false",
)
# The whole batch's sums are taken in two parts: float32 rounds otherwise, and 10 to 14 steps of training carry that on,
# to differences of some 1e-6. (A ReLU whose input is zero but for rounding may fall on either side, and it is 1e-4: of
# six seeds of "last-batch" the first, and none of the others.)
CLOSE = {"rtol": 1e-4, "atol": 1e-5}
SETTINGS: dict[str, tuple[str, ...]] = {
    "ghost": ("train.ghost_batches=2",),
    "synchronised": (),
    "mixup-ema-clip": ("train.ghost_batches=2", "augment.mixup.alpha=1", "ema.decay=0.9", "optim.clip_norm=1"),
    "streaming-validation": ("data.resident=false", "data.val_fraction=0.2", "train.select=best-val"),
    "views-sam": ("augment.dual_cutout.size=4", "optim.name=sam", "train.ghost_batches=4"),
    "swa-accumulate": ("swa.start_epochs=1", "optim.accumulate=2", "train.ghost_batches=2"),
    "dropout": ("model.name=wrn", "model.depth=10", "model.widening_factor=1", "model.drop_rate=0.3"),
    "shaking": ("model.name=shake_shake", "model.depth=8"),
    "last-batch": ("data.drop_last=false", "data.fraction=0.14", "train.seed=2"),
}
SEVERAL = """
import json, sys
from pathlib import Path
from pictorch import api
for name, overrides in json.loads(sys.argv[1]).items():
    result = api.train(api.load_config(None, overrides), recipe="shared", out=Path(name))
    assert result.run_dir == Path(name) and result.row["complete"]
"""


def environment(rank: int, size: int, port: int) -> dict[str, str]:
    """Return what torchrun gives each process that it starts."""
    there = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size, "MASTER_PORT": port}
    return {**os.environ, **{key: str(value) for key, value in there.items()}, "MASTER_ADDR": "localhost"}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return int(probe.getsockname()[1])


def start(command: Sequence[str], directory: Path, *, size: int = 2) -> list[subprocess.Popen[str]]:
    port = free_port()
    return [
        subprocess.Popen(
            [sys.executable, *command],
            cwd=directory,
            env=environment(rank, size, port),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(size)
    ]


def finish(processes: Sequence[subprocess.Popen[str]]) -> list[tuple[int, str, str]]:
    """Return status, output and errors of each."""
    said = [process.communicate(timeout=300) for process in processes]
    return [(process.returncode, *texts) for process, texts in zip(processes, said, strict=True)]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runs of SETTINGS, each trained by two processes."""
    directory = tmp_path_factory.mktemp("shared")
    asked = json.dumps({name: [*TINY, *overrides] for name, overrides in SETTINGS.items()})
    for status, output, errors in finish(start(["-c", SEVERAL, asked], directory)):
        assert status == 0, output + errors
    return directory


@pytest.mark.parametrize("name", SETTINGS)
def test_two_processes_train_the_run_of_one(name: str, shared: Path) -> None:
    """Ghost batch norm's parts are the processes'; without, batch norm is synchronised."""
    alone = api.train(api.load_config(None, [*TINY, *SETTINGS[name]]), recipe="shared", out=Path("alone"))
    assert isinstance(alone, api.Result)
    one, two = alone.run_dir, shared / name
    theirs = load_file(two / "model.safetensors")
    for key, tensor in load_file(one / "model.safetensors").items():
        torch.testing.assert_close(theirs[key], tensor, **CLOSE, msg=lambda text, key=key: f"{key}: {text}")
    rows = [runs.read_metrics(runs.open(path)) for path in (one, two)]
    for first, second in zip(*rows, strict=True):
        assert first["step"] == second["step"]
        assert first["train_loss"] == pytest.approx(second["train_loss"], rel=1e-3)
        assert first["train_error"] == pytest.approx(second["train_error"], abs=1)
    results = [runs.read_result(runs.open(path)) for path in (one, two)]
    assert results[0]["test_images"] == results[1]["test_images"] == 355
    assert results[0]["config_hash"] == results[1]["config_hash"]
    assert results[0]["test_error"] == pytest.approx(results[1]["test_error"], abs=1)
    assert (two / "predictions.npz").exists()
    assert runs.read_json(two / "env.json")["processes"] == 2


ENDING = """
import atexit, os
from pathlib import Path

def threads():  # of gloo, after all that was registered later
    names = [path.read_text() for path in Path("/proc/self/task").glob("*/comm")]
    print("threads:", *names, file=said)

said = open(os.dup(1), "w")  # the second process is made silent
atexit.register(threads)
from pictorch.cli import main
main()
"""


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="threads are named by Linux")
def test_no_thread_is_left_when_the_interpreter_ends() -> None:
    """One that is can abort the process, once in a hundred runs."""
    for status, output, errors in finish(start(["-c", ENDING, "train", *TINY, "--out", "run"], Path.cwd())):
        assert status == 0, output + errors
        assert "threads:" in output
        assert "gloo" not in output.rpartition("threads:")[2]


def test_the_comparison_sees_other_statistics(shared: Path) -> None:
    ghost, synchronised = (load_file(shared / name / "model.safetensors") for name in ("ghost", "synchronised"))
    differing = [key for key in ghost if not torch.allclose(ghost[key], synchronised[key], **CLOSE)]
    assert len(differing) > len(ghost) / 2


TRAIN = ("-m", "pictorch", "train", *TINY, "train.ghost_batches=2", "--out", "run")


@pytest.mark.slow
def test_torchrun_on_the_command_line() -> None:
    """Two nodes with a process each, on one machine; only the first one speaks."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=1"]
    there = ["--master-addr=localhost", f"--master-port={free_port()}"]
    nodes = [
        subprocess.Popen(
            [*torchrun, f"--node-rank={rank}", *there, *TRAIN],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    (first, said, errors), (second, unsaid, _) = finish(nodes)
    assert first == second == 0, errors
    assert "2 processes share each batch; batch norm takes the statistics of a ghost batch in each" in said
    assert "test error" in said
    assert unsaid == ""


@pytest.mark.slow
def test_a_stop_of_one_stops_all_and_resume_goes_on_to_the_same_bits(shared: Path) -> None:
    processes = start([*TRAIN, "train.epochs=40"], Path())
    wait_for(Path("run/metrics.jsonl"), lines=2)
    processes[1].send_signal(signal.SIGTERM)
    ended = finish(processes)
    assert [status for status, *_ in ended] == [130, 130]
    assert "continue with `pictorch train --resume run`" in ended[0][2]
    assert ended[1][2] == ""
    assert not Path("run/result.json").exists()
    for status, _, errors in finish(start(["-m", "pictorch", "train", "--resume", "run"], Path())):
        assert status == 0, errors
    whole = finish(start([*TRAIN[:-1], "whole", "train.epochs=40"], Path()))
    assert [status for status, *_ in whole] == [0, 0]
    assert same(state_of(Path("run")), state_of(Path("whole")))


def test_resume_with_another_number_of_processes(shared: Path) -> None:
    shutil.copytree(shared / "ghost", "run")
    Path("run/result.json").unlink()
    with pytest.raises(UserError, match="began with torchrun --nproc-per-node 2 and goes on only so, got 1"):
        api.resume(Path("run"))


def test_a_mistake_is_told_once() -> None:
    ended = finish(start([*TRAIN, "train.ghost_batches=1", "train.batch_size=33"], Path()))
    assert [status for status, *_ in ended] == [2, 2]
    expected = "error: train.batch_size: 33 images do not divide into 2 processes: expected a multiple of 2, for "
    assert ended[0][2].startswith(expected)
    assert ended[1][1:] == ("", "")
    assert not Path("run").exists()


def wait_for(path: Path, *, lines: int, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if path.exists() and len(path.read_text().splitlines()) >= lines:
            return
        time.sleep(0.02)
    raise AssertionError(f"{path} did not come to have {lines} lines")


# What needs no second process


class Two(World):
    size = 2


@pytest.mark.parametrize(
    ("overrides", "groups"), [((), 0), (("train.ghost_batches=2",), 1), (("train.ghost_batches=8",), 4)]
)
def test_divide(overrides: tuple[str, ...], groups: int) -> None:
    config = api.load_config(None, overrides)
    assert distributed.divide(config, Two(), images=1437) == groups
    assert distributed.divide(config, World(), images=1437) == config.train.ghost_batches


@pytest.mark.parametrize(
    ("overrides", "views", "message"),
    [
        (("train.batch_size=65",), 1, "65 images do not divide into 2 processes: expected a multiple of 2"),
        (("data.drop_last=false",), 1, "the last batch of an epoch has 29 images.*expected data.drop_last=true"),
        (("train.ghost_batches=3", "train.batch_size=66"), 1, "a multiple of 2, or 1 for statistics of the whole"),
        (("train.ghost_batches=2",), 2, "each with 2 views of an image: expected a multiple of 4"),
    ],
)
def test_divide_refuses(overrides: tuple[str, ...], views: int, message: str) -> None:
    config = api.load_config(None, ["train.batch_size=64", *overrides])
    with pytest.raises(UserError, match=message):
        distributed.divide(config, Two(), images=1437, views=views)


def test_shares_are_the_whole_batch() -> None:
    batch = Batch(torch.arange(14.0).view(14, 1, 1, 1), torch.arange(14.0).view(7, 2), torch.arange(7))
    shares = [Share(number, 3).take(batch, 2) for number in range(3)]
    assert torch.equal(torch.cat([share.labels for share in shares]), batch.labels)
    assert [share.images.flatten().tolist() for share in shares] == [[0, 1, 7, 8], [2, 3, 9, 10], [4, 5, 6, 11, 12, 13]]


@pytest.mark.parametrize("channels_last", [False, True])
def test_dropout_of_a_part_is_that_of_the_whole_batch(channels_last: bool) -> None:
    layer, images = nn.Dropout(0.4), torch.randn(6, 5, 4, 4)
    if channels_last:
        images = images.contiguous(memory_format=torch.channels_last)
    torch.manual_seed(3)
    whole = layer(images)
    for rank in range(3):
        torch.manual_seed(3)
        part = whole_batch_draws(nn.Sequential(nn.Dropout(0.4)), rank=rank, size=3)(images[2 * rank : 2 * rank + 2])
        torch.testing.assert_close(part, whole[2 * rank : 2 * rank + 2])
