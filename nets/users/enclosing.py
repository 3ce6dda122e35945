"""Functions that enclose a module: `self.mlp = lambda x: self.down(self.up(x))`.

`copy.deepcopy` leaves functions as they are. A copied module would call the parameters of the one that it was copied from.
"""

from __future__ import annotations

import copy
import functools
import types
from typing import Any, TypeVar

from torch import Tensor, nn

Copied = TypeVar("Copied")


def deep_copy(value: Copied, memo: dict[int, Any]) -> Copied:
    """Return a deep copy of a module, or of what holds modules, whose functions enclose the copies."""
    found = copy.deepcopy(value, memo)
    made: dict[int, types.FunctionType] = {}
    for key, twin in list(memo.items()):
        if key in (id(memo), id(twin)):  # what deepcopy keeps alive; what is shared
            continue
        held = twin if isinstance(twin, list | dict) else getattr(twin, "__dict__", None)
        if not isinstance(held, list | dict):
            continue
        for place, one in list(enumerate(held) if isinstance(held, list) else held.items()):
            if isinstance(one, types.FunctionType) and _encloses(one, memo, set()):
                held[place] = _enclosing_copies(one, memo, made)
    return found


def _enclosing_copies(
    function: types.FunctionType, memo: dict[int, Any], made: dict[int, types.FunctionType]
) -> types.FunctionType:
    if id(function) in made:
        return made[id(function)]

    def copied(one: Any) -> Any:
        if not _encloses(one, memo, set()):
            return one
        if isinstance(one, types.FunctionType):
            return _enclosing_copies(one, memo, made)
        return copy.deepcopy(one, memo)

    cells = tuple(types.CellType() for _ in function.__closure__ or ())
    found = types.FunctionType(function.__code__, function.__globals__, function.__name__, None, cells)
    made[id(function)] = found  # before its cells are filled: it may enclose itself
    for cell, given in zip(cells, function.__closure__ or (), strict=True):
        try:
            cell.cell_contents = copied(given.cell_contents)
        except ValueError:  # not assigned yet
            continue
    defaults, named = function.__defaults__, function.__kwdefaults__
    found.__defaults__ = None if defaults is None else tuple(map(copied, defaults))
    found.__kwdefaults__ = None if named is None else {key: copied(one) for key, one in named.items()}
    found.__dict__.update(vars(function))
    found.__qualname__, found.__doc__ = function.__qualname__, function.__doc__
    return found


def _encloses(value: Any, memo: dict[int, Any], seen: set[int]) -> bool:
    """Whether a value is a module or tensor that was copied, or holds one."""
    if id(value) in seen:
        return False
    seen.add(id(value))
    if isinstance(value, nn.Module | Tensor):
        own = value.modules() if isinstance(value, nn.Module) else (value,)
        return any(memo.get(id(one), one) is not one for one in own)
    return any(_encloses(one, memo, seen) for one in _within(value))


def _within(value: Any) -> list[Any]:
    """The objects that a function, or a container, consists of beside code."""
    if isinstance(value, types.FunctionType):
        found = [*(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values()]
        for cell in value.__closure__ or ():
            try:
                found.append(cell.cell_contents)
            except ValueError:  # not assigned yet
                continue
        return found
    if isinstance(value, types.MethodType):
        return [value.__self__]
    if isinstance(value, functools.partial):
        return [value.func, *value.args, *value.keywords.values()]
    if isinstance(value, dict):
        return list(value.values())
    return list(value) if isinstance(value, list | tuple | set) else []
