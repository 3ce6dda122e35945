"""Attributes of Python objects as plain data and tensors, and in objects of the same make again; nothing is pickled.

Data are written as they are. Of functions, objects, modules and spaces only the data that they hold are: an object of the
same class must stand in the same place when they are restored.
"""

from __future__ import annotations

import logging
import math
import random
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from copy import copy, deepcopy
from enum import Enum
from functools import WRAPPER_ASSIGNMENTS, partial
from pathlib import Path
from types import BuiltinFunctionType, CellType, FunctionType, MethodType, ModuleType
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import Space
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import VectorEnv
from gymnasium.wrappers.utils import RunningMeanStd
from torch import Tensor

from antiphon.base.errors import with_article
from antiphon.nets.users.outlines import filled_cells

_FIXED = (
    *(BuiltinFunctionType, ModuleType, type, np.ufunc, np.dtype, torch.dtype, torch.device),
    *(Path, slice, range, EnvSpec, logging.Logger, type(np.mean)),
)
"""Types of values that have no state, or none that changes a number."""
_CONTAINERS = {cls.__name__: cls for cls in (list, tuple, set, frozenset, torch.Size)}
_FACTORIES: dict[str, type] = {cls.__name__: cls for cls in (int, float, bool, str, list, dict, set)}
"""What a defaultdict that is made anew may make values by."""
_MAPPINGS = {cls.__name__: cls for cls in (dict, OrderedDict, Counter, defaultdict)}

MADE_EARLY = "make it in __init__, or give the wrapper state_dict and load_state_dict"
"""The fix for a value in whose place nothing of its make stood after the first reset."""


class NotPlain(Exception):
    """A value is no plain data, or nothing of its make stands where it is restored; the message says what and where."""


