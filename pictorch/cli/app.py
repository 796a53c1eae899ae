"""The commands and their options. Each imports what it needs when it runs, so that `--help` answers at once."""

import os
from itertools import takewhile
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from pictorch import __version__
from pictorch.cli.exits import exits

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
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
    recipe: Annotated[
        str | None,
        typer.Argument(metavar="RECIPE", help="`pictorch recipes` lists them; default: the digits in the package."),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE", help="What to change in the recipe, for example train.epochs=2."),
    ] = None,
    config: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="A YAML file instead of a recipe; a run's config.yaml repeats it."),
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
    plot: Annotated[
        bool, typer.Option("--plot", help="With --dry-run: draw the learning rate over the run (schedule.png).")
    ] = False,
    quick: Annotated[
        bool, typer.Option("--quick", help="A minute of the run on two CPU cores, to see it work: no result.")
    ] = False,
) -> None:
    """Train a network by a recipe; by default on digits.

    \b
    pictorch train
    pictorch train cifar10/resnet_preact_20 train.epochs=2 optim.lr=0.2
    pictorch train --resume RUN_DIR
    """
    from pictorch.cli import training

    words = [*([] if recipe is None else [recipe]), *(settings or [])]
    training.train(
        words, config=config, resume=resume, out=out, data_dir=data_dir, dry_run=dry_run, plot=plot, quick=quick
    )


@app.command("eval")
@exits
def evaluate(
    run_dir: Annotated[str, typer.Argument(metavar="RUN_DIR", help="A finished run's directory.")],
    settings: Annotated[
        list[str] | None,
        typer.Argument(metavar="evaluation.KEY=VALUE", help="How to answer otherwise than the run says."),
    ] = None,
    corruptions: Annotated[
        str | None,
        typer.Option(metavar="all|A,B", help="Also with the test images corrupted: 15 ways, 5 severities each."),
    ] = None,
    frost_dir: Annotated[
        str | None, typer.Option(metavar="DIR", help="The benchmark's photographs of frost (default: computed frost).")
    ] = None,
    ood: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Also against another data set or a folder of images; may be repeated."),
    ] = None,
    out: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="Where evaluation.json and .html go (default: the run's directory)."),
    ] = None,
    data_dir: Annotated[
        str | None, typer.Option(metavar="DIR", help="Where the data sets lie (default: as in the run).")
    ] = None,
    device: Annotated[str, typer.Option(metavar="DEVICE", help="auto, cpu, cuda or cuda:N.")] = "auto",
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")] = False,
) -> None:
    """Evaluate a finished run on the test images.

    Scores with intervals, calibration, classes, confusions, doubtful labels and the protocol, as one JSON and one page.

    \b
    pictorch eval RUN_DIR
    pictorch eval RUN_DIR --corruptions all --ood svhn
    pictorch eval RUN_DIR evaluation.views=mirror
    """
    from pictorch.cli import evaluation

    evaluation.evaluate(
        os.path.expanduser(run_dir),
        settings or [],
        corruptions=corruptions,
        foreign=[os.path.expanduser(name) for name in ood or []],
        frost_dir=frost_dir,
        out=out,
        data_dir=data_dir,
        device=device,
        as_json=json,
    )


class FilesCommand(TyperCommand):
    """A command on files, which may have a name that begins with a dash."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the words. Raises BadParameter for a file whose name would be taken for options."""
        for word in takewhile(lambda word: word != "--", args):
            if word.startswith("-") and Path(word).is_file():
                raise typer.BadParameter(f"{word} would be read as an option; to name the file, write ./{word}", ctx)
        return super().parse_args(ctx, args)


@app.command()
@exits
def card(
    run_dir: Annotated[str, typer.Argument(metavar="RUN_DIR", help="A finished run's directory.")],
    out: Annotated[
        str | None, typer.Option(metavar="DIR", help="Where card.md and card.html go (default: the run's directory).")
    ] = None,
) -> None:
    """Write a finished run's model card: data, recipe, results with intervals, protocol, limits, how to load it.

    Calibration and classes stand in it after `pictorch eval`.
    """
    from pictorch.cli import card

    card.card(os.path.expanduser(run_dir), out=out)


