"""Export: a system over perfect links as one plain torch module, which needs no antiphon to run.

The module is a torch.fx graph of torch's functions, which torch.export accepts: the system's rollout, traced. Over a stream of
examples it is unrolled over the steps that an example is shown. Elsewhere it is one round of all clocks, after which
ticks, sends and reads repeat themselves: from the signals of its steps and the state before it to its outputs and the
state after it.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, final

import numpy as np
import torch
from torch import Tensor, fx, nn

from antiphon.agents.network import OBJECTIVE, Network, Tensors, with_prefix
from antiphon.base.errors import ScenarioError
from antiphon.base.mask import Mask
from antiphon.base.nearest_names import suggest
from antiphon.engine.heart.agent import AGE, Agent
from antiphon.engine.heart.channel import Channel
from antiphon.engine.heart.clock import NetworkCall
from antiphon.engine.heart.message import Message
from antiphon.engine.heart.signals import StepSignals
from antiphon.engine.heart.system import System
from antiphon.engine.heart.window import Tick
from antiphon.engine.inference.exported_inputs import STEPS, TAKEN, Earlier, argument_names, attribute_name
from antiphon.engine.inference.rollout import Deliver, Deliveries, ExampleRollout, Rollout, filled
from antiphon.engine.inference.rollout_links import Links
from antiphon.engine.inference.trace import CallRecorder, Input, Trace, Written
from antiphon.envs.spaces import Conversion

_LONGEST = 4096
"""Steps of a round, at most: its ticks are all in the graph."""


def export(system: System, agents: Sequence[str], conversions: Mapping[str, Conversion]) -> fx.GraphModule:
    """Return the system as one module in evaluation mode, with copies of the parameters.

    Args:
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
    return Composition(system, conversions, length).module(agents)


def with_output(system: System, names: Iterable[str]) -> list[str]:
    """Return those of some agents that have an objective's output; a policy over messages alone has none."""
    return [name for name in names if OBJECTIVE in system.agents[name].port_names]


def agent_module(network: Network, parameters: Tensors, buffers: Tensors) -> fx.GraphModule:
    """Return a network as a module in evaluation mode, with copies of the parameters.

    It takes `x`, [batch, *input], and returns {port: [batch, …]}; a recurrent network begins with a state of zeros.
    """
    like = next(iter(parameters.values()), torch.zeros(()))

    def evaluated(recorder: CallRecorder) -> Tensors:
        x = recorder.as_input("x", like.new_zeros(recorder.rows, *network.input_shape))
        return network(parameters, buffers, x, training=False)[0]

    trace = Trace(evaluated, *_held("network", network, parameters | buffers))
    written = Written()
    x = written.graph.placeholder("x")
    written.count_rows(x, 0)
    written.graph.output(trace.write(trace.outputs, written, lambda key: x))
    return written.module("Agent")


def _held(name: str, network: Network, tensors: Tensors) -> tuple[Tensors, dict[str, nn.Module]]:
    """A network's parameters and running statistics, and the users' modules in it, by their names in a graph's module."""
    modules = network.modules().items()
    placed = {attribute_name(key): tensor for key, tensor in tensors.items()}
    return with_prefix(name, placed), {f"{name}.{path}".rstrip("."): module for path, module in modules}


def steps_per_round(system: System) -> int:
    """Return after how many steps it repeats itself who ticks, sends and reads what.

    Raises:
        ScenarioError: They are too many for a graph.
    """
    lengths = [agent.clock.tick_period for agent in system.agents.values()]
    lengths += [channel.ledger.timetable.sender_clock.cycle_steps for channel in system.channels.values()]
    round_steps = math.lcm(*lengths)
    if round_steps > _LONGEST:
        raise ScenarioError(
            f"compose: a round of all clocks and rates takes {round_steps:,} steps, more than {_LONGEST:,}; "
            "choose periods and rates with a smaller common multiple"
        )
    return round_steps


def observed(system: System) -> list[str]:
    """Return the signals that agents see, in the order of the composed module's arguments.

    Raises:
        ScenarioError: There are none.
    """
    names = {
        signal: None
        for agent in system.agents.values()
        for signal in agent.inputs.observed.signal_names
        if signal != AGE
    }
    if not names:
        raise ScenarioError(
            "agents: no agent observes a signal, so the module would have no input; give one an observation"
        )
    return list(names)


