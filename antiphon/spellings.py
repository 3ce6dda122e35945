"""Other spellings of keys and arguments: one table, which documents, `--set` and Python go through."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import wraps
from inspect import signature
from typing import Any, ParamSpec, TypeVar

from antiphon.errors import ScenarioError, suggest
from antiphon.problems import DocumentError, Path

__all__ = ["either_spelling", "spelled", "standard", "standard_keys", "suggest_key"]

_STANDARD: Mapping[str, str] = {
    "color": "colour",
    "every": "period",
    "learning_rate": "lr",
    "neighbors": "neighbours",
    "normalize": "normalise",
    "optimizer": "optimiser",
}
"""By the other spelling the one that antiphon writes."""
Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def standard(path: Path) -> Path:
    """Return a path of a document with the standard spelling of every key."""
    return tuple(_STANDARD.get(part, part) if isinstance(part, str) else part for part in path)


def spelled(key: str, known: Collection[str]) -> str:
    """Return the known name that a key is another spelling of; the key itself where it is known, or of none.

    Both directions hold: a factory with a parameter `learning_rate` takes `lr`. Of a key with dots, such as `input.lr`, every word counts.
    """
    if key in known or not isinstance(key, str):
        return key
    meant = standard(tuple(key.split(".")))
    return next((name for name in known if standard(tuple(name.split("."))) == meant), key)


def suggest_key(key: str, known: Collection[str]) -> str:
    """Return "; did you mean 'x'?" for the known name that is nearest to a key in some spelling, or the list of known names."""
    return suggest(key, known, also=[other for other, name in _STANDARD.items() if name in known])


def standard_keys(keys: Mapping[str, Any], known: Collection[str]) -> dict[str, Any]:
    """Return a mapping with the names that are known in place of other spellings.

    Raises:
        DocumentError: Two of its keys are one name.
    """
    found: dict[str, Any] = {}
    first: dict[str, str] = {}
    for key, value in keys.items():
        name = spelled(key, known)
        if name in found:
            raise DocumentError(
                (key,), f"is another spelling of {first[name]!r}, which is given too; keep one"
            )
        found[name], first[name] = value, key
    return found


def either_spelling(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Decorate a function to take its keyword arguments in either spelling."""
    known = tuple(signature(function).parameters)

    @wraps(function)
    def with_standard_names(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        given: Any = kwargs
        if not given.keys() <= set(known):
            try:
                given = standard_keys(given, known)
            except DocumentError as error:
                raise ScenarioError(f"{function.__qualname__.removesuffix('.__init__')}: {error}") from None
        return function(*args, **given)

    return with_standard_names
