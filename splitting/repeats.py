"""Whether a model computes at a later call what it computed at the first: a graph keeps no Python state from call to call.

| in a traced forward | |
| --- | --- |
| buffers that are changed in place; caches that are filled once; attributes that a call only writes, such as its attention; counts that nothing reads | kept, or without effect |
| attributes, class attributes, globals or defaults that a call changes and a later call reads; lists that grow | refused by name |
| Python's or numpy's random numbers; a generator of the model's own; times and files that change results | refused |

Submodules that are not traced are called as they are, with their Python state.
"""

from __future__ import annotations

import hashlib
import random
import types
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Collection, Hashable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from antiphon.base.errors import ScenarioError
from antiphon.nets.isolation.own_random import seeded
from antiphon.nets.modules import tensors_in
from antiphon.nets.user_modules import probe_of, set_mode
from antiphon.nets.users.outlines import bytes_of
from antiphon.splitting.graph import as_dict, call_model, in_own_type, own_copies

State = dict[str, Hashable]
_BUFFER = "make it a buffer that is changed in place (self.register_buffer(…); self.tau.mul_(0.5))"
_ATTRIBUTE = "the attribute '"
_LATER_CALLS = (*range(1, 13), 49, 50, 99, 100, 499, 500, 999, 1000, 5000, 10_000, 100_000, 1_000_000)
"""Numbers of further calls that are added to a count of calls."""
_SUBMODULE = "put those lines into a submodule of their own"


def check_repeats(model: nn.Module, opened: Collection[str], example: Mapping[str, Any]) -> None:
    """Check that the traced modules of a model keep no Python state from call to call.

    The model is called with the example, with its rows in the opposite order, and with the example twice; its parameters, buffers
    and torch's random numbers begin every call as the first.

    Args:
        model: The model; a copy of it is called.
        opened: Paths of the modules whose forwards are traced; "" is the model.

    Raises:
        ScenarioError: A module keeps state; one line names it.
    """
    for training in (True, False):
        _Calls(model, opened, example, training=training).check()


class _Calls:
    """Calls of a model one after the other."""

    def __init__(
        self, model: nn.Module, opened: Collection[str], example: Mapping[str, Any], *, training: bool
    ) -> None:
        self.model, self.opened, self.example, self.training = model, opened, example, training
        self.name = type(model).__name__
        self.root = root = in_own_type(probe_of(model, opened))
        set_mode(root, training)
        flipped = {
            key: value.flip(0) if isinstance(value, Tensor) and value.dim() else value
            for key, value in example.items()
        }
        self.rows = (example, flipped, example, example)
        self.numbers = [
            (module, name, tensor, tensor.data, tensor.data.clone())
            for module in root.modules()
            for tensors in (module._parameters, module._buffers)
            for name, tensor in tensors.items()
            if tensor is not None
        ]

    def check(self) -> None:
        states, results = [_python_state(self.root, self.opened)], []
        for arguments in self.rows:
            try:
                results.append(self._call(arguments))
            except Exception:  # noqa: BLE001  (anything a user's module may raise: the trace reports it)
                if arguments is not self.rows[1]:
                    return
                results.append([])
            states.append(_python_state(self.root, self.opened))
            self._restore()
        same = all(same_tensors(results[0], result) for result in results[2:])
        begun = _changes(states[0], states[1])
        changed = _changes(states[1], states[3]) or _changes(states[3], states[4])
        changed = changed or [name for name in begun if not same or name.startswith("the parameter")]
        if changed:
            outside = self._changed_outside()
            harmful = [name for name in changed if name in outside and not self._harmless(name, results[0])]
            if harmful:
                raise ScenarioError(
                    f"{self.name}.forward changes {harmful[0]} from call to call, which parts do not; {_fix(harmful[0])}"
                )
            if not outside.issuperset(changed):
                return
        if not same:
            raise ScenarioError(
                f"{self.name}.forward gives other results when it is called again with the same arguments; {_SUBMODULE}, or "
                "give it what differs (the time, a file, …) as an input"
            )

    def _call(self, arguments: Mapping[str, Any]) -> list[Tensor]:
        torch.manual_seed(0)
        with torch.no_grad():
            return [
                tensor.clone() for tensor in tensors_in(as_dict(call_model(self.root, own_copies(arguments))))
            ]

    def _restore(self) -> None:
        """Give parameters and buffers back."""
        for module, name, tensor, memory, value in self.numbers:
            held: dict[str, Any] = module._parameters if isinstance(tensor, nn.Parameter) else module._buffers
            held[name] = tensor
            tensor.data = memory
            memory.copy_(value)

    def _harmless(self, name: str, expected: list[Tensor]) -> bool:
        """Whether an attribute that changes has no effect on results, as a count of calls for a log has none."""
        path, _, attribute = name.removeprefix(_ATTRIBUTE).rstrip("'").rpartition(".")
        if not name.startswith(_ATTRIBUTE):
            return False
        held = vars(self.root.get_submodule(path))
        before = held[attribute]
        try:
            for value in _others(before):
                held[attribute] = value
                with suppress(Exception):  # of a user's forward, which then has read it
                    if same_tensors(expected, self._call(self.example)):
                        continue
                return False
        finally:
            held[attribute] = before
            self._restore()
        return bool(_others(before))

    def _changed_outside(self) -> set[str]:
        """What changes in the course of calls while no submodule that is called whole is running."""
        calls = _Calls(self.model, self.opened, self.example, training=self.training)
        outside, depth, before = set[str](), 0, _python_state(calls.root, self.opened)

        def enter(*_: object) -> None:
            nonlocal depth
            if depth == 0:
                outside.update(_changes(before, _python_state(calls.root, self.opened)))
            depth += 1

        def leave(*_: object) -> None:
            nonlocal depth, before
            depth -= 1
            if depth == 0:
                before = _python_state(calls.root, self.opened)

        for path, module in calls.root.named_modules():
            if path not in self.opened:
                module.register_forward_pre_hook(enter)
                module.register_forward_hook(leave)
        for arguments in (self.rows[0], self.rows[0]):
            calls._call(arguments)
            outside.update(_changes(before, _python_state(calls.root, self.opened)))
            calls._restore()
            before = _python_state(calls.root, self.opened)
        return outside


