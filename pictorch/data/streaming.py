"""Batches of images that are too many or too large to lie on the device: decoded by threads, shipped as uint8.

A worker reads an image, brings it to the network's size and puts it into the batch's buffer, ahead of the step that
needs it; the pipeline finishes the batch on the device as it does those of the resident loader. Threads, not processes:
Pillow, simplejpeg and torch release the interpreter while they work on pixels, so that two threads read photographs of
350 x 260 as fast as two processes of torch's DataLoader (docs/streaming.md), and a batch is copied to nowhere.
"""

import contextlib
import os
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from functools import partial
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import ParamSpec, TypeVar, final

import torch
from PIL import Image
from torch import Tensor

from pictorch.config.errors import UserError
from pictorch.data.geometry import ResizedCrop, evaluation_crop, resample_one
from pictorch.data.loader import Loader
from pictorch.data.parts import InOrder, Read
from pictorch.data.pipeline import WHOLE, Batch, Feed, Pipeline, Share
from pictorch.data.streams import generator

P = ParamSpec("P")
T = TypeVar("T")

# Batches that are read before they are needed: one while a step runs, one more for images that take longer than others.
LOOK_AHEAD = 2
# A set lies in memory whole if it takes no more than this share of what is free; the network and its steps need some.
MOST_OF_FREE = 0.5
# Headers that are read to estimate what a set takes; of photographs this finds the mean size within a few per cent.
SAMPLE = 500


