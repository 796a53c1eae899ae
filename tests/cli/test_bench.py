"""`pictorch bench`: its rows are named, complete, and from both sides' real loaders."""

import json

import pytest
import torch

from pictorch import data
from pictorch.bench import loader, textbook
from pictorch.cli import bench
from pictorch.config import UserError
from pictorch.data.loader import ResidentLoader
from pictorch.data.pipeline import Pipeline


@pytest.mark.slow
def test_the_loader_s_rows(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Far fewer batches than the command's, so that no ratio is held against a bound."""
    monkeypatch.setattr(loader, "OURS_BATCHES", 20)
    monkeypatch.setattr(loader, "BASELINE_BATCHES", 3)
    monkeypatch.setattr(loader, "ROUNDS", 1)
    monkeypatch.setenv("PICTORCH_DATA", "nowhere")
    bench.bench("loader", data_dir=None, device="cpu", as_json=True)
    rows = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in rows] == ["crop_flip", "crop_flip_cutout", "crop_flip_erasing", "crop_flip_mixup"]
    for row in rows:
        assert row.keys() >= {"name", "device", "dtype", "ours", "baseline", "unit", "ratio", "spread"}
        assert row["ratio"] == pytest.approx(row["ours"] / row["baseline"], rel=0.01)
        assert row["ratio"] > 1


def test_the_textbook_s_images_are_those_of_ours() -> None:
    """Without crop, flip and mask both sides make the same numbers of the same pixels."""
    pixels = torch.randint(256, (8, 3, 32, 32), dtype=torch.uint8)
    mean, std = data.find("cifar10").mean, data.find("cifar10").std
    theirs = loader.baseline(
        pixels.permute(0, 2, 3, 1).numpy(), [0] * 8, "plain", torch.tensor(mean).numpy(), torch.tensor(std).numpy(), 0
    )
    crop, flip, normalise = theirs.dataset.transforms  # type: ignore[attr-defined]
    assert (crop, flip) == (textbook.random_crop, textbook.random_flip)
    pipeline = Pipeline(num_classes=10, image_size=32, mean=mean, std=std, device="cpu")
    split = data.Split(pixels, torch.zeros(8, dtype=torch.int64))
    ours = ResidentLoader(split=split, pipeline=pipeline, batch_size=8, shuffle=False, drop_last=False)
    (batch,) = ours.epoch(0)
    for image, expected in zip(pixels, batch.images, strict=True):
        normalised = torch.from_numpy(normalise(image.permute(1, 2, 0).numpy())).permute(2, 0, 1)
        torch.testing.assert_close(normalised, expected, atol=1e-5, rtol=1e-5)


def test_an_unknown_benchmark_and_device_are_said() -> None:
    with pytest.raises(UserError, match="there is no benchmark 'loder'; did you mean 'loader'"):
        bench.bench("loder", data_dir=None, device="cpu", as_json=False)
    with pytest.raises(UserError, match="--device: expected auto, cpu, cuda or cuda:N, got 'gpu'"):
        bench.bench("loader", data_dir=None, device="gpu", as_json=False)
