"""One's own images as a data set: what counts as one, its parts, its statistics, and the mistakes."""

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pictorch.config import UserError
from pictorch.data import Images, own


def photograph(label: int, number: int, size: tuple[int, int] = (12, 9)) -> bytes:
    pixels = np.random.default_rng([label, number]).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


def folder(root: Path, parts: dict[str, int], classes: tuple[str, ...] = ("cat", "dog")) -> Path:
    for part, count in parts.items():
        for label, name in enumerate(classes):
            (root / part / name).mkdir(parents=True)
            for number in range(count):
                (root / part / name / f"{number}.png").write_bytes(photograph(label, 100 * len(part) + number))
    return root


def shard(path: Path, count: int) -> Path:
    with tarfile.open(path, "w") as archive:
        for number in range(count):
            for ending, content in ((".png", photograph(number % 2, number)), (".cls", str(number % 2).encode())):
                member = tarfile.TarInfo(f"{number:04d}{ending}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return path


def test_a_path_and_what_lies_under_the_root_are_one_s_own(tmp_path: Path) -> None:
    folder(tmp_path / "pets", {"train": 1})
    assert own.is_own("pets", tmp_path)
    assert own.is_own("./pets", Path("nowhere"))
    assert own.is_own("imagenet", tmp_path)
    for name in ("train-{000000..000003}.tar", "https://example.org/a.tar", "pipe:cat a.tar"):
        assert own.is_own(name, tmp_path)
    for name in ("cifar10", "pats"):
        assert not own.is_own(name, tmp_path)
    (tmp_path / "cifar10").mkdir()
    assert not own.is_own("cifar10", tmp_path)


def test_a_folder_with_three_parts(tmp_path: Path) -> None:
    folder(tmp_path / "pets", {"train": 3, "val": 2, "test": 1})
    dataset = own.open("pets", root=tmp_path, image_size=8)
    assert isinstance(dataset.train, Images)
    assert [len(part) for part in (dataset.train, dataset.val, dataset.test) if part] == [6, 4, 2]
    assert dataset.name == f"pets@{dataset.checksum[:8]}"
    assert not dataset.official
    assert dataset.deviations == ()
    spec = dataset.spec
    assert (spec.classes, spec.in_channels, spec.image_size) == (("cat", "dog"), 3, 8)
    assert spec.mean == (0.485, 0.456, 0.406)
    assert "ImageNet" in spec.statistic
    assert callable(dataset.train.read)
    image = dataset.train.read(4)
    expected = np.asarray(Image.open(io.BytesIO(photograph(1, 501))))
    assert torch.equal(image, torch.from_numpy(expected.copy()).permute(2, 0, 1))
    assert dataset.train.labels.tolist() == [0, 0, 0, 1, 1, 1]


def test_a_selection_reads_its_own_images(tmp_path: Path) -> None:
    folder(tmp_path / "pets", {"train": 3, "val": 1})
    train = own.open("pets", root=tmp_path).train
    some = train.select(torch.tensor([5, 0]))
    assert isinstance(train, Images)
    assert isinstance(some, Images)
    assert callable(train.read)
    assert callable(some.read)
    assert some.labels.tolist() == [1, 0]
    assert torch.equal(some.read(0), train.read(5))
    assert some.source is not None
    assert str(some.source(1)).endswith("cat/0.png")


def test_a_single_folder_is_split_by_seed(tmp_path: Path) -> None:
    folder(tmp_path, {"pets": 20})
    first, again, other = (own.open("pets", root=tmp_path, split_seed=seed) for seed in (1, 1, 2))
    assert len(first.test) == 8
    assert torch.bincount(first.test.labels).tolist() == [4, 4]

    def files(dataset: object) -> list[str]:
        return [str(dataset.test.source(i)) for i in range(8)]  # type: ignore[attr-defined]

    assert files(first) == files(again) != files(other)
    assert len(own.open("pets", root=tmp_path, test_fraction=0.5).test) == 20


def test_grey_images_have_the_grey_of_the_statistics(tmp_path: Path) -> None:
    folder(tmp_path / "pets", {"train": 1, "val": 1})
    dataset = own.open("pets", root=tmp_path, channels=1)
    assert dataset.spec.mean == pytest.approx((0.299 * 0.485 + 0.587 * 0.456 + 0.114 * 0.406,))
    assert isinstance(dataset.test, Images)
    assert callable(dataset.test.read)
    assert dataset.test.read(0).shape[0] == 1


def test_shards_on_the_disk_are_split_or_have_a_test_part(tmp_path: Path) -> None:
    train, test = shard(tmp_path / "pets-train-0.tar", 20), shard(tmp_path / "pets-test-0.tar", 6)
    dataset = own.open(str(train), root=tmp_path, test=str(test))
    assert (len(dataset.train), len(dataset.test)) == (20, 6)
    assert dataset.spec.name == "pets-train"
    assert dataset.spec.classes == ("0", "1")
    split = own.open(str(train), root=tmp_path, test_fraction=0.25)
    assert (len(split.train), len(split.test)) == (15, 5)
    assert split.notes == ("the test part is 0.25 of the images, by data.split_seed=0",)
    assert isinstance(split.test, Images)
    assert callable(split.test.read)
    assert split.test.read(0).shape == (3, 9, 12)
    assert (tmp_path / "shard-indexes").is_dir()


def test_shards_in_a_folder_and_in_braces(tmp_path: Path) -> None:
    (tmp_path / "shards").mkdir()
    for number in range(3):
        shard(tmp_path / "shards" / f"a-{number}.tar", 4)
    whole = own.open("shards", root=tmp_path, test_fraction=0.5)
    assert len(whole.train) == 6
    assert whole.spec.name == "shards"
    (tmp_path / "shards").rename(tmp_path / "shards2")
    assert own.open("shards2", root=tmp_path).spec.name == "shards2"
    (tmp_path / "shards2").rename(tmp_path / "shards")
    pattern = str(tmp_path / "shards" / "a-{0..1}.tar")
    assert len(own.open(pattern, root=tmp_path, test_fraction=0.5).train) == 4


def test_a_folder_s_shards_for_training_and_test_are_not_mixed(tmp_path: Path) -> None:
    (tmp_path / "pets").mkdir()
    for name, count in (("train-0", 6), ("train-1", 4), ("val-0", 2)):
        shard(tmp_path / "pets" / f"{name}.tar", count)
    dataset = own.open("pets", root=tmp_path)
    assert (len(dataset.train), len(dataset.test)) == (10, 2)
    assert dataset.spec.name == "pets"
    folder = tmp_path / "pets"
    assert dataset.notes == (f"{folder}/train*.tar are the training part, {folder}/val*.tar the test part",)
    shard(folder / "test-0.tar", 4)
    assert len(own.open("pets", root=tmp_path).test) == 4
    (folder / "test-0.tar").rename(folder / "a.tar")
    (folder / "val-0.tar").unlink()
    assert len(own.open("pets", root=tmp_path, test_fraction=0.5).train) == 7


def test_mistakes_are_said(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"data\.name: there is no folder \./pets, neither here nor under the data root"
    ):
        own.open("./pets", root=tmp_path)
    with pytest.raises(UserError, match="`pictorch data prepare imagenet` says how it gets there"):
        own.open("imagenet", root=tmp_path)
    folder(tmp_path / "pets", {"train": 1, "val": 1})
    with pytest.raises(UserError, match=r"data\.test: .*pets is a folder of images"):
        own.open("pets", root=tmp_path, test="x.tar")
    # Nothing is read before this is said: no host answers there.
    with pytest.raises(
        UserError, match=r"^data\.test: expected the shards of the test part; those of http://.* cannot"
    ):
        own.open("http://nowhere.invalid/a.tar", root=tmp_path)
    path = shard(tmp_path / "a.tar", 4)
    with pytest.raises(UserError, match=r"^data\.test_fraction: a test part of 0\.01 of \d+ images has 0 images"):
        own.open(str(path), root=tmp_path, test_fraction=0.01)
    with pytest.raises(UserError, match=r"data\.test_fraction: data\.test names the test part"):
        own.open(str(path), root=tmp_path, test=str(path), test_fraction=0.5)


@pytest.mark.parametrize(("size", "resize"), [(8, 8), (32, 32), (64, 64), (96, 110), (224, 256), (299, 342)])
def test_large_images_lose_their_border_in_evaluation(size: int, resize: int) -> None:
    assert own.evaluation_resize(size) == resize
