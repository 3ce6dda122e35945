"""Exporting: a system over perfect links as one torch module, and files of it, which are read without antiphon.

The module runs the system's rollout with parameters of its own; torch.export makes a program of it. Over a stream of examples,
each is shown for as many steps as all paths take. Elsewhere a call is one round of all clocks, after which ticks, sends and reads
repeat themselves; what is on its way between two rounds is the module's state.
"""

from __future__ import annotations

import io
import math
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from operator import attrgetter
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor, nn
from torch.export.passes import move_to_device_pass

from antiphon.agents.learner import CRITIC, TARGET
from antiphon.agents.network import OBJECTIVE, Network, Tensors
from antiphon.base.errors import RunError, ScenarioError, first_line, suggest
from antiphon.base.files import VERSION, given_path, write_bytes, writing
from antiphon.comms.backward_requests import constant
from antiphon.engine.heart.agent import AGE
from antiphon.engine.heart.channel import Channel
from antiphon.engine.heart.clock import NetworkCall
from antiphon.engine.heart.ends import Sent
from antiphon.engine.heart.signals import StepSignals
from antiphon.engine.heart.system import System
from antiphon.engine.inference.rollout import Deliveries, ExampleRollout, Links, Rollout, filled, rewired
from antiphon.engine.live_system import LiveSystem
from antiphon.envs.native import Native, native_of
from antiphon.envs.spaces import Conversion
from antiphon.nets.mask import Mask

SUFFIXES = (".pt2", ".safetensors")
STEPS = "steps"
"""Entry of the state: how many steps have been taken, [] int64."""
_LONGEST = 4096
"""Steps of a round, at most: all its ticks are in a program."""
_ROWS = 2
"""Rows of the example that a module is traced with; files take any number."""
_IN_TRAINING = (f"{CRITIC}.", f"{TARGET}.")
"""Beginnings of the names of tensors that only training uses."""
_DTYPE_CHECK = torch.ops.aten._assert_tensor_metadata.default
"""What torch puts before a conversion of an input."""


# --- modules -----------------------------------------------------------------------------------------------


class _Tensors(nn.Module):
    """A module that holds copies of tensors under dotted names."""

    def attach(self, name: str, tensor: Tensor) -> str:
        """Hold a copy of a tensor under a dotted name, and return that name.

        A part of it that every module has already, as for a port called `type`, ends in `_`.
        """
        place = ".".join(f"{part}_" if hasattr(nn.Module, part) else part for part in name.split("."))
        module: nn.Module = self
        *path, last = place.split(".")
        for part in path:
            if part not in module._modules:
                module.add_module(part, _Tensors())
            module = module.get_submodule(part)
        copied = constant(tensor).clone()
        if tensor.requires_grad:
            module.register_parameter(last, nn.Parameter(copied))
        else:
            module.register_buffer(last, copied)
        return place


class AgentModule(_Tensors):
    """A network in evaluation mode, with copies of its parameters."""

    def __init__(self, network: Network, parameters: Tensors, buffers: Tensors) -> None:
        super().__init__()
        self._network = network
        self._places = [
            {
                name: self.attach(f"network.{name}", tensor)
                for name, tensor in tensors.items()
                if not name.startswith(_IN_TRAINING)
            }
            for tensors in (parameters, buffers)
        ]
        self.eval()

    def forward(self, x: Tensor) -> Tensors:
        """Return {port: [batch, …]} of `x`, [batch, *input]; a recurrent network begins with a state of zeros."""
        parameters, buffers = (
            {name: attrgetter(place)(self) for name, place in places.items()} for places in self._places
        )
        return self._network(parameters, buffers, x, training=False)[0]


