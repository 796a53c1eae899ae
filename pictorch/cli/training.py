"""`pictorch train`: from the command line's words to a run, or to what it would cost."""

import re
import shlex
import statistics
import sys
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from itertools import zip_longest
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from pictorch import api, runs
from pictorch.cli.paths import option_path
from pictorch.cli.progress import create as create_progress
from pictorch.cli.progress import create_for_replicas, describe_device, show_notes
from pictorch.cli.text import duration, quantity, say, show, size
from pictorch.config import Config, Loaded, UserError, dump, recipes, to_dict
from pictorch.config.explain import known_keys
from pictorch.config.load import COMMAND_LINE
from pictorch.engine import replicas

OPTIONS = ("--config", "--resume", "--out", "--data-dir", "--dry-run", "--plot", "--quick", "--help")

INCOMPLETE = "Cut short by train.max_steps or evaluation.max_images: this run is incomplete"


def train(
    words: Sequence[str],
    *,
    config: str | None,
    resume: str | None,
    out: str | None,
    data_dir: str | None,
    dry_run: bool,
    plot: bool = False,
    quick: bool = False,
) -> None:
    """Run the command. `words` are an optional recipe, then overrides."""
    config, resume = option_path("--config", config), option_path("--resume", resume)
    out, data_dir = option_path("--out", out), option_path("--data-dir", data_dir)
    source, overrides = recipe_and_overrides(words)
    if source and config:
        raise UserError(f"give either the recipe {source!r} or --config {config}, not both")
    if resume and (out or dry_run):
        raise UserError("--resume continues a run in its own directory: leave out --out and --dry-run")
    if resume and quick:
        raise UserError("--resume continues a run as it was begun: leave out --quick")
    if plot and not dry_run:
        raise UserError("--plot draws what a run would do: add --dry-run")
    if resume:
        expected = None
        if source or config or overrides:
            own = str(runs.open(Path(resume)).config)
            expected = api.load_checked(source or Path(config or own), overrides).config
        result = api.resume(resume, expected=expected, data_dir=data_dir, progress=create_progress())
    else:
        loaded = api.load_checked(Path(config) if config else source, overrides)
        if quick:
            loaded = scaled_down(loaded, Path(config) if config else source, overrides, data_dir)
        recipe, configuration = recipe_of(loaded, config), api.with_data_dir(loaded.config, data_dir)
        for note in loaded.notes:
            say(f"note: {note}")
        if dry_run:
            show_estimate(configuration, plot=plot)
            return
        if replicas.several(configuration):
            train_replicas(configuration, recipe, out)
            return
        result = api.train_one(configuration, recipe=recipe, out=out, progress=create_progress())
    show_result(result)


def scaled_down(loaded: Loaded, source: str | Path | None, overrides: Sequence[str], data_dir: str | None) -> Loaded:
    """Return the run of a minute in the place of the whole one, and say what that changes."""
    from pictorch.engine.quick import quick

    changes = quick(api.with_data_dir(loaded.config, data_dir))
    changed = " ".join(changes) or "nothing is to be changed"
    say(f"quick: {changed}: a look at the run, whose figures are no result; it is marked incomplete")
    return api.load_checked(source, [*overrides, *changes])


def train_replicas(config: Config, recipe: str, out: str | None) -> None:
    """Train several runs at once, and show their results; those of the others, too, where some failed."""
    if out:
        raise UserError("--out names one run's directory, and each replica has its own, under runs/: leave out --out")
    names = replicas.configurations(config)
    try:
        results = api.train_replicas(config, recipe=recipe, progress=create_for_replicas())
    except replicas.Failed as failed:
        done = {o.replica.name: api.Result(o.replica.run.path, o.row) for o in failed.outcomes if o.row}
        show_replicas(done)
        if failed.mistake:
            raise
        print(f"error: {failed}", file=sys.stderr)
        sys.exit(1)
    show_replicas(dict(zip(names, results, strict=True)))