@app.command(cls=FilesCommand)
@exits
def predict(
    run_dir: Annotated[
        str, typer.Argument(metavar="RUN_DIR", help="A finished run's directory, or a file exported of it.")
    ],
    files: Annotated[
        list[str],
        typer.Argument(metavar="FILE|FOLDER|-", help="Image files; folders of them; -: an image or names, from stdin."),
    ],
    top_k: Annotated[
        int, typer.Option("--top-k", metavar="K", min=1, help="How many classes to name for each image.")
    ] = 5,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")] = False,
    csv: Annotated[bool, typer.Option("--csv", help="Print a table for spreadsheets.")] = False,
) -> None:
    """Name what is on images, by a finished run.

    \b
    pictorch predict RUN_DIR cat.jpg
    pictorch predict RUN_DIR photographs/ --csv > answers.csv
    find . -name '*.png' | pictorch predict RUN_DIR -
    """
    from pictorch.cli import prediction
    from pictorch.config import UserError

    if json and csv:
        raise UserError("--json and --csv: expected one of them")
    form: prediction.Format = "json" if json else "csv" if csv else "table"
    prediction.predict(os.path.expanduser(run_dir), files, top_k=top_k, form=form)


@app.command()
@exits
def export(
    run_dir: Annotated[str, typer.Argument(metavar="RUN_DIR", help="A finished run's directory.")],
    format: Annotated[str, typer.Option(metavar="FORMAT", help="onnx, torch-export or safetensors.")] = "onnx",
    out: Annotated[
        str | None, typer.Option(metavar="FILE", help="The file to write (default: in RUN_DIR/export/).")
    ] = None,
    preprocessing: Annotated[
        str, typer.Option(metavar="WHERE", help="inside: takes uint8 images; beside: takes normalised float32 ones.")
    ] = "inside",
    int8: Annotated[
        bool, typer.Option("--int8", help="onnx: also a file in 8 bits, calibrated on training images.")
    ] = False,
    half: Annotated[bool, typer.Option("--half", help="safetensors: store weights as float16.")] = False,
    max_loss: Annotated[
        float, typer.Option(metavar="POINTS", help="Points of top-1 that --int8 or --half may lose.")
    ] = 1.0,
    licence: Annotated[
        str | None, typer.Option(metavar="TEXT", help="The weights' licence, for the metadata (default: not stated).")
    ] = None,
    test_images: Annotated[
        int | None, typer.Option(metavar="N", help="Check on so many of the test images only; the file says so.")
    ] = None,
    calibration_images: Annotated[
        int, typer.Option(metavar="N", help="int8: how many training images set the ranges.")
    ] = 512,
    unchecked: Annotated[
        bool, typer.Option("--unchecked", help="Check nothing: where the data are not here; the file says so.")
    ] = False,
    data_dir: Annotated[
        str | None, typer.Option(metavar="DIR", help="Where the data sets lie (default: as in the run).")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of lines.")] = False,
) -> None:
    """Write a finished run's network to one file for use elsewhere, checked on all test images.

    Ends with status 1, and leaves no file, where the file does not answer as the network does.

    \b
    pictorch export RUN_DIR
    pictorch export RUN_DIR --int8
    pictorch export RUN_DIR --format torch-export --out cats.pt2
    """
    from pictorch.cli import export

    export.export(
        os.path.expanduser(run_dir),
        as_json=json,
        format=format,
        out=out,
        preprocessing=preprocessing,
        int8=int8,
        half=half,
        max_loss=max_loss,
        licence=licence,
        test_images=test_images,
        calibration_images=calibration_images,
        unchecked=unchecked,
        data_dir=data_dir,
    )


@app.command(cls=FilesCommand)
@exits
def explain(
    run_dir: Annotated[str, typer.Argument(metavar="RUN_DIR", help="A finished run's directory.")],
    images: Annotated[
        list[str] | None, typer.Argument(metavar="[IMAGES]", help="Image files, or folders of them.")
    ] = None,
    test: Annotated[
        str | None, typer.Option(metavar="0,5,17", help="Test images of the run's data set, by number.")
    ] = None,
    mistakes: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Test images that the run was surest of, and wrong.")
    ] = None,
    target: Annotated[
        str | None, typer.Option("--class", metavar="NAME", help="A class, or its number (default: the answer).")
    ] = None,
    method: Annotated[str, typer.Option(metavar="NAME", help="auto, gradcam, rollout or occlusion.")] = "auto",
    layer: Annotated[
        str | None, typer.Option(metavar="NAME", help="Grad-CAM of this module (default: the last whole map).")
    ] = None,
    side: Annotated[
        int | None, typer.Option(metavar="PIXELS", help="Grad-CAM of the last map at least so large, for a finer one.")
    ] = None,
    patch: Annotated[
        int | None, typer.Option(metavar="PIXELS", help="Side of what occlusion covers (default: a quarter).")
    ] = None,
    check: Annotated[
        bool, typer.Option("--check/--no-check", help="Test each map by covering parts of the image.")
    ] = True,
    out: Annotated[
        str | None, typer.Option(metavar="DIR", help="Where to write (default: explain); earlier ones are replaced.")
    ] = None,
    data_dir: Annotated[
        str | None, typer.Option(metavar="DIR", help="Where the data sets lie (default: as in the run).")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")] = False,
) -> None:
    """Show where in an image a finished run finds the evidence for its answer, and test whether that is so.

    Grad-CAM of networks with maps, attention rollout of transformers, occlusion of any; a PNG for each image.

    \b
    pictorch explain RUN_DIR my_cat.jpg
    pictorch explain RUN_DIR --mistakes 8 --out why
    pictorch explain RUN_DIR --test 0,5,17 --class dog --side 16
    """
    from pictorch.cli import explain

    explain.explain(
        os.path.expanduser(run_dir),
        images or [],
        test=test,
        mistakes=mistakes,
        target=target,
        method=method,
        layer=layer,
        side=side,
        patch=patch,
        checked=check,
        out=out,
        data_dir=data_dir,
        as_json=json,
    )


@app.command()
@exits
def serve(
    run_dir: Annotated[str, typer.Argument(metavar="RUN_DIR", help="The run's directory.")],
    host: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Where to listen; 0.0.0.0: wherever this machine is reached.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(metavar="N", min=0, max=65535, help="0 takes any free one.")] = 8000,
    threads: Annotated[
        int | None, typer.Option(metavar="N", min=1, max=1024, help="torch's (default: the cores but one).")
    ] = None,
    max_megabytes: Annotated[
        int, typer.Option(metavar="MIB", min=1, max=4096, help="The largest request that is read.")
    ] = 32,
    max_megapixels: Annotated[
        float, typer.Option(metavar="MP", min=0.01, max=170, help="The largest image that is decoded.")
    ] = 50,
    max_images: Annotated[int, typer.Option(metavar="N", min=1, max=1000, help="Images of one request.")] = 32,
    allow_urls: Annotated[
        bool, typer.Option("--allow-urls", help="Fetch images by address, of public hosts alone.")
    ] = False,
    allow_host: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Answer to this name, too; may be repeated.")
    ] = None,
    allow_origin: Annotated[
        list[str] | None,
        typer.Option(metavar="ORIGIN", help="Let pages of https://... ask (CORS); may be repeated."),
    ] = None,
) -> None:
    """Serve a finished run over HTTP: a page to drop images on, POST /predict, /health, /metrics.

    \b
    pictorch serve runs/cifar10-resnet_preact_20/...
    curl -F files=@cat.jpg http://127.0.0.1:8000/predict
    """
    from pictorch.cli import serve

    serve.serve(
        run_dir,
        host=host,
        port=port,
        threads=threads,
        max_megabytes=max_megabytes,
        max_megapixels=max_megapixels,
        max_images=max_images,
        allow_urls=allow_urls,
        allow_hosts=allow_host or [],
        allow_origins=allow_origin or [],
    )


