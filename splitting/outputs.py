"""The predictions of a model: which of its outputs, and in which order of their axes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

from torch import Tensor, fx, nn

from antiphon.base.errors import ScenarioError
from antiphon.base.nearest_names import suggest
from antiphon.envs.signal import Signal
from antiphon.nets import modules
from antiphon.nets.user_modules import hooked, probe_of
from antiphon.splitting.cut_plan import Place, at_path, leaves
from antiphon.splitting.graph import ModelGraph, as_dict, call_model, in_own_type, own_copies

Shape = tuple[int, ...]
_ONLY = "a tensor"
_ONE_OUTPUT = "; leave output out: it chooses among several, and the target is named by objective"


@dataclass(frozen=True)
class RequiredOutput:
    """What an objective needs of an output.

    Attributes:
        size: Values per sample; None: not known here.
        class_axis: The axis of the classes as given to `split`, counted with the batch; None: known from the sizes.
        loss: The name of a loss of the user's own that does not say how many values it reads; empty: it is none.
    """

    size: int | None
    target: str
    signal: Signal
    class_axis: int | None = None
    loss: str = ""

    def __str__(self) -> str:
        kind = "floats" if self.signal.classes is None else f"{self.signal.classes} classes"
        return f"'{self.target}' ({kind}, shape {list(self.signal.shape)})"

    @property
    def codes_classes(self) -> bool:
        """Whether the output has a value for each class of its target, whatever its loss makes of them."""
        signal = self.signal
        return signal.classes is not None and self.size == math.prod(signal.shape) * signal.classes

    def axes_for(self, shape: Shape, name: str = _ONLY) -> Shape | None:
        """Return the order of a prediction's axes in which it has those of the target, and the classes last; None: its own.

        Axes of length 1 do not count, and neighbours may be flattened into one: their order in memory is the same.

        Args:
            shape: Of a sample of the prediction.

        Raises:
            ScenarioError: The axes are not those of the target, or the classes may be several of them.
        """
        signal, classes = self.signal, self.signal.classes
        if self.class_axis is not None and classes is None:
            raise ScenarioError(f"class_axis: the target {self} has no classes; leave it out")
        if self.size != math.prod(signal.shape) * (classes or 1):
            return None  # an objective with outputs of its own
        described = f"{name} [batch, {str(list(shape))[1:]}"
        if classes is None:
            if not _alike(shape, signal.shape):
                raise ScenarioError(
                    f"forward returns {described} for {self}: as many values in other axes; return them in the target's order"
                    f"{_moved(shape, signal.shape)}"
                )
            return None
        if max(shape, default=1) == math.prod(shape) and self.class_axis is None:
            return None  # flat: the classes of the first site first
        orders = self._orders(shape)
        if self.class_axis is not None:
            axis = self.class_axis - 1 if self.class_axis > 0 else self.class_axis + len(shape)
            if axis not in orders:
                fitting = " or ".join(str(axis + 1) for axis in orders) or "no axis"
                raise ScenarioError(
                    f"class_axis={self.class_axis}: forward returns {described}, where {fitting} fits {self}"
                )
            return orders[axis]
        orders = {axis: orders[axis] for axis in (0, len(shape) - 1) if axis in orders} or orders
        if len(set(orders.values())) > 1:
            axes = " or ".join(f"class_axis={axis + 1}" for axis in orders)
            raise ScenarioError(
                f"forward returns {described} for {self}, and the sizes do not show which axis is that of the classes; give {axes} "
                "(cross_entropy of torch has them second: 1)"
            )
        if not orders:
            sites = ", ".join(map(str, signal.shape))
            raise ScenarioError(
                f"forward returns {described} for {self}: as many values in other axes; return [batch, {classes}, {sites}] or "
                f"[batch, {sites}, {classes}]"
            )
        return next(iter(orders.values()))

    def _orders(self, shape: Shape) -> dict[int, Shape | None]:
        """By the axis that may be that of the classes, the order of a sample's axes in which it is last; None: it is."""
        classes, sites = self.signal.classes or 1, self.signal.shape
        axes = range(len(shape))
        orders: dict[int, Shape | None] = {}
        for axis in axes:
            rest = tuple(other_axis for other_axis in axes if other_axis != axis)
            if shape[axis] == classes and _alike(tuple(shape[other_axis] for other_axis in rest), sites):
                behind = math.prod(shape[axis + 1 :]) == 1
                orders[axis] = None if behind else (*rest, axis)
        if self.class_axis is None and _alike(shape, (*sites, classes)):
            orders.setdefault(len(shape) - 1, None)
        return orders


def _alike(shape: Shape, second: Shape) -> bool:
    """Whether two shapes hold the same values in the same order: equal, or neighbours of one are flattened in the other."""
    fewer, more = sorted((tuple(n for n in sizes if n != 1) for sizes in (shape, second)), key=len)
    ends, fewer_ends = (list(itertools.accumulate(sizes, int.__mul__)) for sizes in (more, fewer))
    return set(fewer_ends) <= set(ends) and ends[-1:] == fewer_ends[-1:]


