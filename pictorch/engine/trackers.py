"""Where a run's rows go beside metrics.jsonl: a tracker has `epoch(row)` and `close()`, no training code knows more."""

from pathlib import Path
from typing import Any, Literal

from pictorch.config import UserError


class TensorBoard:
    """TensorBoard event files with a curve for every number of the rows."""

    def __init__(self, directory: Path, *, first_epoch: int) -> None:
        from tensorboardX import SummaryWriter

        # purge_step: a resumed run writes some epochs again; the viewer then drops what the killed one had written.
        self.writer = SummaryWriter(str(directory), purge_step=first_epoch, write_to_disk=True)

    def epoch(self, row: dict[str, Any]) -> None:
        for key, value in row.items():
            if key not in ("epoch", "step") and value is not None:
                group = key.partition("_")[0] if key.startswith(("train_", "val_", "test_")) else "run"
                self.writer.add_scalar(f"{group}/{key}", value, row["epoch"])
        self.writer.flush()

    def close(self) -> None:
        self.writer.close()


def check(tensorboard: bool | Literal["auto"]) -> None:
    """Raise UserError when TensorBoard is asked for and tensorboardX is missing."""
    if tensorboard is True:
        try:
            import tensorboardX  # noqa: F401
        except ImportError:
            raise UserError(
                "track.tensorboard: tensorboardX is missing; `python -m pip install 'pictorch[tb]'`, or set it to false"
            ) from None


def create(directory: Path, *, tensorboard: bool | Literal["auto"], first_epoch: int) -> list[TensorBoard]:
    """Return the trackers to use; "auto" takes TensorBoard where tensorboardX is installed."""
    if tensorboard is False:
        return []
    try:
        return [TensorBoard(directory, first_epoch=first_epoch)]
    except ImportError:
        return []
