"""Stacking: the system of single agents that a scenario declares, as one of stacks.

Agents of one kind become a stack, and channels of one kind between two stacks. What has no second of its kind, or cannot
be stacked, is a stack of one. Several seeds of a scenario are one system: a stack has the agents of each seed, seed after seed.
"""

from __future__ import annotations

from collections.abc import Container, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate, groupby
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor

from antiphon.agents.learner import Learner
from antiphon.agents.network import AUXILIARY_PORT, HIDDEN, OBJECTIVE, STATE, VALUE, Network
from antiphon.agents.rewards import COSINE
from antiphon.base.progress import Progress
from antiphon.comms.backward_requests import Outliers
from antiphon.comms.links import REDUCED, Segment, StackFanIn
from antiphon.comms.model import Model
from antiphon.comms.skill_gate import SkillGate
from antiphon.comms.synthetic_gradients import Predictor
from antiphon.comms.synthetic_inputs import InputModel
from antiphon.engine.build.channels import connect
from antiphon.engine.heart.agent import AGE, Agent, Connections, Goal
from antiphon.engine.heart.channel import Channel
from antiphon.engine.heart.channel_settings import Endpoints
from antiphon.engine.heart.divergence import DivergenceRuleOfSeeds
from antiphon.engine.heart.layout import Layout, SenderRows, name_in_seed
from antiphon.engine.heart.learning_order import turns_of_groups
from antiphon.engine.heart.ledger import Ledger
from antiphon.engine.heart.system import System
from antiphon.engine.heart.window import LearningGroup
from antiphon.engine.policies.resting_heads import places_at_rest
from antiphon.engine.policies.windows_at_once import evaluated_at_once
from antiphon.engine.state.hyperparameters import read_members, values_of
from antiphon.nets.trained_parameters import TrainedParameters


def reasons_alone(system: System) -> dict[str, str]:
    """By agent, why some cannot be stacked; the others can."""
    fixed, evaluated = set(), set()
    for channel in system.channels.values():
        if channel.feedback.direct is not None or channel.feedback.weights is not None:
            fixed |= {system.group_by_agent[channel.sender], system.group_by_agent[channel.receiver]}
        if channel.needs_returned_loss:
            evaluated.add(system.group_by_agent[channel.receiver])

    tied = {group for group in system.groups if len(group.agent_count_by_learner) < len(group.agent_names)}
    weights = {name for places in system.tied_parameters for name, _ in places}
    traced_groups = {
        system.group_by_agent[agent.name]
        for agent in system.agents.values()
        if agent.connections.state_channel is not None and agent.connections.state_channel.has_lambda_returns
    }

    def reason(agent: Agent) -> str | None:
        group = system.group_by_agent[agent.name]
        if group in tied:
            return "it is tied to others"
        if agent.name in weights:
            return "a parameter of it is tied to others"
        if group.waits:
            return "it waits for delayed gradients"
        if agent.body.acts and (agent.goal is None or agent.goal.policy is None):
            return "it acts"
        if agent.inputs.align_channel_name is not None and aligned_kind(system, agent) is None:
            return "its signals depend on which message arrived (align)"
        if AGE in agent.inputs.observed.signal_names and agent.inputs.fan_in_kind in REDUCED:
            return "it observes the ages of messages that it sums"
        if group in fixed:
            return "feedback goes through fixed weights in its group"
        if len(group.agent_names) > 1 and group in evaluated:
            return "critics receive the loss of its group"
        if group in traced_groups and (agent.participation is not None or len(group.agent_names) > 1):
            return "returns span windows in which some agents may not learn"
        goals = () if agent.goal is None or agent.goal.policy is not None else agent.goal.terms
        for goal in (goal for goal in goals if goal.target_signal_name):
            signal = system.description.all_signals[goal.target_signal_name]
            outputs = range(agent.learner.network.port_shape(OBJECTIVE)[0])[goal.output_slice or slice(None)]
            mixed = goal.output_objective.stackable(len(outputs), signal.shape, signal.classes)
            if mixed is not None:
                return mixed
        if system.schedule.sweep and not agent.learner.network.pure:
            return "with training.sweep a module's graph is freed before the next module's forward"
        return agent.learner.network.stackable()

    reasons = {name: reason(agent) for name, agent in system.agents.items()}
    return {name: why for name, why in reasons.items() if why is not None}


