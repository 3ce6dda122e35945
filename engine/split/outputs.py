"""The predictions of a model: which of its outputs, and in which order of their axes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor, fx

from antiphon.engine.split.graph import Trace
from antiphon.engine.split.plan import Place, at_path, leaves
from antiphon.envs.signal import Signal
from antiphon.errors import ScenarioError, suggest

__all__ = ["axes_for", "outputs_of", "prediction_of", "predictions_of"]

_ONLY = "a tensor"


def prediction_of(
    trace: Trace, output: str | int | None, size: int | None, target: tuple[str, Signal] | None = None
) -> Place:
    """Return the output that is the prediction: its node, and the place in that node's value.

    Args:
        trace: Of the model.
        output: Its key or index; None: the only one.
        size: What the objective needs; None: any.
        target: Of the objective, with its name, for the error.

    Raises:
        ScenarioError: There is none, or more than one; the line lists the outputs.
    """
    found = outputs_of(trace)
    if output is not None:
        return found[_chosen(trace, found, output, "output", size)]
    fitting = [path for path, place in found.items() if _fits(trace, place, size)]
    if not fitting:
        needs = "" if size is None else f"; the objective needs {size} values per sample{_of(target)}"
        raise ScenarioError(
            f"forward returns {_listed(trace, found)}{needs}; an output is a float tensor [batch, …]"
        )
    if len(found) > 1:
        each = ", ".join(f"{_key(path)!r}: …" for path in found)
        raise ScenarioError(
            f"forward returns {_listed(trace, found)}; give output={_key(fitting[0])!r} to keep only that one, or "
            f"objectives={{{each}}} with one for each (None drops it)"
        )
    return found[fitting[0]]


def predictions_of(
    trace: Trace, outputs: Mapping[str | int | None, int | None], dropped: Sequence[str | int]
) -> list[Place]:
    """Return several outputs, as `prediction_of` does one.

    Args:
        trace: Of the model.
        outputs: By key or index, the size that the output's objective needs; None: any.
        dropped: Those that have no objective.

    Raises:
        ScenarioError: One is none of the forward's, or is named twice, or some are left out; the line lists the outputs.
    """
    found = outputs_of(trace)
    paths = [_chosen(trace, found, output, "objectives", size) for output, size in outputs.items()]
    paths += [_chosen(trace, found, output, "objectives", None) for output in dropped]
    names = [*outputs, *dropped]
    twice = [output for output, path in zip(names, paths, strict=True) if paths.count(path) > 1]
    if twice:
        raise ScenarioError(f"objectives: {twice[0]!r} and {twice[1]!r} are one output; name it once")
    left = [_key(path) for path in found if path not in paths]
    if left:
        listed = _listed(trace, found)
        raise ScenarioError(
            f"objectives: forward returns {listed}, and {left[0]!r} has no objective; write {{{left[0]!r}: None}} to drop it"
        )
    return [found[path] for path in paths[: len(outputs)]]


def outputs_of(trace: Trace) -> dict[tuple[Any, ...], Place]:
    """Return the tensors that the forward returns, by their places in what it returns."""
    returned = next(node for node in trace.graph.nodes if node.op == "output").args[0]
    return dict(_places(trace, returned))


def _chosen(
    trace: Trace,
    found: dict[tuple[Any, ...], Place],
    output: str | int | None,
    argument: str,
    size: int | None,
) -> tuple[Any, ...]:
    chosen = [path for path in found if path[:1] == (output,) or _name(path) == output]
    if len(chosen) != 1:
        names = [_name(path) for path in found]
        hint = "; leave output out" if names == [_ONLY] else suggest(str(output), names)
        listed = _listed(trace, found)
        raise ScenarioError(f"{argument}: {output!r} is no tensor that forward returns ({listed}){hint}")
    if size is not None and not _fits(trace, found[chosen[0]], size):
        shape = _shape(trace, found[chosen[0]])
        needs = f"its objective needs a float tensor [batch, …] of {size} values per sample"
        raise ScenarioError(f"{argument}: {output!r} is {shape}, and {needs}")
    return chosen[0]


def _listed(trace: Trace, found: dict[tuple[Any, ...], Place]) -> str:
    shapes = (f"{_name(path)} {_shape(trace, place)}" for path, place in found.items())
    return ", ".join(shapes) or "no tensor"


def _key(path: tuple[Any, ...]) -> str | int:
    """The argument that names an output."""
    return path[0] if len(path) == 1 else _name(path)


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
