"""Values that are each valid but do not go together."""

from collections.abc import Collection, Iterator, Sequence

from pictorch.config.explain import Origins, place_of
from pictorch.config.schema import SGDR, AugMix, Config, Multistep, OneCycle

COMMAND_LINE = "command line"
MIXES = ("mixup", "cutmix", "ricap", "resizemix")
RANGES = ("resized_crop.area", "resized_crop.aspect", "random_erasing.area", "resizemix.scale")

Found = tuple[tuple[str, ...], str]  # the keys that contradict each other, and what is said of them


def contradictions(config: Config, origins: Origins, sound: Collection[str]) -> list[str]:
    """Return the mistakes of values that do not go together, a line each, as far as their blocks are `sound`."""
    return [
        f"{place_of(key, origins)}{key}: {text}"
        for find in (of_document, of_training, of_replicas, of_schedule, of_augmentation, of_averages, of_evaluation)
        for keys, text in find(config)
        if all(key.partition(".")[0] in sound for key in keys)
        for key in [to_blame(keys, origins)]
    ]


def to_blame(keys: Sequence[str], origins: Origins) -> str:
    """Return which of keys that contradict each other to name: one of the command line, else one that is written."""
    return min(keys, key=lambda key: (origins.get(key) != COMMAND_LINE, key not in origins))


def of_document(config: Config) -> Iterator[Found]:
    network = config.model.options.get("as_published")
    if config.as_published and network not in (None, config.as_published):
        text = f"the network is {network}'s, the rest of the run {config.as_published}'s: give the same document twice"
        yield ("model.as_published", "as_published"), text


def of_training(config: Config) -> Iterator[Found]:
    train, optim = config.train, config.optim
    if train.select == "best-val" and config.swa:
        yield ("train.select", "swa.start_epochs"), "swa keeps the average at the end: leave train.select=last"
    if getattr(optim, "nesterov", False) and not getattr(optim, "momentum", 1):
        text = "Nesterov's momentum needs optim.momentum above 0; set it, or optim.nesterov=false"
        yield ("optim.nesterov", "optim.momentum"), text
    parts = train.ghost_batches * optim.accumulate
    if train.batch_size % parts:
        text = (
            f"train.batch_size={train.batch_size} is not a multiple of {parts}, its parts "
            f"(train.ghost_batches={train.ghost_batches} times optim.accumulate={optim.accumulate})"
        )
        yield ("train.ghost_batches", "optim.accumulate", "train.batch_size"), text
    if train.ghost_batches > 1 and not config.data.drop_last:
        text = "ghost batches need full batches: leave data.drop_last=true"
        yield ("train.ghost_batches", "data.drop_last"), text


def of_replicas(config: Config) -> Iterator[Found]:
    train = config.train
    if train.replicas > 1 and train.replica_lrs:
        text = f"train.replicas={train.replicas} are runs with other seeds: give seeds or learning rates, not both"
        yield ("train.replica_lrs", "train.replicas"), text
    if len(set(train.replica_lrs or ())) < len(train.replica_lrs or ()):
        yield ("train.replica_lrs",), "the same learning rate stands there twice"
    if train.seed + train.replicas > 2**63:
        yield ("train.seed", "train.replicas"), f"the last of {train.replicas} seeds would be above {2**63 - 1}"


def of_schedule(config: Config) -> Iterator[Found]:
    schedule, epochs = config.schedule, config.train.epochs
    if schedule.warmup_epochs > epochs:
        text = f"{schedule.warmup_epochs:g} epochs of warm-up do not fit into train.epochs={epochs}"
        yield ("schedule.warmup_epochs", "train.epochs"), text
    if isinstance(schedule, OneCycle) and schedule.warmup_epochs:
        text = "one_cycle has its own rise: leave schedule.warmup_epochs=0"
        yield ("schedule.warmup_epochs", "schedule.name"), text
    if isinstance(schedule, SGDR) and schedule.per == "epoch" and schedule.first_cycle_epochs < 1:
        text = f"a cycle of {schedule.first_cycle_epochs:g} epochs ends before the rate changes: schedule.per is epoch"
        yield ("schedule.first_cycle_epochs", "schedule.per"), text
    if isinstance(schedule, Multistep):
        milestones = schedule.milestones_epochs
        if list(milestones) != sorted(set(milestones)):
            listed = ", ".join(f"{m:g}" for m in milestones)
            yield ("schedule.milestones_epochs",), f"expected rising epochs, got [{listed}]"
        elif milestones[-1] >= epochs:
            text = f"the milestone {milestones[-1]:g} is never reached with train.epochs={epochs}"
            yield ("schedule.milestones_epochs", "train.epochs"), text


def of_augmentation(config: Config) -> Iterator[Found]:
    augment = config.augment
    if augment.crop and augment.resized_crop:
        yield ("augment.resized_crop", "augment.crop"), "there is a crop already: set one of the two to null"
    consistent = isinstance(augment.policy, AugMix) and augment.policy.consistency
    comparing = ["augment.dual_cutout"] if augment.dual_cutout else []
    comparing += ["augment.policy.consistency"] if consistent else []
    others = [f"augment.{name}" for name in ("cutout", "random_erasing", *MIXES) if getattr(augment, name)]
    for key in comparing:
        for other in [*comparing, *others]:
            if other != key:
                yield (other, key), f"{key} compares views of the same image: {other} cannot be added to it"
        if config.loss.name != "cross_entropy":
            yield ("loss.name", key), f"{key} has a loss of its own: leave loss.name=cross_entropy"
    for key in RANGES:
        block, _, leaf = key.partition(".")
        low, high = getattr(getattr(augment, block), leaf, (0, 1))
        if low > high or (leaf != "aspect" and high > 1):
            most = "" if leaf == "aspect" else " of at most 1"
            yield (f"augment.{key}",), f"expected a lowest and a highest value{most}, got [{low:g}, {high:g}]"


def of_averages(config: Config) -> Iterator[Found]:
    if config.ema and config.swa:
        yield ("swa.start_epochs", "ema.decay"), "one average of the weights is kept: set swa or ema to null"
    if config.swa and config.swa.start_epochs >= config.train.epochs:
        text = f"the average would begin after the end: train.epochs={config.train.epochs}"
        yield ("swa.start_epochs", "train.epochs"), text


def of_evaluation(config: Config) -> Iterator[Found]:
    evaluation, crops = config.evaluation, {"augment": config.augment.crop, "evaluation": config.evaluation.crop}
    over_batches = {
        "evaluation.test_mode": evaluation.test_mode == "train",
        "train.select_mean": config.train.select_mean == "batches",
    }
    for key, on in over_batches.items():
        if on and evaluation.batch_size is None:
            text = "the result depends on which images are answered at once: set evaluation.batch_size, as to 128"
            yield (key, "evaluation.batch_size"), text
    if evaluation.test_mode == "train" and config.train.ghost_batches > 1:
        text = "ghost batches do not divide every test batch: leave train.ghost_batches=1"
        yield ("evaluation.test_mode", "train.ghost_batches"), text
    for block, crop in crops.items():
        if crop and crop.size and config.data.normalise == "pixel":
            text = "a mean image has the images' own size, and so must the crops: leave data.normalise=channel"
            yield (f"{block}.crop.size", "data.normalise"), text
