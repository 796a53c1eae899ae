"""The package in five functions; the command line calls the same ones."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pictorch import runs
from pictorch.config import Config, ConfigError, Loaded, UserError, differences, load, to_dict
from pictorch.runs import RunDir

if TYPE_CHECKING:
    from PIL.Image import Image

    from pictorch.deploy.predict import Prediction
    from pictorch.engine.build import Job
    from pictorch.engine.evaluate import Evaluation
    from pictorch.engine.progress import Progress


# What decides the last bits of a result: a resumed run is the uninterrupted one where these have not changed.
BITWISE = ("torch", "cpu", "gpu", "device", "source_sha256")


@dataclass(frozen=True)
class Result:
    """A finished run: its directory, and its result.json as `row`."""

    run_dir: Path
    row: dict[str, Any]

    @property
    def test_error(self) -> float:
        """Top-1 error on the test set, per cent."""
        return float(self.row["test_error"])

    @property
    def test_top1(self) -> float:
        """Top-1 accuracy on the test set, per cent."""
        return float(self.row["test_top1"])

    @property
    def test_top5(self) -> float:
        """Top-5 accuracy on the test set, per cent."""
        return float(self.row["test_top5"])


def load_checked(source: str | Path | None = None, overrides: Sequence[str] = ()) -> Loaded:
    """Return a recipe's (or YAML file's) configuration with every name and option checked. Raises UserError."""
    from pictorch.engine.build import check

    if isinstance(source, str) and source.endswith((".yaml", ".yml")):
        source = Path(source)
    loaded = load(source, overrides)
    check(loaded)
    return loaded


def load_config(recipe_or_path: str | Path | None = None, overrides: Sequence[str] = ()) -> Config:
    """Return the complete configuration of a recipe name or YAML file (None: the default recipe) with overrides.

    `overrides` are `"a.b=value"` strings. Raises UserError (a ValueError) with one line for every mistake.
    """
    return load_checked(recipe_or_path, overrides).config


def train(
    config: Config, *, recipe: str = "custom", out: Path | str | None = None, progress: "Progress | None" = None
) -> Result:
    """Train the configured network from the start; leave and return a complete run directory.

    The directory is `out`, or a fresh one under `runs/`. Raises UserError for what the user can mend, and
    `engine.interrupt.Interrupted` after Ctrl-C or SIGTERM, from where `resume` goes on.
    """
    from pictorch.engine.build import build
    from pictorch.engine.environment import environment

    job = build(config)
    env = environment(job.device, threads=job.threads) | {
        "precision": job.precision.name,
        "recipe": recipe,
        "dataset": job.dataset.name,
        "data_checksum": job.dataset.checksum,
        "data_official": job.dataset.official,
        "resumed": [],
    }
    path = Path(out) if out else runs.default_path(recipe, config.train.seed)
    run = runs.create(path, to_dict(config), env)
    with runs.lock(run):
        return complete(job, run, progress)


def resume(
    run_dir: Path | str,
    *,
    expected: Config | None = None,
    data_dir: str | None = None,
    progress: "Progress | None" = None,
) -> Result:
    """Continue a run that was stopped, to the weights that the uninterrupted run ends with; return its result.

    Threads and precision are those that the run began with. A finished run is returned as it is. Raises UserError when
    `expected` is given and is not the run's configuration (wherever its data lie), or the data are no longer the same.
    """
    from pictorch.engine.build import build
    from pictorch.engine.environment import environment

    run = runs.open(Path(run_dir))
    config = load_checked(run.config).config
    if expected is not None:
        differing = differences(config, expected)
        differing.pop("data.dir", None)
        if differing:
            listed = "\n".join(f"  {key}: {was!r} in the run, {now!r} given" for key, (was, now) in differing.items())
            raise ConfigError(
                f"{run.path}: this run has another configuration; nothing was changed:\n{listed}\n"
                f"continue it as it is with `pictorch train --resume {run.path}`, or start a new run without --resume"
            )
    if run.result.exists():
        return Result(run.path, runs.read_json(run.result))
    with runs.lock(run):
        runs.sweep(run)
        env = runs.read_json(run.env)
        try:
            kept = {key: env[key] for key in ("threads", "precision", "recipe", "data_checksum", "resumed")}
        except KeyError as error:
            raise UserError(
                f"{run.env}: {error} is missing; without it the run cannot be continued as it began"
            ) from None
        job = build(with_data_dir(config, data_dir), threads=kept["threads"], precise=kept["precision"])
        if kept["data_checksum"] != job.dataset.checksum:
            raise UserError(
                f"{run.path}: this run was started on {env.get('dataset')} with checksum {kept['data_checksum']}, "
                f"the files now have {job.dataset.checksum}; nothing was changed"
            )
        now = environment(job.device, threads=job.threads)
        for key in BITWISE:
            if progress and now[key] != env.get(key):
                progress.note(f"{key} is {now[key]}, the run began with {env.get(key)}: its last bits may differ")
        runs.write_json(run.env, env | {"resumed": [*kept["resumed"], now]})
        return complete(job, run, progress)


def with_data_dir(config: Config, data_dir: str | None) -> Config:
    """Return the configuration with another `data.dir`, unless it is None."""
    if data_dir is None:
        return config
    return config.model_copy(update={"data": config.data.model_copy(update={"dir": data_dir})})


def complete(job: "Job", run: RunDir, progress: "Progress | None") -> Result:
    """Train to the end and write everything that a finished run has, result.json last."""
    from pictorch.engine.loop import fit
    from pictorch.engine.progress import Silent
    from pictorch.engine.results import result_row, write_artefacts
    from pictorch.reports import curves

    listener = progress or Silent()
    listener.start(job, run)
    try:
        with job.process_settings():
            evaluation, state = fit(job, run, progress=listener)
    finally:
        listener.close()
    write_artefacts(job, run, evaluation)
    row = result_row(job, run, state, evaluation)
    title = f"{row['recipe']}, seed {row['seed']}: {row['test_error']:.2f}% test error"
    runs.write(run.curves, curves.draw(runs.read_metrics(run), title))
    runs.finish(run, row)
    return Result(run.path, row)


def evaluate(run_dir: Path | str, *, data_dir: str | None = None, device: str = "auto") -> "Evaluation":
    """Return the answers of a finished run's weights on its data set's test images, computed afresh.

    Raises UserError when the run has no weights yet, or its data are missing.
    """
    from pictorch.engine.evaluate import evaluate_run

    return evaluate_run(runs.open(Path(run_dir)), data_dir=data_dir, device=device)


def predict(run_dir: Path | str, images: "Sequence[Path | str | Image]", top_k: int = 5) -> "list[Prediction]":
    """Return the `top_k` most probable classes of each image (a file name or a Pillow image), best first.

    Raises UserError naming the file that is not an image, or the run that has no weights yet.
    """
    from pictorch.deploy.predict import Predictor

    sources = [Path(image) if isinstance(image, str) else image for image in images]
    return Predictor(Path(run_dir))(sources, top_k=top_k)
