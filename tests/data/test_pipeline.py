"""The pipeline: everything in its order, each number from its own stream, the same batch after a resume."""

from typing import Any

import pytest
import torch
from torch import Tensor

from pictorch.data import Split
from pictorch.data.erasing import Cutout, DualCutout, RandomErasing
from pictorch.data.geometry import ResizedCrop, Rotate
from pictorch.data.loader import ResidentLoader
from pictorch.data.mix import CutMix, Mixup, ResizeMix, Ricap
from pictorch.data.pipeline import Batch, Pipeline
from pictorch.data.streams import generator

N, CLASSES, SIZE = 23, 5, 8
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
IMAGES = torch.randint(256, (N, 3, SIZE, SIZE), dtype=torch.uint8, generator=generator("images"))
SPLIT = Split(IMAGES, torch.arange(N) % CLASSES)


def make(
    batch_size: int = 4, drop_last: bool = False, resized_crop: ResizedCrop | None = None, **of_pipeline: Any
) -> ResidentLoader:
    defaults: dict[str, Any] = {"num_classes": CLASSES, "image_size": SIZE, "mean": MEAN, "std": STD, "device": "cpu"}
    pipeline = Pipeline(**(defaults | {"seed": 7} | of_pipeline))
    return ResidentLoader(
        split=SPLIT,
        pipeline=pipeline,
        batch_size=batch_size,
        shuffle=True,
        drop_last=drop_last,
        resized_crop=resized_crop,
    )


def everything() -> dict[str, Any]:
    return {
        "crop_padding": 2,
        "flip": "alternating",
        "steps": [RandomErasing(fill="one"), Cutout(size=3), Rotate(degrees=15), RandomErasing()],
        "mixes": [Mixup(), CutMix(), Ricap(), ResizeMix()],
        "label_smoothing": 0.1,
    }


def assert_equal(first: Batch, second: Batch) -> None:
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_steps_on_pixels_come_before_normalising_and_those_on_values_behind_it() -> None:
    seen: list[tuple[str, torch.dtype]] = []

    class Watch:
        def __init__(self, stage: str) -> None:
            self.name = self.stage = stage

        def draw(self, n: int, image_size: int, draws: torch.Generator) -> tuple[Tensor, ...]:
            return (torch.zeros(n),)

        def __call__(self, images: Tensor, *drawn: Tensor) -> Tensor:
            seen.append((self.stage, images.dtype))
            return images

    next(make(steps=[Watch("values"), Watch("pixels")]).epoch(0))
    assert seen == [("pixels", torch.uint8), ("values", torch.float32)]


def test_a_resumed_epoch_is_the_uninterrupted_one_with_everything_on() -> None:
    whole = list(make(**everything()).epoch(3))
    for start in range(len(whole) + 1):
        rest = list(make(**everything()).epoch(3, start_batch=start))
        assert len(rest) == len(whole) - start
        for first, second in zip(whole[start:], rest, strict=True):
            assert_equal(first, second)


def test_epochs_differ_and_repeat() -> None:
    first, again, other = (next(make(**everything()).epoch(epoch)) for epoch in (0, 0, 1))
    assert_equal(first, again)
    assert not torch.equal(first.images, other.images)


def test_what_an_image_gets_does_not_depend_on_the_batch_size_or_on_other_steps() -> None:
    """Each step has a stream of its own, and a row for each position."""
    steps = [Cutout(size=3), Rotate(degrees=15)]
    wide, narrow = (torch.cat([b.images for b in make(size, steps=steps, flip=True).epoch(1)]) for size in (23, 3))
    assert torch.equal(wide, narrow)
    alone = torch.cat([b.images for b in make(steps=[Cutout(size=3)]).epoch(1)])
    beside = torch.cat([b.images for b in make(steps=[RandomErasing(fill="mean"), Cutout(size=3)]).epoch(1)])
    assert torch.equal(beside[alone == 0], alone[alone == 0])


def test_several_mixes_are_drawn_with_equal_chances_and_targets_stay_distributions() -> None:
    loader = make(batch_size=1, mixes=[Mixup(), CutMix(prob=1.0), Ricap()])
    counts = torch.zeros(3)
    for epoch in range(60):
        drawn = loader.pipeline.draw(epoch, torch.arange(N), size_of_set=N, batch_size=1)
        counts += torch.tensor(drawn.choices).bincount(minlength=3)
    # 1,380 batches: a third each, within four standard deviations
    assert ((counts - 460).abs() < 4 * (1380 * 2 / 9) ** 0.5).all()
    for batch in make(**everything()).epoch(0):
        torch.testing.assert_close(batch.targets.sum(1), torch.ones(len(batch.labels)))


def test_label_smoothing_is_in_every_target() -> None:
    batch = next(make(label_smoothing=0.1).epoch(0))
    expected = torch.full((4, CLASSES), 0.1 / CLASSES)
    expected[torch.arange(4), batch.labels] = 0.9 + 0.1 / CLASSES
    torch.testing.assert_close(batch.targets, expected)


