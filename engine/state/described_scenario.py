"""Description of a scenario that holds Python objects: plain data, with a digest in the place of each object."""

from __future__ import annotations

import functools
import hashlib
import inspect
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from types import FunctionType
from typing import Any

import numpy as np
from torch import Tensor, nn

from antiphon.base.spec import plain
from antiphon.nets.users.outlines import bytes_of
from antiphon.scenarios import Scenario

_DIGITS = 16
"""Hexadecimal digits of a digest."""
_OF_THE_MOMENT = re.compile(r" at 0x[0-9a-fA-F]+|,\s+dtype=torch\.\w+(?=[,)])")
"""What a module's `extra_repr` shows of a function and of a tensor: where one lies differs in every process, and the type of
the other is shown where it is not torch's default."""
_PLAIN = str | int | float | None


def described_scenario(scenario: Scenario) -> dict[str, Any]:
    """Return a scenario as plain data, with `{python: TYPE, digest: HEX}` in the place of each Python object.

    The digest is of what can be known of an object: of tensors, arrays and data sets every number; of a module its
    structure, since its parameters are in checkpoints; of a function the name, its defaults and what it encloses; of a
    class and a Gymnasium environment the name; of any other object its public attributes.
    """
    description: dict[str, Any] = described(plain(scenario))
    return description


def described(value: Any) -> Any:
    """Return a value with the description of each Python object in its place (see `described_scenario`)."""
    if isinstance(value, Mapping):
        return {str(key): described(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [described(item) for item in value]
    if isinstance(value, _PLAIN):
        return value
    digest = hashlib.sha256()
    for content in _content(value, ()):
        digest.update(content)
    return {
        "python": getattr(value, "__name__", type(value).__name__),
        "digest": digest.hexdigest()[:_DIGITS],
    }


def _content(value: Any, outer: tuple[object, ...]) -> Iterator[bytes | memoryview]:
    """Yield the bytes of an object's digest; `outer`: the objects that it is part of."""
    yield type(value).__qualname__.encode()
    if isinstance(value, Tensor):
        yield f"{value.dtype} {list(value.shape)}".encode()
        yield bytes_of(value)
    elif isinstance(value, np.ndarray):
        yield f"{value.dtype} {value.shape}".encode()
        yield b"" if value.dtype.hasobject else value.tobytes()
    elif isinstance(value, nn.Module):
        settings = {name: setting for name, setting in vars(value).items() if isinstance(setting, _PLAIN)}
        settings = {
            name: setting for name, setting in settings.items() if name[0] != "_" and name != "training"
        }
        yield _OF_THE_MOMENT.sub("", repr((value, settings))).encode()
        for held in (value.named_parameters(), value.named_buffers()):
            yield repr([[name, list(tensor.shape), str(tensor.dtype)] for name, tensor in held]).encode()
    elif isinstance(value, _PLAIN | bytes):
        yield repr(value).encode()
    elif not any(value is enclosing for enclosing in outer):
        if hasattr(value, "__qualname__"):
            yield value.__qualname__.encode()
        for component in _parts_of(value):
            yield from _content(component, (*outer, value))


def _parts_of(value: Any) -> Iterable[Any]:
    """Return what an object consists of: the items of a collection, or names and values of its public attributes."""
    if isinstance(value, functools.partial):
        return value.func, value.args, value.keywords
    if isinstance(value, Mapping):
        return [component for key in sorted(value, key=str) for component in (str(key), value[key])]
    if isinstance(value, set | frozenset):
        return sorted(value, key=repr)
    if isinstance(value, list | tuple):
        return value
    if is_dataclass(value) and not isinstance(value, type):
        named = [
            (field, getattr(value, field.name)) for field in fields(value) if not field.metadata.get("noted")
        ]
        return [
            component
            for field, item in named
            if not field.metadata.get("added") or item
            for component in (field.name, item)
        ]
    if isinstance(value, FunctionType):
        return value.__defaults__, value.__kwdefaults__, inspect.getclosurevars(value).nonlocals
    if hasattr(value, "__qualname__"):
        return ()
    attributes = getattr(value, "__dict__", {})
    return [
        component for name in sorted(attributes) if name[0] != "_" for component in (name, attributes[name])
    ]
