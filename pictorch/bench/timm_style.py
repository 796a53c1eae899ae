"""The way of timm's training script (github.com/huggingface/pytorch-image-models, train.py and data/loader.py), for
small images: bf16 autocast, channels_last, torch.compile, and a loader that ships uint8 and normalises on the device.

Our own code after its description; timm is not imported.
"""

import itertools
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Any, final

import numpy as np
import torch
from torch import Tensor, nn

from pictorch.bench import textbook
from pictorch.config import Config
from pictorch.data import Dataset
from pictorch.engine import build, precision

LOG_EVERY_STEPS = 50


def collate(batch: list[tuple[Tensor, int]]) -> tuple[Tensor, Tensor]:
    """Return images uint8 [N,C,H,W] and labels int64 [N]."""
    return torch.stack([image for image, _ in batch]), torch.tensor([label for _, label in batch])


@final
class Prefetcher:
    """Batches of a loader as float images in channels_last order on the device, each sent while the one before is used.

    `mean` and `std` are those of pixels from 0 to 1.
    """

    def __init__(self, *, mean: Any, std: Any, device: torch.device) -> None:
        self.device = device
        self.mean, self.std = (255 * torch.tensor(v, device=device).view(1, -1, 1, 1) for v in (mean, std))
        self.stream = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]

    def __call__(self, batches: Iterable[Any]) -> Iterator[tuple[Tensor, Tensor]]:
        before: tuple[Tensor, Tensor] | None = None
        for images, labels in batches:
            with torch.cuda.stream(self.stream):  # None, as on the CPU, changes nothing
                sent = self.normalised(images.to(self.device, non_blocking=True))
                following = (sent, labels.to(self.device, non_blocking=True))
            if before is not None:
                yield before
            if self.stream is not None:
                torch.cuda.current_stream(self.device).wait_stream(self.stream)
                for tensor in following:
                    tensor.record_stream(torch.cuda.current_stream(self.device))
            before = following
        if before is not None:
            yield before

    def normalised(self, images: Tensor) -> Tensor:
        return images.to(dtype=torch.float32, memory_format=torch.channels_last).sub_(self.mean).div_(self.std)


@final
class TimmStyle:
    """timm's way with the network, the images, the batch size and the hyperparameters of `config`, measured as
    `textbook.Textbook` is; `compile` is for the network."""

    name, dtype = "timm-style", "bf16"

    def __init__(
        self,
        config: Config,
        dataset: Dataset,
        slice: textbook.Slice,
        *,
        device: torch.device,
        threads: int,
        compile: bool,
    ) -> None:
        self.device, self.threads = device, threads
        self.feed = textbook.Feed(
            config,
            dataset,
            slice,
            train=[textbook.random_crop, textbook.random_flip],
            test=[],
            collate=collate,
            device=device,
        )
        self.scale = self.feed.scale
        self.prefetched = Prefetcher(mean=dataset.spec.mean, std=dataset.spec.std, device=device)
        self.model = build.create_model(config, dataset.spec).to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.forward = torch.compile(self.model) if compile else self.model
        self.criterion = nn.CrossEntropyLoss()
        self.optimizer = textbook.sgd(config, self.model)

    def settings(self) -> AbstractContextManager[None]:
        return precision.process_settings(self.device, threads=self.threads, deterministic=False)

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, dtype=torch.bfloat16)

    def warm_up(self) -> None:
        with self.settings():
            self.run_steps(self.feed.warm_up_steps)

    def train(self) -> float:
        """Take the slice's steps; return the mean of the losses that were read, one in LOG_EVERY_STEPS."""
        with self.settings():
            return self.run_steps(self.feed.steps)

    def run_steps(self, count: int) -> float:
        self.model.train()
        losses = []
        batches = itertools.islice(self.feed.batches, count)
        for step, (images, labels) in enumerate(self.prefetched(batches)):
            with self.autocast():
                loss = self.criterion(self.forward(images), labels)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            if step % LOG_EVERY_STEPS == 0:
                losses.append(loss.item())
        return float(np.mean(losses))

    def evaluate(self) -> float:
        """Go through the slice of the test images; return the error (per cent)."""
        self.model.eval()
        correct, seen = 0, 0
        with self.settings(), torch.no_grad():
            for images, labels in self.prefetched(self.feed.evaluation):
                with self.autocast():
                    outputs = self.forward(images)
                correct += int((outputs.argmax(dim=1) == labels).sum().item())
                seen += len(labels)
        return 100 - 100 * correct / seen
