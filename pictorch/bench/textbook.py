"""The textbook way: a torch DataLoader that transforms one image after the other with NumPy, and a plain loop.

Written as such programs are, and as fast as that way allows: what our loader and our engine are measured against.
"""

import itertools
import math
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, NamedTuple, final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, default_collate

from pictorch.config import Config
from pictorch.config.schema import SGD
from pictorch.data import Dataset as OpenedSet
from pictorch.data import Split
from pictorch.engine import build, precision

Array = npt.NDArray[Any]
Transform = Callable[[Array], Array]


def random_crop(image: Array, padding: int = 4) -> Array:
    """Return the image [H,W,C] padded with black on each side and cropped to its size."""
    height, width, _ = image.shape
    padded = np.pad(image, ((padding, padding), (padding, padding), (0, 0)))
    top, left = np.random.randint(2 * padding + 1, size=2)
    return padded[top : top + height, left : left + width]


def random_flip(image: Array) -> Array:
    """Return the image or its mirror image."""
    return image[:, ::-1] if np.random.random() < 0.5 else image


def normalise(image: Array, mean: Array, std: Array) -> Array:
    """Return (image / 255 - mean) / std as float32."""
    return ((image.astype(np.float32) / 255 - mean) / std).astype(np.float32)


def cutout(image: Array, size: int = 16) -> Array:
    """Return a normalised image with a square of zeros around a random centre."""
    height, width, _ = image.shape
    y, x = np.random.randint(height + 1), np.random.randint(width + 1)
    top, left = max(0, y - size // 2), max(0, x - size // 2)
    image = image.copy()
    image[top : max(0, y - size // 2 + size), left : max(0, x - size // 2 + size)] = 0
    return image


def random_erasing(image: Array, prob: float = 0.5) -> Array:
    """Return a normalised image, every second time with a random rectangle of random values (arXiv:1708.04896)."""
    if np.random.random() >= prob:
        return image
    height, width, channels = image.shape
    for _ in range(20):
        area = np.random.uniform(0.02, 0.4) * height * width
        aspect = np.random.uniform(0.3, 1 / 0.3)
        h, w = int(np.sqrt(area * aspect)), int(np.sqrt(area / aspect))
        if h < height and w < width:
            top, left = np.random.randint(height - h), np.random.randint(width - w)
            image = image.copy()
            image[top : top + h, left : left + w] = np.random.random((h, w, channels))
            break
    return image


class Images(Dataset[tuple[Tensor, int]]):
    """Images uint8 [N,H,W,C] and labels, each image through the transforms when it is asked for."""

    def __init__(self, images: Array, labels: Sequence[int], transforms: Sequence[Transform]) -> None:
        self.images, self.labels, self.transforms = images, labels, transforms

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = self.images[index]
        for transform in self.transforms:
            image = transform(image)
        return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))), self.labels[index]


def mixup(batch: list[tuple[Tensor, int]]) -> tuple[Tensor, Tensor]:
    """Collate and mix a batch; targets are distributions over 10 classes."""
    images, labels = default_collate(batch)
    share, order = np.random.beta(1, 1), torch.randperm(len(images))
    targets = torch.nn.functional.one_hot(labels, 10).float()
    return share * images + (1 - share) * images[order], share * targets + (1 - share) * targets[order]


def loader(
    dataset: Images,
    *,
    batch_size: int,
    workers: int,
    train: bool = True,
    collate: Callable[[Any], Any] | None = None,
    pin_memory: bool = False,
) -> DataLoader[Any]:
    """Return the DataLoader, its workers kept from epoch to epoch; with `train` it shuffles and drops the last batch if
    that is not full."""
    return DataLoader(
        dataset,
        batch_size=batch_size,
        shuffle=train,
        drop_last=train,
        num_workers=workers,
        persistent_workers=workers > 0,
        collate_fn=collate,
        pin_memory=pin_memory,
    )


def forever(loader: Iterable[Any]) -> Generator[Any, None, None]:
    """Yield the loader's batches, epoch after epoch."""
    while True:
        yield from loader


class Slice(NamedTuple):
    """How much of an epoch with evaluation is measured, and the steps before that are not."""

    steps: int
    evaluation_batches: int
    warm_up_steps: int


class Scale(NamedTuple):
    """What the seconds of a slice's training and evaluation are multiplied with to be those of the whole epoch."""

    train: float
    evaluation: float


