"""Nearest names: what an error about an unknown name suggests."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path

_LONGEST_NAME = 100
"""Characters of a name for which a similar one is sought."""
_MOST_NAMES = 1000
"""Known names among which it is."""
_MOST_LISTED = 16
"""Known names that are listed where none is similar."""
_LONGEST_LIST = 220
"""Characters that they take together."""
_BEFORE_IMPORT = 110
"""Characters of the list where it is followed by what to import."""


def suggest(
    name: str,
    candidates: Iterable[str],
    prefix: str = "",
    also: Iterable[str] = (),
    *,
    listed: str = "known",
    longest: int = _LONGEST_LIST,
) -> str:
    """Return "; did you mean 'x'?" for the nearest known name, or the list of known names; each after the prefix.

    A list that is too long has the names that are most similar.

    Args:
        candidates: The known ones that may stand in its place.
        prefix: Of each.
        also: Other spellings of known ones, which may be the nearest, and are not listed.
        listed: What stands before the list.
        longest: Characters of the list.
    """
    names, more_names = (tuple(sorted(str(item) for item in items)) for items in (candidates, also))
    return _suggestion(str(name)[: _LONGEST_NAME + 1], names, prefix, more_names, listed, longest)


def suggest_file(path: Path, files: Iterable[Path]) -> str:
    """Return "; did you mean 'x.npz'?" for the file of a folder whose name without its suffix is nearest; empty: none is near."""
    names = {file.stem: file for file in files}
    near = nearest(path.stem, names)
    return "" if near is None else f"; did you mean '{names[near]}'?"


def nearest(name: str, candidates: Iterable[str], *, cutoff: float = 0.6) -> str | None:
    """Return the known name that is most similar to a name; None: to none is its similarity, in [0, 1], as large as the cutoff."""
    near = difflib.get_close_matches(name, [*candidates], cutoff=cutoff)
    swapped = [candidate for candidate in near if sorted(candidate) == sorted(name)]  # `form` for `from`
    return next(iter(swapped or near), None)


def suggest_registered(name: str, candidates: Iterable[str], fix: str = "") -> str:
    """Return a `fix`, or what `suggest` does, and what to do if a module of the user's own registers the unknown name."""
    ending = fix or suggest(name, candidates, longest=_BEFORE_IMPORT)
    if ending.startswith("; did"):
        return ending
    return f"{ending}; if a module of yours registers it, import that (commands: antiphon --allow-import MODULE …)"


@lru_cache(maxsize=256)  # one mistake may be in thousands of agents
def _suggestion(
    name: str, names: tuple[str, ...], prefix: str, more_names: tuple[str, ...], listed: str, longest: int
) -> str:
    short = [item for item in (*names, *more_names) if len(item) <= _LONGEST_NAME]
    # `training.steps` for a parameter `steps`, where no other section has steps
    last = name.rpartition(".")[2]
    alone = last in names and not any(item.endswith(f".{last}") for item in names)
    near = last if alone else nearest(name, short[:_MOST_NAMES])
    if near is not None:
        return f"; did you mean '{prefix}{near}'?"
    if not names:
        return ""
    return f"; {listed}: {', '.join(_listed(name, names, prefix, longest))}"


def _listed(name: str, names: Sequence[str], prefix: str, longest: int) -> list[str]:
    """Return all names in order, or in order those that are most similar and "…" where they are too many or too long."""
    if len(names) <= _MOST_LISTED and sum(len(prefix + item) + 2 for item in names) <= longest:
        return [prefix + item for item in names]
    similar = [item for item in names if len(item) <= _LONGEST_NAME][:_MOST_NAMES]
    similar.sort(key=lambda item: -difflib.SequenceMatcher(None, item, name).ratio())
    shown: list[str] = []
    for item in similar[:_MOST_LISTED]:
        if sum(len(item) + 2 for item in (*shown, prefix + item)) > longest:
            break
        shown.append(prefix + item)
    return [*sorted(shown), "…"]
