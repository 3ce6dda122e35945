"""What users hold of a running simulation: its agents, and recordings of raw tensors over time."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from antiphon.comms.backward_requests import constant
from antiphon.engine.core.agent import Agent
from antiphon.engine.core.system import System
from antiphon.engine.inference.export import agent_module
from antiphon.engine.step.backends import Backend
from antiphon.engine.step.report import AgentReport
from antiphon.errors import ScenarioError, suggest

__all__ = ["AgentHandle", "Agents", "Recording"]

_CHANNEL = ("message", "delta", "prediction")


class AgentHandle:
    """One agent of a running simulation. It is looked at; `Simulation.set` changes settings."""

    _agent: Agent

    def __init__(self, agent: Agent) -> None:
        object.__setattr__(self, "_agent", agent)

    def __setattr__(self, name: str, value: object) -> None:
        key = "learning_rate" if name in ("lr", "rate") else name
        raise ScenarioError(
            f"agents['{self.name}'].{name} cannot be assigned; a setting is changed by "
            f"simulation.set('{self.name}.{key}', …), a parameter in place"
        )

    @property
    def name(self) -> str:
        """Its name."""
        return self._agent.name

    @property
    def parameters(self) -> dict[str, Tensor]:
        """Its parameters by name: the live tensors, not copies."""
        return dict(self._agent.learner.parameters)

    @property
    def updates(self) -> int:
        """How many optimiser steps it has taken."""
        return self._agent.learner.updates

    @property
    def module(self) -> nn.Module:
        """Its network as a plain torch module in evaluation mode, with copies of its parameters.

        It takes [batch, *input] and returns {port: [batch, …]}.
        """
        return agent_module(self._agent.learner)


class Agents(dict[str, AgentHandle]):
    """Agents by name."""

    def __missing__(self, name: str) -> AgentHandle:
        raise ScenarioError(f"agents: no agent '{name}'{suggest(name, self)}")


class Recording:
    """Tensors of an agent or channel, kept every few steps.

    Attributes:
        name: The agent or channel.
        steps: When each entry was taken, by quantity.
        values: The entries, by quantity: copies, in order.
    """

    def __init__(self, system: System, name: str, quantities: tuple[str, ...], every: int) -> None:
        known = [*system.agents, *system.channels]
        if name not in known:
            raise ScenarioError(f"record: no agent or channel '{name}'{suggest(name, known)}")
        offered = _CHANNEL if name in system.channels else tuple(system.agents[name].learner.parameters)
        for quantity in quantities:
            if quantity not in offered:
                raise ScenarioError(f"record: '{name}' has no '{quantity}'{suggest(quantity, offered)}")
        if every < 1:
            raise ScenarioError(f"record: every is {every}; it must be at least 1")
        self.name = name
        self.quantities = quantities
        self.every = every
        self.steps: dict[str, list[int]] = {quantity: [] for quantity in quantities}
        self.values: dict[str, list[Tensor]] = {quantity: [] for quantity in quantities}

    def add(self, backend: Backend, learned: AgentReport, step: int) -> None:
        """Keep what there is at `step`; called by the simulation."""
        if (step + 1) % self.every:
            return
        for quantity in self.quantities:
            value = self._value(backend, learned, quantity, step)
            if value is not None:
                self.steps[quantity].append(step)
                self.values[quantity].append(constant(value).clone())

    def stack(self, quantity: str) -> Tensor:
        """Return a quantity's entries as one tensor [entries, …]."""
        return torch.stack(self.values[quantity])

    def _value(self, backend: Backend, learned: AgentReport, quantity: str, step: int) -> Tensor | None:
        agents = backend.per_agent().agents
        if self.name in agents:
            return agents[self.name].learner.parameters[quantity]
        if quantity == "message":
            sent = backend.sent(self.name, step)
            return None if sent is None else sent.message
        if quantity == "prediction":
            injected = (update.injected.get(self.name) for update in learned.updates)
            return next((rows for rows in injected if rows is not None), None)
        update = learned.predictor_updates.get(self.name)
        return None if update is None else update.examples[-1].delta
