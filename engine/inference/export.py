"""Export: a system over perfect links as one plain torch module, which needs no antiphon to run.

The module is a torch.fx graph of ordinary torch layers, which torch.fx and torch.export accept. Over a stream of
examples it is unrolled over the steps that an example is shown. Elsewhere it is one round of all clocks, after which
ticks, sends and reads repeat themselves: from the signals of its steps and the state before it to its outputs and the
state after it.
"""

from __future__ import annotations

import functools
import keyword
import math
import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, final

import torch
from torch import fx, nn
from torch.fx.proxy import GraphAppendingTracer

from antiphon.agents.learner import Learner
from antiphon.agents.network import OBJECTIVE, STATE, Emitter
from antiphon.agents.normalisation import MOST, OF_NETWORKS, mean_and_deviation
from antiphon.base.errors import ScenarioError, suggest
from antiphon.comms.symbols import SymbolSampler
from antiphon.engine.heart.agent import AGE, Agent
from antiphon.engine.heart.channel import Channel
from antiphon.engine.heart.system import System
from antiphon.engine.inference.rollout import steps_needed
from antiphon.envs.adaptors.spaces import Conversion
from antiphon.nets.user_modules import set_mode

Ports = dict[str, fx.Node]
_LONGEST = 4096
"""Steps of a round, at most: its ticks are all in the graph."""
_STEPS = "steps"
"""Entry of the state: how many steps have been taken, int64 []."""


def export(system: System, agents: Sequence[str], conversions: Mapping[str, Conversion]) -> fx.GraphModule:
    """Return the system as one module in evaluation mode, with copies of the parameters.

    Args:
        system: What to export.
        agents: Whose objective outputs it returns.
        conversions: Of the environment's own observations to signals.

    Returns:
        Over a stream of examples: a module called with the environment's own observations by signal (what is no letter or
        digit in a name becomes `_`), each [batch, *shape], that returns {agent: [batch, outputs]}; it shows them for
        `steps_needed` steps.

        Elsewhere: a module called with such observations, each [steps, batch, *shape], where `steps` is its attribute
        `steps_per_round`, and with `state`: what the call before returned, or None to begin in silence. It returns
        {agent: [ticks, batch, outputs]} and the new state, a flat dict of tensors: states of agents and messages on their
        way, [batch, …] each, and `steps`, [] int64, how many have been taken.

    Raises:
        ScenarioError: No such agent, or one without an output; no agent observes anything; a round is too long; a channel
            that loses every message has a synthetic input.
    """
    goals, outputs = system.goals(), with_output(system, system.agents)
    for name in agents:
        if name not in system.agents:
            raise ScenarioError(f"compose: no agent '{name}'{suggest(name, system.agents)}")
        if name not in outputs:
            why = "has a policy over its messages alone" if name in goals else "has no objective"
            raise ScenarioError(f"compose: '{name}' {why}, so it has no output{suggest(name, outputs)}")
    length = 0 if system.description.is_stream else steps_per_round(system)
    return Ticks(system, conversions, length).module(agents)


def with_output(system: System, names: Iterable[str]) -> list[str]:
    """Return those of some agents that have an objective's output; a policy over messages alone has none."""
    return [name for name in names if OBJECTIVE in system.agents[name].ports]


def agent_module(learner: Learner) -> fx.GraphModule:
    """Return one agent's network as a module in evaluation mode, with copies of the parameters.

    It takes `x`, [batch, *input], and returns {port: [batch, …]}; a recurrent network begins with a state of zeros.
    """
    root, graph = nn.Module(), fx.Graph()
    emit = learner.network.emit(root, "network", learner.parameters, learner.buffers)
    graph.output(_emitted(emit, graph.placeholder("x"), None))
    module = fx.GraphModule(root, graph, class_name="Agent")
    set_mode(module, False)
    return module


def _emitted(emit: Emitter, x: fx.Node, state: fx.Node | None) -> Ports:
    """Append a network's evaluation to the graph of its input, and return the ports."""
    tracer = GraphAppendingTracer(x.graph)
    ports = emit(fx.Proxy(x, tracer), None if state is None else fx.Proxy(state, tracer))
    return {name: port.node for name, port in ports.items()}


def steps_per_round(system: System) -> int:
    """Return after how many steps it repeats itself who ticks, sends and reads what.

    Raises:
        ScenarioError: They are too many for a graph.
    """
    lengths = [agent.clock.period for agent in system.agents.values()]
    lengths += [channel.ledger.sender.repeats for channel in system.channels.values()]
    found = math.lcm(*lengths)
    if found > _LONGEST:
        raise ScenarioError(
            f"compose: a round of all clocks and rates takes {found:,} steps, more than {_LONGEST:,}; "
            "choose periods and rates with a smaller common multiple"
        )
    return found


