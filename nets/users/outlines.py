"""Outlines of objects of any kind: what they hold, followed through attributes, containers and closures, to be compared."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator, Sequence
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

import torch
from torch import Tensor

_MOST_OBJECTS = 2000
"""Objects that are followed, at most: an object may lead to all of a program."""
_SCALARS = (type(None), bool, int, float, complex, str, bytes, torch.dtype, torch.device)


class Outlines:
    """Outlines of several objects, which stay alive as long as this.

    Two outlines are equal if the objects hold the same values: numbers, text, bits of tensors, states of generators. Objects
    that show none of what they hold, such as locks and open files, equal those of their type, and iterators none.

    Args:
        parameters: Tensors that are known by their place, whatever they hold.
        apart: Selects the attributes of an object that are followed; None: all.

    Attributes:
        objects: The outlines of all objects that can change, by their `id`.
    """

    def __init__(
        self, parameters: Sequence[Tensor], apart: Callable[[Any], dict[str, Any]] | None = None
    ) -> None:
        self._places = {id(p): place for place, p in enumerate(parameters)}
        self._apart = vars if apart is None else apart
        self._alive: dict[int, Any] = {}
        self.objects: dict[int, Any] = {}

    def of(self, value: Any) -> Any:
        """Return the outline of an object."""
        place = self._places.get(value if type(value) is int else id(value))
        if place is not None:
            return "parameter", place
        if isinstance(value, _SCALARS):
            return type(value).__name__, repr(value)
        if isinstance(value, type | ModuleType | BuiltinFunctionType):
            return value.__name__
        if id(value) in self._alive or len(self._alive) >= _MOST_OBJECTS:
            return "again", type(value).__qualname__
        self._alive[id(value)] = value
        outline = type(value).__qualname__, self._content(value)
        self.objects[id(value)] = outline
        return outline

    def _content(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            return _digest(value)
        if isinstance(value, torch.Generator):
            return _digest(value.get_state())
        if isinstance(value, dict | set | frozenset):
            items = value.items() if isinstance(value, dict) else value
            return sorted((self._pair(item) for item in items), key=repr)
        if type(value) in (list, tuple):
            return [self.of(item) for item in value]
        if isinstance(value, FunctionType):
            cells = [cell.cell_contents for cell in value.__closure__ or () if _is_full(cell)]
            return value.__qualname__, *(
                self.of(held) for held in (cells, value.__defaults__, value.__kwdefaults__)
            )
        if isinstance(value, MethodType):
            return value.__func__.__qualname__, self.of(value.__self__)
        held = self._apart(value) if hasattr(value, "__dict__") else {}
        return self.of(dict(held)), self._reduced(value)

    def _pair(self, item: Any) -> Any:
        return (
            (self.of(item[0]), self.of(item[1])) if type(item) is tuple and len(item) == 2 else self.of(item)
        )

    def _reduced(self, value: Any) -> Any:
        """What an object tells of itself where it is copied."""
        if isinstance(value, torch.nn.Module | torch.optim.Optimizer):
            return None
        try:
            reduced = value.__reduce_ex__(4)
        except Exception:  # noqa: BLE001  (a user's object)
            return object() if isinstance(value, Iterator) and not isinstance(value, io.IOBase) else None
        if isinstance(reduced, str):
            return reduced
        parts = [*reduced]
        for place in range(3, len(parts)):  # items of lists and dicts come as iterators
            parts[place] = [*parts[place]] if isinstance(parts[place], Iterator) else None
        return self.of(parts)


def _digest(tensor: Tensor) -> Any:
    if tensor.layout is not torch.strided or tensor.is_meta:
        return str(tensor.shape), str(tensor.dtype)
    data = tensor.data.resolve_conj().resolve_neg().cpu().contiguous().reshape(-1)
    return (
        str(tensor.shape),
        str(tensor.dtype),
        hashlib.sha256(data.view(torch.uint8).numpy().tobytes()).hexdigest(),
    )


def _is_full(cell: Any) -> bool:
    try:
        return cell.cell_contents is not cell
    except ValueError:
        return False
