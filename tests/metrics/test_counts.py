"""Metrics against scikit-learn and against loops."""

import warnings

import pytest
import torch
from sklearn import metrics as oracle

from pictorch.metrics import TrainMeter, confusion, errors, per_class, ranked


def test_ranked_is_top_k_accuracy() -> None:
    generator = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(200, 8, generator=generator), torch.randint(0, 8, (200,), generator=generator)
    classes, probabilities = ranked(logits, 5)
    for k in (1, 3, 5):
        hits = (classes[:, :k] == labels[:, None]).any(dim=1).float().mean()
        expected = oracle.top_k_accuracy_score(labels.numpy(), logits.numpy(), k=k, labels=range(8))
        assert float(hits) == pytest.approx(expected)
    torch.testing.assert_close(probabilities, logits.softmax(dim=1).gather(1, classes))


def test_of_equal_logits_the_lower_class_comes_first() -> None:
    classes, _ = ranked(torch.tensor([[1.0, 2.0, 2.0, 0.0], [3.0, 3.0, 3.0, 3.0]]), 5)
    assert classes.tolist() == [[1, 2, 0, 3], [0, 1, 2, 3]]


def test_logits_rank_where_probabilities_cannot() -> None:
    classes, probabilities = ranked(torch.tensor([[0.0, -150.0, -120.0, -110.0, -130.0]]), 5)
    assert classes.tolist() == [[0, 3, 2, 4, 1]]
    assert probabilities[0, 1:].max() == 0


def test_confusion_and_per_class_figures() -> None:
    generator = torch.Generator().manual_seed(1)
    labels, predicted = (torch.randint(0, 4, (300,), generator=generator) for _ in range(2))
    matrix = confusion(predicted, labels, 5)
    assert matrix.tolist() == oracle.confusion_matrix(labels, predicted, labels=range(5)).tolist()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        precision, recall, f1, images = oracle.precision_recall_fscore_support(labels, predicted, labels=range(5))
    for k, row in enumerate(per_class(matrix)[:4]):
        assert row["images"] == images[k]
        assert (row["precision"], row["recall"], row["f1"]) == pytest.approx(
            (100 * precision[k], 100 * recall[k], 100 * f1[k])
        )
    assert per_class(matrix)[4] == {"images": 0, "recall": None, "precision": None, "f1": None}


def test_the_train_meter_weighs_batches_by_their_images() -> None:
    meter = TrainMeter(steps=3, device=torch.device("cpu"))
    meter.add(torch.tensor(1.0), errors(torch.tensor([[1.0, 0.0]] * 4), torch.tensor([0, 0, 0, 1])), images=4)
    meter.add(torch.tensor(4.0), errors(torch.tensor([[1.0, 0.0]] * 2), torch.tensor([1, 1])), images=2)
    assert meter.compute() == {"train_loss": 2.0, "train_error": 50.0}
    copy = TrainMeter(steps=3, device=torch.device("cpu"))
    copy.load_state_dict(meter.state_dict())
    assert copy.compute() == meter.compute()
    assert copy.first_bad_step() is None
    copy.add(torch.tensor(float("nan")), torch.tensor(1), images=1)
    assert copy.first_bad_step() == 2
