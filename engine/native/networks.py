"""Stacks computed by the native kernel: MLPs that learn alone, from windows of one tick.

The ports of such a stack are leaves of autograd: objectives, injections and couplings are differentiated as elsewhere, down
to the ports. From there the kernel goes on to the input, and autograd from the input to the messages that were read. The
gradients of the parameters are made when they are applied, a few agents at a time, and never all in memory, unless
somebody reads them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from antiphon.agents.feedforward import Mlp
from antiphon.agents.learner import Learner, StackedLearner
from antiphon.agents.network import HIDDEN, Tensors
from antiphon.comms.backward_requests import as_leaf, constant, gradients_of
from antiphon.comms.examples import Example
from antiphon.comms.links import FanIn
from antiphon.comms.model import LinearMaps
from antiphon.engine.heart.agent import Agent
from antiphon.engine.heart.clock import TickWindows
from antiphon.engine.heart.message import LearningGroup, Read
from antiphon.engine.heart.rows import EnvMask
from antiphon.engine.heart.system import System
from antiphon.engine.heart.updates import Update
from antiphon.nets.native.layer import ACTIVATIONS, NORMS, Layer
from antiphon.nets.native.losses import squared_error
from antiphon.nets.native.mlp import (
    Block,
    Evaluation,
    KernelGradients,
    StackedMlp,
    bounded,
)
from antiphon.nets.optimisers import Optimiser, StackedOptimiser
from antiphon.nets.schedules import Schedule

__all__ = ["NativeNetwork", "native_networks", "obstacle"]

_LAYERS = 3
"""Hidden layers, at most."""
_WEIGHTS = 1 << 18
"""Numbers of a layer's weight, at most: larger ones leave the cache, and torch's products are as fast."""


def obstacle(system: System, agent: Agent) -> str | None:
    """Return why the native kernel does not compute a stack, or the agents that form one, in one line; None: it does."""
    return next(_obstacles(system, agent), None)


def _obstacles(system: System, agent: Agent) -> Iterator[str]:
    group, learner = system.group_of[agent.name], agent.learner
    network = learner.network.network if isinstance(learner, StackedLearner) else learner.network
    if system.device.type not in ("cpu", "meta") or system.dtype not in (torch.float32, torch.float64):
        yield f"the kernel computes float32 and float64 on the CPU, not {system.dtype} on {system.device}"
    if system.sweep:
        yield "training.sweep"
    if not isinstance(network, Mlp):
        yield "its network is no mlp"
        return
    yield from _network_obstacles(network, system.batch)
    if HIDDEN in agent.ports and not network.widths:
        yield "it sends its input, having no hidden layer"
    if learner.frozen or not isinstance(learner.optimiser, Optimiser | StackedOptimiser):
        yield "it is frozen" if learner.frozen else "its optimiser is torch's, or your own"
    if learner.critic is not None or (agent.goal is not None and agent.goal.policy is not None):
        yield "it learns from rewards"
    if len(group.members) > 1:
        yield "it learns together with others"
    yield from _window_obstacles(group, agent)


def _network_obstacles(network: Mlp, batch: int) -> Iterator[str]:
    heads = network.linear_heads().values()
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


def _window_obstacles(group: LearningGroup, agent: Agent) -> Iterator[str]:
    if not isinstance(group.windows, TickWindows) or group.windows.unroll > 1 or agent.memory is not None:
        yield "it learns from windows of several ticks"
    if group.late:
        yield "it waits for delayed gradients"
    channels = [*agent.incoming, *agent.outgoing]
    if any(channel.coupling == "locked" for channel in channels):
        yield "a channel of it is locked"
    if any(
        c.injects
        and (c.gradient.scale.base != c.gradient.discount or c.gradient.scale.schedule != Schedule())
        for c in agent.outgoing
    ):
        yield "scale and discount of a channel differ"


def layers_of(network: Mlp) -> list[Layer]:
    """Return the layers of a network, hidden ones and then heads, as the kernel has them."""
    found = [
        Layer(i - 1, inputs, outputs, network.norm, network.activation)
        for i, (outputs, inputs) in enumerate(network.layer_shapes())
    ]
    (inputs,) = network.trunk_shape()
    last = len(found) - 1
    heads = network.linear_heads().values()
    return [*found, *(Layer(last, inputs, head.features, head.norm) for head in heads)]


class NativeNetwork:
    """The networks of a stack, computed by the kernel.

    Args:
        learner: The stack's.
        network: Of its first member.
        layout: The stack's.
    """

    def __init__(self, learner: StackedLearner, network: Mlp, layout: FanIn) -> None:
        self.learner, self._layout = learner, layout
        layers = layers_of(network)
        names = [str(i) for i in range(len(network.widths))] + [
            h.name for h in network.linear_heads().values()
        ]
        self._ports = {name: place for place, name in enumerate(names) if place >= len(network.widths)}
        if network.widths:
            self._ports[HIDDEN] = len(network.widths) - 1
        parameters: list[Tensor] = []
        self._statistics: list[str] = []
        for name, layer in zip(names, layers, strict=True):
            own = [f"{name}.weight", f"{name}.bias"]
            if layer.norm != "none":
                own += [f"{name}.norm.gain", f"{name}.norm.bias"]
            if layer.norm == "batch":
                self._statistics += [f"{name}.norm.mean", f"{name}.norm.var"]
            parameters += [learner.parameters[key] for key in own]
        if any(p is not own for p, own in zip(parameters, learner.trainable, strict=True)):
            raise AssertionError("parameters are in another order than those of the kernel")
        self._network = StackedMlp(layers, [constant(p) for p in parameters])
        self._evaluation: Evaluation | None = None
        self._blocks: list[Block] = []
        self.ports: Tensors = {}
        """Of the newest evaluation, leaves [N * B, O]."""

    def __call__(
        self,
        buffers: Tensors,
        observations: Sequence[Tensor],
        messages: Sequence[Tensor],
        available: Sequence[EnvMask],
    ) -> tuple[Tensors, Tensors]:
        """Return the ports, leaves of autograd, and the new running statistics; arguments as of the layout's `join`."""
        blocks = self._layout.blocks(observations, messages, available)
        evaluation = self._network(blocks, self._layout.batch, [buffers[name] for name in self._statistics])
        self._evaluation, self._blocks = evaluation, blocks
        self.ports = {name: as_leaf(evaluation.outputs[place]) for name, place in self._ports.items()}
        return dict(self.ports), dict(zip(self._statistics, evaluation.statistics, strict=True))

    def differentiate(self, update: Update, agent: str, wanted: Sequence[Read]) -> None:
        """Go on from the gradients of the ports, which an update has of its agent, to parameters and messages.

        Args:
            update: Of the newest evaluation's window.
            agent: The stack.
            wanted: What the window read whose gradient is wanted.
        """
        evaluation, blocks = self._evaluation, self._blocks
        assert evaluation is not None
        self._evaluation, self._blocks, self.ports = None, [], {}
        of_ports = update.gradients.get(agent, [])
        if all(gradient is None for gradient in of_ports):
            if agent in update.gradients:
                update.gradients[agent] = [None] * len(self.learner.trainable)
            return
        given: list[Tensor | None] = [None] * len(evaluation.outputs)
        for place, gradient in zip(self._ports.values(), of_ports, strict=True):
            given[place] = gradient
        read = [bool(wanted) and block.rows.requires_grad for block in blocks]
        of_blocks, bounds = evaluation.backward(given, read)
        update.finite = bounded(bounds)
        gradients = KernelGradients(evaluation, finite=update.finite)
        update.gradients[agent] = gradients if self.learner.trainable else []
        if any(read):
            ends = [
                (block.rows, gradient)
                for block, gradient in zip(blocks, of_blocks, strict=True)
                if gradient is not None
            ]
            found = gradients_of(ends, [read.value for read in wanted if read.value is not None])
            update.returned.update(zip(wanted, found, strict=True))


