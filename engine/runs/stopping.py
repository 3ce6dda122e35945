"""Handlers of SIGINT and SIGTERM that note the signal, so that work can end at a step from which it can be resumed."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["stop_signals"]


@contextmanager
def stop_signals(then: Callable[[], None] | None = None) -> Iterator[list[int]]:
    """Note SIGINT and SIGTERM in the list yielded; a second signal raises KeyboardInterrupt.

    Outside of the main thread, where Python delivers no signals, the list stays empty.

    Args:
        then: Called on the first signal.
    """
    stopped: list[int] = []

    def stop(number: int, _: FrameType | None) -> None:
        if stopped:
            raise KeyboardInterrupt
        stopped.append(number)
        if then is not None:
            then()

    if threading.current_thread() is not threading.main_thread():
        yield stopped
        return
    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
