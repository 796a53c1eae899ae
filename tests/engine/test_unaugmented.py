"""The images that an exported file is asked: those of the evaluation, as prediction prepares them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import small_config
from PIL import Image

from pictorch import api, data
from pictorch.config import UserError
from pictorch.data.geometry import evaluation_crop
from pictorch.engine import inputs
from pictorch.engine.unaugmented import parts


def test_all_test_images_in_order_each_time() -> None:
    config = small_config()
    dataset = inputs.open_dataset(config)
    test, training = parts(dataset, config, test_images=None, training_images=0)
    assert training is None
    for _ in range(2):
        images, labels = (torch.cat(column) for column in zip(*test, strict=True))
        assert torch.equal(images, dataset.test.images)
        assert torch.equal(labels, dataset.test.labels)


def test_some_are_evenly_spaced_and_never_more_than_there_are() -> None:
    config = small_config()
    dataset = inputs.open_dataset(config)
    test, _ = parts(dataset, config, test_images=5, training_images=0)
    [(images, labels)] = test
    at = [0, 71, 142, 213, 284]
    assert torch.equal(images, dataset.test.images[at])
    assert torch.equal(labels, dataset.test.labels[at])
    with pytest.raises(UserError, match="expected at most 355, all that there are, got 400"):
        parts(dataset, config, test_images=400, training_images=0)


def test_training_images_are_of_the_training_part_alone_and_drawn_by_the_seed() -> None:
    config = small_config("data.val_fraction=0.5")
    dataset = inputs.open_dataset(config)
    train, val = inputs.training_parts(config, dataset)
    assert isinstance(train, data.Split)
    assert isinstance(val, data.Split)

    def drawn(config: api.Config, count: int) -> list[bytes]:
        _, training = parts(dataset, config, test_images=None, training_images=count)
        assert training is not None
        return [image.numpy().tobytes() for images, _ in training for image in images]

    known = {image.numpy().tobytes() for image in train.images}
    held_out = {image.numpy().tobytes() for image in val.images} - known
    assert len(drawn(config, 300)) == 300
    assert set(drawn(config, 300)) <= known
    assert not set(drawn(config, 10_000)) & held_out
    assert len(drawn(config, 10_000)) == len(train)
    assert drawn(config, 30) == drawn(config, 30) != drawn(small_config("data.val_fraction=0.5", "train.seed=7"), 30)


def test_images_of_ones_own_are_cut_as_evaluation_cuts_them(tmp_path: Path) -> None:
    draws = np.random.default_rng(0)
    for name in ("a", "b"):
        (tmp_path / "mine" / name).mkdir(parents=True)
        for i in range(5):
            sides = draws.integers(70, 120, 2)
            Image.fromarray(draws.integers(0, 256, (*sides, 3), np.uint8)).save(tmp_path / "mine" / name / f"{i}.png")
    config = api.load_config(
        "cifar10/resnet_preact_20",
        [f"data.name={tmp_path}/mine", "data.image_size=72", "data.test_fraction=0.4", "augment.crop=null"],
    )
    dataset = inputs.open_dataset(config)
    assert isinstance(dataset.test, data.Images)
    assert callable(dataset.test.read)
    expected = [evaluation_crop(dataset.test.read(i), 72, 82) for i in range(len(dataset.test))]
    for count in (None, 2):
        test, _ = parts(dataset, config, test_images=count, training_images=0)
        images = torch.cat([images for images, _ in test])
        assert images.dtype == torch.uint8
        assert torch.equal(images, torch.stack(expected if count is None else [expected[0], expected[2]]))
