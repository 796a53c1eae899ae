"""Whether an exported file answers as the network does: every logit, every answer and the accuracy, over test images.

The scale of a difference is the root mean square of all logits of the network over the images that are compared, so
that one bound serves networks whose logits are large and small.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pictorch.config import UserError

# Images uint8 [B,C,S,S] and labels int64 [B], batch by batch; gone through several times.
Batches = Iterable[tuple[Tensor, Tensor]]
# Images uint8 [B,C,S,S] -> probabilities and logits, float32 [B,K].
Answer = Callable[[Tensor], tuple[Tensor, Tensor]]

TOLERANCE = 1e-4  # the largest difference of a logit, in units of the scale
ACCURACY_TOLERANCE = 0.01  # the largest difference of top-1, in percentage points: one answer of 10,000
PROBABILITY_TOLERANCE = 1e-5  # between a file's probabilities and the softmax of its logits


class Refused(Exception):
    """An exported file that does not answer as it must, and was not kept. The message says what differed."""


@dataclass(frozen=True, eq=False)
class Answers:
    """Probabilities and logits float32 [N,K] and labels int64 [N] of N images, in order."""

    probabilities: Tensor
    logits: Tensor
    labels: Tensor

    @property
    def classes(self) -> Tensor:
        """The most probable class of each image, int64 [N]."""
        return self.logits.argmax(dim=1)

    @property
    def top1(self) -> float:
        """The per cent of images whose most probable class is their label."""
        return 100 * int((self.classes == self.labels).sum()) / len(self.labels)


def answers(answer: Answer, batches: Batches) -> Answers:
    """Return the answers to all images of the batches."""
    rows = [(*answer(images), labels) for images, labels in batches]
    probabilities, logits, labels = (torch.cat(column) for column in zip(*rows, strict=True))
    return Answers(probabilities, logits, labels)


def reference(answer: Answer, batches: Batches) -> Answers:
    """Return the network's own answers. Raises UserError for logits that are not finite, which nothing can equal."""
    found = answers(answer, batches)
    if (bad := not_finite(found.logits)) is not None:
        raise UserError(f"the run's own network has no finite logits for test image {bad}; there is nothing to export")
    return found


def not_finite(logits: Tensor) -> int | None:
    """Return the number of the first image with a logit that is infinite or not a number; None where all are finite."""
    bad = (~logits.isfinite()).any(dim=1)
    return int(bad.int().argmax()) if bad.any() else None


def compare(expected: Answers, found: Answers) -> dict[str, Any]:
    """Return how far a file's answers lie from the network's, as plain values; accuracies in per cent."""
    scale = float(expected.logits.double().square().mean().sqrt())
    apart = float((found.logits.double() - expected.logits.double()).abs().max())
    return {
        "images": len(expected.labels),
        "top1": found.top1,
        "network_top1": expected.top1,
        "changed_answers": int((found.classes != expected.classes).sum()),
        "largest_difference": apart,
        "logits_rms": scale,
        "relative_difference": apart / scale if scale else apart,
    }


def check_form(found: Answers) -> None:
    """Raise Refused unless all logits are finite and the probabilities are their softmax."""
    if (bad := not_finite(found.logits)) is not None:
        raise Refused(f"the file's logits of test image {bad} are not finite; the network's are")
    apart = (found.probabilities - found.logits.softmax(dim=1)).abs()
    if not (worst := float(apart.max())) <= PROBABILITY_TOLERANCE:  # nor may it be NaN
        raise Refused(
            f"the file's probabilities of test image {int(apart.amax(dim=1).argmax())} differ by {worst:.2g} from the "
            f"softmax of its own logits; at most {PROBABILITY_TOLERANCE:g} is allowed"
        )


def check_same(expected: Answers, found: Answers, classes: Sequence[str]) -> dict[str, Any]:
    """Return `compare`'s figures of a file that must answer as the network does.

    Raises Refused naming the image and the class of the largest difference where a logit or the accuracy is off.
    """
    check_form(found)
    figures = compare(expected, found)
    if figures["largest_difference"] > TOLERANCE * figures["logits_rms"]:
        apart = (found.logits - expected.logits).abs()
        image, k = divmod(int(apart.argmax()), apart.shape[1])
        raise Refused(
            f"the logit of class {classes[k]!r} for test image {image} is {float(found.logits[image, k]):.6g} by the "
            f"file and {float(expected.logits[image, k]):.6g} by the network: a difference of "
            f"{figures['relative_difference']:.2g} of the logits' root mean square "
            f"({figures['logits_rms']:.4g}), where {TOLERANCE:g} is allowed"
        )
    if abs(figures["top1"] - figures["network_top1"]) > ACCURACY_TOLERANCE * (1 + 1e-9):
        raise Refused(
            f"top-1 is {figures['top1']:.2f}% by the file and {figures['network_top1']:.2f}% by the network; "
            f"{ACCURACY_TOLERANCE:g} points are allowed ({figures['changed_answers']} answers differ)"
        )
    return figures | {"tolerance": TOLERANCE, "accuracy_tolerance": ACCURACY_TOLERANCE}


def check_loss(expected: Answers, found: Answers, max_loss: float) -> dict[str, Any]:
    """Return `compare`'s figures of a file that may lose `max_loss` percentage points of top-1. Raises Refused."""
    check_form(found)
    figures = compare(expected, found)
    figures |= {"loss": figures["network_top1"] - figures["top1"], "max_loss": max_loss}
    if figures["loss"] > max_loss:
        raise Refused(
            f"top-1 falls from {figures['network_top1']:.2f}% to {figures['top1']:.2f}%, by {figures['loss']:.2f} "
            f"points, where {max_loss:g} are allowed (--max-loss)"
        )
    return figures
