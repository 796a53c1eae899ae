"""Prediction on image files of every kind, through the run's own preprocessing."""

import csv
import io
import json
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import pictorch
from pictorch import api, data
from pictorch.cli import prediction
from pictorch.config import UserError
from pictorch.deploy.predict import Prediction, Predictor, decode, upright


def test_test_images_as_files_give_the_evaluations_answers(small_run: api.Result) -> None:
    evaluation = api.evaluate(small_run.run_dir)
    images = data.open("digits", root=Path()).test.images[:40]
    files = []
    for i, image in enumerate(images):
        files.append(Path(f"{i}.png"))
        Image.fromarray(image[0].numpy()).save(files[-1])
    predictions = pictorch.predict(small_run.run_dir, files, top_k=5)
    assert [p.source for p in predictions] == [str(file) for file in files]
    for i, answer in enumerate(predictions):
        assert answer.classes == tuple(str(k) for k in evaluation.ranked[i].tolist())
        assert answer.probabilities == pytest.approx(evaluation.probabilities[i].tolist(), abs=1e-5)


def test_views_of_the_run_are_those_of_its_predictions(small_run: api.Result) -> None:
    predictor = Predictor(small_run.run_dir)
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8), np.uint8)
    image, mirrored = Image.fromarray(pixels), Image.fromarray(pixels[:, ::-1].copy())
    [one], [other] = predictor([image]), predictor([mirrored])
    assert one.probabilities != other.probabilities
    predictor.views = "mirror"
    [both], [again] = predictor([image]), predictor([mirrored])
    assert both.probabilities == pytest.approx(again.probabilities, abs=1e-6)


def test_top_k_and_no_images(small_run: api.Result) -> None:
    [prediction] = pictorch.predict(small_run.run_dir, [Image.new("L", (8, 8))], top_k=2)
    assert len(prediction.classes) == len(prediction.probabilities) == 2
    [everything] = pictorch.predict(small_run.run_dir, [Image.new("L", (8, 8))], top_k=50)
    assert sum(everything.probabilities) == pytest.approx(1, abs=1e-5)
    assert pictorch.predict(small_run.run_dir, []) == []


@pytest.mark.parametrize(
    "mode", ["1", "L", "LA", "P", "RGB", "RGBA", "PA", "CMYK", "YCbCr", "LAB", "HSV", "I;16", "I", "F"]
)
@pytest.mark.parametrize("channels", [1, 3])
def test_every_mode_becomes_grey_or_rgb(mode: str, channels: int) -> None:
    image = upright(Image.new(mode, (5, 4)), channels)
    assert image.mode == ("L" if channels == 1 else "RGB")
    assert image.size == (5, 4)


@pytest.mark.parametrize(
    ("dtype", "values", "expected"),
    [
        (np.uint16, [0, 257, 32896, 65535], [0, 1, 128, 255]),
        (np.uint16, [0, 129, 200, 255], [0, 1, 1, 1]),  # a dark image of 16 bits, not a bright one of 8
        (np.int32, [0, 257, 32896, 65535], [0, 1, 128, 255]),
        (np.float32, [0, 0.25, 0.5, 1], [0, 64, 128, 255]),
        (np.float32, [0, 0.1, 0.1, 0.2], [0, 26, 26, 51]),
        (np.float32, [0, 1, 128.4, 255], [0, 1, 128, 255]),
        (np.float32, [0, 0, 0, 1.5], [0, 0, 0, 2]),
    ],
)
def test_grey_of_more_than_8_bits_is_scaled_not_clipped(dtype: Any, values: list[float], expected: list[int]) -> None:
    Image.fromarray(np.array([values], dtype=dtype)).save("deep.tif")
    assert np.asarray(decode(Path("deep.tif"), 1)).tolist() == [expected]
    assert np.asarray(decode(Path("deep.tif"), 3)).tolist() == [[[value] * 3 for value in expected]]


@pytest.mark.parametrize(
    ("dtype", "values", "why"),
    [
        (np.float32, [0, float("nan")], "some of its values are not finite numbers"),
        (np.float32, [0, float("inf")], "some of its values are not finite numbers"),
        (np.float32, [0, 300], r"its values go from 0 to 300; expected 0\.\.1 or 0\.\.255"),
        (np.float32, [-0.5, 0.5], r"its values go from -0\.5 to 0\.5; expected 0\.\.1 or 0\.\.255"),
        (np.int32, [0, 65536], r"its values go from 0 to 65536; expected 0\.\.65535"),
        (np.int32, [-1, 9], r"its values go from -1 to 9; expected 0\.\.65535"),
    ],
)
def test_values_of_no_known_range_are_refused(dtype: Any, values: list[float], why: str) -> None:
    Image.fromarray(np.array([values], dtype=dtype)).save("odd.tif")
    with pytest.raises(UserError, match=rf"^odd\.tif: this image cannot be read: {why}$"):
        decode(Path("odd.tif"), 1)


