"""Export: a system over perfect links as one plain torch module, which needs no antiphon to run.

The module is a torch.fx graph of ordinary torch layers, which torch.fx and torch.export accept. It is unrolled over the steps
that an example is shown.
"""

from __future__ import annotations

import functools
import keyword
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import fx, nn

from antiphon.agents.learner import Learner
from antiphon.agents.network import OBJECTIVE, STATE, Emitter
from antiphon.comms.symbols import SymbolSampler
from antiphon.engine.core.agent import AGE, Agent
from antiphon.engine.core.channel import Channel
from antiphon.engine.core.system import System
from antiphon.engine.inference.rollout import steps_needed
from antiphon.errors import ScenarioError, suggest

__all__ = ["agent_module", "export", "observed", "with_output"]

Ports = dict[str, fx.Node]


def export(system: System, agents: Sequence[str]) -> fx.GraphModule:
    """Return the system as one module in evaluation mode, with copies of the parameters.

    Args:
        system: What to export.
        agents: Whose objective outputs it returns.

    Returns:
        A module called with the observed signals of examples by name (what is no letter or digit in a name becomes `_`), each
        [batch, *shape], that returns {agent: [batch, outputs]}; it shows them for `steps_needed` steps.

    Raises:
        ScenarioError: No such agent, or one without an output; no agent observes anything; the environment is no stream of
            examples.
    """
    goals, outputs = system.goals(), with_output(system, system.agents)
    for name in agents:
        if name not in system.agents:
            raise ScenarioError(f"compose: no agent '{name}'{suggest(name, system.agents)}")
        if name not in outputs:
            why = "has a policy over its messages alone" if name in goals else "has no objective"
            raise ScenarioError(f"compose: '{name}' {why}, so it has no output{suggest(name, outputs)}")
    if not system.description.is_stream:
        raise ScenarioError(
            "compose: the environment is no stream of examples, and one module has no clock; use Simulation.policy, or "
            "agents[name].module"
        )
    unrolled = _Unrolled(system)
    for step in range(steps_needed(system)):
        unrolled.append(step)
    unrolled.graph.output({name: unrolled.outputs[name] for name in agents})
    module = fx.GraphModule(unrolled.root, unrolled.graph, class_name="Corporation")
    module.graph.eliminate_dead_code()
    module.recompile()
    return module.eval()


def with_output(system: System, names: Iterable[str]) -> list[str]:
    """Return those of some agents that have an objective's output; a policy over messages alone has none."""
    return [name for name in names if OBJECTIVE in system.agents[name].ports]


def agent_module(learner: Learner) -> fx.GraphModule:
    """Return one agent's network as a module in evaluation mode, with copies of the parameters.

    It takes `x`, [batch, *input], and returns {port: [batch, …]}; a recurrent network begins with a state of zeros.
    """
    root, graph = nn.Module(), fx.Graph()
    emit = learner.network.emit(root, "network", learner.parameters, learner.buffers)
    graph.output(emit(graph, graph.placeholder("x"), None))
    return fx.GraphModule(root, graph, class_name="Agent").eval()


def observed(system: System) -> list[str]:
    """Return the signals that agents see, in the order of the composed module's arguments.

    Raises:
        ScenarioError: There are none.
    """
    names = {signal: None for agent in system.agents.values() for signal in agent.observes if signal != AGE}
    if not names:
        raise ScenarioError(
            "agents: none observes a signal, so there is nothing to be shown; let one observe"
        )
    return list(names)


def _argument_names(names: Iterable[str]) -> dict[str, str]:
    """Return each name as the name of an argument, no two alike: what is no letter or digit becomes `_`."""
    found: dict[str, str] = {}
    for name in names:
        word = re.sub(r"\W", "_", name)
        if not word.isidentifier() or keyword.iskeyword(word):
            word = f"_{word}"
        while word in found.values():
            word += "_"
        found[name] = word
    return found


