"""The prediction of a model: which of its outputs, and in which order of its axes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor, fx

from antiphon.engine.split.graph import Trace
from antiphon.engine.split.plan import at_path, leaves
from antiphon.envs.signal import Signal
from antiphon.errors import ScenarioError, suggest

__all__ = ["axes_for", "prediction_of"]

Place = tuple[fx.Node, tuple[Any, ...]]
_ONLY = "a tensor"


def prediction_of(
    trace: Trace, output: str | int | None, size: int | None, target: tuple[str, Signal] | None = None
) -> Place:
    """Return the output that is the prediction: its node, and the place in that node's value.

    Args:
        trace: Of the model.
        output: Its key or index; None: the only float output of the size that the objective needs, or that is called
            `logits`.
        size: What the objective needs; None: any.
        target: Of the objective, with its name, for the error.

    Raises:
        ScenarioError: There is none, or more than one; the line lists the outputs.
    """
    returned = next(node for node in trace.graph.nodes if node.op == "output").args[0]
    found = dict(_places(trace, returned))
    shown = ", ".join(f"{_name(path)} {_shape(trace, place)}" for path, place in found.items()) or "no tensor"
    if output is not None:
        chosen = [path for path in found if path[:1] == (output,) or _name(path) == output]
        if len(chosen) != 1:
            names = [_name(path) for path in found]
            hint = "; leave output out" if names == [_ONLY] else suggest(str(output), names)
            raise ScenarioError(f"output: {output!r} is no tensor that forward returns ({shown}){hint}")
        return found[chosen[0]]
    fitting = [path for path, place in found.items() if _fits(trace, place, size)]
    if len(fitting) > 1:
        fitting = [path for path in fitting if "logits" in path] or fitting
    if len(fitting) != 1:
        needs = "" if size is None else f", of which the objective needs {size} numbers a sample{_of(target)}"
        fix = "output=… chooses one" if fitting else "an output is a float tensor [batch, …]"
        raise ScenarioError(f"forward returns {shown}{needs}; {fix}")
    return found[fitting[0]]


def axes_for(shape: tuple[int, ...], target: tuple[int, ...], classes: int | None) -> tuple[int, ...] | None:
    """Return the order of a prediction's axes in which the classes are last; None: they are.

    Args:
        shape: Of a sample of the prediction: `[*sites, classes]`, or `[classes, *sites]` as torch's losses take it.
        target: Shape of a sample of the target, its sites.
        classes: Of the target; None: floats.
    """
    first = classes is not None and len(target) > 0 and shape == (classes, *target)
    last = classes is not None and shape == (*target, classes)
    if not first or (last and len(target) == 1):
        return None
    return (*range(1, len(shape)), 0)


def _places(trace: Trace, value: Any) -> Iterator[tuple[tuple[Any, ...], Place]]:
    for path, item in leaves(value):
        if isinstance(item, fx.Node):
            for more, leaf in leaves(trace.facts[item].value):
                if isinstance(leaf, Tensor):
                    yield (*path, *more), (item, more)


def _fits(trace: Trace, place: Place, size: int | None) -> bool:
    value, other = (at_path(held, place[1]) for held in (trace.facts[place[0]].value, trace.other[place[0]]))
    batch, fewer = trace.batches
    if not value.is_floating_point() or not value.dim() or len(value) != batch or len(other) != fewer:
        return False
    return size is None or value[0].numel() == size


def _of(target: tuple[str, Signal] | None) -> str:
    if target is None:
        return ""
    name, signal = target
    kind = "floats" if signal.classes is None else f"{signal.classes} classes"
    return f" for '{name}' ({kind}, shape {list(signal.shape)})"


def _name(path: tuple[Any, ...]) -> str:
    return ".".join(map(str, path)) or _ONLY


def _shape(trace: Trace, place: Place) -> list[int]:
    return list(at_path(trace.facts[place[0]].value, place[1]).shape)