def test_a_lab_file_is_read_in_colour_and_grey() -> None:
    lab = Image.merge("LAB", [Image.new("L", (4, 4), level) for level in (200, 128, 128)])
    lab.save("lab.tif")
    red, green, blue = decode(Path("lab.tif"), 3).getpixel((0, 0))
    assert max(red, green, blue) - min(red, green, blue) <= 2
    assert decode(Path("lab.tif"), 1).getpixel((0, 0)) == pytest.approx(green, abs=2)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA", "P"])
@pytest.mark.parametrize(("channels", "white"), [(1, 255), (3, (255, 255, 255))])
def test_transparent_pixels_are_white_whatever_colour_they_hide(mode: str, channels: int, white: object) -> None:
    hidden = Image.new("RGBA", (4, 4), (10, 10, 10, 0))
    if mode == "P":
        Image.new("RGB", (4, 4), (10, 10, 10)).quantize(2).save("clear.png", transparency=0)
        image = decode(Path("clear.png"), channels)
    else:
        image = upright(hidden.convert(mode), channels)
    assert image.getpixel((0, 0)) == white


def test_half_transparent_is_mixed_with_white() -> None:
    Image.new("LA", (4, 4), (0, 102)).save("half.png")
    assert decode(Path("half.png"), 1).getpixel((0, 0)) == 153


def test_the_first_frame_of_an_animation_is_used() -> None:
    frames = [Image.new("L", (4, 4), value) for value in (250, 0, 120)]
    frames[0].save("moving.gif", save_all=True, append_images=frames[1:])
    assert decode(Path("moving.gif"), 1).getpixel((0, 0)) == 250


@pytest.mark.parametrize("size", [(1, 1), (1, 10_000), (10_000, 1)])
def test_tiny_and_elongated_images_work(small_run: api.Result, size: tuple[int, int]) -> None:
    prepared = Predictor(small_run.run_dir).pixels(Image.new("L", size, 77))
    assert prepared.shape == (1, 8, 8)
    assert prepared.min() == prepared.max()


def test_large_images_are_read_without_a_warning_and_huge_ones_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("1", (60, 50)).save("large.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2000)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert decode(Path("large.png"), 1).size == (60, 50)
    assert caught == []
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(UserError, match=r"large\.png: this image cannot be read: Image size \(3000 pixels\) exceeds"):
        decode(Path("large.png"), 1)


def test_what_is_no_file_is_said_in_words_and_does_not_wait() -> None:
    Path("folder").mkdir()
    os.mkfifo("pipe")
    for name, why in {
        "none.png": "there is no such file",
        "folder": "this is a directory; expected image files, for example those in it",
        "pipe": "this is a pipe or a device; expected an image file",
        "/dev/zero": "this is a pipe or a device; expected an image file",
        "n" * 300: "this file cannot be read: File name too long",
        "a\0b": "this image cannot be read: embedded null (byte|character)",
    }.items():
        with pytest.raises(UserError, match=f"^{name}: {why}"):
            decode(Path(name), 1)


@pytest.mark.parametrize("kind", ["png", "jpg", "tif", "gif", "bmp"])
def test_a_cut_or_damaged_file_is_named(kind: str) -> None:
    path = Path(f"damaged.{kind}")
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40), np.uint8)).save(path)
    whole = path.read_bytes()
    for length in range(0, len(whole) - 400, 97):
        path.write_bytes(whole[:length])
        with pytest.raises(UserError, match=rf"^damaged\.{kind}: this (image cannot be read|is not an image file)"):
            decode(path, 1)


def test_an_image_of_the_callers_that_cannot_be_used_is_named(small_run: api.Result) -> None:
    with pytest.raises(UserError, match=r"image mode=L size=0x4 at .*: this image cannot be read: it has no pixels"):
        pictorch.predict(small_run.run_dir, [Image.new("L", (0, 4))])


@pytest.mark.parametrize(
    ("images", "why"),
    [
        (Path("a.png"), r"images: expected a list, got one PosixPath; write \[image\]"),
        ("a.png", r"images: expected a list, got one str"),
        (Image.new("L", (8, 8)), r"images: expected a list, got one Image"),
        ([Path("a.png"), "b.png"], r"images\[1\]: expected a pathlib\.Path or a Pillow image, got str"),
        (np.zeros((2, 8, 8)), r"images\[0\]: .*, got ndarray; PIL\.Image\.fromarray makes an image"),
    ],
    ids=["path", "text", "image", "text in a list", "array"],
)
def test_arguments_of_another_kind_are_refused(small_run: api.Result, images: Any, why: str) -> None:
    with pytest.raises(UserError, match=why):
        Predictor(small_run.run_dir)(images)


