"""The system of one part: its agents, the halves of the channels that are cut, and the signals that travel over these."""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy
from dataclasses import replace
from math import ceil
from typing import TypeVar

from antiphon.comms.model import Model
from antiphon.distributed.parts.placement import Placement
from antiphon.engine.environment import signals_of, signals_read
from antiphon.engine.heart.system import System
from antiphon.nets.user_modules import deepcopy_memo

Copied = TypeVar("Copied")


def halved(system: System, placement: Placement) -> System:
    """Give both ends of every cut channel a half of their own, so that parts that share the system share no message.

    Args:
        system: All agents, as built and unstacked; it is changed.
    """
    for channel in system.channels.values():
        if placement[channel.sender] != placement[channel.receiver]:
            half = replace(
                channel,
                ledger=replace(channel.ledger),
                synthetic_gradient=replace(
                    channel.synthetic_gradient, model=_copied(channel.synthetic_gradient.model)
                ),
                synthetic_input=replace(channel.synthetic_input, examples=[]),
                members=(),
            )
            channel.synthetic_input.model = _copied(channel.synthetic_input.model)  # each learns at one end
            incoming = system.agents[channel.receiver].connections.incoming
            incoming[incoming.index(channel)] = half
    return system


def _copied(model: Copied) -> Copied:
    """A copy of a predictor with the hooks of a user's module."""
    if not isinstance(model, Model) or model.layers is None:
        return deepcopy(model)
    return deepcopy(model, deepcopy_memo([model.layers.module], parameters=model.parameters.values()))


def part_of(system: System, placement: Placement, index: int) -> System:
    """Return the agents of one part, as a system that shares them with the whole one."""
    agent_names = {name for name in system.agents if placement[name] == index}
    agents = {name: agent for name, agent in system.agents.items() if name in agent_names}
    ends = [
        channel
        for agent in agents.values()
        for channel in (*agent.connections.outgoing, *agent.connections.incoming)
    ]
    ends_by_name = {channel.name: channel for channel in ends}
    channels = {
        name: ends_by_name.get(name, channel)
        for name, channel in system.channels.items()
        if channel.sender in agent_names or channel.receiver in agent_names
    }
    remote_parts = {
        name: placement[channel.receiver if channel.sender in agent_names else channel.sender]
        for name, channel in channels.items()
        if not (channel.sender in agent_names and channel.receiver in agent_names)
    }
    waves = [[call for call in wave if call[0] in agent_names] for wave in system.schedule.waves]
    return replace(
        system,
        agents=agents,
        channels=channels,
        groups=[group for group in system.groups if group.agent_names[0] in agent_names],
        schedule=replace(
            system.schedule, clocks={name: agent.clock for name, agent in agents.items()}, waves=waves
        ),
        remote_parts=remote_parts,
    )


# --- alignment: who lacks which signals -----------------------------------------------------------------------


def travelling_signals(system: System, cut: Iterable[str], free: bool) -> dict[str, tuple[str, ...]]:
    """Return by cut channel the names of the signals that travel with its messages where the receiver has not got them.

    In lockstep these are all of an aligned sender, which are not those of the step at which it sends. Most are those of an earlier
    step, which the receiver remembers (`steps_remembered`); those of several steps travel, where messages are lost, and those of steps
    before the run was divided or resumed. In parts that do not wait,
    where the receiver is aligned to the channel, what this agent needs of them, and those that are aligned to it in turn; where
    the sender is aligned to another one, what a synthetic input is conditioned on.
    """
    if not free:
        names = tuple(sorted(signals_read(system)))
        return {
            name: names
            for name in cut
            if system.agents[system.channels[name].sender].inputs.align_channel_name is not None
        }
    import networkx as nx

    channels = system.channels.values()
    aligned = [
        (c.sender, c.receiver)
        for c in channels
        if system.agents[c.receiver].inputs.align_channel_name == c.name
    ]
    readers: nx.DiGraph[str] = nx.DiGraph(aligned)
    signals_by_channel = {}
    for name in cut:
        channel = system.channels[name]
        sender, receiver = system.agents[channel.sender], system.agents[channel.receiver]
        needed = {spec.name for spec in channel.synthetic_input.context.signal_specs}
        if receiver.inputs.align_channel_name == name:
            for reader in (receiver.name, *nx.descendants(readers, receiver.name)):
                needed |= signals_of(system.agents[reader])
        elif sender.inputs.align_channel_name is None:
            continue  # the receiver has the signals of the steps at which it is sent to
        if needed:
            signals_by_channel[name] = tuple(sorted(needed))
    return signals_by_channel


def steps_remembered(system: System, travelling: Iterable[str]) -> int:
    """Return the steps whose signals a part in lockstep remembers, those that messages over its cut may have been made from."""
    channels = [system.channels[name] for name in travelling]
    ages = (_oldest_example(system, c.sender) + c.ledger.timetable.delay for c in channels)
    return max(ages, default=-1) + 1


def _oldest_example(system: System, agent: str) -> int:
    """The most steps by which what an aligned agent works on is behind its step; agents aligned in a circle work on nothing."""
    steps, seen = 0, set[str]()
    while (
        aligned_to := system.agents[agent].inputs.align_channel_name
    ) is not None and aligned_to not in seen:
        seen.add(aligned_to)
        channel = system.channels[aligned_to]
        steps += channel.ledger.timetable.delay + ceil(channel.ledger.timetable.sender_clock.tick_period)
        agent = channel.sender
    return steps