def channels_alone(system: System) -> dict[str, str]:
    """By channel, why the predictors of some cannot be stacked; the others' can."""
    reasons: dict[str, str] = {}
    for name, channel in system.channels.items():
        for model, what in (
            (channel.synthetic_gradient.model, "gradient"),
            (channel.synthetic_input.model, "input"),
        ):
            reason = None if model is None else model.stackable()
            if reason is not None:
                reasons.setdefault(name, f"its synthetic {what}: {reason}")
    return reasons


def reason_apart(*bases: System) -> str | None:
    """Return why the systems of several seeds of a scenario cannot be stacked as one; None: they can.

    One of them shows most of it. Others of the same structure may still differ in what objects of the user's keep.
    """
    base, *others = bases
    if base.schedule.episode_windows is not None:
        return "the length of episodes differs between seeds"
    env = base.description
    if any(agent.inputs.align_channel_name is not None for agent in base.agents.values()) and not (
        env.endless or env.is_stream
    ):
        return "agents are aligned to messages, and episodes end at different steps in different seeds"
    if any(len(agent.learner.network.input_shape) > 1 for agent in base.agents.values()):
        return "convolutions of several seeds take longer together than one after the other"
    for name, why in (reasons_alone(base) | channels_alone(base)).items():
        return f"'{name}' runs unstacked: {why}"
    for name, agent in base.agents.items():
        if any(agent_kind(other, other.agents[name]) != agent_kind(base, agent) for other in others):
            return f"'{name}' is not the same function in all seeds"
    for name, channel in base.channels.items():
        if any(channel_kind(other, other.channels[name]) != channel_kind(base, channel) for other in others):
            return f"'{name}' is not the same function in all seeds"
    return None


def agent_kind(system: System, agent: Agent) -> Hashable:
    """Return what agents of one stack have in common, beside their hyperparameters and their place in a step's order."""
    group, learner, goal = system.group_by_agent[agent.name], agent.learner, agent.goal
    # How messages come about is their channel stacks' affair, of which a stack may read many: here it matters how they fit.
    read = [
        (channel.content.shape, channel.ledger.timetable.read_mode) for channel in agent.connections.incoming
    ]
    return (
        learner.network.signature(),
        agent.clock,
        group.grid,
        learner.frozen,
        _trained(learner),
        (
            agent.inputs.categories,
            agent.inputs.observed.map_layouts,
            agent.inputs.critic_observed.map_layouts,
        ),
        agent.inputs.observed.normalised_indices,
        agent.inputs.critic_observed.normalised_indices,
        _shapes(system, agent, agent.inputs.observed.signal_names),
        None
        if learner.critic is None
        else (learner.critic.signature(), _shapes(system, agent, agent.inputs.critic_observed.signal_names)),
        None if agent.inputs.align_channel_name is None else aligned_kind(system, agent),
        agent.inputs.fan_in_kind,
        frozenset(read) if agent.inputs.fan_in_kind in REDUCED else tuple(read),
        None if goal is None else _goal_kind(goal),
        bool(agent.body.acts),
        None
        if agent.connections.state_channel is None
        else channel_kind(system, agent.connections.state_channel),
        agent.state_steps(),
        evaluated_at_once(agent),
    )


def _shapes(system: System, agent: Agent, names: Sequence[str]) -> Hashable:
    """The shapes of what an agent observes, as it enters a network."""
    signals, categories = system.description.signals, agent.inputs.categories
    return tuple(name if name == AGE else signals[name].shape_as(categories) for name in names)


def _goal_kind(goal: Goal) -> Hashable:
    """Return what the objectives of one stack have in common; each member may have rewards of its own."""
    rewards = goal.rewards
    rewards_kind = (
        None
        if rewards is None
        else (
            tuple(name == COSINE for name in rewards.names),
            rewards.direction,
            rewards.life_reward_name is None,
        )
    )
    parts = tuple(_goal_kind(summand) for summand in goal.summands)
    return (
        goal.objective.key,
        goal.target_signal_name,
        goal.last_only,
        goal.mean_over_targets,
        rewards_kind,
        parts,
    )


