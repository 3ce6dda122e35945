"""Paths: from which step on an agent's output rests on everything that can reach it; the clocks alone say it."""

from __future__ import annotations

from collections.abc import Sequence

from antiphon.engine.core.channel import Channel
from antiphon.engine.core.system import System
from antiphon.scenarios.relations import components

__all__ = ["filled", "steps_needed"]


def filled(system: System) -> dict[str, int]:
    """Return, by agent, the step of its first tick with every path to it filled.

    A path through a cycle never fills; there it is enough that all on the cycle have heard of each other.
    """
    part = components(system.agents, [(c.sender, c.receiver) for c in system.channels.values()])
    cycle = {name: {other for other in part if part[other] == part[name]} for name in part}
    heard: dict[tuple[str, int], set[str]] = {}
    """Whom an agent's tick has heard of, of those it is on a cycle with, each with all paths to it filled."""
    found: dict[str, int] = {}
    step = 0
    while len(found) < len(system.agents):
        for name in (name for call in system.schedule.calls(step) for name in call):
            full, others = True, set[str]()
            for channel in system.agents[name].inputs:
                stamps = channel.mailbox.due(step)
                if channel.sender in cycle[name]:
                    others |= heard[channel.sender, stamps[-1]] if stamps else set()
                else:
                    full &= _all_there(channel, stamps, step)
                    full &= all(heard[channel.sender, stamp] == cycle[channel.sender] for stamp in stamps)
            heard[name, step] = others | {name} if full else others
            if heard[name, step] == cycle[name]:
                found.setdefault(name, step)
        step += 1
    return found


def _all_there(channel: Channel, stamps: Sequence[int], step: int) -> bool:
    """Whether a tick reads as many messages as it ever will: those before step 0 are missing."""
    ledger = channel.ledger
    if not stamps:
        return False
    since = step - ledger.receiver.period - ledger.link.delay
    return ledger.read == "last" or stamps[0] - ledger.sender.clock.period <= since


def steps_needed(system: System) -> int:
    """Return for how many steps an example must be shown: `hold`, or until every path has filled.

    An example that is an episode is shown for as long as it lasts, or until every agent has ticked.
    """
    if system.description.is_stream and system.description.episode_steps is not None:
        return max(system.hold, *(agent.clock.phase + 1 for agent in system.agents.values()))
    return max(system.hold, *(step + 1 for step in filled(system).values()))
