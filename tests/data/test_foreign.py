"""Another set's images, as Pillow converts them, and folders without classes."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pictorch.config import UserError
from pictorch.data.foreign import fitted, open_foreign
from pictorch.data.parts import Images, Split

RANDOM = torch.randint(0, 256, (20, 3, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def test_grey_is_pillows() -> None:
    grey = fitted(RANDOM, image_size=8, in_channels=1)
    for image, one in zip(RANDOM, grey, strict=True):
        expected = np.asarray(Image.fromarray(image.permute(1, 2, 0).numpy()).convert("L"))
        assert np.array_equal(one[0].numpy(), expected)


def test_colour_and_size() -> None:
    grey = RANDOM[:, :1].contiguous()
    coloured = fitted(grey, image_size=12, in_channels=3)
    assert coloured.shape == (20, 3, 12, 12)
    assert torch.equal(coloured[:, 0], coloured[:, 2])
    assert torch.equal(fitted(RANDOM, image_size=8, in_channels=3), RANDOM)


def test_a_known_set_gives_its_test_images() -> None:
    name, part = open_foreign("digits", root=Path(), image_size=32, in_channels=3)
    assert name == "digits"
    assert isinstance(part, Split)
    assert part.images.shape == (355, 3, 32, 32)


def test_a_folder_gives_all_its_images_however_deep() -> None:
    (root := Path("odd/a/b")).mkdir(parents=True)
    Image.new("RGB", (9, 7), "red").save(root / "one.png")
    Image.new("L", (5, 5), 9).save("odd/two.JPG")
    Path("odd/.hidden.png").write_bytes(b"")
    Path("odd/notes.txt").write_text("nothing")
    name, part = open_foreign("odd", root=Path(), image_size=32, in_channels=1)
    assert (name, len(part)) == ("odd", 2)
    assert isinstance(part, Images)
    assert callable(part.read)
    assert [part.read(i).shape for i in range(2)] == [(1, 7, 9), (1, 5, 5)]


def test_what_is_no_set_is_said() -> None:
    with pytest.raises(UserError, match="there is no data set 'cifar11'; did you mean 'cifar10'"):
        open_foreign("cifar11", root=Path(), image_size=32, in_channels=3)
    Path("empty").mkdir()
    with pytest.raises(UserError, match=r"empty: there is no image in this folder; expected files that end in"):
        open_foreign("empty", root=Path(), image_size=32, in_channels=3)
