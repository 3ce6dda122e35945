"""Errors that a user's network, objective or gradient raises at a step, as one line that names where."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

from antiphon.engine.heart.system import System
from antiphon.errors import CallError, RunError
from antiphon.extensions import call_error

__all__ = ["failures_named"]

Method = TypeVar("Method", bound=Callable[..., Any])
_MOST_NAMES = 3
_BACKWARD = {
    "modified by an inplace operation": "changed its parameters, or something computed from them, in place before the window's "
    "end; compute new tensors (w = self.weight.clamp(…)), or set clock.unroll to 1",
    "backward through the graph a second time": "keeps a tensor with its graph from one window to the next; keep its detach(), "
    "or return it as the state (state_size)",
}
"""What a network did, by a part of torch's error of a backward pass."""


def failures_named(method: Method) -> Method:
    """Raise errors of a user's code within a backend's method as a RunError; other errors, such as ours, as they are."""

    @wraps(method)
    def call(backend: Any, step: int, *args: Any, **kwargs: Any) -> Any:
        try:
            return method(backend, step, *args, **kwargs)
        except CallError as error:  # of a call that knew whose object it is
            raise RunError(f"step {step}: {error}") from error.__cause__
        except Exception as error:
            line = _of_networks(error, backend.stacked.base) or call_error(error, "")
            if line is None:
                raise
            raise RunError(f"step {step}: {line}") from error

    return call  # type: ignore[return-value]


def _of_networks(error: Exception, system: System) -> str | None:
    """Return the line of a backward pass that fails by what a user's network does; None: it is another error."""
    fault = next((fault for part, fault in _BACKWARD.items() if part in str(error)), None)
    names = [name for name, agent in system.agents.items() if agent.learner.network.modules()]
    if fault is None or not names:
        return None
    of = ", ".join(names[:_MOST_NAMES]) + (", …" if len(names) > _MOST_NAMES else "")
    return f"a network ({of}) {fault}"
