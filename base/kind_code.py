"""Digests of the code of kinds that a user has registered, to be compared when a run goes on with kinds of these names.

Compared is what runs, not the text: a notebook's cell that is run again, or moved, registers the same.
"""

from __future__ import annotations

import dis
import hashlib
import math
import sys
from collections import OrderedDict
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from enum import Enum
from functools import cached_property, partial, partialmethod
from inspect import getclosurevars
from types import CodeType, EllipsisType, FunctionType, MappingProxyType, MethodType
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
_PYTHON = f"{sys.implementation.cache_tag}-2"
"""The version of Python, and the one of what is compared here."""
_CONSTANTS = bytes, complex, range, slice, EllipsisType
_CONTAINERS = dict, OrderedDict, MappingProxyType, list, set
_FILLING = {
    *("add", "append", "appendleft", "clear", "discard", "extend", "fill", "insert", "move_to_end", "pop"),
    *("popitem", "remove", "reverse", "setdefault", "sort", "update"),
}
"""Methods that change what they are called of, beside those whose names end with an underscore, as torch's do."""
_FEW = 4096
"""Numbers of an array that are compared, at most."""


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
    codes = [code for code in first.seen.values() if isinstance(code, CodeType)]
    changed = {name for code in codes for name in _set_by(code)}
    filled = {name for code in codes if _fills(code) for name in _variables(code)}
    return hashlib.sha256(repr(_Walk(changed, filled).code(kind)).encode()).hexdigest()[:16]


def _set_by(code: CodeType) -> Iterator[str]:
    """Yield the attributes and the variables of enclosing functions that code sets: a count of calls is state, not code."""
    for step in dis.get_instructions(code):
        if step.opname == "STORE_ATTR" or (step.opname == "STORE_DEREF" and step.argval in code.co_freevars):
            yield step.argval


def _fills(code: CodeType) -> bool:
    """Whether code may change what is in containers or arrays."""
    if any(name in _FILLING or (name.endswith("_") and not name.endswith("__")) for name in code.co_names):
        return True
    return any(step.opname in _STORES for step in dis.get_instructions(code))


_STORES = "STORE_SUBSCR", "DELETE_SUBSCR", "STORE_SLICE"


def _variables(code: CodeType) -> tuple[str, ...]:
    return *code.co_names, *code.co_varnames, *code.co_cellvars, *code.co_freevars


