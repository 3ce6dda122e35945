"""Layers and losses as functions of (parameters, inputs), with or without a leading axis of stacked agents.

Shapes: B batch, I inputs, O outputs, N stacked networks. Every function takes `x` as [B, …] with plain
parameters or as [N, B, …] with parameters stacked [N, …], so that one call evaluates many networks of one shape. Losses are
per sample, [B] or [N, B].
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu,
    "tanh": torch.tanh,
    "gelu": F.gelu,
    "identity": lambda x: x,
}
IGNORED = -100
"""Class of a site that has no target, as in torch."""
MOMENTUM = 0.1
POOL = (3, 2, 1)
"""Kernel size, stride and padding of every pooling."""
EPSILON = 1e-5
_SHORTEST = 1e-6


def initial_linear(inputs: int, shape: tuple[int, ...], generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Sample a weight of `shape` and a bias [shape[0]] uniformly in ±1/sqrt(inputs), as torch's layers do."""
    bound = 1.0 / math.sqrt(max(inputs, 1))
    weight = torch.empty(shape).uniform_(-bound, bound, generator=generator)
    bias = torch.empty(shape[0]).uniform_(-bound, bound, generator=generator)
    return weight, bias


def initial_norm(kind: str, features: int, prefix: str = "") -> dict[str, Tensor]:
    """Return the gain and bias of a normalisation (`batch` or `layer`; other kinds have none), by prefixed name."""
    if kind in ("none", "unit"):
        return {}
    return {f"{prefix}gain": torch.ones(features), f"{prefix}bias": torch.zeros(features)}


def norm_buffers(kind: str, features: int, prefix: str = "") -> dict[str, Tensor]:
    if kind != "batch":
        return {}
    return {f"{prefix}mean": torch.zeros(features), f"{prefix}var": torch.ones(features)}


def initial_layer(
    name: str, shape: tuple[int, ...], norm: str, generator: torch.Generator
) -> dict[str, Tensor]:
    """Sample the parameters of a `layer`: its weight, of `shape` [outputs, inputs, …], its bias and its norm's.

    Before batch norm, which would cancel it, there is no bias (He et al. 2016).
    """
    weight, bias = initial_linear(math.prod(shape[1:]), shape, generator)
    own = {f"{name}.weight": weight} if norm == "batch" else {f"{name}.weight": weight, f"{name}.bias": bias}
    return own | initial_norm(norm, shape[0], f"{name}.norm.")


