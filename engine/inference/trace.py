"""Trace: a computation on rows, written down as a torch.fx graph for any number of rows.

The computation runs twice, on two rows and on three, while the functions of torch that it calls are recorded. Numbers that differ
between the recordings are the number of rows, or a multiple. A user's module is not run: it is one call, of a copy of it.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar, final

import torch
from torch import Tensor, fx, nn
from torch.overrides import TorchFunctionMode

from antiphon.base.errors import EngineError, ScenarioError
from antiphon.base.nearest_names import suggest
from antiphon.comms.backward_requests import constant
from antiphon.nets.modules import ModuleFunction
from antiphon.nets.user_modules import set_mode, with_values

_ROWS = (2, 3)
"""Rows of the two recordings."""
_LOOKS = frozenset(("__bool__", "__float__", "__int__", "__index__", "item", "tolist", "numpy", "equal"))
"""Functions that take values out of a tensor, which a graph cannot follow."""
Given = TypeVar("Given", bound=Tensor)


@dataclass(frozen=True, slots=True)
class CallResult:
    """What a recorded call returned: the call's place."""

    index: int


@dataclass(frozen=True, slots=True)
class Input:
    """An input of the computation, by its key."""

    key: Hashable


@dataclass(frozen=True, slots=True)
class NamedTensor:
    """A parameter or a running statistic, by its name in the graph's module."""

    name: str


@dataclass(frozen=True, slots=True, eq=False)
class ConstantTensor:
    """A tensor that depends on none of these."""

    tensor: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class UserModule:
    """A user's module at its place in the graph's module, with the values that it is called with."""

    name: str
    module: nn.Module
    values: dict[str, Tensor]


@dataclass(frozen=True, slots=True, eq=False)
class RecordedCall:
    """A call of a function, of a method by its name, or of a user's module."""

    target: Callable[..., Any] | str | UserModule
    args: tuple[Any, ...]
    settings: dict[str, Any]


