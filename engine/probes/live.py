"""A system run on as one differentiable whole: what every probe of the truth stands on (semantics 33a).

Every message made from here on is passed with its graph, whatever its channel's coupling and wherever windows end;
parameters stay, nothing learns. What was sent before stands as numbers. Links delay, lose and spoil as in the run,
the gradient going straight through noise and bits; `p_update` and synthetic inputs play no part.

It works on copies of what changes (ledgers, tapes, running statistics) and shares what does not (parameters, past
messages), so that a truth costs a forward and a backward pass, and no fork.
"""

from __future__ import annotations

import copy
from collections.abc import Collection
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from antiphon.agents.learner import Learner
from antiphon.comms.cut import constant
from antiphon.engine.core.agent import Agent
from antiphon.engine.core.channel import Channel
from antiphon.engine.core.environment import EnvironmentRunner, EpisodeEnds
from antiphon.engine.core.group import LearningGroup
from antiphon.engine.core.ledger import Delivery, Ledger, Record
from antiphon.engine.core.signals import StepSignals
from antiphon.engine.core.system import System
from antiphon.engine.core.tape import AgentTick, Input, Tape
from antiphon.engine.step.forward import ForwardPass, aligned
from antiphon.engine.step.losses import Losses, ObjectiveEvaluator

if TYPE_CHECKING:
    from antiphon.engine.simulation import Simulation

__all__ = ["Live", "LiveForwardPass", "ahead_of", "rewired"]


class LiveForwardPass(ForwardPass):
    """Passes every message on with its graph: by the ledger's rules, but cut nowhere.

    Args:
        system: What ticks.
        start: The step whose messages are differentiated.
        marked: The channels they are of.
    """

    def __init__(self, system: System, start: int, marked: Collection[str]) -> None:
        super().__init__(system)
        self.start = start
        self.marked = marked
        self.sent: dict[str, Record] = {}
        """Records of the step `start`, by channel: their messages are what is differentiated."""

    def _part(self, agent: Agent, step: int, step_signals: StepSignals, tape: Tape) -> AgentTick:
        part = AgentTick(agent.name, step_signals, [], participates=not agent.agent_disabled)
        ages: list[Tensor] = []
        for channel in agent.inputs:
            readings = channel.ledger.receive_all(step)
            if channel.name == agent.align:
                part.step_signals = aligned(readings[-1])
            part.inputs.extend(self._read(channel, reading) for reading in readings)
            if agent.sees_ages:
                ages.append(self._age(channel, readings[-1], step))
        if ages:
            part.ages = torch.stack(ages, 1)
        if agent.memory is not None:
            part.memory = self._read(agent.memory, agent.memory.ledger.receive(step))
        return part

    @staticmethod
    def _read(channel: Channel, reading: Delivery) -> Input:
        return Input(channel.name, None, reading.value, alive=reading.available)

    def _send(self, part: AgentTick, step: int, tape: Tape) -> None:
        agent = self.system.agents[part.agent]
        self._note(agent, part, step)
        memory = [] if agent.memory is None else [agent.memory]
        for channel in [*agent.outputs, *memory]:
            if not channel.ledger.sender.due(step):
                continue
            message = part.ports[channel.port].flatten(1)
            record = channel.ledger.send(step, message, part.step_signals)
            record.states, record.began = self._ends(channel, step), self.system.began
            if agent.agent_disabled:
                record.void = record.no_injection = True
            if step == self.start and channel.name in self.marked:
                message = message.clone()  # channels that share a port have a gradient each
                if not message.requires_grad:
                    message.requires_grad_()
                self.sent[channel.name] = record
            record.message = message
            record.received = channel.ledger.link.carry(step, message)


