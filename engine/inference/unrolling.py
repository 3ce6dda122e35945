"""Unrolling: the ticks of a system, one after the other, written as one torch.fx graph of plain torch layers."""

from __future__ import annotations

import keyword
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import fx, nn

from antiphon.agents.network import OBJECTIVE, STATE
from antiphon.engine.core.agent import AGE, Agent
from antiphon.engine.core.channel import Channel
from antiphon.engine.core.system import System
from antiphon.errors import ScenarioError

__all__ = ["Unroller", "observed", "words"]

Ports = dict[str, fx.Node]


def observed(system: System) -> list[str]:
    """Return the signals that agents see, in the order of the composed module's arguments.

    Raises:
        ScenarioError: There are none.
    """
    seen = (signal for agent in system.agents.values() for signal in agent.observes if signal != AGE)
    names = list(dict.fromkeys(seen))
    if not names:
        raise ScenarioError(
            "agents: none observes a signal, so there is nothing to be shown; let one observe"
        )
    return names


def words(names: Sequence[str], taken: Sequence[str] = ()) -> dict[str, str]:
    """Return each signal's name as the name of an argument: what is no letter or digit becomes `_`.

    Args:
        names: The signals.
        taken: Names that other arguments have.
    """
    found: dict[str, str] = {}
    for name in names:
        word = re.sub(r"\W", "_", name)
        if not word.isidentifier() or keyword.iskeyword(word):
            word = f"_{word}"
        while word in taken or word in found.values():
            word += "_"
        found[name] = word
    return found


