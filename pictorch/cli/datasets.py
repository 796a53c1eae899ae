"""`pictorch data`: get a known data set, check its files, look at its images."""

import contextlib
import hashlib
import json
import os
import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageDraw, ImageFont
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table

from pictorch import data
from pictorch.cli.listing import columns
from pictorch.cli.paths import option_path
from pictorch.cli.text import say, size
from pictorch.cli.text import show as print_table
from pictorch.config import UserError, recipes
from pictorch.data import archives, files, imagenet, own
from pictorch.data.dataset import SHIPPED
from pictorch.data.download import DownloadError, fetch
from pictorch.data.geometry import evaluation_crop
from pictorch.data.specs import DatasetSpec, File, Form

SECONDS_BETWEEN_LINES = 10.0
IMAGENET = "imagenet"
IMAGES_PER_CLASS = 10
# Of a picture of classes in rows: rows before the next column begins, least pixels of an image.
ROWS, LEAST_PIXELS = 25, 48
OWN_PIXELS = 96

Report = Callable[[int, int], None]


def prepare(name: str, *, data_dir: str | None) -> None:
    """Download, check and unpack what is missing of a data set, and say what to do next. Raises UserError."""
    # Imports are done: an exception ends this as well as the command's own handler, and removes what is half unpacked.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if is_path(name):
        raise UserError(
            f"{name} is a folder: there is nothing to download; `pictorch data verify {name}` looks into it"
        )
    root = data.root(option_path("--data-dir", data_dir))
    if name == IMAGENET:
        prepare_imagenet(root / IMAGENET, data_dir)
        return
    spec = data.find(name)
    if spec.shipped:
        say(f"{name} is part of the package")
    elif lacking := [file for file in spec.files if files.locate(file, root) is None]:
        get(spec, lacking, root)
    else:
        say(f"{name} is there already, under {root}")
    dataset = data.open(name, root=root)
    for deviation in dataset.deviations:
        say(f"note: not the official file: {deviation}")
    say(f"{dataset.name}: {len(dataset.train):,} training and {len(dataset.test):,} test images")
    say(f"Next: {training(name, data_dir)}")


def verify(name: str, *, data_dir: str | None, as_json: bool, duplicates: bool = False) -> None:
    """Print which files of a data set are the official ones, and with `duplicates` how many of its images are alike.

    Of a folder print what is wrong with it. Exits with 1 if a file is not official; raises UserError.
    """
    root = data.root(option_path("--data-dir", data_dir))
    if is_path(name) or (name != IMAGENET and own.is_own(name, root)):
        from pictorch.cli import doctor

        folder = own.locate(name, root)
        if own.is_shards(name) or (folder and own.holds_shards(folder)):
            raise UserError(
                f"{name}: these are shards, and verify looks into folders of images; "
                "`pictorch train` reads their headers before it begins and names what is wrong"
            )
        doctor.verify_folder(folder or Path(name).expanduser(), as_json=as_json)
        return
    if name == IMAGENET:
        verify_imagenet(root / IMAGENET, as_json=as_json)
        return
    spec = data.find(name)
    rows = [describe(content) for content in files.read_all(spec, SHIPPED if spec.shipped else root)]
    dataset = data.open(name, root=root)
    images = {"train": len(dataset.train), "test": len(dataset.test)}
    if as_json:
        row = {"name": dataset.name, "official": dataset.official, "checksum": dataset.checksum, **images}
        alike = {"near_duplicates": near_duplicates(dataset)} if duplicates else {}
        say(json.dumps(row | alike | {"files": rows}))
    else:
        say(table(rows))
        what = "the official files" if dataset.official else "not the official files; every result on them is named so"
        say(f"{dataset.name}: {images['train']:,} training and {images['test']:,} test images, {what}")
        if duplicates:
            found = near_duplicates(dataset)
            say(
                f"near-duplicates (docs/folders.md): {found['test_in_train']:,} test images resemble a training image, "
                f"{found['other_class']:,} of them one of another class; {found['train']:,} pairs among the training "
                f"images, {found['test']:,} among the test images"
            )
    if not dataset.official:
        sys.exit(1)


