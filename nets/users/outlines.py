"""Outlines of objects of any kind: what they hold, followed through attributes, containers and closures, to be compared.

| followed | not followed |
| --- | --- |
| attributes, slots, items, what `__reduce__` returns; closures and defaults of functions, objects of methods | classes, and what their methods enclose (`ClassChanges`); globals of modules; what locks, open files and the like hold |
"""

from __future__ import annotations

import hashlib
import io
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from types import BuiltinFunctionType, CellType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch._C._functorch import is_functorch_wrapped_tensor

_MOST_OBJECTS, _MOST_DEPTH = 100_000, 100
"""Objects that are followed, and how far, at most: an object may lead to all of a program."""
_FEW = 65_536
"""Numbers of a tensor whose bits are always compared."""
_SCALARS = (type(None), bool, int, float, complex, str, torch.dtype, torch.device)
_WATCHED = 2
"""Calls of an object that are compared with those before."""
_LIBRARIES = sys.stdlib_module_names | {"torch", "numpy", "antiphon"}
"""Packages whose classes keep nothing for an object of the user's."""


_NOT_SEEN = nullcontext()


class Outlines:
    """Outlines of several objects, which stay alive as long as this.

    Two outlines are equal if the objects hold the same values: numbers, text, bits of tensors, states of generators. Objects
    that show none of what they hold, such as locks and open files, equal those of their type, and iterators none.

    Args:
        apart: Selects the attributes of an object that are followed; None: all.
        versions: Whether a large tensor is known by torch's count of its changes, and not by its bits, so that only outlines of
            the same tensor can be equal.

    Attributes:
        is_whole: Whether all objects have been followed; else some are known by their type alone.
    """

    def __init__(
        self,
        apart: Callable[[Any], dict[str, Any]] | None = None,
        *,
        versions: bool = False,
    ) -> None:
        self._versions = versions
        self._apart = vars if apart is None else apart
        self._alive: dict[int, Any] = {}
        self._depth = 0
        self.is_whole = True

    def of(self, value: Any) -> Any:
        if isinstance(value, _SCALARS):
            return type(value).__name__, repr(value)
        if isinstance(value, bytes | bytearray):
            return type(value).__name__, hashlib.sha256(value).hexdigest()
        if isinstance(value, type | ModuleType):
            return value.__name__
        if id(value) in self._alive:
            return "again", type(value).__qualname__
        if len(self._alive) >= _MOST_OBJECTS or self._depth >= _MOST_DEPTH:
            self.is_whole = False
            return "more", type(value).__qualname__
        self._alive[id(value)] = value
        self._depth += 1
        try:
            return type(value).__qualname__, self._content(value)
        finally:
            self._depth -= 1

    def _content(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            return _digest(value, self._versions)
        if isinstance(value, torch.Generator):
            return _digest(value.get_state())
        if isinstance(value, np.ndarray) and not value.dtype.hasobject:
            return str(value.dtype), value.shape, hashlib.sha256(value.tobytes()).hexdigest()
        if isinstance(value, dict):
            items = list(value.items())
            if all(type(key) is str for key in value):
                return [(key, self.of(item)) for key, item in sorted(items)]
            return sorted(((self.of(key), self.of(item)) for key, item in items), key=repr)
        if isinstance(value, set | frozenset):
            return sorted(map(self.of, value), key=repr)
        if type(value) in (list, tuple):
            return [self.of(item) for item in value]
        if isinstance(value, FunctionType):
            cells = [cell.cell_contents for cell in filled_cells(value)]
            return value.__qualname__, *(
                self.of(held) for held in (cells, value.__defaults__, value.__kwdefaults__, vars(value))
            )
        if isinstance(value, MethodType | BuiltinFunctionType):
            function = value.__func__ if isinstance(value, MethodType) else value
            return function.__qualname__, self.of(value.__self__)
        held = self._apart(value) if hasattr(value, "__dict__") else {}
        return self.of(dict(held)), self._reduced(value)

    def _reduced(self, value: Any) -> Any:
        """What an object tells of itself where it is copied."""
        if isinstance(value, nn.Module | torch.optim.Optimizer):
            return None
        try:
            reduced = value.__reduce_ex__(4)
        except Exception:  # noqa: BLE001  (a user's object)
            return object() if isinstance(value, Iterator) and not isinstance(value, io.IOBase) else None
        if isinstance(reduced, str):
            return reduced
        parts = [*reduced]
        if len(parts) > 2:
            parts[2] = _beside_attributes(parts[2], value)
        for index in range(3, len(parts)):  # items of lists and dicts come as iterators
            parts[index] = [*parts[index]] if isinstance(parts[index], Iterator) else None
        return self.of(parts)


class ClassChanges:
    """Whether calls of an object change data in attributes of its classes, or what methods enclose, as far as the first calls show.

    Objects that are made meanwhile may change them too, such as a count of them, which is no state of the object.

    Args:
        kinds: The classes of the object; those of libraries keep nothing for it.

    Attributes:
        changed: Where something has been changed, for a message; None: nowhere.
    """

    changed: str | None

    def __init__(self, *kinds: type) -> None:
        every = dict.fromkeys(base for kind in kinds for base in kind.__mro__)
        self._kinds = [base for base in every if base.__module__.partition(".")[0] not in _LIBRARIES]
        self._calls_to_watch = _WATCHED if self._kinds else 0
        self.changed = None

    def seen(self) -> AbstractContextManager[None]:
        """Return a context for a call, which compares the classes before and after it."""
        return self._compared() if self._calls_to_watch else _NOT_SEEN

    @contextmanager
    def _compared(self) -> Iterator[None]:
        self._calls_to_watch -= 1
        before = self._outlines()
        yield
        after = self._outlines()
        places = (place for place in before if before[place] != after[place])
        self.changed = self.changed or next(places, None)

    def _outlines(self) -> dict[str, Any]:
        """Return outlines of what the classes hold, by its place."""
        attributes = [vars(kind) for kind in self._kinds]
        data = [{name: value for name, value in held.items() if _is_data(name, value)} for held in attributes]
        functions = [
            value for held in attributes for value in held.values() if isinstance(value, FunctionType)
        ]
        cells = [cell.cell_contents for function in functions for cell in filled_cells(function)]
        return {
            "an attribute of its class": [outline_of(held) for held in data],
            "a variable that a method encloses": Outlines(versions=True).of(cells),
        }


def outline_of(value: Any) -> Any:
    """Return the outline of one object; it equals a later one if nothing that is followed has changed."""
    return Outlines().of(value)


def _beside_attributes(state: Any, value: Any) -> Any:
    """The state of an object without its attributes, which are followed by themselves: slots, or what it tells in their place."""
    attributes = getattr(value, "__dict__", None)
    if type(state) is tuple and len(state) == 2 and (state[0] is None or _are_among(state[0], attributes)):
        return state[1]
    return None if _are_among(state, attributes) else state


def _are_among(state: Any, attributes: Any) -> bool:
    """Whether a state is a dict of some of an object's attributes."""
    dicts = type(state) is dict and type(attributes) is dict
    return dicts and all(key in attributes and attributes[key] is value for key, value in state.items())


def _is_data(name: str, value: Any) -> bool:
    """Whether an attribute of a class is no method, descriptor or class, and nothing that Python itself keeps there."""
    code = hasattr(value, "__get__") or isinstance(value, type | ModuleType)
    return not code and not name.startswith(("__", "_abc_"))


def _digest(tensor: Tensor, versions: bool = False) -> Any:
    if versions and tensor.numel() > _FEW and not tensor.is_inference():
        return str(tensor.shape), tensor._version
    if tensor.layout is not torch.strided or tensor.is_meta or is_functorch_wrapped_tensor(tensor):
        return str(tensor.shape), str(tensor.dtype)
    return str(tensor.shape), str(tensor.dtype), hashlib.sha256(bytes_of(tensor)).hexdigest()


def bytes_of(tensor: Tensor) -> memoryview:
    """Return the bytes of a tensor's numbers, which tell 0 from -0 and one NaN from another."""
    data = tensor.data.resolve_conj().resolve_neg().cpu().contiguous().reshape(-1)
    return data.view(torch.uint8).numpy().data


def filled_cells(function: FunctionType) -> list[CellType]:
    """Return the cells of the variables that a function encloses and that have a value yet."""
    cells = []
    for cell in function.__closure__ or ():
        with suppress(ValueError):
            cell.cell_contents  # noqa: B018
            cells.append(cell)
    return cells
