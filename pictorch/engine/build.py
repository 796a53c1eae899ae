"""Config -> everything a run is made of. The only place, beside the command line, that knows `Config`."""

from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

import torch
from torch import nn

from pictorch import data, models, optim
from pictorch.config import Config, Loaded, OptionError, UserError, locate
from pictorch.config.explain import place_of
from pictorch.data.loader import ResidentLoader
from pictorch.data.pipeline import Pipeline
from pictorch.data.split import split, subset
from pictorch.data.streams import generator
from pictorch.engine import precision, trackers
from pictorch.models.complexity import Complexity, count
from pictorch.optim import schedules

# Evaluation has no gradients to keep, so larger batches than the training's cost no memory worth the name.
EVALUATION_BATCH = 500
# As airbench does: the first layer's statistics are those of this many training images (arXiv:2404.00498, section 3.2).
WHITENING_IMAGES = 5000


@dataclass
class Job:
    """A run ready to start: data on the device, network, optimiser and schedule."""

    config: Config
    dataset: data.Dataset
    train_loader: ResidentLoader
    val_loader: ResidentLoader | None
    test_loader: ResidentLoader
    model: nn.Module
    complexity: Complexity
    optimizer: torch.optim.Optimizer
    schedule: schedules.Factor
    device: torch.device
    precision: precision.Precision
    threads: int

    def process_settings(self) -> AbstractContextManager[None]:
        """Return the context in which the job's steps are to run."""
        deterministic = self.config.train.deterministic
        return precision.process_settings(self.device, threads=self.threads, deterministic=deterministic)

    @property
    def auxiliary_weights(self) -> tuple[float, ...]:
        """The weights of the losses of the network's auxiliary heads; empty for a network without."""
        return tuple(getattr(self.model, "auxiliary_weights", ()))

    @property
    def updates(self) -> int:
        """The updates of the whole run."""
        whole = self.config.train.epochs * len(self.train_loader)
        return min(whole, self.config.train.max_steps or whole)

    @property
    def classes(self) -> tuple[str, ...]:
        return self.dataset.spec.classes


def mistakes(loaded: Loaded, blocks: Collection[str]) -> list[str]:
    """Return what only the components know to be wrong in the top-level `blocks`, a line each with its place.

    Reads no data and takes no memory.
    """
    config, origins, found = loaded.config, loaded.origins, []
    spec = None
    if "data" in blocks:
        try:
            spec = data.find(config.data.name)
        except UserError as error:
            found.append(f"{place_of('data.name', origins)}data.name: {error}")
    if "model" in blocks:
        found += model_mistakes(loaded, spec)
    if "augment" in blocks and spec:
        found += crop_mistakes(loaded, spec)
    if "train" in blocks:
        try:
            precision.choose_device(config.train.device)
        except UserError as error:
            found.append(f"{place_of('train.device', origins)}train.device: {error}")
    if "track" in blocks:
        try:
            trackers.check(config.track.tensorboard)
        except UserError as error:
            found.append(f"{place_of('track.tensorboard', origins)}{error}")
    return found


def model_mistakes(loaded: Loaded, spec: data.DatasetSpec | None) -> list[str]:
    """Return what is wrong with the network's name or options, in a line with its place, or nothing.

    Whether the network fits a data set is left out where that one is not known (None).
    """
    try:
        if spec is None:
            models.resolve(loaded.config.model.name, loaded.config.model.options)
        else:
            with torch.device("meta"):
                create_model(loaded.config, spec)
    except OptionError as error:
        return [str(locate(error, "model", loaded.origins))]
    return []


def crop_mistakes(loaded: Loaded, spec: data.DatasetSpec) -> list[str]:
    """Return that the padding is too large for the images, in a line with its place, or nothing."""
    crop, key = loaded.config.augment.crop, "augment.crop.padding"
    if crop is None or crop.padding < spec.image_size:
        return []
    text = f"expected less than the image size, {spec.image_size}: a crop could miss the image; got {crop.padding}"
    return [f"{place_of(key, loaded.origins)}{key}: {text}"]


