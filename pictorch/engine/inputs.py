"""Config -> loaders: which images, what is held out of them, where they lie, what they go through."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from pictorch import data
from pictorch.config import Config, UserError
from pictorch.config.schema import Augment, Crop
from pictorch.data import own, policies
from pictorch.data.erasing import Cutout, DualCutout, RandomErasing
from pictorch.data.folder import absent, listed, shortened
from pictorch.data.geometry import ResizedCrop, Rotate
from pictorch.data.loader import Loader, ResidentLoader
from pictorch.data.mix import CutMix, Mixup, ResizeMix, Ricap
from pictorch.data.pipeline import WHOLE, Pipeline, Share, Step
from pictorch.data.pixels import Jitter
from pictorch.data.specs import DatasetSpec
from pictorch.data.split import split, subset
from pictorch.data.streaming import StreamingLoader, choose_residence, cores, decoded_bytes
from pictorch.data.streams import generator
from pictorch.engine.distributed import ALONE, World

# On a CPU what lies between two layers should stay in its caches: ResNet-preact-20 takes 11% less time than with 500. A
# GPU waits for fewer launches with larger ones, and without gradients they take little memory.
EVALUATION_BATCH = {"cpu": 125, "cuda": 1000}

NEEDS_VALIDATION = "needs a validation part: set data.val_fraction, for example 0.1"
STEPS: Mapping[str, Any] = {
    "rotate": Rotate,
    "jitter": Jitter,
    "policy": policies.create,
    "random_erasing": RandomErasing,
    "cutout": Cutout,
    "dual_cutout": DualCutout,
}
MIXES: Mapping[str, Any] = {"mixup": Mixup, "cutmix": CutMix, "ricap": Ricap, "resizemix": ResizeMix}


@dataclass(frozen=True, eq=False)
class Inputs:
    """What a run is fed with. `mean` is what is subtracted, [C] or [C,S,S]; `notes` say where the images lie."""

    dataset: data.Dataset
    train_part: data.Part
    train: Loader
    val: Loader | None
    test: Loader
    mean: Tensor
    notes: tuple[str, ...]


def create(config: Config, device: torch.device, world: World = ALONE) -> Inputs:
    """Open the configured data and return the loaders on `device`. Raises UserError for the user's mistakes.

    Of a training batch the loader gives the part of this process of the `world`.
    """
    dataset = open_dataset(config)
    notes = list(dataset.notes)
    spec, augment = dataset.spec, config.augment
    train, val = training_parts(config, dataset)
    if missing := absent(spec.classes, train.labels):
        notes.append(f"no training image is left of {len(missing)} of {len(spec.classes)} classes: {listed(missing)}")
    if not augment.resized_crop:
        pixels = pixels_held(spec, augment.crop, mirrored=bool(augment.flip))
        train = settle(train, config, spec, device, spec.image_size, notes, pixels_held=pixels)
    resize, pixels = own.evaluation_resize(spec.image_size), pixels_held(spec, None, mirrored=False)
    val = settle(some(val, config), config, spec, device, resize, notes, pixels_held=pixels) if val else None
    pixels = pixels_held(spec, config.evaluation.crop, mirrored=config.evaluation.flip)
    test = settle(some(dataset.test, config), config, spec, device, resize, notes, pixels_held=pixels)
    mean = torch.tensor(spec.mean)
    if config.data.normalise == "pixel":
        mean = mean_image(train)
    with naming("train.batch_size"):
        train_loader = loader(
            train,
            training_pipeline(config, spec, mean, device),
            batch_size=config.train.batch_size,
            shuffle=True,
            drop_last=config.data.drop_last,
            workers=workers(config),
            resize=spec.image_size,
            resized_crop=ResizedCrop(**augment.resized_crop.model_dump()) if augment.resized_crop else None,
            cache=augment.resized_crop is not None and kept_decoded(train, config, spec, notes),
            share=Share(world.rank, world.size),
        )
    at_once = config.evaluation.batch_size
    val_loader = evaluation_loader(spec, val, device, mean, workers(config), batch_size=at_once) if val else None
    test_loader = create_test_loader(config, spec, test, device, mean)
    return Inputs(dataset, train, train_loader, val_loader, test_loader, mean, tuple(notes))


def split_seed(config: Config) -> int:
    """Return what decides which images are held out."""
    return config.train.seed if config.data.split_seed == "run" else config.data.split_seed


def open_dataset(config: Config) -> data.Dataset:
    """Open a known set, or one's own images, with the statistics that the configuration gives."""
    settings, root = config.data, data.root(config.data.dir)
    if not own.is_own(settings.name, root):
        dataset = data.open(settings.name, root=root)
    else:
        dataset = own.open(
            settings.name,
            root=root,
            image_size=settings.image_size,
            channels=settings.channels,
            test=settings.test,
            test_fraction=settings.test_fraction,
            split_seed=split_seed(config),
            stratified=settings.stratified,
        )
    return replace(dataset, spec=with_statistics(dataset.spec, settings.mean, settings.std))