class _Unrolled:
    """Ticks of a system as one graph, from silence on; all steps show the same example.

    Args:
        system: Whose; the graph's modules hold copies of its parameters.

    Attributes:
        outputs: By agent with an objective: [batch, outputs] of its newest tick.
    """

    def __init__(self, system: System) -> None:
        self.system, self.root, self.graph = system, nn.Module(), fx.Graph()
        words = _argument_names(observed(system)).items()
        self.outputs: Ports = {}
        self._signals = {name: self.graph.placeholder(word) for name, word in words}
        self._encoded: dict[tuple[str, str], fx.Node] = {}
        self._messages: dict[tuple[str, int], fx.Node] = {}
        """By channel and stamp, [batch, size]."""
        self._states: Ports = {}
        """By agent: that which its newest tick left, [batch, state size]."""
        self._emitters: dict[str, Emitter] = {
            name: a.learner.network.emit(self.root, f"agent_{name}", a.learner.parameters, a.learner.buffers)
            for name, a in system.owners().items()
        }

    def append(self, step: int) -> None:
        """Append the ticks of a step."""
        for name in self.system.schedule.ticks(step):
            agent, state = self.system.agents[name], None
            if agent.memory is not None:
                state = self._states.get(name) or self._silence(agent.learner.network.state_size)
            ports = self._emitters[self.system.owner_of[name]](self.graph, self._input(agent, step), state)
            if OBJECTIVE in ports:
                self.outputs[name] = ports[OBJECTIVE]
            if agent.memory is not None:
                self._states[name] = ports[STATE]
            for channel in agent.outgoing:
                self._messages[channel.name, step] = self._sent(channel, ports[channel.port])

    def _sent(self, channel: Channel, port: fx.Node) -> fx.Node:
        """The message of a port, [batch, size]: where it is sampled, the most probable one."""
        message = self._call("flatten", port, 1)
        if not isinstance(channel.sampler, SymbolSampler):
            return message
        positions = self._call("unflatten", message, 1, (channel.sampler.length, channel.sampler.vocabulary))
        symbols = self._call("argmax", positions, -1)
        one_hot = self._call(nn.functional.one_hot, symbols, channel.sampler.vocabulary)
        return self._call("flatten", self._call("to", one_hot, self.system.dtype), 1)

    # --- what a tick reads ---------------------------------------------------------------------------------

    def _input(self, agent: Agent, step: int) -> fx.Node:
        flat = len(agent.learner.network.input_shape) == 1
        due = [channel.mailbox.due(step) for channel in agent.incoming]
        reads = list(zip(agent.incoming, due, strict=True))
        ages = [(step - stamps[-1]) / c.ledger.sender.clock.period if stamps else 0.0 for c, stamps in reads]
        parts = [
            self._per_channel(ages) if name == AGE else self._observation(agent, name)
            for name in agent.observes
        ]
        messages = [self._reading(channel, stamps, flat) for channel, stamps in reads]
        if agent.fan_in == "own":
            messages.append(self._per_channel([float(bool(stamps)) for stamps in due]))
        elif agent.fan_in != "concat" and messages:
            come = sum(map(bool, due))
            messages = [self._mean(messages, come) if agent.fan_in == "mean" else self._sum(messages)]
        return self._joined([*parts, *messages])

    def _observation(self, agent: Agent, name: str) -> fx.Node:
        signal = self._signal(name, agent.categories)
        if len(agent.learner.network.input_shape) > 1:
            return signal
        shaped = self.system.description.signals[name].shape_as(agent.categories)
        return self._call("flatten" if shaped else "unsqueeze", signal, 1)

    def _signal(self, name: str, categories: str) -> fx.Node:
        """A signal, [batch, *shape], as it enters a network: where it is categorical `one_hot` or as its values (`index`)."""
        classes, way = self.system.description.signals[name].classes, (name, categories)
        if classes is None:
            return self._signals[name]
        if way not in self._encoded:
            value = self._signals[name]
            if categories != "index":
                value = self._call("movedim", self._call(nn.functional.one_hot, value, classes), -1, 1)
            self._encoded[way] = self._call("to", value, self.system.dtype)
        return self._encoded[way]

    def _reading(self, channel: Channel, stamps: Sequence[int], flat: bool) -> fx.Node:
        """What a tick reads on a channel: one message, or several as one (`read`)."""
        values = [self._messages[channel.name, stamp] for stamp in stamps] or [self._silence(channel.size)]
        if not flat:
            values = [self._call("unflatten", value, 1, channel.shape) for value in values]
        if channel.ledger.read == "concat":
            shape = (channel.size,) if flat else channel.shape
            return self._joined([self._silence(*shape)] * (channel.slots - len(values)) + values)
        return self._mean(values, len(stamps)) if len(values) > 1 else values[0]

    def _mean(self, values: Sequence[fx.Node], count: int) -> fx.Node:
        """The mean of the messages that have come, of which there are `count`; zeros stand for the others."""
        return self._call(torch.div, self._sum(values), max(count, 1))

    def _per_channel(self, values: Sequence[float]) -> fx.Node:
        """[batch, channels]: a number of each channel."""
        zeros = self._silence(len(values))
        return self._call("expand_as", self._call("new_tensor", zeros, list(values)), zeros)

    def _silence(self, *shape: int) -> fx.Node:
        """Zeros [batch, *shape]: what is read before anything has come."""
        like = next(iter(self._signals.values()))
        rows = self._call("size", like, 0)
        return self._call("new_zeros", like, (rows, *shape), dtype=self.system.dtype)

    def _sum(self, values: Sequence[fx.Node]) -> fx.Node:
        return functools.reduce(functools.partial(self._call, torch.add), values)

    def _joined(self, parts: Sequence[fx.Node]) -> fx.Node:
        return parts[0] if len(parts) == 1 else self._call(torch.cat, list(parts), 1)

    def _call(self, function: Callable[..., Any] | str, *args: Any, **settings: Any) -> fx.Node:
        """Append the call of a function, or of a method of the first argument."""
        if isinstance(function, str):
            return self.graph.call_method(function, args, settings)
        return self.graph.call_function(function, args, settings)
