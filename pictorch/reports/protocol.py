"""The protocol card: in words, how a run came to its number, and what a reader should know before believing it."""

from collections.abc import Callable, Mapping
from typing import Any

from pictorch.reports.reading import Run

# What was found when the run was evaluated: the content of its evaluation.json, or nothing.
Found = Mapping[str, Any]


def card(run: Run, found: Found | None = None) -> dict[str, str]:
    """Return {aspect: sentence} of a run; `found` is what its evaluation says (default: its evaluation.json's)."""
    known = run.evaluation if found is None else found
    return {aspect: words(run, known) for aspect, words in ASPECTS.items()}


def data_words(run: Run, found: Found) -> str:
    said = {True: "the official files", False: "files that are not the published ones"}
    files = said[bool(run.env["data_official"])] if "data_official" in run.env else "files of unknown origin"
    count = found.get("images") or (run.result or {}).get("test_images")
    images = f"{count:,} test images" if count else "Its test images"
    checksum = str(run.env.get("data_checksum", "unknown"))[:12]
    most = run.config.evaluation.max_images
    cut = f" No more than {most:,} were answered (evaluation.max_images)." if most and not found else ""
    return f"{images} of {run.dataset}, {files} (checksum {checksum}).{cut}"


def validation_words(run: Run, found: Found) -> str:
    settings = run.config.data
    part = "" if settings.fraction == 1 else f" Of the rest, {100 * settings.fraction:g}% were trained on."
    if not settings.val_fraction:
        return f"No training image was held out for validation.{part}"
    split = "the run's own seed" if settings.split_seed == "run" else f"split seed {settings.split_seed}"
    return f"{100 * settings.val_fraction:g}% of the training images were held out for validation, {split}.{part}"


def selection_words(run: Run, found: Found) -> str:
    train, average = run.config.train, (run.result or {}).get("averaged")
    tested = f"The average ({average}) of the weights was tested" if average else "The weights were tested"
    if train.select == "best-val":
        return f"{tested} as they were at the epoch with the best validation accuracy; the test images chose nothing."
    if cut_short(run):
        steps = run.config.train.max_steps
        return (
            f"{tested} after update {steps:,}, where train.max_steps cut training short; the test images chose nothing."
        )
    patience = train.patience_epochs
    early = f", when validation had not improved for {patience} epochs" if patience else ""
    return f"{tested} after the last epoch{early}; the test images chose nothing."


def cut_short(run: Run) -> bool:
    """Return whether train.max_steps ended a run before its schedule did."""
    result = run.result or {}
    return run.config.train.max_steps == result.get("steps") and not result.get("complete", True)


def mode_words(run: Run, found: Found) -> str:
    if run.config.evaluation.test_mode == "train":
        return "Training mode: batch norm took the statistics of each test batch, and dropout was on."
    return "Evaluation mode: batch norm with its running statistics, no dropout."


def images_words(run: Run, found: Found) -> str:
    settings = run.config.evaluation
    odd = [
        *(["cropped at random"] if settings.crop else []),
        *(["mirrored at random, every second one"] if settings.flip else []),
    ]
    augmented = f"Test images were {' and '.join(odd)}." if odd else "No augmentation touched the test images."
    views = "one view of each" if settings.views == "one" else f"the mean of several views of each ({settings.views})"
    return f"{augmented} The answer is that to {views}."


def duplicate_words(run: Run, found: Found) -> str:
    seen = found.get("duplicates")
    if not isinstance(seen, Mapping):
        return "Nobody looked for copies of training images among the test images: `pictorch eval` does."
    if seen.get("why_not"):
        return f"Copies of training images among the test images were not looked for: {seen['why_not']}."
    near = (
        "near-duplicates are looked for among colour photographs alone"
        if seen["near"] is None
        else f"{seen['near']:,} have a near-duplicate there"
    )
    return (
        f"{seen['equal']:,} of {seen['compared']:,} test images are, pixel for pixel, among the {seen['with']:,} "
        f"training images; {near}."
    )


def normalisation_words(run: Run, found: Found) -> str:
    source = found.get("normalisation") or run.env.get("normalisation") or "not noted by the version that trained it"
    return f"Normalised by: {source}."


def label_words(run: Run, found: Found) -> str:
    order = found.get("label_order") or run.env.get("label_order") or "not noted by the version that trained it"
    return f"Order of the labels: {order}."


def drop_words(run: Run, found: Found) -> str:
    last = "dropped" if run.config.data.drop_last else "trained on"
    return f"The last, smaller batch of a training epoch is {last}; every test image is answered exactly once."


def code_words(run: Run, found: Found) -> str:
    commit = str(run.env.get("commit") or "")[:12]
    changed = ", with changes that are in no commit" if run.env.get("dirty") else ""
    version = f"pictorch {run.env.get('pictorch', 'of unknown version')}, torch {run.env.get('torch', 'unknown')}"
    return f"Code: {f'commit {commit}' if commit else 'no commit is known'}{changed}; {version}."


ASPECTS: dict[str, Callable[[Run, Found], str]] = {
    "test images": data_words,
    "held out": validation_words,
    "selection": selection_words,
    "mode": mode_words,
    "augmentation": images_words,
    "duplicates": duplicate_words,
    "normalisation": normalisation_words,
    "labels": label_words,
    "last batch": drop_words,
    "code": code_words,
}
