"""Alignment of agents in parts that do not wait: which signals travel with messages, and who lacks it."""

from __future__ import annotations

from collections.abc import Iterable

from antiphon.engine.core.agent import AGE, Agent
from antiphon.engine.core.channel import Channel
from antiphon.engine.core.system import System

__all__ = ["travelling_signals"]


def travelling_signals(whole: System, cut: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Return by cut channel the names of the signals that travel with its messages: where the receiver is aligned to it,
    what this agent needs of them, and those that are aligned to it in turn; where the sender is aligned to another one, what
    a synthetic input is conditioned on.

    Args:
        whole: All agents and channels.
        cut: Names of channels.
    """
    needed: dict[str, set[str]] = {}

    def needs(agent: Agent) -> set[str]:
        if agent.name in needed:
            return needed[agent.name]
        own = needed[agent.name] = {name for name in (*agent.observes, *agent.critic) if name != AGE}
        if agent.goal is not None:
            own.update(agent.goal.signals)
        for channel in agent.outgoing:
            own.update(_conditions(channel))
            receiver = whole.agents[channel.receiver]
            if receiver.align == channel.name:
                own.update(needs(receiver))
        return own

    found = {}
    for name in cut:
        channel = whole.channels[name]
        sender, receiver = whole.agents[channel.sender], whole.agents[channel.receiver]
        wanted = {spec.name for spec in channel.input_context}
        if receiver.align == name:
            wanted |= needs(receiver)
        elif sender.align is None:
            continue  # the receiver has the signals of the steps at which it is sent to
        if wanted:
            found[name] = tuple(sorted(wanted))
    return found


def _conditions(channel: Channel) -> set[str]:
    """The names of the signals that a channel's predictors are conditioned on, or predict."""
    names = {spec.name for spec in channel.input_context}
    if channel.predictor is not None:
        names.update(spec.name for spec in channel.context)
        if channel.target is not None:
            names.add(channel.target)
    return names
