"""Counts gathered on the device, numbers computed at the end. Only `compute` reads the device."""

from typing import Any

import torch
from torch import Tensor


def in_top_k(logits: Tensor, labels: Tensor, k: int) -> Tensor:
    """Return a bool [N]: whether labels [N] are among the k largest of logits [N,K]; ties count for the lower class.

    With fewer than k classes every label is.
    """
    ranked = logits.sort(dim=1, descending=True, stable=True).indices[:, :k]
    return (ranked == labels[:, None]).any(dim=1)


class TrainMeter:
    """One epoch's training loss and error: a loss for every step, so that the step that broke can be named."""

    def __init__(self, *, steps: int, device: torch.device) -> None:
        self.losses = torch.zeros(steps, device=device)
        self.weights = torch.zeros(steps)
        self.errors = torch.zeros((), dtype=torch.int64, device=device)
        self.steps = 0

    def add(self, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Count one step: its mean loss, and how many of labels [N] the largest of logits [N,K] misses."""
        self.losses[self.steps] = loss.detach()
        self.weights[self.steps] = len(labels)
        self.errors += (logits.argmax(dim=1) != labels).sum()
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


class Confusion:
    """Counts of a classifier's answers: a matrix [K,K], rows the true class, columns the answer, and top-5 hits."""

    def __init__(self, num_classes: int, device: torch.device) -> None:
        self.num_classes = num_classes
        self.counts = torch.zeros(num_classes * num_classes, dtype=torch.int64, device=device)
        self.top5 = torch.zeros((), dtype=torch.int64, device=device)

    def add(self, logits: Tensor, labels: Tensor) -> None:
        """Count logits [N,K] against labels [N]."""
        cells = labels * self.num_classes + logits.argmax(dim=1)
        self.counts += torch.bincount(cells, minlength=len(self.counts))
        self.top5 += in_top_k(logits, labels, 5).sum()

    def compute(self) -> dict[str, Any]:
        """Return `images`, `top1` and `top5` (per cent) and `confusion` (a list of rows). Reads the device."""
        matrix = self.counts.reshape(self.num_classes, self.num_classes).cpu()
        images = int(matrix.sum())
        return {
            "images": images,
            "top1": 100 * int(matrix.diagonal().sum()) / images,
            "top5": 100 * int(self.top5) / images,
            "confusion": matrix.tolist(),
        }
