"""Signals that end a command: it cleans up first."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from fastdrop._cli.screens import end

__all__ = ["stopping_cleanly"]

STOPPING = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


class Stopped(BaseException):
    """A signal asks the process to end."""

    def __init__(self, number: int) -> None:
        self.number = number


@contextmanager
def stopping_cleanly(*, writes: bool = False, numbers: Sequence[signal.Signals] = STOPPING) -> Iterator[None]:
    """Let signals, by default Ctrl-C, SIGTERM and SIGHUP, end the block with an exception, so that it cleans up.

    A second signal ends the process at once. If the block `writes` a file, the second signal is ignored, because that file
    must be removed.
    """
    found = {number: signal.getsignal(number) for number in numbers}
    before = {number: handler for number, handler in found.items() if handler is not signal.SIG_IGN}  # nohup ignores SIGHUP

    def stop(number: int, frame: FrameType | None) -> None:
        for other in before:
            signal.signal(other, signal.SIG_IGN if writes else signal.SIG_DFL)
        raise Stopped(number)

    try:
        for number in before:
            signal.signal(number, stop)
        yield
    except Stopped as stopped:
        name = signal.Signals(stopped.number).name
        end(f"stopped by {name}{'; no half-written file is left' if writes else ''}", 128 + stopped.number)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)
