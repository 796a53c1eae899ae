"""The random numbers of one image: a pure function of (seed, corruption, severity, position of the image in its set).

Each position has a stream of its own of one counter-based generator (Philox, Salmon et al., SC 2011), so that neither
the batch nor what was drawn for the images before it changes an image's numbers. They are drawn on the CPU whatever
the device of the images is: the same on every device. Functions draw in the order in which the benchmark's programs
call np.random, so that these programs with `generator` in np.random's place make the same images.
"""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from pictorch.data.streams import seed_of

Array = np.ndarray[Any, np.dtype[Any]]
Generators = Sequence[np.random.Generator]
Item = TypeVar("Item")
Made = TypeVar("Made")


def generator(seed: int, name: str, severity: int, position: int) -> np.random.Generator:
    """Return NumPy's generator for the image at `position` of its set, 0 or more."""
    key = seed_of((seed, "corruption", name, severity))
    return np.random.Generator(np.random.Philox(key=key, counter=[0, 0, 0, position]))


def drawn(draw: Callable[..., Array], device: torch.device, rngs: Generators, *others: Iterable[Any]) -> Tensor:
    """Return what `draw` gives for each generator (and its items of the others), stacked [N,...], on the device."""
    return torch.from_numpy(np.stack(each(lambda items: draw(*items), zip(rngs, *others, strict=True)))).to(device)


def each(function: Callable[[Item], Made], items: Iterable[Item]) -> list[Made]:
    """Return the function of each item, in as many threads as torch computes with.

    What is called (NumPy's draws, Pillow's coding) leaves the interpreter's lock to others while it works.
    """
    threads = torch.get_num_threads()
    if threads == 1:
        return [function(item) for item in items]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(function, items))
