"""The resident loader: each image once, the same epoch from the same key, a resumed epoch bit for bit."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from pictorch.config.errors import UserError
from pictorch.data import Split
from pictorch.data.loader import ResidentLoader
from pictorch.data.pipeline import Batch, Pipeline
from pictorch.data.streams import generator

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)


def make_split(n: int = 23, channels: int = 3, size: int = 6) -> Split:
    images = torch.randint(256, (n, channels, size, size), dtype=torch.uint8, generator=generator("images"))
    # The first pixel is the image's number, by which a batch tells which images it has.
    images[:, :, 0, 0] = torch.arange(n, dtype=torch.uint8)[:, None]
    return Split(images, torch.arange(n) % 5)


def make(split: Split, **changes: Any) -> ResidentLoader:
    channels, size = split.images.shape[1:3]
    of_pipeline = {
        "num_classes": 5,
        "image_size": size,
        "mean": MEAN[:channels],
        "std": STD[:channels],
        "device": "cpu",
        "seed": 7,
        "crop_padding": 0,
        "flip": False,
    }
    of_loader = {"batch_size": 4, "shuffle": True, "drop_last": False}
    pipeline = Pipeline(**(of_pipeline | {key: changes[key] for key in of_pipeline.keys() & changes.keys()}))
    rest = {key: value for key, value in changes.items() if key not in of_pipeline}
    return ResidentLoader(split=split, pipeline=pipeline, **(of_loader | rest))


def numbers(loader: ResidentLoader, epoch: int = 0) -> list[int]:
    pixels = torch.cat([batch.images[:, 0, 0, 0] for batch in loader.epoch(epoch)])
    return (255 * (pixels * STD[0] + MEAN[0])).round().int().tolist()


def assert_equal(first: Batch, second: Batch) -> None:
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("augmented", [{}, {"crop_padding": 2}, {"flip": True}, {"crop_padding": 2, "flip": True}])
@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("channels", [1, 3])
def test_an_epoch_against_a_slow_loop(augmented: dict[str, Any], shuffle: bool, channels: int) -> None:
    split = make_split(channels=channels)
    n, size, padding = len(split), 6, augmented.get("crop_padding", 0)
    batches = list(make(split, shuffle=shuffle, **augmented).epoch(3))
    images = torch.cat([batch.images for batch in batches])
    labels = torch.cat([batch.labels for batch in batches])
    order = torch.randperm(n, generator=generator(7, 3, "order")) if shuffle else torch.arange(n)
    offsets = torch.randint(2 * padding + 1, (n, 2), generator=generator(7, 3, "crop"))
    flips = torch.randint(2, (n,), generator=generator(7, 3, "flip"))
    for position in range(n):
        image, canvas = int(order[position]), torch.zeros(channels, size + 2 * padding, size + 2 * padding)
        canvas[:, padding : padding + size, padding : padding + size] = split.images[image]
        top, left = offsets[position].tolist()
        canvas = canvas[:, top : top + size, left : left + size]
        if augmented.get("flip") and flips[position]:
            canvas = canvas.flip(2)
        for c in range(channels):
            expected = (canvas[c].double() / 255 - MEAN[c]) / STD[c]
            torch.testing.assert_close(images[position, c].double(), expected, atol=1e-6, rtol=1e-6)
        assert labels[position] == split.labels[image]


@pytest.mark.parametrize(
    ("batch_size", "drop_last"), [(4, False), (4, True), (23, True), (5, True), (50, False), (1, True)]
)
def test_every_image_once_and_lengths(batch_size: int, drop_last: bool) -> None:
    loader = make(make_split(), batch_size=batch_size, drop_last=drop_last)
    seen = numbers(loader)
    batches = 23 // batch_size if drop_last else math.ceil(23 / batch_size)
    assert len(loader) == len(list(loader.epoch(0))) == batches
    assert loader.images_per_epoch == len(seen) == (23 // batch_size * batch_size if drop_last else 23)
    assert len(set(seen)) == len(seen)


def test_the_dropped_images_are_others_in_another_epoch() -> None:
    loader = make(make_split(), batch_size=10, drop_last=True)
    assert len({frozenset(numbers(loader, epoch)) for epoch in range(10)}) > 5


def test_evaluation_is_every_image_in_order() -> None:
    assert numbers(make(make_split(), shuffle=False)) == list(range(23))


def test_epochs_and_seeds_differ_and_repeat() -> None:
    orders = [numbers(make(make_split(), seed=seed), epoch) for seed in (0, 1) for epoch in (0, 1, 2)]
    assert len({tuple(order) for order in orders}) == 6
    assert orders == [numbers(make(make_split(), seed=seed), epoch) for seed in (0, 1) for epoch in (0, 1, 2)]


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 23), st.booleans(), st.integers(0, 2**32), st.integers(0, 1000), st.data())
def test_a_resumed_epoch_is_the_uninterrupted_one(
    batch_size: int, drop_last: bool, seed: int, epoch: int, data: st.DataObject
) -> None:
    options = {"batch_size": batch_size, "drop_last": drop_last, "seed": seed, "crop_padding": 2, "flip": True}
    whole = list(make(make_split(), **options).epoch(epoch))
    start = data.draw(st.integers(0, len(whole)))
    rest = list(make(make_split(), **options).epoch(epoch, start_batch=start))
    assert len(rest) == len(whole) - start
    for first, second in zip(whole[start:], rest, strict=True):
        assert_equal(first, second)


def test_the_batch_size_does_not_change_what_a_position_gets() -> None:
    options = {"crop_padding": 2, "flip": True}
    loaders = [make(make_split(), batch_size=size, **options) for size in (3, 7, 23)]
    first, *others = (torch.cat([batch.images for batch in loader.epoch(5)]) for loader in loaders)
    assert all(torch.equal(first, other) for other in others)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_batch_is_as_declared(channels: int) -> None:
    batch = next(make(make_split(channels=channels), crop_padding=1, flip=True).epoch(0))
    assert batch.images.shape == (4, channels, 6, 6)
    assert batch.images.is_contiguous(memory_format=torch.channels_last)
    assert (batch.images.dtype, batch.targets.dtype, batch.labels.dtype) == (torch.float32, torch.float32, torch.int64)
    assert torch.equal(batch.targets, torch.nn.functional.one_hot(batch.labels, 5).float())


def test_nothing_in_an_epoch_reads_the_device() -> None:
    # A meta tensor has no values: whoever asked for one would raise.
    loader = make(make_split(), device="meta", crop_padding=2, flip=True)
    shapes = [batch.images.shape[0] for batch in loader.epoch(0)]
    assert shapes == [4, 4, 4, 4, 4, 3]


def test_the_global_generator_is_left_alone_and_has_no_say() -> None:
    first = numbers(make(make_split()))
    torch.manual_seed(99)
    before = torch.get_rng_state()
    assert numbers(make(make_split())) == first
    assert torch.equal(torch.get_rng_state(), before)


def test_the_split_is_left_as_it_was() -> None:
    split = make_split()
    images = split.images.clone()
    list(make(split, crop_padding=2, flip=True).epoch(0))
    assert torch.equal(split.images, images)


def test_a_position_of_the_order_is_uniform() -> None:
    loader = make(make_split(10))
    first = torch.tensor([int(loader.order(epoch)[0]) for epoch in range(2000)])
    assert stats.chisquare(first.bincount(minlength=10).numpy()).pvalue > 0.01


def test_offsets_and_flips_of_an_epoch_are_uniform_and_independent() -> None:
    loader = make(make_split(), crop_padding=2, flip=True)
    drawn = loader.pipeline.draw(0, torch.arange(20_000), size_of_set=20_000, batch_size=128)
    offsets, flips = drawn.offsets, drawn.flips
    cells = ((offsets[:, 0] * 5 + offsets[:, 1]) * 2 + flips).bincount(minlength=50)
    assert stats.chisquare(cells.numpy()).pvalue > 0.01


def test_a_batch_larger_than_the_data_says_both_numbers() -> None:
    with pytest.raises(UserError, match="batches of 24 images, but there are 23") as caught:
        make(make_split(), batch_size=24, drop_last=True)
    assert str(caught.value).endswith("expected at most 23, or data.drop_last=false")
    assert len(make(make_split(), batch_size=24, drop_last=False)) == 1


@pytest.mark.parametrize("changes", [{"batch_size": 0}, {"split": make_split(0)}])
def test_nothing_to_load_is_an_error(changes: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="both must be at least 1"):
        make(changes.pop("split", make_split()), **changes)


def test_statistics_and_labels_that_do_not_fit_are_errors() -> None:
    with pytest.raises(ValueError, match="1 means, 3 stds"):
        make(make_split(), mean=(0.5,))
    with pytest.raises(ValueError, match=r"labels outside 0\.\.2"):
        make(make_split(), num_classes=3)
    with pytest.raises(
        ValueError, match="images of 6 x 5 pixels with 3 channels for a pipeline of 6 pixels and 3 channels"
    ):
        make(Split(make_split().images[..., 1:], make_split().labels))
