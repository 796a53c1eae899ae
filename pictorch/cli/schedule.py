"""The learning rate of a run before it is run: `pictorch train --dry-run` describes it, `--plot` draws it."""

from pathlib import Path

from pictorch.cli.text import say
from pictorch.config import UserError
from pictorch.engine.build import Job
from pictorch.reports.schedule import describe_schedule, draw_schedule

PICTURE = "schedule.png"
MOST_ROWS = 1_000_000


def show_schedule(job: Job, *, plot: bool) -> None:
    """Print the learning rate over the job's run, and with `plot` draw it into PICTURE in the current directory."""
    rows = rates(job)
    say(f"\nlearning rate {describe_schedule(rows)}")
    if plot:
        title = f"{job.config.schedule.name}, {job.config.train.epochs} epochs"
        write_picture(Path(PICTURE), draw_schedule(rows, title))
        say(f"drawn in {PICTURE}")


def rates(job: Job) -> list[tuple[float, float]]:
    """Return (epoch, learning rate) at each update of the job's run, or at each epoch where it changes by epoch."""
    steps_per_epoch = len(job.train_loader)
    unit = steps_per_epoch if job.config.schedule.per == "epoch" else 1
    stride = unit * -(-job.updates // (unit * MOST_ROWS))
    return [
        (step / steps_per_epoch, job.config.optim.lr * job.schedule(step)) for step in range(0, job.updates, stride)
    ]


def write_picture(path: Path, content: bytes) -> None:
    """Write a picture. Raises UserError where that cannot be."""
    try:
        path.write_bytes(content)
    except OSError as error:
        raise UserError(f"{path}: cannot write the picture here: {error.strerror}") from error