@app.command()
@exits
def models(
    pattern: Annotated[
        str, typer.Argument(metavar="PATTERN", help="Which names, with * and ?; also package.module:Network.")
    ] = "*",
    json: Annotated[bool, typer.Option("--json", help="Print a JSON list with all that is known.")] = False,
    layers: Annotated[bool, typer.Option("--layers", help="Print one network layer by layer.")] = False,
    image_size: Annotated[
        int | None, typer.Option(metavar="PIXELS", help="For images of this size (default: 32, else 224).")
    ] = None,
) -> None:
    """List the networks; model.name=NAME trains one.

    Examples: pictorch models; pictorch models "resnet*"; pictorch models resnet_20 --layers
    """
    from pictorch.cli import listing

    listing.models(pattern, image_size=image_size, as_json=json, layers=layers)


@app.command()
@exits
def recipes(
    pattern: Annotated[str, typer.Argument(metavar="PATTERN", help="A data set, or which names, with * and ?.")] = "*",
    json: Annotated[bool, typer.Option("--json", help="Print a JSON list.")] = False,
) -> None:
    """List the recipes that `pictorch train` knows."""
    from pictorch.cli import listing

    listing.recipes(pattern, as_json=json)


@app.command()
@exits
def quirks(
    pattern: Annotated[str, typer.Argument(metavar="PATTERN", help="A name, or which names, with * and ?.")] = "*",
    document: Annotated[str | None, typer.Option(metavar="SEED", help="Only those of seed1, seed2 or seed3.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print a JSON list.")] = False,
) -> None:
    """List where the seed documents' programs differ from the papers, and the switch of each.

    \b
    pictorch quirks --document seed1
    pictorch quirks narrow_first_stage
    pictorch train cifar10/resnet_110 as_published=seed1
    """
    from pictorch.cli import quirks

    quirks.quirks(pattern, document=document, as_json=json)


