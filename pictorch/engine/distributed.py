"""The processes of one run: `torchrun --nproc-per-node N -m pictorch train ...`, on one machine or on several.

Each process has the whole network and a part of every batch. After each backward pass the gradients, and the running
statistics of batch norm, are their means over the processes, so that all of them hold the same state, bit for bit; the
first one alone writes. What a run ends with is the configuration's, not that of how many computed it.
"""

import atexit
import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar, final

import torch
import torch.distributed as dist
from torch import Tensor

from pictorch.config import Config, UserError

T = TypeVar("T")


class World:
    """A run's processes, where there is one. `local_rank` and `local_size` count those on this machine."""

    rank, size, local_rank, local_size = 0, 1, 0, 1

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    def own(self, device: torch.device) -> torch.device:
        """Return this process's device of those of the kind. Raises UserError where there are not enough."""
        return device

    def mean_(self, tensors: Sequence[Tensor]) -> None:
        """Put the means over all processes in the place of floating tensors."""

    def of_step(self, loss: Tensor, wrong: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean over all processes of a mean loss [], and the sum of a number of images []."""
        return loss, wrong

    def any(self, flag: bool) -> bool:
        """Return whether the flag is set in any process."""
        return flag

    def gather(self, value: T) -> list[T]:
        """Return the value of each process, in their order."""
        return [value]

    def lead(self, work: Callable[[], T]) -> T:
        """Return, in each process, what `work` gives in the first one; raise its UserError in each."""
        return work()

    def together(self, work: Callable[[], T]) -> T:
        """Return what `work` gives here; raise a UserError in each process where one of them did."""
        return work()


ALONE = World()


@final
class Group(World):
    """The processes that torchrun started."""

    def __init__(self) -> None:
        self.rank, self.size = dist.get_rank(), dist.get_world_size()
        self.local_rank = int(os.environ.get("LOCAL_RANK", self.rank))
        self.local_size = int(os.environ.get("LOCAL_WORLD_SIZE", self.size))

    def own(self, device: torch.device) -> torch.device:
        if device.type != "cuda":
            return device
        if str(device) != "cuda":
            raise UserError(f"{device} is one GPU, and each process takes its own: expected cuda, cpu or auto")
        if self.local_rank >= torch.cuda.device_count():
            raise UserError(f"{self.local_size} processes here, but CUDA devices found: {torch.cuda.device_count()}")
        return torch.device("cuda", self.local_rank)

    def mean_(self, tensors: Sequence[Tensor]) -> None:
        for dtype in {tensor.dtype for tensor in tensors}:
            some = [tensor for tensor in tensors if tensor.dtype == dtype]
            # One collective for all: each has a latency, and a network of 110 layers has 333 tensors.
            flat = torch.cat([tensor.reshape(-1) for tensor in some])
            dist.all_reduce(flat)
            flat /= self.size
            parts = torch.split(flat, [tensor.numel() for tensor in some])
            torch._foreach_copy_(some, [part.view(tensor.shape) for part, tensor in zip(parts, some, strict=True)])

    def of_step(self, loss: Tensor, wrong: Tensor) -> tuple[Tensor, Tensor]:
        figures = torch.stack((loss.double() / self.size, wrong.double()))
        dist.all_reduce(figures)
        return figures[0].to(loss.dtype), figures[1].to(wrong.dtype)

    def any(self, flag: bool) -> bool:
        # On the CPU, so that no process waits for its GPU.
        flags = torch.tensor(int(flag))
        dist.all_reduce(flags, op=dist.ReduceOp.MAX)
        return bool(flags)

    def gather(self, value: T) -> list[T]:
        values: list[T | None] = [None] * self.size
        dist.all_gather_object(values, value)
        return values  # type: ignore[return-value]

    def lead(self, work: Callable[[], T]) -> T:
        said: list[tuple[T | None, str | None]] = [(None, None)]
        if self.leads:
            try:
                said = [(work(), None)]
            except UserError as error:
                dist.broadcast_object_list([(None, str(error))])
                raise
        dist.broadcast_object_list(said)
        value, fault = said[0]
        if fault is not None:
            raise UserError(fault)
        return value  # type: ignore[return-value]

    def together(self, work: Callable[[], T]) -> T:
        try:
            value = work()
        except UserError as error:
            self.gather(str(error))
            raise
        for rank, fault in enumerate(self.gather(None)):
            if fault is not None:
                raise UserError(f"process {rank} of {self.size}: {fault}")
        return value


class PeerLost(UserError):
    """Another process of the run ended."""


@contextlib.contextmanager
def joined() -> Iterator[World]:
    """Yield the processes that torchrun started with this one; a World of one where it was started by itself.

    Raises PeerLost when one of the others ends before this one.
    """
    if not started_by_torchrun():
        yield ALONE
        return
    if not dist.is_initialized():
        join()
    try:
        yield Group()
    except RuntimeError as error:
        if not isinstance(error, dist.DistError) and "gloo" not in str(error).lower():
            raise
        raise PeerLost(
            f"process {dist.get_rank()} of {dist.get_world_size()} stopped, because another one of the run has ended "
            f"({str(error).partition(chr(10))[0]}); `--resume` continues from the last checkpoint"
        ) from error


def join() -> None:
    """Meet the other processes; for the rest of this one, since torchrun lets them meet once."""
    # Imported after the group is there, as optimisers do it, its functions have the group as a default argument: it is
    # never freed, and a thread of it that is left when the interpreter ends can abort the process.
    import torch.distributed.nn

    local_rank = int(os.environ["LOCAL_RANK"])
    on_gpus = torch.cuda.is_available()
    if on_gpus and local_rank < torch.cuda.device_count():
        torch.cuda.set_device(local_rank)
    dist.init_process_group("cpu:gloo,cuda:nccl" if on_gpus else "gloo")
    atexit.register(dist.destroy_process_group)


def started_by_torchrun() -> bool:
    """Return whether this process is one of several that torchrun started."""
    named = {"RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"} <= os.environ.keys()
    return named and os.environ["WORLD_SIZE"] != "1"


def divide(config: Config, world: World, *, images: int, views: int = 1) -> int:
    """Return of how many groups of a process's part of the batch batch norm takes statistics; 0: of the whole batch.

    `images` are those of the training part, and `views` of each go through the network together. Raises UserError where
    the processes cannot have equal parts, each of whole ghost batches.
    """
    train, size = config.train, world.size
    if train.batch_size % size:
        near = max(1, round(train.batch_size / size)) * size
        raise UserError(
            f"train.batch_size: {train.batch_size} images do not divide into {size} processes: "
            f"expected a multiple of {size}, for example {near}"
        )
    if not config.data.drop_last and (rest := images % train.batch_size) % size:
        raise UserError(
            f"data.drop_last: the last batch of an epoch has {rest} images, which do not divide into {size} processes: "
            "expected data.drop_last=true"
        )
    if train.ghost_batches == 1:
        return 0 if size > 1 else 1
    # Ghost batches are parts of all views in a row: one that held two views' images would hold those of two processes.
    least = size * views if size > 1 else 1
    if train.ghost_batches % least:
        each = f", each with {views} views of an image" if views > 1 else ""
        raise UserError(
            f"train.ghost_batches: {train.ghost_batches} ghost batches do not divide into {size} processes{each}: "
            f"expected a multiple of {least}, or 1 for statistics of the whole batch"
        )
    return train.ghost_batches // size