def test_views_are_stacked_and_targets_are_not() -> None:
    loader = make(steps=[DualCutout(size=3)])
    assert loader.pipeline.views == 2
    batch = next(loader.epoch(0))
    plain = next(make().epoch(0))
    assert batch.images.shape == (8, 3, SIZE, SIZE)
    assert batch.targets.shape == (4, CLASSES)
    for view in batch.images.chunk(2):
        assert ((view == plain.images) | (view == 0)).all()
        assert (view == 0).any()
    assert not torch.equal(*batch.images.chunk(2))


def test_a_mean_image_is_subtracted_pixel_by_pixel() -> None:
    mean = IMAGES.float().mean(0) / 255
    batches = list(make(mean=mean).epoch(0))
    images = torch.cat([batch.images for batch in batches])
    torch.testing.assert_close(images.mean(0), torch.zeros_like(mean), atol=1e-5, rtol=0)
    order = make().order(0)
    expected = (IMAGES[order].double() / 255 - mean) / torch.tensor(STD).double()[:, None, None]
    torch.testing.assert_close(images.double(), expected, atol=1e-5, rtol=0)


def test_alternating_flips_show_each_image_both_ways_in_two_epochs() -> None:
    loader = make(flip="alternating")
    ways = []
    for epoch in (4, 5):
        images = torch.cat([batch.images for batch in loader.epoch(epoch)])
        by_image = torch.empty_like(images)
        by_image[loader.order(epoch)] = images
        ways.append(by_image)
    assert torch.equal(ways[0], ways[1].flip(3))


def test_a_resized_crop_takes_the_place_of_the_crop() -> None:
    whole = next(make(resized_crop=ResizedCrop(area=(1.0, 1.0), aspect=(1.0, 1.0))).epoch(0))
    assert torch.equal(whole.images, next(make().epoch(0)).images)
    part = next(make(resized_crop=ResizedCrop(area=(0.1, 0.3))).epoch(0))
    assert part.images.is_contiguous(memory_format=torch.channels_last)
    assert not torch.equal(whole.images, part.images)


def test_nothing_reads_the_device() -> None:
    """A meta tensor has no values: whoever asked for one would raise."""
    loader = make(device="meta", **(everything() | {"steps": [Cutout(size=3), Rotate(degrees=15), RandomErasing()]}))
    assert [len(batch.images) for batch in loader.epoch(0)] == [4, 4, 4, 4, 4, 3]


def test_statistics_of_another_number_of_channels_are_an_error() -> None:
    with pytest.raises(ValueError, match="1 means, 3 stds"):
        make(mean=(0.5,))


def test_a_crop_may_be_larger_than_the_image() -> None:
    loader = make(crop_padding=3, crop_size=SIZE + 4)
    drawn = loader.pipeline.draw(0, order := loader.order(0), size_of_set=N, batch_size=4)
    assert drawn.offsets.min() == 0
    assert drawn.offsets.max() == 2
    padded = torch.nn.functional.pad(IMAGES[order], [3] * 4).double() / 255
    mean, std = (torch.tensor(each).double()[:, None, None] for each in (MEAN, STD))
    images = torch.cat([batch.images for batch in loader.epoch(0)]).double()
    for image, whole, (top, left) in zip(images, padded, drawn.offsets.tolist(), strict=True):
        expected = (whole[:, top : top + SIZE + 4, left : left + SIZE + 4] - mean) / std
        torch.testing.assert_close(image, expected, atol=1e-5, rtol=0)


def test_unseeded_workers_all_draw_the_same_in_every_epoch() -> None:
    """Batches 0, 1, 2 of 3 workers are each one's first, 3, 4, 5 each one's second; crops are not NumPy's."""
    steps = [Cutout(size=3), RandomErasing(fill="one"), Rotate(degrees=15)]
    loader = make(repeat_draws=3, crop_padding=2, steps=steps)
    epochs = [loader.pipeline.draw(e, loader.order(e), size_of_set=N, batch_size=4) for e in (0, 5)]
    by_name = {step.name: rows for step, rows in zip(loader.pipeline.steps, epochs[0].steps, strict=True)}
    for name in ("cutout", "random_erasing"):
        for rows in by_name[name]:
            batches = rows.split(4)
            assert torch.equal(batches[0], batches[1])
            assert torch.equal(batches[1], batches[2])
            assert torch.equal(batches[3], batches[4])
            assert torch.equal(batches[3][:3], batches[5])
            assert not torch.equal(batches[2], batches[3])
    others = {step.name: rows for step, rows in zip(loader.pipeline.steps, epochs[1].steps, strict=True)}
    assert all(torch.equal(a, b) for a, b in zip(by_name["cutout"], others["cutout"], strict=True))
    assert not torch.equal(by_name["rotate"][0], others["rotate"][0])
    assert not torch.equal(by_name["rotate"][0][:4], by_name["rotate"][0][4:8])
    assert not torch.equal(epochs[0].offsets, epochs[1].offsets)
    rest = list(make(repeat_draws=3, crop_padding=2, steps=steps).epoch(1, start_batch=4))
    for first, second in zip(list(loader.epoch(1))[4:], rest, strict=True):
        assert_equal(first, second)
