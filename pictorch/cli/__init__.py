"""The `pictorch` command. Every command imports what it needs when it runs, so that `--help` answers at once."""

import io
import sys
from typing import Annotated

import typer

from pictorch import __version__
from pictorch.cli.exits import exits

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="PyTorch image classification where every number has a history.\n\nStart with: pictorch train",
)


@app.callback(invoke_without_command=True)
def top(version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False) -> None:
    if version:
        print(f"pictorch {__version__}")
        raise typer.Exit


@app.command(context_settings={"ignore_unknown_options": True})
@exits
def train(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RECIPE] [KEY=VALUE | KEY VALUE]...",
            help="A recipe (`pictorch recipes` lists them; default: the embedded digits), then settings to change.",
        ),
    ] = None,
    config: Annotated[
        str | None, typer.Option(help="A YAML file instead of a recipe; a run's config.yaml repeats it.")
    ] = None,
    resume: Annotated[str | None, typer.Option(metavar="RUN_DIR", help="Continue a run that was stopped.")] = None,
    out: Annotated[
        str | None, typer.Option(metavar="DIR", help="The run directory to make (default: a new one in runs/).")
    ] = None,
    data_dir: Annotated[
        str | None, typer.Option(metavar="DIR", help="Where the data sets lie (default: $PICTORCH_DATA).")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print configuration, size, time and memory; train nothing.")
    ] = False,
) -> None:
    """Train a network: the default on embedded digits, a recipe, or a file.

    Examples: pictorch train; pictorch train cifar10/resnet_preact_20 train.epochs=2; pictorch train --resume RUN_DIR
    """
    from pictorch.cli import training

    training.train(arguments or [], config=config, resume=resume, out=out, data_dir=data_dir, dry_run=dry_run)


@app.command("eval")
@exits
def evaluate(
    run_dir: Annotated[str, typer.Argument(metavar="RUN_DIR", help="A finished run's directory.")],
    data_dir: Annotated[
        str | None, typer.Option(metavar="DIR", help="Where the data sets lie (default: as in the run).")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")] = False,
) -> None:
    """Evaluate a run's saved weights on the test images: top-1, top-5, per class, confusion matrix."""
    from pictorch.cli import evaluation

    evaluation.evaluate(run_dir, data_dir=data_dir, device=device, as_json=json)


@app.command()
@exits
def predict(
    run_dir: Annotated[str, typer.Argument(metavar="RUN_DIR", help="A finished run's directory.")],
    files: Annotated[list[str], typer.Argument(metavar="FILES...", help="Image files of any kind.")],
    top_k: Annotated[int, typer.Option("--top-k", min=1, help="How many classes to name for each image.")] = 5,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")] = False,
) -> None:
    """Name what is on image files, with probabilities, by a run's saved weights."""
    from pictorch.cli import prediction

    prediction.predict(run_dir, files, top_k=top_k, as_json=json)


@app.command()
@exits
def models(
    pattern: Annotated[str, typer.Argument(help="Which names, with * and ?.")] = "*",
    json: Annotated[bool, typer.Option("--json", help="Print a JSON list.")] = False,
) -> None:
    """List the networks: families with their options, and named variants."""
    from pictorch.cli import listing

    listing.models(pattern, as_json=json)


@app.command()
@exits
def recipes(
    pattern: Annotated[str, typer.Argument(help="Which names, with * and ?.")] = "*",
    json: Annotated[bool, typer.Option("--json", help="Print a JSON list.")] = False,
) -> None:
    """List the recipes that `pictorch train` knows by name."""
    from pictorch.cli import listing

    listing.recipes(pattern, as_json=json)


def main() -> None:
    """Run the command line and exit."""
    for stream in (sys.stdout, sys.stderr):
        # A name that the terminal's encoding lacks is shown escaped; it is no reason to lose a run.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    app(prog_name="pictorch")