class _Walk:
    """Returns what can be compared of values: of functions and classes of a user's what they run, else the type.

    Args:
        changed: Names of what they set as they run: of these, functions and classes alone are compared.
        filled: Names, in code that fills containers or arrays, of what may be these: their contents are not compared.

    Attributes:
        seen: What stands elsewhere already, by id.
    """

    def __init__(self, changed: Collection[str] = (), filled: Collection[str] = ()) -> None:
        self.seen: dict[int, object] = {}
        self._changed, self._filled = changed, filled
        self._modules: set[str] = set()
        """Those of the functions and classes that are compared."""

    def code(self, value: Any) -> object:
        if isinstance(value, str | int | float | None):
            return value.name if isinstance(value, Enum) else value
        if isinstance(value, tuple):
            return [*map(self.code, value)]
        if isinstance(value, frozenset):
            return sorted(map(repr, map(self.code, value)))
        if isinstance(value, _CONSTANTS):
            return repr(value)
        if id(value) in self.seen:
            return getattr(value, "__qualname__", "")
        self.seen[id(value)] = value
        if isinstance(value, CodeType):
            return value.co_code, value.co_names, value.co_varnames, self.code(value.co_consts)
        if isinstance(value, FunctionType) and is_users(value):
            return self._of_function(value)
        if isinstance(value, type):
            return self._of_class(value) if _is_users_own(value) else value.__qualname__
        if (parts := _parts_of(value)) is not None:
            return type(value).__qualname__, [*map(self.code, parts)]
        if isinstance(value, _CONTAINERS):
            return self._of_container(value)
        if (numbers := _numbers_of(value)) is not None:
            return type(value).__qualname__, str(getattr(value, "dtype", "")), numbers
        if isinstance(value, Enum):
            return type(value).__qualname__, value.name, self.code(value.value)
        return self.code(type(value)) if type(value).__module__ in self._modules else type(value).__qualname__

    def _of_function(self, function: FunctionType) -> object:
        self._modules.add(function.__module__)
        code, scope = function.__code__, function.__globals__
        called = [scope[n] for n in _names(code) if n in scope]
        # a helper of the same cell is looked up when the kind is called
        helpers = [self.code(helper) for helper in called if _is_helper(helper, function.__module__)]
        cells = self._named(getclosurevars(function).nonlocals)
        given = function.__defaults__ or ()
        names = code.co_varnames[code.co_argcount - len(given) : code.co_argcount]
        defaults = {**dict(zip(names, given, strict=True)), **(function.__kwdefaults__ or {})}
        kept = {n: self.code(value) for n, value in defaults.items() if not self._may_be_filled(n, value)}
        return self.code(code), [*kept.items()], [*cells.values()], helpers

    def _of_class(self, kind: type) -> object:
        self._modules.add(kind.__module__)
        bases = [self.code(base) for base in kind.__bases__ if base.__module__ == kind.__module__]
        return bases, self._named({n: value for n, value in vars(kind).items() if _is_compared(n)})

    def _of_container(self, container: Any) -> object:
        if isinstance(container, set):
            return sorted(map(repr, map(self.code, container)))
        is_mapping = isinstance(container, Mapping)
        return [*map(self.code, container.items() if is_mapping else container)]

    def _named(self, values: Mapping[str, Any]) -> dict[str, object]:
        kept = {
            n: value
            for n, value in values.items()
            if _is_code(value) or not (n in self._changed or self._may_be_filled(n, value))
        }
        return {name: self.code(value) for name, value in kept.items()}

    def _may_be_filled(self, name: str, value: object) -> bool:
        return name in self._filled and (isinstance(value, _CONTAINERS) or _numbers_of(value) is not None)


def _is_code(value: object) -> bool:
    return isinstance(value, FunctionType | type) or _parts_of(value) is not None


def _is_users_own(kind: type) -> bool:
    return is_users(kind) and kind.__module__ != "builtins"


def _is_compared(name: str) -> bool:
    """Whether an attribute of a class is compared: pydantic keeps addresses beside the fields."""
    return name not in _OF_EVERY_CLASS and (
        not name.startswith("__pydantic_") or name == "__pydantic_fields__"
    )


def _parts_of(value: Any) -> tuple[Any, ...] | None:
    """Return what an object that stands for a function, or for a field of a class, runs or holds; None: it is another."""
    if isinstance(value, staticmethod | classmethod | MethodType):
        return (value.__func__,)
    if isinstance(value, property):
        return value.fget, value.fset, value.fdel
    if isinstance(value, partial | partialmethod):
        return value.func, *value.args, *value.keywords.items()
    if isinstance(value, cached_property):
        return (value.func,)
    if (wrapped := _wrapped(value)) is not None:
        return (wrapped,)
    if type(value).__name__ in ("Field", "FieldInfo"):  # of dataclasses, and of pydantic
        return value.default, value.default_factory
    return None


def _wrapped(value: object) -> FunctionType | type | None:
    """Return what an object stands for that was made of a function by a decorator, such as `functools.lru_cache`; None: nothing."""
    held = getattr(value, "__dict__", None)
    wrapped = held.get("__wrapped__") if isinstance(held, dict) else None
    return wrapped if isinstance(wrapped, FunctionType | type) else None


def _numbers_of(value: Any) -> object:
    """Return the numbers of a small array or tensor; None: it is another object, a parameter or a large one."""
    if not hasattr(value, "tolist") or getattr(value, "requires_grad", False):
        return None
    with suppress(Exception):  # of somebody else's class, or without memory
        return value.tolist() if math.prod(value.shape) <= _FEW else None
    return None


def _is_helper(value: object, module: str) -> bool:
    value = value if isinstance(value, FunctionType) else _wrapped(value) or value
    return isinstance(value, FunctionType | type) and value.__module__ == module


def _names(code: CodeType) -> list[str]:
    inner = [name for const in code.co_consts if isinstance(const, CodeType) for name in _names(const)]
    return [*code.co_names, *inner]
