"""How soon a run starts, what memory it takes, that neither grows, and what becomes of sets that do not fit."""

import gc
import math
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from conftest import small_config
from PIL import Image

from pictorch import api, data, runs
from pictorch.config import UserError
from pictorch.data.loader import ResidentLoader
from pictorch.data.streaming import MOST_OF_FREE, StreamingLoader, free_memory_bytes
from pictorch.engine.build import build
from pictorch.engine.memory import forget_peak, peak_memory_bytes
from pictorch.engine.progress import Silent

PROC = Path("/proc/self/status")
linux = pytest.mark.skipif(not PROC.exists(), reason="memory and CPU seconds are read from Linux's /proc")
FIRST_STEP_SECONDS = 5.0
RESIDENT_CIFAR_BYTES = 1.5e9
# What a process's memory moves by without growing: an arena of the allocator's, a library that is loaded later.
SLACK_BYTES = 16e6


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_bytes() -> int:
    words = PROC.read_text().split()
    return 1024 * int(words[words.index("VmRSS:") + 1])


@linux
def test_the_default_run_takes_its_first_step_within_five_seconds() -> None:
    """From the command to the line of an epoch of one step, its evaluation included.

    The limit is for wall time on cores that have nothing else to do; beside other work CPU seconds stand for it.
    """
    started = time.perf_counter()
    command = [sys.executable, "-m", "pictorch", "train", "train.max_steps=1", "--out", "run"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert any(line.startswith("epoch 1: ") for line in process.stdout)
        wall, cpu = time.perf_counter() - started, cpu_seconds(process.pid)
        process.kill()
    assert min(wall, cpu) < FIRST_STEP_SECONDS, f"{wall:.1f} s, in which the CPU worked {cpu:.1f} s"


def test_a_finished_run_leaves_its_images_at_once() -> None:
    """Also where Python's collector of cycles does not come by: of several runs in a process none adds to the next.

    The first is left out: what is imported within it may keep an exception, and with that its frames.
    """
    api.train(small_config())
    gc.collect()
    gc.disable()
    try:
        api.train(small_config())
        assert not [each for each in gc.get_objects() if type(each) is ResidentLoader]
    finally:
        gc.enable()


class Watched(Silent):
    """Keeps memory, open files and threads of this process after every epoch."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, int, int]] = []

    def epoch(self, row: dict[str, object]) -> None:
        self.seen.append((resident_bytes(), len(os.listdir("/proc/self/fd")), threading.active_count()))


@linux
@pytest.mark.slow
def test_nothing_grows_over_fifty_epochs() -> None:
    watched = Watched()
    api.train(api.load_config(None, ["train.epochs=50"]), out="run", progress=watched)
    (early, files, threads), (late, *others) = watched.seen[4], watched.seen[49]
    assert others == [files, threads]
    assert late - early < SLACK_BYTES, f"{early / 1e6:.0f} MB after 5 epochs, {late / 1e6:.0f} MB after 50"


@pytest.mark.slow
@pytest.mark.real_data
def test_resident_cifar_10_trains_within_its_memory() -> None:
    """A run of a few steps and an evaluation, in a process of its own, whose peak the run itself counts."""
    try:
        data.open("cifar10", root=data.root())
    except UserError as error:
        pytest.skip(str(error).splitlines()[0])
    words = ["cifar10/resnet_preact_20", "train.max_steps=5", "data.resident=true", "--out", "run"]
    subprocess.run([sys.executable, "-m", "pictorch", "train", *words], check=True)
    peak = runs.read_json(Path("run/result.json"))["peak_memory_bytes"]
    assert peak < RESIDENT_CIFAR_BYTES


@linux
def test_the_peak_is_the_process_s_own_and_not_that_of_who_started_it() -> None:
    held = bytearray(os.urandom(1)) * 600_000_000
    code = "import torch; from pictorch.engine.memory import peak_memory_bytes as p; print(p(torch.device('cpu')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 50e6 < int(done.stdout) < len(held)


@linux
def test_a_folder_that_does_not_fit_is_streamed_and_it_is_said(tmp_path: Path) -> None:
    """By the real rule: so many links to one image that they take more than half of what is free."""
    free = free_memory_bytes(torch.device("cpu"))
    assert free
    side = 1024
    count = 2 * math.ceil(1.1 * MOST_OF_FREE * free / (3 * side**2) / 2)
    if count > 100_000:
        pytest.skip(f"{free / 1e9:.0f} GB are free: a folder that does not fit has {count:,} images")
    Image.new("RGB", (8, 8), "grey").save(tmp_path / "grey.png")
    for part, name in (("train", "a"), ("train", "b"), ("test", "a"), ("test", "b")):
        (folder := tmp_path / "large" / part / name).mkdir(parents=True)
        for number in range(count // 2 if part == "train" else 1):
            os.link(tmp_path / "grey.png", folder / f"{number}.png")
    network = "model={name: resnet_preact, depth: 8, base_channels: 4, stem: cifar}"
    settings = (f"data.name={tmp_path / 'large'}", f"data.image_size={side}", network, "train.batch_size=1")
    job = build(small_config("augment.crop=null", *settings))
    assert isinstance(job.train_loader, StreamingLoader)
    assert isinstance(job.test_loader, ResidentLoader)
    (said,) = [note for note in job.notes if note.startswith("read when needed: ")]
    assert "of decoded images, more than 50% of the " in said
    assert said.endswith("that are free on cpu")
    assert next(job.train_loader.epoch(0)).images.shape == (1, 3, side, side)


NEW_PAGES = """
import resource, torch
from pictorch.engine.memory import kept_memory

def new_pages():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(16):
        torch.empty(2**26, dtype=torch.uint8).fill_(1)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

with kept_memory():
    new_pages()
    print(new_pages())
"""


@pytest.mark.skipif(os.confstr("CS_GNU_LIBC_VERSION") is None, reason="the allocator is not glibc's")
def test_memory_that_is_given_back_is_kept_for_the_next_step() -> None:
    """Tensors of 64 MB are 16,384 pages each; Linux counts those that are touched for the first time."""
    done = subprocess.run([sys.executable, "-c", NEW_PAGES], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 1000


@linux
def test_a_peak_can_be_forgotten() -> None:
    """What a worker's earlier run held is not the next one's."""
    before = peak_memory_bytes(torch.device("cpu"))
    block = bytearray(300_000_000)
    assert peak_memory_bytes(torch.device("cpu")) >= max(before, len(block))
    with_block = peak_memory_bytes(torch.device("cpu"))
    del block
    forget_peak()
    assert peak_memory_bytes(torch.device("cpu")) < with_block - 250_000_000
