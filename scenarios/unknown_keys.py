"""Problems of a document that others hide: what is refused is left out, and the rest is read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from antiphon.base.problems import DocumentError, MisspeltKind, Path, Problems, UnknownKey
from antiphon.base.spellings import spelled


def with_all_unknown_keys(
    error: DocumentError, data: Mapping[str, Any], read: Callable[[dict[str, Any]], object]
) -> DocumentError:
    """Return the problems of a document with the unknown keys that show once those among them are left out.

    Args:
        error: The problems that a reader raises.
        data: The document, whose keys are their paths; it stays as it is.
        read: Reads it without the unknown keys, and raises what it finds then.
    """
    problems, rest = error.separate(), dict(data)
    for problem in problems:
        if isinstance(problem, UnknownKey):
            rest = without(rest, problem.path)
    if rest == data:
        return error
    known = {problem.path for problem in problems}
    of_unknown_kind = {problem.path[:-1] for problem in problems if isinstance(problem, MisspeltKind)}
    try:
        read(rest)
    except DocumentError as later:
        found = (one for one in later.separate() if isinstance(one, UnknownKey))
        problems += [one for one in found if one.path not in known and one.path[:-1] not in of_unknown_kind]
    return Problems(problems).as_one()


def without(data: Any, path: Path) -> Any:
    """Return nested mappings and lists without the key at a path; the same ones where it is not there."""
    if isinstance(data, Mapping):
        key = spelled(str(path[0]), data)
        if key not in data:
            return data
        if len(path) == 1:
            return {name: item for name, item in data.items() if name != key}
        return {**data, key: without(data[key], path[1:])}
    if isinstance(data, list | tuple) and isinstance(path[0], int) and path[0] < len(data):
        return [without(item, path[1:]) if n == path[0] else item for n, item in enumerate(data)]
    return data
