"""Errors of documents in one line: the path as its author writes it, the value, the fix."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import PurePath
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from antiphon.base.errors import ScenarioError, with_count
from antiphon.base.nearest_names import suggest

if TYPE_CHECKING:
    from pydantic import ValidationError
    from pydantic_core import ErrorDetails

Path = tuple[str | int, ...]

MISSING = "is missing"
UNNAMED = "is missing; name the scenario"
WRITTEN: Mapping[str, str] = {
    "between": "[core, core]",
    "channel": "'a->b'",
    "cluster": "NAME",
    "compute": "{measure: true}",
    "default": "64",
    "env": "antiphon/Digits-v0",
    "every": "100",
    "factor": "3",
    "file": "digits.npz",
    "from": "0.001",
    "id": "antiphon/Digits-v0",
    "machines": "{core: {count: 2}}",
    "observes": "[image]",
    "period": "100",
    "population": "NAME",
    "share": "0.1",
    "study": "NAME",
    "to": "0.1",
    "vary": "{lr: {from: 0.0001, to: 0.1, log: true}}",
}
"""Examples of values of keys that must be there, by key; those of kinds say what they mean."""
_LONGEST_VALUE = 60
_MOST_NOTES = 20
"""Further problems of a document that a traceback lists."""
_LARGEST_SHOWN = 10**18
MOST_PROBLEMS = 1000
"""Problems of a document at which it is examined no further."""
_PLACE = re.compile(r"[a-z_]+(\.\w+)*")
_PARTS = (("agents",), ("channels",))
_NUMBER = re.compile(r"\d+")


class DocumentError(ScenarioError):
    """A ScenarioError with its place in the scenario file. A traceback has a further line for each of the others, up to 20.

    Attributes:
        path: The place: keys and list indices from the root; in a resolved scenario, a channel's name.
        message: The problem and the fix.
        subject: The agent or channel that has the problem; empty: neither.
        others: Further problems found with this one; the message gives their number.
    """

    def __init__(
        self,
        path: Path,
        message: str,
        *,
        others: Sequence[DocumentError] = (),
        subject: str = "",
        source: str = "",
        also: str = "",
    ) -> None:
        self.path, self.message, self.others = path, message, tuple(others)
        of_a_part = path[:1] in _PARTS and len(path) > 1
        item = path[1] if of_a_part else ""
        self.subject = subject or (item if isinstance(item, str) else show_path(path[:2]))
        self._source, self._also = source, also
        place = show_path(path) + (f" ({also})" if also else "")
        more = f" (and {len(self.others)} more)" if others else ""
        super().__init__(source + (f"{place}: {message}" if place else message) + more)
        if others:
            self.__notes__ = [str(problem) for problem in self.others[:_MOST_NOTES]]

    def _with(self, **changes: Any) -> DocumentError:
        same = {"path": self.path, "message": self.message, "others": self.others}
        return type(self)(**{**same, "source": self._source, "also": self._also, **changes})

    def separate(self) -> list[DocumentError]:
        """Return this problem and the others, each as an error of its own."""
        return [self._with(others=()), *self.others]

    def at(self, path: Path, subject: str) -> DocumentError:
        """Return the same problem at another place, without the others."""
        return self._with(path=path, subject=subject, others=())

    def with_message(self, message: str) -> DocumentError:
        """Return the same problem with another message, without the others."""
        return self._with(message=message, others=())

    def of(self, source: str) -> DocumentError:
        """Return the same problem, and the others, with the name of their document in front."""
        return self._with(source=source, others=[problem.of(source) for problem in self.others])

    def under(self, path: Path) -> DocumentError:
        """Return the same problem with `path` in front of its path."""
        return self._with(path=path + self.path, others=[problem.under(path) for problem in self.others])

    def line(self, lines: Mapping[Path, int]) -> int | None:
        """Return the line number of the place, or of the nearest enclosing one; None: no line is known."""
        return next(
            (lines[self.path[:n]] for n in range(len(self.path), -1, -1) if self.path[:n] in lines), None
        )

    def located(self, source: str, lines: Mapping[Path, int]) -> DocumentError:
        """Return the same problem with `file:line: ` in front.

        Args:
            source: The file's name, or another name of the text's origin.
            lines: The line (from 1) of every path of the file; the nearest enclosing one is named.
        """
        line = self.line(lines)
        located = [problem.located(source, lines) for problem in self.others]
        return self._with(source=f"{source}: " if line is None else f"{source}:{line}: ", others=located)


class Problems(list[DocumentError]):
    """Problems of one document, gathered while its parts are read one by one: up to 1,000, at which it is read no further."""

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
            problems = error.under(path).separate() if path else error.separate()
        else:
            return
        for problem in problems:
            self.append(problem)

    def raise_any(self) -> None:
        """Raise the first problem, with the others in its `others`; do nothing where there is none."""
        if self:
            raise self.as_one()

    def as_one(self) -> DocumentError:
        """Return the first problem, with the others in its `others`."""
        return self[0]._with(others=self[1:])

    def said_once(self, generated: Mapping[Path, int] = MappingProxyType({})) -> Problems:
        """Return one problem for each mistake, the first, which names the other agents or channels that have it.

        A mistake is a place and a message without the agent's or channel's name and without numbers.

        Args:
            generated: By the path of a section how many are generated from it; those of a mistake of all are not named.
        """
        mistakes: dict[tuple[Path, str], list[DocumentError]] = {}
        for problem in self:
            pattern = ("*", *problem.path[2:]) if problem.path[:1] in _PARTS else problem.path
            message = _NUMBER.sub("#", problem.message.replace(f"{problem.subject!r}", "it"))
            mistakes.setdefault((pattern, message), []).append(problem)
        return Problems(_merged(problems, generated) for problems in mistakes.values())


def _merged(problems: Sequence[DocumentError], generated: Mapping[Path, int]) -> DocumentError:
    """Return the first of problems that are one mistake, with the names of all where its place is a section of several."""
    first = problems[0]
    names = list(dict.fromkeys(problem.subject for problem in problems))
    if len(names) in (1, generated.get(first.path[:1]), generated.get(first.path[:2])):
        return first
    also, names = ("also ", names[1:]) if first.path[:1] in _PARTS else ("", names)
    more = f" and {len(names) - 2:,} more" if len(names) > 2 else ""
    return first._with(also=also + ", ".join(names[:2]) + more)


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
    """Format a value as YAML, on one line and not too long; a number of numpy as the plain one."""
    if isinstance(value, np.generic):
        value = value.item()
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


def as_whole(value: object) -> int | None:
    """Return a whole number, also of numpy or torch, as a plain one; None where it is none."""
    try:
        return None if isinstance(value, bool) else int(operator.index(value))  # type: ignore[arg-type]
    except TypeError:
        return None


def show_refused(value: object) -> str:
    """Format a value that is refused, with its type where it is ambiguous: for 'must be …, not …'."""
    if type(value).__module__.startswith("omegaconf."):  # its mappings are taken, its lists are no list
        return f"{show_value(value)}; give OmegaConf.to_container(config)"
    return f"the word {show_value(value)}" if isinstance(value, str) else show_value(value)


def placed(error: ScenarioError, path: Path = ()) -> DocumentError:
    """Convert an error of a lower layer, whose line begins with a place such as `network.size: `, put under `path`."""
    place, _, message = str(error).partition(": ")
    if message and _PLACE.fullmatch(place):
        keys = [int(key) if key.isdecimal() else key for key in place.split(".")]
        return DocumentError((*path, *keys), message)
    return DocumentError(path, str(error))


def translate(error: ValidationError) -> DocumentError:
    """Convert pydantic's error to one DocumentError: the first problem, with the others."""
    details = error.errors(include_url=False)
    return Problems(problem for detail in details for problem in _problem(detail).separate()).as_one()


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
        if path[:1] == ("channels",):
            return f"{MISSING}; name an agent"
        if path == ("scenario",):
            return UNNAMED
        key = str(path[-1])
        return f"{MISSING}; for example {key}: {WRITTEN[key]}" if key in WRITTEN else MISSING
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
        "tuple_type": lambda: "a list",
        "string_type": lambda: "a word",
    }
    if kind in bounds:
        by_name = (
            kind == "dict_type" and isinstance(value, list) and all(isinstance(v, Mapping) for v in value)
        )
        fix = "; write the name of each as its key: {NAME: {…}}" if by_name else ""
        return f"must be {bounds[kind]()}, not {show_refused(value)}{fix}"
    return fallback[:1].lower() + fallback[1:]
