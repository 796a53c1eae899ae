"""One evaluation: a network, every image of a loader once, in eval mode, and what is said of it.

The network is folded for it (`models.fold`), anew each time, since its weights change: 12 ms for ResNet-preact-20.
"""

import contextlib
import copy
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pictorch import data, metrics
from pictorch.config import Config, UserError, load
from pictorch.config.schema import Evaluation as Settings
from pictorch.config.schema import Views
from pictorch.data import files, own
from pictorch.data.loader import Loader
from pictorch.data.pipeline import Share, Step
from pictorch.data.streams import generator
from pictorch.engine import environment, inputs
from pictorch.engine.distributed import ALONE, World
from pictorch.engine.interrupt import Stop
from pictorch.engine.precision import Precision, choose, choose_device
from pictorch.models import views as of_images
from pictorch.models import weights
from pictorch.models.fold import fold
from pictorch.runs import RunDir

MOST_MISTAKES = 64
PLAIN = Settings()


@dataclass(frozen=True)
class Evaluation:
    """Answers of a network on N images, on the CPU: labels [N], the (at most) five most probable classes [N,5], best
    first, their probabilities [N,5], and the cross-entropy of every image [N]; `views` says how they were found.
    `logits` float32 [N,K] are there where they were asked for."""

    labels: Tensor
    ranked: Tensor
    probabilities: Tensor
    losses: Tensor
    classes: tuple[str, ...]
    dataset: str
    views: str = "one"
    logits: Tensor | None = None

    @property
    def images(self) -> int:
        return len(self.labels)

    def top(self, k: int) -> float:
        """Return the per cent of images whose label is among the k most probable classes (k at most 5)."""
        hits = (self.ranked[:, :k] == self.labels[:, None]).any(dim=1)
        return 100 * int(hits.sum()) / self.images

    @property
    def error(self) -> float:
        """The per cent of images whose most probable class is not their label."""
        wrong = int((self.ranked[:, 0] != self.labels).sum())
        return 100 * wrong / self.images

    def top1_of_batches(self, batch_size: int) -> float:
        """Return the mean over batches of the per cent of images whose most probable class is their label.

        A last batch of fewer images counts as much as the others.
        """
        hits = (self.ranked[:, 0] == self.labels).double()
        return 100 * float(torch.stack([batch.mean() for batch in torch.split(hits, batch_size)]).mean())

    @property
    def loss(self) -> float:
        return float(self.losses.double().mean())

    @property
    def confusion(self) -> Tensor:
        """Counts int64 [K,K]: row = true class, column = answer."""
        return metrics.confusion(self.ranked[:, 0], self.labels, len(self.classes))

    def per_class(self) -> list[dict[str, Any]]:
        """Return images, recall, precision and F1 of every class, with its name."""
        rows = metrics.per_class(self.confusion)
        return [{"class": name, **row} for name, row in zip(self.classes, rows, strict=True)]

    def mistakes(self, most: int = MOST_MISTAKES) -> list[dict[str, Any]]:
        """Return the errors that the network was surest of, surest first."""
        wrong = (self.ranked[:, 0] != self.labels).nonzero()[:, 0]
        order = self.probabilities[wrong, 0].argsort(descending=True, stable=True)
        return [
            {
                "index": i,
                "label": self.classes[int(self.labels[i])],
                "predicted": self.classes[int(self.ranked[i, 0])],
                "probability": float(self.probabilities[i, 0]),
            }
            for i in wrong[order][:most].tolist()
        ]

    def npz(self) -> bytes:
        """Return predictions.npz: label [N], classes [N,5], probabilities float32 [N,5]."""
        buffer = io.BytesIO()
        np.savez_compressed(
            buffer,
            label=self.labels.numpy().astype(np.int16),
            classes=self.ranked.numpy().astype(np.int16),
            probabilities=self.probabilities.numpy(),
        )
        return buffer.getvalue()


def evaluate(
    model: nn.Module,
    loader: Loader,
    *,
    classes: tuple[str, ...],
    dataset: str,
    precision: Precision,
    settings: Settings = PLAIN,
    stop: Stop | None = None,
    world: World = ALONE,
    keep_logits: bool = False,
) -> Evaluation:
    """Return the network's answers on every image of the loader. The network is left in the mode it was in.

    Of several processes each answers its share of the batches, and all of them return the answers of all.

    With test_mode "train" they are those of training: batch norm takes the statistics of each batch, dropout is on, and
    what it draws is the same in each evaluation; the network itself, with its running statistics, stays as it is.

    Raises StopRequested after a batch in which `stop` was set; not with several processes, which would wait for it.
    """
    was_training = model.training
    model.eval()
    answers: list[tuple[Tensor, ...]] = []
    mine = Share(world.rank, world.size).positions(len(loader))
    try:
        # Around all batches, so that a network that cannot be folded casts its weights once.
        with torch.inference_mode(), precision.autocast():
            if settings.test_mode == "train":
                network = as_in_training(model)
            elif precision.name == "half":
                network = model
            else:
                network = fold(model, torch.bfloat16 if precision.name == "bf16" else torch.float32)
            with contextlib.closing(loader.epoch(0, mine.start)) as batches:
                for batch in islice(batches, mine.stop - mine.start):
                    *found, logits = answer(network, batch.images, batch.labels, settings.views)
                    answers.append((batch.labels, *found, *([logits] if keep_logits else [])))
                    if stop is not None and world.size == 1:
                        stop.check()
    finally:
        model.train(was_training)
    own = [torch.cat(column).cpu() for column in zip(*answers, strict=True)]
    everyone = [columns for columns in world.gather(own) if columns]
    labels, ranked, probabilities, losses, *logits_of = (torch.cat(column) for column in zip(*everyone, strict=True))
    kept = logits_of[0] if keep_logits else None
    return Evaluation(labels, ranked, probabilities, losses, classes, dataset, settings.in_words, kept)


