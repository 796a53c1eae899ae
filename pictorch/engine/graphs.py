"""Functions on the device that are recorded once and then replayed, without Python or launches in between.

On CUDA the record is a graph: its kernels run on the same memory every time, so what changes from call to call has to
be copied to where it was the first time. That holds for everything but random numbers, whose generator CUDA graphs
know: a replay draws from the seed that it has at that moment.
"""

import contextlib
import threading
from collections.abc import Callable, Hashable, Iterator
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from pictorch.config import UserError

T = TypeVar("T")
# Runs a function once, and returns what it returned and how to run it again on the same memory.
Record = Callable[[Callable[[], T]], tuple[T, Callable[[], None]]]

# cuDNN chooses its kernels, libraries allocate their workspaces, and optimisers their slots in the first calls.
CALLS_BEFORE = 2
# A process may capture one graph at a time; replicas of a run are threads.
CAPTURING = threading.Lock()


def cuda_graph(function: Callable[[], T]) -> tuple[T, Callable[[], None]]:
    """Capture `function` as a CUDA graph on the current stream, which must not be the default one, and run it once.

    Raises UserError where it cannot be captured: it reads the device, or copies to it from memory that is not pinned.
    """
    graph = torch.cuda.CUDAGraph()
    try:
        # thread_local: other threads, with replicas of the run, may allocate and launch meanwhile.
        stream = torch.cuda.current_stream()
        with CAPTURING, torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
            outputs = function()
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        # Where a step reads the device, a second error, that the capture was given up, hides the one that says why.
        first = error.__context__ if isinstance(error.__context__, RuntimeError) else error
        reason = str(first).partition("\n")[0]
        raise UserError(
            f"train.cuda_graph: the training step cannot be captured as a CUDA graph ({reason}); a network that reads "
            "the device in its forward pass, or draws under checkpointing, trains with train.cuda_graph=false"
        ) from error
    graph.replay()
    return outputs, graph.replay


class Replayed(Generic[T]):
    """A function of a tree of tensors, called as it is at first, then recorded, then replayed.

    There is a record for each set of shapes and of values that are no tensors. What a replay returns lies where the
    next one of the same shapes puts its own: use it before. The function must not depend on anything on the host that
    changes from call to call. Without `record` it is always called as it is.
    """

    def __init__(self, function: Callable[[Any], T], record: Record[T] | None) -> None:
        self.function, self.record = function, record
        self.calls: dict[Hashable, int] = {}
        self.records: dict[Hashable, tuple[list[Tensor], T, Callable[[], None]]] = {}

    def __call__(self, inputs: Any) -> T:
        """Return function(inputs)."""
        if self.record is None:
            return self.function(inputs)
        leaves, structure = pytree.tree_flatten(inputs)
        tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
        key = tuple((leaf.shape, leaf.dtype) if isinstance(leaf, Tensor) else leaf for leaf in leaves)
        if key not in self.records:
            self.calls[key] = self.calls.get(key, 0) + 1
            if self.calls[key] <= CALLS_BEFORE:
                return self.function(inputs)
            places = [tensor.clone() for tensor in tensors]
            unused = iter(places)
            static = pytree.tree_unflatten(
                [next(unused) if isinstance(leaf, Tensor) else leaf for leaf in leaves], structure
            )
            outputs, replay = self.record(lambda: self.function(static))
            self.records[key] = places, outputs, replay
            return outputs
        places, outputs, replay = self.records[key]
        torch._foreach_copy_(places, tensors, non_blocking=True)
        replay()
        return outputs


@contextlib.contextmanager
def own_stream(device: torch.device) -> Iterator[None]:
    """Run what is launched inside on a CUDA stream of its own, which a capture needs; elsewhere change nothing."""
    if device.type != "cuda":
        yield
        return
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(stream):
        yield
    torch.cuda.current_stream(device).wait_stream(stream)