@pytest.mark.parametrize("top_k", [0, -3])
def test_top_k_is_at_least_one(small_run: api.Result, top_k: int) -> None:
    with pytest.raises(UserError, match=f"top_k: expected at least 1, got {top_k}"):
        Predictor(small_run.run_dir)([Image.new("L", (8, 8))], top_k=top_k)


def test_the_command_counts_bad_files_only_among_several(
    small_run: api.Result, capsys: pytest.CaptureFixture[str]
) -> None:
    run = str(small_run.run_dir)
    with pytest.raises(UserError, match=r"^none\.png: there is no such file$"):
        prediction.predict(run, ["none.png"], top_k=1, form="table")
    assert capsys.readouterr().err == ""
    with pytest.raises(UserError, match="2 of 2 files could not be read"):
        prediction.predict(run, ["none.png", "nor.png"], top_k=1, form="table")
    assert "none.png: there is no such file" in capsys.readouterr().err


def test_exif_rotation_is_applied() -> None:
    image = Image.new("L", (4, 2))
    image.putpixel((0, 0), 255)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    image.save("turned.png", exif=exif)
    with Image.open("turned.png") as file:
        turned = upright(file, 1)
    assert turned.size == (2, 4)
    assert turned.getpixel((1, 0)) == 255


def test_a_non_square_image_is_scaled_and_cut_in_the_middle(small_run: api.Result) -> None:
    pixels = np.zeros((8, 16), dtype=np.uint8)
    pixels[:, 4:12] = 200
    prepared = Predictor(small_run.run_dir).pixels(Image.fromarray(pixels))
    assert prepared.shape == (1, 8, 8)
    assert prepared.min() == prepared.max()


def test_the_package_function_gives_the_files_at_fault(small_run: api.Result, tmp_path: Path) -> None:
    (tmp_path / "cut.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(UserError, match=r"cut\.png: "):
        pictorch.predict(small_run.run_dir, [str(tmp_path / "cut.png")])


def test_damaged_weights_are_named(small_run: api.Result, tmp_path: Path) -> None:
    import shutil

    copy = Path(shutil.copytree(small_run.run_dir, tmp_path / "copy"))
    weights = copy / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"model\.safetensors: this weights file is damaged"):
        pictorch.predict(copy, [Image.new("L", (8, 8))])
    weights.unlink()
    with pytest.raises(UserError, match="there are no weights here; a run writes them when it is finished"):
        pictorch.predict(copy, [Image.new("L", (8, 8))])


def test_predictions_are_in_eval_mode(small_run: api.Result) -> None:
    predictor = Predictor(small_run.run_dir)
    assert not predictor.model.training
    images = [Image.new("L", (8, 8), value) for value in (0, 90, 255)]
    together = predictor(images)
    apart = [predictor([image])[0] for image in images]
    for one, other in zip(together, apart, strict=True):
        assert torch.allclose(torch.tensor(one.probabilities), torch.tensor(other.probabilities), atol=1e-6)


def test_an_answer_that_is_not_finite_is_none(small_run: api.Result) -> None:
    predictor = Predictor(small_run.run_dir)
    network = predictor.network
    predictor.network = lambda images: network(images) + torch.where(images.mean((1, 2, 3)) > 0, torch.nan, 0)[:, None]
    files = [Path(f"{value}.png") for value in (0, 255, 1)]
    for file in files:
        Image.new("L", (8, 8), int(file.stem)).save(file)
    black, white, dark = predictor.each(files)
    assert isinstance(black, Prediction)
    assert str(white) == "255.png: the network's answer to this image is not finite"
    assert isinstance(dark, Prediction)
    assert dark.source == "1.png"


def pictures(folder: str, n: int) -> list[Path]:
    Path(folder).mkdir(parents=True)
    draws = np.random.default_rng(n)
    files = [Path(folder) / f"{i:04d}.png" for i in range(n)]
    for file in files:
        Image.fromarray(draws.integers(0, 256, (8, 8), np.uint8)).save(file)
    return files


def test_many_images_come_in_order_with_the_bad_ones_in_their_place(small_run: api.Result) -> None:
    files = pictures("many", 600)
    files[3].write_bytes(b"nothing")
    files[599].unlink()
    predictor = Predictor(small_run.run_dir)
    found = list(predictor.each(files, top_k=2))
    assert [i for i, one in enumerate(found) if isinstance(one, UserError)] == [3, 599]
    for i in (0, 4, 255, 256, 300):
        [alone] = predictor([files[i]], top_k=2)
        one = found[i]
        assert isinstance(one, Prediction)
        assert (one.source, one.classes) == (alone.source, alone.classes)
        assert one.probabilities == pytest.approx(alone.probabilities, abs=1e-5)


