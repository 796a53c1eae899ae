"""All that is said of a finished run's answers: scores with intervals, calibration, classes, doubtful labels, copies of
training images among the test images; on request, corrupted images and images of another set.

Its values are plain, ready for JSON: the keys stand in docs/evaluation.md.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pictorch import data
from pictorch.config import Config, UserError
from pictorch.data import corruptions as corrupted
from pictorch.data import duplicates
from pictorch.data.foreign import open_foreign
from pictorch.engine import inputs
from pictorch.engine.evaluate import Evaluation, Trained
from pictorch.metrics import bootstrap, calibration, labels, strangers

MOST_SUSPECTS = 50
MOST_COPIES = 50
FROST = {False: "a computed texture, not the benchmark's photographs", True: "the benchmark's photographs"}


@dataclass(frozen=True, eq=False)
class Examination:
    """What was found: the answers on the test images, the configuration that they follow, and all that is said of
    them, as plain values."""

    evaluation: Evaluation
    config: Config
    values: dict[str, Any]


class Corrupt:
    """A step of a loader's pipeline that corrupts every image; the random numbers are those of its place in the set."""

    name, stage = "corrupt", "pixels"

    def __init__(self, corruption: str, severity: int, frost_dir: str | None = None) -> None:
        self.corruption, self.severity, self.frost_dir = corruption, severity, frost_dir

    def draw(self, n: int, image_size: int, draws: torch.Generator) -> tuple[Tensor, ...]:
        return (torch.arange(n),)

    def __call__(self, images: Tensor, places: Tensor) -> Tensor:
        start = int(places[0])  # reads the device: an evaluation's batches are few
        return corrupted.corrupt(images, self.corruption, self.severity, seed=0, start=start, frost_dir=self.frost_dir)


def examine(
    trained: Trained,
    *,
    corruptions: Sequence[str] = (),
    foreign: Sequence[str] = (),
    frost_dir: str | None = None,
    told: Callable[[str], None] = lambda text: None,
) -> Examination:
    """Return the examination of a run; `told` is given a line before each longer piece of work.

    `frost_dir` is a folder with the benchmark's photographs of frost. Raises UserError for names of no corruption or no
    data set, and photographs that cannot be used or are not asked for, before anything is computed, and for answers
    that are not finite.
    """
    if frost_dir is not None and "frost" not in corruptions:
        raise UserError("frost_dir: this is for the corruption frost, which is not asked for")
    spec = trained.dataset.spec
    blank = torch.zeros(1, spec.in_channels, spec.image_size, spec.image_size, dtype=torch.uint8)
    for name in corruptions:
        corrupted.corrupt(blank, name, 1, seed=0, frost_dir=frost_dir)
    others = [open_other(trained, name) for name in foreign]
    evaluation = trained.answers(trained.test_loader(), keep_logits=True)
    assert evaluation.logits is not None
    logits = evaluation.logits
    if not logits.isfinite().all():
        raise UserError(
            f"{trained.run.weights}: this network answers in numbers that are not finite; nothing to evaluate"
        )
    values = of_answers(evaluation) | {
        "dataset": evaluation.dataset,
        "views": evaluation.views,
        "torch": torch.__version__,
        "device": str(trained.device),
        "precision": trained.precision.name,
        "weights_sha256": trained.metadata["sha256"],
        "normalisation": inputs.normalisation(trained.config, spec),
        "label_order": inputs.label_order(spec),
        "mistakes": evaluation.mistakes(),
        "calibration": calibrated(logits, evaluation.labels),
        "temperature": scaled(trained, logits, evaluation.labels),
        "label_suspects": doubtful(evaluation),
        "corruptions": None,
        "out_of_distribution": [],
    }
    # Folders' files are read only now, and a damaged one ends it all: before the corruptions, which take minutes.
    for name, part in others:
        told(f"{name}: {len(part):,} images of another set")
        values["out_of_distribution"].append(told_apart(trained, logits, name, part))
    values["duplicates"] = copies(trained)
    if corruptions:
        values["corruptions"] = under_corruption(trained, evaluation.error, corruptions, frost_dir, told)
    return Examination(evaluation, trained.config, values)


def of_answers(evaluation: Evaluation) -> dict[str, Any]:
    """Return accuracy, its interval, and classes. Percentages, but for the loss (nats)."""
    hits = (evaluation.ranked == evaluation.labels[:, None]).double()
    per_class = evaluation.per_class()

    def mean_of(key: str) -> float | None:
        known = [row[key] for row in per_class if row[key] is not None]
        return sum(known) / len(known) if known else None

    return {
        "images": evaluation.images,
        "top1": evaluation.top(1),
        "top5": evaluation.top(5),
        "error": evaluation.error,
        "loss": evaluation.loss,
        "intervals": {
            "level": 100 * bootstrap.LEVEL,
            "resamples": bootstrap.RESAMPLES,
            "top1": per_cent(bootstrap.share_interval(hits[:, 0])),
            "top5": per_cent(bootstrap.share_interval(hits.sum(dim=1))),
            "loss": list(bootstrap.mean_interval(evaluation.losses)),
        },
        "macro_recall": mean_of("recall"),
        "macro_precision": mean_of("precision"),
        "macro_f1": mean_of("f1"),
        "per_class": per_class,
        "confusion": evaluation.confusion.tolist(),
    }


def per_cent(ends: tuple[float, float]) -> list[float]:
    return [100 * end for end in ends]


