"""Ticking cohorts: what a member sees and reads is gathered from bundles; all else is as for single agents."""

from __future__ import annotations

import torch
from torch import Tensor

from antiphon.agents.network import Tensors
from antiphon.comms.aggregation import together
from antiphon.engine.cohort.parts import Cohort
from antiphon.engine.core.parts import AGE, Agent
from antiphon.engine.core.signals import EnvMask
from antiphon.engine.core.tape import AgentTick, Tape, Tick
from antiphon.engine.step.forward import ForwardPass

__all__ = ["CohortForwardPass"]


class CohortForwardPass(ForwardPass):
    """Evaluates cohorts and single agents, one call at a time."""

    def evaluate(self, tick: Tick, tape: Tape, buffers: Tensors, *, replay: bool = False) -> Tensors:
        """Evaluate a tick's network, put the ports into its parts and return the new running statistics."""
        agent = self.system.agents[tick.parts[0].agent]
        if not isinstance(agent, Cohort):
            return super().evaluate(tick, tape, buffers, replay=replay)
        network = agent.stack.network
        network.wanted = agent.ports
        after = super().evaluate(tick, tape, buffers, replay=replay)
        tick.parts[0].pieces, network.pieces = network.pieces, None
        return after

    def _ages(self, agent: Agent, ages: list[Tensor]) -> Tensor:
        if not isinstance(agent, Cohort):
            return super()._ages(agent, ages)
        each = [age.unsqueeze(1) for age in ages]
        return torch.cat(agent.mailbox.join(each, [True] * len(each), self.system.batch), 2).flatten(0, 1)

    def _gather(self, part: AgentTick, tape: Tape) -> Tensor:
        agent = self.system.agents[part.agent]
        if not isinstance(agent, Cohort):
            return super()._gather(part, tape)
        observations = agent.observations(part.step_signals.signals, self.system)
        if part.ages is not None:
            own = part.ages.view(len(agent.members), self.system.batch, -1)
            observations.insert(agent.observes.index(AGE), own)
        flat = len(agent.learner.network.input_shape) == 1
        messages: list[Tensor] = []
        available: list[EnvMask] = []
        entries = iter(part.inputs)
        entry = next(entries, None)
        for channel in agent.inputs:
            read: list[tuple[Tensor, EnvMask]] = []
            while entry is not None and entry.channel == channel.name:
                value = self._value(entry, channel, part, tape)
                read.append((value if flat else value.reshape(len(value), *channel.shape), entry.alive))
                entry = next(entries, None)
            message, there = together(channel.ledger.read, read, channel.slots)
            messages.append(message)
            available.append(there)
        pieces = [*observations, *agent.mailbox.join(messages, available, self.system.batch)]
        return (pieces[0] if len(pieces) == 1 else torch.cat(pieces, 2)).flatten(0, 1)
