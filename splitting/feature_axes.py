"""The axis of a tensor's features: the channels of a convolution, which are first, or the features of a token, which are last.

The shape does not show it: [16, 32] is 16 tokens of a transformer, or 16 channels of a `Conv1d`. The layers of the model do.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, fx
from torch.overrides import TorchFunctionMode

from antiphon.base.errors import ScenarioError
from antiphon.nets.modules import tensors_in
from antiphon.splitting.cut_plan import Where, at_path
from antiphon.splitting.graph import Trace, evaluate, restored

_FIRST = re.compile(r"conv(_transpose)?[123]d|(batch|instance|group)_norm")
"""Functions whose channels are axis 1, whatever they read."""
_FIRST_AS_READ = re.compile(r"pool[123]d|dropout[123]d")
"""Functions whose channels are axis 1, unless they read a tensor whose features are known to be elsewhere."""
_LAST_AS_READ = re.compile(r"linear|embedding")


class _FeatureAxes(TorchFunctionMode):
    """Follows the axis of the features through a forward."""

    def __init__(self) -> None:
        super().__init__()
        self._marked: dict[int, tuple[Tensor, int]] = {}  # a tensor is held, since an `id` is used again

    def axis_of(self, tensor: Tensor) -> int | None:
        """Return the axis, counted with the batch; None: it is not known."""
        return self._marked[id(tensor)][1] if id(tensor) in self._marked else None

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Call a function of torch, and mark what it returns."""
        given = kwargs or {}
        read = [
            (x, x.stride(), axis) for x in tensors_in((args, given)) if (axis := self.axis_of(x)) is not None
        ]
        returned = func(*args, **given)
        name = getattr(func, "__name__", "")
        for made in tensors_in(returned):
            axis = _axis(name, made, read) if made.dim() > 2 else None
            self._marked.pop(id(made), None)
            if axis is not None:
                self._marked[id(made)] = made, axis
        return returned


def _axis(name: str, made: Tensor, read: list[tuple[Tensor, tuple[int, ...], int]]) -> int | None:
    """The axis of the features of what a function made of tensors, given with their strides and axes."""
    if _FIRST.search(name):
        return 1
    for tensor, strides, axis in read:
        if (
            tensor.untyped_storage().data_ptr() == made.untyped_storage().data_ptr()
        ):  # a view: transposed, flattened
            if made.shape == tensor.shape and made.stride() == strides:
                return axis
            same = [i for i, stride in enumerate(made.stride()) if i and stride == strides[axis]]
            return same[0] if len(same) == 1 else None
    axes = {axis for tensor, _, axis in read if _alike(tensor, made)}
    if axes:
        return axes.pop() if len(axes) == 1 else None
    if _FIRST_AS_READ.search(name):
        return 1
    return made.dim() - 1 if _LAST_AS_READ.search(name) else None


def _alike(read: Tensor, made: Tensor) -> bool:
    """Whether two tensors have the same axes, of which one may have another length."""
    lengths = zip(read.shape, made.shape, strict=False)
    return read.dim() == made.dim() and sum(a != b for a, b in lengths) < 2


def feature_axes(traced: Trace, example: Mapping[str, Any]) -> Callable[[fx.Node, Where], int | None]:
    """Return what gives the axis of the features of a tensor of a trace, counted with the batch; None: it is not known.

    Args:
        traced: The trace.
        example: The model's arguments.
    """
    axes = _FeatureAxes()
    try:
        with restored(traced.root), axes:
            values = evaluate(traced.graph, traced.root, example, "for its axes", "")
    except ScenarioError:  # a module that bears no mode of torch
        return lambda node, path: None
    return lambda node, path: axes.axis_of(at_path(values[node], path))
