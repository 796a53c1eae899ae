"""The package in functions; the command line calls the same ones."""

import contextlib
import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pictorch import runs
from pictorch.config import Config, ConfigError, Loaded, UserError, differences, load, to_dict
from pictorch.runs import RunDir, RunError

if TYPE_CHECKING:
    from PIL.Image import Image

    from pictorch.deploy.drafts import Preprocessing
    from pictorch.deploy.explain import Explanation, Method
    from pictorch.deploy.export import Format, Written
    from pictorch.deploy.predict import Prediction
    from pictorch.engine.build import Job
    from pictorch.engine.distributed import World
    from pictorch.engine.evaluate import Evaluation
    from pictorch.engine.examine import Examination
    from pictorch.engine.interrupt import Stop
    from pictorch.engine.progress import Progress
    from pictorch.engine.replicas import Listener, Outcome, Replica, Request
    from pictorch.engine.state import State


# What decides the last bits of a result: a resumed run is the uninterrupted one where these have not changed.
BITWISE = ("torch", "kernels", "cpu", "gpu", "device", "source_sha256")
PROBE_STEPS = 20  # of a kind of run, before a sweep
# One, since matplotlib is not made for threads; and not that of a run, since the exceptions that matplotlib's parsers
# keep hold the frames that called them, and with those a run's images until Python's collector comes by.
DRAWING = ThreadPoolExecutor(1)
REPLICA = (sys.executable, "-P", "-c", "from pictorch.api import replica_process; replica_process()")


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
    from pictorch.engine.build import mistakes

    if isinstance(source, str) and source.endswith((".yaml", ".yml")):
        source = Path(source)
    return load(source, overrides, check=mistakes)


def load_config(recipe_or_path: str | Path | None = None, overrides: Sequence[str] = ()) -> Config:
    """Return the complete configuration of a recipe name or YAML file (None: the default recipe) with overrides.

    `overrides` are `"a.b=value"` strings. Raises UserError (a ValueError) with one line for every mistake.
    """
    return load_checked(recipe_or_path, overrides).config


def train(
    config: Config, *, recipe: str = "custom", out: Path | str | None = None, progress: "Progress | None" = None
) -> Result | list[Result]:
    """Train the configured network from the start; leave and return a complete run directory.

    The directory is `out`, or a fresh one under `runs/`. With `train.replicas` or `train.replica_lrs` there are several
    of them, as `train_replicas` returns them. PICTORCH_MAX_STEPS in the environment bounds the updates of any run,
    which is then marked incomplete. Raises UserError for what the user can mend, and `engine.interrupt.Interrupted`
    after Ctrl-C or SIGTERM, from where `resume` goes on.
    """
    from pictorch.engine.replicas import several

    if not several(config):
        return train_one(config, recipe=recipe, out=out, progress=progress)
    if out is not None:
        raise UserError("out: each replica has a run directory of its own, a fresh one under runs/: leave this out")
    if progress is not None:
        raise UserError("progress: this listens to one run; `api.train_replicas` takes what listens to several")
    return train_replicas(config, recipe=recipe)


def train_one(
    config: Config,
    *,
    recipe: str = "custom",
    out: Path | str | None = None,
    inside_run: bool = False,
    progress: "Progress | None" = None,
    stop: "Stop | None" = None,
) -> Result:
    """Train a configuration without replicas, as `train` says; `inside_run`: `out` may lie within another run's.

    Called in each of the processes that torchrun started, it is one run, which the first of them writes. With a `stop`,
    which somebody else sets, it raises StopRequested in the place of Interrupted.
    """
    from pictorch.engine.build import build
    from pictorch.engine.distributed import joined
    from pictorch.engine.interrupt import resumable
    from pictorch.engine.memory import enough_memory

    def free_path() -> Path:
        path = runs.default_path(recipe, config.train.seed) if out is None else runs.directory(out)
        runs.check_new(path, inside_run=inside_run)
        return path

    with joined() as world:
        path = world.lead(free_path)
        config = capped(config)
        with enough_memory(config):
            job = world.together(lambda: build(config, world=world))
            env = first_environment(job, recipe)
            with resumable(RunDir(path), stop) as stop, job.process_settings():
                return begin(job, path, env, progress, stop, inside_run=inside_run)


