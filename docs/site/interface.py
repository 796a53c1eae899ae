"""The reference of the Python interface: which names, on which page; their text is the docstrings (mkdocstrings)."""

from pathlib import Path
from typing import NamedTuple

import pictorch
from pictorch import models


class Reference(NamedTuple):
    """A page: title, what it is about, and names below `pictorch`; a module's stands for all that is public in it."""

    title: str
    about: str
    names: str


DEPLOY = Path(pictorch.__file__).parent / "deploy"
PAGES = {
    "index": Reference(
        "Interface",
        "`import pictorch` has these functions; the command line calls the same ones. What they return and the seams "
        "to extend stand below and on the following pages. Everything is made from the docstrings.",
        "api.Result engine.evaluate.Evaluation deploy.predict.Prediction",
    ),
    "runs": Reference(
        "Runs",
        "Training in parts: resume, several seeds at once, a listener ([an example](../examples/own_listener.md)); and "
        "what a run leaves.",
        "api.train_one api.resume api.run_to_end api.train_replicas engine.progress.Progress engine.progress.Snapshot "
        "engine.interrupt.Interrupted runs",
    ),
    "configuration": Reference(
        "Configuration",
        "A recipe and overrides become a frozen, complete `Config`; the keys have "
        "[a page of their own](../configuration.md).",
        "config.load config.Loaded config.to_dict config.differences config.UserError config.ConfigError "
        "config.OptionError config.nearest config.schema.Config config.recipes",
    ),
    "models": Reference(
        "Models",
        "Networks by name, one of your own by import path ([an example](../examples/own_network.md)), and what is "
        "counted of them. The families' options are on [their pages](../papers/index.md).",
        "models.families models.Family models.options_of models.resolve models.summary models.catalogue "
        "models.complexity models.weights models.transfer models.foreign models.fold",
    ),
    "families": Reference(
        "Families",
        "The function of each family that `create_model` calls with its options.",
        " ".join(
            dict.fromkeys(f"models.{e.create.__module__.split('.')[-1]}.create" for e in models.families().values())
        ),
    ),
    "data": Reference(
        "Data",
        "Bytes on disk to batches on the device: data sets, their parts, and the loaders "
        "([an example](../examples/own_loop.md)).",
        "data.open data.root data.Dataset data.Split data.Images data.find data.ImagesSpec data.DatasetSpec data.split "
        "data.loader data.streaming.StreamingLoader data.own data.decode data.streams",
    ),
    "augmentation": Reference(
        "Augmentation",
        "What becomes of images between the data set and the network. A class with the methods of `Step`, or of `Mix`, "
        "is an augmentation ([an example](../examples/own_augmentation.md)).",
        "data.pipeline data.augment data.geometry data.pixels data.policies data.erasing data.mix",
    ),
    "losses": Reference("Losses and metrics", "Logits and targets to a scalar; counts to numbers.", "losses metrics"),
    "optim": Reference(
        "Optimisers and schedules",
        "How parameters move. Optimisers are torch's own kind; a schedule is a function of the step.",
        "optim.create optim.parameter_groups optim.set_lr optim.clip optim.freeze optim.head optim.schedules "
        "optim.average optim.lars optim.lamb optim.lion optim.muon optim.adabound optim.sam",
    ),
    "engine": Reference(
        "Engine",
        "Configuration to a job, a step, an evaluation: what `train` is made of, for a loop of your own.",
        "engine.build.Job engine.build.build engine.inputs.Inputs engine.inputs.create engine.step.Update "
        "engine.step.train_step engine.evaluate.evaluate engine.evaluate.evaluate_run engine.precision engine.estimate "
        "engine.checkpoint",
    ),
    "deploy": Reference(
        "Deployment",
        "A finished run used elsewhere.",
        " ".join(f"deploy.{path.stem}" for path in sorted(DEPLOY.glob("[a-z]*.py"))),
    ),
    "experiments": Reference(
        "Experiments",
        "What several runs say together: intervals, paired comparisons ([an example](../examples/two_recipes.md)), "
        "published numbers.",
        "experiments.stats experiments.compare.compare experiments.grid.load experiments.published experiments.claims "
        "experiments.ledger.read experiments.executors",
    ),
}


def pages() -> dict[str, str]:
    """Return {file: Markdown}."""
    made = {f"{name}.md": page(reference) for name, reference in PAGES.items()}
    head, about, rest = made["index.md"].split("\n\n", 2)
    made["index.md"] = "\n\n".join([head, about, *map(public, pictorch.__all__), rest])
    return made


def page(reference: Reference) -> str:
    names = (f"::: pictorch.{name}" for name in reference.names.split())
    return "\n\n".join([f"# {reference.title}", reference.about, *names]) + "\n"


def public(name: str) -> str:
    """Return the directive of a name of the package itself, whatever it is called where it stands."""
    thing = getattr(pictorch, name)
    heading = f"    options:\n      heading: pictorch.{name}\n      toc_label: {name}"
    return f"::: {thing.__module__}.{thing.__qualname__}\n{heading}"
