"""Folders as people have them: both layouts, and everything that can lie in the way."""

import os
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image

from pictorch.config import UserError
from pictorch.data import files
from pictorch.data.folder import Folder, open_folder, scan


def fill(root: str, counts: dict[str, int]) -> Path:
    """Write `counts` images, no two the same, into each folder below `root`."""
    for place, (folder, count) in enumerate(counts.items()):
        (Path(root) / folder).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            Image.new("RGB", (4, 3), (place, i % 256, i // 256)).save(Path(root) / folder / f"{i:03d}.png")
    return Path(root)


def opened(path: Path, *, test_fraction: float | None = None, seed: int = 0) -> Folder:
    return open_folder(path, test_fraction=test_fraction, split_seed=seed, stratified=True)


def test_train_val_and_test_are_read_as_they_are() -> None:
    root = fill("set", {f"{part}/{name}": 2 for part in ("Train", "valid", "test") for name in ("bees", "ants")})
    folder = opened(root)
    assert folder.classes == ("ants", "bees")
    assert list(folder.parts) == ["train", "val", "test"]
    assert folder.parts["val"].paths == tuple(
        f"set/valid/{name}/{i:03d}.png" for name in ("ants", "bees") for i in range(2)
    )
    assert folder.parts["val"].labels.tolist() == [0, 0, 1, 1]
    assert folder.parts["val"].labels.dtype == torch.int64
    assert folder.notes == ()


def test_val_beside_train_alone_is_the_test_part_and_that_is_said() -> None:
    root = fill("set", {"train/a": 10, "train/b": 30, "val/a": 2, "val/b": 3})
    folder = opened(root)
    assert {part: len(files.labels) for part, files in folder.parts.items()} == {"train": 40, "test": 5}
    assert all("/val/" in path for path in folder.parts["test"].paths)
    assert folder.notes == ("set: there is no test/; val/ is the test part",)


@pytest.mark.parametrize("below", ["", "train/"])
def test_one_folder_is_split_by_seed_with_the_same_share_of_each_class(below: str) -> None:
    root = fill("set", {f"{below}a": 20, f"{below}b": 40})
    folder = opened(root)
    parts = {part: set(files.paths) for part, files in folder.parts.items()}
    assert {part: len(paths) for part, paths in parts.items()} == {"train": 48, "test": 12}
    assert len(set.union(*parts.values())) == 60
    assert folder.parts["test"].labels.bincount().tolist() == [4, 8]
    for part in folder.parts.values():
        assert ["ab"[label] for label in part.labels] == [Path(path).parent.name for path in part.paths]
    assert set(opened(root).parts["test"].paths) == parts["test"]
    assert set(opened(root, seed=1).parts["test"].paths) != parts["test"]
    assert len(opened(root, test_fraction=0.5).parts["test"].paths) == 30
    assert "the test part is 0.2 of the images, by data.split_seed=0" in folder.notes


def test_a_train_is_a_vehicle_too() -> None:
    assert opened(fill("vehicles", {"bus": 5, "train": 5, "car": 5})).classes == ("bus", "car", "train")


def test_hidden_and_other_files_are_counted_and_images_in_deeper_folders_found() -> None:
    root = fill("set", {"a/deep/er": 5, "b": 5, ".cache": 3, "__MACOSX/a": 2})
    for name in ("a/.DS_Store", "a/._000.png", "b/Thumbs.db", "b/notes.txt", "README"):
        (root / name).write_bytes(b"x")
    folder = opened(root)
    assert folder.classes == ("a", "b")
    assert any("a/deep/er/000.png" in path for files in folder.parts.values() for path in files.paths)
    assert folder.notes[0] == "not read: 2 files of other kinds, 5 hidden files and folders"


def test_all_that_is_wrong_is_listed_at_once() -> None:
    root = fill("set", {"train/cat": 3, "train/dog": 3, "val/Cat": 2, "val/dog": 2, "val/dog ": 1, "test/bird": 1})
    (root / "train/empty").mkdir()
    (root / "train/only_text").mkdir()
    (root / "train/only_text/a.txt").write_text("x")
    (root / "val/dog/none.jpg").symlink_to("nowhere.jpg")
    (root / "train/dog/zero.png").touch()
    (root / "train/cat/round").symlink_to(".", target_is_directory=True)
    for i in range(14):
        shutil.copy(root / "train/cat/000.png", root / f"val/loose{i:02d}.png")
    with pytest.raises(UserError) as caught:
        opened(root)
    message = str(caught.value)
    assert message.startswith("set: this folder cannot be used as it is; expected one folder a class")
    for kind, items in {
        "class folders without an image": ["train/empty/", "train/only_text/"],
        "images that lie in no class folder": [*(f"val/loose{i:02d}.png" for i in range(10)), "and 4 more"],
        "classes that differ by case or blanks alone": ["'Cat' and 'cat'", "'dog' and 'dog '"],
        "classes that the training part does not have": ["'test/bird/'", "'val/Cat/'", "'val/dog /'"],
        "links that lead nowhere": ["val/dog/none.jpg"],
        "links that lead to a folder above them": ["train/cat/round/"],
        "files without content": ["train/dog/zero.png"],
    }.items():
        lines = "".join(f"    {item}\n" for item in items)
        assert f"  {kind}:\n{lines}" in f"{message}\n", kind
    assert "loose10" not in message


@pytest.mark.parametrize(
    ("counts", "why"),
    [
        ({"train/a": 1, "train/b": 1, "val": 0}, r"parts without an image:\n    val/$"),
        ({"a": 5}, r"fewer than two class folders:\n    a$"),
        ({"": 5}, r"images that lie in no class folder:\n    000\.png"),
        ({"": 0}, r"fewer than two class folders:\n    none in set$"),
        ({"val/a": 1, "test/a": 1}, r"^set: there is test/, val/, but no train/$"),
        ({"train/a": 1, "val/a": 1, "valid/a": 1}, r"^set: val and valid are both the val part; leave one of them$"),
    ],
)
def test_what_is_missing_is_said(counts: dict[str, int], why: str) -> None:
    with pytest.raises(UserError, match=why):
        opened(fill("set", counts))


def test_what_is_no_folder_is_said() -> None:
    Path("file").touch()
    with pytest.raises(UserError, match=r"^none: there is no such folder$"):
        scan(Path("none"))
    with pytest.raises(UserError, match=r"^file: this is a file; expected a folder of images$"):
        scan(Path("file"))


def test_a_class_that_a_part_lacks_is_noted_and_one_that_cannot_be_learned_refused() -> None:
    folder = opened(fill("set", {"train/a": 3, "train/b": 3, "test/a": 3}))
    assert folder.notes == ("the test part has no image of 1 of 2 classes: b",)
    with pytest.raises(UserError, match=r"^few: the split leaves no training image of a$"):
        opened(fill("few", {"a": 1, "b": 1, "c": 1, "d": 1, "e": 1}))


def test_a_test_part_that_is_there_is_not_made_anew() -> None:
    root = fill("set", {f"{part}/{name}": 5 for part in ("train", "test") for name in "ab"})
    with pytest.raises(UserError, match=r"^data\.test_fraction: set has a test part of its own; leave"):
        opened(root, test_fraction=0.1)


def test_a_part_that_would_be_empty_is_refused_by_its_key() -> None:
    with pytest.raises(UserError, match=r"^data\.test_fraction: .* of 10 images"):
        opened(fill("set", {"a": 1, "b": 9}), test_fraction=0.01)


def test_folders_that_are_no_part_are_named() -> None:
    root = fill("set", {"train/a": 1, "train/b": 1, "test/a": 1, "test/b": 1, "extra/a": 1})
    assert opened(root).notes == ("set: not read, because they are no part: extra/",)


def test_links_are_followed() -> None:
    fill("elsewhere", {"ants": 3, "bees": 3})
    Path("set").mkdir()
    Path("set/train").symlink_to("../elsewhere")
    Path("set/test").mkdir()
    for name in ("ants", "bees"):
        Path(f"set/test/{name}").mkdir()
        Path(f"set/test/{name}/one.png").symlink_to(f"../../../elsewhere/{name}/000.png")
    parts = opened(Path("set")).parts
    assert (len(parts["train"].paths), len(parts["test"].paths)) == (6, 2)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become a user that may not read")
def test_folders_that_may_not_be_read_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        root = fill(name, {"a": 1, "b": 1})
        os.chmod(root / "a", 0)
        os.seteuid(65534)
        try:
            with pytest.raises(UserError, match=r"folders that cannot be read:\n    a/: Permission denied"):
                opened(root)
        finally:
            os.seteuid(0)


def test_the_checksum_sees_every_byte_and_neither_place_nor_time() -> None:
    root = fill("set", {"a": 5, "b": 5})
    before = opened(root).checksum
    shutil.copytree(root, "elsewhere")
    os.utime("elsewhere/a/000.png", (1, 1))
    assert opened(Path("elsewhere")).checksum == before
    raw = bytearray((root / "a/000.png").read_bytes())
    raw[-20] ^= 1
    (root / "a/000.png").write_bytes(raw)
    changed = opened(root).checksum
    assert changed != before
    (root / "a/000.png").rename(root / "a/900.png")
    assert opened(root).checksum not in (changed, before)


@pytest.mark.parametrize("list_name", ["LOC_synset_mapping.txt", "synset_words.txt"])
def test_ids_of_imagenet_become_words(list_name: str) -> None:
    ids = ("n01440764", "n02012849", "n03126707")
    root = fill("imagenet", {f"{part}/{wnid}": 1 for part in ("train", "val") for wnid in ids})
    assert opened(root).classes == ids
    lines = ("n01440764 tench, Tinca tinca", "n02012849 crane", "n03126707 crane", "n00000001 other")
    (root / list_name).write_text("\n".join(lines))
    folder = opened(root)
    assert folder.classes == ("tench", "crane (n02012849)", "crane (n03126707)")
    assert folder.parts["train"].labels.tolist() == [0, 1, 2]


@pytest.mark.real_data
def test_the_photographs_of_ants_and_bees() -> None:
    root = files.root() / "hymenoptera_data"
    if not root.is_dir():
        pytest.skip(f"there is no {root}")
    folder = opened(root)
    counts = {part: files.labels.bincount().tolist() for part, files in folder.parts.items()}
    assert counts == {"train": [123, 121], "test": [70, 83]}
