"""timm's way: what reaches the network, and that it trains."""

import torch

from pictorch import data
from pictorch.bench import training
from pictorch.bench.cifar import Images
from pictorch.bench.textbook import Slice
from pictorch.bench.timm_style import Prefetcher, TimmStyle, collate
from pictorch.bench.training import Plan


def program_of(plan: Plan, images: Images, slice: Slice) -> TimmStyle:
    config = training.configured(plan, "resnet_preact_20", images, slice)
    # The benchmark's own rate teaches next to nothing.
    config = config.model_copy(update={"optim": config.optim.model_copy(update={"lr": 0.01})})
    dataset = data.open("cifar10", root=images.root)
    return TimmStyle(config, dataset, slice, device=plan.device, threads=1, compile=False)


def test_uint8_batches_are_normalised_on_the_device_in_order() -> None:
    batches = [collate([(torch.full((3, 2, 2), value, dtype=torch.uint8), value)] * 2) for value in (0, 51, 255)]
    found = list(Prefetcher(mean=(0.2, 0.0, 0.0), std=(0.5, 1.0, 1.0), device=torch.device("cpu"))(batches))
    assert [labels.tolist() for _, labels in found] == [[0, 0], [51, 51], [255, 255]]
    expected = [(-0.4, 0.0, 0.0), (0.0, 0.2, 0.2), (1.6, 1.0, 1.0)]
    for (images, _), channels in zip(found, expected, strict=True):
        torch.testing.assert_close(images[1, :, 1, 1], torch.tensor(channels))


def test_the_network_gets_channels_last_images(plan: Plan, small_images: Images) -> None:
    program = program_of(plan, small_images, Slice(steps=1, evaluation_batches=2, warm_up_steps=1))
    raw, _ = next(program.feed.batches)
    assert raw.dtype == torch.uint8
    images, _ = next(program.prefetched(program.feed.batches))
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert images.dtype == torch.float32
    assert 0 <= program.evaluate() <= 100


def test_it_learns_a_batch_by_heart(plan: Plan, small_images: Images) -> None:
    torch.manual_seed(0)
    program = program_of(plan, small_images, Slice(steps=12, evaluation_batches=1, warm_up_steps=1))
    program.feed.ready(1, plan.device)
    before = program.train()
    program.train()
    assert program.train() < before / 2