class ComposedSystem(_Tensors):
    """A system over perfect links in evaluation mode, with copies of its parameters.

    Args:
        system: No bit of it changes.
        conversions: From the environment's own observations, which the module takes, to signals.
        agents: The agents whose objective outputs it returns.

    Raises:
        ScenarioError: No agent observes anything; a channel has a mask, or loses every message and has a synthetic input.
    """

    def __init__(self, system: System, conversions: Mapping[str, Conversion], agents: Sequence[str]) -> None:
        super().__init__()
        for channel in system.channels.values():
            if channel.mask_signal_names:
                raise ScenarioError(
                    f"compose: {channel.name} has the mask '{channel.mask_signal_names[0]}', which only the environment knows; evaluate "
                    "the run, or leave the mask out"
                )
            if _is_cut(channel) and channel.synthetic_input.model is not None:
                raise ScenarioError(
                    f"compose: {channel.name} loses every message, and its synthetic input is not exported; evaluate the run, "
                    "or lower link.drop"
                )
        self.signal_names = observed(system)
        self._conversions = {name: conversions[name] for name in self.signal_names}
        self._agents = list(dict.fromkeys(agents))
        self._system = Rollout(system, system.batch, Links(), 0).system
        self._places: dict[str, dict[str, str]] = {}
        for agent_name, agent in system.first_agents().items():
            self._places[agent_name] = {
                name: self.attach(f"agent_{agent_name}.{name}", tensor)
                for name, tensor in (agent.learner.parameters | agent.learner.buffers).items()
                if not name.startswith(_IN_TRAINING)
            }
        self.eval()

    @abstractmethod
    def example(self, native: Native) -> tuple[dict[str, Tensor], ...]:
        """Return arguments of a call."""

    @property
    @abstractmethod
    def batch_axis(self) -> int:
        """The axis of the batch in what is observed."""

    @property
    def device(self) -> torch.device:
        return self._system.device

    def _with_own_tensors(self) -> System:
        """The system with the module's parameters and running statistics."""
        learners = {}
        for agent_name, agent in self._system.first_agents().items():
            learner = agent.learner
            places = self._places[agent_name].items()
            own = {name: constant(attrgetter(place)(self)) for name, place in places}
            learners[learner] = learner.with_tensors(
                {name: own.get(name, p) for name, p in learner.parameters.items()},
                {name: own.get(name, b) for name, b in learner.buffers.items()},
            )
        return rewired(self._system, self._system.channels, learners)

    def _converted(self, observations: Mapping[str, Tensor]) -> Tensors:
        """The signals of an environment's own observations."""
        signals: Tensors = {}
        for name, conversion in self._conversions.items():
            if conversion.dtype == np.uint8 and observations[name].dtype != torch.uint8:
                raise ScenarioError(
                    f"compose: '{name}' must be the environment's own bytes (torch.uint8), not {observations[name].dtype}"
                )
            classes = self._system.description.signals[name].classes
            dtype = self._system.dtype if classes is None else torch.int64
            signals[name] = conversion(observations[name].to(dtype))
        return signals


class ComposedExamples(ComposedSystem):
    """A system of whom examples are shown."""

    batch_axis = 0

    def example(self, native: Native) -> tuple[dict[str, Tensor], ...]:
        return ({name: native.example(name, (_ROWS,)) for name in self.signal_names},)

    @torch.no_grad()
    def forward(self, observations: Mapping[str, Tensor]) -> Tensors:
        """Return {agent: [batch, outputs]} of the environment's own observations by signal, [batch, *shape] each."""
        rollout = ExampleRollout(
            self._with_own_tensors(),
            self._converted(observations),
            Links(),
            seed=0,
            ends=self._agents,
            forward_pass=PerfectDeliveries,
        )
        return {name: rollout.ports[name][OBJECTIVE] for name in self._agents}


