"""Folders of images, one folder a class: found, checked and split without reading a pixel.

Two layouts. `train/` beside `val/` or `test/` (or both), each with a folder for each class; `training`, `valid`,
`validation` and `testing` are read as well, in any case. Or one folder of class folders (also a `train/` alone), split
by seed. With `train/` and `val/` alone, `val/` is the test part, as in ImageNet. Images may lie in folders below those
of the classes; links are followed. A file is an image by its ending.
"""

import hashlib
import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from pictorch.config.errors import UserError
from pictorch.data.split import split

PARTS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
ENDINGS = frozenset(
    (
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".gif", ".bmp", ".tif", ".tiff"),
        *(".webp", ".avif", ".jp2", ".ppm", ".pgm", ".pbm", ".pnm", ".tga"),
    )
)
# Files that systems leave behind; those that begin with a dot are hidden, too.
LEFT_BEHIND = frozenset(("thumbs.db", "desktop.ini", "__macosx"))
# The lists of ImageNet's class names: a WordNet id and synonyms a line.
NAME_LISTS = ("LOC_synset_mapping.txt", "synset_words.txt")
DEFAULT_TEST_FRACTION = 0.2
MOST_LINES = 10
# Files of which the checksum reads the content, evenly spaced: 100 MB of photographs.
READ_FOR_CHECKSUM = 1000


class Found(NamedTuple):
    """An image file: its path relative to the folder, with slashes, and its size in bytes."""

    path: str
    size: int


