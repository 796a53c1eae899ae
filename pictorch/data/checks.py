"""What every reader hands over, and the checks that every format shares."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pictorch.data.files import Content


class Arrays(NamedTuple):
    """The images uint8 [N,C,H,W] and labels int64 [N] of one part of a data set."""

    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]


def check(part: Arrays, content: Content) -> Arrays:
    """Return `part` if it has images, a label for each and only labels of the set's classes.

    Raises UserError naming the file of the labels, `content`.
    """
    images, labels = len(part.images), len(part.labels)
    if images != labels:
        raise content.damaged(f"it has {labels:,} labels for {images:,} images")
    if labels == 0:
        raise content.damaged("it has no images")
    least, most, classes = part.labels.min(), part.labels.max(), len(content.spec.classes)
    if least < 0 or most >= classes:
        raise content.damaged(f"its labels go from {least} to {most}, those of its {classes} classes from 0 on")
    return part
