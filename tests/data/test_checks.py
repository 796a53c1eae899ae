"""The checks that every format shares."""

from pathlib import Path

import numpy as np
import pytest

from pictorch.config.errors import UserError
from pictorch.data.checks import Arrays, check
from pictorch.data.files import Content
from pictorch.data.specs import find

SPEC = find("mnist")
FILE = SPEC.files[1]
CONTENT = Content(Path("folder/labels"), SPEC, FILE, FILE.forms[0], b"", 0, "")


def part(images: int, labels: list[int]) -> Arrays:
    return Arrays(np.zeros((images, 1, 28, 28), np.uint8), np.array(labels, np.int64))


def test_a_sound_part_passes_as_it_is() -> None:
    sound = part(3, [0, 9, 5])
    assert check(sound, CONTENT) is sound


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        (part(3, [1, 2]), "it has 2 labels for 3 images"),
        (part(0, []), "it has no images"),
        (part(2, [0, 10]), "its labels go from 0 to 10, those of its 10 classes from 0 on"),
        (part(2, [-1, 3]), "its labels go from -1 to 3"),
    ],
)
def test_an_unsound_part_names_the_file(wrong: Arrays, why: str) -> None:
    with pytest.raises(UserError, match=f"mnist: folder.labels: {why}"):
        check(wrong, CONTENT)
