"""The line about an unknown key, and problems of a document that others hide: what is refused is left out, and the rest is read."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from antiphon.base.nearest_names import suggest
from antiphon.base.problems import DocumentError, Path, Problems, UnknownKey
from antiphon.base.spec import SPELLINGS


def with_all_unknown_keys(
    error: DocumentError, data: Mapping[str, Any], read: Callable[[dict[str, Any]], object]
) -> DocumentError:
    """Return the problems of a document with the unknown keys that show once those among them are left out.

    Args:
        error: The problems that a reader raises.
        data: The document, whose keys are their paths; it stays as it is.
        read: Reads it without the unknown keys, and raises what it finds then.
    """
    problems = error.separate()
    rest = without(data, [problem.path for problem in problems if isinstance(problem, UnknownKey)])
    if rest == data:
        return error
    reported = {problem.path for problem in problems}
    try:
        read(rest)
    except DocumentError as later:
        unknown = (problem for problem in later.separate() if isinstance(problem, UnknownKey))
        problems += [problem for problem in unknown if problem.path not in reported]
    return Problems(problems).as_one()


def without(data: Any, paths: Collection[Path]) -> Any:
    """Return nested mappings and lists without the keys and items at some paths; those that are not there change nothing."""
    within: dict[str | int, list[Path]] = {}  # by key or index
    for first, *rest in filter(None, paths):
        spellings = [first, *(other for other, name in SPELLINGS.items() if name == first)]
        key = next((key for key in spellings if key in data), first) if isinstance(data, Mapping) else first
        within.setdefault(key, []).append(tuple(rest))
    if not within or not isinstance(data, Mapping | list | tuple):
        return data
    items = data.items() if isinstance(data, Mapping) else enumerate(data)
    remaining = {
        key: without(item, within.get(key, ())) for key, item in items if () not in within.get(key, ())
    }
    return remaining if isinstance(data, Mapping) else [*remaining.values()]


def unknown_key_line(key: str, accepted: Iterable[str]) -> str:
    """Return the line about a key that is neither one of a part, nor one that only a document has there."""
    return f"unknown key {key!r}{suggest(key, accepted)}"
