"""The predictions of a model: which of its outputs, and in which order of their axes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from torch import Tensor, fx

from antiphon.base.errors import ScenarioError, suggest
from antiphon.envs.signal import Signal
from antiphon.scenarios.agent_specs import ObjectiveSpec
from antiphon.splitting.trace import Trace

Shape = tuple[int, ...]
Key = str | int


@dataclass(frozen=True)
class Head:
    """The objective, its target's signal, and what it needs of the output that it is of.

    Attributes:
        output: Its key or index; None: the only one.
        size: Values per sample; None: not known here.
        class_axis: The axis of the classes as given to `split`, counted with the batch; None: known from the sizes.
    """

    output: Key | None
    goal: ObjectiveSpec
    size: int | None
    signal: Signal
    class_axis: int | None = None

    @property
    def target(self) -> str:
        return str(self.goal.target)

    def __str__(self) -> str:
        kind = "floats" if self.signal.classes is None else f"{self.signal.classes} classes"
        return f"'{self.target}' ({kind}, shape {list(self.signal.shape)})"

    @property
    def codes_classes(self) -> bool:
        """Whether the output has a value for each class of its target, whatever its loss makes of them."""
        signal = self.signal
        return signal.classes is not None and self.size == math.prod(signal.shape) * signal.classes

    def order(self, shape: Shape) -> Shape | None:
        """Return the order of a sample's axes in which those of the target come first, and the classes last; None: as they are."""

        def refused(fix: str) -> ScenarioError:
            return ScenarioError(f"forward returns [batch, {str(list(shape))[1:]} for {self}; {fix}")

        sites, classes, axis = self.signal.shape, self.signal.classes, self.class_axis
        if classes is None and len(shape) == len(sites) and shape != sites:
            raise refused("return the target's axes")
        if not self.codes_classes or (len(shape) < 2 and axis is None):
            return None  # floats; or flat, the classes of the first site first
        axes = range(len(shape))
        if axis is not None:
            axis = axis - 1 if axis > 0 else axis + len(shape)
        else:
            fitting = [i for i in axes if shape[i] == classes and shape[:i] + shape[i + 1 :] == sites]
            if len(fitting) > 1:
                given = " or ".join(f"class_axis={i + 1}" for i in fitting)
                raise refused(
                    f"which axis is that of the classes? Give {given} (1 as in torch's cross_entropy)"
                )
            axis = fitting[0] if fitting else axes[-1]  # neighbouring axes of the sites may be one
        if axis not in axes or shape[axis] != classes:
            raise refused(f"return [batch, {classes}, …] or [batch, …, {classes}], or give class_axis")
        return None if axis == axes[-1] else (*(i for i in axes if i != axis), axis)


@dataclass(frozen=True)
class Output:
    """A prediction: its node, its key in what the forward returns (None: it is that), and the order of a sample's axes."""

    node: fx.Node
    key: Key | None
    order: Shape | None

    def of(self, returned: Any) -> Tensor:
        value: Tensor = returned if self.key is None else returned[self.key]
        return value if self.order is None else value.permute(0, *(axis + 1 for axis in self.order))


def prediction_of(trace: Trace, head: Head) -> Output:
    """Return the output that an objective is of; ScenarioError: there is none, or more than one."""
    outputs, output = outputs_of(trace), head.output
    if output is None and len(outputs) > 1:
        raise ScenarioError(
            f"forward returns {_listed(trace)}; give output={next(iter(outputs))!r} or another"
        )
    if isinstance(output, int) and isinstance(trace.returned, dict):  # of a named tuple
        output = [*trace.returned][output] if output < len(trace.returned) else output
    key = next(iter(outputs), None) if output is None else output
    if key not in outputs:
        hint = "" if output is None else suggest(str(output), map(str, outputs))
        asked = "no tensor" if output is None else f"{_listed(trace)}, and output {output!r} is none of these"
        raise ScenarioError(f"forward returns {asked}{hint}")
    shape = tuple(trace.values[outputs[key]].shape[1:])
    if head.size not in (None, math.prod(shape)):
        raise ScenarioError(
            f"forward returns {_listed(trace)}, and the objective needs {head.size} values per sample for {head}"
        )
    return Output(outputs[key], key, head.order(shape))


def outputs_of(trace: Trace) -> dict[Key | None, fx.Node]:
    """Return the tensors that the forward returns, by their keys in what it returns; None: it returns that one."""
    returned = trace.returned
    places: dict[Key | None, Any] = {None: returned}
    if isinstance(returned, dict | tuple | list):
        places = dict(returned) if isinstance(returned, dict) else dict(enumerate(returned))
    return {
        key: node
        for key, node in places.items()
        if isinstance(node, fx.Node) and isinstance(trace.values[node], Tensor)
    }


def _listed(trace: Trace) -> str:
    shapes = {key: list(trace.values[node].shape) for key, node in outputs_of(trace).items()}
    return ", ".join(f"{'a tensor' if key is None else key} {shape}" for key, shape in shapes.items())
