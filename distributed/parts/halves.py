"""The system of one part: its agents, the halves of the channels that are cut, and the signals that travel over these."""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy
from dataclasses import replace

from antiphon.distributed.parts.placement import Placement
from antiphon.engine.environment import signals_of
from antiphon.engine.heart.ends import Wire
from antiphon.engine.heart.system import System


def halved(system: System, placement: Placement) -> System:
    """Give both ends of every cut channel a half of their own, so that parts that share the system share no message.

    Predictors of gradients learn at the sender's half, which the system's channels are; those of messages at the receiver's. The
    system, as built and unstacked, is changed.
    """
    for channel in system.channels.values():
        if placement[channel.sender] != placement[channel.receiver]:
            half = replace(
                channel,
                wire=Wire.of(channel.wire),
                synthetic_gradient=replace(
                    channel.synthetic_gradient, model=deepcopy(channel.synthetic_gradient.model)
                ),
                synthetic_input=replace(channel.synthetic_input, examples=[]),
                members=(),
            )
            incoming = system.agents[channel.receiver].connections.incoming
            incoming[incoming.index(channel)] = half
    return system


def part_of(system: System, placement: Placement, index: int) -> System:
    """Return the agents of one part, as a system that shares them with the whole one."""
    agents = {name: agent for name, agent in system.agents.items() if placement[name] == index}
    halves = {
        channel.name: channel
        for agent in agents.values()
        for channel in (*agent.connections.outgoing, *agent.connections.incoming)
    }
    channels = {
        name: halves.get(name, channel)
        for name, channel in system.channels.items()
        if agents.keys() & {channel.sender, channel.receiver}
    }
    remote_parts = {
        name: placement[channel.receiver if channel.sender in agents else channel.sender]
        for name, channel in channels.items()
        if placement[channel.sender] != placement[channel.receiver]
    }
    waves = [[call for call in wave if call[0] in agents] for wave in system.schedule.waves]
    return replace(
        system,
        agents=agents,
        channels=channels,
        groups=[group for group in system.groups if group.agent_names[0] in agents],
        schedule=replace(
            system.schedule, clocks={name: agent.clock for name, agent in agents.items()}, waves=waves
        ),
        remote_parts=remote_parts,
    )


def travelling_signals(system: System, cut: Iterable[str], *, free: bool) -> dict[str, tuple[str, ...]]:
    """Return by cut channel the names of the signals that travel with its messages: what aligned agents need of an example.

    An aligned sender works on an example of an earlier step. In parts that do not wait any sender may be at another step.
    """
    aligned = [agent for agent in system.agents.values() if agent.inputs.align_channel_name is not None]
    needed = set[str]().union(*map(signals_of, aligned))
    signals = {}
    for channel in map(system.channels.__getitem__, cut):
        sender, receiver = system.agents[channel.sender], system.agents[channel.receiver]
        reads_in_turn = receiver.inputs.align_channel_name == channel.name
        if sender.inputs.align_channel_name is not None or (free and reads_in_turn):
            conditions = {spec.name for spec in channel.synthetic_input.context.signal_specs}
            signals[channel.name] = tuple(sorted(needed | conditions))
    return signals
