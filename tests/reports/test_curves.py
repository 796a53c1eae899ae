"""The picture of a run's learning curves."""

import io

import numpy as np
import pytest
from PIL import Image

from pictorch.reports.curves import draw


def row(epoch: int, **numbers: float | None) -> dict[str, float | None]:
    return {"epoch": epoch, "lr": 0.1, "train_error": 50 / epoch, **numbers}


@pytest.mark.parametrize(
    "rows",
    [
        [row(k, test_error=60 / k) for k in range(1, 6)],
        [row(k, val_error=60 / k) if k % 2 else row(k) for k in range(1, 6)],
        [row(1, test_error=0.0)],
        [row(1, train_error=0.0, test_error=0.0)],
    ],
)
def test_it_is_a_picture_with_something_on_it(rows: list[dict[str, float | None]]) -> None:
    with Image.open(io.BytesIO(draw(rows, "a title"))) as image:
        assert image.size == (840, 504)
        assert len(np.unique(np.asarray(image.convert("L")))) > 10