class Capture:
    """Values as trees of plain data and tensors; an object that is met again is only its number.

    Args:
        references: Objects that attributes may hold, and that are not part of the state. What is restored holds the
            object of the same number.
        fixed: Such objects for which there is none.

    Attributes:
        relied: What must stand in a place when it is restored, by place.
    """

    def __init__(self, references: Sequence[Any], fixed: Sequence[Any] = ()) -> None:
        self.relied: dict[str, str] = {}
        self._references, self._others = references, fixed
        self._numbers: dict[int, int] = {}
        self._kept: list[Any] = []  # so that no other object gets its address
        self._views: dict[int, list[Any]] = {}

    def attribute(self, value: Any, path: str) -> Any:
        """Return the tree of a value; after a NotPlain this captures on as if the value had not been met."""
        before = (
            len(self._numbers),
            set(self.relied),
            {root: len(views) for root, views in self._views.items()},
        )
        try:
            return self.tree(value, path)
        except NotPlain:
            for address in list(self._numbers)[before[0] :]:
                del self._numbers[address]
            del self._kept[before[0] :]
            self.relied = {name: maker for name, maker in self.relied.items() if name in before[1]}
            self._views = {root: self._views[root][:count] for root, count in before[2].items()}
            raise

    def tree(self, value: Any, path: str) -> Any:
        """Return the tree of a value.

        Raises:
            NotPlain: It, or something that it holds, is no data.
        """
        if value is None or type(value) in (bool, int, float, str):
            return value
        if type(value) is bytes:
            return {"bytes": value.hex()}
        if isinstance(value, np.generic) and value.dtype.kind in "biuf":
            return {"number": value.item(), "dtype": str(value.dtype)}
        if isinstance(value, Enum):
            return self._relying({"enum": self.tree(value.value, path)}, value, path)
        if any(value is fixed_value for fixed_value in self._others):
            return {"fixed": None}
        if _is_fixed(value):
            return self._relying({"fixed": None}, value, path)
        for number, reference in enumerate(self._references):
            if value is reference:
                return {"reference": number}
        if id(value) in self._numbers:
            return {"same": self._numbers[id(value)]}
        self._numbers[id(value)] = len(self._numbers)
        self._kept.append(value)
        for capture in (self._container, self._data, self._generator, self._holder):
            if (captured := capture(value, path)) is not None:
                return captured
        raise NotPlain(f"{with_article(type(value).__name__)} ({path}), which cannot be saved")

    def _relying(self, tree: dict[str, Any], value: Any, path: str) -> dict[str, Any]:
        self.relied[path] = _make(value)
        return tree

    def _container(self, value: Any, path: str) -> dict[str, Any] | None:
        if type(value) in _CONTAINERS.values():
            items = [self.tree(item, f"{path}[{n}]") for n, item in enumerate(value)]
            return {type(value).__name__: items}
        if type(value) is deque:
            items = [self.tree(item, f"{path}[{n}]") for n, item in enumerate(value)]
            return {"deque": items, "length": value.maxlen}
        if isinstance(value, tuple) and hasattr(value, "_fields"):  # a namedtuple
            items = [self.tree(item, f"{path}[{n}]") for n, item in enumerate(value)]
            return self._relying({"named": items, "fields": list(value._fields)}, value, path)
        if type(value) not in _MAPPINGS.values():
            return None
        pairs = []
        for key, item in value.items():
            if not _is_hashable_data(key):
                raise NotPlain(
                    f"{with_article(type(key).__name__)} as a key of {path}, which cannot be saved"
                )
            pairs.append([self.tree(key, path), self.tree(item, f"{path}[{key!r}]")])
        captured = {"pairs": pairs, "mapping": type(value).__name__}
        if type(value) is not defaultdict:
            return captured
        factory = next((name for name, cls in _FACTORIES.items() if cls is value.default_factory), None)
        return self._relying(captured, value, path) if factory is None else {**captured, "factory": factory}

    def _data(self, value: Any, path: str) -> dict[str, Any] | None:
        if type(value) is Tensor and not value.requires_grad:
            return {"tensor": value.clone()}
        if isinstance(value, Tensor):
            if type(value) not in (Tensor, torch.nn.Parameter) or not value.is_leaf:
                return None
            return self._relying({"leaf": value.data.clone()}, value, path)
        if type(value) is np.ndarray and value.dtype.kind in "biuf":
            root = value
            while isinstance(root.base, np.ndarray):
                root = root.base
            views = self._views.setdefault(id(root), [])
            if any(np.may_share_memory(value, view) for view in views):
                raise NotPlain(f"two arrays of one memory ({path}), which cannot be saved")
            views.append(value)
            with suppress(
                TypeError, ValueError
            ):  # a type of numbers, or an order of bytes, that torch has not
                order = "F" if value.flags.f_contiguous and not value.flags.c_contiguous else "C"
                contiguous = torch.from_numpy(np.array(value, order="C"))
                return {"array": contiguous, "dtype": str(value.dtype), "order": order}
        return None

    def _generator(self, value: Any, path: str) -> dict[str, Any] | None:
        """Return the tree of a random number generator, or of a space, which has one; None for another value."""
        if isinstance(value, np.random.Generator):
            return {"generator": self.tree(value.bit_generator.state, path)}
        if isinstance(value, np.random.RandomState):
            return {"random_state": self.tree(value.get_state(legacy=False), path)}
        if type(value) is random.Random:
            return {"python_random": self.tree(value.getstate(), path)}
        if isinstance(value, torch.Generator) and value.device.type == "cpu":
            return {"torch_generator": value.get_state()}
        if isinstance(value, Space):
            parts = [self.tree(subspace, f"{path}.{name}") for name, subspace in _parts(value).items()]
            tree = {"space": self.tree(value._np_random, path), "parts": parts}
            return self._relying(tree, value, path)
        return None

    def _holder(self, value: Any, path: str) -> dict[str, Any] | None:
        """Return the tree of what a function or an object holds; None for one that may hold more than its attributes."""
        if isinstance(value, MethodType | BuiltinFunctionType):
            tree: dict[str, Any] = {"method": self.tree(value.__self__, f"{path}.__self__")}
        elif type(value) is partial:
            parts = [value.func, value.args, value.keywords]
            tree = {"partial": [self.tree(item, f"{path}.{n}") for n, item in enumerate(parts)]}
        elif isinstance(value, FunctionType):
            cells = [cell.cell_contents for cell in filled_cells(value)]
            parts = [*cells, value.__defaults__, value.__kwdefaults__, vars(value)]
            tree = {"function": [self.tree(item, f"{path}.{n}") for n, item in enumerate(parts)]}
        elif _is_plain_object(value):
            held = {name: self.tree(attribute, f"{path}.{name}") for name, attribute in vars(value).items()}
            tree = {"object": held}
            if type(value) is RunningMeanStd:  # can be made anew
                return {**tree, "statistics": True}
        else:
            return None
        return self._relying(tree, value, path)


