"""Digests of the code of kinds that a user has registered, to be compared when a run goes on with kinds of these names.

Compared is what runs, not the text: a notebook's cell that is run again, or moved, registers the same.
"""

from __future__ import annotations

import dis
import hashlib
import sys
from collections.abc import Collection, Iterator, Mapping
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
        f"{point} {name!r}": f"{_PYTHON} {_digest(Catalogue(point)[name])}"
        for point in POINTS
        for name in registered(point)
        if name in names
    }


def replaced(before: Codes, now: Codes) -> list[str]:
    """Return the kinds whose code is another one now; the bytes of another version of Python say nothing."""
    comparable = {kind: code for kind, code in before.items() if code.startswith(f"{_PYTHON} ")}
    return [kind for kind, code in now.items() if comparable.get(kind, code) != code]


def _digest(kind: object) -> str:
    first = _Walk()
    first.code(kind)
    changed = {name for code in first.seen.values() if isinstance(code, CodeType) for name in _set_by(code)}
    return hashlib.sha256(repr(_Walk(changed).code(kind)).encode()).hexdigest()[:16]


def _set_by(code: CodeType) -> Iterator[str]:
    """Yield the attributes and the variables of enclosing functions that code sets: a count of calls is state, not code."""
    for step in dis.get_instructions(code):
        if step.opname == "STORE_ATTR" or (step.opname == "STORE_DEREF" and step.argval in code.co_freevars):
            yield step.argval


class _Walk:
    """Returns what can be compared of values: of functions and classes of a user's what they run, else the type.

    Args:
        changed: Names of what they set as they run: of these, functions and classes alone are compared, as what is in lists is nowhere.

    Attributes:
        seen: What stands elsewhere already, by id.
    """

    def __init__(self, changed: Collection[str] = ()) -> None:
        self.seen: dict[int, object] = {}
        self._changed = changed

    def code(self, value: Any) -> object:
        if isinstance(value, str | int | float | None):
            return value
        if isinstance(value, tuple):
            return [*map(self.code, value)]
        if id(value) in self.seen:
            return getattr(value, "__qualname__", "")
        self.seen[id(value)] = value
        if isinstance(value, CodeType):
            return value.co_code, value.co_names, value.co_varnames, self.code(value.co_consts)
        if isinstance(value, FunctionType) and is_users(value):
            scope = value.__globals__
            called = [scope[n] for n in _names(value.__code__) if n in scope]
            # a helper of the same cell is looked up when the kind is called
            helpers = [self.code(helper) for helper in called if _is_helper(helper, value.__module__)]
            cells = self._named(getclosurevars(value).nonlocals)
            return self.code(value.__code__), self.code(value.__defaults__), [*cells.values()], helpers
        if isinstance(value, type) and is_users(value) and value.__module__ != "builtins":
            bases = [self.code(base) for base in value.__bases__ if base.__module__ == value.__module__]
            return bases, self._named({n: m for n, m in vars(value).items() if n not in _OF_EVERY_CLASS})
        if isinstance(value, staticmethod | classmethod):
            return self.code(value.__func__)
        if isinstance(value, property):
            return self.code(value.fget)
        if isinstance(value, partial):
            return self.code(value.func), self.code((*value.args, *value.keywords.items()))
        return type(value).__qualname__

    def _named(self, values: Mapping[str, Any]) -> dict[str, object]:
        kinds = FunctionType, type, staticmethod, classmethod, property, partial
        kept = {n: value for n, value in values.items() if n not in self._changed or isinstance(value, kinds)}
        return {name: self.code(value) for name, value in kept.items()}


def _is_helper(value: object, module: str) -> bool:
    return isinstance(value, FunctionType | type) and value.__module__ == module


def _names(code: CodeType) -> list[str]:
    inner = [name for const in code.co_consts if isinstance(const, CodeType) for name in _names(const)]
    return [*code.co_names, *inner]