def _changes(before: State, after: State) -> list[str]:
    return [name for name, value in after.items() if name not in before or before[name] != value]


def _others(value: Any) -> list[Any]:
    """Values that an attribute might have at later calls; none of what cannot be told."""
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int | float):
        return [value + more for more in _LATER_CALLS] + [-value - 1, value * 0]
    if isinstance(value, list):
        return [[], value * 1000]
    if type(value) is dict:
        more = {key: item + 1000 if isinstance(item, int | float) else item for key, item in value.items()}
        return [{}, more, value | {("later", i): 1 for i in range(1000)}]
    if isinstance(value, Tensor):
        return [torch.full_like(value, torch.nan if value.is_floating_point() else 1)]
    return []


def same_tensors(result: list[Tensor], repeated: list[Tensor]) -> bool:
    """Whether two calls returned the same, but for rounding."""
    return len(result) == len(repeated) and all(
        a.shape == b.shape and torch.allclose(a, b, rtol=1e-5, atol=1e-6, equal_nan=True)
        for a, b in zip(result, repeated, strict=True)
    )


def _fix(name: str) -> str:
    if name.startswith("what the hook"):
        return "register it on a submodule that is not cut, or put what it computes into forward"
    if "random" in name:
        return f"use torch's (torch.rand(()) < 0.5), or {_SUBMODULE}"
    return f"{_BUFFER}, or {_SUBMODULE}"


_OF_EVERY_MODULE = frozenset(vars(nn.Module())) - {"training"}
_CODE = (types.FunctionType, types.BuiltinFunctionType, types.MethodType, types.ModuleType, type, property)
_DEEPEST = 12
"""Nested containers and objects that are compared; below, types are."""
_MOST = 10_000
"""Items of a container that are compared; of a longer one, its length is."""
_MAPPINGS = (dict, OrderedDict, Counter, defaultdict)


def _python_state(module: nn.Module, opened: Collection[str]) -> dict[str, Hashable]:
    """Return fingerprints of a module's Python state, by name; only methods of `opened` modules have their globals and class attributes read."""
    state: dict[str, Any] = {}
    seen = set[types.CodeType]()
    for path, submodule in module.named_modules():
        for name, value in vars(submodule).items():
            if name not in _OF_EVERY_MODULE:
                state[f"the attribute '{f'{path}.{name}'.lstrip('.')}'"] = value
                if isinstance(value, types.FunctionType) and path in opened:
                    state |= _of_function(value, seen)
        if path in opened:
            for hook in [*submodule._forward_hooks.values(), *submodule._forward_pre_hooks.values()]:
                name = getattr(hook, "__qualname__", type(hook).__name__)
                state[f"what the hook '{name}' keeps"] = _of_hook(hook)
            for kind in (kind for kind in type(submodule).__mro__ if not _of_a_library(kind.__module__)):
                state |= _of_class(kind, seen)
    fingerprints = {name: _fingerprint(value) for name, value in state.items()}
    fingerprints |= {f"the parameter '{key}'": (id(p), p.data_ptr()) for key, p in module.named_parameters()}
    fingerprints["Python's random numbers (`random`)"] = random.getstate()
    fingerprints["numpy's random numbers (`numpy.random`)"] = _fingerprint(np.random.get_state())
    return fingerprints


def _of_hook(hook: Any) -> Any:
    """What a hook reads beside its arguments; the hook itself where it is no function."""
    return _of_function(hook, set()) if isinstance(hook, types.FunctionType) else hook


def _of_a_library(name: str) -> bool:
    return name.partition(".")[0] in ("torch", "builtins", "typing", "abc", "antiphon", "numpy")


