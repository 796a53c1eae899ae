"""What a run says while it runs. The loop calls these methods; who listens decides what is drawn."""

from dataclasses import dataclass
from typing import Any, Protocol

from pictorch.engine.build import Job
from pictorch.runs import RunDir


@dataclass(frozen=True)
class Snapshot:
    """The state of a run within an epoch: counts, rates, and the running training error (per cent)."""

    epoch: int
    epochs: int
    step: int
    steps: int
    lr: float
    train_error: float
    images_per_second: float
    seconds_left: float


class Progress(Protocol):
    """A listener."""

    def note(self, text: str) -> None:
        """Something that the user should know before the run starts."""

    def start(self, job: Job, run: RunDir) -> None:
        """The run is about to take its first step of this session."""

    def due(self) -> bool:
        """Whether a Snapshot is wanted now; making one reads the device."""

    def step(self, snapshot: Snapshot) -> None: ...

    def epoch(self, row: dict[str, Any]) -> None:
        """An epoch is over; `row` is its line of metrics.jsonl."""

    def close(self) -> None:
        """No more steps in this session, whether the run is finished or not."""


class Silent:
    """Nobody listens."""

    def note(self, text: str) -> None: ...

    def start(self, job: Job, run: RunDir) -> None: ...

    def due(self) -> bool:
        return False

    def step(self, snapshot: Snapshot) -> None: ...

    def epoch(self, row: dict[str, Any]) -> None: ...

    def close(self) -> None: ...
