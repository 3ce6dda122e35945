"""Plain data as trees of dicts with text as keys, lists, numbers, text and tensors, which a checkpoint holds, and back.

Plain are numbers (of numpy too), text, bytes, tensors, numpy arrays of numbers, and Python's containers of them.
"""

from __future__ import annotations

import copy
from collections import Counter, OrderedDict, defaultdict, deque
from enum import Enum
from typing import Any

import numpy
import torch
from torch import Tensor, nn

from antiphon.base.errors import with_article

_KIND, _ITEMS = "\x00kind", "items"
_SEQUENCES: dict[str, type] = {
    kind.__name__: kind for kind in (list, tuple, set, frozenset, deque, complex, bytes, torch.Size)
}
_MAPPINGS: dict[str, type] = {kind.__name__: kind for kind in (dict, OrderedDict, Counter, defaultdict)}
_FACTORIES: dict[str, Any] = {kind.__name__: kind for kind in (int, float, list, dict, set)} | {"": None}
"""Factories of a `defaultdict`, by name."""
_NUMBERS = "biufc"
"""Kinds of numpy's types."""
_PLAIN_DATA = "plain data: numbers, text, tensors, arrays, and lists, tuples, sets and dicts of them"


class NotPlainError(Exception):
    """A value holds what is not plain data; the text is its type.

    Attributes:
        key: The innermost key under which it is; None: there is none.
    """

    def __init__(self, kind: str, fix: str = _PLAIN_DATA) -> None:
        super().__init__(kind)
        self.fix = fix
        self.key: str | None = None

    @property
    def line(self) -> str:
        """What a state holds, where, and the fix."""
        under_key = "" if self.key is None else f" under {self.key!r}"
        return f"holds {with_article(str(self))}{under_key}, which a checkpoint cannot; return {self.fix}"


def to_tree(value: Any) -> Any:
    """Return a value as a tree, without copying tensors; NotPlainError: it is not plain."""
    kind = type(value)
    if value is None or kind in (bool, int, float, str):
        return value
    if kind is numpy.str_:
        return str(value)
    if isinstance(value, Tensor):
        return _of_tensor(value)
    if isinstance(value, numpy.ndarray | numpy.generic):
        return _of_array(value)
    if kind is list:
        return [_of_item(index, item) for index, item in enumerate(value)]
    if kind is dict and all(type(key) is str for key in value):
        return {key: _of_item(key, item) for key, item in value.items()}
    if kind is complex:
        return {_KIND: "complex", _ITEMS: [value.real, value.imag]}
    if kind in _SEQUENCES.values():
        items = [_of_item(index, item) for index, item in enumerate(value)]
        tree = {_KIND: kind.__name__, _ITEMS: items}
        return {**tree, "maxlen": value.maxlen} if kind is deque else tree
    if kind not in _MAPPINGS.values():
        raise NotPlainError(kind.__name__, _instead_of(value))
    pairs = [[to_tree(key), _of_item(key, item)] for key, item in value.items()]
    tree = {_KIND: kind.__name__, _ITEMS: pairs}
    if kind is not defaultdict:
        return tree
    names = [name for name, factory in _FACTORIES.items() if factory is value.default_factory]
    if not names:
        raise NotPlainError(f"{kind.__name__} of its own factory")
    return {**tree, "factory": names[0]}


def _of_item(key: object, item: Any) -> Any:
    """Return an item of a container as a tree; an error gets its key."""
    try:
        return to_tree(item)
    except NotPlainError as error:
        if error.key is None and isinstance(key, str):
            error.key = key
        raise


def _instead_of(value: object) -> str:
    """Return what a state can hold in place of a value that is not plain."""
    if isinstance(value, Enum):
        return "its .value, and make the enum again where it is loaded"
    if isinstance(value, tuple):
        return "tuple(…) of it, and make it again where it is loaded"
    return _PLAIN_DATA


def _of_tensor(value: Tensor) -> Any:
    if type(value) not in (Tensor, nn.Parameter, nn.Buffer):
        raise NotPlainError(type(value).__name__)
    if value.layout is not torch.strided:
        raise NotPlainError(f"Tensor of the layout {value.layout}")
    if value.grad_fn is not None:
        raise NotPlainError("Tensor with a graph (detach it)")
    return {_KIND: "leaf", _ITEMS: value.data} if value.requires_grad else value


def _of_array(value: numpy.ndarray[Any, Any] | numpy.generic) -> Any:
    array = numpy.asarray(value)
    if type(value) is not numpy.ndarray and not isinstance(value, numpy.generic):
        raise NotPlainError(type(value).__name__)
    if array.dtype.kind not in _NUMBERS:
        raise NotPlainError(f"{type(value).__name__} of {array.dtype}")
    data = torch.frombuffer(bytearray(array.tobytes()), dtype=torch.uint8) if array.size else torch.zeros(0)
    scalar = isinstance(value, numpy.generic)
    return {_KIND: "array", _ITEMS: data, "dtype": array.dtype.str, "shape": [*array.shape], "scalar": scalar}


def from_tree(tree: Any) -> Any:
    """Return the value of a tree with copies of its tensors."""
    if isinstance(tree, Tensor):
        return tree.data.clone()
    if isinstance(tree, list | tuple):
        return type(tree)(from_tree(item) for item in tree)
    if not isinstance(tree, dict):
        return copy.copy(tree)
    if _KIND not in tree:
        return {key: from_tree(item) for key, item in tree.items()}
    kind, items = tree[_KIND], tree[_ITEMS]
    if kind == "leaf":
        return items.data.clone().requires_grad_()
    if kind == "array":
        data = bytearray(items.cpu().numpy().tobytes())
        array = numpy.frombuffer(data, numpy.dtype(tree["dtype"])).reshape(tree["shape"])
        return array[()] if tree["scalar"] else array
    if kind == "complex":
        return complex(*items)
    if kind in _SEQUENCES:
        values = [from_tree(item) for item in items]
        return deque(values, tree["maxlen"]) if kind == "deque" else _SEQUENCES[kind](values)
    pairs = {from_tree(key): from_tree(item) for key, item in items}
    if kind == "defaultdict":
        return defaultdict(_FACTORIES[tree["factory"]], pairs)
    return _MAPPINGS[kind](pairs)


def bytes_of(tensor: Tensor) -> memoryview:
    """Return the bytes of a tensor's numbers, which tell 0 from -0 and one NaN from another."""
    data = tensor.data.resolve_conj().resolve_neg().cpu().contiguous().reshape(-1)
    return data.view(torch.uint8).numpy().data
