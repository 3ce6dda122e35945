"""Errors of documents in one line: the path as its author writes it, the value, the fix."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from antiphon.base.errors import ScenarioError, suggest, with_count

if TYPE_CHECKING:
    from pydantic import ValidationError
    from pydantic_core import ErrorDetails

Path = tuple[str | int, ...]

MISSING = "is missing"
_LONGEST_VALUE = 60
_PLACE = re.compile(r"[a-z_]+(\.\w+)*")


class DocumentError(ScenarioError):
    """A ScenarioError with its place in the scenario file.

    Attributes:
        path: The place: keys and list indices from the root; in a resolved scenario, a channel's name.
        message: The problem and the fix.
    """

    def __init__(self, path: Path, message: str, *, source: str = "") -> None:
        self.path, self.message = path, message
        place = show_path(path)
        super().__init__(source + (f"{place}: {message}" if place else message))

    def at(self, path: Path) -> DocumentError:
        """Return the same problem at another place."""
        return DocumentError(path, self.message)

    def of(self, source: str) -> DocumentError:
        """Return the same problem with the name of its document in front."""
        return DocumentError(self.path, self.message, source=source)

    def under(self, path: Path) -> DocumentError:
        """Return the same problem with `path` in front of its path."""
        return self.at(path + self.path)

    def located(self, source: str, lines: Mapping[Path, int], at: Path | None = None) -> DocumentError:
        """Return the same problem with `file:line: ` in front, of the nearest enclosing path with a line; `at`: its place in the file."""
        at = self.path if at is None else at
        enclosing = (at[:count] for count in range(len(at), -1, -1))
        line = next((lines[path] for path in enclosing if path in lines), None)
        return self.of(f"{source}: " if line is None else f"{source}:{line}: ")


@contextmanager
def within(path: Path) -> Iterator[None]:
    """Put `path` in front of the place of a problem that the body raises, also of a lower layer (`placed`)."""
    try:
        yield
    except ScenarioError as error:
        raise (
            error.under(path) if isinstance(error, DocumentError) else placed(error, path)
        ) from error.__cause__


def refuse(problems: Iterable[DocumentError]) -> None:
    """Raise the first of some problems; do nothing where there is none."""
    for problem in problems:
        raise problem


def show_path(path: Path) -> str:
    """Format a path as users do: `channels[2].gradient.context`, or with a channel's name `channels[a->b].size`."""
    text = ""
    for key in path:
        if isinstance(key, int) or "->" in key:
            text += f"[{key}]"
        else:
            text += f".{key}" if text else key
    return text


def show_value(value: object) -> str:
    """Format a value as YAML, on one line and not too long."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | PurePath):
        text = repr(str(value))
    elif isinstance(value, list | tuple):
        text = "[" + ", ".join(show_value(item) for item in value[:8]) + (", …]" if len(value) > 8 else "]")
    elif isinstance(value, int | float):
        text = repr(value)
    elif isinstance(value, Mapping):
        text = "{" + ", ".join(f"{key}: …" for key in list(value)[:8]) + "}"
    else:
        text = f"a Python {type(value).__name__}"
    return text if len(text) <= _LONGEST_VALUE else text[: _LONGEST_VALUE - 1] + "…"


def in_table(value: object) -> str:
    """Format a value as `show_value` does, words without quotes."""
    return show_value(value).replace("'", "")


def as_whole(value: object) -> int | None:
    """Return a whole number, also of numpy or torch, as a plain one; None where it is none."""
    try:
        return None if isinstance(value, bool) else int(operator.index(value))  # type: ignore[arg-type]
    except TypeError:
        return None


def show_refused(value: object) -> str:
    """Format a value that is refused, with its type where it is ambiguous: for 'must be …, not …'."""
    return f"the word {show_value(value)}" if isinstance(value, str) else show_value(value)


def placed(error: ScenarioError, path: Path = ()) -> DocumentError:
    """Convert an error of a lower layer, whose line begins with a place such as `network.size: `, put under `path`."""
    place, _, message = str(error).partition(": ")
    if message and _PLACE.fullmatch(place):
        keys = [int(key) if key.isdecimal() else key for key in place.split(".")]
        return DocumentError((*path, *keys), message)
    return DocumentError(path, str(error))


def translate(error: ValidationError) -> DocumentError:
    """Convert pydantic's error to a DocumentError: its first problem."""
    return _problem(error.errors(include_url=False)[0])


def _problem(detail: ErrorDetails) -> DocumentError:
    path = detail["loc"]
    if path and path[-1] == "[key]":
        path = (*path[:-2], str(path[-2]))
    context: dict[str, Any] = detail.get("ctx", {})
    cause = context.get("error")
    if isinstance(cause, ScenarioError):
        return (cause if isinstance(cause, DocumentError) else placed(cause)).under(path)
    return DocumentError(path, _message(detail["type"], path, detail["input"], context, detail["msg"]))


def show_bound(number: float) -> str:
    """Format a bound as it is compared: no digit of a whole number is left out."""
    return f"{number:.0f}" if number == round(number) else f"{number:g}"


def _shortest(value: object, count: int) -> str:
    if isinstance(value, Mapping):
        return f"a mapping of at least {with_count(count, 'key')}"
    return f"a list of at least {count}"


def _message(kind: str, path: Path, value: object, context: dict[str, Any], fallback: str) -> str:
    if kind == "missing":
        return MISSING
    if kind == "literal_error":
        key = next((word for word in reversed(path) if isinstance(word, str)), "value")
        allowed = re.findall(r"'([^']*)'", str(context["expected"]))
        return f"unknown {key} {show_value(value)}{suggest(str(value), allowed)}"
    bounds: dict[str, Callable[[], str]] = {
        "greater_than": lambda: f"greater than {show_bound(context['gt'])}",
        "greater_than_equal": lambda: f"at least {show_bound(context['ge'])}",
        "less_than": lambda: f"less than {show_bound(context['lt'])}",
        "less_than_equal": lambda: f"at most {show_bound(context['le'])}",
        "too_short": lambda: _shortest(value, context["min_length"]),
        "too_long": lambda: f"a list of at most {context['max_length']}",
        "model_type": lambda: "a mapping of keys",
        "dict_type": lambda: "a mapping of keys",
        "mapping_type": lambda: "a mapping of keys",
        "tuple_type": lambda: "a list",
        "string_type": lambda: "text",
        "int_type": lambda: "a whole number",
        "float_type": lambda: "a number",
        "finite_number": lambda: "a finite number",
        "bool_type": lambda: "true or false",
    }
    if kind in bounds:
        alone = kind == "tuple_type" and isinstance(value, str | int) and not isinstance(value, bool)
        fix = f"; write [{value}]" if alone else ""
        return f"must be {bounds[kind]()}, not {show_refused(value)}{fix}"
    return fallback[:1].lower() + fallback[1:]


def check_counts(function: str, least: int = 1, *, needed: bool = False, **counts: object) -> None:
    """Raise ScenarioError where an argument of a function is no whole number from `least` on; None counts only if it is `needed`."""
    for name, count in counts.items():
        number = as_whole(count)
        if (needed or count is not None) and (number is None or number < least):
            raise ScenarioError(f"{function}: {name}={count!r}; must be a whole number, at least {least}")


def checked_seed(seed: object, function: str = "") -> int:
    """Return a seed as a plain number; ScenarioError where it is no whole number from 0 on."""
    number = as_whole(seed)
    if number is None or number < 0:
        raise ScenarioError(f"{function}seed: {seed!r}; must be a whole number, at least 0")
    return number
