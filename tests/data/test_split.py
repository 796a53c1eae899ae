"""Splits: exact, disjoint, sorted, in proportion, and fixed by the seed."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pictorch.config.errors import UserError
from pictorch.data.split import apportion, split, subset

LABELS = st.lists(st.integers(0, 6), min_size=2, max_size=200).map(torch.tensor)
FRACTIONS = st.floats(0.01, 0.99)


@given(LABELS, FRACTIONS, st.integers(0, 2**63), st.booleans())
def test_a_split_is_exact_disjoint_sorted_and_complete(
    labels: torch.Tensor, fraction: float, seed: int, stratified: bool
) -> None:
    n, count = len(labels), round(len(labels) * fraction)
    if not 0 < count < n:
        with pytest.raises(UserError, match=f"of {n:,} images has {count:,} images"):
            split(labels, fraction, seed, stratified=stratified)
        return
    train, val = split(labels, fraction, seed, stratified=stratified)
    assert len(val) == count
    assert sorted(train.tolist() + val.tolist()) == list(range(n))
    assert train.tolist() == sorted(train.tolist())
    assert val.tolist() == sorted(val.tolist())
    assert train.dtype == val.dtype == torch.int64
    again = split(labels, fraction, seed, stratified=stratified)
    assert torch.equal(again[0], train)
    assert torch.equal(again[1], val)
    if stratified:
        for label, size in enumerate(labels.bincount().tolist()):
            assert abs(int((labels[val] == label).sum()) - size * count / n) < 1


@given(LABELS, FRACTIONS, st.integers(0, 2**63))
def test_a_subset_is_exact_sorted_and_in_proportion(labels: torch.Tensor, fraction: float, seed: int) -> None:
    count = round(len(labels) * fraction)
    if count == 0:
        with pytest.raises(UserError, match="is 0 images; expected at least one and at most all"):
            subset(labels, fraction, seed)
        return
    chosen = subset(labels, fraction, seed)
    assert len(set(chosen.tolist())) == count
    assert chosen.tolist() == sorted(chosen.tolist())
    for label, size in enumerate(labels.bincount().tolist()):
        assert abs(int((labels[chosen] == label).sum()) - size * count / len(labels)) < 1


@given(st.lists(st.integers(0, 50), min_size=1, max_size=12), st.data())
def test_apportion_is_within_one_of_the_share(sizes: list[int], data: st.DataObject) -> None:
    total = sum(sizes)
    if total == 0:
        return
    count = data.draw(st.integers(0, total))
    quotas = apportion(sizes, count)
    assert sum(quotas) == count
    for quota, size in zip(quotas, sizes, strict=True):
        assert 0 <= quota <= size
        assert abs(quota - size * count / total) < 1


def test_apportion_by_largest_remainder_and_the_earlier_class_in_a_tie() -> None:
    assert apportion([3, 3, 4], 5) == [2, 1, 2]
    assert apportion([10, 1, 1], 4) == [4, 0, 0]
    assert apportion([5, 5, 5], 4) == [2, 1, 1]


def test_another_seed_is_another_split_of_the_same_shares() -> None:
    labels = torch.arange(1000) % 10
    (_, first), (_, second) = split(labels, 0.1, 0), split(labels, 0.1, 1)
    assert not torch.equal(first, second)
    assert labels[first].bincount().tolist() == labels[second].bincount().tolist() == [10] * 10


def test_the_split_is_the_published_one_and_independent_of_the_global_generator() -> None:
    labels = torch.arange(20) % 2
    torch.manual_seed(1)
    before = torch.get_rng_state()
    assert split(labels, 0.2, 0)[1].tolist() == [7, 8, 9, 16]
    assert torch.equal(torch.get_rng_state(), before)


def test_every_image_is_held_out_as_often_as_any_other() -> None:
    labels = torch.arange(40) % 4
    times = torch.zeros(40)
    for seed in range(1000):
        times[split(labels, 0.2, seed)[1]] += 1
    assert (times - 200).abs().max() < 5 * (1000 * 0.2 * 0.8) ** 0.5


def test_all_of_it_is_a_subset_and_more_is_an_error() -> None:
    labels = torch.arange(10) % 3
    assert subset(labels, 1.0, 0).tolist() == list(range(10))
    with pytest.raises(UserError, match="a fraction of 2 of 10 images is 20 images"):
        subset(labels, 2.0, 0)


@pytest.mark.parametrize("fraction", [-0.5, 0.0, 0.04, 0.96, 1.0, 3.0])
def test_a_side_without_images_is_an_error(fraction: float) -> None:
    with pytest.raises(UserError, match="both need at least one"):
        split(torch.arange(10) % 3, fraction, 0)
