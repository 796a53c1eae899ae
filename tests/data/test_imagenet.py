"""ImageNet's archives, small ones of the same layout: tars of classes in a tar, a flat tar of validation images."""

import io
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from pictorch.cli import datasets
from pictorch.config.errors import UserError
from pictorch.data import imagenet

WNIDS = ["n01440764", "n01443537", "n02085620"]
# The devkit's numbers are not in the order of the ids.
IDS = {"n01440764": 3, "n01443537": 1, "n02085620": 2}
VAL = ["n02085620", "n01440764", "n02085620", "n01443537"]


def jpeg(red: int) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (8, 8), (red, 0, 0)).save(stream, "JPEG")
    return stream.getvalue()


def tar(files: dict[str, bytes], mode: str = "w") -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode) as archive:  # type: ignore[call-overload]
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def val_name(n: int) -> str:
    return f"ILSVRC2012_val_{n:08d}"


TRAIN_IMAGES = {wnid: {f"{wnid}_{n}.JPEG": jpeg(40 * c + n) for n in range(2)} for c, wnid in enumerate(WNIDS)}
TRAIN_TAR = tar({f"{wnid}.tar": tar(images) for wnid, images in TRAIN_IMAGES.items()})
VAL_IMAGES = {f"{val_name(n)}.JPEG": jpeg(50 * n) for n in range(1, 5)}
SOLUTION = "ImageId,PredictionString\n" + "".join(
    f"{val_name(n)},{VAL[n - 1]} 85 1 499 272 {VAL[n - 1]} 1 2 3 4\n" for n in (3, 1, 2, 4)
)