def test_a_reader_that_stops_early_stops_the_decoding(small_run: api.Result) -> None:
    files = pictures("early", 300)
    found = Predictor(small_run.run_dir).each(files)
    assert isinstance(next(found), Prediction)
    found.close()


def run_command(*words: str, given: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([sys.executable, "-m", "pictorch", "predict", *words], input=given, capture_output=True)


def test_folders_and_tables_for_spreadsheets(small_run: api.Result) -> None:
    pictures("folder/deep", 12)
    done = run_command(str(small_run.run_dir), "folder", "--csv", "--top-k", "2")
    assert done.returncode == 0
    rows = list(csv.reader(done.stdout.decode().splitlines()))
    assert rows[0] == ["source", "class_1", "probability_1", "class_2", "probability_2"]
    assert [row[0] for row in rows[1:]] == [f"folder/deep/{i:04d}.png" for i in range(12)]
    for row in rows[1:]:
        assert 0 <= float(row[4]) <= float(row[2]) <= 1
    table = run_command(str(small_run.run_dir), "folder").stdout.decode().splitlines()
    assert len(table) == 12
    assert len({line.index("%") for line in table}) == 1


def test_a_table_for_spreadsheets_keeps_names_with_ends_of_lines_whole(small_run: api.Result) -> None:
    names = ["a\nb.png", "c\rd.png", 'e,"f".png']
    for name in names:
        Image.new("L", (8, 8)).save(name)
    done = run_command(str(small_run.run_dir), *names, "--csv", "--top-k", "1")
    assert done.returncode == 0, done.stderr
    _, *rows = csv.reader(io.StringIO(done.stdout.decode(), newline=""))
    assert [(row[0], len(row)) for row in rows] == [(name, 3) for name in names]


def test_an_empty_folder_among_others_is_named_and_skipped(small_run: api.Result) -> None:
    files = pictures("in", 2)
    Path("empty").mkdir()
    done = run_command(str(small_run.run_dir), "empty", *map(str, files))
    assert done.returncode == 2
    assert all(str(file).encode() in done.stdout for file in files)
    assert b"error: empty: there is no image in this folder" in done.stderr
    assert b"1 of 3 files could not be read" in done.stderr
    alone = run_command(str(small_run.run_dir), "empty")
    assert (alone.returncode, alone.stderr.count(b"there is no image in this folder")) == (2, 1)


def test_an_empty_text_is_not_the_current_folder(small_run: api.Result) -> None:
    Image.new("L", (8, 8)).save("here.png")
    run = str(small_run.run_dir)
    with pytest.raises(UserError, match="expected a file or a folder, got an empty text"):
        prediction.predict(run, ["here.png", ""], top_k=1, form="table")
    with pytest.raises(UserError, match="expected the path of a run directory, got an empty text"):
        prediction.predict("", ["here.png"], top_k=1, form="table")


def test_standard_input_is_an_image_or_names(small_run: api.Result) -> None:
    files = pictures("in", 3)
    run = str(small_run.run_dir)
    [alone] = pictorch.predict(small_run.run_dir, [files[0]], top_k=1)
    for given in (
        files[0].read_bytes(),
        f"{files[0]}\n".encode(),
        f"{files[0]}\r\n".encode(),
        f"{files[0]}\0".encode(),
    ):
        done = run_command(run, "-", "--json", "--top-k", "1", given=given)
        assert done.returncode == 0, done.stderr
        answer = json.loads(done.stdout)
        assert answer["classes"] == list(alone.classes)
        assert answer["probabilities"] == pytest.approx(alone.probabilities, abs=1e-6)
    assert answer["source"] == str(files[0])
    several = run_command(run, "-", "--json", given="\n".join(map(str, files)).encode())
    assert [json.loads(line)["source"] for line in several.stdout.splitlines()] == [str(file) for file in files]
    empty = run_command(run, "-", given=b"")
    assert empty.returncode == 2
    assert b"standard input is empty" in empty.stderr


def test_bad_files_are_named_and_the_exit_status_says_so(small_run: api.Result) -> None:
    files = pictures("some", 4)
    files[1].write_bytes(files[1].read_bytes()[:40])
    done = run_command(str(small_run.run_dir), "some", "none.png", "--json")
    assert done.returncode == 2
    assert len(done.stdout.splitlines()) == 3
    assert b"error: some/0001.png: this is not an image file that Pillow knows" in done.stderr
    assert b"error: none.png: there is no such file" in done.stderr
    assert done.stderr.rstrip().endswith(b"2 of 5 files could not be read")
    assert b"Traceback" not in done.stderr


def test_one_form_at_a_time(small_run: api.Result) -> None:
    done = run_command(str(small_run.run_dir), "a.png", "--json", "--csv")
    assert done.returncode == 2
    assert b"--json and --csv: expected one of them" in done.stderr