def aligned_kind(system: System, agent: Agent, behind: tuple[str, ...] = ()) -> Hashable | None:
    """Return how far behind an aligned agent is: of equal ones all work on the signals of one step; None: unknown.

    `behind`: those that work on the signals of what it sends.
    """
    assert agent.inputs.align_channel_name is not None
    channel = system.channels[agent.inputs.align_channel_name]
    ledger, sender = channel.ledger, system.agents[channel.sender]
    if ledger.link.drop or ledger.holds_all or agent.name in behind:
        return None
    before: Hashable | None = ()
    if sender.inputs.align_channel_name is not None:
        before = aligned_kind(system, sender, (*behind, agent.name))
    place = [c.name for c in agent.connections.incoming].index(agent.inputs.align_channel_name)
    step_behind = (place, ledger.timetable.send_times, ledger.timetable.delay)
    return None if before is None else (step_behind, before)


def place_of(port: str, network: Network) -> int | str:
    """Return which of a network's heads a port is, or the name of one that has the same name in all networks."""
    if port in (HIDDEN, STATE, OBJECTIVE, VALUE, AUXILIARY_PORT):
        return port
    return list(network.heads).index(port)


def channel_kind(system: System, channel: Channel) -> Hashable:
    """Return what channels of one stack have in common, beside their hyperparameters and the stacks at their ends."""
    return (
        place_of(channel.content.port_name, system.agents[channel.sender].learner.network),
        _CHANNEL(channel),
        (
            tuple(channel.synthetic_gradient.context.endpoint_values),
            tuple(channel.synthetic_input.context.endpoint_values),
        ),
        None
        if channel.content.sampler is None
        else (type(channel.content.sampler), channel.content.sampler.key),
        channel.synthetic_gradient.state_settings.outliers is None,
        channel.synthetic_gradient.gate is None,
        _LEDGER(channel.ledger),
        channel.ledger.aligned,
        None
        if channel.synthetic_gradient.model is None
        else (_PREDICTOR(channel.synthetic_gradient.model), _model(channel.synthetic_gradient.model)),
        None if channel.synthetic_input.model is None else _model(channel.synthetic_input.model),
    )


_CHANNEL = attrgetter(
    *(
        "content.shape",
        "coupling",
        "synthetic_gradient.context.signal_specs",
        "synthetic_gradient.target_signal_name",
    ),
    *("synthetic_gradient.injection.scale.run_steps", "synthetic_gradient.injection.scale.schedule"),
    *(
        "synthetic_gradient.injection.trace",
        "synthetic_gradient.state_settings.return_windows",
        "synthetic_gradient.state_settings.return_lambda",
        "synthetic_gradient.state_settings.auxiliary",
    ),
    *(
        "synthetic_gradient.injection.apply",
        "synthetic_gradient.replayed",
        "synthetic_input.context.signal_specs",
    ),
)
_LEDGER = attrgetter(
    *(
        "timetable.send_times",
        "timetable.delay",
        "timetable.return_delay",
        "timetable.read_mode",
        "timetable.carries_state",
        "link.bits",
        "returns_gradients",
        "slack",
        "holds_all",
    ),
)
_PREDICTOR = attrgetter("shape", "context", "target", "normalise", "rescales")
"""Fields in which members of a stack are equal."""


def _numbers(bases: Sequence[System], part: Agent | Channel | None) -> Hashable:
    """The hyperparameters that an agent or channel has in each seed."""
    if part is None:
        return None
    parts_by_seed = (base.agents if isinstance(part, Agent) else base.channels for base in bases)
    return tuple(values_of(parts[part.name]) for parts in parts_by_seed)


def _trained(owner: TrainedParameters) -> Hashable:
    """What is not a hyperparameter of how something is trained."""
    settings = owner.optimiser.settings().items()
    settings_kept = tuple(setting for setting in settings if setting[0] not in ("lr", "clip", "weight_decay"))
    return owner.rate.run_steps, owner.rate.schedule, settings_kept, len(owner.optimiser.parameters)


def _model(model: Predictor | InputModel) -> Hashable:
    if model.stackable() is not None:
        return model
    shapes = tuple((name, tuple(p.shape)) for name, p in model.parameters.items())
    pool = getattr(model, "pool", None)
    kind = type(model), model.function, model.sites, model.hidden, model.norm, model.frozen, pool
    return kind, _trained(model), shapes


