"""Sampled messages that a policy learns: symbols by `reinforce` and Gaussian messages, as actions beside the agent's own.

Their log-probabilities and entropies add to those of the action. Channels of one port carry one message, which counts once.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import torch
from torch import Tensor

from antiphon.comms.symbols import SentMessages
from antiphon.engine.core.agent import Agent
from antiphon.engine.core.channel import Channel
from antiphon.engine.core.records import AgentTick

__all__ = ["learned_messages", "learned_ports"]


def learned_ports(agent: Agent) -> tuple[str, ...]:
    """Return the ports of an agent from which it sends messages that its policy learns."""
    return tuple(dict.fromkeys(c.port for c in agent.outgoing if c.sampler is not None and c.sampler.learned))


def learned_messages(agent: Agent, parts: Sequence[AgentTick]) -> list[SentMessages]:
    """Return the messages that an agent's policy learns from a window, port by port.

    Args:
        agent: The sender, or a stack of such.
        parts: Its ticks, in order.
    """
    groups: dict[tuple[str, type, Hashable], list[Channel]] = {}
    for channel in agent.outgoing:
        sampler = channel.sampler
        if sampler is not None and sampler.learned:
            groups.setdefault((channel.port, type(sampler), sampler.key), []).append(channel)
    found = []
    for (port, _, _), channels in groups.items():
        each = [_of_tick(agent, part, channels) for part in parts]
        assert channels[0].sampler is not None
        sent, valid = (torch.stack(own) for own in zip(*each, strict=True))
        found.append(SentMessages(port, channels[0].sampler, sent, valid))
    return found


def _of_tick(agent: Agent, part: AgentTick, channels: Sequence[Channel]) -> tuple[Tensor, Tensor]:
    """What one tick sent from one port by the sender's rows, [rows, size], and where, [rows]."""
    zeros, members = channels[0].zeros, len(agent.members)
    sent = zeros.new_zeros(members, agent.batch, channels[0].size)
    valid = torch.zeros(members, agent.batch, dtype=torch.bool, device=zeros.device)
    for channel in channels:
        message = part.sampled.get(channel.name)
        if message is not None:
            senders = slice(None) if channel.sender_index is None else channel.sender_index
            sent[senders] = message.view(-1, agent.batch, channel.size)
            valid[senders] = True
    return sent.flatten(0, 1), valid.flatten()
