"""FLOP of a step and bytes that autograd keeps, counted on each kind of network and predictor; no time is predicted.

What is evaluated is the part itself, on a few rows, so that every kind counts, a user's module too. FLOP are those of
products and convolutions by torch's own formulas (`torch.utils.flop_counter`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor, UntypedStorage
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from antiphon.agents.network import VALUE
from antiphon.base.copies import copy_with
from antiphon.comms.examples import Example
from antiphon.comms.label_gradients import LensGradient
from antiphon.comms.synthetic_gradients import Predictor
from antiphon.comms.synthetic_inputs import InputModel
from antiphon.engine.heart.agent import Agent
from antiphon.engine.heart.channel import Channel
from antiphon.engine.heart.system import System
from antiphon.engine.heart.window import LearningGroup

_ROWS = 2
"""What is counted on these and on one row more gives any number of rows; on fewer, batch norm is another function."""
_BACKWARD = 2
"""FLOP of gradients for one of the evaluation, of a network that cannot be evaluated here."""


@dataclass(frozen=True)
class NetworkCost:
    """One tick of a network for a whole batch."""

    forward: float
    """FLOP of the evaluation."""
    backward: float
    """FLOP of its gradients."""
    opening: float
    """FLOP of its gradients at a window's first tick, which differentiates no state."""
    saved: int
    """Bytes that autograd keeps of it until the window's end."""


