"""The run directory: the sole owner of its file names, of how each is written, and of how it is read back.

A directory is a run once it has its `config.yaml`, written after its `env.json`. Files are written to a temporary name,
fsynced and renamed, so that a reader, or a run that was killed, never sees half a file; but `metrics.jsonl` grows by
one fsynced line an epoch, and a line torn by a kill is told from the whole ones when it is read.
"""

import contextlib
import datetime
import errno
import json
import os
import shlex
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from pictorch.config import UserError, dump

PARTIAL = ".partial"  # the ending of a file that is being written
# In another folder than the run's they have the same names.
EVALUATION, EVALUATION_PAGE = "evaluation.json", "evaluation.html"
CARD, CARD_PAGE = "card.md", "card.html"

_NUMBER = (int, float)
_MAYBE = (int, float, type(None))
# result.json: its keys in their order, and the types of their values. Accuracies and errors are in per cent.
RESULT: dict[str, type | tuple[type, ...]] = {
    "recipe": str,
    "config_hash": str,
    "complete": bool,
    "seed": int,
    "dataset": str,
    "model": str,
    "params": int,
    "macs": int,
    "epochs": int,
    "steps": int,
    "selection": str,
    "averaged": (str, type(None)),
    "stopped_early": bool,
    "test_images": int,
    "views": str,
    "test_error": _NUMBER,
    "test_top1": _NUMBER,
    "test_top5": _NUMBER,
    "test_loss": _NUMBER,
    "raw_test_error": _MAYBE,
    "val_top1": _MAYBE,
    "best_val_top1": _MAYBE,
    "best_epoch": _MAYBE,
    "train_seconds": _NUMBER,
    "images_per_second": _NUMBER,
    "peak_memory_bytes": int,
    "device": str,
    "precision": str,
    "torch": str,
    "commit": (str, type(None)),
    "data_checksum": str,
    "finished": str,
}


class RunError(UserError):
    """A run directory that cannot be made, read or written."""


@dataclass(frozen=True)
class RunDir:
    """One run's directory; its attributes are the paths of its files, whether or not they are there yet."""

    path: Path

    @property
    def config(self) -> Path:
        return self.path / "config.yaml"

    @property
    def env(self) -> Path:
        return self.path / "env.json"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def result(self) -> Path:
        return self.path / "result.json"

    @property
    def predictions(self) -> Path:
        return self.path / "predictions.npz"

    @property
    def mistakes(self) -> Path:
        return self.path / "mistakes.json"

    @property
    def last_checkpoint(self) -> Path:
        return self.path / "last.ckpt"

    @property
    def best_checkpoint(self) -> Path:
        return self.path / "best.ckpt"

    @property
    def weights(self) -> Path:
        return self.path / "model.safetensors"

    @property
    def curves(self) -> Path:
        return self.path / "curves.png"

    @property
    def evaluation(self) -> Path:
        return self.path / EVALUATION

    @property
    def evaluation_page(self) -> Path:
        return self.path / EVALUATION_PAGE

    @property
    def tensorboard(self) -> Path:
        return self.path / "tb"

    @property
    def exports(self) -> Path:
        return self.path / "export"

    def resume_command(self) -> str:
        """Return the command that continues the run."""
        return f"pictorch train --resume {shlex.quote(str(self.path))}"


def directory(place: Path | str) -> Path:
    """Return the path of a run directory as the user wrote it, `~` expanded. Raises RunError for what is no path."""
    if str(place) == "":
        raise RunError("expected the path of a run directory, got an empty text")
    if "\0" in str(place):
        raise RunError(f"{str(place)!r}: a path cannot hold a NUL character")
    try:
        return Path(place).expanduser()
    except RuntimeError as error:
        raise RunError(f"{place}: {error}") from None


def default_path(recipe: str, seed: int, *, now: datetime.datetime | None = None) -> Path:
    """Return a fresh path under `runs/`: recipe, seed and local time, with a number where that second is taken."""
    moment = (now or datetime.datetime.now()).strftime("%Y%m%d-%H%M%S")
    path = Path("runs") / recipe.replace("/", "-") / f"{moment}-seed{seed}"
    number = 2
    while path.exists():
        path = path.with_name(f"{moment}-seed{seed}-{number}")
        number += 1
    return path


