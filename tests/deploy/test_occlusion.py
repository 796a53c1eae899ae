"""Covering parts of an image: against loops, SciPy and networks whose evidence is known."""

import pytest
import torch
from scipy.stats import spearmanr
from torch import Tensor

from pictorch.deploy import occlusion
from pictorch.deploy.occlusion import cells_of, check, counts, deleted, inserted, occlude, rank_correlation


def corner(images: Tensor) -> Tensor:
    """Return as probability the mean of the top left quarter."""
    half = images.shape[2] // 2
    return images[:, :, :half, :half].mean((1, 2, 3))


@pytest.mark.parametrize(("size", "patch"), [(8, None), (28, None), (32, None), (33, 7), (5, 1), (2, None), (9, 8)])
def test_batches_equal_a_loop(size: int, patch: int | None) -> None:
    torch.manual_seed(0)
    image, weights = torch.rand(3, size, size), torch.rand(3, size, size)

    def answers(images: Tensor) -> Tensor:
        return (images * weights).mean((1, 2, 3))

    found = occlude(answers, image, patch)
    assert found.patch == (patch or max(size // 4, 1))
    assert (found.positions[0], found.positions[-1] + found.patch) == (0, size)
    total, count = torch.zeros(size, size), torch.zeros(size, size)
    for i, top in enumerate(found.positions):
        for j, left in enumerate(found.positions):
            covered = image.clone()
            for row in range(top, top + found.patch):
                for column in range(left, left + found.patch):
                    covered[:, row, column] = 0
            drop = answers(image[None]) - answers(covered[None])
            assert found.drops[i, j] == pytest.approx(float(drop), abs=1e-6)
            total[top : top + found.patch, left : left + found.patch] += found.drops[i, j]
            count[top : top + found.patch, left : left + found.patch] += 1
    assert count.min() >= 1
    torch.testing.assert_close(found.pixels(), total / count)


def test_what_does_not_count_has_no_drop() -> None:
    found = occlude(corner, torch.ones(1, 32, 32))
    assert found.pixels()[16:, 20:].eq(0).all()
    assert found.pixels()[:12, :12].min() > 0
    assert found.under(found.pixels()).shape == found.drops.shape


def test_batches_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []

    def answers(images: Tensor) -> Tensor:
        sizes.append(len(images))
        return corner(images)

    whole = occlude(answers, torch.rand(1, 32, 32))
    assert sizes == [50]
    monkeypatch.setattr(occlusion, "BATCH", 7)
    sizes.clear()
    parts = occlude(answers, torch.rand(1, 32, 32))
    assert sizes == [7] * 7 + [1]
    assert parts.drops.shape == whole.drops.shape


@pytest.mark.parametrize("size", [1, 5, 8, 28, 32, 224])
def test_cells_cover_every_pixel_once(size: int) -> None:
    cells, count = cells_of(size), torch.zeros(size, size)
    for rows, columns in cells:
        count[rows, columns] += 1
    assert count.eq(1).all()
    assert counts(len(cells))[0] == 0
    assert counts(len(cells))[-1] == len(cells)
    image = torch.rand(1, size, size) + 1
    order = torch.randperm(len(cells))
    covered, shown = deleted(image, cells, order), inserted(image, cells, order)
    for less, more in zip(covered, shown, strict=True):
        torch.testing.assert_close(less + more, image)
    assert torch.equal(covered[0], image)
    assert covered[-1].eq(0).all()


def test_the_hottest_cells_go_first() -> None:
    image, heat = torch.ones(1, 16, 16), torch.zeros(16, 16)
    heat[:8, :8] = 1
    right = check(corner, image, heat, occlude(corner, image))
    wrong = check(corner, image, 1 - heat, occlude(corner, image))
    assert right.holds == {"agreement": True, "deletion": True, "insertion": True}
    assert wrong.holds == {"agreement": False, "deletion": False, "insertion": False}
    # A quarter of the cells is all that counts: it goes in 4 of 16 steps, linearly.
    assert right.deletion == pytest.approx(0.5 * 0.25)
    assert right.insertion == pytest.approx(1 - 0.5 * 0.25)
    assert right.random_deletion == wrong.random_deletion == pytest.approx(0.5, abs=0.15)
    assert right.agreement is not None
    assert right.agreement > 0.7


def test_a_flat_map_passes_nothing() -> None:
    image = torch.rand(1, 16, 16)
    flat = check(corner, image, torch.zeros(16, 16), occlude(corner, image))
    assert (flat.deletion, flat.insertion) == (flat.random_deletion, flat.random_insertion)
    assert flat.agreement == 0
    assert not any(flat.holds.values())


def test_the_map_of_an_occlusion_is_not_compared_with_itself() -> None:
    image = torch.rand(1, 16, 16)
    alone = check(corner, image, occlude(corner, image).pixels(), None)
    assert alone.agreement is None
    assert set(alone.holds) == {"deletion", "insertion"}


def test_rank_correlation_is_spearmans() -> None:
    draws = torch.Generator().manual_seed(0)
    for levels in (2, 5, 1000):
        one, other = torch.randint(levels, (2, 7, 7), generator=draws).float()
        expected = spearmanr(one.flatten().numpy(), other.flatten().numpy()).statistic
        assert rank_correlation(one, other) == pytest.approx(expected)
        assert rank_correlation(one, one) == pytest.approx(1)
        assert rank_correlation(one, -one) == pytest.approx(-1)
    assert rank_correlation(torch.zeros(3, 3), torch.rand(3, 3)) == 0
