"""Nearest names: what an error about an unknown name suggests."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from functools import lru_cache

_LONGEST_NAME = 100
"""Characters of a name for which a similar one is sought."""
_MOST_LISTED = 16
"""Known names that are listed where none is similar."""


def suggest(
    name: str, candidates: Iterable[str], prefix: str = "", also: Iterable[str] = (), *, listed: str = "known"
) -> str:
    """Return "; did you mean 'x'?" for the nearest known name, or the list of known names; each after the prefix.

    Args:
        candidates: The known ones that may stand in its place.
        prefix: Of each.
        also: Other spellings of known ones, which may be the nearest, and are not listed.
        listed: What stands before the list.
    """
    names = sorted(str(item) for item in candidates)
    near = nearest(name, [*names, *sorted(also)])
    if near is not None:
        return f"; did you mean '{prefix}{near}'?"
    shown = [prefix + item for item in names[:_MOST_LISTED]] + ["…"] * (len(names) > _MOST_LISTED)
    return f"; {listed}: {', '.join(shown)}" if names else ""


def nearest(name: str, candidates: Iterable[str], *, cutoff: float = 0.6) -> str | None:
    """Return the known name that is most similar to a name; None: to none is its similarity, in [0, 1], as large as the cutoff."""
    return None if len(name) > _LONGEST_NAME else _nearest(name, tuple(candidates), cutoff)


@lru_cache(maxsize=256)  # one mistake may be in thousands of agents
def _nearest(name: str, candidates: tuple[str, ...], cutoff: float) -> str | None:
    near = difflib.get_close_matches(name, candidates, cutoff=cutoff)
    swapped = [candidate for candidate in near if sorted(candidate) == sorted(name)]  # `form` for `from`
    return next(iter(swapped or near), None)


def suggest_registered(name: str, candidates: Iterable[str], fix: str = "") -> str:
    """Return a `fix`, or what `suggest` does, and what to do if a module of the user's own registers the unknown name."""
    ending = fix or suggest(name, candidates)
    if ending.startswith("; did"):
        return ending
    return f"{ending}; if a module of yours registers it, import that (commands: antiphon --import MODULE …)"