@app.command("lr-find", context_settings={"ignore_unknown_options": True})
@exits
def lr_find(
    recipe: Annotated[str | None, typer.Argument(metavar="RECIPE", help="As for `pictorch train`.")] = None,
    settings: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE", help="What to change in the recipe.")
    ] = None,
    config: Annotated[str | None, typer.Option(metavar="FILE", help="A YAML file instead of a recipe.")] = None,
    data_dir: Annotated[
        str | None, typer.Option(metavar="DIR", help="Where the data sets lie (default: $PICTORCH_DATA).")
    ] = None,
    out: Annotated[str | None, typer.Option(metavar="FILE", help="Draw the losses there (.png, .svg or .pdf).")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")] = False,
) -> None:
    """Find a learning rate: a few real steps with rising rates, before a long run.

    Example: pictorch lr-find cifar10/resnet_preact_20 optim=adamw
    """
    from pictorch.cli import lr_find

    words = [*([] if recipe is None else [recipe]), *(settings or [])]
    lr_find.lr_find(words, config=config, data_dir=data_dir, out=out, as_json=json)


@app.command()
@exits
def bench(
    what: Annotated[
        str | None, typer.Argument(metavar="WHAT", help="loader, step, epoch, models or replicas (default: all).")
    ] = None,
    networks: Annotated[
        str | None, typer.Option(metavar="A,B", help="Which networks (default: six, or for models one a family).")
    ] = None,
    against: Annotated[
        str, typer.Option(metavar="A,B", help="What steps and epochs are held against: textbook, timm-style.")
    ] = "textbook",
    batch_size: Annotated[
        int | None,
        typer.Option(metavar="IMAGES", min=1, help="Images of a step (default: 128, models: 32; loader: always 128)."),
    ] = None,
    rounds: Annotated[int, typer.Option(metavar="N", min=1, help="How often each side is measured, in turns.")] = 5,
    device: Annotated[str, typer.Option(metavar="DEVICE", help="auto, cpu, cuda or cuda:N.")] = "auto",
    threads: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, max=1024, help="CPU threads of both sides (default: each its own)."),
    ] = None,
    replicas: Annotated[
        int | None,
        typer.Option(metavar="K", min=2, help="For replicas: how many at once (default: 5, CPU: the cores)."),
    ] = None,
    whole: Annotated[
        bool, typer.Option("--whole", help="For epoch: measure it whole, too, not only a slice scaled to it.")
    ] = False,
    quick: Annotated[bool, typer.Option("--quick", help="A step or two, to see that it runs: no measurement.")] = False,
    write: Annotated[
        str | None, typer.Option(metavar="DIR", help="Add rows to DIR/speed-*.csv; what stands there is not repeated.")
    ] = None,
    data_dir: Annotated[
        str | None, typer.Option(metavar="DIR", help="Where the data sets lie (default: $PICTORCH_DATA).")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print a JSON list instead of lines.")] = False,
) -> None:
    """Measure how fast this is here, beside the textbook way in the same run.

    \b
    pictorch bench epoch --networks resnet_preact_20
    pictorch bench step --against textbook,timm-style
    """
    from pictorch.cli import bench

    bench.bench(
        what,
        networks=networks,
        against=against,
        batch_size=batch_size,
        rounds=rounds,
        device=device,
        threads=threads,
        count=replicas,
        whole=whole,
        quick=quick,
        write=write,
        data_dir=data_dir,
        as_json=json,
    )


