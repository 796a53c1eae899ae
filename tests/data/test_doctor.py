"""The folder doctor on folders in which every fault was planted, and on the photographs of ants and bees."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image, ImageEnhance

from pictorch.data import doctor, files
from pictorch.data.doctor import examine


def scene(seed: int, size: tuple[int, int] = (60, 48)) -> Image.Image:
    draws = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, 7, 7, generator=draws) * 200 + 20
    pixels = F.interpolate(coarse, (size[1], size[0]), mode="bicubic").clamp(0, 255).to(torch.uint8)
    return Image.fromarray(pixels[0].permute(1, 2, 0).numpy())


def healthy(root: str = "set", parts: tuple[str, ...] = ("train", "test"), each: int = 4) -> Path:
    """Write different pictures of two classes; those of a part and class count from 0."""
    for number, (part, name) in enumerate((part, name) for part in parts for name in ("ants", "bees")):
        folder = Path(root) / part / name
        folder.mkdir(parents=True)
        for i in range(each):
            scene(100 * number + i).save(folder / f"{i}.png")
    return Path(root)


def test_a_healthy_folder_has_nothing_wrong() -> None:
    report = examine(healthy())
    assert report.usable
    assert (report.corrupt, report.copies, report.near, report.problems, report.rare) == ([], [], [], {}, [])
    assert report.counts == {"train": {"ants": 4, "bees": 4}, "test": {"ants": 4, "bees": 4}}
    assert report.sizes == {"width": (60, 60, 60), "height": (48, 48, 48), "aspect": (1.25, 1.25, 1.25)}
    assert (report.traits, report.channels, report.image_size) == ({}, 3, 32)


def test_files_that_cannot_be_read_are_named_with_the_reason() -> None:
    root = healthy()
    cut = root / "train/ants/0.png"
    cut.write_bytes(cut.read_bytes()[:-300])
    (root / "test/bees/1.png").write_text("no image")
    report = examine(root)
    assert not report.usable
    assert len(report.corrupt) == 2
    assert report.corrupt[0].startswith("train/ants/0.png: this image cannot be read: ")
    assert report.corrupt[1] == "test/bees/1.png: this is not an image file that Pillow knows"
    assert report.counts == {"train": {"ants": 3, "bees": 4}, "test": {"ants": 4, "bees": 3}}


def test_what_keeps_the_folder_from_being_used_is_told_and_the_rest_examined() -> None:
    root = healthy()
    (root / "train/empty").mkdir()
    (root / "test/Ants").mkdir()
    scene(999).save(root / "test/Ants/0.png")
    report = examine(root)
    assert not report.usable
    assert report.problems == {
        "class folders without an image": ["train/empty/"],
        "classes that differ by case or blanks alone": ["'Ants' and 'ants'"],
        "classes that the training part does not have": ["'test/Ants/'"],
    }
    assert report.counts["train"]["ants"] == 4


def test_copies_are_found_whatever_the_file_is_within_and_across_parts_and_classes() -> None:
    root = healthy()
    Image.open(root / "train/ants/0.png").save(root / "test/ants/copy.bmp")
    shutil.copy(root / "train/bees/1.png", root / "train/ants/other.png")
    shutil.copy(root / "train/bees/2.png", root / "train/bees/same.png")
    report = examine(root)
    assert report.near == []
    assert [(set(group.images), group.parts, group.labels) for group in report.copies] == [
        ({"train/ants/other.png", "train/bees/1.png"}, ("train",), ("ants", "bees")),
        ({"train/ants/0.png", "test/ants/copy.bmp"}, ("test", "train"), ("ants",)),
        ({"train/bees/2.png", "train/bees/same.png"}, ("train",), ("bees",)),
    ]


def test_the_same_picture_in_another_size_quality_and_light_is_a_near_duplicate() -> None:
    root = healthy()
    Image.open(root / "train/ants/0.png").resize((90, 72)).save(root / "test/bees/larger.png")
    Image.open(root / "train/bees/1.png").save(root / "train/bees/worse.jpg", quality=30)
    ImageEnhance.Brightness(Image.open(root / "test/ants/2.png")).enhance(0.7).save(root / "test/ants/dark.png")
    report = examine(root)
    assert report.copies == []
    assert report.near is not None
    assert {pair.images: (pair.parts, pair.labels) for pair in report.near} == {
        ("test/bees/larger.png", "train/ants/0.png"): (("test", "train"), ("bees", "ants")),
        ("train/bees/1.png", "train/bees/worse.jpg"): (("train", "train"), ("bees", "bees")),
        ("test/ants/2.png", "test/ants/dark.png"): (("test", "test"), ("ants", "ants")),
    }
    cosines = [pair.cosine for pair in report.near]
    assert cosines == sorted(cosines, reverse=True)
    assert min(cosines) >= 0.9


def test_more_images_than_can_be_compared_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "MOST_COMPARED", 15)
    assert examine(healthy()).near is None


def test_kinds_of_files_are_counted() -> None:
    root = healthy(each=1)
    folder = root / "train/ants"
    scene(1).convert("L").save(folder / "grey.png")
    Image.merge("RGB", [scene(2).convert("L")] * 3).save(folder / "grey_in_colour.png")
    scene(3).convert("CMYK").save(folder / "print.jpg")
    scene(4).quantize(8).save(folder / "palette.png")
    clear = scene(5)
    clear.putalpha(100)
    clear.save(folder / "clear.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    scene(6).save(folder / "turned.jpg", exif=exif)
    Image.fromarray(np.arange(12, dtype=np.uint16).reshape(3, 4) * 5000).save(folder / "deep.png")
    scene(7).save(folder / "moving.webp", save_all=True, append_images=[scene(8)])
    assert examine(root).traits == {
        "grey": 3,
        "more than 8 bits": 1,
        "CMYK": 1,
        "palette": 1,
        "transparency": 1,
        "turned by EXIF": 1,
        "several frames": 1,
    }


def test_mean_and_std_are_those_of_the_training_images_each_counting_alike() -> None:
    root = healthy(each=2)
    scene(55, (200, 30)).save(root / "train/ants/wide.png")
    report = examine(root)
    images = [np.asarray(Image.open(path)) / 255 for path in sorted((root / "train").rglob("*.png"))]
    mean = np.mean([image.mean(axis=(0, 1)) for image in images], axis=0)
    variance = np.mean([((image - mean) ** 2).mean(axis=(0, 1)) for image in images], axis=0)
    assert report.mean == pytest.approx(mean, abs=6e-5)
    assert report.std == pytest.approx(np.sqrt(variance), abs=6e-5)
    assert "training images" in report.statistic
    assert report.sizes["width"] == (60, 60, 200)
    assert report.sizes["aspect"][2] == 6.67


def test_grey_sets_of_a_folder_that_is_not_split_are_seen_as_such() -> None:
    for name in ("new folder", "cat", "cats"):
        Path(f"set/{name}").mkdir(parents=True)
        for i in range({"cats": 21}.get(name, 2)):
            scene(1000 * len(name) + i, (140, 130)).convert("L").save(f"set/{name}/{i}.png")
    report = examine(Path("set"))
    assert (report.channels, report.image_size) == (1, 128)
    assert report.rare == ["cat", "new folder"]
    assert report.odd_names == ["'new folder' is hardly the name of a class", "'cat' is one letter from cats"]


@pytest.mark.real_data
@pytest.mark.slow
def test_the_photographs_of_ants_and_bees() -> None:
    root = files.root() / "hymenoptera_data"
    if not root.is_dir():
        pytest.skip(f"there is no {root}")
    report = examine(root)
    assert report.usable
    assert (report.copies, report.near, report.traits) == ([], [], {"grey": 1})
    assert report.sizes["width"] == (193, 352, 2592)
    assert report.mean == [0.5141, 0.476, 0.3497]