def recipe_of(loaded: Loaded, config: str | None) -> str:
    """Return the recipe's name; that of the run where the configuration is a run's own."""
    env = Path(config).with_name("env.json") if config else None
    return str(runs.read_json(env).get("recipe", loaded.recipe)) if env and env.is_file() else loaded.recipe


def recipe_and_overrides(words: Sequence[str]) -> tuple[str | None, Sequence[str]]:
    """Return the recipe (a name or a YAML file; None when the first word is an override already) and the rest.

    Raises UserError for an unknown option, and for a word that names something else than a recipe or is misplaced.
    """
    for word, following in zip_longest(words, words[1:], fillvalue=""):
        if re.match("--?[A-Za-z]", word):
            raise UserError(
                f"{COMMAND_LINE}: {word.partition('=')[0]}: unknown option{nearest_option(word, following)}"
            )
    first = words[0] if words else ""
    is_override = "=" in first or (re.fullmatch(r"\w+(\.\w+)+", first) and not first.endswith((".yaml", ".yml")))
    source, overrides = (None, words) if not first or is_override else (first, words[1:])
    if source:
        refuse_other_names(source)
    for word in overrides:
        if word in recipes.names():
            also = f", and {source} is one already" if source else ""
            raise UserError(f"{COMMAND_LINE}: {word}: a recipe is the first word after `pictorch train`{also}")
    return source, overrides


def refuse_other_names(source: str) -> None:
    """Raise UserError when what stands for a recipe is a folder of recipes, or a network."""
    from pictorch.models import list_models

    inside = [name for name in [*recipes.names(), *recipes.grids()] if name.startswith(f"{source.rstrip('/')}/")]
    if inside:
        kind = "grids" if inside[0].startswith(recipes.GRIDS) else "recipes"
        raise UserError(f"{source} is a folder of {kind}; its {kind}: {', '.join(inside)}")
    if source in list_models():
        raise UserError(f"{source} is a network, not a recipe; to train it on digits, write model.name={source}")


def nearest_option(word: str, following: str) -> str:
    """Return the hint for an unknown option: the nearest one, or the setting that its name stands for."""
    option, equals, value = word.partition("=")
    keys: dict[str, list[str]] = {}
    for key in known_keys():
        block, _, leaf = key.rpartition(".")
        for name in (key, block if leaf == "name" else leaf):
            keys.setdefault(name, []).append(key)
    known = {name.strip("-").replace("_", "-"): name for name in (*OPTIONS, *keys)}
    close = get_close_matches(option.strip("-").replace("_", "-"), known, n=1)
    if not close:
        return "; a setting is written key=value, for example train.epochs=2; `pictorch train --dry-run` lists them"
    if known[close[0]] in OPTIONS:
        return f"; did you mean {known[close[0]]}?"
    value = value if equals else "" if following.startswith("-") else following
    return "; a setting is written " + " or ".join(f"{key}={value or '...'}" for key in keys[known[close[0]]])


def show_estimate(config: Config, *, plot: bool) -> None:
    """Print the resolved configuration and what the run would cost, measured on a few real steps.

    With `plot`, draw the learning rate over the run.
    """
    from pictorch.cli.schedule import show_schedule
    from pictorch.engine.build import build
    from pictorch.engine.estimate import MEASURED, estimate
    from pictorch.engine.memory import enough_memory

    say(dump(to_dict(config)))
    with enough_memory(config):
        job = build(config)
        show_notes(job)
        with job.process_settings():
            cost = estimate(job)
    parts = [("training images", f"{job.train_loader.images_per_epoch:,} an epoch")]
    if job.val_loader:
        parts.append(("validation images", f"{job.val_loader.images_per_epoch:,}"))
    rows = [
        ("data", f"{job.dataset.name}, {len(job.classes)} classes"),
        *parts,
        ("test images", f"{job.test_loader.images_per_epoch:,}"),
        ("parameters", f"{job.complexity.params:,}"),
        ("multiply-adds", f"{job.complexity.macs:,} an image"),
        ("updates", f"{cost.updates:,}, each on {config.train.batch_size} images"),
        ("device", f"{describe_device(job)}, {job.precision.name} ({job.precision.reason})"),
        ("first step", duration(cost.first_step_seconds)),
        ("a step", f"{1000 * cost.step_seconds:.1f} ms, {cost.images_per_second:,.0f} images/s (median of {MEASURED})"),
        ("the whole run", f"about {duration(cost.run_seconds)} with evaluation{of_replicas(config)}"),
        ("memory", f"{size(cost.peak_memory_bytes)} at its peak in these steps"),
    ]
    print_table("Dry run: nothing was trained", rows)
    show_schedule(job, plot=plot)