def stacks_of(system: System, *others: System) -> tuple[list[list[Agent]], dict[str, str]]:
    """The stacks of a system, in canonical order, and by agent why some are alone; `others`: of other seeds.

    An agent without a second of its kind is a stack with a leading axis all the same where many channels of one kind lead
    to it, which come as one stack.
    """
    bases, reasons = (system, *others), reasons_alone(system)
    waves = {name: i for i, wave in enumerate(system.schedule.waves) for call in wave for name in call}
    turns = turns_of_groups(system)
    resting, kinds = places_at_rest(system), dict[Hashable, list[Agent]]()
    for name, agent in system.agents.items():
        place = waves[name], turns.get(system.group_by_agent[name], 0)
        numbers = _numbers(bases, agent), _numbers(bases, agent.connections.state_channel)
        together = agent_kind(system, agent), place, numbers, resting.get(name, frozenset())
        kind: Hashable = name if name in reasons else together
        kinds.setdefault(kind, []).append(agent)
    for name in [members[0].name for members in kinds.values() if len(members) == len(bases) == 1]:
        if name in reasons:
            continue
        read = [
            (channel_kind(system, channel), _numbers(bases, channel))
            for channel in system.agents[name].connections.incoming
        ]
        if len(set(read)) == len(read):
            reasons[name] = "no other agent is like it"
    return list(kinds.values()), reasons


def channel_stacks_of(
    system: System, *others: System, stack_of: Mapping[str, Hashable], alone: Container[str]
) -> list[list[Channel]]:
    """The channels of each stack, in canonical order.

    Args:
        system: The agents and channels.
        *others: Those of other seeds.
        stack_of: By agent its stack.
        alone: Agents without a second.
    """
    kinds: dict[Hashable, list[Channel]] = {}
    for name, channel in system.channels.items():
        kind: Hashable = name
        if channel.receiver not in alone and not channel.coupling.waits:
            ends = stack_of[channel.sender], stack_of[channel.receiver]
            kind = *ends, channel_kind(system, channel), _numbers((system, *others), channel)
        kinds.setdefault(kind, []).append(channel)
    return list(kinds.values())


def stack(base: System, *others: System, part: System | None = None) -> System:
    """Make a system of stacks; where every agent stands alone, the system itself.

    Args:
        base: The single agents.
        *others: Those of other seeds, of the same structure and kinds (`reason_apart`).
        part: Some of them, with the channels that begin or end at them: only these are stacked, each with those of them
            that it would be stacked with in the whole, so that they compute the same bits; None: all of them.
    """
    seeds = 1 + len(others)
    stacks, alone = stacks_of(base, *others)
    whole_place = {agent.name: i for members in stacks for i, agent in enumerate(members)}
    whole_size = {agent.name: len(members) for members in stacks for agent in members}
    stack_of = {agent.name: members[0].name for members in stacks for agent in members}
    families = channel_stacks_of(base, *others, stack_of=stack_of, alone=alone)
    if part is not None:
        stacks = [here for members in stacks if (here := [a for a in members if a.name in part.agents])]
        base = part
    if alone.keys() >= base.agents.keys():
        return base
    bases = (base, *others)
    place: dict[str, tuple[str, int]] = {}
    agents: dict[str, Agent] = {}
    with Progress("stacking", len(base.agents) + len(base.channels)) as progress:
        for singles in stacks:
            members = [of_seed.agents[agent.name] for of_seed in bases for agent in singles]
            first = members[0].name
            name = f"{first} and {len(members) - 1} more" if len(members) > 1 else first
            agents[name] = (
                replace(members[0], connections=Connections(), members=(members[0],))
                if first in alone
                else _stack_agents(name, members, base, seeds)
            )
            place |= {agent.name: (name, i) for i, agent in enumerate(singles)}
            progress.advance(len(singles))
        channels = _Channels(bases, place, agents, families, whole_place, whole_size).stack(progress)
    groups = _groups(base, place)

    def stacked(call: tuple[str, ...]) -> tuple[str, ...]:
        names = tuple(dict.fromkeys(place[name][0] for name in call))
        return names if agents[names[0]].has_member_axis else call

    waves = [list(dict.fromkeys(map(stacked, wave))) for wave in base.schedule.waves]
    clocks = {name: agent.clock for name, agent in agents.items()}
    schedule = replace(base.schedule, clocks=clocks, waves=waves)
    divergence = (
        DivergenceRuleOfSeeds([of_seed.divergence_rule for of_seed in bases])
        if others
        else base.divergence_rule
    )
    return replace(
        base,
        agents=agents,
        channels=channels,
        groups=groups,
        schedule=schedule,
        divergence_rule=divergence,
        seed_count=seeds,
    )


