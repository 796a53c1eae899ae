"""Counts gathered on the device, numbers computed at the end. Only `compute` reads the device."""

from typing import Any

import torch
from torch import Tensor


class TrainMeter:
    """One epoch's training loss and error: a loss for every step, so that the step that broke can be named."""

    def __init__(self, *, steps: int, device: torch.device) -> None:
        self.losses = torch.zeros(steps, device=device)
        self.weights = torch.zeros(steps)
        self.errors = torch.zeros((), dtype=torch.int64, device=device)
        self.steps = 0

    def add(self, loss: Tensor, errors: Tensor, *, images: int) -> None:
        """Count one step of so many images: its mean loss [], and how many were given another class than theirs []."""
        self.losses[self.steps] = loss
        self.weights[self.steps] = images
        self.errors += errors
        self.steps += 1

    def compute(self) -> dict[str, float]:
        """Return train_loss (mean over images) and train_error (per cent) of the steps so far. Reads the device."""
        images = self.weights[: self.steps].sum()
        losses = self.losses[: self.steps].cpu().double()
        return {
            "train_loss": float((losses * self.weights[: self.steps]).sum() / images),
            "train_error": 100 * float(self.errors) / float(images),
        }

    def first_bad_step(self) -> int | None:
        """Return the first step of the epoch (from 0) whose loss is not finite, or None. Reads the device."""
        bad = (~torch.isfinite(self.losses[: self.steps])).nonzero()
        return int(bad[0]) if len(bad) else None

    def state_dict(self) -> dict[str, Any]:
        return {"losses": self.losses, "weights": self.weights, "errors": self.errors, "steps": self.steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.losses.copy_(state["losses"])
        self.weights.copy_(state["weights"])
        self.errors.copy_(state["errors"])
        self.steps = state["steps"]


def errors(logits: Tensor, labels: Tensor) -> Tensor:
    """Return int64 [], on the device: how many of labels [N] the largest of logits [N,K] misses."""
    return (logits.argmax(dim=1) != labels).sum()


def ranked(logits: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the k most probable classes int64 [N,k] of logits [N,K], best first, and their probabilities [N,k].

    Of equal logits the lower class comes first, as `argmax` has it. With fewer than k classes, k is their number.
    """
    # The logits decide: probabilities of different logits can be equal in float32.
    classes = logits.argsort(dim=1, descending=True, stable=True)[:, :k]
    return classes, logits.softmax(dim=1).gather(1, classes)


def confusion(predicted: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """Return int64 [K,K]: how many images of each true class (row) were given each class (column)."""
    cells = labels * num_classes + predicted
    return torch.bincount(cells, minlength=num_classes * num_classes).reshape(num_classes, num_classes)


def per_class(matrix: Tensor) -> list[dict[str, float | int | None]]:
    """Return for each class of a confusion matrix [K,K]: images, and recall, precision and F1 in per cent.

    A class without images has no recall, one that is never predicted no precision (None).
    """
    rows: list[dict[str, float | int | None]] = []
    for k in range(len(matrix)):
        hits, images, answers = int(matrix[k, k]), int(matrix[k].sum()), int(matrix[:, k].sum())
        rows.append(
            {
                "images": images,
                "recall": 100 * hits / images if images else None,
                "precision": 100 * hits / answers if answers else None,
                "f1": 200 * hits / (images + answers) if images + answers else None,
            }
        )
    return rows