def with_statistics(
    spec: data.ImagesSpec, mean: tuple[float, ...] | None, std: tuple[float, ...] | None
) -> data.ImagesSpec:
    """Return the specification with another mean or std, unless they are None. Raises UserError for a wrong number."""
    for key, values in (("data.mean", mean), ("data.std", std)):
        if values is not None and len(values) != spec.in_channels:
            raise UserError(f"{key}: expected a value for each of {spec.in_channels} channels, got {len(values)}")
    if mean is None and std is None:
        return spec
    return replace(spec, mean=mean or spec.mean, std=std or spec.std, statistic="given in the configuration")


def training_parts(config: Config, dataset: data.Dataset) -> tuple[data.Part, data.Part | None]:
    """Return the training part and the validation part (None without one).

    The validation part is taken first, so that it is the same for every `data.fraction`.
    """
    train, val, settings = dataset.train, dataset.val, config.data
    if settings.val_fraction and val is None:
        with naming("data.val_fraction"):
            kept, held_out = split(
                train.labels, settings.val_fraction, split_seed(config), stratified=settings.stratified
            )
            train, val = train.select(kept), train.select(held_out)
    elif settings.val_fraction:
        raise UserError(f"data.val_fraction: {dataset.name} has a validation part of its own; leave this at 0")
    if val is None and config.train.select == "best-val":
        raise UserError(f"train.select: best-val {NEEDS_VALIDATION}")
    if val is None and config.train.patience_epochs:
        raise UserError(f"train.patience_epochs: stopping early {NEEDS_VALIDATION}")
    if settings.fraction < 1:
        with naming("data.fraction"):
            train = train.select(subset(train.labels, settings.fraction, split_seed(config)))
    return train, val


def some(part: data.Part, config: Config) -> data.Part:
    """Return the images of a part that an evaluation answers: `evaluation.max_images` of them, in proportion by class.

    Images that can only be read one after another are all answered.
    """
    most = config.evaluation.max_images or len(part)
    if most >= len(part) or (isinstance(part, data.Images) and not callable(part.read)):
        return part
    return part.select(subset(part.labels, most / len(part), split_seed(config)))


def settle(
    part: data.Part,
    config: Config,
    spec: data.ImagesSpec,
    device: torch.device,
    resize: int,
    notes: list[str],
    *,
    pixels_held: int,
) -> data.Part:
    """Return the part in memory, resized, if it is to be resident, else as images that are read when they are needed.

    What was decided is noted, but for what lies in memory already and fits.
    """
    needed = len(part) * spec.in_channels * pixels_held
    if isinstance(part, data.Split):
        unsaid: list[str] = []
        if resident(config, needed, device, unsaid):
            return part
        notes += [note for note in unsaid if note not in notes]
        return data.Images(part.images.__getitem__, part.labels)
    if part.source is None or not resident(config, needed, device, notes):
        return part
    pipeline = Pipeline(
        num_classes=len(spec.classes), image_size=spec.image_size, mean=spec.mean, std=spec.std, device="cpu"
    )
    reader = loader(part, pipeline, workers=workers(config), resize=resize)
    assert isinstance(reader, StreamingLoader)
    try:
        images = torch.cat(list(reader.images(torch.arange(len(part)), (), 0)))
    except UserError as error:
        raise unreadable(part, workers(config)) or error from None
    return data.Split(images.contiguous(), part.labels)


def pixels_held(spec: data.ImagesSpec, crop: Crop | None, *, mirrored: bool) -> int:
    """Return what is held of an image, in pixels: itself, and padded for the crops, with its mirror image for flips."""
    padded = (spec.image_size + 2 * (crop.padding if crop else 0)) ** 2
    return spec.image_size**2 + (2 * padded if mirrored else padded)


def unreadable(part: data.Images, workers: int) -> UserError | None:
    """Return what is wrong with the images of a part, all in one message; None where there is nothing."""

    def fault(index: int) -> str | None:
        assert callable(part.read)
        try:
            part.read(index)
        except UserError as error:
            return str(error)
        return None

    with ThreadPoolExecutor(workers or 1) as pool:
        faults = [fault for fault in pool.map(fault, range(len(part))) if fault]
    if len(faults) < 2:
        return UserError(faults[0]) if faults else None
    return UserError("\n  ".join([f"{len(faults):,} images cannot be used:", *shortened(faults)]))


def resident(config: Config, needed_bytes: int, device: torch.device, notes: list[str]) -> bool:
    """Return whether images that take so much are to lie in the device's memory, and note why."""
    fits, why = choose_residence(needed_bytes, device)
    chosen = fits if config.data.resident == "auto" else config.data.resident
    why = why if config.data.resident == "auto" else f"data.resident={str(chosen).lower()}"
    note = f"{'in memory' if chosen else 'read when needed'}: {why}"
    if note not in notes:
        notes.append(note)
    return chosen


def kept_decoded(part: data.Part, config: Config, spec: data.ImagesSpec, notes: list[str]) -> bool:
    """Return whether decoded images of the training part are to be kept in memory after their first use."""
    if isinstance(part, data.Split) or part.source is None:
        return False
    needed = decoded_bytes(part.source, len(part), channels=spec.in_channels)
    return resident(config, needed, torch.device("cpu"), notes)


