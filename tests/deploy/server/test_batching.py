"""What arrives while the network computes is answered together; queue and batch are bounded."""

import asyncio
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from pictorch import api
from pictorch.deploy.predict import Predictor
from pictorch.deploy.server.batching import Batcher, sizes
from pictorch.deploy.server.limits import Limits, Refused


class Held(Predictor):
    """A predictor that waits before each batch until it may go on."""

    held = False

    def __init__(self, run_dir: Any) -> None:
        super().__init__(run_dir)
        self.gate = threading.Semaphore(0)

    def logits(self, pixels: torch.Tensor) -> torch.Tensor:
        if self.held:
            assert self.gate.acquire(timeout=20)
        return super().logits(pixels)


@pytest.fixture
def held(small_run: api.Result) -> Held:
    return Held(small_run.run_dir)


def run(predictor: Held, limits: Limits, work: Callable[[Batcher], Any]) -> list[int]:
    """Run `work` beside a batcher; return the sizes of its batches."""
    batches: list[int] = []

    async def main() -> None:
        batcher = Batcher(predictor, limits, threads=1, on_batch=batches.append)
        await batcher.start()
        predictor.held = True
        await work(batcher)
        await batcher.stop()
        assert not batcher.queue

    asyncio.run(main())
    return batches


def noise(n: int) -> torch.Tensor:
    return torch.randint(0, 256, (n, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(n))


def test_batches_form_while_the_network_computes_and_answers_are_the_predictors(held: Held) -> None:
    pixels = noise(12)
    expected = held.predictions([""] * 12, held.logits(pixels), 10)

    async def work(batcher: Batcher) -> None:
        tasks = []
        for place, one in enumerate(pixels):
            tasks.append(asyncio.create_task(batcher.predict(one, f"{place}", 1 + place % 3)))
            await asyncio.sleep(0.02 if place == 0 else 0)
        await asyncio.sleep(0.02)
        for _ in range(5):
            held.gate.release()
        for place, answer in enumerate(await asyncio.gather(*tasks)):
            assert answer.source == f"{place}"
            assert answer.classes == expected[place].classes[: 1 + place % 3]
            assert answer.probabilities == pytest.approx(expected[place].probabilities[: 1 + place % 3], abs=1e-6)

    assert run(held, replace(Limits(), batch_images=5), work) == [1, 4, 4, 2, 1]


@pytest.mark.parametrize(("most", "expected"), [(1, [1]), (5, [1, 2, 4]), (32, [1, 2, 4, 8, 16, 32])])
def test_sizes_of_batches_are_powers_of_two(most: int, expected: list[int]) -> None:
    assert sizes(most) == expected


def test_too_many_images_are_refused_until_others_are_answered(held: Held) -> None:
    async def work(batcher: Batcher) -> None:
        with batcher.admit(3):
            with pytest.raises(Refused) as caught, batcher.admit(2):
                raise AssertionError
            assert caught.value.status == 503
            assert caught.value.headers() == {"Retry-After": "1"}
            with batcher.admit(1):
                assert batcher.admitted == 4
        assert batcher.admitted == 0

    assert run(held, replace(Limits(), waiting_images=4), work) == []


def test_what_nobody_waits_for_is_not_computed(held: Held) -> None:
    async def work(batcher: Batcher) -> None:
        [first, *others] = [asyncio.create_task(batcher.predict(one, "", 1)) for one in noise(5)]
        await asyncio.sleep(0.05)
        for task in others[1:]:
            task.cancel()
        held.gate.release()
        held.gate.release()
        await asyncio.gather(first, others[0])

    assert run(held, replace(Limits(), batch_images=1), work) == [1, 1]


def test_a_failure_is_that_of_its_batch_alone(held: Held) -> None:
    async def work(batcher: Batcher) -> None:
        with pytest.raises(RuntimeError):
            await asyncio.gather(asyncio.to_thread(held.gate.release), batcher.predict(torch.zeros(3, 8), "", 1))
        held.gate.release()
        assert len((await batcher.predict(noise(1)[0], "", 4)).classes) == 4

    assert run(held, Limits(), work) == [1, 1]