class Restore:
    """Values from trees, in the place of those of an object of the same make.

    Args:
        references: What stands for the objects that `Capture` was given as such.
        apart: Whether functions, with all that they hold, are made anew: `deepcopy` leaves them as they are, so that a copy
            shares their state.
    """

    def __init__(self, references: Sequence[Any], *, apart: bool = False) -> None:
        self._references, self._apart = references, apart
        self._inside = False  # of a function that is made anew
        self._made: list[Any] = []
        self._used: set[int] = set()
        self._kept: list[Any] = []  # so that no other object gets its address

    def value(self, tree: Any, present: Any, path: str) -> Any:
        """Return the value of a tree.

        Args:
            tree: From `Capture`, whose trees are restored in the order in which they were captured.
            present: What stands in its place.
            path: Of the value, for errors.

        Raises:
            NotPlain: It is of something that nothing in its place is of the make of.
        """
        if not isinstance(tree, Mapping):
            return tree
        if "same" in tree:
            return self._made[tree["same"]]
        if "bytes" in tree:
            return bytes.fromhex(tree["bytes"])
        if "number" in tree:
            return np.dtype(tree["dtype"]).type(tree["number"])
        if "fixed" in tree:
            return present
        if "reference" in tree:
            return self._references[tree["reference"]]
        if "enum" in tree:
            _require(isinstance(present, Enum), path)
            return type(present)(self.value(tree["enum"], None, path))
        if self._inside and present is not None and ("object" in tree or "leaf" in tree):
            present = deepcopy(present) if "leaf" in tree else copy(present)
        if id(present) in self._used:  # two objects now are one in the object that is restored
            present = None
        self._used.add(id(present))
        self._kept.append(present)
        number = len(self._made)
        self._made.append(present)  # that of an object which refers to itself
        restored = self._value(tree, present, path)
        self._made[number] = restored
        return restored

    def _value(self, tree: Mapping[str, Any], present: Any, path: str) -> Any:
        for kind, cls in _CONTAINERS.items():
            if kind in tree:
                return self._chosen(cls(self._items(tree[kind], present, path)), present, _equal_items)
        if "deque" in tree:
            return deque(self._items(tree["deque"], present, path), tree["length"])
        if "named" in tree:
            _require(isinstance(present, tuple) and hasattr(present, "_fields"), path)
            lists = [", ".join(fields) or "none" for fields in (present._fields, tree["fields"])]
            if lists[0] != lists[1]:
                fix = f"give {type(present).__name__} these fields again, or begin a new run"
                raise NotPlain(
                    f"{path} with the fields {lists[0]}, and its saved state has {lists[1]}; {fix}"
                )
            return type(present)._make(self._items(tree["named"], present, path))
        if "mapping" in tree:
            return self._mapping(tree, present, path)
        if "tensor" in tree:
            return tree["tensor"].clone()
        if "array" in tree:
            array = np.array(tree["array"].numpy(force=True), tree["dtype"], order=tree["order"])
            return self._chosen(array, present, _equal_arrays)
        for restore in (self._generator, self._holder):
            if (restored := restore(tree, present, path)) is not None:
                return restored
        raise NotPlain(f"{path}: of a later version")

    def _items(self, trees: Sequence[Any], present: Any, path: str) -> list[Any]:
        present_items = list(present) if isinstance(present, list | tuple | set | frozenset | deque) else []
        present_items += [None] * (len(trees) - len(present_items))
        pairs = enumerate(zip(trees, present_items, strict=False))
        return [self.value(tree, item, f"{path}[{n}]") for n, (tree, item) in pairs]

    def _mapping(self, tree: Mapping[str, Any], present: Any, path: str) -> Any:
        present_items = present if isinstance(present, Mapping) else {}
        cls = _MAPPINGS[tree["mapping"]]
        if cls is defaultdict:
            _require(isinstance(present, defaultdict) or "factory" in tree, path)
            held = isinstance(present, defaultdict)
            mapping: Any = defaultdict(present.default_factory if held else _FACTORIES[tree["factory"]])
        else:
            mapping = cls()
        for key_tree, item in tree["pairs"]:
            key = self.value(key_tree, None, path)
            mapping[key] = self.value(item, present_items.get(key), f"{path}[{key!r}]")
        return self._chosen(mapping, present, _equal_items)

    def _chosen(self, value: Any, present: Any, equal: Callable[[Any, Any], bool]) -> Any:
        """Return what is present where it is equal, so that who else holds it goes on to."""
        return present if not self._inside and equal(value, present) else value

    def _generator(self, tree: Mapping[str, Any], present: Any, path: str) -> Any:
        """Return a generator or space with its state: the present one, or a new one."""
        if "generator" in tree:
            state = self.value(tree["generator"], None, path)
            kind = getattr(np.random, state["bit_generator"])
            fits = isinstance(present, np.random.Generator) and type(present.bit_generator) is kind
            if self._inside or not fits:
                present = np.random.Generator(kind())
            present.bit_generator.state = state
        elif "random_state" in tree:
            fits = not self._inside and isinstance(present, np.random.RandomState)
            present = present if fits else np.random.RandomState()
            present.set_state(self.value(tree["random_state"], None, path))
        elif "python_random" in tree:
            fits = not self._inside and type(present) is random.Random
            present = present if fits else random.Random()
            present.setstate(self.value(tree["python_random"], None, path))
        elif "torch_generator" in tree:
            fits = not self._inside and isinstance(present, torch.Generator)
            present = present if fits else torch.Generator()
            present.set_state(tree["torch_generator"].cpu())
        elif "space" in tree:
            _require(isinstance(present, Space), path)
            parts = _parts(present).items()
            _require(len(parts) == len(tree["parts"]), path)
            for space_tree, (name, space) in zip(tree["parts"], parts, strict=True):
                self.value(space_tree, space, f"{path}.{name}")
            present._np_random = self.value(tree["space"], present._np_random, path)
        else:
            return None
        return present

    def _holder(self, tree: Mapping[str, Any], present: Any, path: str) -> Any:
        """Change what a present function, object or parameter holds, and return it; None for another tree."""
        if "leaf" in tree:
            fits = isinstance(present, Tensor) and present.shape == tree["leaf"].shape
            _require(fits, path)
            present.data.copy_(tree["leaf"])
        elif "method" in tree:
            _require(isinstance(present, MethodType | BuiltinFunctionType), path)
            before_this = self._inside
            self._inside = before_this or (self._apart and isinstance(present, BuiltinFunctionType))
            owner = self.value(tree["method"], present.__self__, f"{path}.__self__")
            self._inside = before_this
            return present if owner is present.__self__ else getattr(owner, present.__name__)
        elif "partial" in tree:
            _require(type(present) is partial, path)
            pairs = enumerate(
                zip(tree["partial"], (present.func, present.args, present.keywords), strict=True)
            )
            function, args, keywords = (
                self.value(item_tree, item, f"{path}.{n}") for n, (item_tree, item) in pairs
            )
            return partial(function, *args, **keywords)
        elif "function" in tree:
            _require(isinstance(present, FunctionType), path)
            return self._function(tree["function"], present, path)
        elif "object" in tree:
            if tree.get("statistics") and type(present) is not RunningMeanStd:
                present = RunningMeanStd()  # type: ignore[no-untyped-call]
            _require(hasattr(present, "__dict__"), path)
            held = vars(present)
            values = {
                name: self.value(attribute_tree, held.get(name), f"{path}.{name}")
                for name, attribute_tree in tree["object"].items()
            }
            for name in held.keys() - values.keys():
                del held[name]
            held.update(values)
        else:
            return None
        return present

    def _function(self, trees: Sequence[Any], present: FunctionType, path: str) -> FunctionType:
        before_this, self._inside = self._inside, self._inside or self._apart
        cells = filled_cells(present)
        _require(len(cells) == len(trees) - 3, path)
        present_parts = [
            *(cell.cell_contents for cell in cells),
            present.__defaults__,
            present.__kwdefaults__,
            vars(present),
        ]
        values = [
            self.value(tree, item, f"{path}.{n}")
            for n, (tree, item) in enumerate(zip(trees, present_parts, strict=True))
        ]
        if self._inside:
            contents = dict(zip(map(id, cells), map(CellType, values), strict=False))
            closure = tuple(contents.get(id(cell), cell) for cell in present.__closure__ or ())
            function = FunctionType(present.__code__, present.__globals__, present.__name__, None, closure)
            for cell in closure:
                if cell.cell_contents is present and any(
                    cell is content for content in contents.values()
                ):  # it calls itself
                    cell.cell_contents = function
            for name in WRAPPER_ASSIGNMENTS:
                setattr(function, name, getattr(present, name))
            present = function
        else:
            for cell, value, before in zip(cells, values[:-3], present_parts[:-3], strict=True):
                if value is not before:
                    cell.cell_contents = value
        present.__defaults__, present.__kwdefaults__, attributes = values[-3:]
        vars(present).update(attributes)
        self._inside = before_this
        return present


