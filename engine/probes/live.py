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
from antiphon.comms.credit import constant
from antiphon.engine.core.channel import Channel
from antiphon.engine.core.environment import EnvironmentRunner
from antiphon.engine.core.records import AgentTick, Delivery, EpisodeEnds, Input, Record, StepSignals, Tape
from antiphon.engine.core.system import System
from antiphon.engine.step.backward import ObjectiveEvaluator
from antiphon.engine.step.forward import ForwardPass
from antiphon.engine.step.update import Losses

if TYPE_CHECKING:
    from antiphon.engine.simulation import Simulation

__all__ = ["Live", "ahead_of"]


class _GraphMessages:
    """Passes every message on with its graph: by the ledger's rules, but cut nowhere.

    Args:
        start: The step whose messages are differentiated.
        marked: The channels they are of.
    """

    def __init__(self, start: int, marked: Collection[str]) -> None:
        self.start = start
        self.marked = marked
        self.sent: dict[str, Record] = {}

    def read(self, channel: Channel, delivery: Delivery, part: AgentTick, step: int, tape: Tape) -> Input:
        return Input(channel.name, None, delivery.value, alive=delivery.available)

    def send(self, channel: Channel, step: int, message: Tensor, step_signals: StepSignals) -> Record:
        message = message.flatten(1)
        record = channel.ledger.send(step, message, step_signals)
        if step == self.start and channel.name in self.marked:
            message = message.clone()  # channels that share a port have a gradient each
            if not message.requires_grad:
                message.requires_grad_()
            self.sent[channel.name] = record
        channel.ledger.pass_graph(record, message)
        return record


class Live:
    """A copy of a system that ticks on with all its graphs, for some steps.

    Args:
        system: What is copied; no bit of it changes.
        start: The step whose messages are differentiated: the next one.
        horizon: How many further steps will be taken.
        marked: The channels whose messages are differentiated.

    Attributes:
        sent: Records of the step `start`, by channel: their messages are what is differentiated.
    """

    def __init__(self, system: System, start: int, horizon: int, marked: Collection[str] = ()) -> None:
        self.system = _shadow(system, horizon)
        self.evaluator = ObjectiveEvaluator(self.system)
        messages = _GraphMessages(start, marked)
        self.sent = messages.sent
        self.forward_pass = ForwardPass(self.system, messages)

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
        messages = [record.message for record in self.sent.values()]
        outputs = [loss for loss in self.losses()[0] if loss.requires_grad]
        if not outputs or not messages:
            return {name: torch.zeros_like(record.message) for name, record in self.sent.items()}
        found = torch.autograd.grad(outputs, messages, allow_unused=True)
        return {
            name: torch.zeros_like(message) if g is None else g * self.system.batch
            for name, message, g in zip(self.sent, messages, found, strict=True)
        }


def ahead_of(bench: Simulation, simulation: Simulation) -> EnvironmentRunner:
    """Return the world of `bench`, put where that of `simulation` is: it shows the same steps to come."""
    world, step_signals = bench.world, simulation.world.step_signals
    world.env.load_state_dict(simulation.world.env.state_dict())
    world.step_signals = StepSignals(step_signals.step, dict(step_signals.signals))
    world.elapsed = simulation.world.elapsed
    return world


def _shadow(system: System, horizon: int) -> System:
    """A system that shares parameters and messages with `system`, and nothing that a tick or an episode's end changes."""
    learners: dict[int, Learner] = {}
    for agent in system.owners().values():
        learner = learners[id(agent.learner)] = copy.copy(agent.learner)
        learner.parameters = {name: constant(p) for name, p in learner.parameters.items()}
        learner.trainable = []
    channels = {}
    for name, channel in system.channels.items():
        ledger = channel.ledger.reopened(horizon)
        mailbox = replace(channel.mailbox, ledger=ledger)
        channels[name] = replace(channel, members=(), ledger=ledger, mailbox=mailbox, input=None)
    units = [replace(unit, tape=Tape(), pending=[], past=[]) for unit in system.units]
    shadow = system.rewired(channels, learners, units)
    for agent in shadow.agents.values():
        agent.p_update, agent.participation_seeds = 1.0, None
    return shadow
