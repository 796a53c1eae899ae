"""The textbook's program: its images are those of ours, and it trains."""

import itertools

import numpy as np
import pytest
import torch

from pictorch import data
from pictorch.bench import loader, textbook, training
from pictorch.bench.cifar import Images
from pictorch.bench.textbook import Scale, Slice, Textbook
from pictorch.bench.training import Plan
from pictorch.data.loader import ResidentLoader
from pictorch.data.pipeline import Pipeline


def program_of(plan: Plan, images: Images, slice: Slice) -> Textbook:
    config = training.configured(plan, "resnet_preact_20", images, slice)
    # The benchmark's own rate teaches next to nothing.
    config = config.model_copy(update={"optim": config.optim.model_copy(update={"lr": 0.01})})
    return Textbook(config, data.open("cifar10", root=images.root), slice, device=plan.device, threads=1)


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


def test_it_learns_a_batch_by_heart(plan: Plan, small_images: Images) -> None:
    torch.manual_seed(0)
    program = program_of(plan, small_images, Slice(steps=12, evaluation_batches=1, warm_up_steps=1))
    program.feed.ready(1, plan.device)
    before = program.train()
    program.train()
    after = program.train()
    assert after[0] < before[0] / 2
    assert after[1] < before[1]


def test_a_slice_and_its_scale(plan: Plan, small_images: Images) -> None:
    """1,000 images are 125 steps of 8, and 200 test images 25 batches."""
    program = program_of(plan, small_images, Slice(steps=2, evaluation_batches=5, warm_up_steps=1))
    assert program.scale == Scale(train=62.5, evaluation=5.0)
    assert [len(labels) for _, labels in program.feed.evaluation] == [8, 8, 8, 8, 8]
    images, labels = next(program.feed.batches)
    assert (images.shape, images.dtype, labels.shape) == ((8, 3, 32, 32), torch.float32, (8,))
    whole = program_of(plan, small_images, training.WHOLE)
    assert whole.scale == Scale(1.0, 1.0)
    assert whole.feed.steps == 125


def test_its_evaluation_is_of_the_network_in_eval_mode(plan: Plan, small_images: Images) -> None:
    program = program_of(plan, small_images, Slice(steps=2, evaluation_batches=3, warm_up_steps=1))
    program.train()
    loss, error = program.evaluate()
    images, labels = (torch.cat(parts) for parts in zip(*program.feed.evaluation, strict=True))
    with torch.no_grad():
        logits = program.model.eval()(images)
    assert loss == pytest.approx(torch.nn.functional.cross_entropy(logits, labels).item(), rel=1e-4)
    assert error == pytest.approx(100 * (logits.argmax(dim=1) != labels).float().mean().item(), rel=1e-4)


def test_workers_give_the_images_of_the_set_and_end(plan: Plan, small_images: Images) -> None:
    program = program_of(plan, small_images, Slice(steps=2, evaluation_batches=2, warm_up_steps=1))
    alone = [labels for _, labels in program.feed.evaluation]
    program.feed.open(workers=1)
    assert all(map(torch.equal, alone, (labels for _, labels in program.feed.evaluation)))
    assert len(list(itertools.islice(program.feed.batches, 3))) == 3
    program.feed.open(workers=0)
    assert not torch.multiprocessing.active_children()


def test_normalisation_is_in_float32() -> None:
    image = textbook.normalise(np.full((2, 2, 3), 255, np.uint8), np.full(3, 0.5, np.float32), np.float32(0.5))
    assert image.dtype == np.float32
    assert (image == 1).all()
