"""IDX files of bytes, as MNIST and its likes come: a magic number, a size per dimension (big-endian), the bytes.

Layout: Y. LeCun, The MNIST Database, "File formats for the MNIST database".
"""

import struct
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from pictorch.data.checks import Arrays, check
from pictorch.data.files import Content

# Two zero bytes, type 8 (unsigned byte), and the number of dimensions.
MAGIC = {"images": 0x00000803, "labels": 0x00000801}


def read(contents: Iterable[Content]) -> dict[str, Arrays]:
    """Return {"train": ..., "test": ...}; the images of a part come before its labels in `contents`.

    Images are uint8 [N,1,H,W], labels int64 [N]. Raises UserError naming the file that is not as it should be.
    """
    parts: dict[str, Arrays] = {}
    images: npt.NDArray[np.uint8] | None = None
    for content in contents:
        if content.file.holds == "images":
            images = read_images(content)
        else:
            assert images is not None
            labels = read_array(content, ()).astype(np.int64)
            parts[content.file.part] = check(Arrays(images, labels), content)
    return parts


def read_images(content: Content) -> npt.NDArray[np.uint8]:
    size = content.spec.image_size
    # A copy, because torch wants memory that it may write to.
    return read_array(content, (size, size))[:, None].copy()


def read_array(content: Content, item: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    """Return the array uint8 [N, *item] of an IDX file, read-only. Raises UserError naming it."""
    raw, expected = content.raw, MAGIC[content.file.holds]
    header = 4 * (2 + len(item))
    if len(raw) < header:
        raise content.damaged(f"it has {len(raw)} bytes where its header alone has {header}")
    magic, count, *shape = struct.unpack_from(f">{2 + len(item)}I", raw)
    if magic != expected:
        raise content.damaged(f"its magic number is 0x{magic:08x}, that of {content.file.holds} is 0x{expected:08x}")
    if tuple(shape) != item:
        raise content.damaged(f"its images are of {tuple(shape)} pixels, not {item}")
    total = header + count * int(np.prod(item, dtype=np.int64))
    if len(raw) != total:
        raise content.damaged(f"its header announces {count:,} items in {total:,} bytes, there are {len(raw):,}")
    return np.frombuffer(raw, np.uint8, offset=header).reshape(count, *item)
