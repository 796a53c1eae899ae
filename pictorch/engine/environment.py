"""What a run was made with: code, libraries, hardware, command line. Goes into env.json before training starts.

A run that was resumed has an entry for each further session there, under "resumed".
"""

import datetime
import hashlib
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import numpy
import torch

import pictorch
from pictorch import data, runs
from pictorch.data.decode import decoder_name
from pictorch.engine.build import Job
from pictorch.models import kernels
from pictorch.runs import RunDir, RunError

MOST_THREADS = 1024


def environment(job: Job) -> dict[str, Any]:
    """Return the environment of a session of the job, as plain values."""
    device = job.device
    return {
        "pictorch": pictorch.__version__,
        **code_version(),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "decoder": decoder_name(),
        "kernels": kernels.maker() if device.type == "cpu" else None,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": cpu_name(),
        "cpu_count": os.cpu_count(),
        "threads": job.threads,
        "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        "cuda": torch.version.cuda if device.type == "cuda" else None,
        "device": str(device),
        "data_root": str(data.root(job.config.data.dir).absolute()),
        "working_directory": str(Path.cwd()),
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def read(run: RunDir) -> dict[str, Any]:
    """Return env.json. Raises RunError unless it has what resuming the run needs."""
    env = {"processes": 1, **runs.read_json(run.env)}
    expected: dict[str, tuple[str, Callable[[Any], bool]]] = {
        "threads": (f"a whole number from 1 to {MOST_THREADS}", lambda v: type(v) is int and 1 <= v <= MOST_THREADS),
        "precision": ("fp32, bf16 or half", lambda v: v in ("fp32", "bf16", "half")),
        "recipe": ("a text", lambda v: isinstance(v, str)),
        "data_checksum": ("a text", lambda v: isinstance(v, str)),
        "processes": ("a whole number above 0", lambda v: type(v) is int and v > 0),
        "resumed": ("a list of objects", lambda v: isinstance(v, list) and all(isinstance(entry, dict) for entry in v)),
    }
    for key, (what, holds) in expected.items():
        if key not in env or not holds(env[key]):
            found = f"got {env[key]!r}" if key in env else "it is missing"
            raise RunError(
                f"{run.env}: {key}: expected {what}, {found}; without it the run cannot be continued as it began, "
                "and nothing was changed"
            )
    return env


def last_session(env: dict[str, Any]) -> dict[str, Any]:
    """Return env.json with the entries of the last session in the place of the first one's."""
    return {**env, **(env["resumed"][-1] if env.get("resumed") else {})}


def code_version() -> dict[str, str | None]:
    """Return the commit of the checkout that runs, the hash of what differs from it, and the hash of the sources.

    An installed package has no checkout: its commit is the one that was recorded when it was built. The hash of the
    sources is the same in both cases for the same code.
    """
    package = Path(str(resources.files("pictorch")))
    files = sorted(package.rglob("*.py"))
    content = b"\0".join(f.relative_to(package).as_posix().encode() + b"\0" + f.read_bytes() for f in files)
    source = hashlib.sha256(content).hexdigest()
    commit = git("rev-parse", "HEAD", cwd=package) if (package.parent / ".git").exists() else None
    if commit is not None:
        diff = git("diff", "--no-ext-diff", "--no-color", "HEAD", cwd=package)
        dirty = hashlib.sha256(diff.encode("utf-8", "surrogateescape")).hexdigest() if diff else None
    else:
        built = package / "commit.txt"
        commit, _, changed = built.read_text().strip().partition("-") if built.is_file() else (None, "", "")
        dirty = "when it was built" if changed else None
    return {"commit": commit, "dirty": dirty, "source_sha256": source}


def git(*arguments: str, cwd: Path) -> str | None:
    """Return what a git command prints, or None where git or the repository does not answer."""
    try:
        done = subprocess.run(["git", *arguments], cwd=cwd, capture_output=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode("utf-8", "surrogateescape").strip()


def cpu_name() -> str:
    """Return the processor's name as the system gives it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
