"""Agents of one kind as single agents and as stacks."""

from __future__ import annotations

from antiphon.engine.heart.channel import Channel
from antiphon.engine.stacked import Stacked


def channel_stacks(found: Stacked) -> list[Channel]:
    """The channels between which and their stacks of agents rows are selected: all but those of lone agents."""
    agents, channels = found.system.agents, found.system.channels.values()
    return [c for c in channels if agents[c.sender].has_member_axis or agents[c.receiver].has_member_axis]
