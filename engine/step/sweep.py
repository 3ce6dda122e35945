"""Sweep order: a learning group is differentiated as soon as it has ticked, so that its graph is gone before the next one's.

Otherwise all windows that end at a step are differentiated together, after all agents have ticked, and all their graphs
exist at once. The numbers are the same: parameters move at the end of the step in either order (semantics 7), and what a
window returns is booked there. It takes a learning signal that is complete at the tick (`obstacle`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from antiphon.engine.core.channel import Channel
from antiphon.engine.core.clock import Call
from antiphon.engine.core.records import LearningGroup
from antiphon.engine.core.system import System

__all__ = ["SweepOrder", "obstacle"]


class SweepOrder:
    """The learning groups of a system that are differentiated as soon as they have ticked.

    Args:
        system: Agents, channels and groups.

    Attributes:
        groups: Their identities.
    """

    def __init__(self, system: System) -> None:
        self._schedule, self._group_of = system.schedule, system.group_of
        self.groups = (
            {id(group) for group in system.groups if obstacle(system, group) is None}
            if system.sweep
            else set()
        )

    def complete(self, step: int) -> Mapping[Call, LearningGroup]:
        """The groups whose window is complete at `step`, by the last of their calls."""
        last = {id(group := self._group_of[call[0]]): (call, group) for call in self._schedule.calls(step)}
        return {
            call: group
            for key, (call, group) in last.items()
            if key in self.groups and group.windows.ending(step) is not None
        }


def obstacle(system: System, group: LearningGroup) -> str | None:
    """Return why a group's learning signal is not complete once it has ticked, in one line; None: it is."""
    return next(_obstacles(system, group), None)


def _obstacles(system: System, group: LearningGroup) -> Iterator[str]:
    signals = system.description.all_signals

    def late(name: str) -> bool:
        return signals[name].known == "after_step"

    if group.late:
        yield "it waits for delayed gradients"
    for name in group.members:
        agent = system.agents[name]
        if agent.goal is not None and agent.goal.policy is not None:
            yield "rewards are known after the step"
        elif agent.goal is not None and late(agent.goal.target):
            yield f"the target {agent.goal.target} is known after the step"
        for channel in agent.sends:
            if channel.mixes:
                yield f"{channel.names[0]} mixes in what its receiver returns at the same step"
            if channel.predictor is None:
                continue
            read = [spec.name for spec in channel.context]
            needed = read if channel.target is None else [*read, channel.target]
            for signal in filter(late, needed):
                yield f"the synthetic gradient of {channel.names[0]} reads {signal}, known after the step"
            if channel.injects and not system.description.endless and not _read_at_once(channel):
                yield f"an episode's end can void a message of {channel.names[0]} before it is read"


def _read_at_once(channel: Channel) -> bool:
    """Whether every message is read at the step at which it is sent, so that no episode ends before."""
    sender, receiver = channel.ledger.sender.clock, channel.ledger.receiver
    every = sender.period % receiver.period == 0 and receiver.due(sender.phase)
    return every and channel.ledger.link.delay == 0  # a state's link has one
