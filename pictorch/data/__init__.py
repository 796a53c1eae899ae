"""Bytes on disk -> batches on the device.

    dataset = data.open("cifar10", root=data.root())
    dataset.train.images, dataset.train.labels      uint8 [N,C,H,W], int64 [N]

`loader.ResidentLoader` makes batches of a split; `split` holds out a part of one. Randomness comes from `streams`.
"""

from pictorch.data.dataset import Dataset, open
from pictorch.data.files import root
from pictorch.data.parts import Images, Part, Split
from pictorch.data.specs import SPECS, DatasetSpec, ImagesSpec, find

__all__ = ["SPECS", "Dataset", "DatasetSpec", "Images", "ImagesSpec", "Part", "Split", "find", "open", "root"]