@final
class Feed:
    """Batches of a data set as such programs make them: endless ones for training, a slice of the test set's."""

    def __init__(
        self,
        config: Config,
        dataset: OpenedSet,
        slice: Slice,
        *,
        train: Sequence[Transform],
        test: Sequence[Transform],
        collate: Callable[[Any], Any] | None = None,
        device: torch.device,
    ) -> None:
        assert isinstance(dataset.train, Split)
        assert isinstance(dataset.test, Split)
        batch_size = config.train.batch_size
        self.steps_per_epoch = len(dataset.train) // batch_size
        self.steps, self.warm_up_steps = min(slice.steps, self.steps_per_epoch), slice.warm_up_steps
        tested = dataset.test.select(torch.arange(min(len(dataset.test), slice.evaluation_batches * batch_size)))
        self.scale = Scale(
            self.steps_per_epoch / self.steps,
            math.ceil(len(dataset.test) / batch_size) / math.ceil(len(tested) / batch_size),
        )
        self.train, self.test = images_of(dataset.train, train), images_of(tested, test)
        self.make = partial(loader, batch_size=batch_size, collate=collate, pin_memory=device.type == "cuda")
        self.open(workers=0)

    def open(self, workers: int) -> None:
        """Take another number of workers; those before end."""
        self.workers = workers
        # The old workers end when nothing refers to their loader any more.
        self.batches: Iterator[Any] = iter(())
        self.evaluation: Iterable[Any] = ()
        self.batches = forever(self.make(self.train, workers=workers))
        self.evaluation = self.make(self.test, workers=workers, train=False)

    def ready(self, count: int, device: torch.device) -> None:
        """Take `count` batches, already on the device, again and again: so that steps alone are measured."""
        batches = [[part.to(device) for part in batch] for batch in itertools.islice(self.batches, count)]
        self.open(workers=0)
        self.batches = itertools.cycle(batches)


@final
class Textbook:
    """The plain program: eager, float32, NCHW, torch's SGD, and `.item()` of loss and accuracy in every step.

    The network, the images, the batch size and the hyperparameters are those of `config`, which must have SGD.
    """

    name, dtype = "textbook", "fp32"

    def __init__(self, config: Config, dataset: OpenedSet, slice: Slice, *, device: torch.device, threads: int) -> None:
        self.device, self.threads = device, threads
        mean, std = (np.array(values, np.float32) for values in (dataset.spec.mean, dataset.spec.std))
        scaled = partial(normalise, mean=mean, std=std)
        self.feed = Feed(config, dataset, slice, train=[random_crop, random_flip, scaled], test=[scaled], device=device)
        self.scale = self.feed.scale
        self.model = build.create_model(config, dataset.spec).to(device)
        self.criterion = nn.CrossEntropyLoss()
        self.optimizer = sgd(config, self.model)
        self.scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(
            self.optimizer, T_max=config.train.epochs * self.feed.steps_per_epoch
        )

    def settings(self) -> AbstractContextManager[None]:
        """Return the context in which it runs: its threads, and cuDNN's search for the fastest convolutions."""
        return precision.process_settings(self.device, threads=self.threads, deterministic=False)

    def warm_up(self) -> None:
        with self.settings():
            self.run_steps(self.feed.warm_up_steps)

    def train(self) -> tuple[float, float]:
        """Take the slice's steps; return the mean loss and the error (per cent)."""
        with self.settings():
            return self.run_steps(self.feed.steps)

    def run_steps(self, count: int) -> tuple[float, float]:
        self.model.train()
        total, correct, seen = 0.0, 0.0, 0
        for images, labels in itertools.islice(self.feed.batches, count):
            images, labels = images.to(self.device), labels.to(self.device)
            self.optimizer.zero_grad()
            outputs = self.model(images)
            loss = self.criterion(outputs, labels)
            loss.backward()
            self.optimizer.step()
            self.scheduler.step()
            total += loss.item() * len(labels)
            correct += (outputs.argmax(dim=1) == labels).sum().item()
            seen += len(labels)
        return total / seen, 100 - 100 * correct / seen

    def evaluate(self) -> tuple[float, float]:
        """Go through the slice of the test images; return the mean loss and the error (per cent)."""
        self.model.eval()
        total, correct, seen = 0.0, 0.0, 0
        with self.settings(), torch.no_grad():
            for images, labels in self.feed.evaluation:
                images, labels = images.to(self.device), labels.to(self.device)
                outputs = self.model(images)
                total += self.criterion(outputs, labels).item() * len(labels)
                correct += (outputs.argmax(dim=1) == labels).sum().item()
                seen += len(labels)
        return total / seen, 100 - 100 * correct / seen


def images_of(split: Split, transforms: Sequence[Transform]) -> Images:
    """Return a split's images as such programs hold them, [N,H,W,C], behind the transforms."""
    pixels = np.ascontiguousarray(split.images.numpy().transpose(0, 2, 3, 1))
    return Images(pixels, split.labels.tolist(), transforms)


def sgd(config: Config, model: nn.Module) -> torch.optim.SGD:
    """Return torch's SGD with the recipe's hyperparameters."""
    settings = config.optim
    assert isinstance(settings, SGD)
    return torch.optim.SGD(
        model.parameters(),
        lr=settings.lr,
        momentum=settings.momentum,
        nesterov=settings.nesterov,
        weight_decay=settings.weight_decay,
    )
