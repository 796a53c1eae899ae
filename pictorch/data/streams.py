"""Random numbers that are a pure function of what they are for.

All randomness of the data is a function of (seed, epoch, position of the image in the epoch): for an epoch and a
purpose ("order", "crop" ...) a loader draws one array for all positions from `generator(seed, epoch, purpose)` and
slices it by batch. A resumed run or a rank only selects positions, so it sees the numbers of the uninterrupted run.
"""

import hashlib
import json

import numpy as np
import torch


def generator(*key: int | str) -> torch.Generator:
    """Return a new CPU generator for `key`: equal keys draw the same numbers, other keys unrelated ones.

    Its seed is the first 8 bytes, big-endian, of the sha256 of the key as a JSON list, in which 1 and "1", or
    ("ab", "c") and ("a", "bc"), differ. Of these 64 bits torch 2.13's CPU generator uses the low 32.
    """
    return torch.Generator().manual_seed(seed_of(key))


def numpy_generator(*key: int | str) -> np.random.Generator:
    """Return NumPy's PCG64 with the seed, here all 64 bits of it, that `generator` has for `key`.

    It draws from distributions that torch draws from its global generator alone (Beta, Dirichlet).
    """
    return np.random.Generator(np.random.PCG64(seed_of(key)))


def seed_of(key: tuple[int | str, ...]) -> int:
    text = json.dumps(key, separators=(",", ":"))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