def equal_trees(first: Any, second: Any) -> bool:
    """Whether two trees are equal, up to what is drawn next: each environment has its own random numbers."""
    if isinstance(first, Tensor) and isinstance(second, Tensor):
        return torch.equal(first, second)
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        if first.keys() == second.keys() and (
            first.keys() == {"space", "parts"} or (len(first) == 1 and {*first} <= {*_RANDOM})
        ):
            return True
        return first.keys() == second.keys() and all(equal_trees(first[key], second[key]) for key in first)
    if isinstance(first, list | tuple) and isinstance(second, list | tuple):
        return len(first) == len(second) and all(map(equal_trees, first, second))
    return bool(
        first is second
        or (type(first) is type(second) and (first == second or (_is_nan(first) and _is_nan(second))))
    )


_RANDOM = "generator", "random_state", "python_random", "torch_generator", "space"
"""Keys of the trees of random number generators, and of spaces, which have one."""


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _require(fits: bool, path: str) -> None:
    if not fits:
        raise NotPlain(f"{path}, which was made during the run; {MADE_EARLY}")


def _is_fixed(value: Any) -> bool:
    if isinstance(value, BuiltinFunctionType):  # a method of an object has the state of the object
        return value.__self__ is None or isinstance(value.__self__, ModuleType | type)
    if isinstance(value, MethodType):
        return isinstance(value.__self__, type)
    return isinstance(value, _FIXED)


