"""Composition: the corporation as one plain torch module, signals in, outputs out, no antiphon needed to run it.

The module is a torch.fx graph of ordinary torch layers, unrolled over the steps that an example is shown.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import fx, nn

from antiphon.agents.network import OBJECTIVE
from antiphon.engine.parts import Agent
from antiphon.engine.system import System

__all__ = ["compose", "steps_needed"]


def steps_needed(system: System) -> int:
    """Return for how many steps an example must be shown: `hold`, or until every path without a cycle has filled."""
    reach = dict.fromkeys(system.agents, 0)
    # Longest delays along acyclic paths: relax at most once per agent, so that cycles stop growing.
    for _ in system.agents:
        moved = False
        for channel in system.channels.values():
            arrival = system.agents[channel.receiver].clock.following(
                reach[channel.sender] + channel.ledger.link.delay
            )
            if arrival > reach[channel.receiver]:
                reach[channel.receiver] = arrival
                moved = True
        if not moved:
            return max(system.hold, max(reach.values()) + 1)
    return max(system.hold, 1)


def compose(system: System, agents: Sequence[str], steps: int | None = None) -> fx.GraphModule:
    """Return the system as one module in evaluation mode, with copies of the numbers.

    Args:
        system: What to compose.
        agents: Whose objective outputs it returns.
        steps: For how many steps it shows its inputs to the agents; None: as many as it needs.

    Returns:
        A module called with the observed signals by name, each [batch, *shape], that returns
        {agent: [batch, outputs]}.
    """
    return _Composer(system, steps or steps_needed(system)).compose(agents)


class _Composer:
    def __init__(self, system: System, steps: int) -> None:
        self.system = system
        self.steps = steps
        self.root = nn.Module()
        self.graph = fx.Graph()
        self.signals: dict[str, fx.Node] = {}
        self.flat: dict[str, fx.Node] = {}
        self.zeros: dict[str, fx.Node] = {}
        self.messages: dict[tuple[str, int], fx.Node] = {}
        self.outputs: dict[str, fx.Node] = {}

    def compose(self, agents: Sequence[str]) -> fx.GraphModule:
        seen = dict.fromkeys(s for agent in self.system.agents.values() for s in agent.observes)
        for name in seen:
            self.signals[name] = self.graph.placeholder(name)
        learners = {id(a.learner): a for a in reversed(self.system.agents.values())}
        emitters = {
            key: a.learner.network.emit(
                self.root, f"agent_{a.name}".replace("-", "_"), a.learner.parameters, a.learner.buffers
            )
            for key, a in learners.items()
        }
        for step in range(self.steps):
            for call in self.system.schedule.calls(step):
                for name in call:
                    agent = self.system.agents[name]
                    ports = emitters[id(agent.learner)](self.graph, self._input(agent, step))
                    self._deliver(agent, ports, step)
        self.graph.output({name: self.outputs[name] for name in agents})
        module = fx.GraphModule(self.root, self.graph, class_name="Corporation")
        module.graph.eliminate_dead_code()
        module.recompile()
        return module.eval()

    def _deliver(self, agent: Agent, ports: dict[str, fx.Node], step: int) -> None:
        if OBJECTIVE in ports:
            self.outputs[agent.name] = ports[OBJECTIVE]
        sent: dict[str, fx.Node] = {}
        for channel in agent.outputs:
            if channel.port not in sent:
                sent[channel.port] = self.graph.call_method("flatten", (ports[channel.port], 1))
            self.messages[channel.name, step] = sent[channel.port]

    def _input(self, agent: Agent, step: int) -> fx.Node:
        shape = agent.learner.network.input_shape
        flat = len(shape) == 1
        parts = [self._observation(name, flat) for name in agent.observes]
        told: list[fx.Node] = []
        came = 0
        for channel in agent.inputs:
            stamp = channel.ledger.sender.latest(step - channel.ledger.link.delay)
            node = None if stamp is None else self.messages.get((channel.name, stamp))
            came += node is not None
            node = self._silence(channel.size) if node is None else node
            told.append(node if flat else self.graph.call_method("unflatten", (node, 1, channel.shape)))
        if agent.fan_in != "concat" and told:
            total = told[0]
            for node in told[1:]:
                total = self.graph.call_function(torch.add, (total, node))
            if agent.fan_in == "mean" and came > 1:
                total = self.graph.call_function(torch.div, (total, came))
            told = [total]
        parts.extend(told)
        return parts[0] if len(parts) == 1 else self.graph.call_function(torch.cat, (parts, 1))

    def _observation(self, name: str, flat: bool) -> fx.Node:
        if not flat:
            return self.signals[name]
        if name not in self.flat:
            self.flat[name] = self.graph.call_method("flatten", (self.signals[name], 1))
        return self.flat[name]

    def _silence(self, size: int) -> fx.Node:
        """Zeros [batch, size]: what is read before anything has come."""
        key = str(size)
        if key not in self.zeros:
            first = next(iter(self.signals.values()))
            rows = self.graph.call_method("size", (first, 0))
            self.zeros[key] = self.graph.call_method(
                "new_zeros", (first, (rows, size)), {"dtype": self.system.dtype}
            )
        return self.zeros[key]
