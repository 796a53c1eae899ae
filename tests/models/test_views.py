"""Views of an image, against the sum over views written out."""

import pytest
import torch
from torch import Tensor

from pictorch.config.schema import Views
from pictorch.models.views import COUNT, answer


def logits_of(images: Tensor) -> Tensor:
    """Return logits [N,5] that no mirroring or moving leaves as they are."""
    weights = torch.randn(images[0].numel(), 5, generator=torch.Generator().manual_seed(0), dtype=images.dtype)
    return (images.flatten(1) @ weights).sin()


def reflected(image: Tensor, down: int, right: int) -> Tensor:
    """Return the image [C,H,W] moved by a pixel, where it is uncovered reflected without the border's pixel."""
    _, height, width = image.shape
    moved = torch.empty_like(image)
    for y in range(height):
        for x in range(width):
            from_y, from_x = abs(y - down), abs(x - right)
            from_y = from_y if from_y < height else 2 * (height - 1) - from_y
            from_x = from_x if from_x < width else 2 * (width - 1) - from_x
            moved[:, y, x] = image[:, from_y, from_x]
    return moved


@pytest.mark.parametrize(
    ("views", "weights"),
    [
        ("one", {(0, False): 1.0}),
        ("mirror", {(0, False): 0.5, (0, True): 0.5}),
        (
            "mirror_shift",
            {(0, False): 1 / 4, (0, True): 1 / 4, **{(move, m): 1 / 8 for move in (1, -1) for m in (False, True)}},
        ),
    ],
)
def test_the_logits_are_the_weighted_sum_over_the_views(views: Views, weights: dict[tuple[int, bool], float]) -> None:
    images = torch.randn(3, 2, 5, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    expected = torch.zeros(3, 5, dtype=torch.float64)
    for (move, mirror), weight in weights.items():
        view = torch.stack([reflected(image, move, move) for image in images])
        expected += weight * logits_of(view.flip(3) if mirror else view)
    torch.testing.assert_close(answer(logits_of, images, views), expected)
    assert len(weights) == COUNT[views]
    assert sum(weights.values()) == 1
