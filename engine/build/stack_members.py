"""Which agents and channels are computed as one stack: those of one kind, and what keeps others alone."""

from __future__ import annotations

from collections.abc import Callable, Collection, Container, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from operator import attrgetter
from typing import Any, NamedTuple

from antiphon.agents.network import AUXILIARY_PORT, HIDDEN, OBJECTIVE, STATE, VALUE, Network
from antiphon.agents.rewards import COSINE
from antiphon.base.tools import by_key
from antiphon.comms.couplings import ReadKind
from antiphon.comms.links import Link
from antiphon.comms.predictors import Predictor
from antiphon.comms.synthetic_inputs import InputModel
from antiphon.engine.heart.agent import AGE, Agent, Goal, Inputs, Observed
from antiphon.engine.heart.channel import (
    Channel,
    PredictorContext,
    SyntheticGradient,
    SyntheticInput,
)
from antiphon.engine.heart.ends import Content, Wire
from antiphon.engine.heart.policies.learning import evaluated_at_once, passes_of, port_names
from antiphon.engine.heart.system import System
from antiphon.engine.heart.timetable import Timetable
from antiphon.engine.state.changes import HYPERPARAMETERS, values_of
from antiphon.nets.trained_parameters import TrainedParameters


def _compared(
    records: Mapping[str, type], may_differ: Collection[str], hyperparameters: Iterable[str] = ()
) -> Callable[[Any], Hashable]:
    """Return what reads the fields in which members of a stack are equal, of which it has its first member's value.

    These are all fields that `__init__` takes of `records`, classes by their places ("": what is read), but for the places that
    `may_differ`, of each member or compared by other rules, and `hyperparameters`. So a new field is compared until it is named:
    values without an equality of their own keep channels or agents unstacked, and what cannot be hashed fails as a system is stacked.
    """
    places = [
        f"{place}.{entry.name}".lstrip(".")
        for place, record in records.items()
        for entry in fields(record)
        if entry.init
    ]
    unknown = {*may_differ, *records} - {*places, ""}
    assert not unknown, f"no fields: {unknown}"
    compared = [place for place in places if not {place} & {*may_differ, *records, *hyperparameters}]
    return attrgetter(*compared) if compared else lambda _: ()


_AGENT = _compared(
    {
        "": Agent,
        "inputs": Inputs,
        "inputs.observed": Observed,
        "inputs.critic_observed": Observed,
    },
    {
        # of each member, or of the stack
        *("name", "members", "layout", "connections", "kept", "random_seed", "life_name"),
        *("inputs.observed.names_by_member", "inputs.critic_observed.names_by_member"),
        # by other rules (`agent_kind`)
        *("learner", "goal", "participation", "acts", "inputs.fan_in", "inputs.align_channel_name"),
        *("inputs.observed.signal_names", "inputs.critic_observed.signal_names"),
    },
    HYPERPARAMETERS[Agent],
)
_GOAL = _compared({"": Goal}, {"objective", "rewards", "summands", "weight", "output_slice"})
_CHANNEL = _compared(
    {
        "": Channel,
        "content": Content,
        "wire": Wire,
        "wire.timetable": Timetable,
        "wire.link": Link,
        "synthetic_gradient": SyntheticGradient,
        "synthetic_gradient.context": PredictorContext,
        "synthetic_input": SyntheticInput,
        "synthetic_input.context": PredictorContext,
    },
    {
        # of each member, or of the stack
        *("name", "sender", "receiver", "members", "layout", "content.zeros"),
        *("wire.name", "wire.link.name", "wire.link.seed", "wire.link.members"),
        *("endpoints", "life_names", "mask_name"),
        # what steps change
        "synthetic_input.examples",
        # by other rules (`channel_kind`), or by the receivers' kind
        *(
            "coupling",
            "content.port_name",
            "content.sampler",
            "synthetic_gradient.model",
            "synthetic_input.model",
        ),
        *("synthetic_gradient.context.endpoint_values", "synthetic_input.context.endpoint_values"),
        "synthetic_gradient.context.signal_specs",
        *("wire.timetable.receiver_clock", "wire.timetable.receiver_grid"),
    },
    HYPERPARAMETERS[Channel],
)
_OF_EACH_MODEL = {"owner", "seed", "updates", "members", "context"}
"""Attributes in which the predictors of a stack may differ, among those that are plain values; they are equal in all others."""


