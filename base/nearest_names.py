"""Nearest names: what an error about an unknown name suggests."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from functools import lru_cache

_MOST_LISTED = 16
"""Known names that are listed where none is similar."""


def suggest(name: str, candidates: Iterable[str], *, listed: str = "known") -> str:
    """Return "; did you mean 'x'?" for the nearest known name, or the list of known names after the word `listed`."""
    names = sorted(map(str, candidates))
    near = _nearest(name, tuple(names))
    if near is not None:
        return f"; did you mean '{near}'?"
    shown = names[:_MOST_LISTED] + ["…"] * (len(names) > _MOST_LISTED)
    return f"; {listed}: {', '.join(shown)}" if names else ""


@lru_cache(maxsize=256)  # one mistake may be in thousands of agents
def _nearest(name: str, candidates: tuple[str, ...]) -> str | None:
    near = difflib.get_close_matches(name, candidates)
    swapped = [candidate for candidate in near if sorted(candidate) == sorted(name)]  # `form` for `from`
    return next(iter(swapped or near), None)


def suggest_registered(name: str, candidates: Iterable[str], fix: str = "") -> str:
    """Return a `fix`, or what `suggest` does, and what to do if a module of the user's own registers the unknown name."""
    ending = fix or suggest(name, candidates)
    if ending.startswith("; did"):
        return ending
    return f"{ending}; if a module of yours registers it, import that (commands: antiphon --import MODULE …)"