@final
class CallRecorder(TorchFunctionMode):
    """Records the calls that depend on inputs and named tensors; what else a computation does is constant.

    Args:
        named: Parameters and running statistics by name.
        modules: Users' modules by the name that they are to have.
        rows: How many rows the computation is on.
    """

    def __init__(self, named: Mapping[str, Tensor], modules: Mapping[str, nn.Module], rows: int) -> None:
        super().__init__()
        self.rows = rows
        self.calls: list[RecordedCall] = []
        self._modules = {id(module): name for name, module in modules.items()}
        self._tensors: list[Tensor] = []  # kept, so that no later one has the identity of one of these
        self._recorded_by_id: dict[int, Any] = {}
        for name, tensor in named.items():
            self._note(tensor, NamedTensor(name))

    def as_input(self, key: Hashable, tensor: Given) -> Given:
        self._note(tensor, Input(key))
        return tensor

    def recorded(self, tree: Any) -> Any:
        """Return a tree of tensors and other values with what each tensor was recorded as in its place."""
        return fx.node.map_aggregate(tree, self._recorded)

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        settings = kwargs or {}
        if func is ModuleFunction.__call__:
            return self._module(*args)
        depends = any(id(leaf) in self._recorded_by_id for leaf in _leaves((args, settings)))
        name = getattr(func, "__name__", "")
        if depends and name in _LOOKS:
            raise ScenarioError(
                f"compose: what is computed depends on values that are only known in a call ({name} of a tensor); use torch's functions"
            )
        if depends and (name == "__setitem__" or (name.endswith("_") and not name.endswith("__"))):
            raise EngineError(f"a traced computation changes a tensor in place ({name})")
        result = func(*args, **settings)
        if not depends or not any(isinstance(leaf, Tensor) for leaf in _leaves(result)):
            return result
        if name == "__get__":  # of an attribute, such as `T`
            name = func.__self__.__name__
            func, args = getattr, (*args, name)
        if name in ("detach", "data"):  # gradients go through the whole graph
            self._note(result, self._recorded(args[0]))
        elif result is not args[0]:  # else a conversion to the type that it has
            self._record(result, _target(func), *self.recorded((tuple(args), settings)))
        return result

    def _module(
        self, function: ModuleFunction, parameters: dict[str, Tensor], buffers: dict[str, Tensor], x: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        module = UserModule(self._modules[id(function.module)], function.module, parameters | buffers)
        x_recorded = self._recorded(x)
        result = x.new_zeros(x.shape[0], function.outputs)
        self._record(result, "type_as", (self._append(module, (x_recorded,)), x_recorded))
        return result, buffers

    def _append(
        self, target: Any, args: tuple[Any, ...], settings: dict[str, Any] | None = None
    ) -> CallResult:
        self.calls.append(RecordedCall(target, args, settings or {}))
        return CallResult(len(self.calls) - 1)

    def _record(
        self, result: Any, target: Any, args: tuple[Any, ...], settings: dict[str, Any] | None = None
    ) -> None:
        value = self._append(target, args, settings)
        if isinstance(result, Tensor):
            self._note(result, value)
            return
        for index, item in enumerate(result):
            self._record(item, operator.getitem, (value, index))

    def _note(self, tensor: Tensor, recorded: Any) -> None:
        self._tensors.append(tensor)
        self._recorded_by_id[id(tensor)] = recorded

    def _recorded(self, leaf: Any) -> Any:
        if not isinstance(leaf, Tensor):
            return leaf
        return self._recorded_by_id.get(id(leaf)) or ConstantTensor(leaf)


def _leaves(tree: Any) -> list[Any]:
    leaves: list[Any] = []
    fx.node.map_aggregate(tree, leaves.append)
    return leaves


def _target(func: Any) -> Any:
    """A function as a graph holds it: a method by its name, an operator as Python's."""
    name: str = func.__name__
    if getattr(Tensor, name, None) is not func:
        return func
    return getattr(operator, name, name) if name.startswith("__") else name


Computation = Callable[[CallRecorder], Any]
"""Computes a tree of tensors from inputs, each of which it makes and lets be `given` by the recorder."""


@final
class Written:
    """A graph under construction, and the module that holds what it uses.

    Attributes:
        rows: The number of rows in a call; counted before anything is written that depends on it.
    """

    rows: fx.Node

    def __init__(self) -> None:
        self.root = nn.Module()
        self.graph = fx.Graph()
        self._calls: dict[str, fx.Node] = {}
        self._constants: list[tuple[Tensor, fx.Node]] = []

    def call(self, function: Callable[..., Any] | str, *args: Any, **settings: Any) -> fx.Node:
        """Return the call of a function, or of a method of the first argument; the same call is written once."""
        key = repr((function, args, settings))
        if key not in self._calls:
            append: Any = self.graph.call_method if isinstance(function, str) else self.graph.call_function
            self._calls[key] = append(function, args, settings)
        return self._calls[key]

    def count_rows(self, value: fx.Node, axis: int) -> None:
        self.rows = self.call("size", value, axis)

    def attach(self, name: str, value: nn.Module | Tensor) -> None:
        """Put a module, or a copy of a parameter or running statistic, at a dotted name; what is there already stays."""
        module = self.root
        *path, last = name.split(".")
        for child_name in path:
            if child_name not in module._modules:
                module.add_module(child_name, nn.Module())
            module = module.get_submodule(child_name)
        present = module._modules.get(last)
        if isinstance(value, nn.Module) and type(present) is nn.Module:  # made for what lies below its name
            for child_name, below in present.named_children():
                value.add_module(child_name, below)
            module.add_module(last, value)
        elif hasattr(module, last):
            return
        elif isinstance(value, nn.Module):
            module.add_module(last, value)
        elif value.requires_grad:
            module.register_parameter(last, nn.Parameter(constant(value).clone()))
        else:
            module.register_buffer(last, value.clone())

    def get(self, name: str) -> fx.Node:
        """Return the node of an attached parameter or running statistic."""
        if name not in self._calls:
            self._calls[name] = self.graph.get_attr(name)
        return self._calls[name]

    def constant(self, value: Tensor) -> fx.Node:
        for buffer, node in self._constants:
            if (buffer.dtype, buffer.shape) == (value.dtype, value.shape) and torch.equal(buffer, value):
                return node
        name = f"constant_{len(self._constants)}"
        self.root.register_buffer(name, value.clone())
        self._constants.append((value, self.graph.get_attr(name)))
        return self._constants[-1][1]

    def module(self, name: str) -> fx.GraphModule:
        """Return the module in evaluation mode; `name`: of its class."""
        module = TracedModule(self.root, self.graph, class_name=name)
        module.graph.eliminate_dead_code()
        module.recompile()
        set_mode(module, False)
        for submodule in module.modules():
            if (
                type(submodule) is nn.Module
            ):  # it holds the tensors of a place, and would be printed without them
                submodule.extra_repr = partial(str, _shapes(submodule))  # type: ignore[method-assign]
        return module


def _shapes(module: nn.Module) -> str:
    """Return the tensors of a module by name: `weight [16, 64], bias [16]`."""
    held = (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False))
    return ", ".join(f"{name} {list(tensor.shape)}" for name, tensor in held)