class ComposedRound(ComposedSystem):
    """A system that runs for ever: a call is one round of all clocks, anywhere but at its beginning.

    Steps are counted from the start of the round: those below zero are of earlier rounds.

    Attributes:
        steps_per_round: Steps of a call.
        held: The messages that were sent before a round and are read in it or later: the names of channels, each with its step.

    Raises:
        ScenarioError: An agent works on the signals of its messages (`align`).
    """

    batch_axis = 1

    def __init__(self, system: System, conversions: Mapping[str, Conversion], agents: Sequence[str]) -> None:
        super().__init__(system, conversions, agents)
        for agent in system.agents.values():
            if agent.inputs.align_channel_name is not None:
                raise ScenarioError(
                    f"compose: '{agent.name}' is aligned with its messages, which is composed over a stream of examples only; "
                    "leave align out"
                )
        self.steps_per_round = length = steps_per_round(system)
        channels = [channel for channel in self._system.channels.values() if not _is_cut(channel)]
        self._upstream = {*self._agents}
        while more := {c.sender for c in channels if c.receiver in self._upstream} - self._upstream:
            self._upstream |= more
        timetables = {c.name: c.wire.timetable for c in channels if c.receiver in self._upstream}
        longest = max(
            (
                t.arrival_of(t.receiver_clock.tick_period + t.sender_clock.tick_period)
                for t in timetables.values()
            ),
            default=0,
        )
        # late enough for all that is ever due to have been made
        self._start = start = (max(longest, *filled(system).values()) // length + 1) * length
        steps = range(start, start + length)
        held = {
            (name, stamp - start)
            for name, timetable in timetables.items()
            for step in steps
            for stamp in timetable.stamps_read_at(step)
        }
        held = {(name, step) for name, step in held if step < 0}
        while further := {(name, step + length) for name, step in held if step + length < 0} - held:
            held |= further
        self.held = sorted(held)

    def silence(self, batch: int) -> Tensors:
        """Return the state before the first step."""
        system, state = self._system, {STEPS: torch.zeros((), dtype=torch.int64, device=self._system.device)}
        for name, step in self.held:
            silent = torch.zeros(batch, system.channels[name].content.size, dtype=system.dtype)
            state[_entry(name, step)] = silent.to(system.device)
        return state

    def example(self, native: Native) -> tuple[dict[str, Tensor], ...]:
        axes = (self.steps_per_round, _ROWS)
        return {name: native.example(name, axes) for name in self.signal_names}, self.silence(_ROWS)

    @torch.no_grad()
    def forward(
        self, observations: Mapping[str, Tensor], state: Mapping[str, Tensor] | None = None
    ) -> tuple[Tensors, Tensors]:
        """Take a round of steps.

        Args:
            observations: The environment's own, by signal, [steps_per_round, batch, *shape] each.
            state: What the call before returned; None: nothing has been sent yet.

        Returns:
            {agent: [ticks, batch, outputs]}, and the new state, [batch, …] each: states of agents and messages on their
            way, and `steps`, [] int64, the number of steps taken.
        """
        start, signals = self._start, self._converted(observations)
        rows = next(iter(signals.values())).shape[1]
        state = self.silence(rows) if state is None else state
        made = {(name, step): state[_entry(name, step)] for name, step in self.held}

        def noted(channel_name: str, step: int, message: Tensor, _: Mask) -> Tensor:
            made[channel_name, step - start] = message
            return message

        rollout = Rollout(self._with_own_tensors(), rows, Links(), 0, noted, forward_pass=PerfectDeliveries)
        system = rollout.system
        for name, step in self.held:
            silent = ~Mask.of(torch.ge(state[STEPS] + step, 0).expand(rows))
            shown = StepSignals(start + step, {})
            system.channels[name].wire.outbox.send(start + step, made[name, step], shown, silent)
        outputs: dict[str, list[Tensor]] = {name: [] for name in self._agents}
        by_step = zip(*(signal.unbind() for signal in signals.values()), strict=True)
        for step, values in zip(range(start, start + self.steps_per_round), by_step, strict=True):
            shown = StepSignals(step, dict(zip(signals, values, strict=True)))
            calls = system.schedule.network_calls(step)
            upstream = [(name,) for call in calls for name in call if name in self._upstream]
            for tick in rollout.tick(step, shown, upstream):
                if tick.agent_name in outputs:
                    outputs[tick.agent_name].append(tick.ports[OBJECTIVE])
        rollout.release()
        after = {STEPS: state[STEPS] + self.steps_per_round}
        after |= {_entry(name, step): made[name, step + self.steps_per_round] for name, step in self.held}
        return {name: torch.stack(of_agent) for name, of_agent in outputs.items()}, after


def _entry(name: str, step: int) -> str:
    return f"{name}@{step}"


def composed(running: LiveSystem, agents: Sequence[str] | None = None) -> ComposedExamples | ComposedRound:
    """Return the composed system as one torch module, of streams of examples or of rounds: see `Simulation.compose`."""
    running.synchronize()
    system = running.system
    goals, outputs = system.goals(), with_output(system, system.agents)
    if agents is None:
        agents = with_output(system, running.scenario.readouts)
    for name in agents:
        if name not in system.agents:
            raise ScenarioError(f"compose: no agent '{name}'{suggest(name, system.agents)}")
        if name not in outputs:
            why = "has a policy over its messages alone" if name in goals else "has no objective"
            raise ScenarioError(f"compose: '{name}' {why}, so it has no output{suggest(name, outputs)}")
    kind = ComposedExamples if system.description.is_stream else ComposedRound
    return kind(system, native_of(running.env).conversions, agents)


def with_output(system: System, names: Iterable[str]) -> list[str]:
    """Return those of some agents that have an objective's output; a policy over messages alone has none."""
    return [name for name in names if OBJECTIVE in system.agents[name].port_names]


def steps_per_round(system: System) -> int:
    """Return after how many steps it repeats itself who ticks, sends and reads what."""
    round_steps = math.lcm(*(agent.clock.tick_period for agent in system.agents.values()))
    if round_steps > _LONGEST:
        raise ScenarioError(
            f"compose: a round of all clocks and rates takes {round_steps:,} steps, more than {_LONGEST:,}; "
            "choose periods and rates with a smaller common multiple"
        )
    return round_steps


def observed(system: System) -> list[str]:
    """Return the signals that agents see."""
    agents = system.agents.values()
    names = dict.fromkeys(name for agent in agents for name in agent.inputs.observed.signal_names)
    names.pop(AGE, None)
    if not names:
        raise ScenarioError(
            "agents: no agent observes a signal, so the module would have no input; give one an observation"
        )
    return list(names)


def _is_cut(channel: Channel) -> bool:
    """Whether a channel loses every message, so that over perfect links it is left out."""
    return bool(channel.wire.link.drop == 1) and not channel.carries_state


class PerfectDeliveries(Deliveries):
    """Ticks of one agent after the other, tied ones too, over perfect links; one that loses every message carries none."""

    def tick_agents(
        self,
        step: int,
        step_signals: StepSignals,
        calls: Sequence[NetworkCall] | None = None,
    ) -> None:
        calls = self.system.schedule.network_calls(step) if calls is None else calls
        alone = [(name,) for call in calls for name in call]
        super().tick_agents(step, step_signals, alone)

    def send_over(
        self, channel: Channel, step: int, output: Tensor, step_signals: StepSignals, void: Mask
    ) -> Sent:
        sent = super().send_over(channel, step, output, step_signals, void)
        if _is_cut(channel):
            del channel.wire.inbox.messages[step]
        return sent


# --- files -------------------------------------------------------------------------------------------------


def exported(running: LiveSystem, path: str | Path, agents: Sequence[str] | None = None) -> Path:
    """Write the composed system or weights to a file, whole or not at all, and return its path: see `Simulation.export`."""
    running.synchronize()
    path = given_path(path)
    if path.suffix not in SUFFIXES:
        raise RunError(f"export: '{path.name}' has no known suffix; use {', '.join(SUFFIXES)}")
    if path.suffix == ".safetensors":
        content = _weights(running.system, agents)
    else:
        content = _program(composed(running, agents), native_of(running.env), path)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, content)
    return path


