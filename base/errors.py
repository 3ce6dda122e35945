"""Errors of antiphon: one line each that names the place, the value and the fix."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches

_MOST_LISTED = 16
"""Known names that are listed where none is similar."""


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
    """Base class of antiphon's errors. The message is one line, with paths in the working folder as they are typed.

    `exit_code` is the exit code of the command line.
    """

    exit_code = 2

    def __str__(self) -> str:
        text, folder = super().__str__(), os.path.join(os.getcwd(), "")
        return in_one_line(text if folder == os.sep else text.replace(folder, ""))


class ScenarioError(AntiphonError, ValueError):
    """A scenario file, template, graph or override that cannot be run as written."""


class ScenarioWarning(UserWarning):
    """A scenario that runs, but probably not as intended. `antiphon check` prints the same lines."""


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
    """Note at exceptions of a user's code where it was called (agent, channel or environment, and the step); antiphon's have their place."""
    try:
        yield
    except AntiphonError:
        raise
    except Exception as error:
        error.add_note(f"antiphon: {place}")
        raise


def is_terminal() -> bool:
    """Return whether stderr is a terminal; a daemon or a GUI has no stderr."""
    return sys.stderr is not None and sys.stderr.isatty()


def write_error(line: str) -> None:
    """Write one line to stderr, where there is one."""
    if sys.stderr is not None:
        print(line, file=sys.stderr, flush=True)


def suggest(name: str, candidates: Iterable[str]) -> str:
    """Return "; did you mean 'x'?" for the nearest known name, or the list of known names."""
    names = sorted(map(str, candidates))
    if near := get_close_matches(name, names, 1):
        return f"; did you mean '{near[0]}'?"
    shown = names[:_MOST_LISTED] + ["…"] * (len(names) > _MOST_LISTED)
    return f"; known: {', '.join(shown)}" if names else ""


def suggest_registered(name: str, candidates: Iterable[str], fix: str = "") -> str:
    """Return a `fix`, or what `suggest` does, and what to do if a module of the user's own registers the unknown name."""
    ending = fix or suggest(name, candidates)
    if ending.startswith("; did"):
        return ending
    return f"{ending}; if a module of yours registers it, import that (commands: antiphon --import MODULE …)"