def reasons_alone(system: System) -> dict[str, str]:
    """By agent, why some cannot be stacked; the others can."""
    group_by_agent, channels = system.group_by_agent, system.channels.values()
    tied = {name for tie in system.tied_parameters for name, _ in tie}
    # at the ends of a channel between groups that would be read with its graph, were they of one window, as in a stack
    with_graph_of_own = {
        group_by_agent[name]
        for channel in channels
        if group_by_agent[channel.sender] is not group_by_agent[channel.receiver]
        and channel.coupling.read_kind(same_window=True, is_state=False) is ReadKind.WITH_GRAPH
        for name in (channel.sender, channel.receiver)
    }
    with_returned_loss = {
        group_by_agent[channel.receiver] for channel in channels if channel.needs_returned_loss
    }

    def reasons(agent: Agent) -> Iterator[str]:
        goal, inputs = agent.goal, agent.inputs
        group, network = group_by_agent[agent.name], agent.learner.network
        if len(group.agent_count_by_learner) < len(group.agent_names):
            yield "it is tied to others"
        if agent.name in tied:
            yield "a parameter of it is tied to others"
        if group.horizons:
            yield "it waits for delayed gradients"
        if agent.acts and (goal is None or goal.policy is None):
            yield "it acts"
        if inputs.align_channel_name is not None and aligned_kind(system, agent) is None:
            yield "its signals depend on which message arrived (align)"
        if group in with_graph_of_own:
            yield "messages of its own group are read with their graph, those of others are not"
        if len(group.agent_names) > 1 and group in with_returned_loss:
            yield "critics receive the loss of its group"
        for term in () if goal is None or goal.policy is not None else goal.terms:
            yield from filter(None, (term.output_objective.stacking_obstacle(),))
        if system.sweeps and not network.pure:
            yield "with training.sweep a module's graph is freed before the next module's forward"
        yield from filter(None, (network.stacking_obstacle(),))

    return {name: why for name, agent in system.agents.items() if (why := next(reasons(agent), None))}


def channels_alone(system: System) -> dict[str, str]:
    """By channel, why the predictors of some cannot be stacked; the others' can."""
    reasons: dict[str, str] = {}
    for name, channel in system.channels.items():
        for model, key in (
            (channel.synthetic_gradient.model, "gradient"),
            (channel.synthetic_input.model, "input"),
        ):
            reason = None if model is None else model.stacking_obstacle()
            if reason is not None:
                reasons.setdefault(name, f"its synthetic {key}: {reason}")
    return reasons


def reason_apart(*bases: System) -> str | None:
    """Return why the systems of several seeds of a scenario cannot be stacked as one; None: they can.

    One of them shows most of it. Other seeds, of the same structure, may still differ in what a user's objects keep.
    """
    base = bases[0]
    if base.schedule.episode_windows is not None:
        return "the length of episodes differs between seeds"
    env = base.description
    if any(agent.inputs.align_channel_name is not None for agent in base.agents.values()) and not (
        env.endless or env.is_stream
    ):
        return "agents are aligned to messages, and episodes end at different steps in different seeds"
    if any(len(agent.learner.network.input_shape) > 1 for agent in base.agents.values()):
        return "convolutions of several seeds take longer together than one after the other"
    for name, reason in (reasons_alone(base) | channels_alone(base)).items():
        return f"'{name}' runs unstacked: {reason}"
    kinds, *kinds_of_others = map(_kinds, bases)
    for name, kind in kinds.items():
        if any(other[name] != kind for other in kinds_of_others):
            return f"'{name}' is not the same function in all seeds"
    return None


def _kinds(system: System) -> dict[str, Hashable]:
    agents = {name: agent_kind(system, agent) for name, agent in system.agents.items()}
    return agents | {name: channel_kind(system, channel) for name, channel in system.channels.items()}


