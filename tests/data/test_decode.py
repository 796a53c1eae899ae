"""Files of every odd kind, written with Pillow, against their definition; simplejpeg against Pillow, bit for bit."""

import itertools
import os
import threading
import warnings
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image

from pictorch.data import decode as module
from pictorch.data import files
from pictorch.data.decode import ImageError, decode, decode_file, decoder_name, upright

needs_simplejpeg = pytest.mark.skipif(module.SIMPLEJPEG is None, reason="simplejpeg is not installed")


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def noise(*shape: int, seed: int = 0) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def smooth(height: int, width: int) -> Image.Image:
    """Return an image that JPEG keeps within a few levels: red to the right, green downwards."""
    rows, columns = np.mgrid[:height, :width]
    blue = np.full((height, width), 90)
    planes = np.stack([columns * 255 // width, rows * 255 // height, blue], axis=2)
    return Image.fromarray(planes.astype(np.uint8))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", ["png", "bmp", "tiff", "ppm", "webp"])
def test_what_is_written_without_loss_is_read_as_it_was(kind: str, channels: int) -> None:
    array = noise(5, 7, 3)
    image = decode(saved(Image.fromarray(array), kind, **({"lossless": True} if kind == "webp" else {})), channels=3)
    assert image.dtype == torch.uint8
    assert image.permute(1, 2, 0).numpy().tolist() == array.tolist()
    grey = noise(5, 7)
    found = decode(saved(Image.fromarray(grey), "png"), channels=channels)
    assert found.tolist() == [grey.tolist()] * channels


def test_colour_becomes_grey_by_its_luma() -> None:
    for colour, luma in {(255, 0, 0): 76, (0, 255, 0): 150, (0, 0, 255): 29}.items():  # ITU-R 601: .299, .587, .114
        for kind in ("png", "jpeg"):
            raw = saved(Image.new("RGB", (16, 16), colour), kind, **({"quality": 100} if kind == "jpeg" else {}))
            assert decode(raw, channels=1)[0, 8, 8].item() == pytest.approx(luma, abs=1), (kind, colour)


@pytest.mark.parametrize("kind", ["jpeg", "png", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_image_stands_as_its_exif_data_say(orientation: int, kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = decode(saved(smooth(48, 80), kind, exif=exif, quality=95), channels=3).float()
    # EXIF 2.3, tag 274: where the stored first row and first column are. The stored image reddens to the right.
    plain = decode(saved(smooth(48, 80), "png"), channels=3).float()
    turns = {1: 0, 2: 0, 3: 2, 4: 2, 5: 3, 6: 3, 7: 1, 8: 1}
    mirrored = plain.flip(2) if orientation in (2, 4, 5, 7) else plain
    expected = torch.rot90(mirrored, turns[orientation], (1, 2))
    if orientation in (5, 7):  # transposed: mirrored, and then turned the other way
        expected = plain.mT if orientation == 5 else plain.mT.flip(1).flip(2)
    assert image.shape == expected.shape
    assert (image - expected).abs().mean() < 4


def test_cmyk_and_files_that_adobe_inverted_have_the_same_colours() -> None:
    # Pillow writes CMYK as Adobe does, inverted, and says so in the APP14 segment.
    ink = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    raw = saved(ink, "jpeg", quality=100)
    assert b"Adobe" in raw
    red, green, blue = decode(raw, channels=3)[:, 8, 8].tolist()
    assert red > 240
    assert max(green, blue) < 15
    assert decode(saved(ink, "tiff"), channels=3)[:, 0, 0].tolist() == [255, 0, 0]


def test_ycck_is_read() -> None:
    """The last byte of Adobe's segment says that the components are Y, Cb, Cr and K; all are stored inverted."""
    raw = bytearray(saved(Image.new("CMYK", (16, 16), (200, 127, 127, 0)), "jpeg", quality=100))
    transform = raw.index(b"Adobe") + 11
    assert raw[transform] == 0
    raw[transform] = 2
    assert Image.open(BytesIO(raw)).mode == "CMYK"
    # Y = 55 and no colour: cyan, magenta and yellow are 55 each, black is 0.
    assert decode(bytes(raw), channels=3)[:, 8, 8].tolist() == pytest.approx([200] * 3, abs=2)


def test_palettes_and_transparency_lie_over_white() -> None:
    picture = Image.new("P", (2, 2))
    picture.putpalette([10, 20, 30, 200, 100, 50, 0, 0, 0])
    picture.putdata([0, 1, 2, 1])
    opaque = decode(saved(picture, "png"), channels=3).permute(1, 2, 0).reshape(4, 3).tolist()
    assert opaque == [[10, 20, 30], [200, 100, 50], [0, 0, 0], [200, 100, 50]]
    one_clear = decode(saved(picture, "png", transparency=1), channels=3).permute(1, 2, 0).reshape(4, 3).tolist()
    assert one_clear == [[10, 20, 30], [255, 255, 255], [0, 0, 0], [255, 255, 255]]
    by_entry = decode(saved(picture, "png", transparency=bytes([255, 0, 102])), channels=3)
    assert by_entry.permute(1, 2, 0).reshape(4, 3).tolist() == [[10, 20, 30], [255] * 3, [153] * 3, [255] * 3]
    half = saved(Image.new("RGBA", (2, 2), (0, 0, 0, 102)), "png")
    assert decode(half, channels=3).unique().tolist() == [153]


def test_16_bits_are_scaled_and_animations_give_their_first_frame() -> None:
    deep = Image.fromarray(np.array([[0, 257, 32896, 65535]], np.uint16))
    for kind in ("png", "tiff"):
        assert decode(saved(deep, kind), channels=3).tolist() == [[[0, 1, 128, 255]]] * 3
    frames = [Image.new("L", (4, 4), value) for value in (250, 0, 120)]
    for kind in ("gif", "png", "tiff", "webp"):
        raw = saved(frames[0], kind, save_all=True, append_images=frames[1:])
        assert decode(raw, channels=1)[0, 0, 0].item() == pytest.approx(250, abs=2), kind


@pytest.mark.parametrize("kind", ["png", "jpeg", "gif", "tiff", "webp"])
def test_cut_files_are_an_error_of_one_line_and_never_a_wrong_image(kind: str) -> None:
    raw = saved(Image.fromarray(noise(40, 40, 3)), kind)
    for length in range(0, len(raw) - 400, 211):
        with pytest.raises(
            ImageError, match=r"^this (image cannot be read: .+|is not an image file that Pillow knows)$"
        ):
            decode(raw[:length], channels=3)


def test_the_file_is_named() -> None:
    Path("cut.jpg").write_bytes(saved(smooth(200, 200), "jpeg", quality=95)[:3000])
    Path("notes.png").write_text("no image")
    Path("folder").mkdir()
    os.mkfifo("pipe")
    for name, why in {
        "cut.jpg": r"this image cannot be read: image file is truncated",
        "notes.png": "this is not an image file that Pillow knows$",
        "none.png": "there is no such file$",
        "folder": "this is a directory; expected image files",
        "pipe": "this is a pipe or a device; expected an image file$",
    }.items():
        with pytest.raises(ImageError, match=f"^{name}: {why}"):
            decode_file(name, channels=3)


def test_a_file_that_would_unfold_to_fill_the_memory_is_refused() -> None:
    bomb = saved(Image.new("1", (20_000, 20_000)), "png")
    assert len(bomb) < 100_000
    Path("bomb.png").write_bytes(bomb)
    with pytest.raises(
        ImageError, match=r"^bomb\.png: this image cannot be read: Image size \(400000000 pixels\) exceeds"
    ):
        decode_file("bomb.png", channels=1)


def test_threads_leave_the_filters_of_warnings_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow warns of an image above the bound; here warnings are errors, and after all threads they are again."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    raw, before = saved(Image.new("L", (40, 40)), "png"), list(warnings.filters)
    seen = []

    def work() -> None:
        seen.extend(decode(raw, channels=1).shape for _ in range(50))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [(1, 40, 40)] * 400
    assert list(warnings.filters) == before
    with pytest.raises(Image.DecompressionBombWarning):
        Image.open(BytesIO(raw))


def test_the_decoder_is_named_with_its_version() -> None:
    name, version = decoder_name().split(" ")
    assert name == ("simplejpeg" if module.SIMPLEJPEG else "pillow")
    assert version[0].isdigit()


def by_pillow(raw: bytes, channels: int) -> list[Any]:
    image = np.array(upright(Image.open(BytesIO(raw)), channels))
    return (image[None] if channels == 1 else image.transpose(2, 0, 1)).tolist()


@needs_simplejpeg
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_jpegs_of_every_kind_are_pillows_bit_for_bit(mode: str) -> None:
    for height, width, subsampling, progressive in itertools.product(
        (1, 8, 15, 33), (1, 3, 16, 31), (0, 1, 2), (False, True)
    ):
        array = noise(height, width, *(() if mode == "L" else (len(mode),)))
        image = Image.fromarray(array, mode) if mode == "CMYK" else Image.fromarray(array)
        raw = saved(image, "jpeg", subsampling=subsampling, progressive=progressive, quality=85)
        for channels in (1, 3):
            assert decode(raw, channels=channels).tolist() == by_pillow(raw, channels), (height, width, subsampling)
    raw = saved(Image.fromarray(noise(20, 20, 3)), "jpeg", keep_rgb=True)
    assert decode(raw, channels=3).tolist() == by_pillow(raw, 3)


@needs_simplejpeg
def test_cut_jpegs_end_as_pillow_ends() -> None:
    raw = saved(Image.fromarray(noise(30, 50, 3)), "jpeg")
    for length in (*range(2, len(raw), 97), *range(len(raw) - 4, len(raw) + 1)):
        try:
            expected = by_pillow(raw[:length], 3)
        except (OSError, SyntaxError):
            with pytest.raises(ImageError):
                decode(raw[:length], channels=3)
        else:
            assert decode(raw[:length], channels=3).tolist() == expected


@needs_simplejpeg
@pytest.mark.real_data
@pytest.mark.slow
def test_photographs_are_pillows_bit_for_bit() -> None:
    photographs = sorted(files.root().glob("hymenoptera_data/*/*/*.jp*g"))
    if not photographs:
        pytest.skip(f"there is no hymenoptera_data under {files.root()}")
    for path in photographs:
        with Image.open(path) as image:
            expected = torch.from_numpy(np.array(upright(image, 3))).permute(2, 0, 1)
        assert torch.equal(decode_file(path, channels=3), expected), path