@final
class StreamingLoader(Loader):
    """Images that are read when they are needed, and the epochs over them, as `pipeline` makes them.

    The number of workers has no say in what an epoch is. An image of any size is brought to the network's: with
    `resized_crop` by a random part of itself, resized; without, its shorter side is scaled to `resize` pixels (the
    network's size unless given) and the centre cut out. For the evaluation crop of ImageNet, `resize` is
    `imagenet_resize(image_size)`.
    """

    def __init__(
        self,
        *,
        read: Callable[[int], Tensor] | InOrder,
        labels: Tensor,
        pipeline: Pipeline,
        batch_size: int,
        shuffle: bool,
        drop_last: bool,
        workers: int,
        resized_crop: ResizedCrop | None = None,
        resize: int | None = None,
        cache: bool = False,
        share: Share = WHOLE,
    ) -> None:
        """Read nothing yet.

        `read` returns the decoded image uint8 [C,h,w] of a number below n, or raises ValueError or OSError naming the
        file; labels: int64 [n]. `workers` threads read and decode; with 0 the caller does. With `cache` a decoded image
        stays in memory after its first use.

        Raises as Loader does, and ValueError for a cache of what is read in order.
        """
        super().__init__(
            labels=labels,
            pipeline=pipeline,
            batch_size=batch_size,
            shuffle=shuffle,
            drop_last=drop_last,
            share=share,
        )
        if cache and not callable(read):
            raise ValueError("images that are read one after another cannot be cached")
        self.read = remembering(read, len(labels)) if cache and callable(read) else read
        self.workers, self.resized_crop = workers, resized_crop
        self.resize = resize or pipeline.image_size

    def feeds(self, epoch: int, start_batch: int = 0) -> Generator[Feed, None, None]:
        """Yield what the batches of epoch number `epoch` from `start_batch` on are made of.

        What came before `start_batch` is not decoded. Raises UserError naming the file that cannot be read.
        """
        assert 0 <= start_batch <= len(self)
        order = self.order(epoch)
        drawn = self.pipeline.draw(epoch, order, size_of_set=len(order), batch_size=self.batch_size)
        labels = self.labels[order.to(self.pipeline.device)]
        with contextlib.closing(self.images(order, self.crops(epoch), start_batch)) as batches:
            for batch, images in enumerate(batches, start_batch):
                at = self.positions(batch)
                pixels = images.to(self.pipeline.device, non_blocking=True)
                yield Feed(pixels, labels[at], None, drawn.rows(at, batch))

    def batch(self, feed: Feed) -> Batch:
        everyone = torch.arange(len(feed.images), device=feed.images.device)
        return self.own(self.pipeline(self.pipeline.source(feed.images), everyone, feed.labels, feed.rows))

    def order(self, epoch: int) -> Tensor:
        """Return int64 [n], on the CPU: the image at each position of an epoch."""
        if callable(self.read) or not self.shuffle:
            return super().order(epoch)
        return self.read.order(generator(self.pipeline.seed, epoch, "order"))

    def crops(self, epoch: int) -> tuple[Tensor, ...]:
        """Return what the random part of the image at each position is drawn from; nothing where it is the whole."""
        if self.resized_crop is None:
            return ()
        draws = generator(self.pipeline.seed, epoch, self.resized_crop.name)
        return self.resized_crop.draw(len(self.labels), self.pipeline.image_size, draws)

    def images(self, order: Tensor, crops: tuple[Tensor, ...], start_batch: int) -> Generator[Tensor, None, None]:
        """Yield the images uint8 [B,C,S,S] of each batch from `start_batch` on, in host memory."""
        reads = self.reads(order, start_batch * self.batch_size)
        stop = threading.Event()
        feeder = ThreadPoolExecutor(1, "pictorch-feeder") if self.workers else Inline()
        # The images keep the cores busy; threads of torch's within each image would only get in one another's way.
        pool = (
            ThreadPoolExecutor(self.workers, "pictorch-reader", torch.set_num_threads, (1,))
            if self.workers
            else Inline()
        )
        ahead: deque[Future[tuple[Tensor, list[Future[None]]]]] = deque()
        try:
            for batch in range(start_batch, len(self)):
                ahead.append(feeder.submit(self.feed, pool, reads, batch, crops, stop))
                if len(ahead) > (LOOK_AHEAD if self.workers else 0):
                    yield whole(ahead.popleft())
            while ahead:
                yield whole(ahead.popleft())
        finally:
            stop.set()
            feeder.shutdown(cancel_futures=True)
            pool.shutdown(cancel_futures=True)
            reads.close()
            # torch takes what the workers set for the default of threads to come; this one's own number is unchanged.
            torch.set_num_threads(torch.get_num_threads())

    def reads(self, order: Tensor, start: int) -> Generator[Read, None, None]:
        """Yield a call that returns the decoded image for each position from `start` on."""
        if callable(self.read):
            yield from (partial(self.read, image) for image in order[start:].tolist())
        else:
            yield from self.read.reads(order, start)

    def feed(
        self, pool: Executor, reads: Iterator[Read], batch: int, crops: tuple[Tensor, ...], stop: threading.Event
    ) -> tuple[Tensor, list[Future[None]]]:
        """Have the images of a batch read; return what they go into, and when each is there."""
        size, channels = self.pipeline.image_size, self.pipeline.channels
        pinned = self.pipeline.device.type == "cuda"
        at, first = self.positions(batch), batch * self.batch_size
        pixels = torch.empty(at.stop - at.start, size, size, channels, dtype=torch.uint8, pin_memory=pinned)
        images, filled = pixels.permute(0, 3, 1, 2), []
        for position, read in enumerate(islice(reads, self.batch_size), first):
            if stop.is_set():
                break
            if at.start <= position < at.stop:
                rows = tuple(rows[position : position + 1] for rows in crops)
                filled.append(pool.submit(self.fill, images[position - at.start], read, rows))
        assert stop.is_set() or len(filled) == len(images)
        return images, filled

    def fill(self, place: Tensor, read: Read, crop: tuple[Tensor, ...]) -> None:
        """Read one image, bring it to the network's size and put it in its place."""
        try:
            image = read()
        except UserError:
            raise
        except (OSError, ValueError) as error:
            raise UserError(explained(error)) from error
        assert image.dtype == torch.uint8
        assert len(image) == len(place)
        size = self.pipeline.image_size
        if self.resized_crop is None:
            place.copy_(evaluation_crop(image, size, self.resize))
        else:
            top, left, height, width = self.resized_crop.boxes(*crop, *image.shape[1:])[0].tolist()
            place.copy_(resample_one(image, (top, left, height, width), size))


