"""ImageNet (ILSVRC 2012) from its archives to imagenet/train/WNID/*.JPEG and imagenet/val/WNID/*.JPEG.

There is no free download: the archives are those of https://image-net.org, after registration. The classes of the
validation images stand in the devkit, or in the LOC_val_solution.csv of Kaggle's edition, whose `val` is one folder.
"""

import csv
import importlib
import io
import os
import re
from collections.abc import Callable
from pathlib import Path

from pictorch.config.errors import UserError
from pictorch.data.archives import MOST_BYTES, appearing, explained, tar_members, write
from pictorch.data.specs import Form

TRAIN = Form("ILSVRC2012_img_train.tar", 147_897_477_120, "1d675b47d978889d74fa0da5fadfb00e")
VAL = Form("ILSVRC2012_img_val.tar", 6_744_924_160, "29b22e2961454d5413ddabcf34fc5622")
DEVKIT = Form("ILSVRC2012_devkit_t12.tar.gz", 2_568_145, "fa75699e90414af021442c21a62c3abf")
SOLUTION = "LOC_val_solution.csv"
CLASSES, IMAGES = 1000, {"train": 1_281_167, "val": 50_000}
# The devkit's largest file has 0.3 MB.
MOST_TEXT = 1 << 24

Progress = Callable[[int, int], None]


def count(folder: Path) -> dict[str, tuple[int, int]]:
    """Return the class folders and the files in them, of "train" and "val" in `folder`."""
    found = {}
    for part in IMAGES:
        classes = wnids_in(folder / part)
        found[part] = (len(classes), sum(len(os.listdir(folder / part / wnid)) for wnid in classes))
    return found


def unpack_train(folder: Path, progress: Progress) -> None:
    """Unpack the training archive, an archive of each class in it; go on behind the classes that are there.

    `progress` gets the classes that are there and their number. Raises UserError.
    """
    archive = folder / TRAIN.path
    with explained(archive):
        for done, member in enumerate(tar_members(archive), 1):
            wnid = member.name.removesuffix(".tar")
            if not is_wnid(wnid):
                raise UserError(f"{archive} is not ImageNet's: it has a member {member.name}, not nXXXXXXXX.tar")
            if not (target := folder / "train" / wnid).is_dir():
                with appearing(target) as inside:
                    for image in tar_members(archive, member.stream):
                        write(image, inside / image.name, archive, MOST_BYTES)
            progress(done, CLASSES)


def unpack_val(folder: Path, progress: Progress) -> None:
    """Unpack the validation archive into a folder for each class. Raises UserError."""
    archive, wnids = folder / VAL.path, val_wnids(folder)
    with explained(archive), appearing(folder / "val") as inside:
        for done, image in enumerate(tar_members(archive), 1):
            write(image, inside / wnid_of(image.name, wnids, archive) / image.name, archive, MOST_BYTES)
            progress(done, len(wnids))


def sort_val(folder: Path) -> None:
    """Move the validation images that lie side by side into a folder for each class. Raises UserError."""
    val, wnids = folder / "val", val_wnids(folder)
    for name in flat_val(folder):
        target = val / wnid_of(name, wnids, val)
        target.mkdir(exist_ok=True)
        (val / name).rename(target / name)


def flat_val(folder: Path) -> list[str]:
    """Return the names of the validation images that lie in no folder of a class."""
    val = folder / "val"
    return sorted(name for name in os.listdir(val) if name.endswith(".JPEG")) if val.is_dir() else []


def val_wnids(folder: Path) -> dict[str, str]:
    """Return the WordNet id of every validation image by its name without the ending. Raises UserError."""
    if (folder / SOLUTION).is_file():
        return solution(folder / SOLUTION)
    if (folder / DEVKIT.path).is_file():
        return devkit(folder / DEVKIT.path)
    raise UserError(
        f"{folder}: the classes of the validation images are missing: put {DEVKIT.path} of image-net.org there, "
        f"or {SOLUTION} of Kaggle"
    )


def solution(path: Path) -> dict[str, str]:
    """Read Kaggle's table: an image's name, and its class before a box or several. Raises UserError."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = [(row.get("ImageId"), (row.get("PredictionString") or "").split(" ")[0]) for row in csv.DictReader(file)]
    if not rows or not all(name and is_wnid(wnid) for name, wnid in rows):
        raise UserError(f"{path} is not {SOLUTION}: its columns are not ImageId and PredictionString with ids")
    return {str(name): wnid for name, wnid in rows}


def devkit(path: Path) -> dict[str, str]:
    """Read the devkit: a number for each image in order, and a table of numbers and ids. Raises UserError."""
    try:
        loadmat = importlib.import_module("scipy.io").loadmat
    except ImportError:
        raise UserError(
            f"{path} is read with SciPy: pip install 'pictorch[imagenet]', or put {SOLUTION} of Kaggle there"
        ) from None
    files = {}
    with explained(path):
        for member in tar_members(path):
            files[member.name.rpartition("/")[2]] = member.stream.read(MOST_TEXT)
    try:
        synsets = loadmat(io.BytesIO(files["meta.mat"]), squeeze_me=True)["synsets"]
        ids = dict(zip(synsets["ILSVRC2012_ID"].tolist(), synsets["WNID"].tolist(), strict=True))
        numbers = files["ILSVRC2012_validation_ground_truth.txt"].split()
        return {f"ILSVRC2012_val_{n:08d}": ids[int(number)] for n, number in enumerate(numbers, 1)}
    # scipy ends with almost any exception on another file.
    except Exception as error:
        raise UserError(f"{path} is not ImageNet's devkit: {type(error).__name__}: {error}") from None


def wnid_of(name: str, wnids: dict[str, str], where: Path) -> str:
    stem = name.partition(".")[0]
    if stem not in wnids:
        raise UserError(f"{where}: no class is known for {name}: it is not a validation image of ImageNet")
    return wnids[stem]


def wnids_in(folder: Path) -> list[str]:
    return sorted(name for name in os.listdir(folder) if is_wnid(name)) if folder.is_dir() else []


def is_wnid(text: str) -> bool:
    return re.fullmatch(r"n\d{8}", text) is not None
