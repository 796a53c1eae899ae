"""Images whose label may be wrong: confident learning (C. Northcutt, L. Jiang, I. Chuang, arXiv:1911.00068).

The probabilities must be of images that the network was not trained on.
"""

import torch
from torch import Tensor


def suspects(probabilities: Tensor, labels: Tensor) -> Tensor:
    """Return int64 [m]: the images whose label is doubtful, the most doubtful first.

    A class is credible for an image if its probability [N,K] is at least the mean one that images with its label have
    (section 3.1); of credible classes the most probable counts. Doubtful are images where that is another class than
    the label [N] (the off-diagonal of the confident joint); they are sorted by how much more probable it is than the
    label (the normalised margin, section 3.2).
    """
    classes, values = probabilities.shape[1], probabilities.double()
    of_label = values.gather(1, labels[:, None])[:, 0]
    counts = torch.bincount(labels, minlength=classes)
    means = torch.zeros(classes, dtype=torch.float64).index_add(0, labels, of_label) / counts
    # No image has the label: nothing says how sure the network is of the class.
    means[counts == 0] = torch.inf
    credible = torch.where(values >= means, values, -1)
    most, answer = credible.max(dim=1)
    doubtful = ((most >= 0) & (answer != labels)).nonzero()[:, 0]
    margin = most[doubtful] - of_label[doubtful]
    return doubtful[margin.argsort(descending=True, stable=True)]