@final
class Inline(Executor):
    """What runs its tasks at once, in the thread that hands them over."""

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        future: Future[T] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


def whole(batch: Future[tuple[Tensor, list[Future[None]]]]) -> Tensor:
    """Wait for a batch; raises the error of its first image that has one."""
    images, filled = batch.result()
    for image in filled:
        image.result()
    return images


def explained(error: OSError | ValueError) -> str:
    """Return an error's message with the file in front, where the error knows it."""
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: this file cannot be read: {error.strerror or error}"
    return str(error)


def remembering(read: Callable[[int], Tensor], n: int) -> Callable[[int], Tensor]:
    """Return a `read` of n images that keeps each after its first use."""
    kept: list[Tensor | None] = [None] * n

    def recall(index: int) -> Tensor:
        # Two threads at one image may both read it: the bits are the same.
        image = kept[index]
        if image is None:
            image = kept[index] = read(index)
        return image

    return recall


def imagenet_resize(image_size: int) -> int:
    """Return what the shorter side is scaled to before the centre crop: 256 for 224 (arXiv:1512.03385, section 3.4)."""
    return round(image_size * 256 / 224)


def decoded_bytes(sources: Callable[[int], Path | BytesIO], n: int, *, channels: int) -> int:
    """Return what n images take decoded, by the sizes in the headers of at most SAMPLE of them, evenly spaced.

    `sources` returns the file of a number below n, or its bytes. A header that cannot be read does not count: whoever
    reads the image will name it. Raises UserError if none can be.
    """
    pixels = []
    for index in range(0, n, max(1, n // SAMPLE)):
        # Damaged bytes end in almost any exception of Pillow's readers.
        with contextlib.suppress(Exception), Image.open(sources(index)) as image:
            pixels.append(image.width * image.height)
    if not pixels:
        raise UserError(f"of {n:,} images no header can be read")
    return channels * n * sum(pixels) // len(pixels)


def choose_residence(bytes_needed: int, device: torch.device | str) -> tuple[bool, str]:
    """Return whether a set should lie in the device's memory whole, and why in words.

    It should if it takes at most half of what is free there: of a GPU by its driver, of a CPU what the system and the
    limit of the container leave.
    """
    free = free_memory_bytes(torch.device(device))
    if free is None:
        return False, f"{in_units(bytes_needed)} of decoded images; how much memory is free is not known here"
    share = f"{MOST_OF_FREE:.0%} of the {in_units(free)} that are free on {torch.device(device).type}"
    fits = bytes_needed <= MOST_OF_FREE * free
    return fits, f"{in_units(bytes_needed)} of decoded images, {'at most' if fits else 'more than'} {share}"


def free_memory_bytes(device: torch.device) -> int | None:
    """Return the memory that is free on a device; None where the system does not say."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    free = []
    with contextlib.suppress(OSError, ValueError):
        free.append(1024 * number_after("MemAvailable:", Path("/proc/meminfo")))
    # Of what a container holds, files that were read can be given up at any time; anonymous memory cannot.
    with contextlib.suppress(OSError, ValueError):
        limit = int(Path("/sys/fs/cgroup/memory.max").read_text())
        free.append(limit - number_after("anon", Path("/sys/fs/cgroup/memory.stat")))
    return max(0, min(free)) if free else None


def cores() -> int:
    """Return how many CPU cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def number_after(word: str, file: Path) -> int:
    """Return the number that stands behind `word` in a file of the kernel's. Raises ValueError if none does."""
    words = file.read_text().split()
    return int(words[words.index(word) + 1])


def in_units(size: int) -> str:
    units: Sequence[tuple[int, str]] = ((10**9, "GB"), (10**6, "MB"), (10**3, "kB"))
    return next((f"{size / unit:.1f} {name}" for unit, name in units if size >= unit), f"{size} bytes")
