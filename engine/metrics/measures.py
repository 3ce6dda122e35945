"""What a step says about agents and channels: of all that are run as one at once, so that looking costs little.

Shapes: n members of a cohort or bundle (1 of whatever stands alone), B environments.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from antiphon.comms.alignment import alignment
from antiphon.engine.core.agent import Agent
from antiphon.engine.core.channel import Channel
from antiphon.engine.core.system import System
from antiphon.engine.step.predictors import PredictorUpdate
from antiphon.engine.step.update import StepReport

__all__ = ["Measured", "of_agents", "of_channels"]


class Measured(NamedTuple):
    """One metric of agents, or of channels.

    Attributes:
        names: Whose.
        metric: What was measured.
        values: One each.
        told: Who has it, [n]; None: all.
    """

    names: tuple[str, ...]
    metric: str
    values: Sequence[float]
    present: Sequence[bool] | None = None


def of_agents(system: System, learned: StepReport) -> Iterator[Measured]:
    """Yield `gradient_norm` (of those that learned), `updates`, `silenced` (with quarantine) and `parameter_norm`.

    Args:
        system: Of agents and channels, or of cohorts and bundles.
        learned: What was learned at the step, by the same.
    """
    for update in learned.updates:
        for name, gradients in update.gradients.items():
            agent = system.agents[name]
            if found := [g for g in gradients if g is not None]:
                present = _list(update.stepping_members.get(name))
                yield Measured(agent.names, "gradient_norm", _norms(found, agent), present)
    for agent in system.agents.values():
        yield Measured(agent.names, "updates", agent.learner.counts())
        if system.divergence.quarantine:
            agent_disabled = agent.agent_disabled
            each = (
                agent_disabled.view(len(agent.names), -1)[:, 0].tolist()
                if isinstance(agent_disabled, Tensor)
                else None
            )
            yield Measured(agent.names, "silenced", each or [float(bool(agent_disabled))] * len(agent.names))
        if parameters := list(agent.learner.parameters.values()):
            yield Measured(agent.names, "parameter_norm", _norms(parameters, agent))


def _norms(tensors: Sequence[Tensor], agent: Agent) -> list[float]:
    """The norm over all tensors of each member."""
    if agent.stacked:
        squares = [torch.linalg.vector_norm(t.flatten(1), dim=1).square() for t in tensors]
        return torch.stack(squares).sum(0).sqrt().tolist()
    return [torch.stack(torch._foreach_norm(list(tensors))).norm().item()]


def of_channels(system: System, learned: StepReport, step: int) -> Iterator[Measured]:
    """Yield the figures of channels; `engine.figures.figures` says which.

    Args:
        system: Of agents and channels, or of cohorts and bundles.
        learned: What was learned at the step, by the same.
        step: The step just taken.
    """
    for name, trained in learned.inputs.items():
        yield Measured(
            system.channels[name].names, "si_loss", trained.loss.reshape(-1).tolist(), _list(trained.members)
        )
    injected = {name: (rows, update) for update in learned.updates for name, rows in update.injected.items()}
    for name, channel in system.channels.items():
        names, count = channel.names, len(channel.names)
        if name in learned.predictor_updates:
            yield from _trained(names, learned.predictor_updates[name])
        if name in injected:
            rows, update = injected[name]
            put = channel.injecting(system.agents[channel.sender].participates(update.tape.window))
            norms = rows.norm(dim=1).view(count, -1).mean(1)
            yield Measured(names, "injection_norm", norms.tolist(), _list(put))
        records = channel.ledger.records
        if records:
            message = records[max(records)].message.reshape(count, -1)
            mean, spread = message.mean(1), message.std(1, correction=0)
            yield Measured(names, "message_mean", mean.tolist())
            yield Measured(names, "message_std", spread.tolist())
            yield Measured(names, "message_energy", (mean.square() + spread.square()).sqrt().tolist())
        if channel.outliers is not None:
            clip_count: int | Tensor = channel.outliers.clip_count
            yield Measured(
                names,
                "outliers",
                clip_count.tolist() if isinstance(clip_count, Tensor) else [float(clip_count)],
            )
        newest_usable = channel.ledger.sender.latest(step - channel.ledger.link.delay)
        if newest_usable is not None:
            yield Measured(names, "age", [float(step - newest_usable)] * count)
        yield from _on_the_way(system, channel, step)


def _trained(names: tuple[str, ...], update: PredictorUpdate) -> Iterator[Measured]:
    present = _list(update.members)
    yield Measured(names, "sg_loss", update.loss.reshape(-1).tolist(), present)
    newest = update.examples[-1]
    if newest.delta is None or update.prediction is None:
        return
    if newest.members is not None:
        heard = newest.members.tolist()
        present = heard if present is None else [a and b for a, b in zip(present, heard, strict=True)]
    said = update.prediction.view(len(names), -1, update.prediction.shape[1])
    valid = None if newest.valid is None else newest.valid.view(len(names), -1)
    for metric, values in alignment(said, newest.delta.view_as(said), valid).items():
        yield Measured(names, metric, values.tolist(), present)


def _list(members: Tensor | None) -> list[bool] | None:
    return None if members is None else members.tolist()


def _on_the_way(system: System, channel: Channel, step: int) -> Iterator[Measured]:
    """What the link did to the message due now, and what it carries.

    `lost` and `stand_in` (shares of environments), `distortion` (root of the mean squared change by noise and bits, in
    the message's own units), `traffic` (bits a step and environment, context of the receiver included).
    """
    ledger, link = channel.ledger, channel.ledger.link
    names, count = channel.names, len(channel.names)
    stamp = ledger.sender.latest(step - link.delay)
    record = None if stamp is None else ledger.records.get(stamp)
    if record is not None and (link.drop or channel.input is not None):
        lost = [0.0] * count if record.lost is None else record.lost.view(count, -1).float().mean(1).tolist()
        yield Measured(names, "lost", lost)
        if channel.input is not None:
            yield Measured(names, "stand_in", [1.0] * count if channel.coupling == "unlocked" else lost)
    if record is not None and (link.noise or link.bits):
        change = (record.received - record.message).reshape(count, -1).square().mean(1).sqrt()
        yield Measured(names, "distortion", change.tolist())
    if channel.state:
        return  # it stays where it is
    width = link.bits or torch.finfo(channel.zeros.dtype).bits
    sends = ledger.sender.rate / ledger.sender.clock.period
    yield Measured(
        names, "traffic", [channel.size * width * sends + _context_traffic(system, channel)] * count
    )


def _context_traffic(system: System, channel: Channel) -> float:
    """Bits a step and environment of context that crosses the link from the receiver (semantics 25).

    That is its state, in full precision, at each of its ticks. Phases follow from the clocks, and what is returned has
    come back with the gradients.
    """
    if "to.state" not in channel.ends:
        return 0.0
    size = system.agents[channel.receiver].learner.network.state_size
    return size * torch.finfo(channel.zeros.dtype).bits / channel.ledger.receiver.period