def capped(config: Config) -> Config:
    """Return the configuration with no more updates than PICTORCH_MAX_STEPS in the environment says, if that is set.

    An evaluation then answers as many images as these updates see. Raises UserError for what is not a number of steps.
    """
    text = os.environ.get("PICTORCH_MAX_STEPS", "")
    if not text:
        return config
    if not re.fullmatch("0*[1-9][0-9]{0,11}", text):
        raise UserError(f"PICTORCH_MAX_STEPS: expected a whole number of steps above 0, got {text!r}")
    steps = min(int(text), config.train.max_steps or int(text))
    images = min(steps * config.train.batch_size, config.evaluation.max_images or steps * config.train.batch_size)
    train = config.train.model_copy(update={"max_steps": steps})
    evaluation = config.evaluation.model_copy(update={"max_images": images})
    return config.model_copy(update={"train": train, "evaluation": evaluation})


def train_replicas(config: Config, *, recipe: str = "custom", progress: "Listener | None" = None) -> list[Result]:
    """Train `train.replicas` seeds, or the learning rates `train.replica_lrs`, at once; return the finished runs.

    Each is the run that it is alone, in a fresh directory of its own under `runs/`; on a CPU one of `train.threads=1`,
    unless that is set. Raises UserError for what the user can mend before any of them begins;
    `engine.replicas.Failed` when some failed, after the others have ended; `engine.interrupt.Interrupted` after Ctrl-C
    or SIGTERM, from where `resume` goes on with each.
    """
    from pictorch.engine import replicas
    from pictorch.engine.distributed import started_by_torchrun
    from pictorch.engine.inputs import naming
    from pictorch.engine.interrupt import catch_signals
    from pictorch.engine.precision import choose_device

    if started_by_torchrun():
        raise UserError("train.replicas: these are runs of their own, each on one device: start them without torchrun")
    config = capped(config)
    with naming("train.device"):
        on_cpu = choose_device(config.train.device).type == "cpu"
    if on_cpu and config.train.threads == "auto":
        config = config.model_copy(update={"train": config.train.model_copy(update={"threads": 1})})
    train_group = in_processes if on_cpu else in_threads
    with catch_signals() as stop, replicas.reserved(config, recipe) as group:
        outcomes = train_group(group, recipe, progress or replicas.Quiet(), stop)
        rows = replicas.finished(outcomes)
        return [Result(replica.run.path, row) for replica, row in zip(group, rows, strict=True)]


