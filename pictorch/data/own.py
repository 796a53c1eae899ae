"""One's own images as a data set: a folder of class folders, ImageNet as it is unpacked, or WebDataset shards."""

import hashlib
import os
from dataclasses import replace
from functools import partial
from io import BytesIO
from pathlib import Path

import torch

from pictorch.config.errors import UserError
from pictorch.data.dataset import Dataset
from pictorch.data.decode import decode, decode_file
from pictorch.data.folder import DEFAULT_TEST_FRACTION, Files, open_folder
from pictorch.data.parts import Images
from pictorch.data.shards import LocalShards, UrlShards, is_url, open_shards
from pictorch.data.specs import SPECS, ImagesSpec
from pictorch.data.split import split
from pictorch.data.streaming import imagenet_resize

IMAGENET = "imagenet"
IMAGE_SIZE = 224
# Per channel over all pixels of ImageNet's training images, as published with torchvision's and timm's networks.
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
IMAGENET_STATISTIC = (
    "mean and standard deviation per channel of ImageNet's training images, as published with torchvision"
)
# What the three weigh in grey: ITU-R 601-2, as Pillow converts.
GREY = (0.299, 0.587, 0.114)
# Smaller images are taken whole in evaluation; of larger ones the border is cut off, as of ImageNet's.
LARGEST_WHOLE = 64


def is_own(name: str, root: Path) -> bool:
    """Return whether `name` means one's own images: no known set, and a path, a URL or what lies under the root."""
    return name not in SPECS and (is_shards(name) or "/" in name or name == IMAGENET or locate(name, root) is not None)


def is_shards(name: str) -> bool:
    """Return whether a name means WebDataset shards: .tar files, URLs, commands."""
    return name.endswith(".tar") or "://" in name or name.startswith("pipe:")


def holds_shards(folder: Path) -> bool:
    """Return whether a folder has shards in it, and no folder."""
    return any(folder.glob("*.tar")) and not any(child.is_dir() for child in folder.iterdir())


def locate(name: str, root: Path) -> Path | None:
    """Return the folder `name` in the working directory, or else under the data root; None where there is none."""
    for folder in (Path(name).expanduser(), root / name):
        if folder.is_dir():
            return folder
    return None


def specification(
    name: str, classes: tuple[str, ...], *, image_size: int | None, channels: int | None, title: str
) -> ImagesSpec:
    """Return what a network has to know of one's own images, with ImageNet's statistics."""
    channels = channels or 3
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    if channels == 1:
        mean = (sum(weight * value for weight, value in zip(GREY, mean, strict=True)),)
        std = (sum(weight * value for weight, value in zip(GREY, std, strict=True)),)
    return ImagesSpec(
        name=name,
        title=title,
        classes=classes,
        in_channels=channels,
        image_size=image_size or IMAGE_SIZE,
        mean=mean,
        std=std,
        statistic=IMAGENET_STATISTIC,
    )


def open(
    name: str,
    *,
    root: Path,
    test: str | None = None,
    image_size: int | None = None,
    channels: int | None = None,
    test_fraction: float | None = None,
    split_seed: int = 0,
    stratified: bool = True,
) -> Dataset:
    """Find the images that `name` means; none is decoded yet.

    `name` is a folder, in the working directory or under the data root, or shards; `test` are the shards of the test
    part. Without, `test_fraction` (0.2 if None) of what is not split on the disk is held out by `split_seed`. Raises
    UserError for what is missing or cannot be used.
    """
    settings = {"image_size": image_size, "channels": channels}
    if is_shards(name):
        return open_own_shards(name, root, test, test_fraction, split_seed, stratified, **settings)
    folder = locate(name, root)
    if folder is None:
        hint = f"; `pictorch data prepare {IMAGENET}` says how it gets there" if name == IMAGENET else ""
        raise UserError(f"data.name: there is no folder {name}, neither here nor under the data root {root}{hint}")
    if holds_shards(folder):
        shards = str(folder)
        if test is None and (parts_in := shard_parts(folder)):
            shards, test = parts_in
        dataset = open_own_shards(shards, root, test, test_fraction, split_seed, stratified, **settings)
        note = (f"{shards} are the training part, {test} the test part",) if shards != str(folder) else ()
        return replace(dataset, spec=replace(dataset.spec, name=folder.resolve().name), notes=(*note, *dataset.notes))
    if test is not None:
        raise UserError(f"data.test: {folder} is a folder of images, whose test part is test/ or val/ in it")
    found = open_folder(folder, test_fraction=test_fraction, split_seed=split_seed, stratified=stratified)
    spec = specification(
        folder.resolve().name, found.classes, title=f"a folder of {len(found.classes)} classes", **settings
    )
    parts = {part: images(files, spec.in_channels) for part, files in found.parts.items()}
    return Dataset(
        spec=spec,
        train=parts["train"],
        val=parts.get("val"),
        test=parts["test"],
        checksum=found.checksum,
        notes=found.notes,
    )


