"""Similarity: which agents can be stacked, and which channels."""

from __future__ import annotations

from collections.abc import Hashable

from antiphon.agents.network import AUXILIARY_PORT, HIDDEN, OBJECTIVE, STATE, Network
from antiphon.comms.gradient import Predictor
from antiphon.comms.inputs import InputModel
from antiphon.engine.core.agent import AGE, Agent
from antiphon.engine.core.channel import Channel
from antiphon.engine.core.ledger import GradientLedger
from antiphon.engine.core.system import System
from antiphon.nets.optimisers import Optimiser

__all__ = ["agent_kind", "channel_kind", "place_of", "reasons_alone"]


def reasons_alone(system: System) -> dict[str, str]:
    """By agent, why some cannot be stacked; the others can."""
    fixed, evaluated = set(), set()
    for channel in system.channels.values():
        if channel.direct is not None or channel.aligned is not None:
            fixed |= {id(system.group_of[channel.sender]), id(system.group_of[channel.receiver])}
        if channel.needs_returned_loss:
            evaluated.add(id(system.group_of[channel.receiver]))

    def reason(agent: Agent) -> str | None:
        unit = system.group_of[agent.name]
        traced = any((memory := system.agents[n].memory) is not None and memory.traced for n in unit.members)
        quarantine = system.divergence.quarantine
        if any(count > 1 for count in unit.owners.values()):
            return "it is tied to others"
        if unit.late:
            return "it waits for delayed gradients"
        if agent.name == system.actor:
            return "it acts"
        if agent.align is not None and aligned_kind(system, agent) is None:
            return "it works on the signals of whichever message arrived"
        if AGE in agent.observes and agent.fan_in != "concat":
            return "it sees the ages of messages that it adds up"
        if id(unit) in fixed:
            return "feedback goes through fixed weights in its group"
        if len(unit.members) > 1 and id(unit) in evaluated:
            return "critics are told what its group loses"
        if quarantine and agent.align is not None:
            return "it works on the signals of whoever may fall silent"
        if traced and (quarantine or agent.p_update < 1.0 or len(unit.members) > 1):
            return "returns reach over windows that not everybody may learn from"
        return agent.learner.network.stackable()

    found = {name: reason(agent) for name, agent in system.agents.items()}
    return {name: why for name, why in found.items() if why is not None}


def agent_kind(system: System, agent: Agent, wave: int) -> Hashable:
    """Return what agents of one stack have in common.

    Args:
        system: Whose agent it is.
        agent: The agent.
        wave: At which place of a step's order it ticks.
    """
    unit, learner, goal = system.group_of[agent.name], agent.learner, agent.goal
    # How messages come about is their bundles' affair, of which a cohort may read many: here it matters how they fit.
    read = [(channel.shape, channel.slots, channel.ledger.read) for channel in agent.inputs]
    return (
        learner.network.signature(),
        agent.clock,
        unit.windows,
        wave,
        system.depths.get(id(unit), 0),
        learner.frozen,
        learner.rate,
        _optimiser(learner.optimiser),
        tuple(AGE if n == AGE else system.description.signals[n].shape for n in agent.observes),
        None if agent.align is None else aligned_kind(system, agent),
        agent.fan_in,
        tuple(read) if agent.fan_in == "concat" else frozenset(read),
        None if goal is None else (type(goal.objective), goal.target, goal.last_only, goal.weight),
        agent.p_update,
        None if agent.memory is None else channel_kind(system, agent.memory),
        agent.trail is None,
        agent.looked_back,
    )


def aligned_kind(system: System, agent: Agent, behind: tuple[str, ...] = ()) -> Hashable | None:
    """Return how far behind an aligned agent is: of equal ones all work on the signals of one step; None: unknown.

    Args:
        system: Whose agent it is.
        agent: The agent.
        behind: Those that work on the signals of what it sends.
    """
    assert agent.align is not None
    channel = system.channels[agent.align]
    ledger, sender = channel.ledger, system.agents[channel.sender]
    if ledger.link.drop or ledger.remembers or agent.name in behind:
        return None
    before: Hashable | None = ()
    if sender.align is not None:
        before = aligned_kind(system, sender, (*behind, agent.name))
    place = [c.name for c in agent.inputs].index(agent.align)
    own = (place, ledger.sender.clock, ledger.sender.rate, ledger.link.delay)
    return None if before is None else (own, before)


def place_of(port: str, network: Network) -> int | str:
    """Return which of a network's heads a port is, or the name of one that has the same name in all networks."""
    if port in (HIDDEN, STATE, OBJECTIVE, AUXILIARY_PORT):
        return port
    return list(network.heads).index(port)


def channel_kind(system: System, channel: Channel) -> Hashable:
    """Return what channels of one stack have in common, beside the stacks at their ends."""
    return (
        place_of(channel.port, system.agents[channel.sender].learner.network),
        channel.shape,
        channel.coupling,
        _ledger(channel.ledger),
        channel.mailbox.aligns,
        None if channel.predictor is None else _predictor(channel.predictor),
        channel.context,
        channel.ends,
        channel.target,
        channel.scale,
        channel.discount,
        channel.clip,
        channel.trace,
        channel.span,
        channel.auxiliary,
        channel.outliers is None,
        channel.propagate,
        channel.apply,
        channel.slots,
        None if channel.input is None else _input(channel.input),
        channel.input_context,
        channel.input_ends,
    )


def _ledger(ledger: GradientLedger) -> Hashable:
    link = ledger.link
    return (
        ledger.sender.rate,
        (link.delay, link.drop, link.noise, link.bits),
        ledger.returns,
        ledger.back,
        ledger.slack,
        ledger.remembers,
        ledger.read,
        ledger.state,
    )


def _optimiser(optimiser: Optimiser) -> Hashable:
    return (
        optimiser.kind,
        optimiser.momentum,
        optimiser.betas,
        optimiser.weight_decay,
        optimiser.clip,
        len(optimiser.parameters),
    )


def _predictor(model: Predictor) -> Hashable:
    return type(model), model.shape, model.context, model.target, model.filter, *_model(model)


def _input(model: InputModel) -> Hashable:
    return type(model), *_model(model)


def _model(model: Predictor | InputModel) -> tuple[Hashable, ...]:
    shapes = tuple((name, tuple(p.shape)) for name, p in model.parameters.items())
    return model.hidden, model.norm, model.rate, _optimiser(model.optimiser), shapes