def layer(
    apply: Callable[[Tensor, Tensor, Tensor | None], Tensor],
    x: Tensor,
    parameters: Mapping[str, Tensor],
    buffers: Mapping[str, Tensor],
    name: str,
    norm: str,
    *,
    training: bool,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the output of a `initial_layer` without its activation, and its new running statistics; `apply`: `linear` or `convolution`."""
    y = apply(x, parameters[f"{name}.weight"], parameters.get(f"{name}.bias"))
    return normalise(norm, y, parameters, buffers, f"{name}.norm.", training=training)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return x W^T + b, or x W^T alone: weight [O, I] or stacked [N, O, I]."""
    if weight.dim() == 2:
        return F.linear(x, weight, bias)
    if torch.is_grad_enabled() and weight.requires_grad:
        mapped: Tensor = _StackedLinear.apply(x, weight, bias)  # type: ignore[no-untyped-call]
        return mapped
    return _mapped(x, weight, bias)


_SMALL = 400
"""Number of multiplications below which torch has a separate kernel for batched products."""


def stacked_product(a: Tensor, b: Tensor, added: Tensor | None = None) -> Tensor:
    """Return the products [N, I, J] of N pairs of matrices, with `added` [N, 1, J]: each bit-identical for any N.

    If torch uses another kernel for a single pair than for several, a single pair is computed twice, as a batch.
    """
    if a.shape[0] == 1:
        sizes = *a.shape[1:], b.shape[2]
        if min(sizes) == 1 or math.prod(sizes) < _SMALL:
            twice = None if added is None else added.expand(2, -1, -1)
            return stacked_product(a.expand(2, -1, -1), b.expand(2, -1, -1), twice)[:1]
    return torch.bmm(a, b) if added is None else torch.baddbmm(added, a, b)


def product(a: Tensor, b: Tensor) -> Tensor:
    return a @ b if a.dim() == 2 else stacked_product(a, b)


def _mapped(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    if bias is None:
        return stacked_product(x, weight.transpose(-1, -2))
    return stacked_product(x, weight.transpose(-1, -2), bias.unsqueeze(-2))


class _StackedLinear(torch.autograd.Function):
    """Stacked linear map whose weight gradient has the weight's strides, so that optimisers need no copy."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _mapped(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor, Tensor | None]:
        x, weight = ctx.saved_tensors
        if x.dtype is not gradient.dtype or weight.dtype is not gradient.dtype:  # of bfloat16 under autocast
            x, weight = x.to(gradient.dtype), weight.to(gradient.dtype)
        back = stacked_product(gradient, weight) if ctx.needs_input_grad[0] else None
        of_bias = gradient.sum(-2) if ctx.needs_input_grad[2] else None
        return back, stacked_product(gradient.transpose(-1, -2), x), of_bias


def convolution(x: Tensor, weight: Tensor, bias: Tensor | None, stride: int | None = None) -> Tensor:
    """Return the convolution of maps [B, C, H, W] with weight [O, C, side, side], plain or stacked.

    It is same-padded, or with a `stride` has no padding. Stacked networks are the groups of one convolution. Its memory order is [B, N, O, H, W], returned transposed:
    the layers, norms and pools that follow need no copy.
    """
    padding = weight.shape[-1] // 2 if stride is None else 0
    stride = stride or 1
    if weight.dim() == 4:
        return F.conv2d(x, weight, bias, stride, padding)
    flat = None if bias is None else bias.flatten()
    together = F.conv2d(_folded(x), weight.flatten(0, 1), flat, stride, padding, groups=len(weight))
    return _unfolded(together, len(weight))


def as_maps(images: Tensor, layout: str) -> Tensor:
    """Return images [rows, …] as maps [rows, channels, height, width]; channels are `first` or `last`, or there are `none`."""
    if layout == "last":
        return images.movedim(-1, 1)
    return images.unsqueeze(1) if layout == "none" else images


def pool(kind: str, x: Tensor) -> Tensor:
    """Pool maps [B, C, H, W] or [N, B, C, H, W] with 3x3 windows and stride 2 (`max`, `avg`), or not (`none`)."""
    if kind == "none":
        return x
    pooled = F.max_pool2d if kind == "max" else F.avg_pool2d
    return pooled(x, *POOL) if x.dim() == 4 else _unfolded(pooled(_folded(x), *POOL), len(x))


def _folded(x: Tensor) -> Tensor:
    """Reshape [N, B, C, …] to [B, N*C, …]: the stacked axis within the channels, for torch's kernels."""
    count, rows, channels, *space = x.shape
    return x.transpose(0, 1).reshape(rows, count * channels, *space)


def _unfolded(x: Tensor, count: int) -> Tensor:
    """Inverse of `_folded`, as a view."""
    return x.view(x.shape[0], count, -1, *x.shape[2:]).transpose(0, 1)


def unit_length(x: Tensor) -> Tensor:
    """Divide the features of each row, the last axis, by their Euclidean norm; a row of zeros stays zero."""
    return F.normalize(x, dim=-1, eps=_SHORTEST)


def normalise(
    kind: str,
    x: Tensor,
    parameters: Mapping[str, Tensor],
    buffers: Mapping[str, Tensor],
    prefix: str = "",
    *,
    training: bool,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Normalise the features of `x` and return them with the new running statistics.

    Args:
        kind: `batch` (over the rows of this tick), `layer` (over the features of a row), `unit` (`unit_length`) or `none`.
        x: [B, features] or [B, channels, H, W] (normalised per channel under `batch`), or stacked [N, B, …].
        buffers: `mean` and `var` under `batch`, each after the prefix; they are never changed in place.
        training: Whether batch norm uses this tick's statistics. A single row always uses the running statistics.
    """
    if kind == "none":
        return x, {}
    if kind == "unit":
        return unit_length(x), {}
    gain, bias = parameters[f"{prefix}gain"], parameters[f"{prefix}bias"]
    x = x.to(gain.dtype)  # under autocast too statistics are of full precision
    held = (buffers[f"{prefix}mean"], buffers[f"{prefix}var"]) if kind == "batch" else None
    if gain.dim() == 2:
        y, updated = _normalise_stacked(x, gain, bias, held, training=training)
    elif held is None:
        shape = x.shape[1:]
        if len(shape) == 1:
            return F.layer_norm(x, shape, gain, bias, EPSILON), {}
        view = (-1, *([1] * (len(shape) - 1)))
        return F.layer_norm(x, shape) * gain.view(view) + bias.view(view), {}
    else:
        mean, var = held
        learning = training and x.shape[0] > 1
        if learning:  # the kernel updates running statistics in place: it gets copies
            mean, var = mean.clone(), var.clone()
        y, updated = F.batch_norm(x, mean, var, gain, bias, learning, MOMENTUM, EPSILON), (mean, var)
    return y, {} if updated is None else {f"{prefix}mean": updated[0], f"{prefix}var": updated[1]}


def _normalise_stacked(
    x: Tensor,
    gain: Tensor,
    bias: Tensor,
    held: tuple[Tensor, Tensor] | None,
    *,
    training: bool,
) -> tuple[Tensor, tuple[Tensor, Tensor] | None]:
    """Evaluate `normalise` of [N, B, features] or [N, B, channels, H, W], parameters and statistics [N, features]."""
    flat = x.dim() == 3
    per_feature = (gain.shape[0], 1, gain.shape[1], *([1] * (x.dim() - 3)))
    if held is None:
        # maps keep the memory order of the convolutions they come from
        rows = x if flat else x.transpose(0, 1)
        unit = F.layer_norm(rows, x.shape[2:], eps=EPSILON)
        unit = unit if flat else unit.transpose(0, 1)
        return torch.addcmul(bias.view(per_feature), unit, gain.view(per_feature)), None
    mean, var = held
    if not training or x.shape[1] == 1:
        scale = gain * torch.rsqrt(var + EPSILON)
        shift = torch.addcmul(bias, mean, scale, value=-1)
        return torch.addcmul(shift.view(per_feature), x, scale.view(per_feature)), held
    mean, var = mean.clone(), var.clone()
    y = F.batch_norm(
        _folded(x),
        mean.view(-1),
        var.view(-1),
        gain.reshape(-1),
        bias.reshape(-1),
        training=True,
        momentum=MOMENTUM,
        eps=EPSILON,
    )
    return _unfolded(y, len(x)), (mean, var)


def site_mean(values: Tensor, present: Tensor | None) -> Tensor:
    """Return the mean over the last axis of values [..., S] where `present` [..., *S], bool, holds; None: everywhere."""
    if present is None:
        return values.mean(-1)
    present = present.reshape(values.shape)
    return values.where(present, 0.0).sum(-1) / present.sum(-1).clamp(min=1)


def cross_entropy(
    logits: Tensor,
    target: Tensor,
    present: Tensor | None = None,
    *,
    weight: Tensor | None = None,
    smoothing: float = 0.0,
) -> Tensor:
    """Return -log p(target), [B], for logits [B, S * classes], laid out as [S, classes], and an integer target [B, S].

    Means over the sites S that are `present`, bool, of the target's shape (None: all). They may have any number of axes; a
    target [B] has one site. An axis before B is allowed. `weight`, [classes], and `smoothing` are as in torch.
    """
    lead, how = logits.shape[:-1], {"weight": weight, "label_smoothing": smoothing, "reduction": "none"}
    if target.dim() == len(lead) == 1:
        losses: Tensor = F.cross_entropy(logits, target, **how)  # type: ignore[arg-type]
        return losses if present is None else losses.where(present, 0.0)
    sites = target.shape[len(lead) :].numel()
    flat: Tensor = F.cross_entropy(logits.reshape(target.numel(), -1), target.flatten(), **how)  # type: ignore[arg-type]
    if present is None and sites == 1:
        return flat.view(lead)
    return site_mean(flat.view(*lead, sites), present)


def binary_cross_entropy(logits: Tensor, target: Tensor, present: Tensor | None = None) -> Tensor:
    """Return -log p(target), [B], summed over independent components, for logits [B, size] and a target of 0s and 1s [B, …].

    Of `present`, bool, of the target's shape, only these components (None: all).
    """
    bits = target.reshape(logits.shape).to(logits.dtype)
    losses = F.binary_cross_entropy_with_logits(logits, bits, reduction="none")
    return (losses if present is None else losses.where(present.reshape(losses.shape), 0.0)).sum(-1)


def squared_error(output: Tensor, target: Tensor, present: Tensor | None = None) -> Tensor:
    """Return the squared error averaged over components, [B], for output [B, size] and target [B, …].

    Of `present`, bool, of the target's shape, only these components (None: all).
    """
    return site_mean((output - target.reshape(output.shape)).square(), present)