def _index(places: list[int], count: int, device: torch.device) -> Tensor | None:
    """Places as an index tensor; None where it would be the identity."""
    return None if places == list(range(count)) else torch.tensor(places, device=device)


# --- agents ----------------------------------------------------------------------------------------------


def _stack_agents(name: str, members: Sequence[Agent], base: System, seeds: int) -> Agent:
    learner = Learner.stacked([agent.learner for agent in members])
    layout = Layout(len(members), seeds, base.batch, base.device, has_member_axis=True)
    first, participation = members[0], members[0].participation
    if participation is not None:
        drawn = tuple(
            sampled.random_seeds[0] for agent in members if (sampled := agent.participation) is not None
        )
        participation = replace(participation, random_seeds=drawn, layout=layout)
    stacked = replace(
        first,
        name=name,
        connections=Connections(),
        learner=learner,
        members=tuple(members),
        inputs=replace(
            first.inputs,
            observed=first.inputs.observed.stacked([agent.inputs.observed for agent in members]),
            critic_observed=first.inputs.critic_observed.stacked(
                [agent.inputs.critic_observed for agent in members]
            ),
        ),
        layout=layout,
        participation=participation,
        notes={},
    )
    read_members(stacked)
    return stacked


# --- channels --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Channels:
    """Stacks the channels of a system whose agents have been stacked into `agents`, and wires them.

    Attributes:
        bases: The single agents and channels of each seed; of a part, its own and those that begin or end at them.
        place: By agent: its stack, and its place there among those of its seed.
        agents: The stacks.
        families: The channels that are stacked where all agents are in one system, of one seed.
        whole_place: By agent: its place in its stack there, among those of its seed.
        whole_size: By agent: members of its stack there, of one seed.
    """

    bases: Sequence[System]
    place: Mapping[str, tuple[str, int]]
    agents: dict[str, Agent]
    families: Sequence[Sequence[Channel]]
    whole_place: Mapping[str, int]
    whole_size: Mapping[str, int]

    @property
    def base(self) -> System:
        """Of the first seed."""
        return self.bases[0]

    @cached_property
    def canonical(self) -> dict[str, int]:
        """By channel: its place among all that are here."""
        return {name: i for i, name in enumerate(self.base.channels)}

    def stack(self, progress: Progress) -> dict[str, Channel]:
        """Make the channel stacks and wire them."""
        stacks: dict[str, Channel] = {}
        whole: dict[str, int] = {}
        for i, family in enumerate(self.families):
            pieces = self._pieces(family)
            pieces_made = [self._channel(members, family) for members in pieces]
            self._join_senders(pieces_made)
            for channel in pieces_made:
                stacks[channel.name] = channel
                whole[channel.name] = i
                connect(channel, self.agents)
                progress.advance(len(channel.members) // len(self.bases))
        for agent in self.agents.values():
            if agent.has_member_axis:
                agent.inputs.fan_in = self._layout(agent, whole)
                if agent.inputs.align_channel_name is not None:
                    incoming, align = agent.connections.incoming, agent.inputs.align_channel_name
                    agent.inputs.align_channel_name = next(
                        stack.name
                        for stack in incoming
                        if any(member.name == align for member in stack.members)
                    )
        return stacks

    def _pieces(self, family: Sequence[Channel]) -> list[list[Channel]]:
        """The channels of a family that are here, in the family's order: those within, and those cut, by the other end."""
        ordered = sorted(family, key=lambda c: self.whole_place[c.sender])
        pieces: dict[Hashable, list[Channel]] = {}
        for channel in ordered:
            if channel.name in self.base.channels:
                end = channel.sender in self.place, self.base.remote_parts.get(channel.name)
                pieces.setdefault(end, []).append(channel)
        return list(pieces.values())

    def _join_senders(self, pieces: Sequence[Channel]) -> None:
        """Let the pieces of a family that are sent from here select their rows together."""
        sent = [piece for piece in pieces if piece.sender in self.agents]
        if len(sent) < 2:
            return
        members = sorted(
            (channel for piece in sent for channel in piece.members),
            key=self._order,
        )  # of one seed: those of several are never cut
        device, where = sent[0].content.zeros.device, {channel.name: i for i, channel in enumerate(members)}
        senders = [self.place[channel.sender][1] for channel in members]
        places = {
            piece.name: torch.tensor([where[name] for name in piece.member_names], device=device)
            for piece in sent
        }
        family = SenderRows(_index(senders, sent[0].endpoints.sender_count, device), places, self.base.batch)
        for piece in sent:
            piece.endpoints.sender_rows = family

    def _selects(self, family: Sequence[Channel]) -> bool:
        """Whether the messages of a whole family are rows selected of their senders' port, not the port itself.

        Autograd adds up what comes back to a port in another order where it is itself the message.
        """
        places = sorted(self.whole_place[channel.sender] for channel in family)
        return places != list(range(self.whole_size[family[0].sender]))

    def _channel(self, channels: Sequence[Channel], family: Sequence[Channel]) -> Channel:
        """The stack of some channels of a family, in each seed."""
        batch, stacked = self.base.batch, len(family) * len(self.bases) > 1
        members = [
            *channels,
            *(base.channels[channel.name] for base in self.bases[1:] for channel in channels),
        ]
        first = members[0]
        device = first.content.zeros.device
        settings: dict[str, Any] = {"members": tuple(members)}
        of_content: dict[str, Any] = {}
        endpoints: dict[str, Any] = {}
        of_gradient: dict[str, Any] = {}
        of_input: dict[str, Any] = {"examples": []}
        settings["layout"] = Layout(len(members), len(self.bases), batch, device, has_member_axis=stacked)
        if first.sender in self.place:
            sender = self.agents[self.place[first.sender][0]]
            places = self._places([self.place[c.sender][1] for c in channels], sender)
            settings["sender"] = sender.name
            endpoints["sender_count"] = len(sender.members)
            index = _index(places, len(sender.members), device)
            selects = index is None and self._selects(family)
            endpoints["sender_index"] = torch.tensor(places, device=device) if selects else index
            if sender.has_member_axis:  # its ports have the names of its first member's
                port = place_of(first.content.port_name, sender.members[places[0]].learner.network)
                of_content["port_name"] = (
                    port if isinstance(port, str) else list(sender.learner.network.heads)[port]
                )
        if first.receiver in self.place:
            receiver = self.agents[self.place[first.receiver][0]]
            places = self._places([self.place[c.receiver][1] for c in channels], receiver)
            settings["receiver"] = receiver.name
            endpoints["receiver_index"] = _index(places, len(receiver.members), device)
        name = f"{first.name} and {len(members) - 1} more" if len(members) > 1 else first.name
        settings["endpoints"] = Endpoints(**endpoints)
        settings["ledger"] = _ledger(name, [channel.ledger for channel in members])
        if stacked:
            settings["name"] = name
            zeros = first.content.zeros.new_zeros(())
            of_content["zeros"] = zeros.expand(len(members) * batch, first.content.size)
            if first.sender in self.place:  # elsewhere a predictor is computed there, and so for an input
                of_gradient["model"] = _stacked([c.synthetic_gradient.model for c in members])
            if first.receiver in self.place:
                of_input["model"] = _stacked([c.synthetic_input.model for c in members])
            if first.content.sampler is not None:
                samplers = [c.content.sampler for c in members if c.content.sampler is not None]
                of_content["sampler"] = first.content.sampler.stack(samplers)
            state_settings = first.synthetic_gradient.state_settings
            if state_settings.outliers is not None:
                states = (c.synthetic_gradient.state_settings for c in members)
                outliers = [state.outliers for state in states if state.outliers is not None]
                of_gradient["state_settings"] = replace(state_settings, outliers=Outliers(device, outliers))
            if first.synthetic_gradient.gate is not None:
                gates = [c.synthetic_gradient.gate for c in members if c.synthetic_gradient.gate is not None]
                of_gradient["gate"] = SkillGate(device, gates)
        settings["content"] = replace(first.content, **of_content)
        settings["synthetic_gradient"] = replace(first.synthetic_gradient, **of_gradient)
        settings["synthetic_input"] = replace(first.synthetic_input, **of_input)
        stack = replace(first, **settings)
        read_members(stack)
        return stack

    @staticmethod
    def _places(of_seed: Sequence[int], stack: Agent) -> list[int]:
        """Places in a stack in each seed, of places in one."""
        layout = stack.layout
        return [
            seed * layout.members_per_seed + place for seed in range(layout.seed_count) for place in of_seed
        ]

    def _layout(self, agent: Agent, whole: Mapping[str, int]) -> StackFanIn:
        device, count = self.base.device, len(agent.members)
        if agent.inputs.fan_in_kind in REDUCED:
            families = groupby(
                range(len(agent.connections.incoming)), lambda i: whole[agent.connections.incoming[i].name]
            )
            reduced = [self._reduced(agent, tuple(places)) for _, places in families]
            return StackFanIn(agent.inputs.fan_in_kind, count, self.base.batch, reduced)
        where = {
            name: (b, k)
            for b, stack in enumerate(agent.connections.incoming)
            for k, name in enumerate(stack.member_names)
        }
        shapes = [
            (c.content.shape, c.ledger.timetable.read_mode) for c in agent.members[0].connections.incoming
        ]
        segments: list[Segment] = []
        first = 0
        for _, equal in groupby(shapes):
            last = first + len(list(equal))
            names = (
                (n, c.name)
                for n, member in enumerate(agent.members)
                for c in member.connections.incoming[first:last]
            )
            read = [
                where[name_in_seed(name, agent.layout.seed_of(n), agent.layout.seed_count)]
                for n, name in names
            ]
            used = sorted({b for b, _ in read})
            *starts, total = accumulate((len(agent.connections.incoming[b].members) for b in used), initial=0)
            start = dict(zip(used, starts, strict=True))
            places = [start[b] + k for b, k in read]
            segments.append(Segment(tuple(used), _index(places, total, device), total, last - first))
            first = last
        return StackFanIn(agent.inputs.fan_in_kind, count, self.base.batch, segments)

    def _reduced(self, agent: Agent, pieces: tuple[int, ...]) -> Segment:
        """What a stack adds up of a family of channels, in the family's order."""
        members, places = list[tuple[int, Channel]](), list[int]()
        for channels in (agent.connections.incoming[i] for i in pieces):
            layout = channels.layout
            members += [(layout.seed_of(n), channel) for n, channel in enumerate(channels.members)]
            first = channels.members[: layout.members_per_seed]
            places += self._places([self.place[channel.receiver][1] for channel in first], agent)
        order = sorted(range(len(members)), key=lambda i: (members[i][0], self._order(members[i][1])))
        receivers, device = [places[i] for i in order], self.base.device
        index = _index(order, len(members), device)
        return Segment(pieces, index, len(members), receivers=torch.tensor(receivers, device=device))

    def _order(self, channel: Channel) -> tuple[int, int]:
        """The place of a channel in its family, among those of its seed."""
        return self.whole_place[channel.sender], self.canonical[channel.name]


def _ledger(name: str, members: Sequence[Ledger]) -> Ledger:
    link = members[0].link
    if len(members) > 1:
        link = replace(link, members=tuple(ledger.link for ledger in members))
    return replace(members[0].emptied(), name=name, link=link)


def _stacked(models: Sequence[Model | None]) -> Model | None:
    present = [model for model in models if model is not None]
    return Model.stacked(present) if present else None


# --- learning groups -------------------------------------------------------------------------------------


def _groups(base: System, place: dict[str, tuple[str, int]]) -> list[LearningGroup]:
    """The learning groups of the stacks: groups that share a stack are one, whose members' gradients do not mix."""
    parts: dict[str, int] = {}
    for number, group in enumerate(base.groups):
        names = dict.fromkeys(place[name][0] for name in group.agent_names)
        if joined := {parts[name] for name in names if name in parts}:
            parts = {name: number if part in joined else part for name, part in parts.items()}
        parts.update(dict.fromkeys(names, number))
    groups: dict[int, LearningGroup] = {}
    members: dict[int, dict[str, None]] = {}
    for group in base.groups:
        part = parts[place[group.agent_names[0]][0]]
        members.setdefault(part, {}).update(dict.fromkeys(place[name][0] for name in group.agent_names))
        groups.setdefault(part, group)
    return [
        LearningGroup(tuple(members[part]), group.grid, horizons=group.horizons)
        for part, group in groups.items()
    ]