@final
class Composition:
    """A system over perfect links as one graph: its rollout, traced.

    Of a stream, the rollout of an example from silence on. Elsewhere that of one round, anywhere but at the beginning: what came
    before it is in the state. Steps are counted from the round's start; those below zero are of earlier rounds.

    Args:
        system: Whose; the graph's modules hold copies of its parameters.
        conversions: Of the environment's own observations, which are given, to signals.
        length: Steps in a round; 0: an example is shown.

    Attributes:
        carried: Shapes of the state's entries per environment, by name, beside the number of steps.

    Raises:
        ScenarioError: No agent observes anything; a channel that loses every message has a synthetic input.
    """

    def __init__(self, system: System, conversions: Mapping[str, Conversion], length: int = 0) -> None:
        self.system, self.length = system, length
        self._conversions = conversions
        self._observed = observed(system)
        self.carried: dict[str, tuple[int, ...]] = {}
        for channel in system.channels.values():
            if channel.mask_signal_names:
                raise ScenarioError(
                    f"compose: {channel.name} has the mask '{channel.mask_signal_names[0]}', which only the environment knows; evaluate "
                    "the run, or leave the mask out"
                )
            if (
                channel.ledger.link.drop == 1
                and not channel.carries_state
                and channel.synthetic_input.model is not None
            ):
                raise ScenarioError(
                    f"compose: {channel.name} loses every message, and its synthetic input is not exported; evaluate the run, "
                    "or lower link.drop"
                )
        self._tensors: Tensors = {}
        self._modules: dict[str, nn.Module] = {}
        for name, agent in system.first_agents().items():
            learner = agent.learner
            tensors, modules = _held(f"agent_{name}", learner.network, learner.parameters | learner.buffers)
            self._tensors |= tensors
            self._modules |= modules

    def module(self, agents: Sequence[str], result: nn.Module | None = None) -> fx.GraphModule:
        """Return the ticks of an example, or those of a round, with the outputs of some agents.

        Args:
            result: Of an example: what is made of their outputs and returned in their place; None: they are.
        """
        written = Written()
        placeholders = {
            name: written.graph.placeholder(word)
            for name, word in argument_names(self._observed, state=bool(self.length)).items()
        }
        state = written.graph.placeholder("state", default_value=None) if self.length else None
        signals = {name: self._converted(written, name, value) for name, value in placeholders.items()}
        if state is not None:
            self._write_round(written, agents, signals, state)
        else:
            written.count_rows(signals[self._observed[0]], 0)
            trace = Trace(partial(self._shown, agents), self._tensors, self._modules)
            outputs = trace.write(trace.outputs, written, lambda key: signals[str(key)])
            if result is not None:
                written.root.add_module("result", result)
                outputs = written.graph.call_module("result", tuple(outputs.values()))
            written.graph.output(outputs)
        module = written.module("Corporation")
        if self.length:
            module.steps_per_round = self.length  # type: ignore[assignment]
            # the attributes that a deep copy of a GraphModule keeps
            module.meta["_user_preserved_attributes"] = {"steps_per_round": self.length}
        return module

    # --- what is given ---------------------------------------------------------------------------------------

    def _converted(self, written: Written, name: str, value: fx.Node) -> fx.Node:
        """A signal, from the environment's own values."""
        conversion = self._conversions[name]
        if conversion.dtype == np.uint8:
            right = written.call(operator.eq, written.call(getattr, value, "dtype"), torch.uint8)
            line = f"'{name}' must be the environment's own bytes (torch.uint8)"
            written.graph.call_function(torch._assert, (right, line))
        value = written.call("to", value, self._type(name))
        if conversion.start is not None:
            value = written.call(torch.sub, value, written.constant(self._integers(conversion.start)))
        if isinstance(conversion.scale, Tensor):
            return written.call(torch.div, value, written.constant(self._integers(conversion.scale)))
        return value if conversion.scale == 1 else written.call(torch.div, value, conversion.scale)

    def _integers(self, numbers: Tensor) -> Tensor:
        return numbers.to(self.system.device, torch.int64)

    def _type(self, name: str) -> torch.dtype:
        return self.system.dtype if self.system.description.signals[name].classes is None else torch.int64

    def _zeros(self, name: str, *axes: int) -> Tensor:
        """A signal of zeros, [*axes, *shape]."""
        shape = self.system.description.signals[name].shape
        return torch.zeros(*axes, *shape, dtype=self._type(name), device=self.system.device)

    # --- an example ------------------------------------------------------------------------------------------

    def _shown(self, agents: Sequence[str], recorder: CallRecorder) -> Tensors:
        """The newest outputs of agents of whom an example is shown."""
        signals = {name: recorder.as_input(name, self._zeros(name, recorder.rows)) for name in self._observed}
        rollout = ExampleRollout(
            self.system, signals, Links(), seed=0, ends=agents, forward_pass=PerfectDeliveries
        )
        return {name: rollout.ports[name][OBJECTIVE] for name in agents}

    # --- a round ---------------------------------------------------------------------------------------------

    def _write_round(
        self, written: Written, agents: Sequence[str], signals: dict[str, fx.Node], state_in: fx.Node
    ) -> None:
        """Write a round, from the state that is given to the state after it."""
        for name, signal in signals.items():  # fails for another number of steps
            round_signals = written.call("unflatten", signal, 0, (1, self.length))
            signals[name] = written.call("select", round_signals, 0, 0)
        like = signals[self._observed[0]]
        written.count_rows(like, 1)
        graph: Any = written.graph
        either = _untraced(graph, filter, None, [state_in])
        state = _untraced(graph, next, either)

        def input_of(key: Hashable) -> fx.Node:
            if isinstance(key, str):
                return signals[key]
            return written.call(operator.getitem, state, key.entry if isinstance(key, Earlier) else STEPS)

        shapes: dict[str, tuple[int, ...]] = {}
        trace = Trace(partial(self._round, agents, shapes), self._tensors, self._modules)
        outputs, made_values = trace.outputs
        next_state: dict[str, Any] = {}
        waiting = trace.inputs_of(outputs)
        for key in waiting:  # grows as it is read: what lies further back moves up a round at a time
            if isinstance(key, Earlier) and key.entry not in next_state:
                later = key.step + self.length
                next_state[key.entry] = (
                    made_values[key.name][later] if later >= 0 else Input(Earlier(key.name, later))
                )
                self.carried[key.entry] = shapes[key.name]
                waiting += trace.inputs_of(next_state[key.entry])
        outputs, next_state = trace.write((outputs, next_state), written, input_of)
        after = {STEPS: written.call(torch.add, input_of(TAKEN), self.length), **next_state}
        with graph.inserting_before(either):
            silence = {STEPS: graph.call_method("new_zeros", (like, ()), {"dtype": torch.int64})}
            for entry, shape in self.carried.items():
                args, dtype = (like, (written.rows, *shape)), {"dtype": self.system.dtype}
                silence[entry] = graph.call_method("new_zeros", args, dtype)
        either.args = None, [state_in, silence]  # the first that is not None
        written.graph.output((outputs, after))

    def _round(
        self, agents: Sequence[str], shapes: dict[str, tuple[int, ...]], recorder: CallRecorder
    ) -> tuple[Tensors, dict[str, dict[int, Tensor]]]:
        """The outputs of agents in a round, [ticks, batch, …], and what is made in it, by name and step.

        It follows rounds enough for all that is ever due to have been made, in whose place is the state.
        """
        system, rows = self.system, recorder.rows
        timetables = [channel.ledger.timetable for channel in system.channels.values()]
        longest = max(
            (
                timetable.delay + timetable.receiver_clock.tick_period + timetable.sender_clock.tick_period
                for timetable in timetables
            ),
            default=0,
        )
        start = (max(longest, *filled(system).values()) // self.length + 1) * self.length
        continued: list[Continued] = []

        def forward_pass(copied: System, deliver: Deliver | None) -> Continued:
            continued.append(Continued(copied, recorder, start))
            return continued[0]

        rollout = Rollout(system, rows, Links(), 0, forward_pass=forward_pass)
        shown = {
            name: recorder.as_input(name, self._zeros(name, self.length, rows)) for name in self._observed
        }
        outputs: dict[str, list[Tensor]] = {name: [] for name in agents}
        for step in range(start + self.length):
            values = {name: self._zeros(name, rows) for name in self._observed}
            if step >= start:
                values = {name: shown[name][step - start] for name in shown}
            signals = StepSignals(step, values)
            ticks = rollout.tick(step, signals)
            if step >= start:
                continued[0].note(signals)
                for tick in ticks:
                    if tick.agent_name in outputs:
                        outputs[tick.agent_name].append(tick.ports[OBJECTIVE])
        rollout.release()
        made_values = continued[0].values
        shapes |= {
            name: tuple(value.shape[1:])
            for name, by_step in made_values.items()
            for value in by_step.values()
        }
        return {
            name: torch.stack(outputs_of_agent) for name, outputs_of_agent in outputs.items()
        }, made_values


def _seen(agent: Agent, *, ages: bool = False) -> list[str]:
    """The entries of what an agent observes, in order; with `ages`, "" for the ages of its messages."""
    names = [
        f"{agent.name}.{entry}" if name != AGE else ""
        for entry, name in enumerate(agent.inputs.observed.signal_names)
    ]
    return names if ages else [name for name in names if name]


def _untraced(graph: fx.Graph, function: Callable[..., Any], *args: Any) -> fx.Node:
    node = graph.call_function(function, args)
    node.meta["is_wrapped"] = True
    return node


class PerfectDeliveries(Deliveries):
    """Ticks of one agent after the other, tied ones too, over perfect links; one that loses every message carries none."""

    def tick_agents(
        self,
        step: int,
        step_signals: StepSignals,
        calls: Sequence[NetworkCall] | None = None,
        *,
        keep_messages: bool = True,
    ) -> None:
        calls = self.system.schedule.network_calls(step) if calls is None else calls
        super().tick_agents(
            step, step_signals, [(name,) for call in calls for name in call], keep_messages=keep_messages
        )

    def send_over(
        self, channel: Channel, step: int, output: Tensor, step_signals: StepSignals, void: Mask
    ) -> Message:
        message = super().send_over(channel, step, output, step_signals, void)
        if channel.ledger.link.drop == 1 and not channel.carries_state:
            del channel.ledger.messages[step]
        return message


class Continued(PerfectDeliveries):
    """Ticks that go on from a state: what was sent and observed before a step is an input.

    Attributes:
        values: What was made since, [rows, …], by name and step as in `Earlier`.
    """

    def __init__(self, system: System, recorder: CallRecorder, start: int) -> None:
        super().__init__(system, None)
        self.recorder, self.start = recorder, start
        self.steps_taken = recorder.as_input(TAKEN, torch.zeros((), dtype=torch.int64, device=system.device))
        self.values: dict[str, dict[int, Tensor]] = {}

    def note(self, seen: StepSignals) -> None:
        """Note what aligned agents would observe of a step, on which later ticks may work."""
        for agent in self.system.agents.values():
            if agent.inputs.align_channel_name is not None:
                tick = Tick(seen.step, agent.name, seen, [])
                values = super().observations(tick, agent.learner.buffers)
                for name, value in zip(_seen(agent), values, strict=True):
                    self.values.setdefault(name, {})[seen.step - self.start] = value

    def send_over(
        self, channel: Channel, step: int, output: Tensor, step_signals: StepSignals, void: Mask
    ) -> Message:
        output = output.flatten(1)
        at = step - self.start
        if at >= 0:
            self.values.setdefault(channel.name, {})[at] = output
        else:
            output = self.recorder.as_input(Earlier(channel.name, at), torch.zeros_like(output))
            void = Mask.of(torch.lt(self.steps_taken + at, 0).expand(len(output)))
        return super().send_over(channel, step, output, step_signals, void)

    def observations(self, tick: Tick, statistics: Tensors) -> list[Tensor]:
        observations, signals = super().observations(tick, statistics), tick.observed_signals
        agent, at = self.system.agents[tick.agent_name], signals.step - self.start
        if agent.inputs.align_channel_name is None or at >= 0 or not signals.signals:
            return observations
        return [
            self.recorder.as_input(Earlier(name, at), torch.zeros_like(value)) if name else value
            for name, value in zip(_seen(agent, ages=True), observations, strict=True)
        ]
