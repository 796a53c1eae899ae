"""Frost of the user's photographs, and the computed texture that stands for them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from data.corruptions import per_image
from PIL import Image

from pictorch.config.errors import UserError
from pictorch.data import corruptions
from pictorch.data.corruptions import frosting
from pictorch.data.corruptions.draws import generator


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five photographs under the benchmark's names: two with transparency, one that its camera held turned."""
    draws = np.random.default_rng(3)
    for name in frosting.FILES:
        pixels = draws.integers(0, 256, (330, 410, 4 if name < "frost3" else 3), dtype=np.uint8)
        image = Image.fromarray(pixels).resize((412, 331))
        turned = Image.Exif()
        if name == "frost5.jpg":
            turned[0x0112] = 6
        image.save(tmp_path / name, exif=turned)
    return tmp_path


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("severity", corruptions.SEVERITIES)
def test_of_a_folder(folder: Path, severity: int, channels: int) -> None:
    draws = torch.Generator().manual_seed(1)
    for size in (32, 224):
        images = torch.randint(256, (6, channels, size, size), generator=draws, dtype=torch.uint8)
        found = corruptions.corrupt(images, "frost", severity, seed=2, start=9, frost_dir=folder)
        photographs = []
        for name in frosting.FILES:
            image = Image.open(folder / name)
            pixels = np.asarray(image)[..., :3]  # the colours of transparent pixels, too
            if name == "frost5.jpg":
                pixels = np.rot90(pixels, -1)
            photographs.append(pixels if channels == 3 else np.asarray(Image.fromarray(pixels).convert("L"))[..., None])
        for i, image in enumerate(images.permute(0, 2, 3, 1).numpy()):
            rng = generator(2, "frost", severity, 9 + i)
            expected = per_image.corrupt(image, "frost", severity, rng, photographs)
            assert np.array_equal(found[i].permute(1, 2, 0).numpy(), expected)


def test_changed_photographs_are_read_anew(folder: Path) -> None:
    images = torch.zeros(3, 1, 16, 16, dtype=torch.uint8)
    first = corruptions.corrupt(images, "frost", 3, seed=1, frost_dir=str(folder))
    for name in frosting.FILES:
        Image.new("RGB", (400, 300), (0, 0, 0)).save(folder / name)
    assert first.any()
    assert not corruptions.corrupt(images, "frost", 3, seed=1, frost_dir=folder).any()


def test_the_texture_is_as_bright_and_as_varied_as_the_photographs() -> None:
    for number, (mean, deviation) in enumerate(frosting.COLOURS):
        pixels = frosting.texture(number, 640, 640, False).reshape(-1, 3)
        assert np.abs(pixels.mean(0) - mean).max() < 1
        assert np.abs(pixels.std(0) - deviation).max() < 1.5
        grey = frosting.texture(number, 640, 640, True)
        assert grey.shape == (640, 640, 1)
        assert abs(float(grey.mean()) - float(np.dot(mean, [0.299, 0.587, 0.114]))) < 1
    first, second = (frosting.texture(number, 640, 640, True).astype(float).ravel() for number in (1, 2))
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.1


def test_the_texture_has_coarse_and_fine_parts() -> None:
    """Neighbours in it are alike, and so are places 40 pixels apart a little: neither noise nor a plain colour."""
    ice = frosting.texture(4, 640, 640, True)[..., 0].astype(float)
    ice = (ice - ice.mean()) / ice.std()
    near, far = ((ice[:, distance:] * ice[:, :-distance]).mean() for distance in (1, 40))
    assert 0.7 < near < 0.99
    assert 0.02 < far < 0.5


def test_large_images_get_a_large_texture() -> None:
    images = torch.zeros(1, 1, 90, 641, dtype=torch.uint8)
    assert corruptions.corrupt(images, "frost", 1, seed=1)[:, :, :, -1].any()


def frosted(folder: Path, size: int = 32) -> str:
    with pytest.raises(UserError) as raised:
        corruptions.corrupt(torch.zeros(1, 3, size, size, dtype=torch.uint8), "frost", 1, seed=1, frost_dir=folder)
    return str(raised.value)


def test_mistakes_with_the_folder(folder: Path, tmp_path: Path) -> None:
    names = "the folder must hold frost1.png, frost2.png, frost3.png, frost4.jpg, frost5.jpg"
    none = tmp_path / "none"
    assert frosted(none) == f"frost: there is no {none / 'frost1.png'}: {names}"
    assert frosted(folder / "frost1.png").startswith("frost: ")
    advice = "without a frost folder a texture of any size is computed"
    small = (
        f"frost: {folder / 'frost1.png'} is 66 x 82 at a fifth of its size, too small for images of 66 x 66: {advice}"
    )
    assert frosted(folder, 66) == small
    large = f"frost: {folder / 'frost1.png'} is 331 x 412, too small for images of 331 x 331: {advice}"
    assert frosted(folder, 331) == large
    (folder / "frost4.jpg").write_bytes((folder / "frost4.jpg").read_bytes()[:2000])
    assert frosted(folder).startswith(f"frost: {folder / 'frost4.jpg'} cannot be read as an image: ")
    (folder / "frost2.png").write_text("no image")
    assert frosted(folder).startswith(f"frost: {folder / 'frost2.png'} cannot be read as an image: ")
    (folder / "frost3.png").unlink()
    (folder / "frost2.png").unlink()
    (folder / "frost2.png").mkdir()
    assert frosted(folder).startswith(f"frost: {folder / 'frost2.png'} cannot be read as an image: ")
