"""Ticking: agents due at a step read, evaluate and send; a window's ticks can be replayed from its tape."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from antiphon.agents.network import Transport
from antiphon.comms.aggregation import join
from antiphon.comms.cut import constant
from antiphon.comms.inputs import InputModel
from antiphon.engine.contexts import Contexts
from antiphon.engine.ledger import Reading, Record
from antiphon.engine.moment import Lanes, Moment, besides, either, lanes_where
from antiphon.engine.parts import Agent, Channel
from antiphon.engine.system import System
from antiphon.engine.tape import Input, Part, Tape, Tick
from antiphon.nets.random import seed_for

__all__ = ["Ticker", "aligned"]


def aligned(reading: Reading) -> Moment:
    """Return the moment an aligned agent works on: that of the message it consumes; nothing before the first."""
    if reading.value is None or reading.record is None:
        return Moment(-1, {})
    return reading.record.moment if reading.moment is None else reading.moment


class Ticker:
    """Evaluates the agents of a system, one call at a time.

    Args:
        system: The agents, channels and units.
    """

    def __init__(self, system: System) -> None:
        self.system = system
        self.contexts = Contexts(system)

    def tick(self, step: int, moment: Moment) -> None:
        """Let all agents due at `step` tick, in waves."""
        for call in self.system.schedule.calls(step):
            unit = self.system.unit_of[call[0]]
            tape = unit.tape
            window = unit.windows.number(step)
            if tape.window != window:
                tape.window = window
                tape.start = {name: dict(self.system.agents[name].learner.buffers) for name in unit.owners}
            tick = Tick(step, [self._part(self.system.agents[name], step, moment, tape) for name in call])
            learner = self.system.agents[call[0]].learner
            learner.buffers = self.evaluate(tick, tape, learner.buffers)
            tape.ticks.append(tick)
            for part in tick.parts:
                self._send(part, step, tape)

    def _part(self, agent: Agent, step: int, moment: Moment, tape: Tape) -> Part:
        part = Part(agent.name, moment, [], agent.drawn(tape.window))
        for channel in agent.inputs:
            reading = channel.ledger.receive(step)
            record = reading.record
            if channel.input is not None and record is not None and not channel.deaf:
                reading = self._stood_in(channel, channel.input, record, reading, step)
            if channel.name == agent.align:
                part.moment = aligned(reading)
            if record is not None and (channel.name, record.stamp) in tape.live:
                alive: Lanes = besides(record.dead)
                part.inputs.append(Input(channel.name, record.stamp, None, alive=alive))
                continue
            if channel.coupling == "locked" or not part.drawn:
                # Over a locked channel it was made in an earlier window, where its credit is lost.
                part.inputs.append(Input(channel.name, None, reading.value, alive=reading.came))
                continue
            use = channel.ledger.use(step, reading)
            value = reading.value if use is None else use.leaf
            part.inputs.append(Input(channel.name, None, value, use, reading.came))
        return part

    def _stood_in(
        self, channel: Channel, model: InputModel, record: Record, reading: Reading, step: int
    ) -> Reading:
        """Let the synthetic input stand in where the due message is missing; note what it can learn from."""
        if channel.input_context and not record.moment.signals:
            return reading  # made by an aligned agent before its first message
        context = self.contexts.of_input(channel, record, step)
        if record.first_use == step and record.dead is not True:
            away = either(False if record.lost is None else record.lost, record.dead)
            arrived = torch.logical_not(away) if isinstance(away, Tensor) else None
            channel.heard.append((context, record.received, arrived))
        missing = channel.ledger.missing(reading, always=channel.coupling == "unlocked")
        if missing is False:
            return reading
        return channel.ledger.stand_in(reading, constant(model.predict(context, self.system.batch)), missing)

    def evaluate(
        self, tick: Tick, tape: Tape, buffers: dict[str, Tensor], *, replay: bool = False
    ) -> dict[str, Tensor]:
        """Evaluate a tick's network, put the ports into its parts and return the new running statistics."""
        rows = [self._gather(part, tape) for part in tick.parts]
        first = self.system.agents[tick.parts[0].agent]
        learner = first.learner
        ports, after = learner.network(
            learner.parameters,
            buffers,
            rows[0] if len(rows) == 1 else torch.cat(rows),
            training=not learner.frozen,
            seed=0 if learner.network.pure else seed_for(first.seed, "tick", str(tick.step)),
            transports=[way for i, part in enumerate(tick.parts) for way in self._transports(part, tape, i)],
        )
        for i, part in enumerate(tick.parts):
            names = self.system.agents[part.agent].ports
            part.ports = {n: ports[n] if len(rows) == 1 else ports[n].chunk(len(rows))[i] for n in names}
        if replay:
            self._relive(tick, tape)
        return after

    def _gather(self, part: Part, tape: Tape) -> Tensor:
        agent = self.system.agents[part.agent]
        shape = agent.learner.network.input_shape
        flat = len(shape) == 1
        observations: list[Tensor] = []
        for name in agent.observes:
            seen = part.moment.signals.get(name)
            if seen is None:  # an aligned agent before its first message
                seen = self.system.blank(name)
            seen = seen.to(self.system.dtype)
            observations.append(seen.reshape(len(seen), -1) if flat else seen)
        messages: list[Tensor] = []
        for entry, channel in zip(part.inputs, agent.inputs, strict=True):
            if entry.stamp is not None:
                value = lanes_where(entry.alive, tape.live[channel.name, entry.stamp].flatten(1))
                if not part.drawn or channel.direct is not None or channel.aligned is not None:
                    value = constant(value)  # no gradient goes back this way
            else:
                value = channel.zeros if entry.value is None else entry.value
            messages.append(value if flat else value.reshape(len(value), *channel.shape))
        return join(agent.fan_in, observations, messages, [entry.alive for entry in part.inputs])

    def _transports(self, part: Part, tape: Tape, position: int) -> Iterator[Transport]:
        """The messages whose gradient goes back through fixed weights (feedback alignment)."""
        inputs = self.system.agents[part.agent].inputs
        for entry, channel in zip(part.inputs, inputs, strict=True):
            if channel.aligned is not None and entry.stamp is not None and part.drawn:
                message = lanes_where(entry.alive, tape.live[channel.name, entry.stamp].flatten(1))
                first = position * self.system.batch
                yield Transport(message, channel.aligned, slice(first, first + self.system.batch))

    def _send(self, part: Part, step: int, tape: Tape) -> None:
        agent = self.system.agents[part.agent]
        for channel in agent.outputs:
            if not channel.ledger.sender.due(step):
                continue
            message = part.ports[channel.port]
            record = channel.ledger.send(step, message, part.moment)
            if agent.silenced or self._mute(record):
                record.dead = record.silent = True
            tape.sent.append((channel.name, record))
            if channel.coupling == "locked":
                tape.live[channel.name, step] = self._carried(channel, step, message)

    def _mute(self, record: Record) -> bool:
        """Whether a message would poison who reads it: under quarantine only, since looking costs."""
        return self.system.divergence.quarantine and not bool(record.message.isfinite().all())

    def _relive(self, tick: Tick, tape: Tape) -> None:
        """Put the messages of a replayed tick back where the first evaluation put them."""
        for part in tick.parts:
            for channel in self.system.agents[part.agent].outputs:
                if not channel.ledger.sender.due(tick.step):
                    continue
                message = part.ports[channel.port]
                channel.ledger.records[tick.step].live = message
                if channel.coupling == "locked":
                    tape.live[channel.name, tick.step] = self._carried(channel, tick.step, message)

    @staticmethod
    def _carried(channel: Channel, step: int, message: Tensor) -> Tensor:
        """A message with its graph, as its link lets it arrive."""
        return channel.ledger.link.carry(step, message.flatten(1))

    def replay(self, tape: Tape) -> None:
        """Make a window's graph again from its tape; running statistics stay as they are."""
        buffers = dict(tape.start)
        for tick in tape.ticks:
            name = self.system.owner_of[tick.parts[0].agent]
            buffers[name] = self.evaluate(tick, tape, buffers[name], replay=True)
