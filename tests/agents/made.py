"""Networks of a kind, parameters for them, and their gradients."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from antiphon.agents.network import Described, Head, Network, Tensors
from antiphon.base.extensions import Catalogue
from antiphon.engine.inference.exporting import AgentModule
from tests.kit.tensors import DOUBLE, drawn


def made(
    kind: str,
    inputs: tuple[int, ...],
    heads: tuple[Head, ...],
    candidates: tuple[int, ...] = (),
    **options: Any,
) -> Any:
    """A network of a built-in kind with these of its own keys."""
    source: Any = Catalogue("network")[kind]
    keys = source.Options(**options)
    norm = {"norm": keys.norm or ("layer" if source.recurrent else "batch")}
    return source(Described(kind, dict(keys) | norm, inputs, heads, lambda: candidates))


def numbers(network: Network, seed: int = 0) -> tuple[Tensors, Tensors]:
    """Parameters and buffers that are nobody's defaults, in float64."""
    parameters, buffers = network.parameters(torch.Generator().manual_seed(seed)), network.buffers()
    return (
        {k: v.double() + 0.2 * drawn(seed + i, *v.shape) for i, (k, v) in enumerate(parameters.items())},
        {
            k: v.double() + drawn(seed + i, *v.shape).square() if v.is_floating_point() else v + seed
            for i, (k, v) in enumerate(buffers.items())
        },
    )


def composed(network: Any, parameters: Tensors, buffers: Tensors) -> nn.Module:
    """A network as a module of plain torch, as composed systems have it."""
    return AgentModule(network, parameters, buffers)


def evaluated(
    network: Network,
    parameters: Tensors,
    buffers: Tensors,
    x: Tensor,
    training: bool,
    state: Tensor | None = None,
) -> tuple[Tensors, Tensors, Tensors]:
    """Ports, new buffers, and the gradients of a sum of all ports' squares."""
    leaves = {k: v.clone().requires_grad_() for k, v in parameters.items()} | {
        "x": x.clone().requires_grad_()
    }
    if state is not None:
        leaves["state"] = state = state.clone().requires_grad_()
    own = {k: leaves[k] for k in parameters}
    ports, after = network(own, buffers, leaves["x"], training=training, state=state)
    # as after a normalisation the squares of a batch have a constant sum, each sample is weighed differently
    lead = x.dim() - len(network.input_shape)
    weights = torch.linspace(0.1, 2, x.shape[lead - 1], dtype=DOUBLE)
    total = torch.zeros((), dtype=DOUBLE)
    for port in ports.values():
        total = total + (port.square().flatten(lead).cumsum(-1).mean(-1) * weights).sum()
    found = torch.autograd.grad(total, list(leaves.values()), allow_unused=True)
    gradients = {
        k: torch.zeros_like(v) if g is None else g for (k, v), g in zip(leaves.items(), found, strict=True)
    }
    return ports, after, gradients
