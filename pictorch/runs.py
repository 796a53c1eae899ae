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
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pictorch.config import UserError, dump

PARTIAL = ".partial"  # the ending of a file that is being written


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
    def tensorboard(self) -> Path:
        return self.path / "tb"


def default_path(recipe: str, seed: int, *, now: datetime.datetime | None = None) -> Path:
    """Return a fresh path under `runs/`: recipe, seed and local time, with a number where that second is taken."""
    moment = (now or datetime.datetime.now()).strftime("%Y%m%d-%H%M%S")
    path = Path("runs") / recipe.replace("/", "-") / f"{moment}-seed{seed}"
    number = 2
    while path.exists():
        path = path.with_name(f"{moment}-seed{seed}-{number}")
        number += 1
    return path


def create(path: Path, config: dict[str, Any], env: dict[str, Any]) -> RunDir:
    """Make a run directory that holds its environment and its configuration; the latter, written last, makes it one.

    Raises RunError when `path` holds another run or anything else, or cannot be written.
    """
    run = RunDir(path)
    if run.config.exists():
        raise RunError(
            f"{path}: this directory holds another run, which stays as it is; "
            f"continue that run with `pictorch train --resume {path}`, or give another --out"
        )
    with explained(path):
        path.mkdir(parents=True, exist_ok=True)
        others = [p for p in path.iterdir() if p != run.env and not is_temporary(p)]
    if others:
        raise RunError(f"{path}: this directory is not empty and not a run; give another --out")
    sweep(run)
    write_json(run.env, env)
    write_text(run.config, dump(config))
    return run


def open(path: Path) -> RunDir:
    """Return an existing run directory. Raises RunError when `path` is none."""
    run = RunDir(path)
    if run.config.is_file():
        return run
    if not path.exists():
        raise RunError(f"{path}: there is no such run directory")
    inner = collect([path])
    hint = f"; did you mean {inner[-1].path}?" if inner else ""
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
    """Return the whole rows of metrics.jsonl; lines that are no row of ours (torn by a kill) are left out."""
    if not run.metrics.exists():
        return []
    rows = []
    for line in run.metrics.read_text(encoding="utf-8", errors="replace").splitlines():
        with contextlib.suppress(json.JSONDecodeError):
            row = json.loads(line)
            if isinstance(row, dict) and isinstance(row.get("epoch"), int):
                rows.append(row)
    return rows


def rewind_metrics(run: RunDir, epochs: int) -> list[dict[str, Any]]:
    """Keep the rows of the first `epochs` epochs and return them; a resumed run writes the later ones again."""
    kept = [row for row in read_metrics(run) if row["epoch"] <= epochs]
    write_text(run.metrics, "".join(json.dumps(row) + "\n" for row in kept))
    return kept


def finish(run: RunDir, result: dict[str, Any]) -> None:
    """Write result.json, the last file of a run: a run that has one is finished."""
    write_json(run.result, result)


def read_json(path: Path) -> dict[str, Any]:
    """Return a JSON object of the run directory. Raises RunError naming the file where it is missing or broken."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RunError(f"{path}: this file of the run is missing") from None
    except (OSError, ValueError) as error:
        raise RunError(f"{path}: cannot read this file of the run: {error}") from None
    if not isinstance(value, dict):
        raise RunError(f"{path}: expected a JSON object, got {type(value).__name__}")
    return value


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
def explained(path: Path) -> Iterator[None]:
    """Turn a refusal of the file system into a RunError that says what was being written and that the rest is whole."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        then = "; what was written before is whole: free some room and continue with --resume" if full else ""
        raise RunError(f"{path}: cannot write here: {error.strerror or error}{then}") from error


def sweep(run: RunDir) -> None:
    """Remove the temporary files that a killed process left half-written. Call it with the lock held."""
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
    descriptor = os.open(run.path, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunError(f"{run.path}: another process is training in this run directory") from None
        yield
    finally:
        os.close(descriptor)
