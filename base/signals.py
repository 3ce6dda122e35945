"""Ctrl-C and SIGTERM: what they end, when, and what the caller of a run learns of it. Loads without torch."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

GRACE = 3.0
"""Seconds after the first signal within which an evaluation may end."""
_CAUGHT = (signal.SIGINT, signal.SIGTERM)


class Interrupted(KeyboardInterrupt):
    """An evaluation that was given up: it had not ended within seconds of a signal."""

    def __init__(self, number: int) -> None:
        super().__init__("stopped in an evaluation, which had not ended some seconds after the signal")
        self.number = number


_first: tuple[int, float] | None = None
"""Number and time of the first signal to the innermost run of the main thread; None: there was none."""


@contextmanager
def stop_signals(callback: Callable[[], None] | None = None) -> Iterator[list[int]]:
    """Note SIGINT and SIGTERM in the list yielded; a second signal raises KeyboardInterrupt.

    Signals that the process ignores, or that a library in C handles, are left alone. Outside of the main thread, where Python
    delivers no signals, the list stays empty. `callback` is called on the first one.
    """
    global _first
    stopped: list[int] = []

    def stop(number: int, _: FrameType | None) -> None:
        global _first
        if stopped:
            raise KeyboardInterrupt
        stopped.append(number)
        _first = number, time.monotonic()
        if callback is not None:
            callback()

    if threading.current_thread() is not threading.main_thread():
        yield stopped
        return
    outer, _first = _first, None
    handlers = {number: signal.getsignal(number) for number in _CAUGHT}
    handlers = {
        number: handler for number, handler in handlers.items() if handler not in (None, signal.SIG_IGN)
    }
    for number in handlers:
        signal.signal(number, stop)
    try:
        yield stopped
    finally:
        _first = outer
        for number, handler in handlers.items():
            signal.signal(number, handler)


def pass_on(number: int) -> None:
    """Raise a signal that another process has got, unless the innermost run here has got one itself: a second ends it at once.

    Batch systems and service managers send SIGTERM to all processes of a job.
    """
    if _first is None:
        signal.raise_signal(number)


@contextmanager
def interrupted_afterwards() -> Iterator[None]:
    """Raise the KeyboardInterrupt of a Ctrl-C once the block has ended, so that a step is taken whole; a second one raises it at once.

    A handler that is not Python's own is left alone.
    """
    handler = signal.default_int_handler
    in_main = threading.current_thread() is threading.main_thread()
    if not in_main or signal.getsignal(signal.SIGINT) is not handler:
        yield
        return
    came: list[int] = []

    def note(number: int, _: FrameType | None) -> None:
        if came:
            raise KeyboardInterrupt
        came.append(number)

    signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
    if came:
        raise KeyboardInterrupt


def check_interrupted() -> None:
    """Raise Interrupted where a signal came some seconds ago: for loops within a step that may last long."""
    if _first is None or time.monotonic() - _first[1] < GRACE:
        return
    if threading.current_thread() is threading.main_thread():
        raise Interrupted(_first[0])


def deliver(number: int, line: str) -> None:
    """Call the caller's own handler of a signal that has ended a run; KeyboardInterrupt where it has none.

    Args:
        line: How it goes on, for the KeyboardInterrupt.
    """
    handler = signal.getsignal(number)
    if not callable(handler) or handler is signal.default_int_handler:
        raise KeyboardInterrupt(f"stopped by {signal.Signals(number).name}; {line}")
    handler(number, sys._getframe(1))
