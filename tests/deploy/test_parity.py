"""What is refused, and by how little: answers beside the network's."""

import pytest
import torch
from torch import Tensor

from pictorch.config import UserError
from pictorch.deploy import parity
from pictorch.deploy.parity import TOLERANCE, Answers, Refused

CLASSES = ("cat", "dog", "ship")
LABELS = torch.tensor([0, 1, 2, 0])
LOGITS = torch.tensor([[4.0, 0, -4], [0, 4, 0], [-4, 0, 4], [0, 4, -4]])
SCALE = float(LOGITS.square().mean().sqrt())


def of(logits: Tensor) -> Answers:
    return Answers(logits.softmax(1), logits, LABELS)


def moved(by: float, image: int = 2, k: int = 1) -> Answers:
    logits = LOGITS.clone()
    logits[image, k] += by
    return of(logits)


def test_figures_are_those_of_their_definitions() -> None:
    figures = parity.compare(of(LOGITS), moved(6.0))
    assert figures == {
        "images": 4,
        "top1": 50.0,
        "network_top1": 75.0,
        "changed_answers": 1,
        "largest_difference": 6.0,
        "logits_rms": pytest.approx(SCALE),
        "relative_difference": pytest.approx(6 / SCALE),
    }


def test_a_difference_within_the_tolerance_passes_and_one_beyond_it_is_named() -> None:
    figures = parity.check_same(of(LOGITS), moved(0.9 * TOLERANCE * SCALE), CLASSES)
    assert figures["tolerance"] == TOLERANCE
    assert 0 < figures["relative_difference"] < TOLERANCE
    with pytest.raises(
        Refused, match=r"the logit of class 'dog' for test image 2 is 0\.000.* by the file and 0 by the"
    ):
        parity.check_same(of(LOGITS), moved(1.2 * TOLERANCE * SCALE), CLASSES)


def test_an_answer_that_changes_within_the_tolerance_of_the_logits_is_still_refused() -> None:
    tie = LOGITS.clone()
    tie[0] = torch.tensor([4.0, 4 - 1e-5, -4])
    other = tie.clone()
    other[0, 1] += 2e-5
    with pytest.raises(Refused, match=r"top-1 is 50\.00% by the file and 75\.00% by the network; 0\.01 points"):
        parity.check_same(of(tie), of(other), CLASSES)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_logits_that_are_not_finite(bad: float) -> None:
    with pytest.raises(Refused, match="the file's logits of test image 2 are not finite"):
        parity.check_same(of(LOGITS), moved(bad), CLASSES)
    with pytest.raises(UserError, match="own network has no finite logits for test image 2; there is nothing to"):
        parity.reference(lambda images: (images, moved(bad).logits), [(LOGITS, LABELS)])


def test_probabilities_that_are_not_the_softmax_of_the_logits() -> None:
    found = Answers((2 * LOGITS).softmax(1), LOGITS, LABELS)
    for check in (lambda: parity.check_same(of(LOGITS), found, CLASSES), lambda: parity.check_loss(found, found, 9)):
        with pytest.raises(Refused, match=r"the file's probabilities of test image . differ by .* from the softmax"):
            check()


def test_a_loss_is_allowed_up_to_its_bound() -> None:
    assert parity.check_loss(of(LOGITS), moved(6.0), 25)["loss"] == 25
    with pytest.raises(Refused, match=r"falls from 75\.00% to 50\.00%, by 25\.00 points, where 24\.9 are allowed"):
        parity.check_loss(of(LOGITS), moved(6.0), 24.9)
    assert parity.check_loss(moved(6.0), of(LOGITS), 0)["loss"] == -25


def test_batches_come_together_in_order() -> None:
    batches = [(LOGITS[:3], LABELS[:3]), (LOGITS[3:], LABELS[3:])]
    found = parity.answers(lambda images: (images.softmax(1), images), batches)
    assert torch.equal(found.logits, LOGITS)
    assert torch.equal(found.labels, LABELS)
    assert found.top1 == 75
