"""Named layers: initial parameters, buffers and torch modules of linear maps and normalisations."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from antiphon.agents.network import Tensors, Transport, features_of, with_prefix
from antiphon.nets.layers import initial_linear, initial_norm, norm_buffers, with_feedback

__all__ = [
    "attach",
    "initial_layers",
    "layer_buffers",
    "linear_module",
    "norm_module",
    "transported",
]


def transported(y: Tensor, weight: str, transports: Sequence[Transport]) -> Tensor:
    """Return a layer's output with the gradient paths of messages that replace its `weight` (feedback alignment)."""
    for transport in transports:
        if weight in transport.weights:
            y = with_feedback(y, transport.message, transport.weights[weight], transport.rows)
    return y


def initial_layers(shapes: Sequence[tuple[int, ...]], norm: str, generator: torch.Generator) -> Tensors:
    """Sample the parameters of hidden layers, given the shape [outputs, inputs, …] of each layer's weight."""
    initial: Tensors = {}
    for i, shape in enumerate(shapes):
        weight, bias = initial_linear(features_of(shape[1:]), shape, generator)
        initial |= {f"{i}.weight": weight, f"{i}.bias": bias}
        initial |= with_prefix(f"{i}.norm", initial_norm(norm, shape[0]))
    return initial


def layer_buffers(widths: Sequence[int], norm: str) -> Tensors:
    """Return the running statistics of hidden layers with the given numbers of features."""
    buffers: Tensors = {}
    for i, width in enumerate(widths):
        buffers |= with_prefix(f"{i}.norm", norm_buffers(norm, width))
    return buffers


def attach(root: nn.Module, name: str, module: nn.Module) -> None:
    """Add `module` to `root` at a dotted name whose parent exists."""
    parent, _, last = name.rpartition(".")
    root.get_submodule(parent).add_module(last, module)


def linear_module(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    """Return torch's linear layer with copies of a weight [O, I] and a bias [O], if it has one."""
    outputs, inputs = weight.shape
    layer = nn.Linear(inputs, outputs, bias is not None, device=weight.device, dtype=weight.dtype)
    layer.load_state_dict({"weight": weight} | ({} if bias is None else {"bias": bias}))
    return layer


def norm_module(kind: str, shape: tuple[int, ...], parameters: Tensors, buffers: Tensors) -> nn.Module:
    """Return torch's layer for a normalisation over samples of `shape`, with copies of the parameters."""
    gain, bias = parameters["gain"], parameters["bias"]
    if kind == "layer":
        full = [t.view(-1, *([1] * (len(shape) - 1))).expand(shape) for t in (gain, bias)]
        norm: nn.Module = nn.LayerNorm(shape, device=gain.device, dtype=gain.dtype)
        norm.load_state_dict({"weight": full[0], "bias": full[1]})
        return norm
    kinds = {1: nn.BatchNorm1d, 3: nn.BatchNorm2d}
    norm = kinds[len(shape)](shape[0], device=gain.device, dtype=gain.dtype)
    count = torch.zeros((), dtype=torch.int64)
    norm.load_state_dict(
        {
            "weight": gain,
            "bias": bias,
            "running_mean": buffers["mean"],
            "running_var": buffers["var"],
            "num_batches_tracked": count,
        }
    )
    return norm
