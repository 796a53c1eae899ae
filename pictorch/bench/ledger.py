"""Rows of benchmarks as CSV files named by what was measured, hardware, torch version and dtype."""

import csv
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from pictorch.config import UserError
from pictorch.engine.environment import cpu_name

# Which measurement a row is: one of these that is in the file is not made again.
KEY = ("name", "against", "batch_size")


def hardware(device: torch.device) -> str:
    """Return what computes, in words: the GPU's name, or the CPU's and its number of cores."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{cpu_name()}, {os.cpu_count()} cores"


def short(hardware: str) -> str:
    """Return hardware for a file's name: "AMD EPYC, 2 cores" is epyc2, "NVIDIA H200" is h200."""
    name, _, cores = hardware.partition(", ")
    name = re.sub(r"\(\w+\)|@.*|\b(amd|intel|nvidia|cpu|processor|\d+-core)\b", " ", name.lower())
    name = "-".join(re.findall(r"[a-z0-9]+", name)) or "cpu"
    count = cores.partition(" ")[0]
    return f"{name}-{count}" if count and name[-1].isdigit() else f"{name}{count}"


def path(folder: Path, what: str, device: torch.device, dtype: str) -> Path:
    """Return the file in `folder` of the rows of a benchmark on this machine with this torch."""
    version = torch.__version__.partition("+")[0]
    return folder / f"speed-{what}-{short(hardware(device))}-torch{version}-{dtype}.csv"


def measured(file: Path, device: torch.device) -> set[tuple[str, ...]]:
    """Return the KEYs of the rows that the file has.

    Raises UserError where a row is of another machine of the same short name.
    """
    rows = read(file)
    for row in rows:
        if row.get("hardware") != hardware(device):
            raise UserError(
                f"{file}: its rows were measured on {row.get('hardware') or 'hardware that they do not name'}, "
                f"this is {hardware(device)}; nothing is added to it: --write to another folder"
            )
    return {key(row) for row in rows}


def key(row: Mapping[str, Any]) -> tuple[str, ...]:
    """Return which measurement a row is."""
    return tuple(str(row.get(column, "")) for column in KEY)


def append(file: Path, row: Mapping[str, Any], *, command: str) -> None:
    """Add a row at the end of the file; a new file begins with the command and the columns.

    Raises UserError where the file has other columns, or cannot be written.
    """
    rows = read(file)
    if rows and list(rows[0]) != list(row):
        raise UserError(f"{file}: its columns are not those of this version; nothing was added: move it away")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("a", newline="", encoding="utf-8") as out:
            writer = csv.DictWriter(out, list(row), lineterminator="\n")
            if not rows:
                out.write(f"# {command}\n")
                writer.writeheader()
            writer.writerow(row)
    except OSError as error:
        raise UserError(f"--write: {file}: {error.strerror}") from None


def read(file: Path) -> list[dict[str, str]]:
    """Return the rows of a file; none where there is no file."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UserError(f"--write: {file}: {error.strerror}") from None
    return list(csv.DictReader(line for line in lines if not line.startswith("#")))