class TracedModule(fx.GraphModule):
    """A module of a traced computation, which names its inputs where it is called with others."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """See `torch.nn.Module`.

        Raises:
            ScenarioError: It has no input of such a name.
        """
        try:
            return super().__call__(*args, **kwargs)
        except TypeError:  # looked up only now: torch.compile follows no look at the graph
            names = [str(node.target) for node in self.graph.nodes if node.op == "placeholder"]
            for name in kwargs:
                if name not in names:
                    line = f"compose: the module has no input '{name}'{suggest(name, names)}"
                    raise ScenarioError(line) from None
            raise


@final
class Trace:
    """A computation as it was recorded, to be written into a graph.

    Args:
        computation: What is traced; it may not depend on the values of tensors.
        named: The parameters and running statistics that it uses, by name.

    Attributes:
        outputs: What it returns, as recorded, of which a part can be written.
    """

    def __init__(
        self, computation: Computation, named: Mapping[str, Tensor], modules: Mapping[str, nn.Module]
    ) -> None:
        self._named = named
        recordings = []
        for rows in _ROWS:
            recorder = CallRecorder(named, modules, rows)
            with torch.no_grad(), recorder:
                computed = computation(recorder)
            recordings.append((recorder.calls, recorder.recorded(computed)))
        (self._calls, self.outputs), (self._calls_on_more_rows, _) = recordings
        if len(self._calls) != len(self._calls_on_more_rows):
            raise EngineError("the calls of a traced computation depend on the number of rows")

    def inputs_of(self, outputs: Any) -> list[Hashable]:
        """Return the keys of the inputs that a part of the outputs depends on."""
        return list(dict.fromkeys(leaf.key for leaf in self._needed(outputs)[1] if isinstance(leaf, Input)))

    def _needed(self, outputs: Any) -> tuple[list[int], list[Any]]:
        """The calls that a part of the outputs rests on, in order, and all that is read."""
        read = _recorded_in(outputs)
        needed: set[int] = set()
        waiting = [leaf.index for leaf in read if isinstance(leaf, CallResult)]
        while waiting:
            index = waiting.pop()
            if index not in needed:
                needed.add(index)
                arguments = _recorded_in((self._calls[index].args, self._calls[index].settings))
                read += arguments
                waiting += [leaf.index for leaf in arguments if isinstance(leaf, CallResult)]
        return sorted(needed), read

    def write(self, outputs: Any, written: Written, inputs: Callable[[Hashable], fx.Node]) -> Any:
        """Write what a part of the outputs rests on, and return this part as nodes."""
        indices, read = self._needed(outputs)
        used = {leaf.name for leaf in read if isinstance(leaf, NamedTensor)}
        nodes: dict[int, fx.Node] = {}

        def node(leaf: Any, second_leaf: Any) -> Any:
            if isinstance(leaf, CallResult):
                return nodes[leaf.index]
            if isinstance(leaf, Input):
                return inputs(leaf.key)
            if isinstance(leaf, NamedTensor):
                return written.get(leaf.name)
            if isinstance(leaf, ConstantTensor):
                return _for_any_rows(leaf.tensor, second_leaf.tensor, written)
            return _number(leaf, second_leaf, written)

        targets = (self._calls[index].target for index in indices)
        called = {target.name: target for target in targets if isinstance(target, UserModule)}
        for name, target in called.items():
            written.attach(name, with_values(target.module, target.values))
        for name in (name for name in self._named if name in used):
            written.attach(name, self._named[name])
        for index in indices:
            call, second_call = self._calls[index], self._calls_on_more_rows[index]
            args = _pairwise(node, call.args, second_call.args)
            settings = _pairwise(node, call.settings, second_call.settings)
            if isinstance(call.target, UserModule):
                # it may write to its input: its copy is its own, and not the one of another module that reads the same
                copies = tuple(written.graph.call_method("clone", (argument,)) for argument in args)
                nodes[index] = written.graph.call_module(call.target.name, copies)
            else:
                nodes[index] = written.call(call.target, *args, **settings)
        return fx.node.map_aggregate(outputs, lambda leaf: node(leaf, leaf))


def _recorded_in(tree: Any) -> list[Any]:
    return [
        leaf for leaf in _leaves(tree) if isinstance(leaf, CallResult | Input | NamedTensor | ConstantTensor)
    ]


def _pairwise(function: Callable[[Any, Any], Any], first: Any, second: Any) -> Any:
    """Return the tree of what a function gives for each leaf of one tree and the same of another."""
    rest = iter(_leaves(second))
    return fx.node.map_aggregate(first, lambda leaf: function(leaf, next(rest)))


def _number(first: Any, second: Any, written: Written) -> Any:
    """An argument that is no tensor, from both recordings."""
    if type(first) is not int or first == second:
        return first
    times, rest = divmod(first, _ROWS[0])
    if rest or second != times * _ROWS[1]:
        raise EngineError(f"{first} of {_ROWS[0]} rows and {second} of {_ROWS[1]} are not multiples of them")
    return written.rows if times == 1 else written.call(operator.mul, written.rows, times)


def _for_any_rows(first: Tensor, second: Tensor, written: Written) -> fx.Node:
    """A constant, from both recordings: one that is the same in all rows is expanded to them."""
    varies = [
        axis for axis, sizes in enumerate(zip(first.shape, second.shape, strict=True)) if sizes == _ROWS
    ]
    alone = first
    for axis in varies:
        alone = alone.narrow(axis, 0, 1)
    if not (torch.equal(alone.expand_as(first), first) and torch.equal(alone.expand_as(second), second)):
        raise EngineError("a constant of a traced computation depends on the number of rows")
    node = written.constant(alone)
    sizes = [written.rows if axis in varies else -1 for axis in range(first.dim())]
    return written.call("expand", node, *sizes) if varies else node
