"""`pictorch lr-find`: what the loss does at rising learning rates, and the rate to begin with."""

import json
import shlex
from collections.abc import Sequence
from pathlib import Path

from pictorch import api
from pictorch.cli.paths import option_path
from pictorch.cli.progress import describe_device, show_notes
from pictorch.cli.schedule import write_picture
from pictorch.cli.text import say
from pictorch.cli.training import print_table, recipe_and_overrides
from pictorch.config import UserError
from pictorch.config.load import COMMAND_LINE
from pictorch.engine.build import Job, build
from pictorch.engine.lr_find import Finding, find
from pictorch.engine.memory import enough_memory
from pictorch.reports.schedule import draw_range_test, sparkline

PICTURES = (".png", ".svg", ".pdf")


def lr_find(words: Sequence[str], *, config: str | None, data_dir: str | None, out: str | None, as_json: bool) -> None:
    """Run the command. `words` are an optional recipe, then overrides; `out` is the picture to draw."""
    config, data_dir = option_path("--config", config), option_path("--data-dir", data_dir)
    picture = picture_path(option_path("--out", out))
    source, overrides = recipe_and_overrides(words)
    if source and config:
        raise UserError(f"give either the recipe {source!r} or --config {config}, not both")
    loaded = api.load_checked(Path(config) if config else source, overrides)
    configuration = api.with_data_dir(loaded.config, data_dir)
    if not as_json:
        for note in loaded.notes:
            say(f"note: {note}")
    with enough_memory(configuration):
        job = build(configuration)
        if not as_json:
            show_notes(job)
        with job.process_settings():
            finding = find(job)
    if picture:
        write_picture(picture, draw(finding, title=f"{configuration.model.name}, {job.dataset.name}", picture=picture))
    command = next_command(words, config, data_dir, finding)
    if as_json:
        say(json.dumps(as_plain(finding, command)))
    else:
        show_finding(job, finding, picture, command)


def picture_path(out: str | None) -> Path | None:
    """Return where the picture is to be written. Raises UserError for another kind of file, or a missing folder."""
    if out is None:
        return None
    path = Path(out)
    if path.suffix not in PICTURES:
        raise UserError(f"{COMMAND_LINE}: --out: expected a name that ends in .png, .svg or .pdf, got {out}")
    if not path.parent.is_dir():
        raise UserError(f"{COMMAND_LINE}: --out: there is no folder {path.parent}")
    return path


def draw(finding: Finding, *, title: str, picture: Path) -> bytes:
    marks = {"least loss": finding.minimum, "steepest fall": finding.steepest, "suggestion": finding.suggestion}
    return draw_range_test(
        finding.rates, finding.losses, finding.averages, marks=marks, title=title, kind=picture.suffix[1:]
    )


def next_command(words: Sequence[str], config: str | None, data_dir: str | None, finding: Finding) -> str:
    """Return the command that trains with the suggestion: a rate among the words gives way to it, standing last."""
    kept = [word for word in words if not word.startswith("optim.lr=")]
    options = [*(["--config", config] if config else []), *(["--data-dir", data_dir] if data_dir else [])]
    return shlex.join(["pictorch", "train", *kept, f"optim.lr={finding.suggestion:g}", *options])


def as_plain(finding: Finding, command: str) -> dict[str, object]:
    return {
        "suggestion": finding.suggestion,
        "steepest": finding.steepest,
        "minimum": finding.minimum,
        "diverged": finding.diverged,
        "next": command,
        "rates": finding.rates,
        "losses": finding.losses,
        "averages": finding.averages,
    }


def show_finding(job: Job, finding: Finding, picture: Path | None, command: str) -> None:
    """Print what the range test found and what to do with it."""
    config, rates, first = job.config, finding.rates, finding.averages[0]
    steps = f"{len(rates)} steps of {config.train.batch_size} images"
    diverged = f"at {rates[-1]:.2g}" if finding.diverged else f"not up to {rates[-1]:.2g}"
    rows = [
        ("network", f"{config.model.name} on {job.dataset.name}"),
        ("optimiser", f"{config.optim.name}, weight decay {config.optim.weight_decay:g}"),
        ("device", f"{describe_device(job)}, {job.precision.name} ({job.precision.reason})"),
        ("rates", f"{rates[0]:.2g} to {rates[-1]:.2g}, {steps}"),
        ("loss", sparkline([min(average, first) for average in finding.averages])),
        ("steepest fall", f"at {finding.steepest:.2g}"),
        ("least loss", f"{min(finding.averages):.4f} at {finding.minimum:.2g}"),
        ("diverged", diverged),
        ("suggestion", f"{finding.suggestion:g}, a tenth of the rate of the least loss"),
    ]
    print_table("Learning-rate range test: nothing was trained", rows)
    if picture:
        say(f"drawn in {picture}")
    say(f"\nNext: {command}\nThe losses are those of one seed's first steps: try half and twice the rate, too.")
