"""Counts and seeds that a user gives in Python."""

from __future__ import annotations

from antiphon.base.errors import ScenarioError
from antiphon.base.problems import as_whole


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
