"""The textbook way to load images: a torch DataLoader that transforms one image after the other with NumPy.

Written as such programs are, and as fast as that way allows: what our loader is measured against.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

Array = npt.NDArray[Any]
Transform = Callable[[Array], Array]


def random_crop(image: Array, padding: int = 4) -> Array:
    """Return the image [H,W,C] padded with black on each side and cropped to its size."""
    height, width, _ = image.shape
    padded = np.pad(image, ((padding, padding), (padding, padding), (0, 0)))
    top, left = np.random.randint(2 * padding + 1, size=2)
    return padded[top : top + height, left : left + width]


def random_flip(image: Array) -> Array:
    """Return the image or its mirror image."""
    return image[:, ::-1] if np.random.random() < 0.5 else image


def normalise(image: Array, mean: Array, std: Array) -> Array:
    """Return (image / 255 - mean) / std as float32."""
    return ((image.astype(np.float32) / 255 - mean) / std).astype(np.float32)


def cutout(image: Array, size: int = 16) -> Array:
    """Return a normalised image with a square of zeros around a random centre."""
    height, width, _ = image.shape
    y, x = np.random.randint(height + 1), np.random.randint(width + 1)
    top, left = max(0, y - size // 2), max(0, x - size // 2)
    image = image.copy()
    image[top : max(0, y - size // 2 + size), left : max(0, x - size // 2 + size)] = 0
    return image


def random_erasing(image: Array, prob: float = 0.5) -> Array:
    """Return a normalised image, every second time with a random rectangle of random values (arXiv:1708.04896)."""
    if np.random.random() >= prob:
        return image
    height, width, channels = image.shape
    for _ in range(20):
        area = np.random.uniform(0.02, 0.4) * height * width
        aspect = np.random.uniform(0.3, 1 / 0.3)
        h, w = int(np.sqrt(area * aspect)), int(np.sqrt(area / aspect))
        if h < height and w < width:
            top, left = np.random.randint(height - h), np.random.randint(width - w)
            image = image.copy()
            image[top : top + h, left : left + w] = np.random.random((h, w, channels))
            break
    return image


class Images(Dataset[tuple[Tensor, int]]):
    """Images uint8 [N,H,W,C] and labels, each image through the transforms when it is asked for."""

    def __init__(self, images: Array, labels: Sequence[int], transforms: Sequence[Transform]) -> None:
        self.images, self.labels, self.transforms = images, labels, transforms

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = self.images[index]
        for transform in self.transforms:
            image = transform(image)
        return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))), self.labels[index]


def mixup(batch: list[tuple[Tensor, int]]) -> tuple[Tensor, Tensor]:
    """Collate and mix a batch; targets are distributions over 10 classes."""
    images, labels = default_collate(batch)
    share, order = np.random.beta(1, 1), torch.randperm(len(images))
    targets = torch.nn.functional.one_hot(labels, 10).float()
    return share * images + (1 - share) * images[order], share * targets + (1 - share) * targets[order]


def loader(
    dataset: Images, *, batch_size: int, workers: int, collate: Callable[[Any], Any] | None = None
) -> DataLoader[Any]:
    """Return the DataLoader, its workers kept from epoch to epoch."""
    return DataLoader(
        dataset,
        batch_size=batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        persistent_workers=workers > 0,
        collate_fn=collate,
    )
