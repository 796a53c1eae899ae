"""What a run was made with: code, libraries, hardware, command line. Goes into env.json before training starts."""

import datetime
import hashlib
import os
import platform
import shlex
import subprocess
import sys
from importlib import resources
from pathlib import Path
from typing import Any

import numpy
import torch

import pictorch


def environment(device: torch.device, *, threads: int) -> dict[str, Any]:
    """Return the environment of a run on `device` with `threads` CPU threads, as plain values."""
    return {
        "pictorch": pictorch.__version__,
        **code_version(),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": cpu_name(),
        "cpu_count": os.cpu_count(),
        "threads": threads,
        "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        "cuda": torch.version.cuda if device.type == "cuda" else None,
        "device": str(device),
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


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


def peak_memory_bytes(device: torch.device) -> int:
    """Return the most memory held so far: by tensors on a GPU, by the whole process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource
    except ImportError:  # Windows does not count it.
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
