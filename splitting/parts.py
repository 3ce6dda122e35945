"""The parts of a cut model as modules: flat rows in, flat rows out, with copies of the model's submodules."""

from __future__ import annotations

import copy
import math
import operator
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from antiphon.splitting.outputs import Output, Shape
from antiphon.splitting.plan import PartPlan
from antiphon.splitting.trace import Mode, Rows, Trace, own_type


@dataclass(frozen=True)
class Wire:
    """A channel from one part to another; `key` is among those of a pair of parts, and `shared` whether several parts read the message."""

    message: fx.Node
    shape: Shape
    sender: int
    receiver: int
    key: int
    shared: bool


class PartModule(fx.GraphModule):
    """The forward of a part, which copies what it reads, so that its agent need not; `origin`: the model, for `join`."""

    keeps_input = True
    origin: Any = None

    def recompile(self) -> fx.graph.PythonCode:
        code = super().recompile()
        type(self).__call__ = nn.Module.__call__  # type: ignore[method-assign]  # torch.fx's prints a traceback too
        return code


@dataclass(frozen=True)
class ModelPart:
    """One part of a cut model.

    Attributes:
        module: [B, inputs] to [B, outputs]: the arguments that it observes, then its messages; the prediction, then its
            messages. Parameters and buffers have the names that they have in the model.
        observes: The arguments of the model that it reads, in order.
        sends: Its messages, each with the components of one sample.
        predicts: Whether it computes the prediction.
    """

    module: PartModule
    observes: tuple[str, ...]
    reads: tuple[Wire, ...]
    sends: dict[fx.Node, int]
    predicts: bool


def rows(tensors: Sequence[Tensor]) -> Tensor:
    """Return tensors [B, …] side by side, [B, sizes]."""
    return torch.cat([tensor.flatten(1) if tensor.dim() > 1 else tensor[:, None] for tensor in tensors], 1)


class _Mode(nn.Module):
    """One of two plain values: that of training, or that of evaluation."""

    def __init__(self, values: Mode) -> None:
        super().__init__()
        self.values = values

    def forward(self) -> Any:
        return self.values.training if self.training else self.values.evaluation


def build_parts(
    trace: Trace,
    plans: Sequence[PartPlan],
    model: nn.Module,
    names: Sequence[str],
    prediction: Output,
) -> list[ModelPart]:
    """Build the modules of a plan, with copies of the model's submodules that share its parameters.

    Channels are in the order of their senders' and their receivers' names and of their keys.
    """
    wires = _wires(trace, plans, names)
    return [
        _built(
            trace,
            plan,
            model,
            [wire for wire in wires if wire.receiver == number],
            {wire.message: math.prod(wire.shape) for wire in wires if wire.sender == number},
            prediction,
        )
        for number, plan in enumerate(plans)
    ]


def _wires(trace: Trace, plans: Sequence[PartPlan], names: Sequence[str]) -> list[Wire]:
    sender = {message: number for number, plan in enumerate(plans) for message in plan.sends}
    readers = Counter(message for plan in plans for message in plan.reads)
    wires = []
    for number, plan in enumerate(plans):
        keys: Counter[int] = Counter()
        for message in plan.reads:
            shape, source = trace.sample_shape(message), sender[message]
            wires.append(Wire(message, shape, source, number, keys[source], readers[message] > 1))
            keys[source] += 1
    return sorted(wires, key=lambda wire: (names[wire.sender], names[wire.receiver], wire.key))


def _built(
    trace: Trace,
    plan: PartPlan,
    model: nn.Module,
    reads: Sequence[Wire],
    sends: dict[fx.Node, int],
    prediction: Output,
) -> ModelPart:
    root = copy.deepcopy(model, {id(p): p for p in model.parameters()})
    for name in {
        str(node.target).partition(".")[0] for node in plan.nodes if node.op in ("get_attr", "call_module")
    }:
        if not hasattr(root, name):  # a constant or an autograd function of the forward
            setattr(root, name, getattr(trace.root, name))
    dtype = own_type(model)
    graph, values = fx.Graph(), dict[fx.Node, fx.Node]()
    x = graph.placeholder("x")

    def argument(value: Any) -> Any:
        if isinstance(value, fx.Node):
            return values[value]
        if isinstance(value, Rows):
            return graph.call_function(operator.mul, (graph.call_method("size", (x, 0)), value.times))
        if isinstance(value, torch.device):
            return graph.call_function(getattr, (x, "device"))
        if value is dtype:
            return graph.call_function(getattr, (x, "dtype"))
        if isinstance(value, Mode):
            root.add_module(name := f"_mode{len(graph.nodes)}", _Mode(value))
            return graph.call_module(name)
        if isinstance(value, slice):
            return slice(argument(value.start), argument(value.stop), argument(value.step))
        if isinstance(value, tuple | list):
            return type(value)(map(argument, value))
        return {key: argument(item) for key, item in value.items()} if isinstance(value, dict) else value

    sources = [*plan.observes, *(wire.message for wire in reads)]
    sizes = [math.prod(trace.sample_shape(node)) for node in sources]
    pieces = graph.call_function(torch.split, (x, sizes, 1))
    for number, node in enumerate(sources):
        piece, shape = graph.call_function(operator.getitem, (pieces, number)), trace.sample_shape(node)
        method, axes = ("reshape", (-1, *shape)) if shape else ("select", (1, 0))
        piece = graph.call_method(method, (piece, *axes))
        # a copy, contiguous for kernels that round by it, to which the part may write in place
        piece = graph.call_method("clone", (piece,), {"memory_format": torch.contiguous_format})
        read = trace.values[node]
        values[node] = piece if read.is_floating_point() else graph.call_method("to", (piece, read.dtype))
    for node in plan.nodes:
        args, kwargs = map(argument, trace.arguments[node])
        values[node] = graph.create_node(node.op, node.target, args, kwargs, name=node.name)
    columns = []
    for node in [*plan.predictions, *sends]:
        column = values[node]
        if node in plan.predictions and prediction.order is not None:
            column = graph.call_method("permute", (column, 0, *(axis + 1 for axis in prediction.order)))
        how = "flatten" if trace.values[node].dim() > 1 else "unsqueeze"
        columns.append(graph.call_method(how, (column, 1)))
    graph.output(graph.call_function(torch.cat, (columns, 1)))
    module = PartModule(root, graph)
    observes = tuple(str(node.target) for node in plan.observes)
    return ModelPart(module.train(), observes, tuple(reads), sends, bool(plan.predictions))