def of_replicas(config: Config) -> str:
    """Return what to add to one run's figures where there are several runs."""
    return f"; this is one of {len(replicas.configurations(config))} replicas" if replicas.several(config) else ""


def show_result(result: api.Result) -> None:
    """Print the finished run's figures and what one can do with it."""
    row = result.row
    whose = "the last epoch's weights" if row["selection"] == "last" else "the weights of the best validation"
    if row["averaged"]:
        whose = f"the average by {row['averaged'].upper()}"
    rows = [
        (
            "test error",
            f"{row['test_error']:.2f}% ({whose}, {row['test_images']:,} images{runs.of_views(row['views'])})",
        ),
        *([("without average", f"{row['raw_test_error']:.2f}%")] if row["averaged"] else []),
        ("top-1 / top-5", f"{row['test_top1']:.2f}% / {row['test_top5']:.2f}%"),
        *([("validation top-1", validation(row))] if row["val_top1"] is not None else []),
        ("training time", f"{duration(row['train_seconds'])} for {row['epochs']} epochs, {row['steps']:,} updates"),
        ("speed", f"{row['images_per_second']:,.0f} images/s in {row['precision']}"),
        ("network", f"{row['model']}, {quantity(row['params'])} parameters, {quantity(row['macs'])} multiply-adds"),
        ("data", row["dataset"]),
        ("seed", str(row["seed"])),
        ("run", str(result.run_dir)),
    ]
    print_table("Finished" if row["complete"] else INCOMPLETE, rows)
    run_dir = shlex.quote(str(result.run_dir))
    say(
        f"\nNext: pictorch eval {run_dir}\n"
        f"      pictorch predict {run_dir} IMAGE...\n"
        f"      pictorch train --config {run_dir}/config.yaml train.seed={row['seed'] + 1}\n"
        f"One run is an anecdote: report the median of 3. `pictorch recipes` lists what else there is to train."
    )


def show_replicas(results: Mapping[str, api.Result]) -> None:
    """Print the results of replicas by their names, and how they spread where they differ by their seeds alone."""
    whole = all(result.row["complete"] for result in results.values())
    title = "Finished" if whole else INCOMPLETE
    table = Table(title=title, title_justify="left")
    for heading in ("replica", "test error", "validation top-1", "training time", "run"):
        if heading != "validation top-1" or any(result.row["val_top1"] is not None for result in results.values()):
            table.add_column(heading, overflow="fold")
    for name, result in results.items():
        row = result.row
        val = [validation(row)] if row["val_top1"] is not None else []
        cells = [name, f"{row['test_error']:.2f}%", *val, duration(row["train_seconds"]), str(result.run_dir)]
        table.add_row(*map(Text, cells))
    if results:
        show(table)
    errors = [result.test_error for result in results.values()]
    if len({result.row["seed"] for result in results.values()}) > 1:
        median = statistics.median(errors)
        say(f"\nmedian of {len(errors)}: {median:.2f}% test error (min {min(errors):.2f}%, max {max(errors):.2f}%)")


def validation(row: dict[str, Any]) -> str:
    return f"{row['val_top1']:.2f}%, at best {row['best_val_top1']:.2f}% (epoch {row['best_epoch']})"


def print_table(title: str, rows: Sequence[tuple[str, str]]) -> None:
    table = Table(title=title, title_justify="left", show_header=False)
    for name, value in rows:
        table.add_row(name, Text(value, overflow="fold"))
    show(table)