def create_model(config: Config, spec: data.DatasetSpec) -> nn.Module:
    """Return the configured network for a data set's classes, channels and image size."""
    for option in ("num_classes", "in_channels", "image_size"):
        if option in config.model.options:
            raise OptionError(config.model.name, option, f"the data set {spec.name!r} decides this; leave it out")
    return models.create(
        config.model.name,
        num_classes=len(spec.classes),
        in_channels=spec.in_channels,
        image_size=spec.image_size,
        **config.model.options,
    )


def build(config: Config, *, threads: int | None = None, precise: str | None = None) -> Job:
    """Open the data, build the network from the seed, and return the Job. Raises UserError for the user's mistakes.

    `threads` and `precise` are those of an earlier session of the same run; None chooses them by the configuration.
    """
    with naming("train.device"):
        device = precision.choose_device(config.train.device)
    dataset = data.open(config.data.name, root=data.root(config.data.dir))
    train, val = training_parts(config, dataset.train)
    with naming("train.batch_size"):
        train_loader = ResidentLoader(
            split=train,
            pipeline=training_pipeline(config, dataset.spec, device),
            batch_size=config.train.batch_size,
            shuffle=True,
            drop_last=config.data.drop_last,
        )
    torch.manual_seed(generator(config.train.seed, "model").initial_seed())
    model = create_model(config, dataset.spec)
    complexity = count(model, in_channels=dataset.spec.in_channels, image_size=dataset.spec.image_size)
    model.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    if callable(whiten := getattr(model, "whiten", None)):
        some = train.select(torch.arange(min(WHITENING_IMAGES, len(train))))
        batches = evaluation_loader(dataset.spec, some, device).epoch(0)
        whiten(torch.cat([batch.images for batch in batches]))
    optimizer = optim.create(
        model, **config.optim.model_dump(exclude={"clip_norm", "accumulate", "freeze", "lr_head_factor"})
    )
    schedule = schedules.create(
        epochs=config.train.epochs,
        steps_per_epoch=len(train_loader),
        **config.schedule.model_dump(exclude={"scale", "warmup", "warmup_start_factor", "warmup_exponent", "position"}),
    )
    return Job(
        config=config,
        dataset=dataset,
        train_loader=train_loader,
        val_loader=evaluation_loader(dataset.spec, val, device) if val else None,
        test_loader=evaluation_loader(dataset.spec, dataset.test, device),
        model=model,
        complexity=complexity,
        optimizer=optimizer,
        schedule=schedule,
        device=device,
        precision=precision.choose(precise or config.train.precision, device),
        threads=precision.choose_threads(
            threads or config.train.threads, step_macs=complexity.macs * config.train.batch_size
        ),
    )


def training_parts(config: Config, train: data.Split) -> tuple[data.Split, data.Split | None]:
    """Return the training part and the validation part (None without one) of the official training images.

    The validation part is taken first, so that it is the same for every `data.fraction`.
    """
    val = None
    if config.data.val_fraction:
        with naming("data.val_fraction"):
            kept, held_out = split(train.labels, config.data.val_fraction, config.data.split_seed)
        train, val = train.select(kept), train.select(held_out)
    if config.data.fraction < 1:
        with naming("data.fraction"):
            train = train.select(subset(train.labels, config.data.fraction, config.data.split_seed))
    return train, val


@contextmanager
def naming(key: str) -> Iterator[None]:
    """Put the configuration's key in front of a component's UserError, which does not know it."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{key}: {error}") from None


def training_pipeline(config: Config, spec: data.DatasetSpec, device: torch.device) -> Pipeline:
    """Return what training images go through."""
    augment = config.augment
    return Pipeline(
        num_classes=len(spec.classes),
        image_size=spec.image_size,
        mean=spec.mean,
        std=spec.std,
        device=device,
        seed=config.train.seed,
        crop_padding=augment.crop.padding if augment.crop else 0,
        flip=augment.flip,
    )


def evaluation_loader(spec: data.DatasetSpec, part: data.Split, device: torch.device) -> ResidentLoader:
    """Return a loader of every image of `part` once, in order, not augmented."""
    return ResidentLoader(
        split=part,
        pipeline=Pipeline(
            num_classes=len(spec.classes), image_size=spec.image_size, mean=spec.mean, std=spec.std, device=device
        ),
        batch_size=EVALUATION_BATCH,
        shuffle=False,
        drop_last=False,
    )
