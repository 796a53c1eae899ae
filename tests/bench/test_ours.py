"""The engine as a side: its own epochs, of as many steps as the slice has."""

import pytest
import torch

from pictorch.bench import cifar, training
from pictorch.bench.cifar import Images
from pictorch.bench.ours import Ours
from pictorch.bench.textbook import Scale, Slice
from pictorch.bench.training import Plan
from pictorch.engine import loop


def test_a_slice_is_an_epoch_of_so_many_steps(
    plan: Plan, small_images: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    slice = Slice(steps=3, evaluation_batches=1, warm_up_steps=2)
    ours = Ours(training.configured(plan, "resnet_preact_20", small_images, slice), slice)
    evaluations: list[int] = []
    evaluate = loop.evaluate_part
    monkeypatch.setattr(loop, "evaluate_part", lambda *args: evaluations.append(evaluate(*args).images))
    steps: list[torch.Tensor] = []
    step = ours.step
    monkeypatch.setattr(ours, "step", lambda feed: steps.append(feed) or step(feed))
    assert ours.scale == Scale(train=125 / 3, evaluation=200 / 125)
    ours.warm_up()
    assert (len(steps), evaluations) == (2, [125])
    ours.train()
    ours.train()
    assert (len(steps), evaluations) == (8, [125])
    ours.evaluate()
    assert evaluations == [125, 125]


def test_a_slice_of_the_test_images(plan: Plan) -> None:
    slice = Slice(steps=1, evaluation_batches=1, warm_up_steps=1)
    with cifar.images(None, per_file=600) as images:
        ours = Ours(training.configured(plan, "resnet_preact_20", images, slice), slice)
    assert [len(batch.labels) for batch in ours.job.test_loader.epoch(0)] == [125]
    assert ours.scale.evaluation == 600 / 125


def test_the_whole_epoch_is_all_images(plan: Plan, small_images: Images) -> None:
    ours = Ours(training.configured(plan, "resnet_preact_20", small_images, training.WHOLE), training.WHOLE)
    assert ours.scale == Scale(1.0, 1.0)
    assert len(ours.job.train_loader) == 125
    assert sum(len(batch.labels) for batch in ours.job.test_loader.epoch(0)) == 200
