"""Out-of-distribution scores and their AUROC against scikit-learn."""

import pytest
import torch
from sklearn import metrics as oracle

from pictorch.metrics.strangers import SCORES, accepted_at, auroc


def test_auroc_is_scikit_learns_with_ties_too() -> None:
    generator = torch.Generator().manual_seed(0)
    own = torch.randint(2, 12, (500,), generator=generator).double()
    strangers = torch.randint(0, 9, (300,), generator=generator).double()
    truth = torch.cat([torch.ones(500), torch.zeros(300)])
    expected = oracle.roc_auc_score(truth, torch.cat([own, strangers]))
    assert auroc(own, strangers) == pytest.approx(expected, abs=1e-12)
    assert auroc(strangers, own) == pytest.approx(1 - expected, abs=1e-12)
    assert auroc(own, own) == 0.5


def test_accepted_strangers_are_those_of_the_roc_curve() -> None:
    generator = torch.Generator().manual_seed(1)
    own, strangers = 1 + torch.randn(400, generator=generator), torch.randn(250, generator=generator)
    false, true, _ = oracle.roc_curve(
        torch.cat([torch.ones(400), torch.zeros(250)]), torch.cat([own, strangers]), drop_intermediate=False
    )
    assert accepted_at(own, strangers) == pytest.approx(float(false[true >= 0.95][0]), abs=1e-12)
    assert accepted_at(own, own - 100) == 0


def test_scores_by_their_formulas() -> None:
    logits = torch.randn(20, 5, generator=torch.Generator().manual_seed(2))
    found = {name: score(logits) for name, score in SCORES.items()}
    torch.testing.assert_close(found["largest probability"].sigmoid(), logits.double().softmax(dim=1).max(dim=1).values)
    torch.testing.assert_close(found["largest logit"], logits.double().max(dim=1).values)
    torch.testing.assert_close(found["energy"], logits.double().exp().sum(dim=1).log())


def test_sure_answers_are_still_told_apart() -> None:
    logits = torch.tensor([[80.0, 0.0], [90.0, 0.0]])
    score = SCORES["largest probability"](logits)
    assert score[1] > score[0]