def loader(
    part: data.Part,
    pipeline: Pipeline,
    *,
    batch_size: int = EVALUATION_BATCH["cpu"],
    shuffle: bool = False,
    drop_last: bool = False,
    workers: int,
    resize: int,
    resized_crop: ResizedCrop | None = None,
    cache: bool = False,
    share: Share = WHOLE,
) -> Loader:
    """Return the loader for where the part's images lie."""
    if isinstance(part, data.Split):
        return ResidentLoader(
            split=part,
            pipeline=pipeline,
            batch_size=batch_size,
            shuffle=shuffle,
            drop_last=drop_last,
            resized_crop=resized_crop,
            share=share,
        )
    return StreamingLoader(
        read=part.read,
        labels=part.labels,
        pipeline=pipeline,
        batch_size=batch_size,
        shuffle=shuffle,
        drop_last=drop_last,
        workers=workers,
        resize=resize,
        resized_crop=resized_crop,
        cache=cache,
        share=share,
    )


def create_test_loader(
    config: Config,
    spec: data.ImagesSpec,
    part: data.Part,
    device: torch.device,
    mean: Tensor | None,
    *,
    steps: Sequence[Step] = (),
) -> Loader:
    """Return a loader of every test image once, in order; cropped and mirrored where the configuration says so, and
    then through the `steps`."""
    settings = config.evaluation
    return evaluation_loader(
        spec,
        part,
        device,
        mean,
        workers(config),
        batch_size=settings.batch_size,
        # Not train.seed itself: test images would go through the numbers of the first epoch's training images.
        seed=generator(config.train.seed, "test").initial_seed(),
        flip=settings.flip,
        steps=steps,
        **of_crop(settings.crop),
    )


def evaluation_loader(
    spec: data.ImagesSpec,
    part: data.Part,
    device: torch.device,
    mean: Tensor | None = None,
    workers: int = 2,
    *,
    batch_size: int | None = None,
    **of_pipeline: Any,
) -> Loader:
    """Return a loader of every image of `part` once, in order, not augmented but by further keywords of Pipeline."""
    pipeline = Pipeline(
        num_classes=len(spec.classes),
        image_size=spec.image_size,
        mean=spec.mean if mean is None else mean,
        std=spec.std,
        device=device,
        **of_pipeline,
    )
    batch_size = batch_size or EVALUATION_BATCH[device.type]
    return loader(part, pipeline, batch_size=batch_size, workers=workers, resize=own.evaluation_resize(spec.image_size))


def training_pipeline(config: Config, spec: data.ImagesSpec, mean: Tensor, device: torch.device) -> Pipeline:
    """Return what training images go through."""
    augment = config.augment
    return Pipeline(
        num_classes=len(spec.classes),
        image_size=spec.image_size,
        mean=mean,
        std=spec.std,
        device=device,
        seed=config.train.seed,
        **of_crop(augment.crop),
        flip=augment.flip,
        steps=[STEPS[name](**options) for name, options in configured(augment, STEPS)],
        mixes=[MIXES[name](**options) for name, options in configured(augment, MIXES)],
        label_smoothing=augment.label_smoothing,
        repeat_draws=augment.repeat_draws,
    )


def of_crop(crop: Crop | None) -> dict[str, Any]:
    """Return a crop as keywords of Pipeline."""
    return {"crop_padding": crop.padding, "padding_mode": crop.mode, "crop_size": crop.size} if crop else {}


def configured(augment: Augment, among: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield name and options of the augmentations of `among` that are on."""
    for name in among:
        if block := getattr(augment, name):
            yield name, block.model_dump(exclude={"alpha"} if name == "dual_cutout" else None)


def mean_image(part: data.Part) -> Tensor:
    """Return the mean float32 [C,S,S] of a part's images in [0, 1], pixel by pixel."""
    if not isinstance(part, data.Split):
        raise UserError("data.normalise: a mean image needs images that lie in memory, without augment.resized_crop")
    total = torch.zeros(part.images.shape[1:], dtype=torch.float64)
    for some in torch.split(part.images, 10_000):
        total += some.to(torch.float64).sum(dim=0)
    return (total / (255 * len(part))).to(torch.float32)


def normalisation(config: Config, spec: data.ImagesSpec) -> str:
    """Return in words where the numbers come from by which images are normalised."""
    if config.data.normalise == "pixel":
        return f"the mean image of the run's training images is subtracted; standard deviation: {spec.statistic}"
    return spec.statistic


def label_order(spec: data.ImagesSpec) -> str:
    """Return in words how labels are numbered, with the first and the last class."""
    order = "that of the published files" if isinstance(spec, DatasetSpec) else "names of the classes, sorted"
    return f"{order}: 0 is {spec.classes[0]}, {len(spec.classes) - 1} is {spec.classes[-1]}"


def workers(config: Config) -> int:
    """Return the number of threads that read images."""
    return cores() if config.data.workers == "auto" else config.data.workers


@contextmanager
def naming(key: str) -> Iterator[None]:
    """Put the configuration's key in front of a component's UserError, which does not know it."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{key}: {error}") from None
