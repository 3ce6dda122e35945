"""Plain data as trees of dicts with text as keys, lists, numbers, text and tensors, which a checkpoint holds, and back.

Plain are numbers (of numpy too), text, tensors, numpy arrays of numbers, and lists, tuples and dicts of them.
"""

from __future__ import annotations

from typing import Any

import numpy
import torch
from torch import Tensor

_KIND, _ITEMS = "\x00kind", "items"
_NUMBERS = "biuf"
"""Kinds of numpy's types."""


def to_tree(value: Any) -> Any:
    """Return a value as a tree, without copying tensors; TypeError: it is not plain."""
    kind = type(value)
    if value is None or kind in (bool, int, float, str):
        return value
    if isinstance(value, Tensor):
        return value.data
    if isinstance(value, numpy.ndarray | numpy.generic) and value.dtype.kind in _NUMBERS:
        data = (
            torch.frombuffer(bytearray(value.tobytes()), dtype=torch.uint8) if value.size else torch.zeros(0)
        )
        scalar = isinstance(value, numpy.generic)
        return {
            _KIND: "array",
            _ITEMS: data,
            "dtype": value.dtype.str,
            "shape": [*value.shape],
            "scalar": scalar,
        }
    if kind is list:
        return [to_tree(item) for item in value]
    if kind is dict and all(type(key) is str for key in value):
        return {key: to_tree(item) for key, item in value.items()}
    if kind is tuple:
        return {_KIND: "tuple", _ITEMS: [to_tree(item) for item in value]}
    if kind is dict:
        return {_KIND: "dict", _ITEMS: [[to_tree(key), to_tree(item)] for key, item in value.items()]}
    fix = "return plain data: numbers, text, tensors, arrays, and lists, tuples and dicts of them"
    raise TypeError(f"holds `{kind.__name__}`, which a checkpoint cannot; {fix}")


def from_tree(tree: Any) -> Any:
    """Return the value of a tree with copies of its tensors."""
    if isinstance(tree, Tensor):
        return tree.clone()
    if isinstance(tree, list | tuple):
        return type(tree)(from_tree(item) for item in tree)
    if not isinstance(tree, dict):
        return tree
    if _KIND not in tree:
        return {key: from_tree(item) for key, item in tree.items()}
    kind, items = tree[_KIND], tree[_ITEMS]
    if kind == "array":
        data = bytearray(items.cpu().numpy().tobytes())
        array = numpy.frombuffer(data, numpy.dtype(tree["dtype"])).reshape(tree["shape"])
        return array[()] if tree["scalar"] else array
    if kind == "tuple":
        return tuple(from_tree(item) for item in items)
    return {from_tree(key): from_tree(item) for key, item in items}