def as_in_training(model: nn.Module) -> Callable[[Tensor], Tensor]:
    """Return images -> logits float32 [N,K] of a copy of the network in training mode, dropout's generator seeded."""
    network = copy.deepcopy(model).train()
    torch.manual_seed(generator("test").initial_seed())
    return lambda images: network(images).to(torch.float32)


def answer(
    network: Callable[[Tensor], Tensor], images: Tensor, labels: Tensor, views: Views
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return an Evaluation's classes, their probabilities, losses and logits for one batch; on the device, nothing is
    read."""
    logits = of_images.answer(network, images, views)
    return *metrics.ranked(logits, 5), F.cross_entropy(logits, labels, reduction="none"), logits


@dataclass(frozen=True, eq=False)
class Trained:
    """A finished run, ready to answer: its network on a device, and the data set that it was trained on."""

    run: RunDir
    config: Config
    model: nn.Module
    metadata: dict[str, Any]
    dataset: data.Dataset
    device: torch.device
    precision: Precision

    @property
    def mean(self) -> Tensor | None:
        """What is subtracted from images, [C,S,S], where that is not the data set's mean."""
        return torch.tensor(self.metadata["mean_image"]) if "mean_image" in self.metadata else None

    def test_loader(self, steps: Sequence[Step] = ()) -> Loader:
        """Return a loader of the test images, which go through the `steps`, too."""
        return inputs.create_test_loader(
            self.config, self.dataset.spec, self.dataset.test, self.device, self.mean, steps=steps
        )

    def loader(self, part: data.Part) -> Loader:
        """Return a loader of all images of a part, as they are."""
        return inputs.evaluation_loader(self.dataset.spec, part, self.device, self.mean, inputs.workers(self.config))

    def answers(self, loader: Loader, *, keep_logits: bool = False) -> Evaluation:
        """Return the answers on every image of a loader."""
        return evaluate(
            self.model,
            loader,
            classes=tuple(self.metadata["classes"]),
            dataset=self.dataset.name,
            precision=self.precision,
            settings=self.config.evaluation,
            keep_logits=keep_logits,
        )


def open_trained(run: RunDir, overrides: Sequence[str] = (), *, data_dir: str | None, device: str) -> Trained:
    """Return the run with its saved weights, in the precision that the run asked for.

    `overrides` are of the keys of `evaluation` alone. Raises UserError when the run has no weights yet, they are
    damaged, or the data are missing.
    """
    for word in overrides:
        if not word.startswith("evaluation."):
            raise UserError(f"{word}: expected evaluation.KEY=VALUE: all else of a finished run stays as it is")
        if word.startswith("evaluation.max_images"):
            raise UserError("evaluation.max_images: this cuts evaluations of a training short; here all are answered")
    try:
        place = choose_device(device)
    except UserError as error:
        raise UserError(f"device: {error}") from None
    model, metadata = weights.load(run.weights)
    config = load(run.config, overrides).config
    root = data.root(data_dir) if data_dir else data_root(run, config.data.name, config.data.dir)
    config = config.model_copy(update={"data": config.data.model_copy(update={"dir": str(root)})})
    dataset = open_dataset(run, config, metadata, str(root))
    model.to(device=place, memory_format=torch.channels_last)  # type: ignore[call-overload]
    precision = choose(config.train.precision, place)
    precision.cast(model)
    return Trained(run, config, model, metadata, dataset, place, precision)


def evaluate_run(run: RunDir, overrides: Sequence[str] = (), *, data_dir: str | None, device: str) -> Evaluation:
    """Return the answers of the run's saved weights on the test images. Raises as `open_trained` does."""
    trained = open_trained(run, overrides, data_dir=data_dir, device=device)
    return trained.answers(trained.test_loader())


def open_dataset(run: RunDir, config: Config, metadata: dict[str, Any], data_dir: str | None = None) -> data.Dataset:
    """Return the data set that a finished run's network, of which its weights' `metadata` tell, was trained on.

    It lies under `data_dir`; without one, where `data_root` says. Raises UserError where it is missing or another one.
    """
    root = data.root(data_dir) if data_dir else data_root(run, config.data.name, config.data.dir)
    settings = config.data.model_copy(update={"dir": str(root)})
    dataset = inputs.open_dataset(config.model_copy(update={"data": settings}))
    spec = dataset.spec
    trained_on = (metadata["classes"], metadata["in_channels"], metadata["image_size"])
    if (list(spec.classes), spec.in_channels, spec.image_size) != trained_on:
        raise UserError(
            f"{run.config}: data.name is {spec.name}, but the weights of {run.weights.name} were trained on "
            f"{metadata['dataset']}, which has other classes or images of another size; put that name back"
        )
    return dataset


def data_root(run: RunDir, name: str, dir: str | None) -> Path:
    """Return the data root that the configuration and the environment give, or if the set is there alone, where the
    run had its data: the root, or for a folder the directory, that it was started with."""

    def has_all(root: Path) -> bool:
        if name not in data.SPECS:
            return own.is_shards(name) or own.locate(name, root) is not None
        spec = data.find(name)
        return spec.shipped or all(files.locate(file, root) for file in spec.files)

    root = data.root(dir)
    if has_all(root):
        return root
    session = environment.last_session(environment.read(run))
    recorded = (session.get(key) for key in ("data_root", "working_directory"))
    return next((Path(place) for place in recorded if isinstance(place, str) and has_all(Path(place))), root)
