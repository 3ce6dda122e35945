"""What a step of a scenario costs, whoever computes it: FLOP of agents, bytes of messages, and who waits for whom."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from antiphon.engine.build.builder import build_to_look
from antiphon.engine.core.clock import Clock
from antiphon.engine.core.system import System
from antiphon.engine.planning.cost_model import CostModel
from antiphon.envs.registry import describe
from antiphon.scenarios import Scenario

__all__ = ["AgentCost", "MessageCost", "Workload"]

_LONGEST = 64
"""Steps of a window that are looked at; of longer ones the first."""


@dataclass(frozen=True)
class AgentCost:
    """An agent's ticks, each for the whole batch."""

    forward: float
    """FLOP of one tick."""
    backward: float
    """FLOP of its gradients."""
    clock: Clock

    @property
    def flop(self) -> float:
        """FLOP of a step, the mean over steps."""
        return (self.forward + self.backward) / self.clock.period


@dataclass(frozen=True)
class MessageCost:
    """A message channel."""

    sender: str
    receiver: str
    delay: int
    """Steps that a message takes."""
    nbytes: float
    """Bytes of one message for the whole batch; of its gradient as many."""


@dataclass(frozen=True)
class Workload:
    """A locked scenario: what is computed and sent in one window, at whose end everything learns."""

    batch: int
    """B."""
    window: int
    """Steps of a window; its gradients are taken, and parameters change, at its end."""
    agents: Mapping[str, AgentCost]
    """In the order in which they tick."""
    messages: tuple[MessageCost, ...]
    parameters: float
    """Bytes of all trainable parameters, tied ones once."""

    @property
    def flop(self) -> float:
        """FLOP of a step of all agents, the mean over steps."""
        return sum(agent.flop for agent in self.agents.values())

    @classmethod
    def of(cls, scenario: Scenario, system: System | None = None) -> Workload:
        """Return the workload of a scenario; without its `system`, that is built.

        Raises:
            ScenarioError: It cannot be built; the line names the place.
        """
        system = system or build_to_look(scenario, describe(scenario.env))
        costs = CostModel(system)
        lengths = {group.windows.steps() for group in system.groups}
        periods = {agent.clock.period for agent in system.agents.values()}
        order = [name for wave in scenario.waves() for name in wave]
        agents = {}
        for name in order:
            cost = costs.network(system.agents[name])
            agents[name] = AgentCost(cost.forward, cost.backward, system.agents[name].clock)
        width = system.dtype.itemsize
        sizes = {id(p): p.numel() for agent in system.agents.values() for p in agent.learner.trainable}
        return cls(
            batch=system.batch,
            window=min(math.lcm(*lengths, *periods), _LONGEST),
            agents=agents,
            messages=tuple(
                MessageCost(c.sender, c.receiver, c.ledger.link.delay, float(width * system.batch * c.size))
                for c in system.channels.values()
                if not c.state
            ),
            parameters=float(width * sum(sizes.values())),
        )