def agent_kind(system: System, agent: Agent) -> Hashable:
    """Return what agents of one stack have in common, beside their hyperparameters and their place in a step's order."""
    learner, inputs, goal, critic = agent.learner, agent.inputs, agent.goal, agent.learner.critic
    state_channel = agent.connections.state_channel
    # How messages come about is their channel stacks' affair, of which a stack may read many: here it matters how they fit.
    incoming = ((c.content.shape, c.wire.timetable.slots) for c in agent.connections.incoming)
    return (
        _AGENT(agent),
        learner.network.signature(),
        system.group_by_agent[agent.name].grid,
        learner.frozen,
        _trained(learner),
        _shapes(system, agent, inputs.observed.signal_names),
        None if critic is None else critic.signature(),
        _shapes(system, agent, inputs.critic_observed.signal_names),
        None if inputs.align_channel_name is None else aligned_kind(system, agent),
        tuple(incoming),
        None if goal is None else _goal_kind(goal),
        agent.participation is None,
        bool(agent.acts),
        None if state_channel is None else channel_kind(system, state_channel),
        agent.oldest_shown_state(0),
        evaluated_at_once(agent),
    )


def _shapes(system: System, agent: Agent, names: Sequence[str]) -> Hashable:
    signals, categories = system.description.signals, agent.inputs.categories
    return tuple(name if name == AGE else signals[name].shape_as(categories) for name in names)


def _goal_kind(goal: Goal) -> Hashable:
    """Return what the objectives of one stack have in common; each member may have rewards of its own."""
    rewards, rewards_kind = goal.rewards, None
    if rewards is not None:
        cosines = tuple(name == COSINE for name in rewards.names)
        rewards_kind = cosines, rewards.direction, rewards.life_reward_name is None
    return (
        _GOAL(goal),
        goal.objective.key,
        str(goal.output_slice),
        rewards_kind,
        tuple(_goal_kind(summand) for summand in goal.summands),
    )


def aligned_kind(system: System, agent: Agent, behind: tuple[str, ...] = ()) -> Hashable | None:
    """Return how far behind an aligned agent is: of equal ones all work on the signals of one step; None: unknown.

    `behind`: those that work on the signals of what it sends.
    """
    assert agent.inputs.align_channel_name is not None
    channel = system.channels[agent.inputs.align_channel_name]
    wire, sender = channel.wire, system.agents[channel.sender]
    if wire.link.loses or wire.holds_all or agent.name in behind:
        return None
    before: Hashable | None = ()
    if sender.inputs.align_channel_name is not None:
        before = aligned_kind(system, sender, (*behind, agent.name))
    index = [c.name for c in agent.connections.incoming].index(agent.inputs.align_channel_name)
    step_behind = (index, wire.timetable.sender_clock, wire.timetable.delay)
    return None if before is None else (step_behind, before)


def head_of(port: str, network: Network) -> int | str:
    """Return which of a network's heads a port is, or the name of one that has the same name in all networks."""
    if port in (HIDDEN, STATE, OBJECTIVE, VALUE, AUXILIARY_PORT):
        return port
    return list(network.heads).index(port)


def channel_kind(system: System, channel: Channel) -> Hashable:
    """Return what channels of one stack have in common, beside their hyperparameters and the stacks at their ends."""
    gradient, synthetic_input = channel.synthetic_gradient, channel.synthetic_input
    sampler, signals = channel.content.sampler, system.description.all_signals
    return (
        head_of(channel.content.port_name, system.agents[channel.sender].learner.network),
        _CHANNEL(channel),
        (type(channel.coupling), channel.coupling.name, channel.coupling.options_key),
        tuple(gradient.context.endpoint_values),
        tuple(synthetic_input.context.endpoint_values),
        tuple(signals[spec.name].known for spec in gradient.context.signal_specs),
        None if sampler is None else (type(sampler), sampler.key),
        None if gradient.model is None else (gradient.model.target, _model(gradient.model)),
        None if synthetic_input.model is None else _model(synthetic_input.model),
    )