@app.command()
@exits
def claims(
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="[PATTERN | add RUN_DIR...]", help="Which numbers, a part of their names; or runs."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of lines.")] = False,
    ledger: Annotated[
        str | None, typer.Option(metavar="DIR", help="Where runs.csv lies (default: the ledger of this installation).")
    ] = None,
    changed_code: Annotated[
        bool, typer.Option("--changed-code", help="add: also runs whose code differed from its commit; none counts.")
    ] = False,
) -> None:
    """Hold our runs against the published numbers: how many, their mean, and whether they are the same.

    \b
    pictorch claims
    pictorch claims seed1/mnist
    pictorch claims add RUN_DIR
    """
    from pictorch.cli import claims

    claims.claims(words or [], ledger=ledger, changed_code=changed_code, as_json=json)


@app.command()
@exits
def compare(
    first: Annotated[
        str, typer.Argument(metavar="RUN_A", help="A run directory, or a folder with runs of one recipe.")
    ],
    second: Annotated[str, typer.Argument(metavar="RUN_B", help="The same, tested on the same images.")],
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of lines.")] = False,
) -> None:
    """Compare two runs, or two recipes over the same seeds: settings, errors, classes, images, and what is chance.

    \b
    pictorch compare runs/a runs/b
    pictorch compare runs/plain/ runs/cutout/
    """
    from pictorch.cli import compare

    compare.compare(first, second, as_json=json)


@app.command(context_settings={"ignore_unknown_options": True})
@exits
def sweep(
    grid: Annotated[
        str, typer.Argument(metavar="GRID", help="A YAML file, or a grid's name: `pictorch recipes` lists them.")
    ],
    settings: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE", help="What to change in every cell.")
    ] = None,
    out: Annotated[
        str | None, typer.Option(metavar="DIR", help="Where the run directories lie (default: runs/GRID).")
    ] = None,
    executor: Annotated[
        str, typer.Option(metavar="NAME", help="local, ray (a Ray cluster) or slurm (an array job).")
    ] = "local",
    jobs: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="How many runs at a time (default: one a core, or a GPU).")
    ] = None,
    budget: Annotated[
        str | None, typer.Option(metavar="TIME", help="6h, 90m, 1h30m: train only what has ended by then.")
    ] = None,
    where: Annotated[
        str | None,
        typer.Option(metavar="CONSTRAINT", help="Only such cells, for example 'optim.lr in [0.1, 0.2]'."),
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(metavar="N", min=1, max=1000, help="Runs of each cell (default: as the grid says).")
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="A look at every cell in a few minutes, one seed each: no results.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the plan, its price and what is there already; train nothing.")
    ] = False,
    data_dir: Annotated[
        str | None, typer.Option(metavar="DIR", help="Where the data sets lie (default: $PICTORCH_DATA).")
    ] = None,
    address: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="With ray: the cluster (default: $RAY_ADDRESS, or one here).")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print a JSON list of the cells; all else to stderr.")] = False,
) -> None:
    """Train a grid of settings over several seeds: planned, priced, resumable; then what the runs say together.

    \b
    pictorch sweep seed1_mnist --quick
    pictorch sweep GRID.yaml --budget 6h
    pictorch sweep GRID.yaml train.epochs=8 --executor slurm
    """
    from pictorch.cli import sweep

    sweep.sweep(
        [grid, *(settings or [])],
        out=out,
        executor=executor,
        jobs=jobs,
        budget=budget,
        where=where,
        seeds=seeds,
        quick=quick,
        dry_run=dry_run,
        data_dir=data_dir,
        address=address,
        as_json=json,
    )


