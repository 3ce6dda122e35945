"""Errors that a user's network, objective or gradient raises at a step, as one line that names where."""

from __future__ import annotations

import os
import sysconfig
from collections.abc import Callable, Iterator
from functools import wraps
from traceback import walk_tb
from types import CodeType
from typing import Any, TypeVar

import torch

from antiphon.agents.module import ModuleNetwork
from antiphon.engine.heart.system import System
from antiphon.errors import AntiphonError, RunError, first_line
from antiphon.nets.memory import was_refused
from antiphon.nets.modules import ModuleFunction

__all__ = ["failures_named"]

Method = TypeVar("Method", bound=Callable[..., Any])
_FOLDERS = (os.path.dirname(torch.__file__), os.path.dirname(os.path.dirname(__file__)))
_LIBRARY = tuple(os.path.join(folder, "") for folder in _FOLDERS)
_TRACED = "<eval_with_key>"
"""Beginning of the file names of code that torch.fx writes for the parts of a traced model."""
_STANDARD = os.path.join(sysconfig.get_path("stdlib"), "")
_MOST_NAMES = 3
_IN_PLACE = "modified by an inplace operation"


def failures_named(method: Method) -> Method:
    """Raise errors of a user's code within a backend's method as a RunError; other errors, such as ours, as they are."""

    @wraps(method)
    def call(backend: Any, step: int, *args: Any, **kwargs: Any) -> Any:
        try:
            return method(backend, step, *args, **kwargs)
        except AntiphonError:
            raise
        except Exception as error:
            line = None if was_refused(error) else _line_of(error, backend.stacked.base)
            if line is None:
                raise
            raise RunError(f"step {step}: {line}") from error

    return call  # type: ignore[return-value]


def _line_of(error: Exception, system: System) -> str | None:
    """Return the line of an error of a user's code; None if no code of theirs was called."""
    what = f"{type(error).__name__}: {first_line(error)}"
    if _IN_PLACE in what:
        names = [
            name for name, agent in system.agents.items() if isinstance(agent.learner.network, ModuleNetwork)
        ]
        of = ", ".join(names[:_MOST_NAMES]) + (", …" if len(names) > _MOST_NAMES else "")
        return (
            f"a network ({of}) changed its parameters, or something computed from them, in place before the window's end; "
            "compute new tensors (w = self.weight.clamp(…)), or set clock.unroll to 1"
        )
    places = list(_users(error))
    if not places:
        return _of_layer(error, what, system)
    code, number = places[-1]
    return f"{code.co_qualname} failed at {os.path.basename(code.co_filename)}:{number}: {what}"


def _users(error: Exception) -> Iterator[tuple[CodeType, int]]:
    """Yield functions and lines of neither antiphon, torch nor Python that an error passed, the innermost last."""
    for frame, number in walk_tb(error.__traceback__):
        file = frame.f_code.co_filename
        standard = file.startswith((_STANDARD, "<frozen")) and "site-packages" not in file
        if not (standard or file.startswith((*_LIBRARY, _TRACED))):
            yield frame.f_code, number


def _of_layer(error: Exception, what: str, system: System) -> str | None:
    """Return the line of an error that a layer of torch raises in a user's module; None if it was in none."""
    within, owner, layer = False, "", ""
    for frame, _ in walk_tb(error.__traceback__):
        caller = frame.f_locals.get("self")
        if isinstance(caller, ModuleNetwork):
            agents = (name for name, agent in system.agents.items() if agent.learner.network is caller)
            owner = next((f"agent '{name}': " for name in agents), owner)
        within |= isinstance(caller, ModuleFunction)
        if within and isinstance(caller, torch.nn.Module):
            layer = type(caller).__name__
    return f"{owner}{layer} failed: {what}" if layer else None
