"""What a configuration's runs answered on the test images: recall of each class, confusions, surest mistakes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pictorch import runs
from pictorch.reports.reading import Run, printable
from pictorch.runs import RunError

MOST_OF_MATRIX = 30  # classes; of more, only the most frequent confusions are told
MOST_CLASSES = 100
MOST_CONFUSIONS = 30
MOST_MISTAKES = 24

Counts = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True)
class Mistake:
    """A test image that was answered wrongly: its place in the test part, label, answer, and how sure that was."""

    index: int
    label: str
    predicted: str
    probability: float


def confusion(runs_of: Sequence[Run], num_classes: int) -> Counts:
    """Return counts [K,K] of the runs' answers together: row = true class, column = answer. Raises RunError."""
    total = np.zeros((num_classes, num_classes), np.int64)
    for run in runs_of:
        labels, answers = answered(run)
        if (most := int(max(labels.max(), answers.max()))) >= num_classes:
            raise RunError(f"{run.directory.predictions}: class {most} of {num_classes} classes: expected less")
        pairs = labels * num_classes + answers
        total += np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)
    return total


def answered(run: Run) -> tuple[Counts, Counts]:
    """Return label and answer [N] of a run's test images. Raises RunError without them."""
    path = run.directory.predictions
    try:
        with np.load(path, allow_pickle=False) as archive:
            labels, answers = archive["label"].astype(np.int64), archive["classes"][:, 0].astype(np.int64)
    # Damaged bytes end in exceptions of zipfile, zlib or numpy, according to where the damage is.
    except Exception as error:
        raise RunError(f"{path}: cannot read this file of the run: {error}") from None
    if labels.shape != answers.shape or not len(labels) or min(labels.min(), answers.min()) < 0:
        raise RunError(f"{path}: expected label [N] and classes [N,5] of some images")
    return labels, answers


def of_classes(counts: Counts, names: Sequence[str]) -> dict[str, Any]:
    """Return confusions as plain values: the matrix of few classes, else the worst recalls and frequent confusions."""
    if len(counts) <= MOST_OF_MATRIX:
        return {"answers": int(counts.sum()), "matrix": counts.tolist()}
    images = counts.sum(axis=1)
    right = counts.diagonal()
    recall = np.where(images > 0, right / np.maximum(images, 1), np.nan)
    worst = np.argsort(recall, kind="stable")[:MOST_CLASSES]
    wrong = counts - np.diag(right)
    frequent = np.argsort(-wrong, axis=None, kind="stable")[:MOST_CONFUSIONS]
    pairs = [divmod(int(place), len(counts)) for place in frequent]
    return {
        "answers": int(counts.sum()),
        "recalls": [[names[i], int(right[i]), int(images[i])] for i in worst.tolist() if images[i]],
        "confused": [[names[i], names[j], int(wrong[i, j])] for i, j in pairs if wrong[i, j]],
    }


def mistakes(run: Run) -> list[Mistake]:
    """Return a run's surest mistakes, surest first. Raises RunError where their file is missing or damaged."""
    listed = runs.read_json(run.directory.mistakes).get("mistakes")
    try:
        assert isinstance(listed, list)
        return [
            Mistake(int(m["index"]), printable(m["label"]), printable(m["predicted"]), float(m["probability"]))
            for m in listed[:MOST_MISTAKES]
        ]
    except (AssertionError, KeyError, TypeError, ValueError):
        raise RunError(f"{run.directory.mistakes}: this is not the list of mistakes that the run wrote") from None
