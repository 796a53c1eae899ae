"""Streams of random numbers: the same for a key on every machine, and different for different keys."""

import itertools

import numpy as np
import torch

from pictorch.data.streams import generator, numpy_generator


def test_equal_keys_draw_equal_numbers_and_each_call_starts_anew() -> None:
    first = torch.rand(5, generator=generator(1, 2, "crop"))
    assert torch.equal(torch.rand(5, generator=generator(1, 2, "crop")), first)


def test_the_seed_is_the_published_one() -> None:
    # sha256('[1,2,"crop"]'), first 8 bytes, big-endian
    assert generator(1, 2, "crop").initial_seed() == 14405920584775715697


def test_numpy_draws_from_the_same_seed() -> None:
    expected = np.random.Generator(np.random.PCG64(14405920584775715697)).beta(0.5, 0.5, 5)
    assert np.array_equal(numpy_generator(1, 2, "crop").beta(0.5, 0.5, 5), expected)
    assert not np.array_equal(numpy_generator(1, 2, "flip").beta(0.5, 0.5, 5), expected)


def test_keys_are_told_apart() -> None:
    keys: list[tuple[int | str, ...]] = [
        (),
        (1,),
        ("1",),
        (1, 2),
        (12,),
        ("1,2",),
        ("ab", "c"),
        ("a", "bc"),
        ("a", "b", "c"),
        ('a","bc',),
        (0, "crop"),
        (0, "flip"),
        (0, 0, "crop"),
        (-1,),
        (2**70,),
        ("é",),
    ]
    seeds = {generator(*key).initial_seed() % 2**32 for key in keys}
    assert len(seeds) == len(keys)


def test_neighbouring_keys_do_not_collide_in_the_bits_that_torch_uses() -> None:
    keys = itertools.product(range(10), range(300), ("order", "crop", "flip"))
    seeds = [generator(*key).initial_seed() % 2**32 for key in keys]
    assert len(set(seeds)) == len(seeds)


def test_streams_of_neighbouring_epochs_are_not_correlated() -> None:
    draws = torch.stack([torch.rand(10_000, generator=generator(0, epoch, "crop")) for epoch in range(20)])
    correlation = torch.corrcoef(draws) - torch.eye(20)
    assert correlation.abs().max() < 5 / 10_000**0.5


def test_the_global_generator_is_left_alone() -> None:
    before = torch.get_rng_state(), np.random.get_state()[1]
    torch.rand(3, generator=generator(0, 0, "order"))
    numpy_generator(0, 0, "mixup").random(3)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])
