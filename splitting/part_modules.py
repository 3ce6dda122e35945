"""The parts of a cut model as modules: flat rows in, flat rows out, with copies of the model's submodules."""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from keyword import iskeyword
from typing import Any

import torch
from torch import Tensor, fx, nn

from antiphon.base.errors import ScenarioError
from antiphon.nets.user_modules import cast, copied, hold_mode, own_type, set_mode, set_type
from antiphon.splitting.cut_plan import (
    BatchMultiple,
    CrossingTensor,
    CutPlan,
    PartPlan,
    at_path,
    plain_shape,
    plain_size,
)
from antiphon.splitting.graph import ModelGraph

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Wire:
    """A channel from one part to another.

    Attributes:
        message: What it carries.
        key: Distinguishes the channels of one pair of parts.
        port: What the channels of one message share, where it has several readers.
    """

    message: CrossingTensor
    receiver: int
    key: int
    port: str | None


class _PartModule(fx.GraphModule):
    """A part's module, which fails as any other does: torch.fx prints a traceback too, also of trial calls."""

    keeps_input: bool
    origin: Any
    """What `join` begins with."""
    own_type: torch.dtype

    def recompile(self) -> fx.graph.PythonCode:
        code = super().recompile()
        type(self).__call__ = nn.Module.__call__  # type: ignore[method-assign]
        return code


@cache
def _taken() -> frozenset[str]:
    """The names of what every part has beside the attributes of a module."""
    having = {*dir(_PartModule(nn.Module(), fx.Graph())), *_PartModule.__annotations__}
    return frozenset(having - {*dir(nn.Module())})


@dataclass(frozen=True)
class ModelPart:
    """One part of a cut model.

    Attributes:
        module: [B, inputs] to [B, outputs]: the model's argument that it observes, then its messages; its predictions,
            then its messages. Parameters and buffers have the names that they have in the model.
        observes: The arguments of the model that it reads, in order.
        shapes: Of one sample of each input.
        predictions: Which of the predictions it computes, in order.
    """

    module: fx.GraphModule
    observes: tuple[str, ...]
    shapes: tuple[Shape, ...]
    reads: tuple[Wire, ...]
    sends: tuple[CrossingTensor, ...]
    predictions: tuple[int, ...]


def _wires_of(plan: CutPlan, names: Sequence[str]) -> list[Wire]:
    """Return the channels of a plan in canonical order: by the sender's name, the receiver's and the key."""
    readers: dict[CrossingTensor, int] = {}
    for part in plan.parts:
        for message in part.reads:
            readers[message] = readers.get(message, 0) + 1
    wires = []
    for number, part in enumerate(plan.parts):
        keys: dict[int, int] = {}
        for message in part.reads:
            key = keys.get(message.sender, 0)
            keys[message.sender] = key + 1
            wires.append(Wire(message, number, key, message.name if readers[message] > 1 else None))
    return sorted(wires, key=lambda w: (names[w.message.sender], names[w.receiver], w.key))


def build_parts(
    trace: ModelGraph,
    plan: CutPlan,
    model: nn.Module,
    names: Sequence[str],
    axes: Sequence[Sequence[int] | None],
) -> list[ModelPart]:
    """Build the modules of a plan.

    Args:
        model: The model whose submodules are copied, once for each part; the copies share its parameters.
        axes: Of each prediction, the order in which the axes of a sample are given out; None: as they are.

    Raises:
        ScenarioError: A submodule or parameter has the name of an attribute of every part.
    """
    wires = _wires_of(plan, names)
    return [
        _PartGraphBuilder(trace, plan, part, number, wires).build(
            model, names[number], [axes[i] for i in part.predictions]
        )
        for number, part in enumerate(plan.parts)
    ]


