"""Ctrl-C and SIGTERM as a request: the loop stops at the next point where its state is whole, and saves it."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

from pictorch.runs import RunDir


class StopRequested(Exception):
    """Raised by `Stop.check` at a point where the run's state is whole."""


class Interrupted(KeyboardInterrupt):
    """The run was stopped on request; its state is saved, and `str()` says how to go on."""


class Stop:
    """Whether the user, or the machine, asked to stop."""

    requested = False

    def check(self) -> None:
        """Raise StopRequested if a stop was asked for."""
        if self.requested:
            raise StopRequested


@contextlib.contextmanager
def resumable(run: RunDir, stop: Stop | None = None) -> Iterator[Stop]:
    """Yield a Stop for a session on the run directory, and raise Interrupted where it, or a second Ctrl-C, ends it.

    A `stop` that is given is the caller's: signals, and what it ends, are left to him.
    """
    if stop is not None:
        yield stop
        return
    try:
        with catch_signals() as stop:
            yield stop
    except (StopRequested, KeyboardInterrupt):
        if not run.config.exists():  # broken off before there was a run
            raise KeyboardInterrupt from None
        raise Interrupted(f"stopped on request; continue with `{run.resume_command()}`") from None


@contextlib.contextmanager
def catch_signals() -> Iterator[Stop]:
    """Yield a Stop that the first Ctrl-C or SIGTERM sets; a second one breaks off at once, as usual.

    Outside the main thread, where Python delivers no signals, the Stop is never set.
    """
    stop = Stop()

    def ask(signum: int, frame: FrameType | None) -> None:
        if stop.requested:
            raise KeyboardInterrupt
        stop.requested = True

    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    previous = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
