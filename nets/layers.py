"""Layers as functions of (parameters, inputs), with or without a leading axis of stacked agents.

Shapes: B batch, I inputs, O outputs, N stacked networks. Every function takes `x` as [B, …] with plain
parameters or as [N, B, …] with parameters stacked [N, …], so that many networks of one shape are one call.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

__all__ = [
    "ACTIVATIONS",
    "MOMENTUM",
    "initial_linear",
    "initial_norm",
    "linear",
    "norm_buffers",
    "normalise",
    "with_feedback",
]

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu,
    "tanh": torch.tanh,
    "gelu": F.gelu,
    "identity": lambda x: x,
}
MOMENTUM = 0.1
"""How far batch norm's running statistics move at each tick, as in torch."""
_EPSILON = 1e-5


def initial_linear(inputs: int, shape: tuple[int, ...], generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw a weight of `shape` and a bias [shape[0]] uniformly in ±1/sqrt(inputs), as torch's layers do."""
    bound = 1.0 / math.sqrt(max(inputs, 1))
    weight = torch.empty(shape).uniform_(-bound, bound, generator=generator)
    bias = torch.empty(shape[0]).uniform_(-bound, bound, generator=generator)
    return weight, bias


def initial_norm(kind: str, features: int) -> dict[str, Tensor]:
    """Return the gain and bias of a normalisation (`batch` or `layer`; none for `none`)."""
    return {} if kind == "none" else {"gain": torch.ones(features), "bias": torch.zeros(features)}


def norm_buffers(kind: str, features: int) -> dict[str, Tensor]:
    """Return the running mean and variance that batch norm keeps (empty for other kinds)."""
    return {"mean": torch.zeros(features), "var": torch.ones(features)} if kind == "batch" else {}


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return x W^T + b, or x W^T alone: weight [O, I] or stacked [N, O, I]."""
    if weight.dim() == 2:
        return F.linear(x, weight, bias)
    if bias is None:
        return torch.bmm(x, weight.transpose(-1, -2))
    return torch.baddbmm(bias.unsqueeze(-2), x, weight.transpose(-1, -2))


def normalise(
    kind: str, x: Tensor, parameters: Mapping[str, Tensor], buffers: Mapping[str, Tensor], *, training: bool
) -> tuple[Tensor, dict[str, Tensor]]:
    """Normalise the features of `x` and return them with the new running statistics.

    Args:
        kind: `batch` (over the rows of this tick), `layer` (over the features of a row) or `none`.
        x: [B, features], [B, channels, H, W] (normalised per channel under `batch`), or stacked [N, B, features].
        parameters: `gain` and `bias`.
        buffers: `mean` and `var` under `batch`; they are never changed in place.
        training: Whether batch norm uses this tick's statistics. A single row always uses the running ones.
    """
    if kind == "none":
        return x, {}
    gain, bias = parameters["gain"], parameters["bias"]
    stacked = gain.dim() == 2
    if kind == "layer":
        if not stacked:
            shape = x.shape[1:]
            if len(shape) > 1:
                view = (-1, *([1] * (len(shape) - 1)))
                return F.layer_norm(x, shape) * gain.view(view) + bias.view(view), {}
            return F.layer_norm(x, shape, gain, bias, _EPSILON), {}
        return F.layer_norm(x, x.shape[-1:], eps=_EPSILON) * gain.unsqueeze(1) + bias.unsqueeze(1), {}
    rows = x.shape[1] if stacked else x.shape[0]
    learning = training and rows > 1
    mean, var = buffers["mean"], buffers["var"]
    if learning:  # the kernel moves running statistics in place: hand it copies, so that state stays a value
        mean, var = mean.clone(), var.clone()
    if stacked:
        count, rows, features = x.shape
        flat = x.transpose(0, 1).reshape(rows, count * features)
        y = F.batch_norm(
            flat,
            mean.view(-1),
            var.view(-1),
            gain.reshape(-1),
            bias.reshape(-1),
            learning,
            MOMENTUM,
            _EPSILON,
        )
        y = y.view(rows, count, features).transpose(0, 1)
    else:
        y = F.batch_norm(x, mean, var, gain, bias, learning, MOMENTUM, _EPSILON)
    return y, {"mean": mean, "var": var}


def with_feedback(y: Tensor, message: Tensor, weight: Tensor, rows: slice | None = None) -> Tensor:
    """Return `y` unchanged, but let its gradient reach `message` through `weight` (Lillicrap et al. 2016).

    The message has no other path to `y`: it was cut before it entered the layer. Second derivatives are not to be had.

    Args:
        y: What a linear map or a same-padded convolution gave, [B, O] or [B, O, H, W].
        message: [R, size], flat.
        weight: Fixed, [O, size] or [O, channels, side, side], of the shape that maps a message to a row of `y`.
        rows: Which rows of `y` were made from the message, R of them; None: all.
    """
    returned: Tensor = _Feedback.apply(y, message, weight, rows)  # type: ignore[no-untyped-call]
    return returned


class _Feedback(torch.autograd.Function):
    """Forward: the first argument. Backward: its gradient, and that gradient through a fixed weight."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, message: Tensor, weight: Tensor, rows: slice | None) -> Tensor:
        ctx.save_for_backward(weight)
        ctx.rows = rows
        return y.view_as(y)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None]:
        (weight,) = ctx.saved_tensors
        part = gradient if ctx.rows is None else gradient[ctx.rows]
        if weight.dim() == 2:
            back = part @ weight
        else:
            back = F.conv_transpose2d(part, weight, padding=weight.shape[-1] // 2).flatten(1)
        return gradient, back, None, None
