"""The graph of a model's forward, down to its submodules, with the values of an example (torch.fx, Reed et al. 2022)."""

from __future__ import annotations

import copy
import operator
import os
import sys
import traceback
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from functools import cached_property
from inspect import Parameter, signature
from types import FrameType
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.overrides import TorchFunctionMode

from antiphon.base.errors import ScenarioError, first_line

_FACTORIES = frozenset(
    getattr(torch, name)
    for name in (
        *("arange", "as_tensor", "empty", "eye", "full", "linspace", "logspace", "normal", "ones", "rand"),
        *("randint", "randn", "randperm", "tensor", "tril_indices", "triu_indices", "zeros"),
    )
)
"""Functions that make tensors of plain values: their calls become nodes, so that no device, type or random number is frozen in."""
_EINOPS = ("rearrange", "reduce", "repeat", "einsum", "pack", "unpack")
_OUTSIDE = (os.path.dirname(torch.__file__), os.path.dirname(__file__), "<")
"""Where the files begin that are not the user's."""
_APPLY = torch.autograd.Function.__dict__["apply"]
SUBMODULE = "put those lines into a submodule of their own, or give an nn.Sequential of the parts"


@dataclass(frozen=True)
class Trace:
    """The graph of a model's forward.

    Attributes:
        root: A copy of the model in training; constants and autograd functions of its forward are further attributes.
        arguments: By node: its arguments as they are in any batch and mode, with `Rows` and `Mode`.
        values: By node: its value for the example, in training.
        writes: By node: the storages that it changes in place.
        random: The nodes that draw random numbers.
        first: By path of a submodule: the first node of its first call.
        rows: The example's batch size.
    """

    graph: fx.Graph
    root: nn.Module
    arguments: dict[fx.Node, tuple[Any, Any]]
    values: dict[fx.Node, Any]
    writes: dict[fx.Node, set[int]]
    random: set[fx.Node]
    first: dict[str, fx.Node]
    rows: int

    @property
    def returned(self) -> Any:
        """What the forward returns, of nodes."""
        return next(iter(reversed(self.graph.nodes))).args[0]

    def sample_shape(self, node: fx.Node) -> tuple[int, ...]:
        return tuple(self.values[node].shape[1:])


@dataclass(frozen=True)
class Rows:
    """A whole multiple of the batch size."""

    times: int


@dataclass(frozen=True)
class Mode:
    """A plain value that is another one in evaluation."""

    training: Any
    evaluation: Any


class _Value(fx.Proxy):
    """A node with its value for the example, a tensor or an object of tensors: sizes, types and devices are plain values."""

    tracer: Any

    @property
    def _held(self) -> Any:
        return self.__dict__["tracer"].values[self.__dict__["node"]]

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._held, name)
        if isinstance(self._held, Mapping) and name in ("values", "items"):
            return getattr({key: self[key] for key in self._held}, name)
        if callable(attribute):
            return lambda *args, **kwargs: self.tracer.create_proxy(
                "call_method", name, (self, *args), kwargs
            )
        return self.tracer.item(self, getattr, name) if tensors(attribute) else attribute

    def __getitem__(self, key: Any) -> Any:
        return self.tracer.item(self, operator.getitem, key)

    def __setitem__(self, key: Any, value: Any) -> None:
        self.tracer.create_proxy("call_function", operator.setitem, (self, key, value), {})

    def __len__(self) -> int:
        return len(self._held)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._held) if isinstance(self._held, Mapping) else (self[i] for i in range(len(self)))

    def __contains__(self, key: object) -> bool:
        return isinstance(self._held, Mapping) and key in self._held

    def keys(self) -> Any:
        return self._held.keys()


def _in_place(name: str) -> Callable[[_Value, object], Any]:
    function = getattr(operator, name)
    return lambda self, operand: self.tracer.create_proxy("call_function", function, (self, operand), {})


for _name in ("iadd", "isub", "imul", "itruediv"):
    setattr(_Value, f"__{_name}__", _in_place(_name))


class _Factories(TorchFunctionMode):
    """Makes nodes of the calls of factories."""

    def __init__(self, tracer: _Tracer) -> None:
        super().__init__()
        self.tracer = tracer

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in _FACTORIES and not self.tracer.evaluating:
            return self.tracer.create_proxy("call_function", func, args, kwargs or {})
        return func(*args, **(kwargs or {}))


