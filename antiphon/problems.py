"""Errors of documents in one line: the path as its author writes it, the value, the fix."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from antiphon.errors import ScenarioError, suggest

if TYPE_CHECKING:
    from pydantic import ValidationError
    from pydantic_core import ErrorDetails

__all__ = [
    "MISSING",
    "MOST_PROBLEMS",
    "UNNAMED",
    "DocumentError",
    "Path",
    "Problems",
    "kind_of",
    "placed",
    "show_path",
    "show_value",
    "translate",
]

Path = tuple[str | int, ...]

MISSING = "is missing"
UNNAMED = "is missing; give the scenario a name"
_LONGEST_VALUE = 60
_LARGEST_SHOWN = 10**18
MOST_PROBLEMS = 100
"""Of a document, at which it is examined no further."""
_PLACE = re.compile(r"[a-z_]+(\.\w+)*")


class DocumentError(ScenarioError):
    """A ScenarioError with its place in the document.

    Attributes:
        path: Where in the document: keys and list indices from the root; of a resolved scenario a channel's name.
        message: The problem and the fix.
        others: Further problems that were found with this one; the line gives their number.
    """

    def __init__(
        self, path: Path, message: str, prefix: str = "", others: Sequence[DocumentError] = ()
    ) -> None:
        self.path = path
        self.message = message
        self._prefix = prefix
        self.others = tuple(others)
        place = show_path(path)
        more = f" (and {len(self.others)} more)" if others else ""
        super().__init__(prefix + (f"{place}: {message}" if place else message) + more)

    def separate(self) -> list[DocumentError]:
        """Return this problem alone, and the others."""
        return [DocumentError(self.path, self.message, self._prefix), *self.others]

    def under(self, path: Path) -> DocumentError:
        """Return the same problem with `path` in front of its path."""
        others = [other.under(path) for other in self.others]
        return DocumentError(path + self.path, self.message, others=others)

    def line(self, lines: Mapping[Path, int]) -> int | None:
        """Return the line of the nearest place that encloses this one; None: there is none."""
        return next(
            (lines[self.path[:n]] for n in range(len(self.path), -1, -1) if self.path[:n] in lines), None
        )

    def located(self, source: str, lines: Mapping[Path, int]) -> DocumentError:
        """Return the same problem with `file:line: ` in front.

        Args:
            source: The file's name, or another name of the text's origin.
            lines: The line (from 1) of every path of the document; the nearest enclosing one is named.
        """
        line = self.line(lines)
        prefix = f"{source}: " if line is None else f"{source}:{line}: "
        others = [other.located(source, lines) for other in self.others]
        return DocumentError(self.path, self.message, prefix, others)


class Problems(list[DocumentError]):
    """Problems of one document, gathered while its parts are read one by one: up to 100, at which it is read no further."""

    def __init__(self, problems: Iterable[DocumentError] = ()) -> None:
        super().__init__(islice(problems, MOST_PROBLEMS))

    def append(self, problem: DocumentError) -> None:
        """Append a problem; raise all where there are enough."""
        super().append(problem)
        if len(self) >= MOST_PROBLEMS:
            self.raise_any()

    @contextmanager
    def gathered(self, path: Path = ()) -> Iterator[None]:
        """Append the problems that the body raises, with `path` in front of theirs, instead of raising them."""
        try:
            yield
        except DocumentError as error:
            found = error.under(path).separate() if path else error.separate()
        else:
            return
        for problem in found:
            self.append(problem)

    def raise_any(self) -> None:
        """Raise the first problem, with the others in its `others`; do nothing where there is none."""
        if self:
            first, *others = self
            raise DocumentError(first.path, first.message, others=others)


def show_path(path: Path) -> str:
    """Format a path as users do: `channels[2].gradient.context`, or with a channel's name `channels[a->b].size`."""
    text = ""
    for part in path:
        if isinstance(part, int) or "->" in part:
            text += f"[{part}]"
        else:
            text += f".{part}" if text else part
    return text


def show_value(value: object) -> str:
    """Format a value as YAML, on one line and not too long."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value) if abs(value) < _LARGEST_SHOWN else f"a number of {value.bit_length()} bits"
    if isinstance(value, str | PurePath):
        text = repr(str(value))
    elif isinstance(value, list | tuple):
        text = "[" + ", ".join(show_value(item) for item in value[:8]) + (", …]" if len(value) > 8 else "]")
    elif isinstance(value, float):
        text = repr(value)
    elif isinstance(value, Mapping):
        text = "{" + ", ".join(f"{key}: …" for key in list(value)[:8]) + "}"
    else:
        text = f"a Python {type(value).__name__}"
    return text if len(text) <= _LONGEST_VALUE else text[: _LONGEST_VALUE - 1] + "…"


def kind_of(value: object) -> str:
    """Format a value, with its type where it is ambiguous: for 'must be …, not …'."""
    return f"the word {show_value(value)}" if isinstance(value, str) else show_value(value)


def placed(error: ScenarioError, path: Path = ()) -> DocumentError:
    """Convert an error of a lower layer, whose line begins with a place such as `network.filter: `, put under `path`."""
    place, _, message = str(error).partition(": ")
    if message and _PLACE.fullmatch(place):
        return DocumentError((*path, *place.split(".")), message)
    return DocumentError(path, str(error))


def translate(error: ValidationError) -> DocumentError:
    """Convert pydantic's error to one DocumentError: the first problem, with the others."""
    details = error.errors(include_url=False)
    found = list(islice((one for detail in details for one in _problem(detail).separate()), MOST_PROBLEMS))
    return DocumentError(found[0].path, found[0].message, others=found[1:])


def _problem(detail: ErrorDetails) -> DocumentError:
    path = detail["loc"]
    if path and path[-1] == "[key]":
        path = (*path[:-2], str(path[-2]))
    context: dict[str, Any] = detail.get("ctx", {})
    cause = context.get("error")
    if isinstance(cause, DocumentError):
        return cause.under(path)
    return DocumentError(path, _message(detail["type"], path, detail["input"], context, detail["msg"]))


def _bound(number: float) -> str:
    return f"{number:.0f}" if number == round(number) else f"{number:g}"


def _message(kind: str, path: Path, value: object, context: dict[str, Any], fallback: str) -> str:
    if kind == "missing":
        return UNNAMED if path == ("scenario",) else MISSING
    if kind == "literal_error":
        key = next((part for part in reversed(path) if isinstance(part, str)), "value")
        known = re.findall(r"'([^']*)'", str(context["expected"]))
        return f"unknown {key} {show_value(value)}{suggest(str(value), known)}"
    bounds: dict[str, Callable[[], str]] = {
        "greater_than": lambda: f"greater than {_bound(context['gt'])}",
        "greater_than_equal": lambda: f"at least {_bound(context['ge'])}",
        "less_than": lambda: f"less than {_bound(context['lt'])}",
        "less_than_equal": lambda: f"at most {_bound(context['le'])}",
        "too_short": lambda: f"a list of at least {context['min_length']}",
        "too_long": lambda: f"a list of at most {context['max_length']}",
        "model_type": lambda: "a mapping of keys",
        "dict_type": lambda: "a mapping of keys",
        "tuple_type": lambda: "a list",
        "string_type": lambda: "a word",
    }
    if kind in bounds:
        return f"must be {bounds[kind]()}, not {kind_of(value)}"
    return fallback[:1].lower() + fallback[1:]