class Unroller(ABC):
    """Appends ticks to a graph; what they read from beyond it, each kind finds in its own way.

    Args:
        system: Whose ticks; the graph's modules hold copies of its numbers.
    """

    def __init__(self, system: System) -> None:
        self.system = system
        self.root = nn.Module()
        self.graph = fx.Graph()
        self.messages: dict[tuple[str, int], fx.Node] = {}
        """By channel and stamp, [batch, size]."""
        self.states: dict[tuple[str, int], fx.Node] = {}
        """By agent and step of the tick that left it, [batch, state size]."""
        self.outputs: dict[str, list[fx.Node]] = {}
        """By agent with an objective: one [batch, outputs] per tick."""
        self._flat: dict[fx.Node, fx.Node] = {}
        self._zeros: dict[tuple[int, ...], fx.Node] = {}

    # --- what lies beyond ----------------------------------------------------------------------------------

    @abstractmethod
    def due(self, channel: Channel, step: int) -> list[int]:
        """Return the stamps that the receiver's tick at `step` reads, oldest first; empty before the first."""

    @abstractmethod
    def made(self, stamps: Sequence[int]) -> fx.Node | None:
        """Return which of some due messages have come, [stamps] bool; None: all of them."""

    @abstractmethod
    def signal(self, name: str, step: int | None) -> fx.Node:
        """Return the observation of a step, [batch, *shape]; None: what an aligned agent sees before its first message."""

    @abstractmethod
    def message(self, channel: Channel, stamp: int) -> fx.Node:
        """Return the message of a due stamp, [batch, size]."""

    @abstractmethod
    def state(self, agent: Agent, step: int) -> fx.Node:
        """Return the state that a recurrent agent's tick at `step` takes up, [batch, state size]."""

    @abstractmethod
    def rows(self) -> fx.Node:
        """Return a tensor whose first dimension is the batch, on the device where all is computed."""

    # --- ticks ---------------------------------------------------------------------------------------------

    def unroll(self, steps: int) -> None:
        """Append the ticks of steps 0 to `steps` - 1."""
        emitters = {
            name: a.learner.network.emit(self.root, f"agent_{name}", a.learner.parameters, a.learner.buffers)
            for name, a in self.system.owners().items()
        }
        for step in range(steps):
            for name in (name for call in self.system.schedule.calls(step) for name in call):
                agent = self.system.agents[name]
                state = self.state(agent, step) if agent.memory is not None else None
                emit = emitters[self.system.owner_of[name]]
                self._deliver(agent, emit(self.graph, self._input(agent, step), state), step)

    def _deliver(self, agent: Agent, ports: Ports, step: int) -> None:
        if OBJECTIVE in ports:
            self.outputs.setdefault(agent.name, []).append(ports[OBJECTIVE])
        if agent.memory is not None:
            self.states[agent.name, step] = ports[STATE]
        sent: Ports = {}
        for channel in agent.outputs:
            if channel.port not in sent:
                sent[channel.port] = self.graph.call_method("flatten", (ports[channel.port], 1))
            self.messages[channel.name, step] = sent[channel.port]

    def _input(self, agent: Agent, step: int) -> fx.Node:
        flat = len(agent.learner.network.input_shape) == 1
        step_signals = self._moment(agent, step)
        parts = [
            self._ages(agent, step) if name == AGE else self._observation(name, step_signals, flat)
            for name in agent.observes
        ]
        due = [self.due(channel, step) for channel in agent.inputs]
        told = [
            self._reading(channel, stamps, flat) for channel, stamps in zip(agent.inputs, due, strict=True)
        ]
        if agent.fan_in != "concat" and told:
            newest = [stamps[-1] for stamps in due if stamps]
            told = [self._mean(told, newest) if agent.fan_in == "mean" else self._sum(told)]
        return self._joined([*parts, *told])

    def _moment(self, agent: Agent, step: int) -> int | None:
        """The step whose observations an agent works on: an aligned one on those of the message it consumes."""
        passed: set[str] = set()
        while agent.align is not None:
            channel = next(channel for channel in agent.inputs if channel.name == agent.align)
            due = self.due(channel, step)
            if not due or agent.name in passed:  # aligned to each other in a ring, none ever sees anything
                return None
            passed.add(agent.name)
            step, agent = due[-1], self.system.agents[channel.sender]
        return step

    # --- what a tick reads ---------------------------------------------------------------------------------

    def _observation(self, name: str, step_signals: int | None, flat: bool) -> fx.Node:
        seen = self.signal(name, step_signals)
        if not flat:
            return seen
        if seen not in self._flat:
            method = "flatten" if self.system.description.signals[name].shape else "unsqueeze"
            self._flat[seen] = self.graph.call_method(method, (seen, 1))
        return self._flat[seen]

    def _reading(self, channel: Channel, stamps: Sequence[int], flat: bool) -> fx.Node:
        """What a tick reads on a channel: one message, or several as one (`read`)."""
        values = [self.message(channel, stamp) for stamp in stamps] or [self.silence(channel.size)]
        if not flat:
            values = [self.graph.call_method("unflatten", (value, 1, channel.shape)) for value in values]
        if channel.ledger.read == "concat":
            shape = (channel.size,) if flat else channel.shape
            return self._joined([self.silence(*shape)] * (channel.slots - len(values)) + values)
        return self._mean(values, stamps) if len(values) > 1 else values[0]

    def _mean(self, values: Sequence[fx.Node], stamps: Sequence[int]) -> fx.Node:
        """The mean of those messages that have come; zeros stand for the others."""
        mask = self.made(stamps)
        if mask is None:
            count: fx.Node | int = max(len(stamps), 1)
        else:
            count = self.graph.call_method("clamp_min", (self.graph.call_method("sum", (mask,)), 1))
        return self.graph.call_function(torch.div, (self._sum(values), count))

    def _ages(self, agent: Agent, step: int) -> fx.Node:
        """[batch, channels]: how old the newest messages are, in ticks of their senders; 0 where none has come."""
        ages, stamps = [], []
        for channel in agent.inputs:
            due = self.due(channel, step)
            ages.append((step - due[-1]) / channel.ledger.sender.clock.period if due else 0.0)
            stamps.append(due[-1] if due else 0)
        blank = self.silence(len(ages))
        row = self.graph.call_method("new_tensor", (blank, ages))
        mask = self.made(stamps)
        if mask is not None:
            row = self.graph.call_function(torch.mul, (row, mask))
        return self.graph.call_method("expand_as", (row, blank))

    def silence(self, *shape: int) -> fx.Node:
        """Return zeros [batch, *shape]: what is read before anything has come."""
        if shape not in self._zeros:
            rows = self.graph.call_method("size", (self.rows(), 0))
            self._zeros[shape] = self.graph.call_method(
                "new_zeros", (self.rows(), (rows, *shape)), {"dtype": self.system.dtype}
            )
        return self._zeros[shape]

    def _sum(self, values: Sequence[fx.Node]) -> fx.Node:
        total = values[0]
        for value in values[1:]:
            total = self.graph.call_function(torch.add, (total, value))
        return total

    def _joined(self, parts: Sequence[fx.Node]) -> fx.Node:
        return parts[0] if len(parts) == 1 else self.graph.call_function(torch.cat, (list(parts), 1))
