"""`pictorch bench`: how fast this is here, beside other ways in the same run."""

import json
import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from pictorch import data, models
from pictorch.bench import ledger, replicas, training
from pictorch.bench.cifar import Images, images
from pictorch.cli.paths import option_path
from pictorch.cli.text import quantity, say
from pictorch.config import OptionError, UserError, nearest
from pictorch.engine.precision import choose, choose_device

CLOCKS = ("wall", "cpu")
WHAT = ("loader", "step", "epoch", "models", "replicas")


def bench(
    what: str | None,
    *,
    networks: str | None = None,
    against: str = "textbook",
    batch_size: int | None = None,
    rounds: int = 5,
    device: str = "auto",
    threads: int | None = None,
    count: int | None = None,
    whole: bool = False,
    quick: bool = False,
    write: str | None = None,
    data_dir: str | None = None,
    as_json: bool = False,
) -> None:
    """Print the rows of a benchmark, or of all, each as soon as it is measured, or as one JSON list at the end.

    `write` is the folder of the CSV files that rows are added to; what stands there is not measured again.
    """
    if what is not None and what not in WHAT:
        raise UserError(f"there is no benchmark {what!r}{nearest(what, WHAT)}")
    if whole and what != "epoch":
        raise UserError("--whole measures whole epochs: it goes with `pictorch bench epoch`")
    plans = [
        training.Plan(
            what=one,
            networks=networks_of(networks, one, whole=whole),
            against=listed("--against", against, training.AGAINST),
            batch_size=batch_size or (32 if one == "models" else 128),
            rounds=1 if quick else rounds,
            device=device_of(device),
            threads=threads,
            whole=whole,
            quick=quick,
        )
        for one in ([what] if what else WHAT)
    ]
    on = training.machine(plans[0].device, quick=quick)
    rows: list[dict[str, Any]] = []
    root = data.root(option_path("--data-dir", data_dir))
    with images(None, per_file=40) if quick else images(root) as found:
        if not as_json:
            say(describe(on, found))
        for plan in plans:
            for row in measured(plan, found, on, count, None if write is None else Path(write).expanduser()):
                rows.append(row)
                if not as_json:
                    say("\n".join(lines(row, plan)))
    if as_json:
        say(json.dumps(rows))


def measured(
    plan: training.Plan, found: Images, on: training.Machine, count: int | None, folder: Path | None
) -> Iterator[dict[str, Any]]:
    """Yield a benchmark's rows, each written first if there is a folder for them."""
    dtype = "fp32" if plan.what == "loader" else choose("auto", plan.device).name
    # The files speed-models-* are of benchmarks/models.py, and have other columns.
    what = "families" if plan.what == "models" else plan.what
    file = None if folder is None else ledger.path(folder, what, plan.device, dtype)
    there = set() if file is None else ledger.measured(file, plan.device)

    def skip(key: Mapping[str, Any]) -> bool:
        if ledger.key(key) in there:
            print(f"note: {key['name']} against {key['against']}: measured already, in {file}", file=sys.stderr)
        return ledger.key(key) in there

    for row in rows_of(plan, found, on, count, skip):
        if file is not None:
            ledger.append(file, row, command=shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]))
        yield row


def rows_of(
    plan: training.Plan, found: Images, on: training.Machine, count: int | None, skip: Any
) -> Iterable[dict[str, Any]]:
    """Return the rows of a benchmark as they are measured."""
    if plan.what == "loader":
        from pictorch.bench import loader

        return loader.measure(found, plan.device, rounds=plan.rounds, quick=plan.quick, skip=skip)
    if plan.what != "replicas":
        return training.measure(plan, found, on, skip)
    return replicas.measure(plan, found, count, skip)


