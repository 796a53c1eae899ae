"""The table of data sets: complete, consistent, found by name."""

import re
from pathlib import Path

import pytest

from pictorch.config.errors import UserError
from pictorch.data import SPECS, find
from pictorch.data.specs import DatasetSpec

EVERY = pytest.mark.parametrize("spec", SPECS.values(), ids=lambda spec: spec.name)


def test_names() -> None:
    assert list(SPECS) == [
        *("digits", "cifar10", "cifar100", "cifar100_coarse", "mnist", "fashion_mnist", "kmnist"),
        *("svhn", "svhn_extra"),
    ]
    assert all(find(name).name == name for name in SPECS)


@pytest.mark.parametrize(
    ("wrong", "right"),
    [("CIFAR-10", "cifar10"), ("cifar-100", "cifar100"), ("FashionMNIST", "fashion_mnist"), ("SVHN", "svhn")],
)
def test_a_wrong_name_is_answered_with_the_nearest(wrong: str, right: str) -> None:
    with pytest.raises(UserError, match=f"no data set '{wrong}'; did you mean .*'{right}'"):
        find(wrong)


def test_a_hopeless_name_is_answered_with_all() -> None:
    with pytest.raises(UserError, match="known: digits, cifar10, cifar100, cifar100_coarse, mnist, fashion"):
        find("?")


@EVERY
def test_fields_fit_one_another(spec: DatasetSpec) -> None:
    assert len(spec.mean) == len(spec.std) == spec.in_channels
    assert all(0 < value < 1 for value in spec.mean + spec.std)
    assert len(set(spec.classes)) == len(spec.classes)
    assert all((spec.title, spec.statistic, spec.attribution, spec.licence, spec.obtain))


@EVERY
def test_every_part_has_its_images_and_labels(spec: DatasetSpec) -> None:
    for part in ("train", "test"):
        held = " ".join(file.holds for file in spec.files if file.part in (part, "all"))
        assert "images" in held
        assert "labels" in held


@EVERY
def test_checksums_are_md5s_and_every_file_has_one(spec: DatasetSpec) -> None:
    for file in spec.files:
        md5s = [form.md5 for form in file.forms if form.md5]
        assert md5s
        assert all(re.fullmatch("[0-9a-f]{32}", md5) for md5 in md5s)
        assert all(form.size is None or form.size > 0 for form in file.forms)
        assert not any(Path(form.path).is_absolute() or ".." in form.path for form in file.forms)


@EVERY
def test_every_set_that_is_not_shipped_can_be_had_from_two_addresses(spec: DatasetSpec) -> None:
    forms = [form for file in spec.files for form in file.forms] if spec.archive is None else [spec.archive]
    with_urls = [form for form in forms if form.urls]
    assert len(with_urls) == (0 if spec.shipped else 1 if spec.archive else len(spec.files))
    for form in with_urls:
        assert form.size
        assert re.fullmatch("[0-9a-f]{32}", form.md5 or "")
        assert len(form.urls) >= 2
        assert all(re.match("https?://", url) and url.endswith(f"/{Path(form.path).name}") for url in form.urls)


# A. Krizhevsky's table of the superclasses, of which `coarse_labels` are the numbers in alphabetical order.
def test_cifar100_coarse_classes_are_the_official_numbering() -> None:
    classes = find("cifar100_coarse").classes
    assert len(classes) == 20
    assert list(classes) == sorted(classes)
    assert (classes[0], classes[10], classes[19]) == ("aquatic_mammals", "large_natural_outdoor_scenes", "vehicles_2")


def test_cifar100_classes_are_the_official_numbering() -> None:
    classes = find("cifar100").classes
    assert len(classes) == 100
    assert list(classes) == sorted(classes)
    assert (classes[0], classes[52], classes[99]) == ("apple", "oak_tree", "worm")


def test_attribution_of_the_shipped_digits() -> None:
    spec = find("digits")
    assert "Alpaydin" in spec.attribution
    assert "10.24432/C50P49" in spec.attribution
    assert spec.licence.startswith("CC BY 4.0")