def near_duplicates(dataset: data.Dataset) -> dict[str, int]:
    """Return how many test images have a near-duplicate for training, of what class, and the pairs within each part."""
    from pictorch.data import duplicates

    train, test = dataset.train, dataset.test
    assert isinstance(train, data.Split)
    assert isinstance(test, data.Split)
    across = duplicates.near_duplicates(test.images, train.images).places
    return {
        "test_in_train": len(across),
        "other_class": int((test.labels[across[:, 0]] != train.labels[across[:, 1]]).sum()),
        "train": len(duplicates.near_duplicates(train.images).places),
        "test": len(duplicates.near_duplicates(test.images).places),
    }


def listing() -> None:
    """Print the known sets, which of them are here, and what else can be trained on."""
    root = data.root()
    rows = Table("name", "here", "image", "classes", "what", title=f"Data sets under {root}", title_justify="left")
    for spec in data.SPECS.values():
        here = spec.shipped or all(files.locate(file, root) for file in spec.files)
        pixels = f"{spec.in_channels}x{spec.image_size}x{spec.image_size}"
        rows.add_row(spec.name, "yes" if here else "no", pixels, str(len(spec.classes)), spec.title)
    here = own.locate(IMAGENET, root) is not None
    rows.add_row(IMAGENET, "yes" if here else "no", "any", "1000", "ImageNet (ILSVRC 2012)")
    print_table(rows)
    say("A folder with a folder for each class is one, too: `pictorch data verify FOLDER`, then data.name=FOLDER.")


def show(name: str, *, data_dir: str | None, out: str | None) -> None:
    """Draw ten training images of every class into one picture. Raises UserError."""
    root = data.root(option_path("--data-dir", data_dir))
    if own.is_own(name, root):
        dataset = own.open(name, root=root, image_size=OWN_PIXELS)
        path = Path(option_path("--out", out) or f"{dataset.spec.name}.png")
    else:
        dataset = data.open(name, root=root)
        path = Path(option_path("--out", out) or f"{name}.png")
    try:
        picture(dataset).save(path)
    except (OSError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"--out: {path} cannot be written: {getattr(error, 'strerror', None) or error}") from None
    say(f"{path}: {IMAGES_PER_CLASS} training images of each class of {dataset.name}")


def is_path(name: str) -> bool:
    """Return whether the word is a folder and not a data set's name, which goes before a folder of that name."""
    return name not in (*data.SPECS, IMAGENET) and (os.sep in name or os.path.isdir(os.path.expanduser(name)))


def training(name: str, data_dir: str | None) -> str:
    """Return the command that trains on a data set: by its quickest recipe, or by the default one."""
    shipped = [recipe for recipe in recipes.names() if recipe.startswith(f"{name}/")]
    shipped.sort(key=lambda recipe: not recipe.endswith("/resnet_preact_20"))
    place = f" --data-dir {shlex.quote(data_dir)}" if data_dir else ""
    return f"pictorch train {shipped[0] if shipped else f'data.name={name}'}{place}"


def get(spec: DatasetSpec, lacking: list[File], root: Path) -> None:
    """Download what is missing. Raises UserError that says which files to put where, if no mirror has them."""
    try:
        if spec.archive:
            get_archive(spec, spec.archive, [file.forms[0].path for file in lacking], root)
        else:
            for file in lacking:
                download(next(form for form in file.forms if form.urls), root)
    except DownloadError as error:
        raise UserError(f"{error}\n{files.missing(spec, root, by_hand=True)}") from None


def get_archive(spec: DatasetSpec, archive: Form, wanted: list[str], root: Path) -> None:
    """Unpack the archive, and remove it if it was not there before."""
    path = root / archive.path
    if own := path.exists():
        check(spec, archive, path)
    else:
        download(archive, root)
    say(f"unpacking {path}")
    archives.add(path, root, wanted=wanted)
    if not own:
        path.unlink()