def _moved(shape: Shape, target: Shape) -> str:
    """How a prediction gets the axes of its target, where its channels are at the other end; "": otherwise."""
    moves = {(*shape[1:], *shape[:1]): "x.movedim(1, -1)", (*shape[-1:], *shape[:-1]): "x.movedim(-1, 1)"}
    return f", such as {moves[target]}" if target in moves else ""


def prediction_of(
    trace: ModelGraph, output: str | int | None, required: RequiredOutput | None = None
) -> Place:
    """Return the output that is the prediction: its node, and the place in that node's value.

    Args:
        output: Its key or index; None: the only one.
        required: What the objective needs; None: anything.

    Raises:
        ScenarioError: There is none, or more than one; the line lists the outputs.
    """
    outputs, size = outputs_of(trace), None if required is None else required.size
    if output is not None:
        return outputs[_chosen(trace, outputs, output, "output", size)]
    fitting = [path for path, place in outputs.items() if _fits(trace, place, size)]
    if not fitting:
        needs = "" if size is None else f"; the objective needs {size} values per sample for {required}"
        if required is not None and required.loss:
            needs += (
                f"; if {required.loss} reads others, make it a class with a method size(self, shape, classes)"
            )
        elif required is not None and len(outputs) == 1:
            needs += _fix_of_size(_shape(trace, *outputs.values()), required)
        if loss_among(trace, (), (), frozenset()) is not None:
            needs += "; a loss that forward computes is not used: return the prediction, and give the loss as `objective`"
        raise ScenarioError(
            f"forward returns {_listed(trace, outputs)}{needs}; an output is a float tensor [batch, …]"
        )
    if len(outputs) > 1:
        entries = ", ".join(f"{_key(path)!r}: …" for path in outputs)
        raise ScenarioError(
            f"forward returns {_listed(trace, outputs)}; give output={_key(fitting[0])!r} to keep only that one, or "
            f"objectives={{{entries}}} with one for each (None drops it)"
        )
    return outputs[fitting[0]]


def _fix_of_size(shape: list[int], required: RequiredOutput) -> str:
    """What to do about an output with the sites of its target, and more or fewer values at each; "": it has others."""
    signal = required.signal
    sites, size = (
        (signal.shape, signal.classes) if signal.classes else (signal.shape[:-1], (1, *signal.shape)[-1])
    )
    if (
        len(shape) < 2
        or shape[1:] == [*sites, size]
        or shape[1:-1] != list(sites)
        or required.size != math.prod(sites) * size
    ):
        return ""
    if signal.classes and shape[-1] > size:
        return f"; if there are more classes, give the data classes={{{required.target!r}: {shape[-1]}}}"
    return f"; give the last layer {size} outputs"


def predictions_of(
    trace: ModelGraph, outputs: Mapping[str | int | None, RequiredOutput], dropped: Sequence[str | int]
) -> list[Place]:
    """Return several outputs, as `prediction_of` does one.

    Args:
        outputs: By key or index, what the output's objective needs.

    Raises:
        ScenarioError: One is none of the forward's, or is named twice, or some are left out; the line lists the outputs.
    """
    returned = outputs_of(trace)
    paths = [
        _chosen(trace, returned, output, "objectives", required.size) for output, required in outputs.items()
    ]
    paths += [_chosen(trace, returned, output, "objectives", None) for output in dropped]
    names = [*outputs, *dropped]
    twice = [output for output, path in zip(names, paths, strict=True) if paths.count(path) > 1]
    if twice:
        raise ScenarioError(f"objectives: {twice[0]!r} and {twice[1]!r} are one output; name it once")
    unused = [_key(path) for path in returned if path not in paths]
    if unused:
        listed = _listed(trace, returned)
        raise ScenarioError(
            f"objectives: forward returns {listed}, and {unused[0]!r} has no objective; write {{{unused[0]!r}: None}} to drop it"
        )
    return [returned[path] for path in paths[: len(outputs)]]


def outputs_of(trace: ModelGraph) -> dict[tuple[Any, ...], Place]:
    """Return the tensors that the forward returns, by their places in what it returns."""
    fields = _fields(trace)
    places = _places(trace, _returned(trace))
    return {((fields[path[0]], *path[1:]) if fields else path): place for path, place in places}


def _returned(trace: ModelGraph) -> Any:
    """What the forward returns, of nodes."""
    return next(node for node in trace.graph.nodes if node.op == "output").args[0]


def _fields(trace: ModelGraph) -> tuple[str, ...]:
    """The names of what a forward returns as a named tuple; (): it returns something else."""
    returned = _returned(trace)
    named = trace.facts[returned].value if isinstance(returned, fx.Node) else returned
    return getattr(named, "_fields", ()) if isinstance(named, tuple) else ()


def _by_name(trace: ModelGraph, output: str | int | None) -> str | int | None:
    """The key of an output, also where it is an index of a named tuple."""
    fields = _fields(trace)
    return fields[output] if isinstance(output, int) and -1 < output < len(fields) else output


@dataclass(frozen=True)
class ReturnedLoss:
    """A loss among the outputs of a model.

    Attributes:
        key: Its key or index.
        of_target: Whether it is computed from a target, and not of what the model keeps to itself alone.
    """

    key: str | int
    of_target: bool


