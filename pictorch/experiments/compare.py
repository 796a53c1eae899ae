"""Two runs, or the runs of two recipes over the same seeds, held against each other on the same test images."""

from collections.abc import Sequence
from dataclasses import dataclass
from glob import escape
from itertools import pairwise
from typing import Any

import numpy as np

from pictorch import runs
from pictorch.config import Config, UserError, load
from pictorch.config.comparable import Network, decisive_settings
from pictorch.experiments.claims import differing
from pictorch.experiments.ledger import predictions
from pictorch.experiments.stats import Paired, holm, mcnemar, paired
from pictorch.runs import RunDir, RunError

Hits = np.ndarray[Any, np.dtype[np.bool_]]


@dataclass(frozen=True)
class Tested:
    """A finished run: its configuration and result.json, and of each test image its label and whether it was right."""

    directory: RunDir
    config: Config
    result: dict[str, Any]
    labels: np.ndarray[Any, Any]
    right: Hits


@dataclass(frozen=True)
class Class:
    """How two runs answer one class's images: of how many each alone is right, and McNemar's p after Holm."""

    name: str
    images: int
    recalls: tuple[float, float]
    alone: tuple[int, int]
    p: float


@dataclass(frozen=True)
class Comparison:
    """What two sides say of each other.

    `seeds` are those of both sides; `errors` [2][runs] are in per cent, those of `seeds` first, in their order.
    `settings` are the decisive ones that differ, {key: (first, second)}; `notes` what else does. Images are compared
    between one run of each side, `pair`: of the first common seed, else the first runs. `alone` counts the images that
    one of the two alone has right, `disagreed` has their places in the test part, `p` is McNemar's. `over_seeds` is
    the paired comparison, where both sides have at least two seeds in common.
    """

    pair: tuple[Tested, Tested]
    seeds: list[int]
    errors: tuple[list[float], list[float]]
    settings: dict[str, tuple[Any, Any]]
    notes: list[str]
    images: int
    alone: tuple[int, int]
    neither: int
    disagreed: list[int]
    p: float
    classes: list[Class]
    over_seeds: Paired | None


def read_side(place: str, network: Network) -> list[Tested]:
    """Return the finished runs at or below a directory, or of a sweep's cell OUT/HASH, by their seeds.

    They are of one experiment.

    Raises UserError where there is none, where they are of several experiments, or two of one seed.
    """
    path = runs.directory(place)
    # A cell of a sweep has a directory a seed: OUT/HASH stands for OUT/HASH-seed1, OUT/HASH-seed2 ...
    places = [path] if path.exists() else sorted(path.parent.glob(f"{escape(path.name)}-seed*"))
    inside = [directory for directory in runs.collect(places) if directory.result.is_file()]
    if not inside:
        directory = runs.open(path)
        raise RunError(f"{directory.path}: this run is not finished: `{directory.resume_command()}`")
    side = sorted((read(directory) for directory in inside), key=lambda run: int(run.result["seed"]))
    for run, following in pairwise(side):
        if different := apart(run, following, network):
            key, (one, other) = next(iter(different.items()))
            raise UserError(
                f"{path}: {run.directory.path} and {following.directory.path} are of two experiments ({key} is {one} "
                f"in one and {other} in the other); a side is one run, or a folder with runs that differ by their seeds"
            )
        if run.result["seed"] == following.result["seed"]:
            raise UserError(
                f"{path}: {run.directory.path} and {following.directory.path} have the same seed, "
                f"{run.result['seed']}: name one of them"
            )
    return side


def read(directory: RunDir) -> Tested:
    """Return a finished run with what it answered. Raises RunError where a file is missing or damaged."""
    labels, classes = predictions(directory)
    config = load(directory.config).config
    return Tested(directory, config, runs.read_result(directory), labels, classes[:, 0] == labels)


def compare(first: Sequence[Tested], second: Sequence[Tested], names: Sequence[str], network: Network) -> Comparison:
    """Return what two sides say of each other; `names` are the classes'.

    Raises UserError where they were not tested on the same images.
    """
    seeds = sorted({run.result["seed"] for run in first} & {run.result["seed"] for run in second})
    sides = (in_order(first, seeds), in_order(second, seeds))
    pair = (sides[0][0], sides[1][0])
    same_images(*pair)
    a, b = (run.right for run in pair)
    labels = pair[0].labels
    errors = (errors_of(sides[0]), errors_of(sides[1]))
    return Comparison(
        pair=pair,
        seeds=seeds,
        errors=errors,
        settings=apart(*pair, network),
        notes=list(notes(*pair, sides)),
        images=len(labels),
        alone=(int((a & ~b).sum()), int((b & ~a).sum())),
        neither=int((~a & ~b).sum()),
        disagreed=np.flatnonzero(a != b).tolist(),
        p=mcnemar(int((a & ~b).sum()), int((b & ~a).sum())),
        classes=by_class(labels, a, b, names),
        over_seeds=paired(errors[0][: len(seeds)], errors[1][: len(seeds)]) if len(seeds) > 1 else None,
    )


def errors_of(side: Sequence[Tested]) -> list[float]:
    return [float(run.result["test_error"]) for run in side]


def in_order(side: Sequence[Tested], seeds: Sequence[int]) -> list[Tested]:
    """Return the runs of these seeds first."""
    return sorted(side, key=lambda run: (run.result["seed"] not in seeds, run.result["seed"]))


def same_images(first: Tested, second: Tested) -> None:
    """Raise UserError unless both runs answered the same test images."""
    for key in ("dataset", "data_checksum", "test_images"):
        one, other = (run.result[key] for run in (first, second))
        if one != other:
            raise UserError(
                f"{first.directory.path} and {second.directory.path} were not tested on the same images: {key} is "
                f"{one} in the first and {other} in the second"
            )
    if not np.array_equal(first.labels, second.labels):
        raise UserError(
            f"{first.directory.path} and {second.directory.path} were not tested on the same images: labels differ"
        )


def notes(first: Tested, second: Tested, sides: Sequence[Sequence[Tested]]) -> list[str]:
    """Return what a reader has to know of the two beside their settings."""
    said = []
    if first.result["seed"] != second.result["seed"]:
        said.append(f"the seeds differ: {first.result['seed']} and {second.result['seed']}")
    for key in ("commit", "torch", "precision"):
        one, other = (run.result[key] for run in (first, second))
        if one != other:
            said.append(f"{key} is {one} and {other}")
    for run in (run for side in sides for run in side):
        if not run.result["complete"]:
            said.append(f"{run.directory.path} is incomplete, and its error no result")
    return said


def apart(one: Tested, other: Tested, network: Network) -> dict[str, tuple[Any, Any]]:
    """Return {key: (value in one, in other)} of the settings that decide a result."""
    return differing(decisive_settings(one.config, network), decisive_settings(other.config, network))


def by_class(labels: np.ndarray[Any, Any], a: Hits, b: Hits, names: Sequence[str]) -> list[Class]:
    """Return each class's comparison, in the order of the classes."""
    masks = [labels == index for index in range(len(names))]
    alone = [(int((a & ~b & mask).sum()), int((b & ~a & mask).sum())) for mask in masks]
    adjusted = holm([mcnemar(*counts) for counts in alone])
    return [
        Class(name, int(mask.sum()), (share(a[mask]), share(b[mask])), counts, p)
        for name, mask, counts, p in zip(names, masks, alone, adjusted, strict=True)
    ]


def share(right: Hits) -> float:
    """Return the per cent of images that are right; not a number without images."""
    return 100 * float(right.mean()) if len(right) else float("nan")