def is_free(path: Path) -> bool:
    """Return whether a path has nothing at it but what a run that did not come to begin may have left."""
    if path.is_dir():
        run = RunDir(path)
        with explained(path, "read"):
            return all(p == run.env or is_temporary(p) for p in path.iterdir())
    return not path.exists()


def check_new(path: Path, *, inside_run: bool = False) -> None:
    """Raise RunError unless a run directory can be made at `path`; makes nothing.

    `inside_run` allows a path within another run's directory.
    """
    run = RunDir(path)
    above = Path(os.path.abspath(path)).parents
    with explained(path):
        if run.config.exists():
            raise RunError(
                f"{path}: this directory holds another run, which stays as it is; "
                f"continue that run with `{run.resume_command()}`, or give another --out"
            )
        outer = [RunDir(parent) for parent in above]
        around = next((run for run in outer if run.config.is_file() and run.env.is_file()), None)
        if around and not inside_run:
            raise RunError(f"{path}: this is inside the run directory {around.path}; give another --out")
        there = next(place for place in (path, *above) if place.exists())
        if not there.is_dir():
            raise RunError(
                f"{path}: {'this' if there == path else there} is a file, not a directory; give another --out"
            )
        if not os.access(there, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        if not is_free(path):
            raise RunError(f"{path}: this directory is not empty and not a run; give another --out")


def create(path: Path, config: dict[str, Any], env: dict[str, Any], *, inside_run: bool = False) -> RunDir:
    """Make a run directory that holds its environment and its configuration; the latter, written last, makes it one.

    Raises RunError when `path` holds another run or anything else, cannot be written, or lies in another run's
    directory (but with `inside_run`).
    """
    check_new(path, inside_run=inside_run)
    run = RunDir(path)
    with explained(path):
        path.mkdir(parents=True, exist_ok=True)
    sweep(run)
    write_json(run.env, env)
    write_text(run.config, dump(config))
    return run


def open(place: Path | str) -> RunDir:
    """Return an existing run directory. Raises RunError when `place` is none, naming one that is near."""
    path = directory(place)
    run = RunDir(path)
    with explained(path, "read"):
        if run.config.is_file():
            return run
        if not path.exists():
            raise RunError(f"{path}: there is no such run directory")
        if path.is_file():
            hint = f"; did you mean {path.parent}?" if RunDir(path.parent).config.is_file() else ""
            raise RunError(f"{path}: this is a file, not a run directory{hint}")
        # Two levels, `runs/RECIPE/TIME`: the user may have named the root of a disk.
        inner = sorted(chain(path.glob("*/config.yaml"), path.glob("*/*/config.yaml")))
        hint = f"; did you mean {inner[-1].parent}?" if inner else ""
    raise RunError(f"{path}: this is not a run directory: it has no config.yaml{hint}")


def collect(paths: Iterable[Path]) -> list[RunDir]:
    """Return all run directories at or below the paths, sorted by path."""
    found = {p.parent for path in paths for p in path.rglob("config.yaml") if p.with_name("env.json").is_file()}
    return [RunDir(p) for p in sorted(found)]


def append(run: RunDir, row: dict[str, Any]) -> None:
    """Add one epoch's row to metrics.jsonl."""
    with explained(run.metrics), run.metrics.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
        file.flush()
        os.fsync(file.fileno())


def read_metrics(run: RunDir) -> list[dict[str, Any]]:
    """Return the whole rows of metrics.jsonl; lines that are no row of ours (torn by a kill) are left out.

    Raises RunError when the file is there and cannot be read.
    """
    try:
        text = run.metrics.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise unreadable(run.metrics, error) from None
    rows = []
    for line in text.splitlines():
        with contextlib.suppress(ValueError, RecursionError):
            row = json.loads(line)
            if isinstance(row, dict) and "epoch" in row and all(isinstance(v, _NUMBER) for v in row.values()):
                rows.append(row)
    return rows


def first_rows(run: RunDir, epochs: int) -> list[dict[str, Any]]:
    """Return the rows of the first `epochs` epochs. Raises RunError unless there is one of each, in order."""
    rows = [row for row in read_metrics(run) if row["epoch"] <= epochs]
    if [row["epoch"] for row in rows] != list(range(1, epochs + 1)):
        raise RunError(
            f"{run.metrics}: expected one row for each of the {epochs} epochs that {run.last_checkpoint.name} has "
            f"trained, found whole ones of {len(rows)}; nothing was changed"
        )
    return rows


def rewind_metrics(run: RunDir, epochs: int) -> None:
    """Keep the rows of the first `epochs` epochs; a resumed run writes the later ones again."""
    rows = first_rows(run, epochs)
    write_text(run.metrics, "".join(json.dumps(row) + "\n" for row in rows))


def finish(run: RunDir, result: dict[str, Any]) -> None:
    """Write result.json, the last file of a run: a run that has one is finished."""
    write_json(run.result, result)


def read_result(run: RunDir) -> dict[str, Any]:
    """Return a finished run's result.json. Raises RunError when it has not all of RESULT's keys, each of its type."""
    row = read_json(run.result)
    bad = [key for key, kind in RESULT.items() if key not in row or not isinstance(row[key], kind)]
    if bad:
        raise RunError(
            f"{run.result}: {', '.join(bad)}: missing or of another type, so this is not the result that the run "
            f"wrote; delete the file, and `{run.resume_command()}` writes it again"
        )
    return row


def of_views(views: str) -> str:
    """Return what to add to a figure that is not of one view of each image."""
    return "" if views == "one" else f", views {views}"


def read_json(path: Path) -> dict[str, Any]:
    """Return a JSON object of the run directory. Raises RunError naming the file where it is missing or broken."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RunError(f"{path}: this file of the run is missing") from None
    except (OSError, ValueError, RecursionError) as error:
        raise unreadable(path, error) from None
    if not isinstance(value, dict):
        raise RunError(f"{path}: expected a JSON object, got {type(value).__name__}")
    return value


def unreadable(path: Path, error: Exception) -> RunError:
    reason = error.strerror if isinstance(error, OSError) else error
    return RunError(f"{path}: cannot read this file of the run: {reason}")


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Write a JSON object atomically."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write text atomically."""
    write(path, text.encode())


def write(path: Path, content: bytes) -> None:
    """Write a file atomically: to a temporary name beside it, which is fsynced and renamed.

    Raises RunError when the file system refuses; the file that was there before is then still whole.
    """
    with explained(path):
        descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=PARTIAL, dir=path.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary, 0o644)
            os.replace(temporary, path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
        sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Make a rename in the directory survive a power cut."""
    if os.name == "posix":
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def explained(path: Path, verb: str = "write") -> Iterator[None]:
    """Turn a refusal of the file system into a RunError that says what was being written and that the rest is whole."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        then = "; what was written before is whole: free some room and continue with --resume" if full else ""
        raise RunError(f"{path}: cannot {verb} here: {error.strerror or error}{then}") from error


def sweep(run: RunDir) -> None:
    """Remove the temporary files that a killed process left half-written. Call it with the lock held."""
    with explained(run.path):
        for path in run.path.iterdir():
            if is_temporary(path):
                path.unlink(missing_ok=True)


def is_temporary(path: Path) -> bool:
    """Return whether the path is a file that `write` made and had not renamed yet."""
    return path.name.startswith(".") and path.name.endswith(PARTIAL) and path.is_file()


@contextlib.contextmanager
def lock(run: RunDir) -> Iterator[None]:
    """Hold the run directory for this process; the kernel lets go when the process ends, however it ends.

    Raises RunError when another process holds it.
    """
    try:
        import fcntl
    except ImportError:  # Windows has no flock: two processes on one run directory go unnoticed there.
        yield
        return
    with explained(run.path, "read"):
        descriptor = os.open(run.path, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunError(f"{run.path}: another process is training in this run directory") from None
        yield
    finally:
        os.close(descriptor)
