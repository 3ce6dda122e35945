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
    """When one agent ticks, when it learns, and how far back its learning reaches."""

    name: str
    period: int
    """Steps between its ticks."""
    recurrent: bool
    """Whether it hands a state to its next tick."""
    group: tuple[str, ...]
    """Those that learn as one network with it, itself among them."""
    ticks: Flags
    """Whether it ticks."""
    ends: Flags
    """Whether its window ends: it learns."""
    since: Steps
    """The earliest step that the true gradient of what it does at this tick reaches; -1 where it does not tick."""
    state_credit: Flags
    """Whether a synthetic gradient of a state stands for what lies before that."""
    message_credit: Flags
    """Whether synthetic gradients of messages (or feedback weights) stand for what lies with their senders."""
    late_credit: Flags
    """Whether the true gradient reaches senders later, over delayed channels."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ChannelTimes:
    """Which messages of one channel are read when, and when its sender hears of it; on a link that loses nothing."""

    name: str
    sender: str
    receiver: str
    coupling: str
    state: bool
    """Whether it carries an agent's state to its own next tick."""
    sent: Flags
    """Whether a message is sent."""
    stamps: tuple[Stamps, ...]
    """Per step: the messages that the receiver's tick reads; empty where it does not tick or nothing has come."""
    due: Flags
    """Whether the receiver ticks."""
    unread: Flags
    """Whether the message sent at this step is never read: replaced, or its episode ends before."""
    cut: Flags
    """Whether what is read lies before the present window and nothing carries credit back over its border."""
    back: Steps
    """The step at which the true gradient of the message sent at this step is back with its sender; -1: never.
    Where the receiver learns late itself, at the earliest."""
    taught: Steps
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