class CostModel:
    """Costs of a system's parts, each kind counted once.

    Only the system's shapes and clocks count: its tensors may be on torch's meta device. It is not changed.
    """

    def __init__(self, system: System) -> None:
        self.system = system
        self._networks: dict[Hashable, NetworkCost] = {}
        self._models: dict[Hashable, float] = {}

    def flop(self) -> float:
        """Return the FLOP of a step, the mean over steps; messages that an episode's end makes void count as if they were read."""
        ticks = sum(map(self.tick, self.system.agents.values()))
        channels = self.system.channels.values()
        return ticks + sum(map(self.gradient, channels)) + sum(map(self.input, channels))

    def network(self, agent: Agent) -> NetworkCost:
        learner, batch = agent.learner, self.system.batch
        returns = any(
            channel.coupling.joins_endpoints or channel.ledger.returns_gradients
            for channel in agent.connections.incoming
        )
        state_channel = agent.connections.state_channel
        carries = state_channel is not None and state_channel.ledger.returns_gradients
        critic = None if learner.critic is None else learner.critic.signature()
        key = learner.network.signature(), critic, returns, carries, learner.frozen
        if key not in self._networks:
            try:
                few, more = (self._evaluated(agent, rows, returns, carries) for rows in (_ROWS, _ROWS + 1))
            except Exception:  # noqa: BLE001  (a user's module may refuse such inputs in any way)
                # as if every parameter met every row once
                size = math.prod(learner.network.input_shape)
                size += sum(head.features for head in learner.network.heads.values())
                units = size + sum(len(p) for p in learner.parameters.values() if p.dim() > 1)
                forward = 2.0 * batch * sum(p.numel() for p in learner.parameters.values())
                activation_bytes = self.system.dtype.itemsize * batch * units
                backward = forward * _BACKWARD
                self._networks[key] = NetworkCost(forward, backward, backward, activation_bytes)
            else:
                counts = (_at(batch, *pair) for pair in zip(few, more, strict=True))
                forward, saved, backward, opening = counts
                self._networks[key] = NetworkCost(forward, backward, opening, int(saved))
        return self._networks[key]

    def tick(self, agent: Agent) -> float:
        cost, group = self.network(agent), self.system.group_by_agent[agent.name]
        flop = cost.forward * (1 + self._replayed(group))
        if any(map(_learns, map(self.system.agents.__getitem__, group.agent_names))):
            draws, reached = agent.participation, agent.clock.tick_period * self._signals[agent.name]
            backward = cost.backward + (cost.opening - cost.backward) / self._window_ticks(agent)
            flop += backward * (1.0 if draws is None else float(draws.probability)) * reached
        return flop / agent.clock.tick_period

    def _replayed(self, group: LearningGroup) -> float:
        """Return the share of a group's windows that wait and are computed again: those with a message that is read."""
        awaited = (_read(self.system.channels[name]) for name in group.horizons)
        return min(1.0, group.grid.max_steps() * max(awaited, default=0.0))

    @cached_property
    def _signals(self) -> dict[str, float]:
        """How many ticks a step of each agent a learning signal reaches: without a loss of its own, those whose messages are read.

        Shares only fall until they agree, each with those of its receivers: all ticks of a cycle count but for what its
        channels leave unread, and no path of a graph is walked twice.
        """
        agents = self.system.agents
        signals = {name: 1 / agent.clock.tick_period for name, agent in agents.items()}
        pending = dict.fromkeys(agents)
        while pending:
            agent = agents[pending.popitem()[0]]
            if self._has_own_signal(agent):
                continue
            returned = [
                min(
                    _read(channel),
                    math.inf if channel.injects_prediction else signals.get(channel.receiver, math.inf),
                )
                for channel in agent.connections.outgoing
                if _gives_signal(channel)
            ]
            if returned and max(returned) < signals[agent.name]:
                signals[agent.name] = max(returned)
                pending |= dict.fromkeys(c.sender for c in agent.connections.incoming if c.sender in agents)
        return signals

    def _window_ticks(self, agent: Agent) -> int:
        """Return an agent's ticks in a window, at most."""
        grid = self.system.group_by_agent[agent.name].grid
        return max(1, grid.max_steps() // agent.clock.tick_period)

    def _has_own_signal(self, agent: Agent) -> bool:
        """Whether a learning signal reaches each tick of an agent, whatever becomes of its messages."""
        carries = agent.learner.network.state_size and self._window_ticks(agent) > 1
        return bool(carries) or agent.goal is not None or agent.connections.state_channel is not None

    def _evaluated(self, agent: Agent, rows: int, returns: bool, carries: bool) -> tuple[int, int, int, int]:
        """Return FLOP forward, bytes saved, and FLOP backward of a tick and of a window's first one, with so many rows.

        Args:
            returns: Whether the gradient of the inputs is needed.
            carries: Whether the gradient of a window's first state is.
        """
        network, parameters = agent.learner.network.probe(), _without_hooks(agent.learner.parameters)
        buffers = {name: buffer.clone() for name, buffer in agent.learner.buffers.items()}
        factory_arguments: dict[str, Any] = {"dtype": self.system.dtype, "device": _device(parameters)}
        x = torch.zeros(rows, *network.input_shape, requires_grad=returns, **factory_arguments)
        state = torch.zeros(rows, network.state_size, **factory_arguments) if network.state_size else None
        ports: dict[str, Tensor] = {}

        def backward(before: Tensor | None) -> None:
            outputs = [port for port in ports.values() if port.requires_grad]
            leaves = [
                leaf for leaf in (*parameters.values(), x, before) if leaf is not None and leaf.requires_grad
            ]
            if outputs and leaves:
                output_gradients = [torch.zeros_like(port) for port in outputs]
                torch.autograd.grad(outputs, leaves, output_gradients, allow_unused=True)

        def evaluate(before: Tensor | None) -> None:
            ports.update(network(parameters, buffers, x, training=True, state=before)[0])
            if agent.inputs.critic_observed.signal_names:
                seen = torch.zeros(rows, *agent.learner.critic.input_shape, **factory_arguments)
                ports[VALUE], _ = agent.learner.values(parameters, buffers, seen, training=True)

        later = None if state is None else state.clone().requires_grad_()
        forward, saved = _counted(partial(evaluate, later), parameters.values())
        of_tick = _counted(partial(backward, later))[0]
        if state is None or carries:
            return forward, saved, of_tick, of_tick
        evaluate(state)
        return forward, saved, of_tick, _counted(partial(backward, None))[0]

    def gradient(self, channel: Channel) -> float:
        """Return the FLOP of a step of a channel's synthetic gradient, which its sender evaluates."""
        ledger = channel.ledger
        stamp = ledger.timetable.sender_clock.after(0)
        back = ledger.timetable.planned_back_at(stamp)
        # whether a message's gradient is back before another one has trained the predictor
        predicted_before = back is not None and back < ledger.timetable.sender_clock.after(stamp)
        return self._model(channel.synthetic_gradient.model, predicted_before=predicted_before) * _read(
            channel
        )

    def input(self, channel: Channel) -> float:
        """Return the FLOP of a step of a channel's synthetic input, which its receiver evaluates."""
        return self._model(channel.synthetic_input.model) * _read(channel)

    def _model(self, model: Predictor | InputModel | None, *, predicted_before: bool = False) -> float:
        """Return the FLOP of a predictor's evaluation and training on a message: it trains on what it predicted before, where its
        parameters are the same."""
        if model is None:
            return 0.0
        shapes = tuple(tuple(p.shape) for p in model.parameters.values())
        site_model = model.sites or model
        key = (
            type(model),
            model.function,
            site_model.size,
            site_model.context,
            model.norm,
            model.frozen,
            shapes,
            predicted_before,
        )
        if key not in self._models:
            few, more = (
                _counted(partial(_train, model, rows, self.system.dtype, predicted_before=predicted_before))[
                    0
                ]
                for rows in (_ROWS, _ROWS + 1)
            )
            self._models[key] = _at(self.system.batch, few, more)
        return self._models[key]


def _learns(agent: Agent) -> bool:
    """Whether an agent has a learning signal, or passes one on."""
    returns = any(
        channel.injects_prediction or channel.coupling.waits for channel in agent.connections.outgoing
    )
    return (
        agent.goal is not None
        or returns
        or (
            agent.connections.state_channel is not None and agent.connections.state_channel.injects_prediction
        )
    )


def _gives_signal(channel: Channel) -> bool:
    """Whether a message of a channel that is read gives its sender a learning signal."""
    return channel.injects_prediction or channel.coupling.waits or channel.coupling.joins_endpoints


def _read(channel: Channel) -> float:
    """Return how many messages a step of a channel are read: of states, one a window."""
    if channel.carries_state:
        return 1 / channel.ledger.timetable.receiver_grid.max_steps()
    sent = 1 / channel.ledger.timetable.sender_clock.tick_period
    return min(
        sent, channel.ledger.timetable.read_mode.slots / channel.ledger.timetable.receiver_clock.tick_period
    )


def _train(model: Predictor | InputModel, rows: int, dtype: torch.dtype, *, predicted_before: bool) -> None:
    """Predict for a message of so many rows and compute the loss's gradients; the model does not change."""
    attributes: dict[str, Any] = {"buffers": dict(model.buffers)}  # its running statistics move
    if model.layers is not None:
        parameters = _without_hooks(model.parameters)
        attributes |= {"layers": model.layers.probe(), "parameters": parameters}
        attributes["trainable"] = [] if model.frozen else list(parameters.values())
    model = copy_with(model, **attributes)
    read = model.sources if isinstance(model, LensGradient) else model.parameters
    factory_arguments: dict[str, Any] = {"dtype": dtype, "device": _device(read)}
    site_model = model.sites or model
    width = sum(spec.features for spec in site_model.context)
    context = torch.zeros(rows, width, **factory_arguments) if width else None
    message = torch.zeros(rows, site_model.size, **factory_arguments)
    if isinstance(model, InputModel):
        model.predict(context, rows)
        if not model.frozen:
            model.loss_and_gradients([Example(message, context, None)])
        return
    example_fields: dict[str, Any] = {}
    target = (model.sites or model).target
    if target is not None:
        kind = factory_arguments if target.classes is None else factory_arguments | {"dtype": torch.int64}
        example_fields["target"] = torch.zeros(rows, *target.shape, **kind)
    if model.needs_loss:
        example_fields["loss"] = message.new_zeros(rows)
    example = Example(message, context, torch.zeros_like(message), **example_fields)
    prediction = model.predict(example)
    if not model.frozen:
        model.loss_and_gradients([replace(example, prediction=prediction) if predicted_before else example])


def _without_hooks(parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: p.data.requires_grad_(p.requires_grad) for name, p in parameters.items()}


def _device(tensors: Mapping[str, Tensor]) -> torch.device:
    return next((tensor.device for tensor in tensors.values()), torch.device("cpu"))


def _at(rows: int, few: float, more: float) -> float:
    """Return a count for `rows`, from those for a few rows and for one row more."""
    return few + (more - few) * (rows - _ROWS)


# --- counting --------------------------------------------------------------------------------------------


class FlopCounter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Torch's `FlopCounterMode` without its import of the compiler, which would take `show` a second longer."""

    flop = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False

    def __torch_dispatch__(
        self, operation: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = operation(*args, **(kwargs or {}))
        if operation._overloadpacket in flop_registry:
            self.flop += flop_registry[operation._overloadpacket](*args, **(kwargs or {}), out_val=result)
        return result


def _counted(evaluate: Callable[[], object], existing: Iterable[Tensor] = ()) -> tuple[int, int]:
    """Return the FLOP of an evaluation, and the bytes that autograd saves of it beside `existing`, which exist anyway."""
    storages: dict[int, UntypedStorage] = {}  # kept alive, so that no two are at one place

    def save(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        storages[storage._cdata] = storage
        return tensor

    counter = FlopCounter()  # type: ignore[no-untyped-call]
    with counter, torch.autograd.graph.saved_tensors_hooks(save, lambda tensor: tensor):
        evaluate()
    for tensor in existing:
        storages.pop(tensor.untyped_storage()._cdata, None)
    return counter.flop, sum(storage.nbytes() for storage in storages.values())