def _make(value: Any) -> str:
    """Return what a value is, as far as it has to be the same where its state is restored."""
    if isinstance(value, Enum) or not isinstance(value, (*_FIXED, MethodType, FunctionType)):
        return f"{type(value).__module__}.{type(value).__qualname__}"
    if isinstance(value, EnvSpec | logging.Logger):
        return type(value).__qualname__
    name = getattr(value, "__qualname__", None) or getattr(value, "__name__", None)
    return f"{type(value).__qualname__} {name or value}"


def _is_hashable_data(key: Any) -> bool:
    if type(key) is tuple:
        return all(map(_is_hashable_data, key))
    return key is None or type(key) in (bool, int, float, str, bytes)


def _is_plain_object(value: Any) -> bool:
    """Whether all that an object holds is in its `__dict__`, and it is no environment."""
    environment = isinstance(value, gymnasium.Env | VectorEnv) or hasattr(value, "possible_agents")
    if not hasattr(value, "__dict__") or environment:
        return False
    return type(value).__basicsize__ == _Empty.__basicsize__  # else C code or slots hold more


class _Empty:
    """An object that holds nothing."""


def _parts(space: Space[Any]) -> dict[str, Space[Any]]:
    parts = {name: getattr(space, name, None) for name in ("feature_space", "node_space", "edge_space")}
    spaces = getattr(space, "spaces", ())
    parts |= (
        spaces if isinstance(spaces, Mapping) else {str(n): subspace for n, subspace in enumerate(spaces)}
    )
    return {name: subspace for name, subspace in parts.items() if isinstance(subspace, Space)}


def _equal_arrays(restored: Any, present: Any) -> bool:
    return (
        type(present) is np.ndarray
        and present.dtype == restored.dtype
        and present.shape == restored.shape
        and present.flags.f_contiguous == restored.flags.f_contiguous
        and bool(np.array_equal(restored, present, equal_nan=restored.dtype.kind == "f"))
    )


def _equal_items(restored: Any, present: Any) -> bool:
    """Whether a container has the same contents as the other in the same order."""
    if type(restored) is not type(present) or len(restored) != len(present):
        return False
    if isinstance(restored, Mapping):
        return list(restored) == list(present) and all(_same(restored[key], present[key]) for key in restored)
    return all(map(_same, restored, present))


def _same(first: Any, second: Any) -> bool:
    return first is second or (
        type(first) is type(second) and type(first) in (bool, int, float, str) and first == second
    )