class _Applied(nn.Module):
    """A call of an autograd function, whose own backward is kept."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, *args: Any) -> Any:
        return self.function.apply(*args)


class _Tracer(fx.Tracer):
    """Opens some submodules; each other submodule is one call, and so is an autograd function."""

    proxy_buffer_attributes = True

    def __init__(self, opened: Collection[str], example: Mapping[str, Any]) -> None:
        einops = sys.modules.get("einops")
        super().__init__(autowrap_functions=tuple(getattr(einops, name) for name in _EINOPS if einops))
        self.opened, self.example = opened, example
        self.values: dict[fx.Node, Any] = {}
        self.writes: dict[fx.Node, set[int]] = {}
        self.random: set[fx.Node] = set()
        self.first: dict[str, int] = {}
        self.items: dict[tuple[Any, ...], Any] = {}
        self.evaluating = False

    def create_args_for_root(self, root_fn: Any, is_module: bool, concrete_args: Any = None) -> Any:
        inputs = {name: self.create_proxy("placeholder", name, (), {}) for name in self.example}
        return (lambda root: plain(called(root, inputs))), [self.root]

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _Value(node, self)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return module_qualified_name not in self.opened

    def call_module(self, m: nn.Module, forward: Any, args: Any, kwargs: Any) -> Any:
        if self.evaluating or m not in (self.submodule_paths or {}):  # made by the forward: nn.ReLU()(x)
            return forward(*args, **kwargs)
        self.first.setdefault(self.path_of_module(m), len(self.graph.nodes))
        return super().call_module(m, forward, args, kwargs)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        return attr_val if self.evaluating else super().getattr(attr, attr_val, parameter_proxy_cache)

    def item(self, container: _Value, function: Any, key: Any) -> Any:
        """An item of a value; of an object of tensors it is one node, however often it is read."""
        if isinstance(container._held, Tensor) or not isinstance(key, int | str):
            return self.create_proxy("call_function", function, (container, key), {})
        place = container.node, function, key
        if place not in self.items:
            self.items[place] = self.create_proxy("call_function", function, (container, key), {})
        return self.items[place]

    def applied(self, function: Any, *args: Any) -> Any:
        """Call an autograd function; of values of the trace as a node."""
        if self.evaluating or not any(isinstance(value, _Value) for value in args):
            return _APPLY.__get__(None, function)(*args)
        path = f"_applied{len(self.graph.nodes)}"
        self.root.add_module(path, _Applied(function))
        return self.create_proxy("call_module", path, args, {})

    def create_arg(self, a: Any) -> Any:
        argument = a if isinstance(a, fx.Node) else super().create_arg(a)
        if isinstance(argument, fx.Node) and argument not in self.values:  # a parameter or constant
            self._evaluate(argument)
        return argument

    def create_proxy(self, kind: str, target: Any, args: Any, kwargs: Any, *rest: Any, **more: Any) -> Any:
        node = super().create_proxy(kind, target, args, kwargs, *rest, **more).node
        value = self._evaluate(node)
        if isinstance(value, Tensor):
            return _Value(node, self)
        if not tensors(value):
            if kind != "placeholder" and node not in self.writes and node not in self.random:
                self.graph.erase_node(node)  # a size, a type: what reads it has the value
                del self.values[node]
            return value
        if isinstance(value, tuple) and hasattr(value, "_fields"):
            return type(value)(*(self._item(node, i) for i in range(len(value))))
        if type(value) in (tuple, list):
            return type(value)(self._item(node, i) for i in range(len(value)))
        if type(value) is dict:
            return {key: self._item(node, key) for key in value}
        return _Value(node, self)

    def _item(self, node: fx.Node, key: Any) -> Any:
        return self.create_proxy("call_function", operator.getitem, (node, key), {})

    @cached_property
    def _interpreter(self) -> fx.Interpreter:
        return fx.Interpreter(self.root, garbage_collect_values=False, graph=self.graph)

    def _evaluate(self, node: fx.Node) -> Any:
        node.meta["line"] = _line(traceback.walk_stack(sys._getframe()))
        args, kwargs = fx.node.map_arg((node.args, node.kwargs), self.values.__getitem__)
        versions = [(tensor, tensor._version) for tensor in tensors((args, kwargs))]
        state, self.evaluating = torch.get_rng_state(), True
        try:
            with torch.no_grad():
                if node.op == "placeholder":
                    value = self.example[str(node.target)]
                else:
                    value = getattr(self._interpreter, node.op)(node.target, args, kwargs)
        finally:
            self.evaluating = False
        if changed := storages([tensor for tensor, version in versions if tensor._version != version]):
            self.writes[node] = changed
        if not torch.equal(state, torch.get_rng_state()):
            self.random.add(node)
        self.values[node] = value
        return value


def tensors(value: object) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    if is_dataclass(value) and not isinstance(value, Mapping | type):
        value = [getattr(value, field.name) for field in fields(value)]
    items = value.values() if isinstance(value, Mapping) else value if isinstance(value, tuple | list) else ()
    return [tensor for item in items for tensor in tensors(item)]


def storages(value: object) -> set[int]:
    return {tensor.untyped_storage().data_ptr() for tensor in tensors(value) if tensor.numel()}


def plain(returned: Any) -> Any:
    """What a forward returns, with dicts in place of named tuples, dataclasses and mappings of other classes."""
    kind = type(returned._held if isinstance(returned, _Value) else returned)
    if issubclass(kind, Mapping):
        return {key: plain(returned[key]) for key in returned}
    if is_dataclass(kind) or hasattr(kind, "_fields"):
        names = [field.name for field in fields(kind)] if is_dataclass(kind) else kind._fields
        return {name: plain(getattr(returned, name)) for name in names}
    return kind(map(plain, returned)) if kind in (tuple, list) else returned


def called(model: nn.Module, example: Mapping[str, Any]) -> Any:
    """Call a model, with arguments by position as far as its forward has them in a row."""
    named, by_position = dict(example), []
    for parameter in signature(model.forward).parameters.values():
        if parameter.name not in named or parameter.kind is Parameter.KEYWORD_ONLY:
            break
        by_position.append(named.pop(parameter.name))
    return model(*by_position, **named)


def named_example(model: nn.Module, example: Any) -> dict[str, Any]:
    """Return an example, a tensor, tuple or mapping, by the names of the forward's arguments."""
    names = [*signature(model.forward).parameters]
    if isinstance(example, Mapping):
        named = dict(example)
    else:
        values = tuple(example) if isinstance(example, tuple | list) else (example,)
        named = dict(zip(names, values, strict=False))
    for name, value in named.items():
        if isinstance(value, Tensor) and value.is_floating_point():
            named[name] = value.to(own_type(model))
    return named


