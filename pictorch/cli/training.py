"""`pictorch train`: from the command line's words to a run, or to what it would cost."""

import re
from collections.abc import Sequence
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path

import yaml
from rich.console import Console
from rich.table import Table

from pictorch import api
from pictorch.cli.progress import create as create_progress
from pictorch.cli.progress import describe_device
from pictorch.cli.text import duration, quantity, size
from pictorch.config import Loaded, UserError, to_dict
from pictorch.config.load import COMMAND_LINE

OPTIONS = ("--config", "--resume", "--out", "--data-dir", "--dry-run", "--help")


def train(
    words: Sequence[str],
    *,
    config: str | None,
    resume: str | None,
    out: str | None,
    data_dir: str | None,
    dry_run: bool,
) -> None:
    """Run the command. `words` are an optional recipe, then overrides."""
    source, overrides = recipe_and_overrides(words)
    if source and config:
        raise UserError(f"give either the recipe {source!r} or --config {config}, not both")
    if resume and (out or dry_run):
        raise UserError("--resume continues a run in its own directory: leave out --out and --dry-run")
    if resume:
        given = source or config or overrides
        expected = load(source, config, overrides, None).config if given else None
        result = api.resume(Path(resume), expected=expected, data_dir=data_dir, progress=create_progress())
    else:
        loaded = load(source, config, overrides, data_dir)
        for note in loaded.notes:
            print(f"note: {note}")
        if dry_run:
            show_estimate(loaded)
            return
        result = api.train(
            loaded.config, recipe=loaded.recipe, out=Path(out) if out else None, progress=create_progress()
        )
    show_result(result)


def recipe_and_overrides(words: Sequence[str]) -> tuple[str | None, Sequence[str]]:
    """Return the recipe (a name or a YAML file; None when the first word is an override already) and the rest."""
    for word in words:
        if word.startswith("--"):
            close = get_close_matches(word.partition("=")[0], OPTIONS, n=1)
            hint = f"; did you mean {close[0]}?" if close else "; a setting is written key=value"
            raise UserError(f"{COMMAND_LINE}: {word}: unknown option{hint}")
    first = words[0] if words else ""
    is_override = "=" in first or (re.fullmatch(r"\w+(\.\w+)+", first) and not first.endswith((".yaml", ".yml")))
    return (None, words) if not first or is_override else (first, words[1:])


def load(source: str | None, config: str | None, overrides: Sequence[str], data_dir: str | None) -> Loaded:
    """Return the checked configuration with --data-dir laid over it."""
    loaded = api.load_checked(Path(config) if config else source, overrides)
    if data_dir is None:
        return loaded
    data = loaded.config.data.model_copy(update={"dir": data_dir})
    return replace(loaded, config=loaded.config.model_copy(update={"data": data}))


def show_estimate(loaded: Loaded) -> None:
    """Print the resolved configuration and what the run would cost, measured on a few real steps."""
    from pictorch.engine.build import build
    from pictorch.engine.estimate import MEASURED, estimate
    from pictorch.engine.precision import threads

    print(yaml.safe_dump(to_dict(loaded.config), sort_keys=False))
    job = build(loaded.config)
    with threads(job.threads):
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
        ("updates", f"{cost.updates:,}, each on {loaded.config.train.batch_size} images"),
        ("device", f"{describe_device(job)}, {job.precision.name} ({job.precision.reason})"),
        ("first step", duration(cost.first_step_seconds)),
        ("a step", f"{1000 * cost.step_seconds:.1f} ms, {cost.images_per_second:,.0f} images/s (median of {MEASURED})"),
        ("the whole run", f"about {duration(cost.run_seconds)} with evaluation"),
        ("memory", f"{size(cost.peak_memory_bytes)} at its peak in these steps"),
    ]
    print_table("Dry run: nothing was written", rows)


def show_result(result: api.Result) -> None:
    """Print the finished run's figures and what one can do with it."""
    row = result.row
    rows = [
        ("test error", f"{row['test_error']:.2f}% ({row['selection']} epoch's weights, {row['test_images']:,} images)"),
        ("top-1 / top-5", f"{row['test_top1']:.2f}% / {row['test_top5']:.2f}%"),
        *([("validation top-1", f"{row['val_top1']:.2f}% (epoch {row['best_epoch']})")] if row["best_epoch"] else []),
        ("training time", f"{duration(row['train_seconds'])} for {row['epochs']} epochs, {row['steps']:,} updates"),
        ("speed", f"{row['images_per_second']:,.0f} images/s in {row['precision']}"),
        ("network", f"{row['model']}, {quantity(row['params'])} parameters, {quantity(row['macs'])} multiply-adds"),
        ("data", row["dataset"]),
        ("seed", str(row["seed"])),
        ("run", str(result.run_dir)),
    ]
    print_table("Finished" if row["complete"] else "Stopped at train.max_steps: this run is incomplete", rows)
    print(
        f"\nNext: pictorch eval {result.run_dir}\n"
        f"      pictorch predict {result.run_dir} IMAGE...\n"
        f"      pictorch train train.seed={row['seed'] + 1}    (one run is an anecdote; report the median of 3)\n"
        f"      pictorch recipes"
    )


def print_table(title: str, rows: Sequence[tuple[str, str]]) -> None:
    table = Table(title=title, title_justify="left", show_header=False)
    for name, value in rows:
        table.add_row(name, value)
    Console(soft_wrap=False).print(table)
