"""A training step is captured and replayed: here by a recorder that repeats the step's operations on the same memory.

What a CUDA graph would keep from the first step (a number, a shape, a choice) this one keeps too, and what a capture
refuses (reading the device, copying to it from the host) it refuses.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import pytest
import torch
import yaml
from conftest import same, small_config
from engine.test_families import NETWORKS
from engine.test_methods import METHODS
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from pictorch import create_model, optim
from pictorch.data import pixels
from pictorch.data.pipeline import Batch
from pictorch.data.streams import generator
from pictorch.engine import build as build_module
from pictorch.engine.build import Job, build
from pictorch.engine.graphs import CALLS_BEFORE, Record, Replayed
from pictorch.engine.loop import averages_every_step, compiled, create_step, seed_network
from pictorch.engine.precision import Precision
from pictorch.engine.step import Update, move

T = TypeVar("T")
HOST = ("aten._local_scalar_dense", "aten.lift_fresh", "aten.nonzero", "aten.masked_select", "aten.is_nonzero")


class Recorder(TorchDispatchMode):
    """The operations that ran, with their tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[tuple[Any, Any, Any, Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if str(func).startswith(HOST):
            raise RuntimeError(f"operation not permitted when stream is capturing: {func}")
        outputs = func(*args, **(kwargs or {}))
        self.operations.append((func, args, kwargs or {}, outputs))
        return outputs

    @torch.no_grad()
    def replay(self) -> None:
        for func, args, kwargs, outputs in self.operations:
            again = func(*args, **kwargs)
            for place, value in zip(pytree.tree_leaves(outputs), pytree.tree_leaves(again), strict=True):
                if isinstance(value, Tensor) and place.data_ptr() != value.data_ptr():
                    place.copy_(value)


def record(function: Callable[[], T]) -> tuple[T, Callable[[], None]]:
    with Recorder() as recorder:
        outputs = function()
    return outputs, recorder.replay


def trained(recorder: Record[Any] | None, *overrides: str) -> dict[str, Any]:
    """Return what two epochs of steps leave behind, and their losses and errors."""
    job = build(small_config("data.fraction=0.4", "train.batch_size=96", *overrides))
    step = create_step(job, compiled(job), recorder)
    optim.make_capturable(job.optimizer, job.device)
    seen = []
    for number, feed in enumerate(feed for epoch in range(2) for feed in job.train_loader.feeds(epoch)):
        prepare(job, number)
        loss, wrong = step(feed)
        seen.append((loss.clone(), wrong.clone()))
    assert number >= 2 * CALLS_BEFORE + 2
    if recorder:
        assert isinstance(step, Replayed)
        assert step.records, "nothing was replayed"
    return {
        "model": job.model.state_dict(),
        "optimizer": job.optimizer.state_dict()["state"],
        "average": job.average.state_dict(),
        "losses": torch.stack([loss for loss, _ in seen]),
        "errors": torch.stack([wrong for _, wrong in seen]),
    }


def prepare(job: Job, number: int) -> None:
    seed_network(job.device, generator(1, "step", number).initial_seed())
    optim.set_lr(job.optimizer, 0.1 / (1 + number))
    if averages_every_step(job):
        job.average.prepare(number)


@pytest.mark.parametrize("name", METHODS)
def test_a_replayed_step_is_the_step(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # As on a GPU
    monkeypatch.setattr(pixels, "on_", pixels.on_all_)
    monkeypatch.setattr(build_module, "fuse_for_training", lambda model: 0)
    line = METHODS[name]
    parts = [line] if "{" in line else line.split()
    assert same(trained(record, *parts), trained(None, *parts))


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.slow if name in ("googlenet", "xception") else ()) for name in NETWORKS],
)
def test_a_replayed_step_of_every_family_is_the_step(name: str) -> None:
    options = yaml.safe_load(f"{{{NETWORKS[name]}}}")
    if "checkpointing" in options:
        options["drop_rate"] = 0.0  # what it keeps of the generators lies on the host, and a capture refuses it
    precision = Precision("bf16", "cpu", "as configured")

    def trained(recorder: Record[Any] | None) -> dict[str, Tensor]:
        torch.manual_seed(0)
        model = create_model(name, **options)
        weights = tuple(getattr(model, "auxiliary_weights", ()))
        forward = model.forward_with_auxiliary if weights else model
        update = Update(precision, auxiliary_weights=weights)
        optimizer = optim.create(model, "sgd", lr=0.1, weight_decay=1e-4, momentum=0.9)
        optim.make_capturable(optimizer, torch.device("cpu"))
        step = Replayed(lambda batch: move(forward, optimizer, batch, update), recorder)
        for number in range(CALLS_BEFORE + 2):
            torch.manual_seed(number)
            optim.set_lr(optimizer, 0.1 / (1 + number))
            labels = torch.randint(10, (2,))
            step(Batch(torch.rand(2, 3, 32, 32), torch.eye(10)[labels], labels))
        return model.state_dict()

    assert same(trained(record), trained(None))


def test_what_the_host_would_have_to_decide_is_refused() -> None:
    def reads(x: Tensor) -> Tensor:
        return x + 1 if x.sum() > 0 else x

    replayed: Replayed[Tensor] = Replayed(reads, record)
    ones = torch.ones(2)
    for _ in range(CALLS_BEFORE):
        replayed(ones)
    with pytest.raises(RuntimeError, match="not permitted when stream is capturing"):
        replayed(ones)


def test_each_shape_and_choice_has_its_record_and_the_inputs_are_not_kept() -> None:
    calls: list[Any] = []

    def function(inputs: tuple[Tensor, int]) -> Tensor:
        calls.append(inputs[1])
        return inputs[0] * inputs[1]

    replayed: Replayed[Tensor] = Replayed(function, record)
    for _ in range(4):
        for n, factor in ((2, 3), (2, 5), (4, 3)):
            x = torch.rand(n)
            kept = x.clone()
            assert torch.equal(replayed((x, factor)), x * factor)
            assert torch.equal(x, kept)
    assert len(calls) == 3 * (CALLS_BEFORE + 1), "what is recorded is not called again"
    assert len(replayed.records) == 3
