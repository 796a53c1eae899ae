"""The scaled-down form of a run: what fits into a minute on two CPU cores, whatever the network. It is no result."""

from functools import cache

from pictorch.config import Config, differences
from pictorch.config.keywords import show
from pictorch.config.schema import Data, Model
from pictorch.engine import inputs
from pictorch.engine.build import build, create_model
from pictorch.engine.estimate import estimate
from pictorch.engine.memory import enough_memory
from pictorch.models.complexity import count

# Multiply-adds of the forward pass in a measured step: one of a second or two on two cores.
MEASURED_MACS = 10**10
TRAINING_SECONDS, ANSWERING_SECONDS = 15, 4
LEAST_STEPS, LEAST_BATCH, LEAST_ANSWERED = 8, 2, 10
# Of a core without bf16 instructions; and what an image costs in training, over its forward pass.
CORE_MACS_PER_SECOND, MACS_OF_TRAINING = 10**10, 3


def quick(config: Config) -> list[str]:
    """Return the overrides (`key=value`) that scale a run down to what a few measured steps say fits into a minute.

    At most an epoch is trained, in smaller batches where fewer than eight would fit, with a learning rate that is
    smaller in proportion, and few images are answered. Raises UserError as building the run does.
    """
    with enough_memory(config):
        job = build(scaled(config, batch_size=measurable(config), max_steps=1, max_images=LEAST_ANSWERED))
        with job.process_settings():
            rate = estimate(job, warm_up=1, measured=2).images_per_second
    images = min(int(rate * TRAINING_SECONDS), job.train_loader.images_per_epoch)
    batch_size = min(config.train.batch_size, max(LEAST_BATCH, images // LEAST_STEPS))
    wanted = scaled(
        config,
        batch_size=batch_size,
        max_steps=max(1, images // batch_size),
        max_images=max(LEAST_ANSWERED, int(rate * ANSWERING_SECONDS)),
    )
    return [f"{key}={show(value)}" for key, (_, value) in differences(config, wanted).items()]


def measurable(config: Config) -> int:
    """Return of how many images a step can be measured, by what one of them costs the network."""
    spec = inputs.open_dataset(config).spec
    macs = count(create_model(config, spec), in_channels=spec.in_channels, image_size=spec.image_size).macs
    return min(config.train.batch_size, max(LEAST_BATCH, MEASURED_MACS // max(1, macs)))


def scaled(config: Config, *, batch_size: int, max_steps: int, max_images: int) -> Config:
    """Return the configuration of one run of so many steps, and never of more than it has."""
    train, optim, evaluation = config.train, config.optim, config.evaluation
    smaller = batch_size < train.batch_size
    # Threads that wait for each other at every layer take minutes where the cores have other work to do.
    threads = 1 if train.threads == "auto" else train.threads
    one = {
        "threads": threads,
        "replicas": 1,
        "replica_lrs": None,
        "compile": False,
        "ghost_batches": 1 if smaller else train.ghost_batches,
    }
    bounds = {"batch_size": batch_size, "max_steps": min(max_steps, train.max_steps or max_steps)}
    lr = float(f"{optim.lr * batch_size / train.batch_size:.6g}")
    rate = {"lr": lr if smaller else optim.lr, "accumulate": 1 if smaller else optim.accumulate}
    answered = {"max_images": min(max_images, evaluation.max_images or max_images)}
    return config.model_copy(
        update={
            "train": train.model_copy(update=one | bounds),
            "optim": optim.model_copy(update=rate),
            "evaluation": evaluation.model_copy(update=answered),
        }
    )


def look(config: Config, seconds: float) -> Config:
    """Return the form of a run that takes a CPU core about so many seconds, by what the network multiplies.

    Unlike that of `quick` it is the same at every call, so that a sweep finds its directories again. Raises UserError
    where the data are missing.
    """
    macs, train_images = sizes(config.data, config.model)
    rate = CORE_MACS_PER_SECOND / max(1, macs)
    images = max(LEAST_BATCH, min(int(rate / MACS_OF_TRAINING * seconds), train_images))
    batch_size = min(config.train.batch_size, max(LEAST_BATCH, images // LEAST_STEPS))
    answered = max(LEAST_ANSWERED, int(rate * seconds * ANSWERING_SECONDS / TRAINING_SECONDS))
    return scaled(config, batch_size=batch_size, max_steps=max(1, images // batch_size), max_images=answered)


@cache
def sizes(data: Data, model: Model) -> tuple[int, int]:
    """Return the multiply-adds of an image, and how many training images there are."""
    config = Config(data=data, model=model)
    dataset = inputs.open_dataset(config)
    spec = dataset.spec
    macs = count(create_model(config, spec), in_channels=spec.in_channels, image_size=spec.image_size).macs
    return macs, len(dataset.train)
