"""What the benchmarks' tests share: a small set in CIFAR-10's files, and a slice of an epoch on it."""

from collections.abc import Iterator

import pytest
import torch

from pictorch.bench import cifar, training
from pictorch.bench.cifar import Images
from pictorch.bench.training import Plan


@pytest.fixture(scope="session")
def small_images() -> Iterator[Images]:
    """200 random images a file, in a folder for the time being."""
    with cifar.images(None, per_file=200) as found:
        yield found


@pytest.fixture
def plan() -> Plan:
    return Plan("epoch", ["resnet_preact_20"], training.AGAINST, 8, 1, torch.device("cpu"), threads=1, quick=True)
