"""Config -> everything a run is made of. Beside `inputs` and the command line, the only place that knows `Config`."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from math import ceil
from pathlib import Path

import torch
from torch import Tensor, nn

from pictorch import data, losses, models, optim
from pictorch.config import Config, Loaded, OptionError, UserError, locate
from pictorch.config.explain import place_of
from pictorch.config.schema import AugMix, Crop
from pictorch.data import own
from pictorch.data.loader import Loader
from pictorch.data.streams import generator
from pictorch.engine import distributed, inputs, precision, trackers
from pictorch.engine.distributed import ALONE, World
from pictorch.engine.inputs import Inputs, naming
from pictorch.engine.memory import kept_memory
from pictorch.engine.step import Update, batch_norms
from pictorch.models.complexity import Complexity, count
from pictorch.models.fused import fuse_for_training
from pictorch.models.ghost import ghost_batch_norm
from pictorch.models.synchronised import synchronised_batch_norm, whole_batch_draws
from pictorch.models.transfer import read_state, start_from
from pictorch.optim import schedules
from pictorch.optim.average import EMA, SWA, Average, NoAverage
from pictorch.runs import RunDir

# As airbench does: the first layer's statistics are those of this many training images (arXiv:2404.00498, section 3.2).
WHITENING_IMAGES = 5000


@dataclass
class Job:
    """A run ready to start: data on the device, network, optimiser, schedule, and how a step is done.

    `mean` is what is subtracted from images, [C] or [C,S,S]. `updates` are those of the whole run; `average` takes the
    weights in after every `average_every` of them that come after the first `average_after`. `world` are the processes
    that train it together. `notes` say what was decided on the way.
    """

    config: Config
    dataset: data.Dataset
    train_loader: Loader
    val_loader: Loader | None
    test_loader: Loader
    mean: Tensor
    model: nn.Module
    complexity: Complexity
    optimizer: torch.optim.Optimizer
    schedule: schedules.Factor
    update: Update
    average: Average
    average_every: int
    average_after: int
    updates: int
    device: torch.device
    threads: int
    world: World
    notes: tuple[str, ...]

    @contextmanager
    def process_settings(self) -> Iterator[None]:
        """Return the context in which the job's steps are to run."""
        settings = precision.process_settings(
            self.device, threads=self.threads, deterministic=self.config.train.deterministic
        )
        with settings, kept_memory():
            yield

    @property
    def precision(self) -> precision.Precision:
        return self.update.precision

    @property
    def classes(self) -> tuple[str, ...]:
        return self.dataset.spec.classes


def mistakes(loaded: Loaded, blocks: Collection[str]) -> list[str]:
    """Return what only the components know to be wrong in the top-level `blocks`, a line each with its place.

    Reads no data and takes no memory.
    """
    config, origins, found = loaded.config, loaded.origins, []
    spec = None
    if "data" in blocks and not own.is_own(config.data.name, data.root(config.data.dir)):
        try:
            spec = data.find(config.data.name)
        except UserError as error:
            found.append(f"{place_of('data.name', origins)}data.name: {error}")
        else:
            found += data_mistakes(loaded, blocks)
    if "model" in blocks:
        found += model_mistakes(loaded, spec)
    for block in ("augment", "evaluation"):
        if block in blocks and spec:
            found += crop_mistakes(loaded, spec, block, getattr(config, block).crop)
    if "train" in blocks:
        try:
            precision.choose_device(config.train.device)
        except UserError as error:
            found.append(f"{place_of('train.device', origins)}train.device: {error}")
    if "track" in blocks:
        found += [f"{place_of(key, origins)}{key}: {problem}" for key, problem in trackers.missing(config.track)]
    return found


def data_mistakes(loaded: Loaded, blocks: Collection[str]) -> list[str]:
    """Return what does not go with a known set, a line each with its place: settings for one's own images, and the
    lack of a validation part where one is needed."""
    config, found = loaded.config, []
    for key in ("image_size", "channels", "test", "test_fraction"):
        if getattr(config.data, key) is not None:
            found.append((f"data.{key}", f"{config.data.name} has its own; this is for images of yours"))
    if "train" in blocks and not config.data.val_fraction:
        if config.train.select == "best-val":
            found.append(("train.select", f"best-val {inputs.NEEDS_VALIDATION}"))
        if config.train.patience_epochs:
            found.append(("train.patience_epochs", f"stopping early {inputs.NEEDS_VALIDATION}"))
    return [f"{place_of(key, loaded.origins)}{key}: {text}" for key, text in found]


def model_mistakes(loaded: Loaded, spec: data.ImagesSpec | None) -> list[str]:
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