def own_type(model: nn.Module) -> torch.dtype:
    return next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.get_default_dtype())


def fewer(example: Mapping[str, Any], rows: int) -> dict[str, Any]:
    batch = next(len(value) for value in example.values() if isinstance(value, Tensor))
    return {
        name: value[:rows].clone()
        if isinstance(value, Tensor) and value.dim() and len(value) == batch
        else value
        for name, value in example.items()
    }


def _line(frames: Iterable[tuple[FrameType, int]]) -> str:
    """File and line of the newest of some frames that is the user's."""
    places = ((frame.f_code.co_filename, line) for frame, line in frames)
    lines = (f"{os.path.basename(name)}:{line}" for name, line in places if not name.startswith(_OUTSIDE))
    return next(lines, "an unknown line")


def trace(model: nn.Module, opened: Collection[str], example: Mapping[str, Any]) -> Trace:
    """Trace a model in training, and in evaluation with one row less; what differs is of the mode or of the batch.

    Args:
        model: It is copied; nothing of it changes.
        opened: Paths of submodules whose forwards are traced too; "" is the model.
        example: Its arguments by name; what varies with the batch has it as the first axis.
    """
    rows = max(
        (len(value) for value in example.values() if isinstance(value, Tensor) and value.dim()), default=0
    )
    if rows < 2:
        raise ScenarioError(
            f"the example has a batch of {rows}; give tensors with at least 2 rows, the batch first"
        )
    tracers = []
    for training, size in ((True, rows), (False, rows - 1)):
        tracer = _Tracer(opened, fewer(example, size))
        _run(tracer, copy.deepcopy(model).train(training))
        tracers.append(tracer)
    first, second = tracers
    nodes = list(first.graph.nodes)
    return Trace(
        first.graph,
        first.root,
        _merged(first.graph, second.graph, (rows, rows - 1)),
        first.values,
        first.writes,
        first.random,
        {path: nodes[number] for path, number in first.first.items()},
        rows,
    )


def _run(tracer: _Tracer, root: nn.Module) -> None:
    function: Any = torch.autograd.Function
    function.apply = classmethod(lambda kind, *args: tracer.applied(kind, *args))
    try:
        with _Factories(tracer):
            tracer.trace(root)
    except ScenarioError:
        raise
    except Exception as error:
        line = _line(reversed([*traceback.walk_tb(error.__traceback__)]))
        raise ScenarioError(
            f"{type(root).__name__}.forward cannot be traced ({first_line(error)}, at {line}); {SUBMODULE}"
        ) from error
    finally:
        function.apply = _APPLY


def _merged(
    training: fx.Graph, evaluation: fx.Graph, batches: tuple[int, int]
) -> dict[fx.Node, tuple[Any, Any]]:
    """The arguments of the nodes of two graphs of one forward, by node of the first."""
    pairs = [*zip(training.nodes, evaluation.nodes, strict=False)]
    same = {second: first for first, second in pairs}

    def merged(a: Any, b: Any) -> Any:
        if isinstance(a, fx.Node) or isinstance(b, fx.Node):
            if same.get(b) is not a:
                raise ValueError
            return a
        if isinstance(a, tuple | list) and type(a) is type(b) and len(a) == len(b):
            return [*map(merged, a, b)] if isinstance(a, list) else (*map(merged, a, b),)
        if isinstance(a, dict) and isinstance(b, dict) and a.keys() == b.keys():
            return {key: merged(a[key], b[key]) for key in a}
        if isinstance(a, slice) and isinstance(b, slice):
            return slice(merged(a.start, b.start), merged(a.stop, b.stop), merged(a.step, b.step))
        if type(a) is type(b) and repr(a) == repr(b):
            return a
        if type(a) is type(b) is int and a * batches[1] == b * batches[0]:
            return Rows(a // batches[0])
        return Mode(a, b)

    arguments = {}
    for first, second in pairs:
        try:
            if (first.op, first.target) != (second.op, second.target):
                raise ValueError
            arguments[first] = (
                merged(first.args, second.args),
                merged(dict(first.kwargs), dict(second.kwargs)),
            )
        except ValueError:
            raise ScenarioError(
                f"forward makes other calls in training than in evaluation, or for another batch size, at '{first}' "
                f"({first.meta['line']}); {SUBMODULE}"
            ) from None
    return arguments
