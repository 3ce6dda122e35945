"""Nearest names: what an error about an unknown name suggests."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

_MOST_LISTED = 16
"""Known names that are listed where none is similar."""


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
