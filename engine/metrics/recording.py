"""Recordings: raw tensors of one agent or channel over time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from antiphon.comms.credit import constant
from antiphon.engine.core.system import System
from antiphon.errors import ScenarioError, suggest

if TYPE_CHECKING:
    from antiphon.engine.simulation import Simulation

__all__ = ["Recording"]

_CHANNEL = ("message", "delta", "prediction")


class Recording:
    """Tensors kept every few steps.

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

    def take(self, simulation: Simulation, step: int) -> None:
        """Keep what there is at `step`; called by the simulation."""
        if (step + 1) % self.every:
            return
        for quantity in self.quantities:
            value = self._value(simulation, quantity, step)
            if value is not None:
                self.steps[quantity].append(step)
                self.values[quantity].append(constant(value).clone())

    def stack(self, quantity: str) -> Tensor:
        """Return a quantity's entries as one tensor [entries, …]."""
        return torch.stack(self.values[quantity])

    def _value(self, simulation: Simulation, quantity: str, step: int) -> Tensor | None:
        system = simulation.system
        if self.name in system.agents:
            return system.agents[self.name].learner.parameters[quantity]
        if quantity == "message":
            sent = simulation.backend.sent(self.name, step)
            return None if sent is None else sent.message
        if quantity == "prediction":
            for update in simulation.learned.updates:
                if self.name in update.injected:
                    return update.injected[self.name]
            return None
        lesson = simulation.learned.predictor_updates.get(self.name)
        return None if lesson is None else lesson.examples[-1].delta
