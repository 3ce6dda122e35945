"""Stacks of MLPs computed by the native kernel.

Such a stack has a network and a fan-in of its own in place of those it was built with.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from antiphon.agents.feedforward import Mlp
from antiphon.agents.network import HIDDEN, Tensors
from antiphon.comms.fan_in import BlockFanIn, StackFanIn
from antiphon.engine.heart.agent import Agent
from antiphon.engine.heart.system import System
from antiphon.nets.native.by_kernel import ACTIVATIONS, NORMS, PARAMETERS, Form, Layer
from antiphon.nets.native.mlp import evaluate
from antiphon.nets.optimisers import Optimiser

_LAYERS = 3
"""Hidden layers, at most."""
_WEIGHTS = 1 << 18
"""Numbers of a layer's weight, at most: larger ones leave the cache, and torch's products are as fast."""


def obstacle(system: System, agent: Agent) -> str | None:
    """Return why the native kernel does not compute a stack, or the agents that form one, in one line; None: it does."""
    return next(_obstacles(system, agent), None)


def _obstacles(system: System, agent: Agent) -> Iterator[str]:
    learner, network = agent.learner, agent.learner.network
    if system.device.type not in ("cpu", "meta") or system.dtype not in (torch.float32, torch.float64):
        yield f"the kernel computes float32 and float64 on the CPU, not {system.dtype} on {system.device}"
    if not isinstance(network, Mlp):
        yield "its network is not an mlp"
        return
    yield from _network_obstacles(network, system.batch)
    if HIDDEN in agent.port_names and not network.widths:
        yield "it has no hidden layer, and sends its input"
    if learner.frozen or not isinstance(learner.optimiser, Optimiser):
        yield "it is frozen" if learner.frozen else "its optimiser is torch's, or your own"
    together = [system.agents[name] for name in system.group_by_agent[agent.name].agent_names]
    if learner.critic is not None or any(agent_in_group.policy is not None for agent_in_group in together):
        yield "it learns from rewards"  # or with one that does, whose passes evaluate it again
    if any(channel.synthetic_gradient.replayed for channel in agent.connections.outgoing):
        yield "it is replayed beside a policy"


def _network_obstacles(network: Mlp, batch: int) -> Iterator[str]:
    heads = network.linear_heads.values()
    if len(network.widths) > _LAYERS:
        yield f"it has more than {_LAYERS} hidden layers"
    if network.widths and network.activation not in ACTIVATIONS:
        yield f"its activation is {network.activation}"
    norms = {head.norm for head in heads} | ({network.norm} if network.widths else set())
    for norm in sorted(norms - set(NORMS)):
        yield f"a normalisation is {norm}"
    if "batch" in norms and batch < 2:
        yield "batch norm of a single row"
    if any(len(head.size) > 1 for head in heads):
        yield "it sends maps"
    if any(layer.inputs * layer.outputs > _WEIGHTS for layer in layers_of(network)):
        yield f"a layer has more than {_WEIGHTS:,} weights"


def layers_of(network: Mlp) -> list[Layer]:
    """Return the layers of a network, hidden ones and then heads, as the kernel has them."""
    hidden = [
        Layer(i - 1, inputs, outputs, network.norm, network.activation)
        for i, (outputs, inputs) in enumerate(network.layers.values())
    ]
    (inputs,) = network.trunk_shape
    last = len(hidden) - 1
    heads = network.linear_heads.values()
    return [*hidden, *(Layer(last, inputs, head.features, head.norm) for head in heads)]


class NativeNetwork(Mlp):
    """An mlp whose stacks the kernel computes."""

    def __init__(self, network: Mlp) -> None:
        vars(self).update(vars(network))
        layers = layers_of(network)
        names = [*network.layers, *network.linear_heads]
        self._ports = {name: index for index, name in enumerate(names) if index >= len(network.widths)}
        if network.widths:
            self._ports[HIDDEN] = len(network.widths) - 1
        self._parameters: list[str] = []
        self._statistics: list[str] = []
        for name, layer in zip(names, layers, strict=True):
            own = "weight", "bias", "norm.gain", "norm.bias"
            self._parameters += [f"{name}.{own[index]}" for index in PARAMETERS[layer.norm]]
            if layer.norm == "batch":
                self._statistics += [f"{name}.norm.mean", f"{name}.norm.var"]
        self._form = Form(layers)

    def on_rows(
        self, parameters: Tensors, buffers: Tensors, x: Any, member_count: int, **settings: Any
    ) -> tuple[Tensors, Tensors]:
        """Return the ports and the new running statistics of training; `x`: blocks of `BlockFanIn`."""
        blocks, batch = x
        parameter_list = [parameters[name] for name in self._parameters]
        statistics = [buffers[name] for name in self._statistics]
        outputs, after = evaluate(self._form, parameter_list, blocks, batch, statistics)
        ports = {name: outputs[index] for name, index in self._ports.items()}
        return ports, dict(zip(self._statistics, after, strict=True))


def use_kernel(system: System) -> None:
    """Let the kernel compute the stacks of a system that it can."""
    for agent in system.agents.values():
        learner, fan_in, network = agent.learner, agent.inputs.fan_in, agent.learner.network
        if (
            not agent.layout.has_member_axis
            or not isinstance(network, Mlp)
            or obstacle(system, agent) is not None
        ):
            continue
        if not all(p.is_contiguous() for p in learner.trainable):
            continue
        learner.network = NativeNetwork(network)
        assert isinstance(fan_in, StackFanIn)
        agent.inputs.fan_in = BlockFanIn(fan_in.member_count, fan_in.segments)