class _PartGraphBuilder:
    """Builds one part's graph."""

    def __init__(
        self,
        trace: ModelGraph,
        plan: CutPlan,
        part: PartPlan,
        number: int,
        wires: Sequence[Wire],
    ) -> None:
        self.trace, self.part = trace, part
        self.own_type = own_type(trace.root)
        self.normalises_groups = any(
            isinstance(module, nn.GroupNorm)
            for node in part.nodes
            if node.op == "call_module"
            for module in trace.root.get_submodule(str(node.target)).modules()
        )
        self.reads = tuple(wire for wire in wires if wire.receiver == number)
        sent = (wire.message for wire in wires if wire.message.sender == number)
        self.sends = tuple(dict.fromkeys(sent))
        self.predictions = [plan.predictions[i] for i in part.predictions]
        self.graph = fx.Graph()
        self.x = self.graph.placeholder("x")
        self.values: dict[fx.Node, Any] = {}
        self._rows: fx.Node | None = None

    def build(self, model: nn.Module, name: str, axes: Sequence[Sequence[int] | None]) -> ModelPart:
        nodes = {str(node.target): node for node in self.trace.facts if node.op == "placeholder"}
        observed = [nodes[argument] for argument in self.part.observes]
        shapes = [tuple(self.trace.facts[node].value.shape[1:]) for node in observed]
        shapes += [wire.message.shape for wire in self.reads]
        self._inputs(observed, shapes)
        for node in self.part.nodes:
            typed = self.trace.facts[node].typed

            def of(n: fx.Node, typed: Any = typed) -> Any:
                return self._value(n, typed=n in typed)

            args, kwargs = fx.node.map_arg((node.args, node.kwargs), of)
            self.values[node] = self.graph.create_node(node.op, node.target, args, kwargs, name=node.name)
        self._outputs(axes)
        targets = list(
            dict.fromkeys(str(n.target) for n in self.part.nodes if n.op in ("call_module", "get_attr"))
        )
        for target in targets:
            items = target.split(".")
            if (first := items[0]) in _taken():
                raise ScenarioError(
                    f"'{first}' is an attribute that every part has of its own (of torch.fx.GraphModule); give the model's "
                    "another name"
                )
            if word := next((item for item in items if iskeyword(item) or set(item) & {'"', "\\"}), None):
                raise ScenarioError(
                    f"'{target}' has {word!r} in its name, which cannot stand in the code that torch.fx writes of a part; give "
                    "the model's another name"
                )
        module = _PartModule(_copies(targets, model, self.trace.root), self.graph, class_name=name)
        _keep_modes(module, model)
        set_type(module, own_type(model))
        cast(module, own_type(model))  # complex parameters too
        module.keeps_input = True  # it copies what it reads
        predictions = tuple(self.part.predictions)
        return ModelPart(
            module, tuple(self.part.observes), tuple(shapes), self.reads, self.sends, predictions
        )

    def _inputs(self, observed: Sequence[fx.Node], shapes: Sequence[Shape]) -> None:
        sizes = [math.prod(shape) for shape in shapes]
        pieces: list[fx.Node] = [self.x]
        if len(sizes) > 1:
            split_input = self.graph.call_function(torch.split, (self.x, sizes, 1))
            pieces = [self.graph.call_function(operator.getitem, (split_input, i)) for i in range(len(sizes))]
        by_message: dict[CrossingTensor, fx.Node] = {}
        sources: list[fx.Node | CrossingTensor] = [*observed, *(wire.message for wire in self.reads)]
        for source, shape, piece in zip(sources, shapes, pieces, strict=True):
            value = piece
            if not shape:
                value = self.graph.call_method("select", (piece, 1, 0))
            elif len(shape) > 1:
                value = self.graph.call_method("unflatten", (piece, 1, shape))
            # Kernels round differently for rows that are apart, and the part may write to it in place.
            value = self.graph.call_method("clone", (value,))
            node = source.node if isinstance(source, CrossingTensor) else source
            example = self.trace.facts[node].value
            if isinstance(source, CrossingTensor):
                value = self._in_memory_as(value, at_path(example, source.path))
            elif not example.is_floating_point():
                value = self.graph.call_method("to", (value, example.dtype))
            if isinstance(source, CrossingTensor):
                by_message[source] = value
            else:
                self.values[node] = value
        for message in by_message:
            whole_value = self.trace.facts[message.node].value
            self.values[message.node] = _rebuilt(message.node, whole_value, by_message)

    def _in_memory_as(self, value: fx.Node, example: Tensor) -> fx.Node:
        """A message with its axes in the order in memory that they have in the model: kernels round by it.

        Not before a group norm: on a CPU, its backward in torch 2.13 ends the process where channels are last and no gradient of
        the message is needed.
        """
        order = sorted(range(example.dim()), key=example.stride, reverse=True)
        dense = example.permute(order).is_contiguous()
        if example.is_contiguous() or not dense or order[0] != 0 or self.normalises_groups:
            return value
        back = [order.index(axis) for axis in range(example.dim())]
        held = self.graph.call_method("contiguous", (self.graph.call_method("permute", (value, order)),))
        return self.graph.call_method("permute", (held, back))

    def _value(self, node: fx.Node, *, typed: bool = False) -> Any:
        """What stands for a node of the trace in this part; `typed`: where its size and type alone are read."""
        if node not in self.values and typed:
            example = self.trace.facts[node].value
            shape = self._plain(plain_shape(self.trace, node))
            keywords = {} if example.dtype is self.own_type else {"dtype": example.dtype}
            return self.graph.call_method("new_zeros", (self.x, shape), keywords)
        if node not in self.values:
            return self._plain(plain_size(self.trace, node))
        return self.values[node]

    def _plain(self, value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(self._plain(item) for item in value)
        if isinstance(value, torch.device):
            return self.graph.call_function(getattr, (self.x, "device"))
        if value is self.own_type:
            return self.graph.call_function(getattr, (self.x, "dtype"))
        if value is self.own_type.to_complex():
            return self.graph.call_method(
                "to_complex", (self.graph.call_function(getattr, (self.x, "dtype")),)
            )
        if not isinstance(value, BatchMultiple):
            assert value is not NotImplemented
            return value
        if self._rows is None:
            self._rows = self.graph.call_method("size", (self.x, 0))
        return self.graph.call_function(operator.mul, (self._rows, value.times))

    def _outputs(self, axes: Sequence[Sequence[int] | None]) -> None:
        returned: list[tuple[Any, Tensor]] = []
        for (node, path), order in zip(self.predictions, axes, strict=True):
            value, example = self._at(self.values[node], path), at_path(self.trace.facts[node].value, path)
            if order is not None:
                value = self.graph.call_method("permute", (value, 0, *(axis + 1 for axis in order)))
            returned.append((value, example))
        for message in self.sends:
            example = at_path(self.trace.facts[message.node].value, message.path)
            returned.append((self._at(self.values[message.node], message.path), example))
        flat = [self._flat(value, example.dim()) for value, example in returned]
        self.graph.output(flat[0] if len(flat) == 1 else self.graph.call_function(torch.cat, (flat, 1)))

    def _at(self, value: Any, path: tuple[Any, ...]) -> Any:
        for key in path:
            if isinstance(value, fx.Node):
                value = self.graph.call_function(operator.getitem, (value, key))
            else:
                value = value[key]
        return value

    def _flat(self, value: Any, axes: int) -> Any:
        if axes == 2:
            return value
        return self.graph.call_method("flatten" if axes > 2 else "unsqueeze", (value, 1))


def _rebuilt(
    node: fx.Node, value: Any, by_message: Mapping[CrossingTensor, fx.Node], path: tuple[Any, ...] = ()
) -> Any:
    """A value of nested tuples, lists and dicts with the messages in place of its tensors."""
    if isinstance(value, dict):
        return {key: _rebuilt(node, item, by_message, (*path, key)) for key, item in value.items()}
    if isinstance(value, tuple | list):
        items = [_rebuilt(node, item, by_message, (*path, i)) for i, item in enumerate(value)]
        return items if isinstance(value, list) else tuple(items)
    if not isinstance(value, Tensor):
        return value
    return next(
        piece for message, piece in by_message.items() if (message.node, message.path) == (node, path)
    )


def _keep_modes(part: nn.Module, model: nn.Module) -> None:
    """Give submodules of a part the modes that they have in a model, whose own `train` may choose them, and set training."""
    modes = [(module, module.training) for module in model.modules()]
    inside = dict(part.named_modules())
    for training in (False, True):
        modes_in_model = {path: module.training for path, module in set_mode(model, training).named_modules()}
        set_mode(part, training)
        for path in inside.keys() & modes_in_model.keys() - {""}:
            if inside[path].training is not modes_in_model[path]:
                hold_mode(inside[path], training, modes_in_model[path])
    set_mode(part, True)
    for module, mode in modes:
        module.training = mode


def _copies(targets: Sequence[str], model: nn.Module, root: nn.Module) -> dict[str, Any]:
    """Copies of submodules and buffers, with the model's own parameters: agents that are built from them copy those."""
    attributes = {target: _attribute(model, target, root) for target in targets}
    held = [attribute for attribute in attributes.values() if isinstance(attribute, nn.Parameter)]
    held += [
        p
        for attribute in attributes.values()
        if isinstance(attribute, nn.Module)
        for p in attribute.parameters()
    ]
    return copied(attributes, held)


def _attribute(model: nn.Module, target: str, root: nn.Module) -> Any:
    """What a model has at a dotted name; what it has not, such as a constant, the root of its trace has."""
    try:
        return operator.attrgetter(target)(model)
    except AttributeError:
        return operator.attrgetter(target)(root)