def observed(system: System) -> list[str]:
    """Return the signals that agents see, in the order of the composed module's arguments.

    Raises:
        ScenarioError: There are none.
    """
    names = {
        signal: None for agent in system.agents.values() for signal in agent.inputs.observes if signal != AGE
    }
    if not names:
        raise ScenarioError(
            "agents: no agent observes a signal, so the module would have no input; give one an observation"
        )
    return list(names)


@final
class Ticks:
    """Ticks of a system, one after the other, as one graph.

    Of a stream, those of an example from silence on; all steps show the same signals. Elsewhere those of one round,
    anywhere but at the beginning: what came before it is in the state. Steps are counted from the graph's start; those
    below zero are of earlier rounds.

    Args:
        system: Whose; the graph's modules hold copies of its parameters.
        conversions: Of the environment's own observations, which are given, to signals.
        length: Steps in a round; 0: an example is shown.

    Attributes:
        observed: What is observed, in the order in which it is given.
        signals: By name, what is observed: [batch, *shape] of an example, [steps, batch, *shape] of a round.
        messages: By channel and stamp, [batch, size].
        states: By agent and step of the tick that left it, [batch, state size].
        outputs: By agent with an objective: one [batch, outputs] per tick.
        carried: Shapes of the state's entries per environment, by name.
    """

    def __init__(self, system: System, conversions: Mapping[str, Conversion], length: int = 0) -> None:
        self.system = system
        self.length = length
        self._conversions = conversions
        self.root = nn.Module()
        self.graph = fx.Graph()
        self.observed = observed(system)
        self.signals: Ports = {}
        self.messages: dict[tuple[str, int], fx.Node] = {}
        self.states: dict[tuple[str, int], fx.Node] = {}
        self.outputs: dict[str, list[fx.Node]] = {}
        self.carried: dict[str, tuple[int, ...]] = {}
        self._calls: dict[str, fx.Node] = {}
        self._left: list[tuple[str, Callable[[], fx.Node]]] = []
        ledgers = [channel.ledger for channel in system.channels.values()]
        spans = [one.link.delay + one.receiver.period + one.sender.period for one in ledgers]
        self._later = (max(spans, default=0) // length + 2) * length if length else 0
        """The graph's start: a round's at which all that is ever due has been made (a sent share of ticks repeats)."""

    def module(self, agents: Sequence[str], result: nn.Module | None = None) -> fx.GraphModule:
        """Return the ticks of an example, or those of a round, with the outputs of some agents.

        Args:
            agents: These.
            result: Of an example: what is made of their outputs and returned in their place; None: they are.
        """
        words = {"state"} if self.length else set[str]()
        for name in self.observed:  # as the name of an argument: what is no letter or digit becomes `_`
            word = re.sub(r"\W", "_", name)
            if not word.isidentifier() or keyword.iskeyword(word):
                word = f"_{word}"
            while word in words:
                word += "_"
            words.add(word)
            self.signals[name] = self.graph.placeholder(word)
        given = self.graph.placeholder("state", default_value=None) if self.length else None
        for name, observation in self.signals.items():
            self.signals[name] = self._converted(name, observation)
        if given is None:
            self._append(steps_needed(self.system))
            newest = {name: self.outputs[name][-1] for name in agents}
            if result is not None:
                self.root.add_module("result", result)
            self.graph.output(
                newest if result is None else self.graph.call_module("result", tuple(newest.values()))
            )
        else:
            self._append_round(agents, given)
        module = fx.GraphModule(self.root, self.graph, class_name="Corporation")
        module.graph.eliminate_dead_code()
        module.recompile()
        if self.length:
            module.steps_per_round = self.length  # type: ignore[assignment]
            # the attributes that a deep copy of a GraphModule keeps
            module.meta["_user_preserved_attributes"] = {"steps_per_round": self.length}
        set_mode(module, False)
        return module

    def _converted(self, name: str, observation: fx.Node) -> fx.Node:
        """Return a signal, from the environment's own values."""
        conversion = self._conversions[name]
        if conversion.of_bytes:
            right = self.call(operator.eq, self.call(getattr, observation, "dtype"), torch.uint8)
            line = f"'{name}' must be the environment's own bytes (torch.uint8)"
            self.graph.call_function(torch._assert, (right, line))
        classes = self.system.description.signals[name].classes
        value = self.call("to", observation, self.system.dtype if classes is None else torch.int64)
        if conversion.start is not None:
            value = self.call(torch.sub, value, self._buffer("start", conversion.start))
        if isinstance(conversion.scale, torch.Tensor):
            return self.call(torch.div, value, self._buffer("scale", conversion.scale))
        return value if conversion.scale == 1 else self.call(torch.div, value, conversion.scale)

    def _buffer(self, kind: str, whole: torch.Tensor) -> fx.Node:
        """Return a buffer of the module with whole numbers."""
        key = f"{kind}_{len(self.root._buffers)}"
        self.root.register_buffer(key, whole.to(self.system.device, torch.int64))
        return self.graph.get_attr(key)

    def _append_round(self, agents: Sequence[str], given: fx.Node) -> None:
        """Append a round's ticks, from the state that is given to the state after it."""
        for name, signal in self.signals.items():  # fails for another number of steps
            self.signals[name] = self.call(
                "select", self.call("unflatten", signal, 0, (1, self.length)), 0, 0
            )
        stated = _whole(self.graph, filter, None, [given])
        self._state = _whole(self.graph, next, stated)
        self._steps = self._item(self._state, _STEPS)
        self._append(self.length)
        after = {_STEPS: self.call(torch.add, self._steps, self.length)}
        for key, left in self._left:  # grows as it is read: what lies further back moves up a round at a time
            after[key] = left()
        with self.graph.inserting_before(stated):
            like = self.signals[self.observed[0]]
            size = _call(self.graph, "size", like, 1)
            silence = {_STEPS: _call(self.graph, "new_zeros", like, (), dtype=torch.int64)}
            for key, shape in self.carried.items():
                silence[key] = _call(self.graph, "new_zeros", like, (size, *shape), dtype=self.system.dtype)
        stated.args = (None, [given, silence])  # the first that is not None
        self.graph.output(({name: self.call(torch.stack, self.outputs[name]) for name in agents}, after))

    # --- where a tick finds what it reads ---------------------------------------------------------------------

    def due(self, channel: Channel, step: int) -> list[int]:
        """Return the stamps that the receiver's tick at `step` reads, oldest first; empty before the first.

        Raises:
            ScenarioError: A link that loses every message has a synthetic input.
        """
        if channel.ledger.link.drop == 1 and not channel.state:
            if channel.input.model is not None:
                raise ScenarioError(
                    f"compose: {channel.name} loses every message, and its synthetic input is not exported"
                )
            return []
        return [stamp - self._later for stamp in channel.ledger.due(step + self._later)]

    def made(self, stamps: Sequence[int]) -> fx.Node | None:
        """Return which of some due messages have come, [stamps] bool; None: all of them."""
        if all(stamp >= 0 for stamp in stamps):
            return None
        at = self.call("new_tensor", self._steps, list(stamps))
        return self.call(torch.ge, self.call(torch.add, at, self._steps), 0)

    def signal(self, name: str, step: int | None, categories: str) -> fx.Node:
        """Return the observation of a step as it enters a network, [batch, *shape_as(categories)].

        Args:
            name: Of the signal.
            step: None: as an aligned agent reads before its first message.
            categories: Of the agent.
        """
        if not self.length:
            return self.encoded(name, self.signals[name], categories)
        shape = self.system.description.signals[name].shape_as(categories)
        if step is None:
            return self.silence(*shape)
        if step < 0:
            key = f"{name}@{step}" if categories == "one_hot" else f"{name}@{step}.{categories}"
            return self._before(key, shape, lambda: self.signal(name, step + self.length, categories))
        return self.encoded(name, self.call("select", self.signals[name], 0, step), categories)

    def message(self, channel: Channel, stamp: int) -> fx.Node:
        """Return the message of a due stamp, [batch, size]."""
        if stamp >= 0:
            return self.messages[channel.name, stamp]
        key = f"{channel.name}@{stamp}"
        return self._before(key, (channel.size,), lambda: self.message(channel, stamp + self.length))

    def state(self, agent: Agent, step: int) -> fx.Node:
        """Return the state that a recurrent agent's tick at `step` takes up, [batch, state size]."""
        assert agent.memory is not None
        size = agent.learner.network.state_size
        before = agent.clock.latest(step + self._later - 1)
        if before is None:
            return self.silence(size)
        left = before - self._later
        if left >= 0:
            return self.states[agent.name, left]
        return self._before(agent.memory.name, (size,), lambda: self.states[agent.name, left + self.length])

    def _before(self, key: str, shape: tuple[int, ...], left: Callable[[], fx.Node]) -> fx.Node:
        """An entry of the state, and what this round leaves in its place."""
        if key not in self.carried:
            self.carried[key] = shape
            self._left.append((key, left))
        return self._item(self._state, key)

    def _item(self, whole: fx.Node, key: int | str) -> fx.Node:
        return self.call(operator.getitem, whole, key)

    # --- ticks ---------------------------------------------------------------------------------------------

    def _append(self, steps: int) -> None:
        """Append the ticks of steps 0 to `steps` - 1."""
        emitters: dict[str, Emitter] = {}
        for name, agent in self.system.owners().items():
            learner = agent.learner
            emit = learner.network.emit(self.root, f"agent_{name}", learner.parameters, learner.buffers)
            emitters[name] = emit
        for step in range(steps):
            for name in self.system.schedule.ticks(step):
                agent = self.system.agents[name]
                state = self.state(agent, step) if agent.memory is not None else None
                ports = _emitted(emitters[self.system.owner_of[name]], self._input(agent, step), state)
                if OBJECTIVE in ports:
                    self.outputs.setdefault(name, []).append(ports[OBJECTIVE])
                if agent.memory is not None:
                    self.states[name, step] = ports[STATE]
                for channel in agent.outgoing:
                    self.messages[channel.name, step] = self._sent(channel, ports[channel.port])

    def _sent(self, channel: Channel, port: fx.Node) -> fx.Node:
        """The message of a port, [batch, size]: where it is sampled, the most probable one."""
        if channel.sampler is not None and channel.sampler.parameters_per_component > 1:
            port = self.call("narrow", port, 1, 0, channel.shape[0])  # the means
        message = self.call("flatten", port, 1)
        if not isinstance(channel.sampler, SymbolSampler):
            return message
        positions = self.call("unflatten", message, 1, (channel.sampler.size, channel.sampler.vocabulary))
        symbols = self.call("argmax", positions, -1)
        one_hot = self.call(nn.functional.one_hot, symbols, channel.sampler.vocabulary)
        return self.call("flatten", self.call("to", one_hot, self.system.dtype), 1)

    def _input(self, agent: Agent, step: int) -> fx.Node:
        flat = len(agent.learner.network.input_shape) == 1
        at = self._observed_step(agent, step)

        def age(channel: Channel, stamp: int) -> float:
            return (step - stamp) / channel.ledger.sender.period  # in ticks of its sender

        parts = [
            self._per_channel(agent, step, age) if name == AGE else self._observation(agent, place, name, at)
            for place, name in enumerate(agent.inputs.observes)
        ]
        due = [self.due(channel, step) for channel in agent.incoming]
        messages = [
            self._reading(channel, stamps, flat) for channel, stamps in zip(agent.incoming, due, strict=True)
        ]
        if agent.inputs.fan_in == "own":
            messages.append(self._per_channel(agent, step, lambda channel, stamp: 1.0))
        elif agent.inputs.fan_in != "concat" and messages:
            newest = [stamps[-1] for stamps in due if stamps]
            messages = [
                self._mean(messages, newest) if agent.inputs.fan_in == "mean" else self._sum(messages)
            ]
        return self._joined([*parts, *messages])

    def _observed_step(self, agent: Agent, step: int) -> int | None:
        """The step whose observations an agent works on: an aligned one on those of the message it reads."""
        passed: set[str] = set()
        while agent.align is not None:
            channel = next(channel for channel in agent.incoming if channel.name == agent.align)
            due = self.due(channel, step)
            if not due or agent.name in passed:  # aligned to each other in a ring, none ever sees anything
                return None
            passed.add(agent.name)
            step, agent = due[-1], self.system.agents[channel.sender]
        return step

    # --- what a tick reads ---------------------------------------------------------------------------------

    def _observation(self, agent: Agent, place: int, name: str, step: int | None) -> fx.Node:
        signal = self._shown(agent, place, name, step)
        if len(agent.learner.network.input_shape) > 1:
            layout = agent.inputs.layouts[agent.inputs.observes.index(name)]
            if layout == "last":
                return self.call("movedim", signal, -1, 1)
            return self.call("unsqueeze", signal, 1) if layout == "none" else signal
        shaped = self.system.description.signals[name].shape_as(agent.inputs.categories)
        return self.call("flatten" if shaped else "unsqueeze", signal, 1)

    def _shown(self, agent: Agent, place: int, name: str, step: int | None) -> fx.Node:
        """An observation [batch, *shape], in units of its deviation from its mean if the agent reads it so; zeros before the first."""
        signal, categories = self.system.description.signals[name], agent.inputs.categories
        if place not in agent.inputs.normalised or (self.length and step is None):
            return self.signal(name, step, categories)
        if self.length and step is not None and step < 0:
            key, later = f"{name}@{step}.{agent.name}.{place}", step + self.length
            return self._before(key, signal.shape, lambda: self._shown(agent, place, name, later))
        node = self.signal(name, step, categories)
        moments = mean_and_deviation(agent.learner.buffers[f"{OF_NETWORKS}.{place}"].unsqueeze(0))
        operations: dict[str, Callable[..., Any]] = {"mean": torch.sub, "deviation": torch.div}
        for (moment, operation), values in zip(operations.items(), moments, strict=True):
            key = f"{moment}_{list(self.system.agents).index(agent.name)}_{place}"
            self.root.register_buffer(key, values.clone().view(1, *signal.shape))
            node = self.call(operation, node, self.graph.get_attr(key))
        return self.call(torch.clamp, node, -MOST, MOST)

    def encoded(self, name: str, value: fx.Node, categories: str) -> fx.Node:
        """Return a signal, [batch, *shape], as it enters a network: and where it is categorical `one_hot` or as its values (`index`)."""
        classes = self.system.description.signals[name].classes
        if classes is None:
            return value
        if categories == "index":
            return self.call("to", value, self.system.dtype)
        one_hot = self.call(nn.functional.one_hot, value, classes)
        return self.call("to", self.call("movedim", one_hot, -1, 1), self.system.dtype)

    def _reading(self, channel: Channel, stamps: Sequence[int], flat: bool) -> fx.Node:
        """What a tick reads on a channel: one message, or several as one (`read`)."""
        values = [self.message(channel, stamp) for stamp in stamps] or [self.silence(channel.size)]
        if not flat:
            values = [self.call("unflatten", value, 1, channel.shape) for value in values]
        if channel.ledger.read == "concat":
            shape = (channel.size,) if flat else channel.shape
            return self._joined([self.silence(*shape)] * (channel.slots - len(values)) + values)
        return self._mean(values, stamps) if len(values) > 1 else values[0]

    def _mean(self, values: Sequence[fx.Node], stamps: Sequence[int]) -> fx.Node:
        """The mean of those messages that have come; zeros stand for the others."""
        mask = self.made(stamps)
        count = max(len(stamps), 1) if mask is None else self.call("clamp_min", self.call("sum", mask), 1)
        return self.call(torch.div, self._sum(values), count)

    def _per_channel(self, agent: Agent, step: int, number: Callable[[Channel, int], float]) -> fx.Node:
        """[batch, channels]: a number of each newest message, by its channel and stamp; 0 where none has come."""
        values, stamps = [], []
        for channel in agent.incoming:
            due = self.due(channel, step)
            values.append(number(channel, due[-1]) if due else 0.0)
            stamps.append(due[-1] if due else 0)
        zeros = self.silence(len(values))
        row = self.call("new_tensor", zeros, values)
        mask = self.made(stamps)
        if mask is not None:
            row = self.call(torch.mul, row, mask)
        return self.call("expand_as", row, zeros)

    def silence(self, *shape: int) -> fx.Node:
        """Return zeros [batch, *shape]: what is read before anything has come."""
        like = self.signals[self.observed[0]]
        if self.length:
            like = self.call("select", like, 0, 0)
        return self.call("new_zeros", like, (self.call("size", like, 0), *shape), dtype=self.system.dtype)

    def _sum(self, values: Sequence[fx.Node]) -> fx.Node:
        return functools.reduce(functools.partial(self.call, torch.add), values)

    def _joined(self, parts: Sequence[fx.Node]) -> fx.Node:
        return parts[0] if len(parts) == 1 else self.call(torch.cat, list(parts), 1)

    def call(self, function: Callable[..., Any] | str, *args: Any, **settings: Any) -> fx.Node:
        """Return the call of a function, or of a method of the first argument; the same call is appended once."""
        key = repr((function, args, settings))
        if key not in self._calls:
            self._calls[key] = _call(self.graph, function, *args, **settings)
        return self._calls[key]


def _call(graph: fx.Graph, function: Callable[..., Any] | str, *args: Any, **settings: Any) -> fx.Node:
    if isinstance(function, str):
        return graph.call_method(function, args, settings)
    return graph.call_function(function, args, settings)


def _whole(graph: fx.Graph, function: Callable[..., Any], *args: Any) -> fx.Node:
    """Append the call of a function that is not traced into."""
    node = _call(graph, function, *args)
    node.meta["is_wrapped"] = True
    return node
