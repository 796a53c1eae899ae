"""Prediction on image files of every kind, through the run's own preprocessing."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import pictorch
from pictorch import api, data
from pictorch.config import UserError
from pictorch.deploy.predict import Predictor, upright


def test_test_images_as_files_give_the_evaluations_answers(small_run: api.Result) -> None:
    evaluation = api.evaluate(small_run.run_dir)
    images = data.open("digits", root=Path()).test.images[:40]
    files = []
    for i, image in enumerate(images):
        files.append(Path(f"{i}.png"))
        Image.fromarray(image[0].numpy()).save(files[-1])
    predictions = pictorch.predict(small_run.run_dir, files, top_k=5)
    assert [p.source for p in predictions] == [str(file) for file in files]
    for i, prediction in enumerate(predictions):
        assert prediction.classes == tuple(str(k) for k in evaluation.ranked[i].tolist())
        assert prediction.probabilities == pytest.approx(evaluation.probabilities[i].tolist(), abs=1e-5)


def test_top_k_and_no_images(small_run: api.Result) -> None:
    [prediction] = pictorch.predict(small_run.run_dir, [Image.new("L", (8, 8))], top_k=2)
    assert len(prediction.classes) == len(prediction.probabilities) == 2
    [everything] = pictorch.predict(small_run.run_dir, [Image.new("L", (8, 8))], top_k=50)
    assert sum(everything.probabilities) == pytest.approx(1, abs=1e-5)
    assert pictorch.predict(small_run.run_dir, []) == []


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I;16", "I", "F"])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_mode_becomes_grey_or_rgb(mode: str, channels: int) -> None:
    image = upright(Image.new(mode, (5, 4)), channels)
    assert image.mode == ("L" if channels == 1 else "RGB")
    assert image.size == (5, 4)


def test_sixteen_bit_grey_is_scaled_not_clipped() -> None:
    pixels = np.array([[0, 257, 32896, 65535]], dtype=np.uint16)
    assert np.asarray(upright(Image.fromarray(pixels), 1)).tolist() == [[0, 1, 128, 255]]


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
    prepared = Predictor(small_run.run_dir).prepare(Image.fromarray(pixels))
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
