"""Probes: the true gradient of a channel, read in a fork that is thrown away (semantics 33a).

Every message made from the fork on is passed with its graph, whatever its channel's coupling and wherever
windows end; parameters stay, nothing learns. What was sent before the fork stands as numbers.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from antiphon.comms.alignment import alignment
from antiphon.engine.ledger import Record
from antiphon.engine.moment import Moment
from antiphon.engine.parts import Agent, Channel
from antiphon.engine.reference import Update
from antiphon.engine.system import System
from antiphon.engine.tape import Input, Part, Tape
from antiphon.engine.teaching import Teacher
from antiphon.engine.ticking import Ticker, aligned
from antiphon.errors import ScenarioError

if TYPE_CHECKING:
    from antiphon.engine.simulation import Simulation

__all__ = ["Probe", "true_gradients"]


@dataclass(frozen=True, slots=True)
class Probe:
    """What one message's learning signal should be, and what its channel says it is.

    Attributes:
        true: [B, size], B * dL/dmessage: the gradient of all losses up to the horizon.
        synthetic: [B, size], what the channel's predictor says of the same message now; None without a
            predictor, or where its target is absent.
        alignment: `cosine`, `norm_ratio` and `r2` of the two; empty without `synthetic`.
    """

    true: Tensor
    synthetic: Tensor | None = None
    alignment: dict[str, float] = field(default_factory=dict)


class _LiveTicker(Ticker):
    """Passes every message on with its graph: by the ledger's rules, but cut nowhere."""

    def __init__(self, system: System, start: int) -> None:
        super().__init__(system)
        self.start = start
        self.sent: dict[str, Record] = {}
        """Records of the step `start`, by channel: their messages are what is differentiated."""

    def _part(self, agent: Agent, step: int, moment: Moment, tape: Tape) -> Part:
        part = Part(agent.name, moment, [])
        for channel in agent.inputs:
            reading = channel.ledger.receive(step)
            if channel.name == agent.align:
                part.moment = aligned(reading)
            part.inputs.append(Input(channel.name, None, reading.value, alive=reading.came))
        return part

    def _send(self, part: Part, step: int, tape: Tape) -> None:
        for channel in self.system.agents[part.agent].outputs:
            message = part.ports[channel.port]
            record = channel.ledger.send(step, message, part.moment)
            record.message = message.flatten(1)
            if step == self.start:  # channels that share a port have a gradient each
                record.message = record.message.clone()
                if not record.message.requires_grad:
                    record.message.requires_grad_()
                self.sent[channel.name] = record


def true_gradients(simulation: Simulation, horizon: int = 0) -> dict[str, Probe]:
    """Return what every message of the next step does to the losses of that step and `horizon` further ones.

    A fork takes these steps with the parameters of now: all channels pass gradients as if locked, across windows
    too, the links lose what they would lose in the run, and an episode's end cuts the paths through it. No bit
    of `simulation` changes.

    Args:
        simulation: What to probe, after any number of steps.
        horizon: Further steps whose losses count. A message that arrives later has no gradient; with an objective
            at the end of an episode of `hold` steps, `hold - 1` at its first step sees all there is to see.

    Returns:
        By the name of the channel, for those whose sender ticks at step `simulation.now`.

    Raises:
        ScenarioError: The horizon is negative.
    """
    if horizon < 0:
        raise ScenarioError(f"probe: horizon is {horizon}; it must be at least 0")
    now = simulation.now
    twin = simulation.fork()
    system = twin.system
    _freeze(system, horizon)
    ticker = _LiveTicker(system, now)
    synthetic: dict[str, Tensor | None] = {}
    for step in range(now, now + horizon + 1):
        ticker.tick(step, twin.world.moment)
        ended = twin.world.advance()
        if ended is not False:
            for channel in system.channels.values():
                channel.ledger.cut(step, ended)
        if step == now:  # only now are the signals known that a context may use
            synthetic = {name: _predict(system, name, record) for name, record in ticker.sent.items()}
    messages = [record.message for record in ticker.sent.values()]
    losses = [twin.backend.objective(unit.tape, Update(unit, unit.tape)) for unit in system.units]
    true = _gradients([loss for loss in losses if loss is not None], messages, system.batch)
    return {name: _probe(t, synthetic[name]) for name, t in zip(ticker.sent, true, strict=True)}


def _freeze(system: System, horizon: int) -> None:
    """Keep the parameters, open the tapes anew, and let records stay open: no window closes in a probe."""
    for agent in system.agents.values():
        for parameter in agent.learner.parameters.values():
            parameter.requires_grad_(False)
    for unit in system.units:
        unit.tape = Tape()
    for channel in system.channels.values():
        channel.ledger.slack += horizon
        for record in channel.ledger.records.values():
            record.deadline += horizon


def _predict(system: System, name: str, record: Record) -> Tensor | None:
    channel: Channel = system.channels[name]
    return None if channel.predictor is None else Teacher(system).predict(channel, record)


def _gradients(losses: list[Tensor], messages: list[Tensor], batch: int) -> list[Tensor]:
    outputs = [loss for loss in losses if loss.requires_grad]
    if not outputs or not messages:
        return [torch.zeros_like(message) for message in messages]
    found = torch.autograd.grad(outputs, messages, allow_unused=True)
    return [
        torch.zeros_like(message) if g is None else g * batch
        for g, message in zip(found, messages, strict=True)
    ]


@torch.no_grad()
def _probe(true: Tensor, synthetic: Tensor | None) -> Probe:
    if synthetic is None:
        return Probe(true)
    return Probe(true, synthetic, {k: v.item() for k, v in alignment(synthetic, true).items()})