@app.command("verify-resume", context_settings={"ignore_unknown_options": True})
@exits
def verify_resume(
    recipe: Annotated[str | None, typer.Argument(metavar="RECIPE", help="As for `pictorch train`.")] = None,
    settings: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE", help="What to change in the recipe.")
    ] = None,
    config: Annotated[str | None, typer.Option(metavar="FILE", help="A YAML file instead of a recipe.")] = None,
    kills: Annotated[int, typer.Option(metavar="N", min=1, help="How often the run is killed.")] = 20,
    processes: Annotated[
        int, typer.Option(metavar="N", min=1, help="Train with torchrun by so many processes; one or all are killed.")
    ] = 1,
    seed: Annotated[int, typer.Option(metavar="N", help="Draws the moments of the kills.")] = 0,
    out: Annotated[
        str | None, typer.Option(metavar="DIR", help="Keep the runs there (default: only where they differ).")
    ] = None,
    data_dir: Annotated[
        str | None, typer.Option(metavar="DIR", help="Where the data sets lie (default: $PICTORCH_DATA).")
    ] = None,
) -> None:
    """Prove that a run which is killed and resumed ends with the same bits as the uninterrupted one.

    Kills a short run (kill -9) at random moments, some of them in the middle of a checkpoint's write. Ends with status
    1, naming the first tensor that differs, where it does not hold.

    \b
    pictorch verify-resume
    pictorch verify-resume train.epochs=8 augment.mixup.alpha=1 ema.decay=0.99 --processes 2
    """
    from pictorch.cli import verify_resume

    words = [*([] if recipe is None else [recipe]), *(settings or [])]
    verify_resume.verify_resume(
        words, config=config, kills=kills, processes=processes, seed=seed, out=out, data_dir=data_dir
    )


@app.command()
@exits
def report(
    paths: Annotated[
        list[str] | None,
        typer.Argument(metavar="[PATHS]", help="Run directories, or folders of them (default: runs/)."),
    ] = None,
    out: Annotated[
        str | None, typer.Option(metavar="DIR", help="Where to write it (default: runs/report); a report is replaced.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object of the tables instead of lines.")] = False,
) -> None:
    """Make one HTML page of runs that opens offline: leaderboard, curves, grids, mistakes; and Markdown, CSV, figures.

    \b
    pictorch report
    pictorch report runs/seed2-linear_scaling --out report
    """
    from pictorch.cli import report

    report.report(paths or [], out=out, as_json=json)


datasets = typer.Typer(
    rich_markup_mode=None, help="List, get, check and look at data sets and folders of images.\n\nAlone: the list."
)
app.add_typer(datasets, name="data")


@datasets.callback(invoke_without_command=True)
@exits
def known_sets(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        from pictorch.cli import datasets

        datasets.listing()


NAME = Annotated[str, typer.Argument(metavar="NAME|FOLDER", help="A data set's name, or a folder of images.")]
ROOT = Annotated[
    str | None, typer.Option("--data-dir", metavar="DIR", help="Where the data sets lie (default: $PICTORCH_DATA).")
]


@datasets.command()
@exits
def prepare(name: NAME, data_dir: ROOT = None) -> None:
    """Download a data set, check it and unpack it; go on where a download stopped."""
    from pictorch.cli import datasets

    datasets.prepare(name, data_dir=data_dir)


@datasets.command()
@exits
def verify(
    name: NAME,
    data_dir: ROOT = None,
    duplicates: Annotated[
        bool, typer.Option("--duplicates", help="Count a known set's near-duplicates, too; a folder's always are.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")] = False,
) -> None:
    """Check a data set's files against the official ones, or look for what is wrong with a folder of images."""
    from pictorch.cli import datasets

    datasets.verify(name, data_dir=data_dir, as_json=json, duplicates=duplicates)


@datasets.command("show")
@exits
def show_images(
    name: NAME,
    data_dir: ROOT = None,
    out: Annotated[str | None, typer.Option(metavar="FILE", help="The picture to write (default: NAME.png).")] = None,
) -> None:
    """Draw ten images of every class."""
    from pictorch.cli import datasets

    datasets.show(name, data_dir=data_dir, out=out)
