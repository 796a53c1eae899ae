"""Constraints: what they answer, and what is no constraint."""

import pytest

from pictorch.config import ConfigError
from pictorch.experiments.constraints import Constraint

VALUES = {
    "optim.lr": 0.1,
    "train.batch_size": 128,
    "schedule.name": "cosine",
    "optim.nesterov": True,
    "augment.cutout": None,
    "model.preact_stage": [True, False, False],
}


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("optim.lr <= train.batch_size / 64", True),
        ("optim.lr * 10 - 1 == 0", True),
        ("optim.lr > train.batch_size / 64", False),
        ("0.05 < optim.lr < 0.2", True),
        ("0.05 < optim.lr < 0.1", False),
        ("-optim.lr + 1 >= 0.9", True),
        ("schedule.name in ['cosine', 'linear'] and not train.batch_size == 64", True),
        ("schedule.name not in ['cosine'] or optim.nesterov == true", True),
        ("augment.cutout == null", True),
        ("augment.cutout.size != null", False),
        ("augment.cutout.size == null or augment.cutout.size < 8", True),
        ("model.preact_stage == [true, false, false]", True),
        ("not optim.nesterov", False),
    ],
)
def test_answers(text: str, answer: bool) -> None:
    assert Constraint.read(text, "grid.yaml:3").holds(VALUES) is answer


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("optim.lr", "expected a comparison, for example"),
        ("3", "expected a comparison"),
        ("optim.lr <", "this is no comparison"),
        ("", "this is no comparison"),
        ("optim.lr = 1", "this is no comparison"),
        ("optim.lrs < 1", r"optim\.lrs is no key of a configuration; did you mean 'lr'"),
        ("lr < 1", r"lr is no key of a configuration; did you mean 'optim\.lr'"),
        ("__import__('os').system('true') == 0", r"__import__.*: only comparisons, and/or/not"),
        ("optim.lr ** 2 < 1", "Pow: only comparisons"),
        ("optim.lr is null", "Is: only comparisons"),
        ("~optim.lr < 1", "Invert: only comparisons"),
        ("[x for x in optim.lr] == 1", "only comparisons"),
        ("optim.lr < 1j", "1j: only comparisons"),
        ("(lambda: 1) == 1", "only comparisons"),
        ("optim.lr[0] < 1", "only comparisons"),
        ("(" * 500 + "1" + ")" * 500 + " < 1", "expected at most 1000 characters|this is no comparison"),
    ],
)
def test_what_is_no_constraint(text: str, why: str) -> None:
    with pytest.raises(ConfigError, match=rf"^grid\.yaml:3: [\s\S]*({why})"):
        Constraint.read(text, "grid.yaml:3")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("optim.lr < schedule.name", r"optim\.lr is 0\.1 and schedule\.name is 'cosine': neither is the larger"),
        ("augment.cutout.size < 3", r"augment\.cutout\.size is null and 3 is 3: neither is the larger"),
        ("schedule.name * 3 == 1", r"schedule\.name is 'cosine', expected a number"),
        ("optim.lr / 0 < 1", r"optim\.lr / 0: .*division by zero"),
        ("optim.lr in train.batch_size", r"train\.batch_size is 128, expected a list"),
    ],
)
def test_what_has_no_answer(text: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        Constraint.read(text, "grid.yaml:3").holds(VALUES)
