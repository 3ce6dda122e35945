"""What a run directory records of a scenario's Python objects: class and a digest of source, settings, parameters and data.

Enough to tell whether two runs had the same ones, not to make them again. Loads without torch.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePath
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

from antiphon.scenarios import Scenario
from antiphon.scenarios.spec import plain
from antiphon.scenarios.yaml_text import NO_DOCUMENT, write

__all__ = ["UNKNOWN", "object_digest", "record_of", "unknown_objects"]

UNKNOWN = "unknown"
"""In place of a digest where an object holds something whose content cannot be looked at."""
_VERSIONED = ("antiphon", "builtins", "gymnasium", "numpy", "torch")
"""Packages whose code is identified by the versions in run.json."""
_PLAIN = (str, bytes, int, float, complex, bool, type(None), type(Ellipsis))


def record_of(scenario: Scenario, reason: str) -> str:
    """Return scenario.yaml of a scenario with Python objects: its values, each object as its class and digest.

    Args:
        scenario: The scenario.
        reason: Why there is no document, in one line.
    """
    return f"{NO_DOCUMENT}: {reason}\n{write(_recorded(plain(scenario)))}"


def unknown_objects(record: Any, place: str = "") -> Iterator[str]:
    """Yield where in the data of a record Python objects are whose content is not known."""
    items: Sequence[tuple[Any, Any]] = ()
    if isinstance(record, Mapping):
        if record.get("sha256") == UNKNOWN and "python" in record:
            yield place
        items = list(record.items())
    elif isinstance(record, list):
        items = list(enumerate(record))
    for key, value in items:
        yield from unknown_objects(value, f"{place}.{key}" if place else str(key))


def _recorded(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _recorded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_recorded(item) for item in value]
    if isinstance(value, _PLAIN):
        return value
    named = value if hasattr(value, "__qualname__") else type(value)
    return {"python": f"{named.__module__}.{named.__qualname__}", "sha256": object_digest(value) or UNKNOWN}


def object_digest(value: object) -> str | None:
    """Return a digest of a Python object, 16 hexadecimal digits, the same in every process; None where it cannot be known.

    In it are the source of its class or function with what that has enclosed, and its attributes, down to the numbers of
    arrays and tensors.
    """
    digest = hashlib.sha256()
    try:
        for part in _parts(value, {}):
            digest.update(len(part).to_bytes(8, "little") + part)
    except (_UnknownContentError, RecursionError):
        return None
    return digest.hexdigest()[:16]


class _UnknownContentError(Exception):
    pass


def _parts(value: Any, visited: dict[int, Any]) -> Iterator[bytes]:
    """Yield what an object consists of; objects that were visited before are named by their number."""
    if isinstance(value, _PLAIN):
        yield f"{type(value).__name__} {value!r}".encode()
        return
    if id(value) in visited:
        yield f"visited {list(visited).index(id(value))}".encode()
        return
    visited[id(value)] = value  # kept, so that no other object gets its id
    if isinstance(value, type):
        yield from _class(value)
    elif isinstance(value, ModuleType):
        yield value.__name__.encode()
    elif hasattr(value, "dtype") and hasattr(value, "shape") and hasattr(value, "__array__"):
        yield f"{type(value).__name__} {value.dtype} {tuple(value.shape)}".encode()
        yield _numbers(value)
    elif isinstance(value, Mapping):
        yield type(value).__name__.encode()
        for key, item in value.items():
            yield from _parts(key, visited)
            yield from _parts(item, visited)
    elif isinstance(value, list | tuple | range):
        yield f"{type(value).__name__} {len(value)}".encode()
        for item in value:
            yield from _parts(item, visited)
    elif isinstance(value, set | frozenset):
        yield from sorted(b"".join(_parts(item, dict(visited))) for item in value)
    elif isinstance(value, functools.partial):
        yield from _parts((value.func, value.args, value.keywords), visited)
    elif isinstance(value, MethodType):
        yield from _parts((value.__func__, value.__self__), visited)
    elif isinstance(value, FunctionType):
        yield from _function(value, visited)
    elif isinstance(value, BuiltinFunctionType | PurePath) or type(value).__name__ in ("device", "dtype"):
        yield f"{type(value).__name__} {value}".encode()
    else:
        yield from _class(type(value))
        yield from _parts(_attributes(value), visited)


def _function(function: FunctionType, visited: dict[int, Any]) -> Iterator[bytes]:
    if function.__module__.partition(".")[0] in _VERSIONED:
        yield f"{function.__module__}.{function.__qualname__}".encode()
    else:
        yield from _code(function.__code__)
    enclosed = inspect.getclosurevars(function)
    used = {
        name: each
        for name, each in enclosed.globals.items()
        if isinstance(each, (type, FunctionType, *_PLAIN))
    }
    yield from _parts([function.__defaults__, function.__kwdefaults__, enclosed.nonlocals, used], visited)


def _code(code: CodeType) -> Iterator[bytes]:
    """Yield what a function does, wherever it was written."""
    yield code.co_code
    yield repr((code.co_names, code.co_varnames)).encode()
    for constant in code.co_consts:
        yield from _code(constant) if isinstance(constant, CodeType) else _parts(constant, {})


def _class(kind: type) -> Iterator[bytes]:
    """Yield name and source of a class and of those that it is derived from, up to those of versioned packages."""
    for each in kind.__mro__:
        yield f"{each.__module__}.{each.__qualname__}".encode()
        if each.__module__.partition(".")[0] not in _VERSIONED:
            try:
                yield inspect.getsource(each).encode()
            except (OSError, TypeError):
                for name, member in sorted(vars(each).items()):
                    yield name.encode()
                    if isinstance(member, FunctionType):
                        yield from _code(member.__code__)


def _attributes(value: Any) -> dict[str, Any]:
    """Return an object's attributes by name.

    Raises:
        _UnknownContentError: It keeps its content elsewhere.
    """
    slots = [name for kind in type(value).__mro__ for name in getattr(kind, "__slots__", ())]
    if not hasattr(value, "__dict__") and not slots:
        raise _UnknownContentError
    found = {name: getattr(value, name) for name in slots if hasattr(value, name)}
    return dict(sorted((found | getattr(value, "__dict__", {})).items()))


def _numbers(value: Any) -> bytes:
    """Return the bytes of an array's or tensor's numbers."""
    if hasattr(value, "requires_grad"):
        import torch

        value = value.data.cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    if value.dtype.hasobject:
        raise _UnknownContentError
    found: bytes = value.tobytes()
    return found
