"""Counts, flags, names and seeds that a user gives in Python."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from antiphon.base.errors import ScenarioError
from antiphon.base.problems import as_whole


def check_counts(function: str, least: int = 1, *, needed: bool = False, **counts: object) -> None:
    """Raise ScenarioError where an argument of a function is no whole number from `least` on; None counts only if it is `needed`."""
    for name, count in counts.items():
        number = as_whole(count)
        if (needed or count is not None) and (number is None or number < least):
            raise ScenarioError(f"{function}: {name}={count!r}; must be a whole number, at least {least}")


def check_flags(function: str, **flags: object) -> None:
    """Raise ScenarioError where an argument of a function is neither True nor False: any word, `no` too, counts as true."""
    for name, flag in flags.items():
        if not isinstance(flag, bool | np.bool_):
            raise ScenarioError(f"{function}: {name}={flag!r}; must be True or False")


def check_names(function: str, **names: object) -> None:
    """Raise ScenarioError where an argument of a function is no list of names, or a mapping of them: a word would be one of letters."""
    for argument, value in names.items():
        if isinstance(value, str) or not isinstance(value, Iterable | None):
            fix = f"; write [{value!r}]" if isinstance(value, str) else ""
            raise ScenarioError(f"{function}: {argument}={value!r}; must be a list of names{fix}")
        if isinstance(value, Iterator):
            raise ScenarioError(
                f"{function}: {argument}: an iterator is used up as it is checked; write list(...)"
            )
        for name in value or ():
            if not isinstance(name, str):
                raise ScenarioError(f"{function}: {argument}: {name!r} is not a name; write it as a word")


def check_mappings(function: str, **mappings: object) -> None:
    """Raise ScenarioError where an argument of a function is no mapping; None counts as an empty one."""
    for name, value in mappings.items():
        if not isinstance(value, Mapping | None):
            raise ScenarioError(f"{function}: {name}={value!r}; must be a mapping, such as {{'lr': 0.01}}")


def checked_seed(seed: object, function: str = "") -> int:
    """Return a seed as a plain number; ScenarioError where it is no whole number from 0 on."""
    number = as_whole(seed)
    if number is None or number < 0:
        raise ScenarioError(f"{function}seed: {seed!r}; must be a whole number, at least 0")
    return number