def _weights(system: System, agents: Sequence[str] | None) -> bytes:
    """Return parameters and running statistics as `agent.name`; those of tied agents once."""
    for name in agents or ():
        if name not in system.agents:
            raise ScenarioError(f"export: no agent '{name}'{suggest(name, system.agents)}")
    owners = {system.learner_name_by_agent[name] for name in (system.agents if agents is None else agents)}
    tensors = {
        f"{owner}.{name}": constant(tensor).cpu().clone(memory_format=torch.contiguous_format)
        for owner, agent in system.agents.items()
        if owner in owners
        for held in (agent.learner.parameters, agent.learner.buffers)
        for name, tensor in held.items()
    }
    return save(tensors, metadata={"format": "pt", "antiphon": VERSION})


def _program(module: ComposedSystem, native: Native, path: Path) -> bytes:
    """Return a module traced for any batch, on the CPU, in the format of a file."""
    batch = torch.export.Dim("batch")
    observations, *state = module.example(native)
    device = module.device
    arguments = ({name: value.to(device) for name, value in observations.items()}, *state)
    sizes = (
        {name: {module.batch_axis: batch} for name in observations},
        *({name: {0: batch} if value.dim() else None for name, value in held.items()} for held in state),
    )
    try:
        with torch.no_grad():
            program = torch.export.export(module, arguments, dynamic_shapes=sizes, strict=False)
        if device.type != "cpu":
            program = move_to_device_pass(program, "cpu")
        return _pt2(program)
    except Exception as error:
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        raise RunError(
            f"export: {path.name}: torch cannot trace the module ({first_line(cause)}); weights alone go into .safetensors"
        ) from error


def _pt2(program: torch.export.ExportedProgram) -> bytes:
    for node in [*program.graph.nodes]:
        node.meta.pop("stack_trace", None)  # which would tell the folders of this machine
        if node.target is _DTYPE_CHECK and node.kwargs["dtype"] is not torch.uint8:
            program.graph.erase_node(node)  # any type of number is converted
    content = io.BytesIO()
    torch.export.save(program, content)
    return content.getvalue()
