"""Nearest names: what an error about an unknown name suggests."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from functools import lru_cache

_LONGEST_NAME = 100
"""Characters of a name for which a similar one is sought."""
_MOST_NAMES = 1000
"""Known names among which it is."""
_MOST_LISTED = 16
"""Known names that are listed where none is similar."""


def suggest(name: str, known: Iterable[str], prefix: str = "", also: Iterable[str] = ()) -> str:
    """Return "; did you mean 'x'?" for the nearest known name, or the list of known names; each after the prefix.

    Args:
        name: The unknown name.
        known: The known ones.
        prefix: Of each.
        also: Other spellings of known ones, which may be the nearest, and are not listed.
    """
    names, others = (tuple(sorted(str(item) for item in items)) for items in (known, also))
    return _suggestion(str(name)[: _LONGEST_NAME + 1], names, prefix, others)


def nearest(name: str, known: Iterable[str], *, cutoff: float = 0.6) -> str | None:
    """Return the known name that is most similar to a name; None: to none is its similarity, in [0, 1], as large as the cutoff."""
    return next(iter(difflib.get_close_matches(name, [*known], n=1, cutoff=cutoff)), None)


def suggest_registered(name: str, known: Iterable[str], fix: str = "") -> str:
    """Return a `fix`, or what `suggest` does, and what to do if a module of the user's own registers the unknown name."""
    ending = fix or suggest(name, known)
    if ending.startswith("; did"):
        return ending
    return f"{ending}; if a module of yours registers it, import that (commands: antiphon --allow-import MODULE …)"


@lru_cache(maxsize=256)  # one mistake may be in thousands of agents
def _suggestion(name: str, names: tuple[str, ...], prefix: str, others: tuple[str, ...]) -> str:
    short = [item for item in (*names, *others) if len(item) <= _LONGEST_NAME]
    near = nearest(name, short[:_MOST_NAMES])
    if near is not None:
        return f"; did you mean '{prefix}{near}'?"
    if not names:
        return ""
    first = ", ".join(prefix + item for item in names[:_MOST_LISTED]) + (
        ", …" if len(names) > _MOST_LISTED else ""
    )
    return f"; known: {first}"