def _of_class(kind: type, seen: set[types.CodeType]) -> dict[str, Any]:
    """The data of a class, and what its functions name."""
    state: dict[str, Any] = {}
    for name, value in vars(kind).items():
        function = value.__func__ if isinstance(value, staticmethod | classmethod) else value
        if isinstance(function, types.FunctionType):
            state |= _of_function(function, seen)
        elif not name.startswith("__") and not isinstance(value, _CODE) and not hasattr(value, "__get__"):
            state[f"the class attribute '{kind.__name__}.{name}'"] = value
    return state


def _of_function(function: types.FunctionType, seen: set[types.CodeType]) -> dict[str, Any]:
    """Globals, enclosing variables, defaults and attributes of a function, and of the functions that it names."""
    if function.__code__ in seen or _of_a_library(function.__module__ or ""):
        return {}
    seen.add(function.__code__)
    defaults = {"": function.__defaults__} | dict(function.__kwdefaults__ or {})
    state: dict[str, Any] = {
        f"a default of an argument of '{function.__name__}'": {
            name: value for name, value in defaults.items() if value
        },
        f"an attribute of the function '{function.__name__}'": dict(vars(function)),
    }
    named: dict[str, Any] = {}
    for name in _names(function.__code__):
        value = function.__globals__.get(name)
        if isinstance(value, types.ModuleType) and not _of_a_library(value.__name__):
            variables = {f"{name}.{key}": vars(value).get(key) for key in _names(function.__code__)}
            state |= {
                f"the global '{key}'": variable
                for key, variable in variables.items()
                if not isinstance(variable, _CODE)
            }
        else:
            named[f"the global '{name}'"] = value
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            named[f"the variable '{name}' around '{function.__name__}'"] = cell.cell_contents
        except ValueError:  # not set yet
            continue
    for name, value in named.items():
        if isinstance(value, types.FunctionType):
            state |= _of_function(value, seen)
        elif not isinstance(value, (*_CODE, nn.Module)):
            state[name] = value
    return state


def _names(code: types.CodeType) -> Iterator[str]:
    """The names of globals and attributes in a function and in those within it."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names(constant)


def _fingerprint(value: Any, above: tuple[int, ...] = ()) -> Hashable:
    """A key that is equal for equal values; of what cannot be compared, its type."""
    kind = type(value)
    if value is None or kind in (bool, int, str, bytes, complex):
        return kind.__name__, value
    if kind is float:
        return "float", value.hex()
    if isinstance(value, Tensor | np.ndarray):
        return kind.__name__, _of_array(value)
    if isinstance(value, torch.Generator):
        return "Generator", _of_array(value.get_state())
    if isinstance(value, _CODE):
        return kind.__name__, getattr(value, "__code__", None) or getattr(
            value, "__qualname__", kind.__name__
        )
    if len(above) > _DEEPEST or id(value) in above:
        return "above", kind.__name__
    if (length := _length(value)) > _MOST:
        return kind.__name__, length
    inside = (*above, id(value))
    if isinstance(value, Mapping) and kind in _MAPPINGS:
        return "dict", tuple((_fingerprint(k, inside), _fingerprint(v, inside)) for k, v in value.items())
    if kind in (list, tuple, torch.Size):
        return kind.__name__, tuple(_fingerprint(item, inside) for item in value)
    if kind in (set, frozenset):
        return kind.__name__, frozenset(_fingerprint(item, inside) for item in value)
    if isinstance(value, nn.Module):
        return kind.__name__, _fingerprint(vars(value), inside)
    return kind.__name__, _of_object(value, inside)


def _length(value: Any) -> int:
    """The length of a value; 0: it has none, or refuses to say it."""
    try:
        return len(value)
    except Exception:  # noqa: BLE001  (anything a user's object may raise)
        return 0


def _of_array(value: Tensor | np.ndarray[Any, Any]) -> Hashable:
    try:
        if isinstance(value, Tensor):
            content = bytes_of(value)
            return len(content), hashlib.blake2b(content).digest()
        return tuple(value.shape), hashlib.blake2b(np.ascontiguousarray(value).tobytes()).digest()
    except (RuntimeError, TypeError, NotImplementedError):  # a sparse tensor, a graph's stand-in, …
        return str(getattr(value, "shape", ""))


def _of_object(value: Any, above: tuple[int, ...]) -> Hashable:
    """An object by what it would be copied from: also generators of random numbers, counters and iterators."""
    try:
        reduced = value.__reduce_ex__(4)
    except Exception:  # noqa: BLE001  (anything a user's object may raise: a lock, a file, …)
        return None
    if isinstance(reduced, str):
        return reduced
    contents = [list(item) if hasattr(item, "__next__") else item for item in reduced[:5]]
    return _fingerprint(contents, above)


@contextmanager
def caller_random_kept() -> Iterator[None]:
    """Give Python's, numpy's and torch's random numbers back as they were."""
    python, numbers = random.getstate(), np.random.get_state()
    with seeded(None):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numbers)