@dataclass(slots=True)
class NativeMaps(LinearMaps):
    """Linear maps computed by the native kernel, which follows their gradients without writing them to memory."""

    network: StackedMlp

    @staticmethod
    def like(maps: LinearMaps) -> NativeMaps:
        """Return the same maps."""
        _, outputs, inputs = maps.weights.shape
        network = StackedMlp([Layer(-1, inputs, outputs)], [maps.weights, maps.biases])
        return NativeMaps(maps.size, maps.weights, maps.biases, maps.reuses, maps.label, network)

    def _outputs(self, x: Tensor) -> Tensor:
        outputs = self.network([Block(x.flatten(0, 1))], x.shape[1], []).outputs[0]
        return outputs.view(*x.shape[:2], -1)

    def _errors(self, outputs: Tensor, example: Example, batch: int) -> tuple[Tensor, Tensor]:
        if example.delta is None or self.label is not None:
            return LinearMaps._errors(self, outputs, example, batch)
        losses, error = squared_error(outputs.flatten(0, 1), example.delta.flatten(0, 1), 1.0, 1 / batch)
        return losses.view(outputs.shape[:2]), error.view(outputs.shape)

    def _gradients(self, x: Tensor, error: Tensor) -> Sequence[Tensor]:
        return KernelGradients.of_map(self.network, x, error)


def native_networks(system: System) -> Mapping[str, NativeNetwork]:
    """The networks of a system's stacks that the kernel computes, by stack.

    So are the linear synthetic gradients of messages of such stacks.
    """
    found: dict[str, NativeNetwork] = {}
    for name, agent in system.agents.items():
        learner = agent.learner
        if isinstance(learner, Learner) or obstacle(system, agent) is not None:
            continue
        if all(p.is_contiguous() for p in learner.trainable):
            found[name] = NativeNetwork(learner, learner.network.network, agent.layout)
    for channel in system.channels.values():
        predictor = channel.gradient.predictor
        if channel.sender not in found or predictor is None or predictor.maps is None:
            continue
        if predictor.maps.weights.is_contiguous() and predictor.maps.biases.is_contiguous():
            predictor.maps = NativeMaps.like(predictor.maps)
    return found