@dataclass(frozen=True, eq=False)
class Scan:
    """What lies in a folder: of each part ("train", "val", "test", or "all" of a single folder) the images by class.

    `folders` are those of the parts, with a slash; `problems` are what keeps the folder from being used, by kind;
    `ignored` counts what was passed over.
    """

    root: Path
    parts: dict[str, dict[str, list[Found]]] = field(default_factory=dict)
    folders: dict[str, str] = field(default_factory=dict)
    problems: dict[str, list[str]] = field(default_factory=dict)
    ignored: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)

    def problem(self, kind: str, *items: str) -> None:
        self.problems.setdefault(kind, []).extend(items)

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the class folders, sorted."""
        return tuple(sorted({name for classes in self.parts.values() for name in classes}))


class Files(NamedTuple):
    """The images of a part: their paths, and labels int64 [n]."""

    paths: tuple[str, ...]
    labels: Tensor


@dataclass(frozen=True, eq=False)
class Folder:
    """A folder of images that can be used.

    `classes` are the names of the class folders, sorted, which labels count; ImageNet's ids become words where one of
    its lists lies there. `parts` are "train", "test" and perhaps "val". `checksum` is the sha256, in hex, of the
    relative path and size of every image and the content of up to 1,000 of them, evenly spaced: up to 1,000 images it
    changes with any byte, of more images a file that another of the same size replaces can go unnoticed. Where the
    folder lies, and the times of its files, do not matter. `notes` say what a user should know.
    """

    path: Path
    classes: tuple[str, ...]
    parts: dict[str, Files]
    checksum: str
    notes: tuple[str, ...]


def open_folder(path: Path, *, test_fraction: float | None = None, split_seed: int, stratified: bool) -> Folder:
    """Find the images of a folder, and hold out a test part if there is none on the disk.

    That is `test_fraction` of a single folder of classes (0.2 if None), by `split_seed`; `stratified` takes the same
    share of each class. Raises UserError that lists everything that keeps the folder from being used.
    """
    found = scan(path)
    check(found)
    names = found.classes
    labels = {name: label for label, name in enumerate(names)}
    images = {part: list_files(classes, labels) for part, classes in found.parts.items()}
    parts = {part: files_of(path, files) for part, files in images.items()}
    notes = [*found.notes, *ignored_note(found.ignored)]
    if "test" in parts and test_fraction is not None:
        raise UserError(f"data.test_fraction: {path} has a test part of its own; leave test_fraction out")
    if "all" in parts:
        fraction = DEFAULT_TEST_FRACTION if test_fraction is None else test_fraction
        parts = hold_out(parts["all"], fraction, split_seed, stratified)
        notes.append(f"the test part is {fraction:g} of the images, by data.split_seed={split_seed}")
    check_split(path, names, parts)
    notes += absent_notes(names, parts)
    everything = sorted(image for files in images.values() for image, _ in files)
    return Folder(path, display_names(path, names), ordered(parts), checksum(path, everything), tuple(notes))


def scan(path: Path) -> Scan:
    """Find the images in a folder. Raises UserError if there is no folder, and for an order that cannot be guessed."""
    if not path.is_dir():
        what = "this is a file; expected a folder of images" if path.exists() else "there is no such folder"
        raise UserError(f"{path}: {what}")
    found = Scan(path)
    folders = [entry.name for entry in visible(Scan(path), path, "") if is_folder(entry)]
    there = {part: f"{name}/" for part, name in find_parts(path, folders).items()} or {"all": ""}
    if set(there) == {"train"}:
        there = {"all": there["train"]}
    elif "train" in there and "test" not in there:
        there["test"] = there.pop("val")
        found.notes.append(f"{path}: there is no test/; {there['test']} is the test part")
    if "all" not in there and (others := [name for name in folders if f"{name}/" not in there.values()]):
        found.notes.append(f"{path}: not read, because they are no part: {listed(f'{name}/' for name in others)}")
    for part, folder in there.items():
        found.folders[part], found.parts[part] = folder, scan_classes(found, path, folder)
        if not any(found.parts[part].values()) and part != "all":
            found.problem("parts without an image", folder)
    return found


def find_parts(path: Path, names: list[str]) -> dict[str, str]:
    """Return the folder of each part, or nothing for a folder of classes. Raises UserError where that is not clear."""
    candidates = {part: [name for name in names if name.casefold() in known] for part, known in PARTS.items()}
    for part, candidate in candidates.items():
        if len(candidate) > 1:
            raise UserError(f"{path}: {' and '.join(sorted(candidate))} are both the {part} part; leave one of them")
    there = {part: candidate[0] for part, candidate in candidates.items() if candidate}
    if "train" not in there:
        # A class may well be called "test"; nothing but parts is another thing.
        if there and len(there) == len(names):
            raise UserError(f"{path}: there is {listed(f'{n}/' for n in there.values())}, but no train/")
        return {}
    # A train is a vehicle, too: alone among others it is a class.
    return there if len(there) > 1 or len(names) == 1 else {}


def scan_classes(found: Scan, root: Path, below: str) -> dict[str, list[Found]]:
    """Return the images of each class folder in the folder `below` ("" or "train/") of `root`."""
    classes = {}
    for entry in sorted(visible(found, root / below, below), key=lambda entry: entry.name):
        if is_folder(entry):
            path = f"{below}{entry.name}"
            images = classes[entry.name] = list[Found]()
            walk(found, entry, f"{path}/", (), images)
            if not images:
                found.problem("class folders without an image", f"{path}/")
        elif is_image(entry.name):
            found.problem("images that lie in no class folder", f"{below}{entry.name}")
        else:
            found.ignored["files of other kinds"] += 1
    return classes


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Return whether it is a folder or leads to one; a link that leads in circles or nowhere does not."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def walk(
    found: Scan, folder: os.PathLike[str], below: str, above: tuple[tuple[int, int], ...], images: list[Found]
) -> None:
    """Add the images in a folder and those below it; `above` are the folders on the way, which links could lead to."""
    about = os.stat(folder)
    here = (about.st_dev, about.st_ino)
    if here in above:
        found.problem("links that lead to a folder above them", below)
        return
    for entry in visible(found, folder, below):
        if is_folder(entry):
            walk(found, entry, f"{below}{entry.name}/", (*above, here), images)
            continue
        if not is_image(entry.name):
            found.ignored["files of other kinds"] += 1
            continue
        try:
            images.append(Found(f"{below}{entry.name}", entry.stat().st_size))
        except OSError:
            found.problem("links that lead nowhere", f"{below}{entry.name}")
            continue
        if not images[-1].size:
            found.problem("files without content", f"{below}{entry.name}")


def visible(found: Scan, folder: os.PathLike[str], below: str) -> Iterator[os.DirEntry[str]]:
    """Yield what lies in a folder and is not hidden; a folder that cannot be read is a problem and yields nothing."""
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith(".") or entry.name.casefold() in LEFT_BEHIND:
                    found.ignored["hidden files and folders"] += 1
                else:
                    yield entry
    except OSError as error:
        found.problem("folders that cannot be read", f"{below or '.'}: {error.strerror}")


def image_files(folder: Path) -> list[Path]:
    """Return all images in a folder and those below it, by their paths; what is hidden or cannot be read is not there.

    Raises UserError where there is none.
    """
    found, images = Scan(folder), list[Found]()
    walk(found, folder, "", (), images)
    if not images:
        unread = found.problems.get("folders that cannot be read", [])
        why = (
            f": {listed(unread)} cannot be read"
            if unread
            else f"; expected files that end in {listed(sorted(ENDINGS))}"
        )
        raise UserError(f"{folder}: there is no image in this folder{why}")
    return sorted(folder / image.path for image in images)


def is_image(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in ENDINGS


def check(found: Scan) -> None:
    """Raise UserError that lists all problems of a folder."""
    if problems := problems_of(found):
        lines = [
            f"  {kind}:\n" + "\n".join(f"    {item}" for item in shortened(items)) for kind, items in problems.items()
        ]
        raise UserError(
            f"{found.root}: this folder cannot be used as it is; expected one folder a class, "
            "perhaps in train/, val/ and test/:\n" + "\n".join(lines)
        )


def problems_of(found: Scan) -> dict[str, list[str]]:
    """Return what keeps a folder from being used: files, folders or classes by kind."""
    problems = dict(found.problems)
    if alike := same_but_for_case(found.classes):
        problems["classes that differ by case or blanks alone"] = alike
    train = found.parts.get("train", {})
    strange = [
        repr(f"{found.folders[part]}{name}/")
        for part, classes in found.parts.items()
        for name in classes
        if part != "all" and name not in train
    ]
    if strange:
        problems["classes that the training part does not have"] = strange
    if len(found.classes) < 2 and not problems:
        problems["fewer than two class folders"] = [*found.classes] or [f"none in {found.root}"]
    return problems


def same_but_for_case(names: Iterable[str]) -> list[str]:
    """Return the names that are equal in lower case without blanks around them, those of a kind in one line."""
    kinds: dict[str, list[str]] = {}
    for name in names:
        kinds.setdefault(unicodedata.normalize("NFC", name).strip().casefold(), []).append(repr(name))
    return [" and ".join(kind) for kind in kinds.values() if len(kind) > 1]


def shortened(items: list[str]) -> list[str]:
    """Return the first items, sorted, and how many more there are."""
    shown = sorted(items)[:MOST_LINES]
    return shown if len(items) <= MOST_LINES else [*shown, f"and {len(items) - MOST_LINES:,} more"]


def listed(items: Iterable[str]) -> str:
    return ", ".join(shortened(list(items)))


def list_files(classes: Mapping[str, list[Found]], labels: Mapping[str, int]) -> list[tuple[Found, int]]:
    """Return the images and labels of a part: class by class, each by path."""
    return [(image, labels[name]) for name, images in sorted(classes.items()) for image in sorted(images)]


def files_of(root: Path, files: list[tuple[Found, int]]) -> Files:
    return Files(
        tuple(os.path.join(root, image.path) for image, _ in files),
        torch.tensor([label for _, label in files], dtype=torch.int64),
    )


def hold_out(files: Files, fraction: float, split_seed: int, stratified: bool) -> dict[str, Files]:
    """Return the training and the test part of `files`. Raises UserError if one would be empty."""
    try:
        sides = split(files.labels, fraction, split_seed, stratified=stratified, part="test")
    except UserError as error:
        raise UserError(f"data.test_fraction: {error}") from None
    return {
        part: Files(tuple(files.paths[i] for i in side.tolist()), files.labels[side])
        for part, side in zip(("train", "test"), sides, strict=True)
    }


def check_split(path: Path, names: tuple[str, ...], parts: Mapping[str, Files]) -> None:
    """Raise UserError if the split left no image of a class for training."""
    if missing := absent(names, parts["train"].labels):
        raise UserError(f"{path}: the split leaves no training image of {listed(missing)}")


def absent(names: tuple[str, ...], labels: Tensor) -> list[str]:
    """Return the classes of which no image has the label; labels: int64 [n]."""
    counts = torch.bincount(labels, minlength=len(names)).tolist()
    return [name for name, count in zip(names, counts, strict=True) if not count]


def absent_notes(names: tuple[str, ...], parts: Mapping[str, Files]) -> Iterator[str]:
    for part, files in parts.items():
        if missing := absent(names, files.labels):
            yield f"the {part} part has no image of {len(missing)} of {len(names)} classes: {listed(missing)}"


def ignored_note(ignored: Mapping[str, int]) -> list[str]:
    counts = ", ".join(f"{count:,} {kind}" for kind, count in sorted(ignored.items()))
    return [f"not read: {counts}"] if counts else []


def ordered(parts: Mapping[str, Files]) -> dict[str, Files]:
    return {part: parts[part] for part in PARTS if part in parts}


def checksum(root: Path, images: list[Found]) -> str:
    """Return the checksum that `Folder` describes. Raises UserError naming a file that cannot be read."""
    digest = hashlib.sha256()
    for path, size in images:
        digest.update(f"{path}\0{size}\n".encode(errors="surrogateescape"))
    step = -(-len(images) // READ_FOR_CHECKSUM)
    for path, _ in images[:: step or 1]:
        try:
            with open(root / path, "rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        except OSError as error:
            raise UserError(f"{root / path}: this file cannot be read: {error.strerror}") from None
    return digest.hexdigest()


def display_names(root: Path, names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the first word of ImageNet's list for each id, with the id behind it where two have the same one.

    Where no list has all the names, they themselves.
    """
    for list_name in NAME_LISTS:
        try:
            lines = (root / list_name).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeError):
            continue
        known = {wnid: words.split(",")[0].strip() for wnid, _, words in (line.partition(" ") for line in lines)}
        if all(known.get(name) for name in names):
            often = Counter(known[name].casefold() for name in names)
            return tuple(
                known[name] if often[known[name].casefold()] == 1 else f"{known[name]} ({name})" for name in names
            )
    return names
