"""`pictorch verify-resume`: kill a run again and again, and hold what it ends with against the uninterrupted one."""

import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from pictorch import api, runs
from pictorch.cli.exits import exits
from pictorch.cli.paths import option_path
from pictorch.cli.text import duration, say
from pictorch.cli.training import recipe_and_overrides, recipe_of
from pictorch.config import Config, UserError, dump, to_dict
from pictorch.config.load import COMMAND_LINE
from pictorch.runs import RunDir, RunError


def verify_resume(
    words: Sequence[str],
    *,
    config: str | None,
    kills: int,
    processes: int,
    seed: int,
    out: str | None,
    data_dir: str | None,
) -> None:
    """Run the command. `words` are an optional recipe, then overrides. Exits with status 1 where the ends differ."""
    if os.name != "posix":
        raise UserError("verify-resume kills processes with SIGKILL, which only POSIX systems have")
    config, out = option_path("--config", config), option_path("--out", out)
    run, recipe = short_run(words, config, option_path("--data-dir", data_dir))
    if out is None:
        top = Path(tempfile.mkdtemp(prefix="pictorch-verify-resume-"))
    else:
        top = runs.directory(out)
        if top.exists() and (not top.is_dir() or any(top.iterdir())):
            raise RunError(f"{top}: this is not empty; give another --out")
        top.mkdir(parents=True, exist_ok=True)
    runs.write_text(top / "run.yaml", dump(to_dict(run)))
    difference = proof(top, recipe, kills=kills, processes=processes, seed=seed)
    if difference:
        say(f"different: {difference}\nthe runs are kept: {top}")
        sys.exit(1)
    if out is None:
        shutil.rmtree(top)


def short_run(words: Sequence[str], file: str | None, data_dir: str | None) -> tuple[Config, str]:
    """Return the run to be proved, as given where its length is, else one of about a minute; and its recipe's name."""
    from pictorch.engine.replicas import several
    from pictorch.engine.verify import shortened

    source, overrides = recipe_and_overrides(words)
    if source and file:
        raise UserError(f"give either the recipe {source!r} or --config {file}, not both")
    place = Path(file) if file else source
    loaded = api.load_checked(place, overrides)
    if several(loaded.config):
        raise UserError("train.replicas: expected one run; a replica is a run as any other")
    given = any(loaded.origins.get(key) == COMMAND_LINE for key in ("train.epochs", "train.max_steps"))
    if not given and (changes := shortened(api.with_data_dir(loaded.config, data_dir))):
        say(f"short: {' '.join(changes)}: about a minute of the run (train.epochs=N gives another length)")
        loaded = api.load_checked(place, [*overrides, *changes])
    return api.with_data_dir(loaded.config, data_dir), recipe_of(loaded, file)


def proof(top: Path, recipe: str, *, kills: int, processes: int, seed: int) -> str | None:
    """Train the run of `top`/run.yaml uninterrupted and killed; say what was hit; return the first difference."""
    from pictorch.engine import verify

    chance, left = random.Random(seed), list[verify.Aim]()
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"] if processes > 1 else []

    def start(run: RunDir) -> verify.Session:
        journal = run.path.with_suffix(".journal")
        command = [sys.executable, *launcher, "-m", __name__, str(top / "run.yaml"), recipe, str(run.path)]
        return verify.Session([*command, str(journal)], run, journal, processes=processes)

    whole, clock = RunDir(top / "uninterrupted"), time.perf_counter()
    pace = verify.uninterrupted(start, whole)
    by = f" by {processes} processes" if processes > 1 else ""
    say(
        f"{recipe}{by}: {len(pace.ends)} epochs, {pace.ends[-1]} updates, "
        f"uninterrupted in {duration(time.perf_counter() - clock)}; {kills} kills, drawn with seed {seed}"
    )
    left += verify.aims(kills, len(pace.ends), chance)
    hits = list[verify.Hit]()

    def told(hit: verify.Hit) -> None:
        hits.append(hit)
        whom = f", {hit.whom}" if hit.whom else ""
        say(f"kill {len(hits)}{whom}: epoch {hit.epoch}, step {hit.step}: {hit.phase}")

    expected, number = verify.state_of(whole), 0
    while left or not number:
        number += 1
        run = RunDir(top / f"killed-{number}")
        verify.killed(start, run, pace, left, chance, told)
        if difference := verify.first_difference(expected, verify.state_of(run)):
            return difference
    say(
        f"identical after {len(hits)} kills, in {duration(time.perf_counter() - clock)}: "
        f"{verify.tensors(expected)} tensors of weights, optimiser and averages, {len(pace.ends)} rows, the result"
    )
    return None


@exits
def session() -> None:
    """Train the run to its end, from where it is: what a process that is to be killed does."""
    from pictorch.engine.verify import Journal

    source, recipe, out, journal = sys.argv[1:]
    path = Path(journal).with_suffix(f".{os.environ.get('RANK', '0')}")
    api.run_to_end(api.load_config(Path(source)), recipe=recipe, out=out, progress=Journal(path))


if __name__ == "__main__":
    session()
