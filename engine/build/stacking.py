"""Stacking: the system of single agents that a scenario declares, as one of stacks.

Agents of one kind become a stack, and channels of one kind between two stacks (stack_members.py). What has no second of its kind, or
cannot be stacked, is a stack of one. Several seeds of a scenario are one system: a stack has the agents of each seed, seed after seed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from antiphon.agents.learner import Learner
from antiphon.base.tools import by_key
from antiphon.engine.build.channel_stacking import ChannelStacking, Position
from antiphon.engine.build.stack_members import channel_stacks_of, stacks_of
from antiphon.engine.heart.agent import Agent, Connections, Kept
from antiphon.engine.heart.clock import TickSchedule
from antiphon.engine.heart.layout import Layout
from antiphon.engine.heart.system import System
from antiphon.engine.heart.window import LearningGroup, Window
from antiphon.engine.state.changes import read_members


def stack(base: System, *other_seeds: System, part: System | None = None) -> System:
    """Make a system of stacks; where every agent stands alone, the system itself.

    Args:
        *other_seeds: The systems of other seeds, of the same structure and kinds (`reason_apart`).
        part: Some of them, with the channels that begin or end at them: only these are stacked, each with those of them
            that it would be stacked with in the whole, so that they compute the same bits; None: all of them.
    """
    bases = (base, *other_seeds)
    stacks, alone = stacks_of(*bases)
    whole_index = {agent.name: i for members in stacks for i, agent in enumerate(members)}
    whole_size = {agent.name: len(members) for members in stacks for agent in members}
    stack_of = {agent.name: members[0].name for members in stacks for agent in members}
    families = channel_stacks_of(*bases, stack_of=stack_of, alone=alone)
    if part is not None:
        stacks_of_part = [[agent for agent in members if agent.name in part.agents] for members in stacks]
        stacks = [members for members in stacks_of_part if members]
        base = part
    if alone.keys() >= base.agents.keys():
        return base
    bases = (base, *other_seeds)
    positions: dict[str, Position] = {}
    agents: dict[str, Agent] = {}
    for singles in stacks:
        members = [of_seed.agents[agent.name] for of_seed in bases for agent in singles]
        first = members[0].name
        name = f"{first} and {len(members) - 1} more" if len(members) > 1 else first
        agents[name] = (
            replace(members[0], connections=Connections(), members=(members[0],))
            if first in alone
            else _stack_agents(name, members, base, len(bases))
        )
        positions |= {agent.name: Position(name, i) for i, agent in enumerate(singles)}
    channels = ChannelStacking(bases, positions, agents, families, whole_index, whole_size).stack()
    return replace(
        base,
        agents=agents,
        channels=channels,
        groups=_groups(base, positions),
        schedule=_schedule(base, agents, positions),
        seed_count=len(bases),
        events=[] if other_seeds else base.events,
        stopped_seeds={},
    )


def _schedule(base: System, agents: Mapping[str, Agent], positions: Mapping[str, Position]) -> TickSchedule:
    """The waves of stacks: agents of one stack are one call, and so are agents that the single schedule calls together."""

    def stacked(call: tuple[str, ...]) -> tuple[str, ...]:
        names = tuple(dict.fromkeys(positions[name].stack_name for name in call))
        return names if agents[names[0]].layout.has_member_axis else call

    waves = [list(dict.fromkeys(map(stacked, wave))) for wave in base.schedule.waves]
    clocks = {name: agent.clock for name, agent in agents.items()}
    return replace(base.schedule, clocks=clocks, waves=waves)


def _stack_agents(name: str, members: Sequence[Agent], base: System, seeds: int) -> Agent:
    learner = Learner.stacked([agent.learner for agent in members])
    layout = Layout(len(members), seeds, base.batch, base.device, has_member_axis=True)
    first, participation = members[0], members[0].participation
    if participation is not None:
        random_seeds = tuple(
            agent.participation.random_seeds[0] for agent in members if agent.participation is not None
        )
        participation = replace(participation, random_seeds=random_seeds)
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
        kept=Kept(),
    )
    if seeds > 1:
        read_members(stacked)
    return stacked


def _groups(base: System, positions: Mapping[str, Position]) -> list[LearningGroup]:
    """The learning groups of the stacks: groups that share a stack are one, whose members' gradients do not mix."""
    import networkx as nx

    stack_names = [[positions[name].stack_name for name in group.agent_names] for group in base.groups]
    sets: nx.utils.UnionFind[str] = nx.utils.UnionFind()
    for names in stack_names:
        sets.union(*names)
    return [
        replace(
            base.groups[numbers[0]],
            agent_names=tuple(dict.fromkeys(name for number in numbers for name in stack_names[number])),
            agent_count_by_learner={},
            window=Window(),
            waiting=[],
        )
        for numbers in by_key((sets[names[0]], number) for number, names in enumerate(stack_names)).values()
    ]