def shard_parts(folder: Path) -> tuple[str, str] | None:
    """Return the shards of the training and of the test part where a folder has both, by how their names begin."""
    begin = {word for word in ("train", "test", "val") if any(folder.glob(f"{word}*.tar"))}
    if "train" not in begin or len(begin) == 1:
        return None
    return str(folder / "train*.tar"), str(folder / ("test*.tar" if "test" in begin else "val*.tar"))


def images(files: Files, channels: int) -> Images:
    """Return a folder's part, which reads its files when they are needed."""
    paths = files.paths

    def read(index: int) -> torch.Tensor:
        return decode_file(paths[index], channels=channels)

    return Images(read, files.labels, lambda index: Path(paths[index]))


def open_own_shards(
    name: str,
    root: Path,
    test: str | None,
    test_fraction: float | None,
    split_seed: int,
    stratified: bool,
    *,
    image_size: int | None,
    channels: int | None,
) -> Dataset:
    """Index the shards of the training part, and those of the test part or hold one out."""
    if test is None and is_url(name):
        raise UserError(
            "data.test: expected the shards of the test part; "
            f"those of {name} come one after another and cannot be split"
        )
    reading = partial(decode, channels=channels or 3)
    train = open_shards(name, decode=reading, index_file=index_file(name, root))
    classes = train.index.classes
    spec = specification(
        stem_of(name), classes, image_size=image_size, channels=channels, title=f"shards of {len(classes)} classes"
    )
    digest, notes = hashlib.sha256(train.index.checksum.encode()), []
    parts = {"train": part_of(train)}
    if test is not None:
        if test_fraction is not None:
            raise UserError("data.test_fraction: data.test names the test part; leave one of the two out")
        others = open_shards(test, decode=reading, classes=classes, index_file=index_file(test, root))
        digest.update(others.index.checksum.encode())
        parts["test"] = part_of(others)
    else:
        fraction = DEFAULT_TEST_FRACTION if test_fraction is None else test_fraction
        try:
            kept, held_out = split(train.index.labels, fraction, split_seed, stratified=stratified, part="test")
        except UserError as error:
            raise UserError(f"data.test_fraction: {error}") from None
        parts = {"train": parts["train"].select(kept), "test": parts["train"].select(held_out)}
        notes.append(f"the test part is {fraction:g} of the images, by data.split_seed={split_seed}")
    return Dataset(spec=spec, train=parts["train"], test=parts["test"], checksum=digest.hexdigest(), notes=tuple(notes))


def part_of(shards: LocalShards | UrlShards) -> Images:
    if isinstance(shards, UrlShards):
        return Images(shards, shards.index.labels)
    return Images(shards, shards.index.labels, lambda index: BytesIO(shards.raw(index)))


def index_file(name: str, root: Path) -> Path | None:
    """Return where the index of shards is kept, under the data root; None where nothing can be written there."""
    folder = root / "shard-indexes"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return folder / f"{hashlib.sha256(name.encode()).hexdigest()[:16]}.json" if os.access(folder, os.W_OK) else None


def stem_of(name: str) -> str:
    """Return a short name for shards: that of their folder, or the last part up to the first brace, dot or number."""
    last = name.rstrip("/").rpartition("/")[2]
    if not is_shards(name):
        return last
    stem = last
    for mark in ("{", ".", "*", "?"):
        stem = stem.partition(mark)[0]
    return stem.rstrip("-_0123456789") or last


def evaluation_resize(image_size: int) -> int:
    """Return what an image's shorter side is scaled to in evaluation, of which the centre is then cut out."""
    return image_size if image_size <= LARGEST_WHOLE else imagenet_resize(image_size)
