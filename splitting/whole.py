"""Whether the parts of a cut model compute what the model computes, also once its parameters have changed."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from typing import Any

import torch
from torch import Tensor, fx, nn

from antiphon.base.errors import ScenarioError, first_line
from antiphon.nets.isolation.global_numbers import seed_globally
from antiphon.nets.user_modules import (
    copied,
    hooked,
    own_type,
    probe_of,
    remove_hooks,
    set_mode,
    set_type,
)
from antiphon.splitting.cut_plan import CrossingTensor, Place, at_path
from antiphon.splitting.graph import (
    ModelGraph,
    in_own_type,
    kept_unless_it_fails,
    other_parameters,
    own_copies,
)
from antiphon.splitting.part_modules import ModelPart

_CLOSE = 1e-3
"""Difference that is close, as a share of the largest number of a tensor: kernels round differently."""


class _Alike(fx.Interpreter):
    """Calls the nodes of a graph one by one; each draws the same random numbers, in the model and in its part."""

    def __init__(self, module: nn.Module, graph: fx.Graph | None = None) -> None:
        super().__init__(module, garbage_collect_values=False, graph=graph)
        self.extra_traceback = False  # which takes seconds, and is not shown

    def run_node(self, n: fx.Node) -> Any:
        seed_globally(1)
        return super().run_node(n)


def check_whole(
    parts: Sequence[ModelPart],
    names: Sequence[str],
    trace: ModelGraph,
    predictions: Sequence[Place],
    model: nn.Module,
    example: Mapping[str, Any],
) -> None:
    """Check that the parts, one after the other, predict what the model does, in evaluation and then in training.

    All are copies that have not been called yet, with other parameters than the model's.

    Args:
        model: The model; the parts have its parameters.

    Raises:
        ScenarioError: One does not, in one line.
    """
    root = _copy(trace, model)
    copies = copied({name: part.module for name, part in zip(names, parts, strict=True)})
    modules = [copies[name] for name in names]
    for module, part in zip(modules, parts, strict=True):
        set_type(module, own_type(part.module))
        remove_hooks(module, hooked(trace.root))
        in_own_type(module)
    for training in (False, True):
        with torch.no_grad(), ExitStack() as stack:
            stack.enter_context(other_parameters(root, *modules))
            expected: dict[fx.Node, Any] | None = None
            for own_parameters in (False, True):
                if own_parameters:  # as a user's module may raise anything for others
                    stack.close()
                with suppress(Exception), kept_unless_it_fails(root):
                    expected = _values(trace, root, example, training=training)
                    break
            if expected is None:  # it depends on what is sampled: there is nothing to compare
                continue
            try:
                alike, why = _alike(parts, modules, predictions, expected, example, training=training), ""
            except Exception as error:  # noqa: BLE001  (anything a user's module may raise)
                alike, why = False, f" ({first_line(error)})"
        if alike:
            continue
        if training and _state_apart(parts, modules):
            return
        mode = " in training" if training else ""
        raise ScenarioError(
            f"the parts compute other results than the model{mode}{why}: a submodule reads what one of another part "
            "leaves in an attribute, or calls layers that are no submodules of it (in a list or dict); return the "
            "value from forward, and register the layers where they are called"
        )


def _copy(trace: ModelGraph, model: nn.Module) -> nn.Module:
    root = in_own_type(probe_of(model, hooked(trace.root)))
    for node in trace.graph.nodes:  # what only the trace has: constants, modes, functions
        name = str(node.target)
        if node.op in ("call_module", "get_attr") and not hasattr(root, name.partition(".")[0]):
            setattr(root, name, getattr(trace.root, name))
    return root


def _values(
    trace: ModelGraph, root: nn.Module, example: Mapping[str, Any], *, training: bool
) -> dict[fx.Node, Any]:
    interpreter = _Alike(set_mode(root, training), trace.graph)
    interpreter.run(*own_copies(example).values())
    return interpreter.env


def _alike(
    parts: Sequence[ModelPart],
    modules: Sequence[nn.Module],
    predictions: Sequence[Place],
    model_values: Mapping[fx.Node, Any],
    example: Mapping[str, Any],
    *,
    training: bool,
) -> bool:
    messages: dict[CrossingTensor, Tensor] = {}
    for part, module in zip(parts, modules, strict=True):
        reads = [example[argument] for argument in part.observes] + [messages[w.message] for w in part.reads]
        predicted = [
            at_path(model_values[node], path) for node, path in (predictions[i] for i in part.predictions)
        ]
        dtype = own_type(part.module)
        expected = _rows(predicted, dtype) if predicted else torch.empty(len(reads[0]), 0, dtype=dtype)
        returned = _Alike(set_mode(module, training)).run(_rows(reads, dtype))
        pieces = returned.split([expected.shape[1], *(math.prod(message.shape) for message in part.sends)], 1)
        messages |= zip(part.sends, pieces[1:], strict=True)
        # The axes of a prediction may be in another order.
        if not _close(pieces[0].sort().values, expected.sort().values):
            return False
    return True


def _state_apart(parts: Sequence[ModelPart], modules: Sequence[nn.Module]) -> bool:
    """Whether a layer that several parts call changed a buffer, of which each has its own: one of spectral norm does."""
    times = Counter(name for part in parts for name, _ in part.module.named_buffers())
    changed = {
        name
        for part, module in zip(parts, modules, strict=True)
        for now in [dict(module.named_buffers())]
        for name, buffer in part.module.named_buffers()
        if name not in now or not torch.equal(buffer, now[name].to(buffer.dtype))
    }
    return any(times[name] > 1 for name in changed)


def _rows(tensors: Sequence[Tensor], dtype: torch.dtype) -> Tensor:
    """Tensors of one type side by side, a row per sample."""
    return torch.cat([tensor.reshape(len(tensor), -1).to(dtype) for tensor in tensors], 1)


def _close(actual: Tensor, expected: Tensor) -> bool:
    most = float(expected.abs().nan_to_num(0.0, 0.0, 0.0).max()) if expected.numel() else 0.0
    return actual.shape == expected.shape and torch.allclose(
        actual, expected, _CLOSE, _CLOSE * most, equal_nan=True
    )
