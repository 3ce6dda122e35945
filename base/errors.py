"""Errors of antiphon: one line each that names the place, the value and the fix."""

from __future__ import annotations

import os
import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TextIO


def with_article(name: str) -> str:
    """Return a name after "a" or "an", by its first letter, or by that letter's name where it is spelled out: "an Adam", "an mlp"."""
    spelled = name[:2].isupper() or not set("aeiouy") & set(name.lower())
    vowel = name[:1].lower() in ("aefhilmnorsx" if spelled else "aeio")
    vowel |= name.lower().startswith("un") and not name.lower().startswith("uni")
    return f"an {name}" if vowel else f"a {name}"


def with_count(count: int, noun: str) -> str:
    """Return a count with its noun: "1 step", "1,000 steps"."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def in_one_line(text: str) -> str:
    """Return a text as one line, control characters as escapes."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in text
    )


class AntiphonError(Exception):
    """Base class of antiphon's errors. The message is one line; `exit_code` is the exit code of the command line."""

    exit_code = 2

    def __str__(self) -> str:
        return in_one_line(_with_relative_paths(super().__str__()))


class ScenarioError(AntiphonError, ValueError):
    """A scenario file, template, graph or override that cannot be run as written."""


class ScenarioWarning(UserWarning):
    """A scenario that runs, but probably not as intended. `antiphon check` prints the same lines."""


def warn_caller(line: str, category: type[Warning] = UserWarning) -> None:
    """Warn at the line that called the library, however deep the call is."""
    frame, level = sys._getframe(1), 2  # 1 is this function
    while frame.f_back is not None and frame.f_globals["__name__"].startswith(("antiphon.", "contextlib")):
        frame, level = frame.f_back, level + 1
    warnings.warn(line, category, stacklevel=level)


class DataError(AntiphonError, ValueError):
    """A data file that is missing, truncated or of another format."""


class RunError(AntiphonError, ValueError):
    """A run directory or checkpoint that cannot be written, read or continued."""


class DivergenceError(AntiphonError, ArithmeticError):
    """An agent or predictor produced a loss or gradient that is not finite."""

    exit_code = 3


class EngineError(AntiphonError, RuntimeError):
    """A broken invariant of the engine itself: always a bug in antiphon, never in the input."""

    exit_code = 1


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text, or its kind."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def require(holds: bool, place: object, problem: str, error: type[AntiphonError] = DataError) -> None:
    """Raise an error of a place, such as a file or a key, and its problem where something does not hold."""
    if not holds:
        raise error(f"{place}: {problem}")


@contextmanager
def named(place: str) -> Iterator[None]:
    """Note at exceptions of a user's code where it was called; errors of antiphon have their place.

    Args:
        place: The agent, channel or environment, and the step.
    """
    try:
        yield
    except AntiphonError:
        raise
    except Exception as error:
        error.add_note(f"antiphon: {place}")
        raise


def is_terminal(stream: TextIO | None) -> bool:
    with suppress(AttributeError, ValueError):  # an object of a GUI's, or closed
        return stream is not None and stream.isatty()
    return False


def write_error(line: str) -> None:
    """Write one line to stderr, where there is one that can be written to."""
    if sys.stderr is not None:
        with suppress(OSError, ValueError):
            print(line, file=sys.stderr, flush=True)


def _with_relative_paths(text: str) -> str:
    """Return a text in which paths in the working directory are as they are typed; what is used is absolute."""
    try:
        working_folder = os.path.join(os.getcwd(), "")
    except OSError:  # it was removed
        return text
    return (
        text
        if working_folder == os.sep
        else re.sub(rf"(?<![^\s'\"=(:]){re.escape(working_folder)}(?=\S)", "", text)
    )
