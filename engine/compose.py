"""Composition: the corporation as one plain torch module, signals in, outputs out, no antiphon needed to run it.

The module is a torch.fx graph of ordinary torch layers, unrolled over the steps that an example is shown.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Collection, Sequence

import torch
from torch import fx, nn

from antiphon.agents.network import OBJECTIVE
from antiphon.engine.parts import Agent
from antiphon.engine.system import System
from antiphon.errors import ScenarioError
from antiphon.scenarios.relations import components

__all__ = ["compose", "observed", "steps_needed"]


def steps_needed(system: System) -> int:
    """Return for how many steps an example must be shown: `hold`, or until every path has filled.

    A path through a cycle never fills; there it is enough that all on the cycle have heard of each other. An
    example that is an episode is shown for as long as it lasts, or until every agent has ticked.
    """
    if system.description.is_stream and system.description.episode_steps is not None:
        return max(system.hold, *(agent.clock.phase + 1 for agent in system.agents.values()))
    part = components(system.agents, [(c.sender, c.receiver) for c in system.channels.values()])
    cycle = {name: {other for other in part if part[other] == part[name]} for name in part}
    heard: dict[tuple[str, int], set[str]] = {}
    """Whom an agent's tick has heard of, of those it is on a cycle with, each with all paths to it filled."""
    waiting = set(system.agents)
    step = 0
    while waiting:
        for name in (name for call in system.schedule.calls(step) for name in call):
            filled, others = True, set[str]()
            for channel in system.agents[name].inputs:
                stamp = channel.ledger.sender.latest(step - channel.ledger.link.delay)
                news = set() if stamp is None else heard[channel.sender, stamp]
                if channel.sender in cycle[name]:
                    others |= news
                else:
                    filled &= news == cycle[channel.sender]
            heard[name, step] = others | {name} if filled else others
            if heard[name, step] == cycle[name]:
                waiting.discard(name)
        step += 1
    return max(system.hold, step)


def observed(system: System) -> list[str]:
    """Return the signals that agents see, in the order of the composed module's arguments.

    Raises:
        ScenarioError: There are none.
    """
    names = list(dict.fromkeys(s for agent in system.agents.values() for s in agent.observes))
    if not names:
        raise ScenarioError(
            "agents: none observes a signal, so there is nothing to be shown; let one observe"
        )
    return names


def compose(system: System, agents: Sequence[str]) -> fx.GraphModule:
    """Return the system as one module in evaluation mode, with copies of the numbers.

    Args:
        system: What to compose.
        agents: Whose objective outputs it returns.

    Returns:
        A module called with the observed signals by name (what is no letter or digit in a name becomes `_`), each
        [batch, *shape], that returns {agent: [batch, outputs]}; it shows them for `steps_needed` steps.

    Raises:
        ScenarioError: No agent observes anything.
    """
    return _Composer(system, steps_needed(system)).compose(agents)


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
        words: set[str] = set()
        for name in observed(self.system):
            word = _word(name, words)
            words.add(word)
            self.signals[name] = self.graph.placeholder(word)
        emitters = {
            name: a.learner.network.emit(self.root, f"agent_{name}", a.learner.parameters, a.learner.buffers)
            for name, a in self.system.owners().items()
        }
        for step in range(self.steps):
            for call in self.system.schedule.calls(step):
                for name in call:
                    agent = self.system.agents[name]
                    ports = emitters[self.system.owner_of[name]](self.graph, self._input(agent, step))
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
            method = "flatten" if self.system.description.signals[name].shape else "unsqueeze"
            self.flat[name] = self.graph.call_method(method, (self.signals[name], 1))
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


def _word(name: str, taken: Collection[str]) -> str:
    """A signal's name as the name of an argument that is not taken yet."""
    word = re.sub(r"\W", "_", name)
    if not word.isidentifier() or keyword.iskeyword(word):
        word = f"_{word}"
    while word in taken:
        word += "_"
    return word
