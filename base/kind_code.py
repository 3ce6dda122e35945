"""Digests of the code of kinds that a user has registered, to be compared when a run goes on with kinds of these names.

Compared is what runs, not the text: a notebook's cell that is run again, or moved, registers the same.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Collection, Mapping
from functools import partial
from inspect import getclosurevars
from types import CodeType, FunctionType
from typing import Any

from antiphon.base.extensions import POINTS, Catalogue, is_users, registered

Codes = Mapping[str, str]
"""The version of Python and the digest of the code, by the point and name of a kind, as an error has them: `network 'mine'`."""
_OF_EVERY_CLASS = (
    "__module__",
    "__dict__",
    "__weakref__",
    "__doc__",
    "__qualname__",
    "__firstlineno__",
    "__static_attributes__",  # in any order
)
_PYTHON = str(sys.implementation.cache_tag)


def codes_of(names: Collection[object]) -> Codes:
    """Return the present code of the registered kinds that have one of these names."""
    return {
        f"{point} {name!r}": f"{_PYTHON} {_digest(_code(Catalogue(point)[name], {}))}"
        for point in POINTS
        for name in registered(point)
        if name in names
    }


def replaced(before: Codes, now: Codes) -> list[str]:
    """Return the kinds whose code is another one now; the bytes of another version of Python say nothing."""
    comparable = {kind: code for kind, code in before.items() if code.startswith(f"{_PYTHON} ")}
    return [kind for kind, code in now.items() if comparable.get(kind, code) != code]


def _digest(code: object) -> str:
    return hashlib.sha256(repr(code).encode()).hexdigest()[:16]


def _code(value: Any, seen: dict[int, object]) -> object:
    """Return what can be compared of a value: of functions and classes of a user's what they run, else its type.

    Args:
        seen: What stands elsewhere already, by id.
    """
    if isinstance(value, str | int | float | None):
        return value
    if isinstance(value, tuple):
        return [_code(item, seen) for item in value]
    if id(value) in seen:
        return getattr(value, "__qualname__", "")
    seen[id(value)] = value
    if isinstance(value, CodeType):
        return value.co_code, value.co_names, value.co_varnames, [_code(c, seen) for c in value.co_consts]
    if isinstance(value, FunctionType) and is_users(value):
        scope = value.__globals__
        called = [scope[n] for n in _names(value.__code__) if n in scope]
        # a helper of the same cell is looked up when the kind is called
        helpers = [_code(helper, seen) for helper in called if _is_helper(helper, value.__module__)]
        cells = [_code(content, seen) for content in getclosurevars(value).nonlocals.values()]
        return _code(value.__code__, seen), _code(value.__defaults__, seen), cells, helpers
    if isinstance(value, type) and is_users(value) and value.__module__ != "builtins":
        members = {n: _code(m, seen) for n, m in vars(value).items() if n not in _OF_EVERY_CLASS}
        return [_code(base, seen) for base in value.__bases__ if base.__module__ == value.__module__], members
    if isinstance(value, staticmethod | classmethod):
        return _code(value.__func__, seen)
    if isinstance(value, property):
        return _code(value.fget, seen)
    if isinstance(value, partial):
        return _code(value.func, seen), _code((*value.args, *value.keywords.items()), seen)
    if isinstance(value, list):
        return [_code(item, seen) for item in value]
    return type(value).__qualname__


def _is_helper(value: object, module: str) -> bool:
    return isinstance(value, FunctionType | type) and value.__module__ == module


def _names(code: CodeType) -> list[str]:
    inner = [name for const in code.co_consts if isinstance(const, CodeType) for name in _names(const)]
    return [*code.co_names, *inner]
