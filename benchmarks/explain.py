"""How far heat-maps of a run can be trusted: the check of `pictorch explain`, over test images of its data set.

    python benchmarks/explain.py RUN_DIR [--images 60] [--sides 2,4,8] [--data-dir DIR]

Prints CSV: of Grad-CAM of the last map of at least each of the sides, or of what the network has by itself, and of
occlusion, the means over images drawn with seed 0: rank correlation with occlusion, areas of deletion (less is better)
and insertion (more is better) with those of random orders, the share of images that pass each test, and the seconds of
CPU an image, the check included.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import torch

from pictorch import data, runs
from pictorch.config import load
from pictorch.deploy.explain import Explanation, explain
from pictorch.deploy.predict import Predictor
from pictorch.engine import inputs

COLUMNS = "map,agreement,deletion,random,insertion,random,agree,fall sooner,rise sooner,seconds"


def row(predictor: Predictor, images: torch.Tensor, **options: Any) -> str:
    started = time.process_time()
    found = [explain(predictor, pixels, **options) for pixels in images]
    seconds = (time.process_time() - started) / len(found)
    return ",".join([f'"{found[0].method}: {found[0].layer}"', *means(found), f"{seconds:.2f}"])


def means(found: list[Explanation]) -> list[str]:
    checks = [each.check for each in found if each.check is not None]
    figures = []
    for name in ("agreement", "deletion", "random_deletion", "insertion", "random_insertion"):
        values = [getattr(check, name) for check in checks]
        figures.append("-" if None in values else f"{sum(values) / len(values):.3f}")
    for name in ("agreement", "deletion", "insertion"):
        passed = [check.holds.get(name) for check in checks]
        figures.append("-" if None in passed else f"{sum(map(bool, passed)) / len(passed):.2f}")
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run_dir", type=Path)
    parser.add_argument("--images", type=int, default=60)
    parser.add_argument("--sides", default="")
    parser.add_argument("--data-dir")
    arguments = parser.parse_args()
    predictor = Predictor(arguments.run_dir)
    config = load(runs.open(arguments.run_dir).config).config
    if arguments.data_dir:
        config = config.model_copy(update={"data": config.data.model_copy(update={"dir": arguments.data_dir})})
    part = inputs.open_dataset(config).test
    assert isinstance(part, data.Split), "images of a known set"
    chosen = torch.randperm(len(part), generator=torch.Generator().manual_seed(0))[: arguments.images]
    print(COLUMNS)
    sides = [int(side) for side in arguments.sides.split(",") if side]
    for options in ({"side": side} for side in sides) if sides else ({},):
        print(row(predictor, part.images[chosen], **options), flush=True)
    print(row(predictor, part.images[chosen], method="occlusion"))


if __name__ == "__main__":
    main()
