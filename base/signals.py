"""Ctrl-C and SIGTERM: the first ends a run after its step, the second at once. Loads without torch."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def stop_signals(callback: Callable[[], None] | None = None) -> Iterator[list[int]]:
    """Note SIGINT and SIGTERM in the list yielded; a second signal raises KeyboardInterrupt.

    Signals that the process ignores, or that a library in C handles, are left alone. Outside of the main thread, where Python
    delivers no signals, the list stays empty. `callback` is called on the first one.
    """
    stopped: list[int] = []

    def stop(number: int, _: FrameType | None) -> None:
        if stopped:
            raise KeyboardInterrupt
        stopped.append(number)
        if callback is not None:
            callback()

    if threading.current_thread() is not threading.main_thread():
        yield stopped
        return
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    handlers = {
        number: handler for number, handler in handlers.items() if handler not in (None, signal.SIG_IGN)
    }
    for number in handlers:
        signal.signal(number, stop)
    try:
        yield stopped
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def stopped_by(number: int, line: str) -> KeyboardInterrupt:
    """Return what a call raises that a signal has ended; `line`: how it goes on."""
    return KeyboardInterrupt(f"stopped by {signal.Signals(number).name}; {line}")