def calibrated(logits: Tensor, truth: Tensor, temperature: float = 1.0, *, intervals: bool = True) -> dict[str, Any]:
    """Return proper scores and calibration errors (per cent) of logits [N,K] over a temperature, with the bins."""
    found = calibration.scores(logits, truth, temperature)
    places = {
        "ece": calibration.equally_wide(found.confidence),
        "ece_adaptive": calibration.equally_full(found.confidence),
    }
    bins = {key: calibration.binned(found, at) for key, at in places.items()}
    values: dict[str, Any] = {
        "nll": float(found.nll.mean()),
        "brier": float(found.brier.mean()),
        **{key: 100 * each.error for key, each in bins.items()},
        "confidence": 100 * float(found.confidence.mean()),
    }
    if not intervals:
        return values
    values["intervals"] = {
        "nll": list(bootstrap.mean_interval(found.nll)),
        "brier": list(bootstrap.mean_interval(found.brier)),
        **{
            key: per_cent(bootstrap.calibration_interval(found.confidence, found.right, at, calibration.BINS))
            for key, at in places.items()
        },
    }
    values["bins"] = {
        key: [
            {"images": images, "confidence": 100 * confidence, "accuracy": 100 * accuracy}
            for images, confidence, accuracy in zip(*(column.tolist() for column in each), strict=True)
        ]
        for key, each in bins.items()
    }
    return values


def scaled(trained: Trained, logits: Tensor, truth: Tensor) -> dict[str, Any]:
    """Return the temperature that fits the held-out images best, and the test images' scores with it; or why not."""
    held_out = inputs.training_parts(trained.config, trained.dataset)[1]
    if held_out is None:
        why = "no image was held out to fit it on; train with data.val_fraction, for example 0.1"
        return {"value": None, "why_not": why}
    answers = trained.answers(trained.loader(held_out), keep_logits=True)
    assert answers.logits is not None
    if not answers.error:
        why = f"all {len(held_out):,} held-out images are answered rightly: the colder the likelier, without an end"
        return {"value": None, "why_not": why}
    value = calibration.temperature(answers.logits, answers.labels)
    return {"value": value, "fitted_on": len(held_out), **calibrated(logits, truth, value, intervals=False)}


def doubtful(evaluation: Evaluation) -> dict[str, Any]:
    """Return the test images whose label may be wrong: how many, and the most doubtful ones."""
    assert evaluation.logits is not None
    probabilities = evaluation.logits.double().softmax(dim=1)
    found = labels.suspects(probabilities, evaluation.labels).tolist()
    return {
        "count": len(found),
        "images": [
            {
                "index": i,
                "label": evaluation.classes[int(evaluation.labels[i])],
                "answer": evaluation.classes[int(evaluation.ranked[i, 0])],
                "of_label": float(probabilities[i, evaluation.labels[i]]),
                "of_answer": float(probabilities[i, evaluation.ranked[i, 0]]),
            }
            for i in found[:MOST_SUSPECTS]
        ],
    }


def under_corruption(
    trained: Trained, clean_error: float, names: Sequence[str], frost_dir: str | None, told: Callable[[str], None]
) -> dict[str, Any]:
    """Return the test error (per cent) of every corruption and severity, and their means."""
    errors: dict[str, list[float]] = {}
    for name in names:
        told(f"{name}: {len(corrupted.SEVERITIES)} severities")
        errors[name] = [
            trained.answers(trained.test_loader([Corrupt(name, severity, frost_dir)])).error
            for severity in corrupted.SEVERITIES
        ]
    means = {name: sum(row) / len(row) for name, row in errors.items()}
    mean = sum(means.values()) / len(means)
    return {
        "severities": list(corrupted.SEVERITIES),
        "errors": errors,
        "means": means,
        "mean_error": mean,
        "clean_error": clean_error,
        "whole": list(errors) == list(corrupted.NAMES),
        "frost": None if "frost" not in errors else FROST[frost_dir is not None],
    }


def open_other(trained: Trained, name: str) -> tuple[str, data.Part]:
    """Return the name and the images of another set. Raises UserError where it is the run's own."""
    spec = trained.dataset.spec
    if name == spec.name:
        raise UserError(f"{name}: the run was trained on this data set; expected another one")
    root = data.root(trained.config.data.dir)
    called, part = open_foreign(name, root=root, image_size=spec.image_size, in_channels=spec.in_channels)
    own = trained.dataset.test
    if isinstance(part, data.Split) and isinstance(own, data.Split) and torch.equal(part.images, own.images):
        raise UserError(f"{name}: its test images are those of {spec.name}; expected others")
    return called, part


def told_apart(trained: Trained, own: Tensor, name: str, part: data.Part) -> dict[str, Any]:
    """Return how well each score tells the test images, with logits [N,K], from those of another set (per cent)."""
    answers = trained.answers(trained.loader(part), keep_logits=True)
    assert answers.logits is not None
    scores = {}
    for score, of_logits in strangers.SCORES.items():
        mine, theirs = of_logits(own), of_logits(answers.logits)
        scores[score] = {
            "auroc": 100 * strangers.auroc(mine, theirs),
            "accepted_at_95": 100 * strangers.accepted_at(mine, theirs),
        }
    return {"dataset": name, "images": len(part), "scores": scores}


def copies(trained: Trained) -> dict[str, Any]:
    """Return how many test images are among the training images (the held-out ones, too), and the nearest pairs."""
    dataset = trained.dataset
    found = duplicates.overlap(dataset.train, dataset.test)
    grey = dataset.spec.in_channels == 1
    pairs = zip(found.near.places.tolist(), found.near.cosines.tolist(), strict=True)
    return {
        "why_not": found.why_not or None,
        "equal": None if found.why_not else len(found.equal),
        "near": None if found.why_not or grey else len(found.near.places),
        "compared": len(dataset.test),
        "with": len(dataset.train),
        "pairs": [
            {"test": test, "train": train, "cosine": cosine} for (test, train), cosine in list(pairs)[:MOST_COPIES]
        ],
    }
