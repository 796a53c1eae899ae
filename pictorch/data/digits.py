"""The digits that ship with the package: 1,797 scans of 8x8 in 10 classes, for runs that need no download.

They are the test part of "Optical Recognition of Handwritten Digits" (E. Alpaydin and C. Kaynak, UCI Machine Learning
Repository, 1998, https://doi.org/10.24432/C50P49, CC BY 4.0), in its order, equal to scikit-learn's `load_digits`.
Each value counts the inked pixels, 0..16, of a 4x4 block of a scan of 32x32. `digits.npz` holds `images`
uint8 [1797,8,8] of these counts and `labels` uint8 [1797], both compressed, with a fixed time stamp.

The source has no split of these scans. Ours draws nothing at random: of each class, in file order, every fifth image
is a test image (355), the others are for training (1,442).
"""

import io
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from pictorch.data.checks import Arrays, check
from pictorch.data.files import Content

MOST_INK = 16


def read(contents: Iterable[Content]) -> dict[str, Arrays]:
    """Return {"train": ..., "test": ...}: images uint8 [N,1,8,8] in 0..255, labels int64 [N]. Raises UserError."""
    (content,) = contents
    try:
        with np.load(io.BytesIO(content.raw), allow_pickle=False) as archive:
            counts, labels = archive["images"], archive["labels"].astype(np.int64)
    # Damaged bytes end in exceptions of zipfile, zlib or numpy, according to where the damage is.
    except Exception as error:
        raise content.damaged(f"it is no readable archive: {type(error).__name__}: {str(error)[:200]!r}") from None
    size = content.spec.image_size
    if counts.dtype != np.uint8 or counts.shape[1:] != (size, size) or counts.max(initial=0) > MOST_INK:
        raise content.damaged(f"its images are not bytes 0..{MOST_INK} of shape (N, {size}, {size})")
    images, labels = check(Arrays(to_pixels(counts)[:, None], labels), content)
    test = is_test(labels)
    return {"train": Arrays(images[~test], labels[~test]), "test": Arrays(images[test], labels[test])}


def to_pixels(counts: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Return counts of ink 0..16 as pixels 0..255, count * 255 / 16 rounded half up.

    The range is that of image files, so that a network trained on the digits can be asked about one.
    """
    return ((counts.astype(np.uint16) * 255 + MOST_INK // 2) // MOST_INK).astype(np.uint8)


def to_counts(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Return pixels 0..255 as counts of ink 0..16, rounded: the exact inverse of `to_pixels`."""
    return ((pixels.astype(np.uint16) * MOST_INK + 127) // 255).astype(np.uint8)


def is_test(labels: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Return, for each label [N], whether its image is a test image: every fifth of its class, in the order given."""
    test = np.zeros(len(labels), np.bool_)
    for label in np.unique(labels):
        test[np.flatnonzero(labels == label)[4::5]] = True
    return test
