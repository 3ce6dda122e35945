"""Heads at rest in further passes: no loss of these passes depends on them (semantics 42).

Of an agent that acts and sends, such are the heads of its messages, unless these cross a locked channel or are actions of its
policy. Zeros as their gradient would be a step all the same: an optimiser's momentum, kept up for a dozen passes, moves a message
by far more than its own gradient, and its estimate of the size of gradients decays meanwhile.
"""

from __future__ import annotations

from antiphon.agents.network import OBJECTIVE, VALUE
from antiphon.engine.heart.agent import Agent
from antiphon.engine.heart.system import System
from antiphon.engine.heart.window import LearningGroup


def passes_of(agent: Agent) -> int:
    """Return the passes of an agent's policy over a window; 0: it has no policy."""
    return 0 if agent.policy is None else agent.policy.epochs


def places_at_rest(system: System) -> dict[str, frozenset[int]]:
    """Return the places of heads at rest among an agent's parameters, by agent that losses of further passes reach."""
    used = {name: heads for group in system.groups for name, heads in _used_heads(system, group).items()}
    by_learner: dict[str, set[str]] = {}
    for name, heads in used.items():  # tied agents have one set of heads
        by_learner.setdefault(system.learner_name_by_agent[name], set()).update(heads)
    learners = {name: system.agents[name].learner for name in used}
    return {
        name: learner.places_of(learner.network.heads.keys() - by_learner[system.learner_name_by_agent[name]])
        for name, learner in learners.items()
    }


def _used_heads(system: System, group: LearningGroup) -> dict[str, set[str]]:
    """The ports that the losses of a group's further passes depend on, by agent that they reach."""
    members = [system.agents[name] for name in group.agent_names]
    used = {agent.name: {OBJECTIVE, VALUE} for agent in members if passes_of(agent) > 1}
    if not used:
        return used
    channels = [channel for agent in members for channel in agent.connections.outgoing]
    for channel in channels:
        sampler = channel.content.sampler
        if channel.sender in used and sampler is not None and sampler.learned:
            used[channel.sender].add(channel.content.port_name)
    joining = [channel for channel in channels if channel.coupling.joins_endpoints]
    for _ in members:  # a signal crosses as many channels, at most
        for channel in joining:
            if channel.receiver in used:
                used.setdefault(channel.sender, set()).add(channel.content.port_name)
    return used