class Live:
    """A copy of a system that ticks on with all its graphs, for some steps.

    Args:
        system: What is copied; no bit of it changes.
        start: The step whose messages are differentiated: the next one.
        horizon: How many further steps will be taken.
        marked: The channels whose messages are differentiated.
    """

    def __init__(self, system: System, start: int, horizon: int, marked: Collection[str] = ()) -> None:
        self.system = _shadow(system, horizon)
        self.evaluator = ObjectiveEvaluator(self.system)
        self.forward_pass = LiveForwardPass(self.system, start, marked)

    def tick(self, step: int, step_signals: StepSignals) -> None:
        """Let all agents due at `step` tick."""
        self.forward_pass.tick(step, step_signals)

    def run(self, world: EnvironmentRunner, steps: int) -> None:
        """Take steps in a world, which moves on."""
        for _ in range(steps):
            step = world.step_signals.step
            self.tick(step, world.step_signals)
            self.cut(step, world.advance(self.forward_pass.action))

    def cut(self, step: int, ends: EpisodeEnds) -> None:
        """End the episodes that ended at `step`: no path goes through."""
        self.system.cut(step, ends)

    def losses(self) -> tuple[list[Tensor], dict[str, Losses]]:
        """Return the summed loss of every unit that has one, and what each objective said."""
        totals: list[Tensor] = []
        seen: dict[str, Losses] = {}
        for unit in self.system.units:
            window_loss = self.evaluator.window(unit.tape)
            if window_loss.total is not None:
                totals.append(window_loss.total)
            seen |= window_loss.losses
        return totals, seen

    def gradients(self) -> dict[str, Tensor]:
        """Return B times the gradient of all losses by every marked message that was sent, [B, size]."""
        messages = [record.message for record in self.forward_pass.sent.values()]
        outputs = [loss for loss in self.losses()[0] if loss.requires_grad]
        if not outputs or not messages:
            return {name: torch.zeros_like(record.message) for name, record in self.forward_pass.sent.items()}
        found = torch.autograd.grad(outputs, messages, allow_unused=True)
        return {
            name: torch.zeros_like(message) if g is None else g * self.system.batch
            for name, message, g in zip(self.forward_pass.sent, messages, found, strict=True)
        }


def ahead_of(bench: Simulation, simulation: Simulation) -> EnvironmentRunner:
    """Return the world of `bench`, put where that of `simulation` is: it shows the same steps to come."""
    world, step_signals = bench.world, simulation.world.step_signals
    world.env.load_state_dict(simulation.world.env.state_dict())
    world.step_signals = StepSignals(step_signals.step, dict(step_signals.signals))
    world.elapsed = simulation.world.elapsed
    return world


def rewired(
    system: System,
    channels: dict[str, Channel],
    learners: dict[int, Learner] | None = None,
    units: list[LearningGroup] | None = None,
) -> System:
    """Return a system with other channels of the same names, sharing everything else.

    Args:
        system: What is copied.
        channels: All channels, by name.
        learners: Others in place of some, by the identity of these.
        units: Others in place of its own.
    """
    instead = learners or {}
    agents = {
        name: replace(
            agent,
            members=(),
            learner=instead.get(id(agent.learner), agent.learner),
            inputs=[channels[channel.name] for channel in agent.inputs],
            outputs=[channels[channel.name] for channel in agent.outputs],
            memory=None if agent.memory is None else channels[agent.memory.name],
        )
        for name, agent in system.agents.items()
    }
    return replace(system, agents=agents, channels=channels, units=units or system.units)


def _shadow(system: System, horizon: int) -> System:
    """A system that shares parameters and messages with `system`, and nothing that a tick or an episode's end changes."""
    learners: dict[int, Learner] = {}
    for agent in system.owners().values():
        learner = learners[id(agent.learner)] = copy.copy(agent.learner)
        learner.parameters = {name: constant(p) for name, p in learner.parameters.items()}
        learner.trainable = []
    channels = {
        name: replace(
            channel,
            members=(),
            ledger=_reopened(channel.ledger, horizon),
            input_examples=[],
            input_example_members=[],
        )
        for name, channel in system.channels.items()
    }
    units = [replace(unit, tape=Tape(), pending=[], past=[]) for unit in system.units]
    return rewired(system, channels, learners, units=units)


def _reopened(ledger: Ledger, horizon: int) -> Ledger:
    """A copy whose records may stay open for the length of a probe: no window closes there."""
    records = {stamp: copy.copy(record) for stamp, record in ledger.records.items()}
    for record in records.values():
        record.deadline += horizon
    return replace(
        ledger, records=records, uses={}, returned=dict(ledger.returned), slack=ledger.slack + horizon
    )
