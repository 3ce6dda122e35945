"""Whether the parts of a cut model compute what the model computes, also once its parameters have changed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from antiphon.base.errors import ScenarioError
from antiphon.nets.user_modules import (
    cast,
    copied,
    hooked,
    on_cpu,
    own_type,
    probe_of,
    remove_hooks,
    set_mode,
    set_type,
)
from antiphon.splitting.cut_plan import Message, Place, at_path
from antiphon.splitting.graph import Trace, evaluate, other_parameters
from antiphon.splitting.part_modules import Part

_CLOSE = 1e-3
"""Of the largest number of a tensor: kernels round differently."""


def check_whole(
    parts: Sequence[Part],
    names: Sequence[str],
    trace: Trace,
    places: Sequence[Place],
    model: nn.Module,
    example: Mapping[str, Any],
) -> None:
    """Check that the parts, one after the other, predict what the model does.

    All are copies that have not been called yet, with other parameters than the model's.

    Args:
        parts: Of the model.
        names: Of the parts.
        trace: Of the model.
        places: Of its predictions.
        model: The model; the parts have its parameters.
        example: Its arguments by name.

    Raises:
        ScenarioError: One does not, in one line.
    """
    wanted = _values(trace, model, example, seed=1)
    modules = copied({name: part.module for name, part in zip(names, parts, strict=True)})
    for name, part in zip(names, parts, strict=True):
        module = modules[name]
        set_type(module, own_type(part.module))
        remove_hooks(module, hooked(trace.root))
        set_mode(cast(on_cpu(module), torch.float32), False)
    messages: dict[Message, Tensor] = {}
    with other_parameters(*modules.values()), torch.no_grad():
        for name, part in zip(names, parts, strict=True):
            reads = [example[one] for one in part.observes] + [messages[w.message] for w in part.reads]
            predicted = [at_path(wanted[node], path) for node, path in (places[i] for i in part.predictions)]
            expected = _rows(predicted) if predicted else torch.empty(len(reads[0]), 0)
            found = modules[name](_rows(reads)).split(
                [expected.shape[1], *(math.prod(one.shape) for one in part.sends)], 1
            )
            messages |= zip(part.sends, found[1:], strict=True)
            # The axes of a prediction may be in another order.
            if not _close(found[0].sort().values, expected.sort().values):
                if not _repeats(trace, model, example, wanted):
                    return
                raise ScenarioError(
                    "the parts compute other results than the model: a submodule reads what one of another part leaves in an "
                    "attribute, or calls layers that are no submodules of it (in a list or dict); return the value from "
                    "forward, and register the layers where they are called"
                )


def _values(trace: Trace, model: nn.Module, example: Mapping[str, Any], seed: int) -> dict[Any, Any]:
    """The value of every node in evaluation mode, with other parameters."""
    root = cast(on_cpu(probe_of(model, hooked(trace.root))), torch.float32)
    for node in trace.graph.nodes:  # what only the trace has: constants, modes, functions
        name = str(node.target)
        if node.op in ("call_module", "get_attr") and not hasattr(root, name.partition(".")[0]):
            setattr(root, name, getattr(trace.root, name))
    with other_parameters(set_mode(root, False)):
        return evaluate(trace.graph, root, example, seed)


def _repeats(trace: Trace, model: nn.Module, example: Mapping[str, Any], before: dict[Any, Any]) -> bool:
    """Whether a model computes the same from other random numbers, which parts draw in another order."""
    after = _values(trace, model, example, seed=2)
    return all(
        _close(value, before[node])
        for node, value in after.items()
        if isinstance(value, Tensor) and value.is_floating_point()
    )


def _rows(tensors: Sequence[Tensor]) -> Tensor:
    """Tensors side by side, a row per sample."""
    return torch.cat([one.reshape(len(one), -1).float() for one in tensors], 1)


def _close(one: Tensor, other: Tensor) -> bool:
    most = float(other.abs().nan_to_num(0.0, 0.0, 0.0).max()) if other.numel() else 0.0
    return one.shape == other.shape and torch.allclose(one, other, _CLOSE, _CLOSE * most, equal_nan=True)
