"""Images of another set, as a network of this one sees them: resized, and grey or in colour as it was trained."""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from pictorch.config.errors import UserError
from pictorch.data import dataset
from pictorch.data.decode import decode_file
from pictorch.data.folder import image_files
from pictorch.data.own import locate
from pictorch.data.parts import Images, Part, Split
from pictorch.data.specs import SPECS, find

# Pillow's weights of red, green and blue in grey (ITU-R 601-2), in parts of 65,536.
RED, GREEN, BLUE = 19595, 38470, 7471


def open_foreign(name: str, *, root: Path, image_size: int, in_channels: int) -> tuple[str, Part]:
    """Return a set's name and its images: the test part of a known set, or all images in a folder. All have label 0.

    Images of a known set are uint8 [N,C,S,S]; those of a folder are read when needed, and have their own sizes. Raises
    UserError for what is neither, and for missing files.
    """
    if name not in SPECS:
        folder = locate(name, root) if name else None  # an empty text is the current folder
        if folder is None:
            find(name)  # says what there is
        assert folder is not None
        files = image_files(folder)
        labels = torch.zeros(len(files), dtype=torch.int64)
        part = Images(lambda i: decode_file(files[i], channels=in_channels), labels, lambda i: files[i])
        return folder.resolve().name, part
    opened = dataset.open(name, root=root)
    if not isinstance(opened.test, Split):
        raise UserError(f"{name}: its images do not lie in memory")
    images = fitted(opened.test.images, image_size=image_size, in_channels=in_channels)
    return opened.name, Split(images, torch.zeros(len(images), dtype=torch.int64))


def fitted(images: Tensor, *, image_size: int, in_channels: int) -> Tensor:
    """Return images uint8 [N,C,H,W] as [N,in_channels,image_size,image_size]: resized as those of folders are, grey
    ones with three equal channels, coloured ones in Pillow's grey."""
    if images.shape[1] == 3 and in_channels == 1:
        red, green, blue = images.to(torch.int32).unbind(dim=1)
        images = ((red * RED + green * GREEN + blue * BLUE + 0x8000) >> 16).to(torch.uint8)[:, None]
    elif images.shape[1] == 1 and in_channels == 3:
        images = images.expand(-1, 3, -1, -1)
    assert images.shape[1] == in_channels
    if images.shape[2:] != (image_size, image_size):
        images = F.interpolate(images, (image_size, image_size), mode="bilinear", antialias=True)
    return images.contiguous()
