"""Errors of antiphon: one line each that names the place, the value and the fix."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = [
    "AntiphonError",
    "DataError",
    "DivergenceError",
    "EngineError",
    "ResourceError",
    "RunError",
    "ScenarioError",
    "suggest",
]


class AntiphonError(Exception):
    """Base of antiphon's errors; `exit_code` is the command line's."""

    exit_code = 2


class ScenarioError(AntiphonError, ValueError):
    """A scenario document, template, graph or override that cannot be run as written."""


class DataError(AntiphonError, ValueError):
    """A data file that is missing, truncated or of another format."""


class RunError(AntiphonError, ValueError):
    """A run directory or checkpoint that cannot be written, read or continued."""


class DivergenceError(AntiphonError, ArithmeticError):
    """An agent or predictor produced a loss or gradient that is not finite."""

    exit_code = 3


class ResourceError(AntiphonError, MemoryError):
    """A scenario that needs more memory than there is."""

    exit_code = 4


class EngineError(AntiphonError, RuntimeError):
    """A broken invariant of the engine itself: always a defect of antiphon, never of the input."""

    exit_code = 1


def suggest(name: str, known: Iterable[str]) -> str:
    """Return "; did you mean 'x'?" for the nearest known name, or the list of known names."""
    names = sorted(str(item) for item in known)
    near = difflib.get_close_matches(str(name), names, n=1)
    if near:
        return f"; did you mean '{near[0]}'?"
    if not names:
        return ""
    first = ", ".join(names[:12]) + (", …" if len(names) > 12 else "")
    return f"; known: {first}"
