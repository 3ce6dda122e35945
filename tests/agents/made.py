"""Parameters for networks, and networks as plain torch modules."""

from __future__ import annotations

import torch
from torch import fx, nn

from antiphon.agents.network import Network, Tensors
from tests.tensors import drawn


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


def emitted(network: Network, parameters: Tensors, buffers: Tensors) -> fx.GraphModule:
    """The network as plain torch modules called by a graph."""
    root, graph = nn.Module(), fx.Graph()
    emitter = network.emit(root, "agent", parameters, buffers)
    graph.output(emitter(graph, graph.placeholder("x"), None))
    return fx.GraphModule(root, graph)
