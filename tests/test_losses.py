"""The loss against its definition written out."""

import torch
import torch.nn.functional as F

from pictorch.losses import cross_entropy


def test_soft_targets() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(6, 4, generator=generator)
    targets = torch.rand(6, 4, generator=generator).softmax(dim=1)
    expected = 0.0
    for n in range(6):
        log_sum = torch.logsumexp(logits[n].double(), dim=0)
        expected += sum(float(targets[n, k] * (log_sum - logits[n, k])) for k in range(4)) / 6
    assert abs(float(cross_entropy(logits, targets)) - expected) < 1e-6


def test_one_hot_targets_are_labels() -> None:
    logits, labels = torch.randn(6, 4), torch.tensor([0, 1, 2, 3, 0, 1])
    targets = F.one_hot(labels, 4).float()
    torch.testing.assert_close(cross_entropy(logits, targets), F.cross_entropy(logits, labels))


def test_low_precision_logits_are_computed_in_float32() -> None:
    logits = torch.randn(6, 4).to(torch.bfloat16)
    targets = torch.eye(4)[[0, 1, 2, 3, 0, 1]]
    loss = cross_entropy(logits, targets)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, cross_entropy(logits.float(), targets), rtol=0, atol=0)