def crop_mistakes(loaded: Loaded, spec: data.ImagesSpec, block: str, crop: Crop | None) -> list[str]:
    """Return what does not fit the images: the padding or the size of a block's crop, in a line with its place."""
    if crop is None:
        return []
    key, size = f"{block}.crop.padding", spec.image_size
    if crop.padding >= size:
        text = f"expected less than the image size, {size}: a crop could miss the image; got {crop.padding}"
        return [f"{place_of(key, loaded.origins)}{key}: {text}"]
    key, most = f"{block}.crop.size", size + 2 * crop.padding
    if crop.size and crop.size > most:
        text = f"expected at most {most}, the {size} pixels of the image and {crop.padding} on each side"
        return [f"{place_of(key, loaded.origins)}{key}: {text}, got {crop.size}"]
    return []


def create_model(config: Config, spec: data.ImagesSpec) -> nn.Module:
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


def build(config: Config, *, threads: int | None = None, precise: str | None = None, world: World = ALONE) -> Job:
    """Open the data, build the network from the seed, and return the Job. Raises UserError for the user's mistakes.

    `threads` and `precise` are those of an earlier session of the same run; None chooses them by the configuration.
    Of several processes each builds the whole job; they share out each batch.
    """
    with naming("train.device"):
        device = world.own(precision.choose_device(config.train.device))
    fed = inputs.create(config, device, world)
    spec, steps = fed.dataset.spec, len(fed.train)
    loss = create_loss(config)
    groups = distributed.divide(config, world, images=len(fed.train_part), views=loss.views if loss.joint else 1)
    model, complexity, of_model = network(config, fed, device, groups)
    if world.size > 1:
        whole_batch_draws(model, rank=world.rank, size=world.size)
    precise_as = precision.choose(precise or config.train.precision, device)
    precise_as.cast(model)
    updates = min(config.train.epochs * steps, config.train.max_steps or config.train.epochs * steps)
    average, every, after, of_average = create_average(config, model, steps_per_epoch=steps, updates=updates)
    return Job(
        config=config,
        dataset=fed.dataset,
        train_loader=fed.train,
        val_loader=fed.val,
        test_loader=fed.test,
        mean=fed.mean,
        model=model,
        complexity=complexity,
        optimizer=create_optimizer(config, model, len(spec.classes)),
        schedule=create_schedule(config, steps),
        update=Update(
            precision=precise_as,
            loss=loss,
            auxiliary_weights=tuple(getattr(model, "auxiliary_weights", ())),
            accumulate=config.optim.accumulate,
            clip_norm=clip_norm(config),
            norms=batch_norms(model),
            world=world,
        ),
        average=average,
        average_every=every,
        average_after=after,
        updates=updates,
        device=device,
        threads=precision.choose_threads(
            threads or config.train.threads,
            step_macs=complexity.macs * config.train.batch_size // world.size,
            processes=world.local_size,
        ),
        world=world,
        notes=(*fed.notes, *of_model, *of_average, *of_processes(world, groups)),
    )


def of_processes(world: World, groups: int) -> list[str]:
    """Return what is to be said of several processes; batch norm sees `groups` of a process's images, or 0: all."""
    if world.size == 1:
        return []
    norms = f"{groups} ghost batches in each" if groups > 1 else "a ghost batch in each"
    statistics = f"of {norms}" if groups else f"of the whole batch (train.ghost_batches={world.size}: of each part)"
    return [f"{world.size} processes share each batch; batch norm takes the statistics {statistics}"]


def network(config: Config, fed: Inputs, device: torch.device, groups: int) -> tuple[nn.Module, Complexity, list[str]]:
    """Return the network as the run starts it, on the device, what it costs, and what is to be said of it.

    Batch norm sees so many `groups` of the images of a step here; 0: all images, those of other processes, too.
    """
    spec = fed.dataset.spec
    torch.manual_seed(generator(config.train.seed, "model").initial_seed())
    model = create_model(config, spec)
    notes = initialise(model, config)
    complexity = count(model, in_channels=spec.in_channels, image_size=spec.image_size)
    try_crops(model, config, spec)
    model.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    if config.model.init_from is None and callable(whiten := getattr(model, "whiten", None)):
        some = fed.train_part.select(torch.arange(min(WHITENING_IMAGES, len(fed.train_part))))
        batches = inputs.evaluation_loader(spec, some, device, fed.mean).epoch(0)
        whiten(torch.cat([batch.images for batch in batches]))
    if groups > 1:
        ghost_batch_norm(model, groups)
    elif groups == 0:
        model = synchronised_batch_norm(model, cuda=device.type == "cuda")
    if config.optim.freeze:
        with naming("optim.freeze"):
            frozen = optim.freeze(model, config.optim.freeze)
        notes.append(f"frozen: {len(frozen)} of {len(list(model.parameters()))} parameters' tensors")
    if device.type == "cpu" and not config.train.compile and config.train.precision != "half":
        fuse_for_training(model)
    return model, complexity, notes