def in_processes(group: "Sequence[Replica]", recipe: str, listener: "Listener", stop: "Stop") -> "list[Outcome]":
    """Train each replica in a process of its own, as many at a time as there are cores for their threads."""
    from pictorch.data.streaming import cores
    from pictorch.engine import replicas
    from pictorch.engine.build import build
    from pictorch.engine.memory import enough_memory

    config = group[0].config
    at_once = max(1, min(len(group), cores() // int(config.train.threads)))
    with enough_memory(config):
        listener.start(build(config), group, at_once)  # what is wrong with all of them is told once
    processes = replicas.Processes(REPLICA, together=len(group), between=listener.between)
    try:
        return replicas.train_all(
            group,
            lambda replica: processes.train(replica.config, replica.run, recipe, listener.of(replica)),
            at_once=at_once,
            stop=stop,
            listener=listener,
            ask=processes.ask_to_stop,
            kill=processes.kill,
        )
    finally:
        processes.close()
        listener.close()


def replica_process() -> None:
    """Train the runs that standard input asks for, or measure them: what a process of replicas or of a sweep does."""
    from pictorch.engine import replicas
    from pictorch.engine.build import build
    from pictorch.engine.estimate import estimate
    from pictorch.engine.memory import enough_memory, forget_peak

    def work(request: "Request", progress: "Progress", stop: "Stop") -> Any:
        forget_peak()
        if request.run and request.run.config.exists():
            data_dir = request.config.data.dir
            return resume(
                request.run.path, expected=request.config, data_dir=data_dir, progress=progress, stop=stop
            ).row
        started = time.perf_counter()
        with enough_memory(request.config):
            job = build(request.config)
            stop.check()
            with job.process_settings():
                if request.run is None:
                    return time.perf_counter() - started, estimate(job, measured=PROBE_STEPS)
                env = first_environment(job, request.recipe, replicas=request.together)
                return begin(job, request.run.path, env, progress, stop).row

    replicas.serve(work)


def in_threads(group: "Sequence[Replica]", recipe: str, listener: "Listener", stop: "Stop") -> "list[Outcome]":
    """Train all replicas in this process, each in a thread, on one copy of the images.

    One after another where they would not end as they do alone.
    """
    from pictorch.engine import replicas
    from pictorch.engine.memory import enough_memory

    with enough_memory(group[0].config):
        why_not = replicas.why_not_at_once(group)
        jobs = replicas.build_all(group)
    first = jobs[group[0].name]
    if why_not:
        first.notes += (f"the replicas are trained one after another: {why_not}",)
    at_once = 1 if why_not else len(group)
    envs = {name: first_environment(job, recipe, replicas=len(group)) for name, job in jobs.items()}

    def train_it(replica: "Replica") -> dict[str, Any]:
        job = jobs.pop(replica.name)
        with replicas.on_device(job.device), enough_memory(replica.config):
            return begin(job, replica.run.path, envs[replica.name], listener.of(replica), stop).row

    listener.start(first, group, at_once)
    try:
        with first.process_settings():
            return replicas.train_all(group, train_it, at_once=at_once, stop=stop, listener=listener)
    finally:
        listener.close()


def resume(
    run_dir: Path | str,
    *,
    expected: Config | None = None,
    data_dir: str | None = None,
    progress: "Progress | None" = None,
    stop: "Stop | None" = None,
) -> Result:
    """Continue a run that was stopped, to the weights that the uninterrupted run ends with; return its result.

    Threads, precision and the number of processes are those that the run began with. A finished run is returned as it
    is. With a `stop` it raises StopRequested in the place of Interrupted. Raises UserError, before anything is changed,
    when `expected` is given and is not the run's configuration (wherever its data lie), when the data are no longer the
    same, and when a file of the run is damaged.
    """
    from pictorch.engine import environment
    from pictorch.engine.build import build
    from pictorch.engine.distributed import joined
    from pictorch.engine.interrupt import resumable
    from pictorch.engine.memory import enough_memory
    from pictorch.engine.state import restore

    run = runs.open(run_dir)
    config = load_checked(run.config).config
    refuse_differences(run, config, expected)
    if run.result.exists():
        return Result(run.path, runs.read_result(run))
    with joined() as world, locked(run, world), enough_memory(config):
        env = environment.read(run)
        refuse_changes(run, config, env, world)
        job = world.together(
            lambda: build(
                with_data_dir(config, data_dir), threads=env["threads"], precise=env["precision"], world=world
            )
        )
        if env["data_checksum"] != job.dataset.checksum:
            raise RunError(
                f"{run.path}: this run was started on {env.get('dataset')} with checksum {env['data_checksum']}, "
                f"the files now have {job.dataset.checksum}; nothing was changed"
            )
        state = restore(job, run)
        now = environment.environment(job)
        for key in BITWISE:
            if progress and now[key] != env.get(key):
                progress.note(f"{key} is {now[key]}, the run began with {env.get(key)}: its last bits may differ")
        with resumable(run, stop) as stop, job.process_settings():
            if world.leads:
                runs.sweep(run)
                runs.write_json(run.env, env | {"resumed": [*env["resumed"], now]})
            return complete(job, run, state, progress, stop)


def run_to_end(
    config: Config,
    *,
    recipe: str,
    out: Path | str,
    progress: "Progress | None" = None,
    stop: "Stop | None" = None,
) -> Result:
    """Train a run in the directory `out`, or go on with it where it was begun, or return it where it is finished.

    Raises as `train_one` and `resume` do.
    """
    if RunDir(runs.directory(out)).config.exists():
        return resume(out, expected=capped(config), progress=progress, stop=stop)
    return train_one(config, recipe=recipe, out=out, progress=progress, stop=stop)


def refuse_changes(run: RunDir, config: Config, env: dict[str, Any], world: "World") -> None:
    """Raise RunError where the run would go on with other threads, precision or processes than it began with."""
    for key in ("threads", "precision"):
        asked = getattr(config.train, key)
        if asked not in ("auto", env[key]):
            raise RunError(
                f"{run.config}: train.{key} is {asked}, but the run began with {env[key]} and keeps it; "
                f"nothing was changed: put {env[key]} back, or start a new run"
            )
    if env["processes"] != world.size:
        began = "one process" if env["processes"] == 1 else f"torchrun --nproc-per-node {env['processes']}"
        raise RunError(
            f"{run.path}: this run began with {began} and goes on only so, got {world.size}; nothing was changed"
        )


def locked(run: RunDir, world: "World") -> contextlib.AbstractContextManager[None]:
    """Return the context that holds the run directory for this process, or for the first of several."""
    return runs.lock(run) if world.leads else contextlib.nullcontext()


def refuse_differences(run: RunDir, config: Config, expected: Config | None) -> None:
    """Raise ConfigError unless `expected` is None or the run's configuration, wherever the data lie."""
    differing = differences(config, expected or config)
    differing.pop("data.dir", None)
    if differing:
        listed = "\n".join(f"  {key}: {was!r} in the run, {now!r} given" for key, (was, now) in differing.items())
        raise ConfigError(
            f"{run.path}: this run has another configuration; nothing was changed:\n{listed}\n"
            f"continue it as it is with `{run.resume_command()}`, or start a new run without --resume"
        )


def with_data_dir(config: Config, data_dir: str | None) -> Config:
    """Return the configuration with another `data.dir`, unless it is None."""
    if data_dir is None:
        return config
    return config.model_copy(update={"data": config.data.model_copy(update={"dir": data_dir})})


def first_environment(job: "Job", recipe: str, *, replicas: int = 1) -> dict[str, Any]:
    """Return the env.json of a run that is trained beside others, `replicas` with itself."""
    from pictorch.engine import inputs
    from pictorch.engine.environment import environment

    return environment(job) | {
        "precision": job.precision.name,
        "recipe": recipe,
        "dataset": job.dataset.name,
        "data_checksum": job.dataset.checksum,
        "data_official": job.dataset.official,
        "normalisation": inputs.normalisation(job.config, job.dataset.spec),
        "label_order": inputs.label_order(job.dataset.spec),
        "replicas": replicas,
        "processes": job.world.size,
        "resumed": [],
    }


def begin(
    job: "Job",
    path: Path,
    env: dict[str, Any],
    progress: "Progress | None",
    stop: "Stop",
    *,
    inside_run: bool = False,
) -> Result:
    """Make the run directory and train in it from the start to the end."""
    from pictorch.engine.state import restore

    run = job.world.lead(lambda: runs.create(path, to_dict(job.config), env, inside_run=inside_run))
    with locked(run, job.world):
        return complete(job, run, restore(job, run), progress, stop)


def complete(job: "Job", run: RunDir, state: "State", progress: "Progress | None", stop: "Stop") -> Result:
    """Train to the end and write everything that a finished run has, result.json last.

    Called within the job's process settings.
    """
    from pictorch.engine import trackers
    from pictorch.engine.loop import fit
    from pictorch.engine.progress import Silent
    from pictorch.engine.results import result_row, write_artefacts

    listener = progress if progress and job.world.leads else Silent()

    def write() -> dict[str, Any]:
        write_artefacts(job, run, evaluation)
        row = result_row(job, run, state, evaluation, raw)
        draw_curves(run, row, listener)
        runs.finish(run, row)
        return row

    with contextlib.closing(trackers.create(job, run, first_epoch=state.epoch + 1, note=listener.note)) as tracking:
        listener.start(job, run)
        try:
            evaluation, raw = fit(job, run, state, progress=tracking.beside(listener), stop=stop)
        finally:
            listener.close()
        result = Result(run.path, job.world.lead(write))
        tracking.finish(result.row)
        return result


def draw_curves(run: RunDir, row: dict[str, Any], listener: "Progress") -> None:
    """Write curves.png, or note why not."""
    title = f"{row['recipe']}, seed {row['seed']}: {row['test_error']:.2f}% test error{runs.of_views(row['views'])}"
    try:
        from pictorch.reports import curves

        picture = DRAWING.submit(curves.draw, runs.read_metrics(run), title).result()
    # Whatever a drawing library raises (an MPLBACKEND that it does not know, fonts, memory): a result is worth more.
    except Exception as error:
        listener.note(f"{run.curves} was not drawn: {error}")
    else:
        runs.write(run.curves, picture)


def evaluate(
    run_dir: Path | str, overrides: Sequence[str] = (), *, data_dir: str | None = None, device: str = "auto"
) -> "Evaluation":
    """Return the answers of a finished run's weights on its data set's test images, computed afresh.

    `overrides` are words `evaluation.KEY=VALUE`: how to answer otherwise than the run's configuration says. The data
    lie under `data_dir`; without one, where the configuration or PICTORCH_DATA says, or else where the run had them.
    Raises UserError when the run has no weights yet, they are damaged, or the data are missing.
    """
    from pictorch.engine.evaluate import evaluate_run

    return evaluate_run(runs.open(run_dir), overrides, data_dir=data_dir, device=device)


def examine(
    run_dir: Path | str,
    overrides: Sequence[str] = (),
    *,
    corruptions: Sequence[str] = (),
    foreign: Sequence[str] = (),
    frost_dir: str | None = None,
    data_dir: str | None = None,
    device: str = "auto",
    told: Callable[[str], None] = lambda text: None,
) -> "Examination":
    """Return all that `pictorch eval` says of a finished run, as plain values, with its answers (`evaluate`).

    `corruptions` are names of `data.corruptions`, `foreign` other data sets or folders of images; `frost_dir` is a
    folder with the benchmark's photographs of frost; `told` is given a line before each longer piece of work. Raises as
    `evaluate` does, and UserError for names that there are not.
    """
    from pictorch.engine.evaluate import open_trained
    from pictorch.engine.examine import examine

    trained = open_trained(runs.open(run_dir), overrides, data_dir=data_dir, device=device)
    return examine(trained, corruptions=corruptions, foreign=foreign, frost_dir=frost_dir, told=told)


def predict(
    run_dir: Path | str, images: "Path | str | Image | Iterable[Path | str | Image]", top_k: int = 5
) -> "list[Prediction]":
    """Return the `top_k` most probable classes of each image (a file name or a Pillow image), best first.

    A single image is taken for a list of one. Raises UserError naming the file that is not an image, or the run that
    has no weights yet.
    """
    from PIL.Image import Image

    from pictorch.deploy.exported import predictor

    several = [images] if isinstance(images, str | Path | Image) else images
    sources = [Path(image) if isinstance(image, str) else image for image in several]
    return predictor(runs.directory(run_dir))(sources, top_k=top_k)


def export(
    run_dir: Path | str,
    format: "Format" = "onnx",
    *,
    out: Path | str | None = None,
    preprocessing: "Preprocessing" = "inside",
    licence: str | None = None,
    int8: bool = False,
    half: bool = False,
    max_loss: float = 1.0,
    test_images: int | None = None,
    calibration_images: int = 512,
    unchecked: bool = False,
    data_dir: str | None = None,
) -> "list[Written]":
    """Write a finished run's network to one file for use elsewhere, and return it, with `int8` the one in 8 bits, too.

    A file is kept only if it answers all test images (or `test_images` of them) as the network does in float32;
    docs/export.md says how closely. Raises `deploy.parity.Refused` for one that does not, of which nothing is left, and
    UserError for what the user can mend: an unfinished run, missing data or packages, a file in the way.
    """
    from pictorch.deploy import export as deploy
    from pictorch.engine.evaluate import open_dataset
    from pictorch.engine.unaugmented import parts

    path = None if out is None else runs.directory(out)
    request = deploy.Request(format, path, preprocessing, licence, int8, half, max_loss, unchecked)
    for option, images in (("--test-images", test_images), ("--calibration-images", calibration_images)):
        if images is not None and images < 1:
            raise UserError(f"{option}: expected at least 1, got {images}")
    if unchecked and test_images is not None:
        raise UserError("--test-images: with --unchecked nothing is tested; leave one of the two out")
    source = deploy.open_source(runs.open(run_dir), request)
    if unchecked:
        return deploy.export(source, None)
    config = load(source.run.config).config
    try:
        dataset = open_dataset(source.run, config, source.metadata, data_dir)
    except UserError as error:
        raise UserError(f"{error}\n--unchecked exports without the test images, and the file then says so") from None
    of_training = calibration_images if int8 else 0
    test, calibration = parts(dataset, config, test_images=test_images, training_images=of_training)
    return deploy.export(source, test, calibration, dataset=dataset.name)


def explain(
    run_dir: Path | str,
    images: "Path | str | Image | Iterable[Path | str | Image]",
    target: str | int | None = None,
    *,
    method: "Method" = "auto",
    layer: str | None = None,
    side: int | None = None,
    patch: int | None = None,
    checked: bool = True,
) -> "list[Explanation]":
    """Return, for each image (a file name or a Pillow image), where a finished run finds the evidence for a class.

    `target` is a class's name or number, each image's most probable one unless given; all else is as in
    `deploy.explain.explain`. A single image is taken for a list of one. Raises UserError as `predict` does, and for a
    class, method, layer or size that there is none of.
    """
    from PIL.Image import Image

    from pictorch.deploy import explain
    from pictorch.deploy.predict import Predictor

    several = [images] if isinstance(images, str | Path | Image) else images
    predictor = Predictor(runs.directory(run_dir))
    number = None if target is None else explain.class_number(predictor.classes, target)
    return [
        explain.explain(
            predictor,
            predictor.pixels(Path(image) if isinstance(image, str) else image),
            number,
            method=method,
            layer=layer,
            side=side,
            patch=patch,
            checked=checked,
        )
        for image in several
    ]
