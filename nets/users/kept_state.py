"""State that a user's objects keep between calls, such as the running mean of a loss: saved, or found by a comparison.

| of a user's object | |
| --- | --- |
| modules: buffers, and attributes with plain data | saved |
| objects that a run makes itself of a class: `state_dict` and `load_state_dict`, or else attributes with plain data | saved |
| what else changes: closures, objects within objects, an object that the caller holds too | found: the run cannot be continued |
"""

from __future__ import annotations

import copy
import functools
import random
import types
from collections.abc import Iterator, Mapping
from hashlib import sha256
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

_MOST = 4096
"""Numbers of a tensor or array that are compared, and elements of a container; of more the length, and a tensor's version."""
_MOST_OBJECTS = 2000
"""Objects that are searched, at most: an object may lead to all of a program."""
_ATOMS = bool, int, float, complex, str, bytes, type(None)


class KeptState:
    """What a user's object keeps between calls.

    Args:
        thing: The object.
        owned: Whether no one but the run has it, so that its state may be loaded.
    """

    def __init__(self, thing: Any, *, owned: bool) -> None:
        self._thing, self._owned = thing, owned
        self._first = self._digest()

    @property
    def is_lost(self) -> bool:
        """Whether something has changed that `state_dict` lacks."""
        return self._digest() != self._first

    def shares(self, other: KeptState) -> bool:
        """Whether another state is of the same object."""
        return self._thing is other._thing

    def state_dict(self) -> dict[str, Any]:
        """Return what can be loaded, without copying a tensor."""
        if not self._owned or isinstance(self._thing, type | types.FunctionType):
            return {}
        if self._saves_itself:
            return {"state": self._thing.state_dict()}
        found = {"attributes": self._attributes()}
        if isinstance(self._thing, nn.Module):
            found["buffers"] = dict(self._thing.named_buffers())
        return {key: values for key, values in found.items() if values}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load what `state_dict` returned; its tensors are used as they are, so hand in copies."""
        if "state" in state:
            self._thing.load_state_dict(state["state"])
        for name, value in state.get("attributes", {}).items():
            setattr(self._thing, name, value)
        buffers = dict(self._thing.named_buffers()) if "buffers" in state else {}
        for name, value in state.get("buffers", {}).items():
            buffers[name].copy_(value)

    @property
    def _saves_itself(self) -> bool:
        methods = (getattr(self._thing, name, None) for name in ("state_dict", "load_state_dict"))
        return (
            not isinstance(self._thing, nn.Module)
            and all(map(callable, methods))
            and is_plain(self._thing.state_dict())
        )

    def _attributes(self) -> dict[str, Any]:
        """Return the attributes with plain data; of a module those that torch does not write."""
        theirs = vars(nn.Module()) if isinstance(self._thing, nn.Module) else {}
        return {
            name: value
            for name, value in getattr(self._thing, "__dict__", {}).items()
            if name not in theirs and is_plain(value)
        }

    def _digest(self) -> bytes:
        """Return a digest of what `state_dict` lacks."""
        saved = self.state_dict()
        if "state" in saved:
            return b""
        digest = sha256()
        for part in _content(self._thing, {id(None): None}, frozenset(saved.get("attributes", ()))):
            digest.update(part)
        return digest.digest()


def copied_object(thing: Any) -> Any:
    """Return a copy of a user's object whose calls do not change it; of a function with copies of what it encloses.

    What cannot be copied is returned as it is.
    """
    try:
        if not isinstance(thing, types.FunctionType) or not thing.__closure__:
            return copy.deepcopy(thing)
        cells = tuple(types.CellType(copy.deepcopy(cell.cell_contents)) for cell in thing.__closure__)
        made = types.FunctionType(
            thing.__code__, thing.__globals__, thing.__name__, thing.__defaults__, cells
        )
        made.__kwdefaults__ = thing.__kwdefaults__
    except Exception:  # noqa: BLE001  (anything that copying a user's object may raise)
        return thing
    return made


def is_plain(value: Any) -> bool:
    """Whether a value is data that a checkpoint holds: numbers, text, tensors that are no parameters, lists and dicts of them."""
    if isinstance(value, dict):
        return all(isinstance(key, str) and is_plain(item) for key, item in value.items())
    if type(value) in (list, tuple):
        return all(is_plain(item) for item in value)
    if isinstance(value, Tensor):
        return not value.requires_grad
    return value is None or type(value) in (bool, int, float, str)


def _content(value: Any, seen: dict[int, Any], left_out: frozenset[str] = frozenset()) -> Iterator[bytes]:
    """Yield the bytes that tell whether a value has changed; of modules neither parameters nor buffers."""
    yield type(value).__name__.encode()
    if isinstance(value, _ATOMS):
        yield repr(value).encode()
    elif isinstance(value, Tensor):
        small = value.numel() <= _MOST and value.layout == torch.strided and not value.is_meta
        yield repr(value.tolist() if small else (list(value.shape), value._version)).encode()
    elif isinstance(value, np.ndarray | np.generic):
        yield repr(value.tolist() if value.size <= _MOST else value.shape).encode()
    elif isinstance(value, random.Random):
        yield repr(value.getstate()).encode()
    elif isinstance(value, torch.Generator):
        yield bytes(value.get_state().tolist())
    elif isinstance(value, np.random.Generator):
        yield repr(value.bit_generator.state).encode()
    elif (
        len(seen) < _MOST_OBJECTS and id(value) not in seen and not isinstance(value, type | types.ModuleType)
    ):
        seen[id(value)] = value
        for name, part in _parts(value):
            if name not in left_out:
                yield name.encode()
                yield from _content(part, seen)


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield the names and values of what an object holds."""
    if isinstance(value, list | tuple | Mapping):
        yield "length", len(value)
        items = value.items() if isinstance(value, Mapping) else enumerate(value)
        yield from ((repr(key), item) for key, item in items if len(value) <= _MOST)
    elif isinstance(value, types.FunctionType):
        yield "defaults", value.__defaults__
        yield from (("cell", _filling(cell)) for cell in value.__closure__ or ())
    elif isinstance(value, types.MethodType):
        yield from (("self", value.__self__), ("function", value.__func__))
    elif isinstance(value, functools.partial):
        yield from (("function", value.func), ("given", value.args), ("named", value.keywords))
    else:
        tensors = ("_parameters", "_buffers", "training") if isinstance(value, nn.Module) else ()
        held = getattr(value, "__dict__", {})
        yield from ((name, part) for name, part in held.items() if name not in tensors)


def _filling(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return None
