"""Whose turn it is with a running scenario: one thread's at a time takes a step of it, changes it, or reads what a step replaces.

The others wait until its call ends, and get their turn before it begins another. A thread's calls within its own turn, as of callbacks
within a step, pass. A wait that could not end is refused.
"""

from __future__ import annotations

import os
import time
import weakref
from collections.abc import Callable
from functools import wraps
from threading import Lock, get_ident
from typing import ParamSpec, TypeVar

from antiphon.base.errors import RunError
from antiphon.nets.isolation.own_random import is_exclusive

P = ParamSpec("P")
R = TypeVar("R")

_waiting: dict[int, Turn] = {}
"""The turn that each thread waits for."""
_LET_GO = 0.0005
"""Seconds for which one who comes back lets those go first who wait; a lock alone would go to it again and again."""
_LONGEST = 10.0
"""Seconds for which users' code within a step, which other threads' steps may wait for, waits for one of these."""


class Turn:
    """The turn of one running scenario.

    Attributes:
        lock: Held during a turn.
        holder: The thread whose turn it is; None: nobody's.
    """

    def __init__(self) -> None:
        self.lock = Lock()
        self.holder: int | None = None
        _turns.add(self)

    def take(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Return what a function returns that is called in the turn.

        Raises:
            RunError: Whose turn it is waits for this thread.
        """
        thread = get_ident()
        if self.holder == thread:
            return function(*args, **kwargs)
        try:
            self._ask(thread)
            with self.lock:
                self.holder = thread
                _waiting.pop(thread, None)
                try:
                    return function(*args, **kwargs)
                finally:
                    self.holder = None
        finally:
            _waiting.pop(thread, None)

    def _ask(self, thread: int) -> None:
        if self in [*_waiting.values()]:
            time.sleep(_LET_GO)
        _waiting[thread] = self
        turn: Turn | None = self
        while turn is not None and turn.holder is not None:
            if turn.holder == thread:
                raise _endless()
            turn = _waiting.get(turn.holder)
        if self.holder is not None and is_exclusive():
            if not self.lock.acquire(timeout=_LONGEST):
                raise _endless()
            self.lock.release()


_turns: weakref.WeakSet[Turn] = weakref.WeakSet()


def _endless() -> RunError:
    return RunError(
        "simulation: is in a step of another thread, which waits for this one; read it between the steps of this one, as in on_step"
    )


def _begin_anew() -> None:
    """Free all turns in a forked process, in which their threads are not."""
    _waiting.clear()
    for turn in [*_turns]:
        turn.lock = Lock()
        turn.holder = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)


def in_turn(method: Callable[P, R]) -> Callable[P, R]:
    """Call a method in the `turn` of its object, or of what is `running` in that."""

    @wraps(method)
    def called(*args: P.args, **kwargs: P.kwargs) -> R:
        turn: Turn = getattr(args[0], "running", args[0]).turn  # type: ignore[attr-defined]
        return turn.take(method, *args, **kwargs)

    return called