def try_crops(model: nn.Module, config: Config, spec: data.ImagesSpec) -> None:
    """Raise UserError where images are cropped to a size that the network, made for the images' own, does not take."""
    for block, crop in (("augment", config.augment.crop), ("evaluation", config.evaluation.crop)):
        if crop and crop.size not in (None, spec.image_size):
            try:
                count(model, in_channels=spec.in_channels, image_size=crop.size or spec.image_size)
            except (RuntimeError, ValueError) as error:
                text = f"{config.model.name} takes images of {spec.image_size} pixels, not crops of {crop.size}"
                raise UserError(f"{block}.crop.size: {text}: leave it out") from error


def create_average(
    config: Config, model: nn.Module, *, steps_per_epoch: int, updates: int
) -> tuple[Average, int, int, list[str]]:
    """Return the configured average of the weights, after how many updates it moves, and after how many first; and
    what is to be said of it."""
    if config.ema:
        decay, window = config.ema.decay, round(1 / (1 - config.ema.decay))
        notes = [f"ema.decay={decay:g} averages over some {window:,} of {updates:,} updates"]
        return EMA(model, decay=decay, warmup=config.ema.warmup), 1, 0, notes if window > updates else []
    if config.swa:
        start = config.swa.start_epochs
        after = ceil(start * steps_per_epoch)
        notes = [
            f"swa.start_epochs={start:g}: the run of {updates:,} updates ends before an epoch ({steps_per_epoch:,} "
            "updates) after that does: no weights are averaged"
        ]
        none = updates // steps_per_epoch <= after // steps_per_epoch
        return SWA(model), steps_per_epoch, after, notes if none else []
    return NoAverage(), 1, 0, []


def initialise(model: nn.Module, config: Config) -> list[str]:
    """Start the network from the configured weights, if any; return what was taken over and what was not."""
    if config.model.init_from is None:
        return []
    with naming("model.init_from"):
        path = Path(config.model.init_from).expanduser()
        state = read_state(RunDir(path).weights if path.is_dir() else path)
        return start_from(model, state, source=str(path)).describe(str(path))


def create_optimizer(config: Config, model: nn.Module, num_classes: int) -> torch.optim.Optimizer:
    """Return the configured optimiser of what is not frozen."""
    settings = config.optim
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise UserError("optim.freeze: every parameter is frozen: nothing would be trained")
    head: tuple[nn.Parameter, ...] = ()
    if settings.lr_head_factor != 1 or settings.name == "muon":
        with naming("optim.lr_head_factor" if settings.lr_head_factor != 1 else "optim.name"):
            head = tuple(optim.head(model, num_classes).parameters())
    options = settings.model_dump(exclude={"clip_norm", "clip_sum", "accumulate", "freeze"})
    with naming("optim.decay_only") if settings.decay_only else nullcontext():
        return optim.create(model, **options, head=head)


def clip_norm(config: Config) -> float | None:
    """Return what the gradient of the whole batch is clipped to.

    The sum over equal parts is so many times their mean: to clip it is to clip the mean to that part of the norm.
    """
    settings = config.optim
    if settings.clip_norm is None or not settings.clip_sum:
        return settings.clip_norm
    return settings.clip_norm / settings.accumulate


def create_schedule(config: Config, steps_per_epoch: int) -> schedules.Factor:
    """Return the configured schedule; with `swa.lr_factor` it is constant from SWA's start on."""
    factor = schedules.create(
        epochs=config.train.epochs,
        steps_per_epoch=steps_per_epoch,
        **config.schedule.model_dump(exclude={"scale"}),
    )
    if config.swa is None or config.swa.lr_factor is None:
        return factor
    start, constant = ceil(config.swa.start_epochs * steps_per_epoch), config.swa.lr_factor
    return lambda step: factor(step) if step < start else constant


def create_loss(config: Config) -> losses.Loss:
    """Return the configured loss; that of an augmentation that compares views, where there is one."""
    augment = config.augment
    if augment.dual_cutout:
        return losses.create("dual_cutout", alpha=augment.dual_cutout.alpha)
    if isinstance(augment.policy, AugMix) and augment.policy.consistency:
        return losses.create("augmix")
    return losses.create(**config.loss.model_dump())
