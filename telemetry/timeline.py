"""The timeline of a scenario as plain data: ticks, windows, messages and credit, step by step."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Flags = NDArray[np.bool_]
    """[steps]"""
    Steps = NDArray[np.int64]
    """[steps]"""

__all__ = ["AgentTimes", "ChannelTimes", "Timeline"]

Stamps = tuple[int, ...]
"""Steps at which messages were sent, oldest first."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class AgentTimes:
    """Timeline of one agent: ticks, updates and reach of the gradient."""

    name: str
    period: int
    """Steps between its ticks."""
    recurrent: bool
    """Whether the agent carries a state to its next tick."""
    group: tuple[str, ...]
    """Its locked group, itself included."""
    ticks: Flags
    """Whether the agent ticks."""
    ends: Flags
    """Whether its window ends, with an update."""
    since: Steps
    """The earliest step that the true gradient of this tick reaches; -1 without a tick."""
    state_credit: Flags
    """Whether the synthetic gradient of a state replaces the true gradient before that step."""
    message_credit: Flags
    """Whether synthetic gradients of messages (or feedback weights) replace the true gradient in their senders."""
    late_credit: Flags
    """Whether the true gradient reaches senders later, over delayed channels."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ChannelTimes:
    """Timeline of one channel: reads of messages and return of their gradients; on a link without losses."""

    name: str
    sender: str
    receiver: str
    coupling: str
    state: bool
    """Whether the channel carries an agent's state to its own next tick."""
    sent: Flags
    """Whether a message is sent."""
    stamps: tuple[Stamps, ...]
    """Per step: the messages that the receiver's tick reads; empty without a tick or without a message."""
    due: Flags
    """Whether the receiver ticks."""
    unread: Flags
    """Whether the message sent at this step is never read: replaced, or its episode ends before."""
    cut: Flags
    """Whether the message read was sent before the present window and no credit crosses its border."""
    back: Steps
    """The step at which the true gradient of the message sent at this step is back with its sender; -1: never.
    Where the receiver learns late itself, at the earliest."""
    trained: Steps
    """The step at which the sender is trained on the message sent at this step; -1: never."""

    ages: Steps
    """Steps since the newest of the messages read was sent; -1 where there is none."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Timeline:
    """Timeline: events of agents and channels from the step `start` on."""

    start: int
    steps: int
    agents: tuple[AgentTimes, ...]
    channels: tuple[ChannelTimes, ...]
    episode_ends: Flags
    """Whether episodes end. Where their lengths vary, all are taken to be as long as the present one."""

    def plain(self) -> dict[str, Any]:
        """Return the timeline as nested dicts and lists, for JSON."""
        return {
            "start": self.start,
            "steps": self.steps,
            "episode_ends": self.episode_ends.tolist(),
            "agents": {agent.name: _plain(agent) for agent in self.agents},
            "channels": {channel.name: _plain(channel) for channel in self.channels},
        }


def _plain(times: AgentTimes | ChannelTimes) -> dict[str, Any]:
    values = {field.name: getattr(times, field.name) for field in fields(times) if field.name != "name"}
    return {name: value.tolist() if hasattr(value, "tolist") else value for name, value in values.items()}
