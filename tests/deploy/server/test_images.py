"""Which images are decoded, of which size, and what is said of the others."""

import io
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from pictorch import api
from pictorch.deploy.predict import Predictor
from pictorch.deploy.server import images
from pictorch.deploy.server.limits import Limits, Refused
from tests.deploy.server.serving import bomb, picture

LIMITS = Limits()


@pytest.fixture(scope="module")
def predictor(small_run: api.Result) -> Predictor:
    return Predictor(small_run.run_dir)


def refused(predictor: Predictor, raw: bytes, limits: Limits = LIMITS, name: str = "a.png") -> tuple[int, str]:
    with pytest.raises(Refused) as caught:
        images.pixels(predictor, raw, name, limits)
    assert "\n" not in str(caught.value)
    return caught.value.status, str(caught.value)


@pytest.mark.parametrize("kind", images.available())
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_every_kind_gives_the_predictors_pixels(predictor: Predictor, kind: str, mode: str, tmp_path: Path) -> None:
    raw = picture(size=(40, 30), mode=mode, kind=kind)
    (tmp_path / "image").write_bytes(raw)
    expected = predictor.pixels(tmp_path / "image")
    assert torch.equal(images.pixels(predictor, raw, "image", LIMITS), expected)


@pytest.mark.parametrize("kind", ["PPM", "ICO", "TGA", "EPS", "PDF", "ICNS", "SGI", "DDS", "XBM", "JPEG2000"])
def test_kinds_that_pillow_writes_and_that_are_not_taken(predictor: Predictor, kind: str) -> None:
    image = Image.new("1" if kind == "XBM" else "RGB", (32, 32))
    buffer = io.BytesIO()
    image.save(buffer, format=kind)
    assert refused(predictor, buffer.getvalue()) == (
        415,
        "a.png: this is no image of a kind that is taken here: AVIF, BMP, GIF, JPEG, PNG, TIFF, WEBP",
    )


def test_pixels_are_counted_before_they_are_decoded(predictor: Predictor) -> None:
    began = time.process_time()
    assert refused(predictor, bomb())[0] == 413
    assert refused(predictor, bomb(8000, 7000)) == (
        413,
        "a.png: expected at most 50,000,000 pixels, got 8000 x 7000 = 56,000,000",
    )
    assert time.process_time() - began < 0.5
    limits = replace(LIMITS, pixels=64)
    assert images.pixels(predictor, picture(), "a.png", limits).shape == (1, 8, 8)
    assert refused(predictor, picture(size=(9, 8)), limits)[0] == 413


def test_a_jpeg_of_very_many_scans_is_refused(predictor: Predictor) -> None:
    plain = picture(size=(64, 64), mode="RGB", kind="JPEG", progressive=True)
    images.pixels(predictor, plain, "a.jpg", replace(LIMITS, pixels=64 * 64))
    start = plain.rindex(images.SCAN)
    scan = plain[start:-2]
    many = plain[:-2] + scan * 1000 + plain[-2:]
    status, why = refused(predictor, many, replace(LIMITS, pixels=64 * 64))
    assert status == 413
    assert why == "a.png: this JPEG of 64 x 64 has 1010 scans, too many to decode"


def test_a_compressed_bmp_is_refused(predictor: Predictor) -> None:
    raw = bytearray(picture(kind="BMP"))
    raw[30] = 1  # BI_RLE8
    assert refused(predictor, bytes(raw)) == (
        415,
        "a.png: this BMP is compressed; expected one that is not, or another kind of image",
    )


@pytest.mark.parametrize("kind", images.available())
def test_a_cut_file_is_refused_with_its_name(predictor: Predictor, kind: str) -> None:
    raw = picture(size=(40, 40), mode="RGB", kind=kind)
    for length in range(1, len(raw) - 400, 211):
        status, why = refused(predictor, raw[:length], name="cut")
        assert status in (415, 422)
        assert why.startswith("cut: this ")


def test_names_are_cleaned() -> None:
    assert images.shown("a\r\nX: b\x00\x1b[31m.png") == "a\ufffd\ufffdX: b\ufffd\ufffd[31m.png"
    assert len(images.shown("n" * 500)) == images.LONGEST_NAME
    assert images.shown(" \t ") != ""
    assert images.shown("") == "image"


def test_no_bytes_are_no_image(predictor: Predictor) -> None:
    assert refused(predictor, b"") == (422, "a.png: expected an image, got no bytes")