def loss_among(
    trace: ModelGraph, predictions: Sequence[Place], dropped: Sequence[str | int], targets: AbstractSet[str]
) -> ReturnedLoss | None:
    """Return an output that is a loss and is neither kept nor dropped by name; None: there is none.

    A loss is one number that depends on the parameters and on the data, is called one, or is one number per sample that is
    computed from a target.

    Args:
        targets: Arguments of the model that are targets of objectives.
    """
    names = {_by_name(trace, output) for output in dropped}
    for path, (node, inside) in outputs_of(trace).items():
        value = at_path(trace.facts[node].value, inside)
        named = "loss" in _name(path).lower() and value.dim() < 2
        learnt = value.is_floating_point() and "parameter" in trace.facts[node].depends
        if (node, inside) in predictions or _key(path) in names or not learnt:
            continue
        number = value.numel() == 1 and "input" in trace.facts[node].depends
        of_target = bool(targets & _arguments_of(node))
        if named or number or (value.dim() == 1 and of_target):
            return ReturnedLoss(_key(path), of_target)
    return None


def loss_left(model: nn.Module, trace: ModelGraph, example: Mapping[str, Any]) -> str | None:
    """Return the first attribute in which a forward leaves a loss; None: there is none. See `antiphon.nets.modules.loss_left`.

    Args:
        model: A copy of it is called once, in training.
    """
    root = in_own_type(probe_of(model, hooked(trace.root)))
    return modules.loss_left(root, lambda: as_dict(call_model(root, own_copies(example))))


def divided_again(trace: ModelGraph, signals: Mapping[str, Signal]) -> str | None:
    """Return the first argument of pictures, which enter in [0, 1], that a forward divides by 255; None: there is none.

    Args:
        signals: By argument of the model.
    """
    for node in trace.graph.nodes:
        name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
        if not name.startswith(("div", "true_div", "truediv", "itruediv")) or len(node.args) < 2:
            continue
        divided, divisor = node.args[:2]
        while isinstance(divided, fx.Node) and divided.op == "call_method":  # .float(), .permute(…)
            divided = divided.args[0]
        if divisor in (255, 256) and isinstance(divided, fx.Node) and divided.op == "placeholder":
            signal = signals.get(str(divided.target))
            if signal is not None and signal.classes is None and (signal.low, signal.high) == (0, 1):
                return str(divided.target)
    return None


def _arguments_of(node: fx.Node) -> set[str]:
    waiting, seen = [node], set[fx.Node]()
    while waiting:
        current = waiting.pop()
        if current not in seen:
            seen.add(current)
            waiting += current.all_input_nodes
    return {str(node.target) for node in seen if node.op == "placeholder"}


def _chosen(
    trace: ModelGraph,
    outputs: dict[tuple[Any, ...], Place],
    output: str | int | None,
    argument: str,
    size: int | None,
) -> tuple[Any, ...]:
    key = _by_name(trace, output)
    chosen = [path for path in outputs if path[:1] == (key,) or _name(path) == key]
    if len(chosen) != 1:
        names = [_name(path) for path in outputs]
        hint = _ONE_OUTPUT if names == [_ONLY] else suggest(str(output), names)
        listed = _listed(trace, outputs)
        raise ScenarioError(f"{argument}: {output!r} is no tensor that forward returns ({listed}){hint}")
    if size is not None and not _fits(trace, outputs[chosen[0]], size):
        shape = _shape(trace, outputs[chosen[0]])
        needs = f"its objective needs a float tensor [batch, …] of {size} values per sample; name another, or change the objective"
        raise ScenarioError(f"{argument}: {output!r} is {shape}, and {needs}")
    return chosen[0]


def _listed(trace: ModelGraph, outputs: dict[tuple[Any, ...], Place]) -> str:
    shapes = (f"{_name(path)} {_shape(trace, place)}" for path, place in outputs.items())
    return ", ".join(shapes) or "no tensor"


def _key(path: tuple[Any, ...]) -> str | int:
    return path[0] if len(path) == 1 else _name(path)


def _places(trace: ModelGraph, value: Any) -> Iterator[tuple[tuple[Any, ...], Place]]:
    for path, item in leaves(value):
        if isinstance(item, fx.Node):
            for more, leaf in leaves(trace.facts[item].value):
                if isinstance(leaf, Tensor):
                    yield (*path, *more), (item, more)


def _fits(trace: ModelGraph, place: Place, size: int | None) -> bool:
    value, smaller = (
        at_path(held, place[1]) for held in (trace.facts[place[0]].value, trace.smaller[place[0]])
    )
    batch, fewer = trace.batches
    if not value.is_floating_point() or not value.dim() or len(value) != batch or len(smaller) != fewer:
        return False
    return size is None or value[0].numel() == size


def _name(path: tuple[Any, ...]) -> str:
    return ".".join(map(str, path)) or _ONLY


def _shape(trace: ModelGraph, place: Place) -> list[int]:
    return list(at_path(trace.facts[place[0]].value, place[1]).shape)