def networks_of(given: str | None, what: str, *, whole: bool) -> Sequence[str]:
    """Return the networks to measure. Raises UserError for a name that is none."""
    if given is None:
        default = training.NETWORKS[:1] if whole else training.NETWORKS
        return training.families() if what == "models" else default
    names = [name.strip() for name in given.split(",")]
    for name in names:
        try:
            models.resolve(name)
        except OptionError as error:
            raise UserError(f"--networks: {error}") from None
        if not training.creatable(name):
            variant = next(iter(models.families()[name].variants))
            raise UserError(f"--networks: the family {name} needs options; name a variant of it, for example {variant}")
    return names


def listed(option: str, given: str, known: Sequence[str]) -> list[str]:
    """Return the names of a list with commas. Raises UserError for one that is not known."""
    names = [name.strip() for name in given.split(",")]
    for name in names:
        if name not in known:
            raise UserError(f"{option}: there is no {name!r}{nearest(name, known)}")
    return names


def device_of(device: str) -> torch.device:
    try:
        return choose_device(device)
    except UserError as error:
        raise UserError(f"--device: {error}") from None


def describe(on: training.Machine, found: Images) -> str:
    """Return what is measured on, in a line."""
    fp32, bf16 = on.flops["fp32"], on.flops["bf16"]
    products = f"a matrix product at {quantity(bf16)}FLOP/s in bf16, {bf16 / fp32:.1f} times fp32"
    return f"{on.hardware}; {on.bf16}, {products}; torch {torch.__version__}; {found.train:,} images ({found.what})"


def lines(row: Mapping[str, Any], plan: training.Plan) -> Iterator[str]:
    """Yield a row as people read it: the ratio and its goals, what it is made of, and how that was measured."""
    goals = [goal(kind, row["ratio"], row[kind]) for kind in ("must", "stretch") if row.get(kind)]
    named = f"{plan.what} {row['name']}"
    yield ", ".join([f"{named}: {row['ratio']:.2f} times {row['against']} (spread {100 * row['spread']:.0f}%)", *goals])
    rates = f"{row['ours']:,} {row['unit']} against {row['baseline']:,}"
    if plan.what == "loader":
        yield f"    {rates} with {row['baseline_workers']} workers"
    elif plan.what == "replicas":
        yield f"    {rates}; all together take {row['time_of_one']:.2f} times as long as one"
    else:
        yield f"    {rates}; {seconds_of(row)}"
        yield f"    {parts_of(row, plan)}"


def seconds_of(row: Mapping[str, Any]) -> str:
    wall, cpu = (
        " against ".join(f"{row[f'{side}_{clock}_s']:.4g} s" for side in ("ours", "baseline")) for clock in CLOCKS
    )
    return f"an epoch's wall seconds {wall}, CPU seconds {cpu}"


def parts_of(row: Mapping[str, Any], plan: training.Plan) -> str:
    """Return the ratios of training and evaluation, and the share of the machine's peak that training reaches."""
    peak = training.PEAK_GOALS.get((row["device"], row["name"]))
    share = f"{100 * row['of_peak']:.1f}% of the {row['dtype']} matrix product's FLOP/s in training"
    found = [share if peak is None else f"{share}, {goal('must', row['of_peak'], peak)}"]
    if plan.what == "epoch":
        wanted = training.EVALUATION_GOALS.get((row["device"], row["against"]))
        evaluation = f"evaluation {row['evaluation_ratio']:.2f}"
        for kind, value in zip(("must", "stretch"), wanted or (), strict=False):
            evaluation += f", {goal(kind, row['evaluation_ratio'], value)}"
        found = [f"training {row['train_ratio']:.2f}", evaluation, *found, f"{row['baseline_workers']} workers there"]
    if row["scaling_ours"]:
        found.append(
            f"the slice says {row['scaling_ours']:.3f} of ours and {row['scaling_baseline']:.3f} of the other's"
        )
    return "; ".join(found)


def goal(kind: str, reached: float, wanted: float) -> str:
    return f"{kind} {wanted:g} {'met' if reached >= wanted else 'not met'}"