def devkit() -> bytes:
    kinds = [("ILSVRC2012_ID", "O"), ("WNID", "O"), ("words", "O"), ("num_children", "O")]
    synsets = np.zeros((4, 1), kinds)
    rows = [*((number, wnid, "words", 0) for wnid, number in IDS.items()), (1001, "n00001740", "entity", 3)]
    for n, row in enumerate(rows):
        synsets[n, 0] = row
    savemat(meta := io.BytesIO(), {"synsets": synsets})
    truth = "".join(f"{IDS[wnid]}\n" for wnid in VAL)
    top = "ILSVRC2012_devkit_t12"
    return tar(
        {
            f"{top}/readme.txt": b"Introduction",
            f"{top}/data/meta.mat": meta.getvalue(),
            f"{top}/data/ILSVRC2012_validation_ground_truth.txt": truth.encode(),
        },
        "w:gz",
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "root" / "imagenet"
    folder.mkdir(parents=True)
    return folder


def silent(done: int, total: int) -> None: ...


def tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.JPEG")}


SORTED_VAL = {f"{wnid}/{name}": content for wnid, (name, content) in zip(VAL, VAL_IMAGES.items(), strict=True)}


def test_the_training_archive(folder: Path) -> None:
    (folder / imagenet.TRAIN.path).write_bytes(TRAIN_TAR)
    told: list[tuple[int, int]] = []
    imagenet.unpack_train(folder, lambda done, total: told.append((done, total)))
    assert tree(folder / "train") == {f"{w}/{name}": raw for w in WNIDS for name, raw in TRAIN_IMAGES[w].items()}
    assert told == [(1, 1000), (2, 1000), (3, 1000)]
    assert imagenet.count(folder) == {"train": (3, 6), "val": (0, 0)}


def test_an_interrupted_unpacking_goes_on_behind_whole_classes(folder: Path) -> None:
    half = len(TRAIN_TAR) // 2
    (folder / imagenet.TRAIN.path).write_bytes(TRAIN_TAR[:half])
    with pytest.raises(UserError, match=r"ILSVRC2012_img_train\.tar is damaged"):
        imagenet.unpack_train(folder, silent)
    whole = sorted(path.name for path in (folder / "train").iterdir())
    assert whole == WNIDS[: len(whole)]
    assert 0 < len(whole) < 3
    (folder / "train" / WNIDS[0] / "mark").write_bytes(b"not unpacked again")
    (folder / imagenet.TRAIN.path).write_bytes(TRAIN_TAR)
    imagenet.unpack_train(folder, silent)
    assert (folder / "train" / WNIDS[0] / "mark").exists()
    assert imagenet.count(folder)["train"] == (3, 7)


@pytest.mark.parametrize("kind", ["devkit", "solution"])
@pytest.mark.parametrize("flat", [False, True])
def test_validation_images_are_sorted_into_classes(kind: str, flat: bool, folder: Path) -> None:
    if kind == "devkit":
        (folder / imagenet.DEVKIT.path).write_bytes(devkit())
    else:
        (folder / imagenet.SOLUTION).write_text(SOLUTION)
    if flat:
        (folder / "val").mkdir()
        for name, content in VAL_IMAGES.items():
            (folder / "val" / name).write_bytes(content)
        imagenet.sort_val(folder)
    else:
        (folder / imagenet.VAL.path).write_bytes(tar(VAL_IMAGES))
        imagenet.unpack_val(folder, silent)
    assert tree(folder / "val") == SORTED_VAL


def test_the_command_unpacks_what_lies_there(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / imagenet.TRAIN.path).write_bytes(TRAIN_TAR)
    (folder / imagenet.VAL.path).write_bytes(tar(VAL_IMAGES))
    (folder / imagenet.SOLUTION).write_text(SOLUTION)
    datasets.prepare("imagenet", data_dir=str(folder.parent))
    assert tree(folder / "val") == SORTED_VAL
    assert "imagenet/train: 3 classes, 6 images, not 1,000 and 1,281,167\n" in capsys.readouterr().out


def test_without_classes_nothing_is_unpacked(folder: Path) -> None:
    (folder / imagenet.VAL.path).write_bytes(tar(VAL_IMAGES))
    with pytest.raises(UserError, match=r"put ILSVRC2012_devkit_t12\.tar\.gz of image-net\.org there, or LOC_val_sol"):
        imagenet.unpack_val(folder, silent)
    assert not (folder / "val").exists()


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        (imagenet.SOLUTION, b"a,b\n1,2\n", "is not LOC_val_solution.csv: its columns are not ImageId and Prediction"),
        (imagenet.SOLUTION, b"", "is not LOC_val_solution.csv"),
        (imagenet.SOLUTION, b"ImageId,PredictionString\nother,n01440764 1 2 3 4\n", "no class is known for ILSVRC2012"),
        (imagenet.DEVKIT.path, b"not gzip", "is damaged, or no such archive"),
        (imagenet.DEVKIT.path, tar({"x/meta.mat": b"", "y": b""}, "w:gz"), "is not ImageNet's devkit: "),
        (imagenet.DEVKIT.path, tar({"readme.txt": b""}, "w:gz"), "is not ImageNet's devkit: KeyError: 'meta.mat'"),
    ],
    # Not the content: a compressed one holds the second in which it was made.
    ids=["columns", "empty", "classes", "not compressed", "damaged meta.mat", "no meta.mat"],
)
def test_other_tables_are_refused(name: str, content: bytes, said: str, folder: Path) -> None:
    (folder / imagenet.VAL.path).write_bytes(tar(VAL_IMAGES))
    (folder / name).write_bytes(content)
    with pytest.raises(UserError) as caught:
        imagenet.unpack_val(folder, silent)
    assert said in str(caught.value)
    assert not (folder / "val").exists()


def test_another_archive_is_refused(folder: Path) -> None:
    (folder / imagenet.TRAIN.path).write_bytes(tar({"cat.tar": tar({"a.JPEG": jpeg(1)})}))
    with pytest.raises(UserError, match=r"is not ImageNet's: it has a member cat\.tar, not nXXXXXXXX\.tar"):
        imagenet.unpack_train(folder, silent)


def test_a_hostile_archive_within_the_archive_is_refused(folder: Path, tmp_path: Path) -> None:
    (folder / imagenet.TRAIN.path).write_bytes(tar({f"{WNIDS[0]}.tar": tar({"../../../x.JPEG": jpeg(1)})}))
    with pytest.raises(UserError, match="would lie outside the folder"):
        imagenet.unpack_train(folder, silent)
    assert tree(tmp_path) == {}


def test_the_devkit_without_scipy_names_what_to_install(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / imagenet.DEVKIT.path).write_bytes(devkit())
    monkeypatch.setitem(sys.modules, "scipy.io", None)
    with pytest.raises(UserError, match=r"pip install 'pictorch\[imagenet\]', or put LOC_val_solution\.csv"):
        imagenet.val_wnids(folder)
