"""`pictorch verify-resume`: real kills of real processes, what it says of them, and that it sees a bit that differs."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import SMALL

from pictorch import api, runs
from pictorch.engine.verify import first_difference, state_of

KILL = re.compile(r"^kill (\d+)(?:, (all processes|process [01]))?: epoch (\d+), step (\d+): (.+)$", re.MULTILINE)
PHASES = {"starting", "training", "evaluating", "writing last.ckpt", "between the row and the checkpoint"}


def verify_resume(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pictorch", "verify-resume", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)


def test_three_kills() -> None:
    done = verify_resume(
        *SMALL, "train.epochs=8", "data.val_fraction=0.1", "--kills", "3", "--seed", "1", "--out", "top"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "8 epochs, 80 updates, uninterrupted in " in done.stdout
    assert "3 kills, drawn with seed 1" in done.stdout
    kills = KILL.findall(done.stdout)
    assert [number for number, *_ in kills] == ["1", "2", "3"]
    assert {phase for *_, phase in kills} <= PHASES
    assert all(int(step) / 10 <= int(epoch) <= int(step) // 10 + 1 for _, _, epoch, step, _ in kills)
    assert re.search(
        r"^identical after 3 kills, .* tensors of weights, optimiser and averages, 8 rows", done.stdout, re.M
    )
    run = runs.open("top/killed-1")
    assert 1 <= len(runs.read_json(run.env)["resumed"]) <= 3
    assert first_difference(state_of(runs.open("top/uninterrupted")), state_of(run)) is None


NOISY = """
import random
from pictorch import create_model

def Net(**options):
    net = create_model("resnet_preact", depth=8, base_channels=8, **options)
    net.register_forward_hook(lambda net, args, logits: logits * (1 + random.random() / 1000))
    return net
"""


@pytest.mark.slow
def test_a_run_that_is_not_resumed_exactly_is_found_out() -> None:
    """Its network draws from a generator that nobody seeds."""
    Path("noisy.py").write_text(NOISY)
    words = ("model={name: noisy:Net}", "train.epochs=2", "train.precision=fp32", "track.tensorboard=false")
    done = verify_resume(*words, "--kills", "1", "--out", "top")
    assert done.returncode == 1, done.stdout + done.stderr
    assert re.search(
        r"^different: last\.ckpt\.model\.\S+: [\d,]+ of [\d,]+ values of float32 \[.*\], the", done.stdout, re.M
    )
    assert "the runs are kept: top" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "kills"),
    [
        (("ema.decay=0.9", "augment.mixup.alpha=1", "data.resident=false", "train.epochs=25"), 20),
        (("train.epochs=10", "train.threads=1", "--processes", "2"), 6),
    ],
)
def test_many_kills(words: tuple[str, ...], kills: int) -> None:
    done = verify_resume(*SMALL, *words, "--kills", str(kills))
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"identical after {kills} kills" in done.stdout
    phases = {phase for *_, phase in KILL.findall(done.stdout)}
    assert "writing last.ckpt" in phases
    assert len(phases) >= 3


def test_a_session_that_fails_is_told() -> None:
    done = verify_resume(*SMALL, "optim.lr=1e30", "--kills", "1", "--out", "top")
    assert done.returncode == 2
    assert "error: top/uninterrupted: a session failed: training diverged: the loss is not finite" in done.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("train.replicas=2",), "train.replicas: expected one run"),
        (("digits/resnet_preact_8", "--config", "x.yaml"), "give either the recipe"),
        (("--kill", "3"), "--kill: unknown option"),
        ((*SMALL, "--out", "."), "this is not empty; give another --out"),
    ],
)
def test_mistakes(words: tuple[str, ...], message: str) -> None:
    Path("something").touch()
    done = verify_resume(*words)
    assert done.returncode == 2
    assert message in done.stderr


def test_the_comparison_names_the_first_tensor_that_differs(small_run: api.Result) -> None:
    run = runs.open(small_run.run_dir)
    one, other = state_of(run), state_of(run)
    assert first_difference(one, other) is None
    bias = other["last.ckpt"]["model"]["classifier.bias"]
    bias[3] = torch.nextafter(bias[3], torch.tensor(9.0))
    assert str(first_difference(one, other)).startswith(
        "last.ckpt.model.classifier.bias: 1 of 10 values of float32 [10], the first at 3: "
    )
    rows = state_of(run)
    rows["metrics.jsonl"][1]["train_loss"] += 1
    assert str(first_difference(one, rows)).startswith("metrics.jsonl.1.train_loss: ")


def test_zeros_of_both_signs_differ_and_nans_of_the_same_bits_do_not() -> None:
    zero, nan = torch.zeros(()), torch.full((2,), float("nan"))
    assert first_difference({"x": zero}, {"x": -zero}) == "x: 1 of 1 values of float32 [], the first at 0: 0 and -0"
    assert first_difference({"x": nan}, {"x": nan.clone()}) is None
    assert first_difference({"x": zero}, {"y": zero}) == "x is only in the first"
    assert first_difference([zero], [zero.double()]) == "0: float32 [] and float64 []"
