"""Doubtful labels against the definition in a loop, and on labels that were made wrong."""

import torch

from pictorch.metrics.labels import suspects


def slow(probabilities: list[list[float]], labels: list[int]) -> list[int]:
    classes = len(probabilities[0])
    rows = list(zip(probabilities, labels, strict=True))
    means = {k: [row[k] for row, y in rows if y == k] for k in range(classes)}
    bound = {k: sum(values) / len(values) for k, values in means.items() if values}
    margins = {}
    for i, (row, y) in enumerate(rows):
        credible = [k for k in bound if row[k] >= bound[k]]
        if credible:
            answer = max(credible, key=lambda k: (row[k], -k))
            if answer != y:
                margins[i] = row[answer] - row[y]
    return sorted(margins, key=lambda i: (-margins[i], i))


def test_suspects_are_those_of_the_definition() -> None:
    generator = torch.Generator().manual_seed(0)
    probabilities = (2 * torch.randn(300, 6, generator=generator)).softmax(dim=1).double()
    labels = torch.randint(0, 5, (300,), generator=generator)  # no image has the last label
    found = suspects(probabilities, labels).tolist()
    assert found == slow(probabilities.tolist(), labels.tolist())
    assert found


def test_labels_that_were_made_wrong_are_found_first() -> None:
    generator = torch.Generator().manual_seed(1)
    true = torch.randint(0, 4, (400,), generator=generator)
    logits = torch.randn(400, 4, generator=generator) + 9 * torch.nn.functional.one_hot(true, 4)
    given = true.clone()
    given[:20] = (given[:20] + 1) % 4
    found = suspects(logits.softmax(dim=1), given).tolist()
    assert set(found[:20]) == set(range(20))
    assert len(found) <= 25


def test_right_answers_are_no_suspects() -> None:
    labels = torch.tensor([0, 1, 2])
    assert suspects(torch.eye(3), labels).tolist() == []
