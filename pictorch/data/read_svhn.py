"""SVHN's cropped digits: files of MATLAB's level 5, each with the arrays X, uint8 [32,32,3,N], and y, uint8 [N,1].

Format: MathWorks, "MAT-File Format", chapter 1. It is read here because this one kind of it takes forty lines, refuses
all else and bounds what it allocates; scipy, the library for the rest of the format, has 110 MB.
"""

import struct
from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt

from pictorch.data.checks import Arrays, check
from pictorch.data.files import ZLIB, Content, decompress

Uint8 = npt.NDArray[np.uint8]

# Text, a version, and "IM" where numbers are little-endian, as in all of SVHN's files.
HEADER, LITTLE_ENDIAN = 128, b"IM"
UINT8, MATRIX, COMPRESSED = 2, 14, 15
UINT8_CLASS = 9


def read(contents: Iterable[Content]) -> dict[str, Arrays]:
    """Return {"train": ..., "test": ...}, the files of each part joined in the order given.

    Images are uint8 [N,3,32,32], labels int64 [N]. Raises UserError naming the file that is not as it should be.
    """
    files: dict[str, list[Arrays]] = {"train": [], "test": []}
    for content in contents:
        files[content.file.part].append(read_file(content))
    return {
        name: Arrays(*(np.concatenate(arrays) for arrays in zip(*some, strict=True))) for name, some in files.items()
    }


def read_file(content: Content) -> Arrays:
    """Return the images and labels of one file. Raises UserError naming it."""
    try:
        arrays = read_arrays(content.raw)
    except (ValueError, struct.error) as error:
        raise content.damaged(f"it is no readable MATLAB file of level 5: {error}") from None
    for name in ("X", "y"):
        if name not in arrays:
            raise content.damaged(f"it has no array {name!r}")
    images, labels = arrays["X"], arrays["y"].reshape(-1).astype(np.int64)
    item = (content.spec.image_size, content.spec.image_size, content.spec.in_channels)
    if images.ndim != 4 or images.shape[:3] != item:
        raise content.damaged(f"its images have shape {images.shape}, not {(*item, 'N')}".replace("'", ""))
    labels[labels == 10] = 0  # MATLAB counts from 1, and the digit 0 came last
    return check(Arrays(np.ascontiguousarray(images.transpose(3, 2, 0, 1)), labels), content)


def read_arrays(raw: bytes) -> dict[str, Uint8]:
    """Return the arrays of bytes in a file by name, column-major as they lie. Raises ValueError or struct.error."""
    if raw[HEADER - 2 : HEADER] != LITTLE_ENDIAN:
        raise ValueError("its header is another one")
    arrays = {}
    for kind, body in elements(memoryview(raw)[HEADER:]):
        if kind == COMPRESSED:
            kind, body = next(elements(memoryview(decompress(body, wbits=ZLIB))), (0, body))
        if kind == MATRIX:
            parts = [*elements(body)]
            if len(parts) < 4:
                raise ValueError("it holds half an array")
            (_, flags), (_, shape), (_, name), (kind, values) = parts[:4]
            if kind != UINT8 or flags[:1] != bytes([UINT8_CLASS]):
                raise ValueError(f"its array {bytes(name)!r} is not of bytes")
            sizes = np.frombuffer(shape, "<i4")
            arrays[bytes(name).decode("latin1")] = np.frombuffer(values, np.uint8).reshape(sizes, order="F")
    return arrays


def elements(data: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Yield type and bytes of one data element after the other. Raises ValueError or struct.error for damaged ones."""
    while data:
        kind, size = struct.unpack_from("<II", data)
        start, padded = 8, size + (-size % 8 if kind != COMPRESSED else 0)
        if kind >> 16:  # up to four bytes stand in the tag itself
            kind, size, start, padded = kind & 0xFFFF, kind >> 16, 4, 4
        if start + size > len(data):
            raise ValueError("it ends in the middle")
        yield kind, data[start : start + size]
        data = data[start + padded :]