def _hyperparameters(bases: Sequence[System], owner: Agent | Channel | None) -> Hashable:
    if owner is None:
        return None
    owners_by_seed = (base.agents if isinstance(owner, Agent) else base.channels for base in bases)
    return tuple(values_of(owners[owner.name]) for owners in owners_by_seed)


def _trained(owner: TrainedParameters) -> Hashable:
    """What is not a hyperparameter of how something is trained."""
    return owner.rate.run_steps, owner.rate.schedule, owner.optimiser.key, len(owner.optimiser.parameters)


def _model(model: Predictor | InputModel) -> Hashable:
    if model.stacking_obstacle() is not None:
        return model
    shapes = tuple((name, tuple(p.shape)) for name, p in model.parameters.items())
    settings = frozenset(
        (name, value)
        for name, value in vars(model).items()
        if isinstance(value, int | float | str | tuple) and name not in _OF_EACH_MODEL
    )
    context = tuple((spec.shape, spec.classes) for spec in model.context)
    return type(model), model.function, model.sites, settings, _trained(model), shapes, context


def _ports_in_further_passes(system: System) -> set[tuple[str, str]]:
    """The agents and ports that the losses of further passes depend on: in those passes, other heads stay."""
    used = {
        (name, port)
        for name, agent in system.agents.items()
        if passes_of(agent) > 1
        for port in port_names(agent)
    }
    names = [name for name, _ in used]
    for name in names:  # grows as it is read
        for channel in system.agents[name].connections.incoming:
            port = channel.sender, channel.content.port_name
            if channel.coupling.joins_endpoints and port not in used:
                used.add(port)
                names.append(channel.sender)
    return used


def stacks_of(system: System, *other_seeds: System) -> tuple[list[list[Agent]], dict[str, str]]:
    """The stacks of a system, in canonical order, and by agent why some are alone.

    An agent without a second of its kind is a stack with a leading axis all the same where many channels of one kind lead
    to it, which come as one stack.
    """
    bases, reasons = (system, *other_seeds), reasons_alone(system)
    waves = {name: i for i, wave in enumerate(system.schedule.waves) for call in wave for name in call}
    used = _ports_in_further_passes(system)

    def kind(agent: Agent) -> Hashable:
        if agent.name in reasons:
            return agent.name
        return (
            agent_kind(system, agent),
            waves[agent.name],
            _hyperparameters(bases, agent),
            _hyperparameters(bases, agent.connections.state_channel),
            tuple((agent.name, head) in used for head in agent.learner.network.heads),
        )

    stacks = list(by_key((kind(agent), agent) for agent in system.agents.values()).values())
    for agent, *others in stacks:
        if others or len(bases) > 1 or agent.name in reasons:
            continue
        channels = agent.connections.incoming
        if len({(channel_kind(system, c), _hyperparameters(bases, c)) for c in channels}) == len(channels):
            reasons[agent.name] = "no other agent is like it"
    return stacks, reasons


def channel_stacks_of(
    system: System, *other_seeds: System, stack_of: Mapping[str, Hashable], alone: Container[str]
) -> list[list[Channel]]:
    """The channels of each stack, in canonical order; `alone`: agents without a second."""

    def kind(channel: Channel) -> Hashable:
        if channel.receiver in alone or channel.coupling.waits:
            return channel.name
        ends = stack_of[channel.sender], stack_of[channel.receiver]
        return *ends, channel_kind(system, channel), _hyperparameters((system, *other_seeds), channel)

    return list(by_key((kind(channel), channel) for channel in system.channels.values()).values())


class StackPlan(NamedTuple):
    """Which agents of a system are stacked, and why others are not."""

    cohorts: list[list[Agent]]
    """In canonical order."""
    alone: dict[str, list[str]]
    """By reason, agents that are not stacked, and channels whose predictors are not."""


def plan(system: System) -> StackPlan:
    members, reasons = stacks_of(system)
    alone = by_key((why, name) for name, why in [*reasons.items(), *channels_alone(system).items()])
    return StackPlan([agents for agents in members if agents[0].name not in reasons], alone)
