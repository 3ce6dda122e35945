"""Alignment of agents in parts that do not wait: which signals travel with messages, and who lacks it."""

from __future__ import annotations

from collections.abc import Iterable

from antiphon.engine.heart.agent import AGE, Agent
from antiphon.engine.heart.system import System

__all__ = ["travelling_signals"]


def travelling_signals(whole: System, cut: Iterable[str], free: bool) -> dict[str, tuple[str, ...]]:
    """Return by cut channel the names of the signals that travel with its messages, for the receiver has not got them.

    In lockstep these are all of an aligned sender, which are not those of the step at which it sends. In parts that do not wait,
    where the receiver is aligned to the channel, what this agent needs of them, and those that are aligned to it in turn; where
    the sender is aligned to another one, what a synthetic input is conditioned on.

    Args:
        whole: All agents and channels.
        cut: Names of channels.
        free: Whether parts do not wait.
    """
    if not free:
        names = tuple(sorted(whole.signals()))
        return {name: names for name in cut if whole.agents[whole.channels[name].sender].align is not None}
    import networkx as nx

    channels = whole.channels.values()
    aligned = [(c.sender, c.receiver) for c in channels if whole.agents[c.receiver].align == c.name]
    readers: nx.DiGraph[str] = nx.DiGraph(aligned)
    found = {}
    for name in cut:
        channel = whole.channels[name]
        sender, receiver = whole.agents[channel.sender], whole.agents[channel.receiver]
        wanted = {spec.name for spec in channel.input.context}
        if receiver.align == name:
            for reader in (receiver.name, *nx.descendants(readers, receiver.name)):
                wanted |= _needs(whole.agents[reader])
        elif sender.align is None:
            continue  # the receiver has the signals of the steps at which it is sent to
        if wanted:
            found[name] = tuple(sorted(wanted))
    return found


def _needs(agent: Agent) -> set[str]:
    """The names of the signals that an agent itself reads, learns from, or has its predictors conditioned on."""
    own = {name for name in (*agent.inputs.observes, *agent.inputs.critic) if name != AGE}
    if agent.goal is not None:
        own.update(agent.goal.signals)
    for channel in agent.outgoing:
        own.update(spec.name for spec in channel.input.context)
        if channel.gradient.predictor is not None:
            own.update(spec.name for spec in channel.gradient.context)
            if channel.gradient.target is not None:
                own.add(channel.gradient.target)
    return own
