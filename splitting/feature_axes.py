"""The axis of a tensor's features: the channels of a convolution, which are first, or the features of a token, which are last.

The shape does not show it: [16, 32] is 16 tokens of a transformer, or 16 channels of a `Conv1d`. The layers of the model do.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, fx
from torch.overrides import TorchFunctionMode

from antiphon.base.errors import ScenarioError
from antiphon.nets.modules import tensors_in
from antiphon.splitting.cut_plan import Where, at_path
from antiphon.splitting.graph import ModelGraph, evaluate, restored

_FIRST = re.compile(r"conv(_transpose)?[123]d")
"""Functions whose channels are axis 1, unless they read a tensor whose features are known to be elsewhere: a mixer of tokens."""
_FIRST_AS_READ = re.compile(r"(batch|instance|group)_norm|pool[123]d|dropout[123]d")
"""Functions that keep the axes, and whose channels are axis 1 where those are not known."""
_LAST = re.compile(r"linear|embedding")
"""Functions whose features are the last axis, unless they read a tensor whose features are known to be elsewhere."""
_KEEPING = re.compile(
    r"\w+_norm|\w*pool[123]d|\w*dropout[123]?d?|pad|interpolate|\w*softmax|contiguous|to|float|half|bfloat16|double|cat|"
    r"roll|flip|prelu|hardswish|softsign|tanhshrink|logsigmoid|_*[ri]?(add|sub|mul|truediv)_*"
)
"""Functions whose axes are those of what they read, beside those that torch marks as pointwise."""
_REDUCING = ("mean", "sum", "amax", "amin")


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
        keywords = kwargs or {}
        read = [
            (x, x.stride(), axis)
            for x in tensors_in((args, keywords))
            if (axis := self.axis_of(x)) is not None
        ]  # the strides of before the call, which may change them in place
        returned = func(*args, **keywords)
        name = getattr(func, "__name__", "")
        for result in tensors_in(returned):
            axis = _axis(name, result, read, (args, keywords)) if result.dim() > 1 else None
            self._marked.pop(id(result), None)
            if axis is not None:
                self._marked[id(result)] = result, axis
        return returned


def _axis(
    name: str,
    result: Tensor,
    read: list[tuple[Tensor, tuple[int, ...], int]],
    call: tuple[Any, Mapping[str, Any]],
) -> int | None:
    """The axis of the features of what a call made of tensors, given with their strides and axes; None: it is not certain."""
    for tensor, strides, axis in read:
        if (
            tensor.untyped_storage().data_ptr() == result.untyped_storage().data_ptr()
        ):  # a view: transposed, flattened
            if result.shape == tensor.shape and result.stride() == strides:
                return axis
            return _axis_of_view(result, strides[axis], tensor.shape[axis], divisible=tensor.dim() > 2)
    axes = {axis for tensor, _, axis in read if tensor.dim() == result.dim()}
    if _FIRST.search(name):
        return 1 if axes <= {1} else None
    last = result.dim() - 1
    if _LAST.search(name):
        return last if axes <= {last} else None
    if name in _REDUCING and len(read) == 1:
        return _reduced(*read[0][::2], *call)
    if axes and (_KEEPING.fullmatch(name) or _pointwise(name)):
        return axes.pop() if len(axes) == 1 else None
    return 1 if not read and _FIRST_AS_READ.search(name) else None


def _axis_of_view(view: Tensor, stride: int, size: int, *, divisible: bool) -> int | None:
    """The axis of a view that has the features of an axis with this stride and size; None: it is not certain.

    It has all of them, some (`x[:, ::2]`), or more, as it was flattened with others. `divisible`: whether a view that divides them has
    features in the axis of the same stride, as heads of tokens have; of [B, n] both axes may be features.
    """
    axes = [(i, *pair) for i, pair in enumerate(zip(view.stride(), view.shape, strict=True)) if i and pair[0]]
    alike = [i for i, step, _ in axes if step == stride]
    complete = [i for i in alike if view.shape[i] == size]
    if len(complete) == 1 or (divisible and len(alike) == 1):
        return (complete or alike)[0]
    if complete:
        return None
    sampled = [
        i
        for i, step, count in axes
        if count > 1 and step % stride == 0 and step * (count - 1) < stride * size
    ]
    flattened = [
        i for i, step, count in axes if step < stride and stride % step == 0 and stride * size <= step * count
    ]
    candidates = {*sampled, *flattened}
    return candidates.pop() if len(candidates) == 1 else None


def _reduced(tensor: Tensor, axis: int, args: tuple[Any, ...], keywords: Mapping[str, Any]) -> int | None:
    """The axis of the features of the mean or the like of a tensor over some of its axes."""
    over = keywords.get("dim", args[1] if len(args) > 1 else ())
    gone = {
        number % tensor.dim() for number in ([over] if isinstance(over, int) else over or range(tensor.dim()))
    }
    if axis in gone:
        return None
    keeps = keywords.get("keepdim", args[2] if len(args) > 2 else False)
    return axis if keeps else axis - sum(removed < axis for removed in gone)


def _pointwise(name: str) -> bool:
    """Whether torch marks a function as pointwise, in place too."""
    packet = getattr(torch.ops.aten, name.strip("_"), None)
    return packet is not None and any(
        torch.Tag.pointwise in getattr(packet, overload).tags for overload in packet.overloads()
    )


def feature_axes(traced: ModelGraph, example: Mapping[str, Any]) -> Callable[[fx.Node, Where], int | None]:
    """Return what gives the axis of the features of a tensor of a trace, counted with the batch; None: it is not known."""
    axes = _FeatureAxes()
    try:
        with restored(traced.root), axes:
            values = evaluate(traced.graph, traced.root, example, "for its axes", "")
    except ScenarioError:  # a module that bears no mode of torch
        return lambda node, path: None
    return lambda node, path: axes.axis_of(at_path(values[node], path))
