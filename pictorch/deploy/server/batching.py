"""Pixels -> predictions: one thread computes, and what arrives meanwhile is answered together."""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TypeVar, final

import torch
from torch import Tensor

from pictorch.deploy.predict import Prediction, Predictor
from pictorch.deploy.server.limits import Limits, Refused

T = TypeVar("T")


@final
@dataclass(frozen=True, eq=False)
class Waiting:
    """An image that waits for the network."""

    pixels: Tensor
    source: str
    top_k: int
    answer: asyncio.Future[Prediction]


@final
class Batcher:
    """A network behind a queue of images, bounded in length and in the size of a batch.

    No image waits for others to come: a free network takes what is there, a busy one what came meanwhile, of that the
    largest power of two: oneDNN keeps what it made for each size of a batch, 3 MiB of ResNet-preact-20's, so that few
    sizes keep the memory of a process flat. The queue is bounded where images are admitted (`admit`), before their
    decoding, so that nothing piles up in between.
    """

    def __init__(
        self, predictor: Predictor, limits: Limits, *, threads: int, on_batch: Callable[[int], None] = lambda _: None
    ) -> None:
        self.predictor, self.limits, self.threads, self.on_batch = predictor, limits, threads, on_batch
        self.admitted = 0
        self.queue: deque[Waiting] = deque()
        self.arrived = asyncio.Event()
        # torch's number of threads is that of the thread which sets it.
        self.thread = ThreadPoolExecutor(1, "network", initializer=torch.set_num_threads, initargs=(threads,))
        self.worker: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Answer a batch of every size, so that the first requests are not the slowest, and begin to work."""
        metadata = self.predictor.metadata
        shape = (metadata["in_channels"], metadata["image_size"], metadata["image_size"])
        for images in sizes(self.limits.batch_images):
            await self.run(partial(self.predictor.logits, torch.zeros(images, *shape, dtype=torch.uint8)))
        self.worker = asyncio.create_task(self.work())

    async def stop(self) -> None:
        """End the worker and its thread; call it when nothing is under way any more."""
        if self.worker:
            self.worker.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self.worker
        self.thread.shutdown(wait=False, cancel_futures=True)

    @contextlib.contextmanager
    def admit(self, images: int) -> Iterator[None]:
        """Count so many images as under way within it. Raises Refused (503) where there are too many already."""
        if self.admitted + images > self.limits.waiting_images:
            raise Refused(503, "too many images are waiting to be answered; try again in a second", retry_seconds=1)
        self.admitted += images
        try:
            yield
        finally:
            self.admitted -= images

    async def predict(self, pixels: Tensor, source: str, top_k: int) -> Prediction:
        """Return the prediction for an image uint8 [C,S,S]. One whose caller went away is not computed."""
        answer: asyncio.Future[Prediction] = asyncio.get_running_loop().create_future()
        self.queue.append(Waiting(pixels, source, top_k, answer))
        self.arrived.set()
        return await answer

    async def run(self, work: Callable[[], T]) -> T:
        """Return what `work` returns on the network's thread, between two batches."""
        return await asyncio.get_running_loop().run_in_executor(self.thread, work)

    async def work(self) -> None:
        """Answer batches for ever."""
        while True:
            await self.arrived.wait()
            batch = self.take()
            if not batch:
                self.arrived.clear()
                continue
            self.on_batch(len(batch))
            try:
                answers = await self.run(partial(self.compute, batch))
            except Exception as error:
                for each in batch:
                    if not each.answer.done():
                        each.answer.set_exception(error)
                continue
            for each, answer in zip(batch, answers, strict=True):
                if not each.answer.done():
                    each.answer.set_result(answer)

    def take(self) -> list[Waiting]:
        """Return the next batch; what nobody waits for any more is left out."""
        batch: list[Waiting] = []
        while self.queue and len(batch) < self.limits.batch_images:
            each = self.queue.popleft()
            if not each.answer.done():
                batch.append(each)
        size = max((size for size in sizes(self.limits.batch_images) if size <= len(batch)), default=0)
        self.queue.extendleft(reversed(batch[size:]))
        return batch[:size]

    def compute(self, batch: list[Waiting]) -> list[Prediction]:
        logits = self.predictor.logits(torch.stack([each.pixels for each in batch]))
        most = max(each.top_k for each in batch)
        found = self.predictor.predictions([each.source for each in batch], logits, most)
        return [
            Prediction(one.source, one.classes[: each.top_k], one.probabilities[: each.top_k])
            for each, one in zip(batch, found, strict=True)
        ]


def sizes(most: int) -> list[int]:
    """Return the sizes that a batch may have: the powers of two up to `most`."""
    return [1 << power for power in range(most.bit_length())]