def check(spec: DatasetSpec, form: Form, path: Path) -> None:
    """Raise UserError for an archive that somebody put there and that is not the official one."""
    with path.open("rb") as file:
        md5 = hashlib.file_digest(file, "md5").hexdigest()
    if md5 != form.md5:
        why = "it is not the official archive"
        raise files.damaged(spec, path, form, why, size=path.stat().st_size, md5=md5)


def download(form: Form, root: Path) -> None:
    assert form.size is not None
    path = root / form.path
    say(f"downloading {path.name} ({size(form.size)}) to {path.parent}")
    columns = (BarColumn(bar_width=None), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with progress(path.name, *columns) as report:
        fetch(form.urls, path, size=form.size, md5=form.md5, progress=report)


@contextlib.contextmanager
def progress(name: str, *columns: ProgressColumn) -> Iterator[Report]:
    """Yield what is told how much of how much is done: a bar on a terminal that can redraw a line, else lines."""
    console, shown = Console(), time.monotonic()
    if console.is_terminal and not console.is_dumb_terminal:
        with Progress(TextColumn(name), *columns, console=console) as bar:
            task = bar.add_task(name, total=None)
            yield lambda done, total: bar.update(task, completed=done, total=total)
        return

    def line(done: int, total: int) -> None:
        nonlocal shown
        if time.monotonic() - shown >= SECONDS_BETWEEN_LINES:
            say(f"{name}: {100 * done / total:.0f}%")
            shown = time.monotonic()

    yield line


def describe(content: files.Content) -> dict[str, Any]:
    """Return what was found of a file, and what was expected."""
    return {
        "file": content.form.path,
        "official": content.official,
        "size": content.size,
        "md5": content.md5,
        "official_size": content.form.size,
        "official_md5": content.form.md5,
    }


def table(rows: list[dict[str, Any]]) -> str:
    """Return a line a file, and one of what was expected below; no column is cut, because checksums are compared."""
    lines = [("file", "", "bytes", "md5")]
    for row in rows:
        standing = "official" if row["official"] else "not official"
        lines.append((row["file"], standing, f"{row['size']:,}", row["md5"]))
        if not row["official"]:
            expected = "not known" if row["official_size"] is None else f"{row['official_size']:,}"
            lines.append(("", "expected", expected, row["official_md5"] or "not known"))
    return columns(lines)


def prepare_imagenet(folder: Path, data_dir: str | None) -> None:
    """Unpack the archives that lie in the folder. Raises UserError that says what is missing and where it is had."""
    found = imagenet.count(folder)
    if found["train"][0] < imagenet.CLASSES and (folder / imagenet.TRAIN.path).is_file():
        say(f"unpacking {folder / imagenet.TRAIN.path}")
        with progress("train", BarColumn(bar_width=None), MofNCompleteColumn(), TimeRemainingColumn()) as report:
            imagenet.unpack_train(folder, report)
    if imagenet.flat_val(folder):
        say(f"sorting {folder / 'val'} into classes")
        imagenet.sort_val(folder)
    elif not found["val"][0] and (folder / imagenet.VAL.path).is_file():
        say(f"unpacking {folder / imagenet.VAL.path}")
        with progress("val", BarColumn(bar_width=None), MofNCompleteColumn(), TimeRemainingColumn()) as report:
            imagenet.unpack_val(folder, report)
    found = imagenet.count(folder)
    if not all(classes for classes, _ in found.values()):
        raise UserError(imagenet_missing(folder, found))
    for row in imagenet_rows(found):
        say(imagenet_line(row))
    say(f"Next: {training(IMAGENET, data_dir)}")


def imagenet_missing(folder: Path, found: dict[str, tuple[int, int]]) -> str:
    """Return what to download by hand, and where to put it."""
    rows = [
        f"  {'found  ' if found[part][0] else 'missing'}  {folder / part}/nXXXXXXXX/*.JPEG, or {folder / form.path} "
        f"({files.describe(form)})"
        for part, form in (("train", imagenet.TRAIN), ("val", imagenet.VAL))
    ]
    return (
        "imagenet: it has no free download. Register at https://image-net.org/download, put there:\n"
        + "\n".join(rows)
        + f"\n           with val: {folder / imagenet.DEVKIT.path} ({files.describe(imagenet.DEVKIT)})\n"
        "and repeat this command, which unpacks them. Of Kaggle's imagenet-object-localization-challenge, put "
        f"ILSVRC/Data/CLS-LOC/train and val there, and {imagenet.SOLUTION}; this command then sorts val into classes."
    )


def verify_imagenet(folder: Path, *, as_json: bool) -> None:
    """Print how many classes and images there are. Exits with 1 if they are not ImageNet's."""
    found = imagenet.count(folder)
    if not any(classes for classes, _ in found.values()):
        raise UserError(imagenet_missing(folder, found))
    rows = imagenet_rows(found)
    official = all(row["official"] for row in rows)
    if as_json:
        say(json.dumps({"name": IMAGENET, "official": official, "parts": rows}))
    else:
        for row in rows:
            say(imagenet_line(row))
        say(f"`pictorch data verify {shlex.quote(str(folder))}` looks into every file")
    if not official:
        sys.exit(1)


def imagenet_rows(found: dict[str, tuple[int, int]]) -> list[dict[str, Any]]:
    return [
        {
            "part": part,
            "classes": classes,
            "images": images,
            "official": (classes, images) == (imagenet.CLASSES, imagenet.IMAGES[part]),
        }
        for part, (classes, images) in found.items()
    ]


def imagenet_line(row: dict[str, Any]) -> str:
    whole = "as it should be" if row["official"] else f"not {imagenet.CLASSES:,} and {imagenet.IMAGES[row['part']]:,}"
    return f"imagenet/{row['part']}: {row['classes']:,} classes, {row['images']:,} images, {whole}"


def first_images(dataset: data.Dataset) -> data.Split:
    """Return the first training images of every class, those of a folder cut to a square."""
    train, size = dataset.train, dataset.spec.image_size
    firsts = [
        (train.labels == label).nonzero().flatten()[:IMAGES_PER_CLASS] for label in range(len(dataset.spec.classes))
    ]
    some = train.select(torch.cat(firsts))
    if isinstance(some, data.Split):
        return some
    assert callable(some.read)
    images = [evaluation_crop(some.read(index), size, size) for index in range(len(some))]
    return data.Split(torch.stack(images), some.labels)


def picture(dataset: data.Dataset) -> Image.Image:
    """Return the first images of every class in rows behind the class's name, in columns of ROWS classes."""
    spec, train = dataset.spec, first_images(dataset)
    scale = -(-LEAST_PIXELS // spec.image_size)
    font = ImageFont.load_default(14)
    cell, names = scale * spec.image_size + 2, 18 + int(max(font.getlength(title) for title in spec.classes))
    width = names + IMAGES_PER_CLASS * cell
    columns = -(-len(spec.classes) // ROWS)
    sheet = Image.new("RGB", (columns * width, min(ROWS, len(spec.classes)) * cell), "white")
    draw = ImageDraw.Draw(sheet)
    for label, title in enumerate(spec.classes):
        left, top = label // ROWS * width, label % ROWS * cell
        draw.text((left + 6, top + cell // 2), title, fill="black", font=font, anchor="lm")
        for n, index in enumerate((train.labels == label).nonzero().flatten().tolist()):
            pixels = train.images[index].expand(3, -1, -1).permute(1, 2, 0).contiguous().numpy()
            image = Image.fromarray(pixels).resize((cell - 2, cell - 2), Image.Resampling.NEAREST)
            sheet.paste(image, (left + names + n * cell, top))
    return sheet
