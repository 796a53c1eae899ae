"""A sweep on a Slurm cluster: an array job, a file with a command for each of its tasks, and sbatch."""

import math
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from itertools import count
from pathlib import Path

from pictorch import runs
from pictorch.config import UserError
from pictorch.experiments.executors import Task

MARGIN, LEAST_MINUTES = 2.0, 15  # of the time and memory asked for, over the price: a node may be slower
SECONDS_TO_SAVE = 120  # between the request to stop and the end
PICTORCH = (sys.executable, "-m", "pictorch", "train")

# `exec` leaves one process, so that the signal to the script (B:) reaches the run, which saves and ends.
SCRIPT = """\
#!/bin/bash
{options}
line=$(sed -n "$((SLURM_ARRAY_TASK_ID + 1))p" {commands})
eval "set -- $line"
run="${{@: -1}}"
if [ -e "$run/config.yaml" ]; then
    exec {resume} --resume "$run"
fi
exec "$@"
"""


def submit(tasks: Sequence[Task], out: Path, *, name: str, jobs: int | None, memory_bytes: int) -> str:
    """Write OUT/commands.txt and OUT/sweep.sbatch, submit the array of all tasks, and return the job's number.

    Further calls write commands-2.txt and so on: tasks that wait in the queue read what theirs were.

    At most `jobs` tasks run at a time (None: as many as Slurm likes); each needs `memory_bytes`. Raises UserError where
    there is no sbatch, and with what sbatch says where it refuses.
    """
    sbatch = find_sbatch()
    with runs.explained(out):
        out.mkdir(parents=True, exist_ok=True)
    folder = Path(os.path.abspath(out))
    number = next(n for n in count(1) if not (folder / numbered("sweep", n, "sbatch")).exists())
    commands, script = folder / numbered("commands", number, "txt"), folder / numbered("sweep", number, "sbatch")
    runs.write_text(commands, "".join(f"{shlex.join(command(task))}\n" for task in tasks))
    lines = [f"#SBATCH {option}" for option in options(tasks, folder, name, jobs, memory_bytes)]
    text = SCRIPT.format(options="\n".join(lines), commands=shlex.quote(str(commands)), resume=shlex.join(PICTORCH))
    runs.write_text(script, text)
    done = subprocess.run([sbatch, "--parsable", str(script)], capture_output=True, text=True, check=False)
    if done.returncode:
        said = done.stderr.strip() or f"it ended with status {done.returncode}"
        raise UserError(f"sbatch refused {script}: {said}")
    return done.stdout.strip().partition(";")[0]


def find_sbatch() -> str:
    """Return the path of sbatch. Raises UserError where there is none."""
    sbatch = shutil.which("sbatch")
    if sbatch is None:
        raise UserError(
            "--executor slurm: there is no sbatch here: start this on a node of the cluster that submits jobs, or "
            "leave --executor out to train on this machine"
        )
    return sbatch


def numbered(name: str, number: int, ending: str) -> str:
    """Return commands.txt for number 1, then commands-2.txt ..."""
    return f"{name}.{ending}" if number == 1 else f"{name}-{number}.{ending}"


def command(task: Task) -> list[str]:
    """Return the command that begins a task's run, its directory last."""
    data = task.config.data.dir
    there = ["--data-dir", os.path.abspath(os.path.expanduser(data))] if data else []
    return [*PICTORCH, *task.words, *there, "--out", os.path.abspath(task.run.path)]


def options(tasks: Sequence[Task], folder: Path, name: str, jobs: int | None, memory_bytes: int) -> list[str]:
    """Return the options of the array job: the same for all its tasks, so those of the dearest."""
    minutes = math.ceil(max(LEAST_MINUTES, MARGIN * max(task.seconds for task in tasks) / 60))
    threads = [task.config.train.threads for task in tasks]
    gpu = any(task.config.train.device.startswith("cuda") for task in tasks)
    return [
        f"--job-name={shlex.quote(name)}",
        f"--array=0-{len(tasks) - 1}{f'%{jobs}' if jobs else ''}",
        f"--time={minutes}",
        "--ntasks=1",
        f"--cpus-per-task={max((n for n in threads if isinstance(n, int)), default=1)}",
        *([f"--mem={math.ceil(MARGIN * memory_bytes / 2**20)}M"] if memory_bytes else []),
        *(["--gpus=1"] if gpu else []),
        "--requeue",
        f"--signal=B:TERM@{SECONDS_TO_SAVE}",
        f"--output={shlex.quote(f'{folder}/slurm-%A_%a.log')}",
        f"--chdir={shlex.quote(os.getcwd())}",
    ]
