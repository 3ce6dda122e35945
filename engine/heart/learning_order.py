"""The order in which the windows of a step are differentiated, which is decided here alone (rule 13a, the order of learning)."""

from __future__ import annotations

from collections.abc import Iterator
from graphlib import TopologicalSorter

from antiphon.engine.heart.schedule import NetworkCall
from antiphon.engine.heart.system import System
from antiphon.engine.heart.updates import GroupWindows
from antiphon.engine.heart.window import LearningGroup


class LearningOrder:
    """Sorts the windows that end at a step into turns; those of `swept_groups` come before, as soon as the group has ticked.

    All are differentiated with the parameters of before the step. So the order decides only how many graphs exist at once, and
    which returned gradients are there for a sender that mixes them into its credit.

    Args:
        system: The agents, channels and groups.
    """

    def __init__(self, system: System) -> None:
        self.system = system
        self.turn_by_group = turns_of_groups(system)
        self.has_turns = any(self.turn_by_group.values()) or any(group.waits for group in system.groups)
        """Whether the windows that end at a step may need several turns; else all are differentiated together."""
        self.swept_groups: frozenset[LearningGroup] = frozenset()
        """The groups that are differentiated right after their last tick."""
        if system.schedule.sweep:
            self.swept_groups = frozenset(
                group for group in system.groups if sweep_obstacle(system, group) is None
            )

    def swept_calls(self, step: int) -> dict[NetworkCall, LearningGroup]:
        """Return the last calls of the swept groups whose window ends at `step`, each with its group (features/sweep.py).

        The group is differentiated right after that call, before other agents tick.

        Their windows are in `turns` too, where what was differentiated is taken up.
        """
        group_by_agent, calls = self.system.group_by_agent, self.system.schedule.network_calls(step)
        last_calls = {group_by_agent[call[0]]: call for call in calls}
        return {
            call: group
            for group, call in last_calls.items()
            if group in self.swept_groups and group.grid.number_ending_at(step) is not None
        }

    def turns(self, windows_to_learn: GroupWindows) -> list[GroupWindows]:
        """Return windows in turns: those of a turn are differentiated together, and their gradients are booked before the next turn.

        A group has its turn by `turns_of_groups`. Two windows of one group share parameters, and are never in one turn: the older one has
        waited for a delayed gradient.
        """
        turns: dict[int, GroupWindows] = {}
        newest_turn: dict[LearningGroup, int] = {}
        for group, window in sorted(windows_to_learn, key=lambda pair: self.turn_by_group.get(pair[0], 0)):
            turn = max(newest_turn.get(group, -1) + 1, self.turn_by_group.get(group, 0))
            newest_turn[group] = turn
            turns.setdefault(turn, []).append((group, window))
        return [turns[turn] for turn in sorted(turns)]


def turns_of_groups(system: System) -> dict[LearningGroup, int]:
    """Return the turns of groups, 0 where one is absent. A sender that mixes in returned gradients has a later turn than its receiver."""
    earlier_groups: dict[LearningGroup, set[LearningGroup]] = {}
    for channel in system.channels.values():
        if channel.injects_returned:
            earlier_groups.setdefault(system.group_by_agent[channel.sender], set()).add(
                system.group_by_agent[channel.receiver]
            )
    turns: dict[LearningGroup, int] = {}
    for group in TopologicalSorter(earlier_groups).static_order():
        turns[group] = max((turns[earlier] + 1 for earlier in earlier_groups.get(group, ())), default=0)
    return turns


def sweep_obstacle(system: System, group: LearningGroup) -> str | None:
    """Return why a group's learning signal is not complete once it has ticked, in one line; None: it is complete."""
    return next(_obstacles(system, group), None)


def _obstacles(system: System, group: LearningGroup) -> Iterator[str]:
    """Yield the reasons that `sweep_obstacle` returns the first of."""
    declared_signals = system.description.all_signals

    def known_after_step(signal_name: str) -> bool:
        return declared_signals[signal_name].known == "after_step"

    if group.waits:
        yield "it waits for delayed gradients"
    for agent_name in group.agent_names:
        agent = system.agents[agent_name]
        if agent.goal is not None and agent.goal.policy is not None:
            yield "rewards are known after the step"
        elif agent.goal is not None:
            yield from (
                f"the target {target} is known after the step"
                for target in agent.goal.signal_names
                if known_after_step(target)
            )
        for channel in agent.connections.send_channels:
            if channel.injects_returned:
                yield f"{channel.member_names[0]} mixes in what its receiver returns at the same step"
            if not channel.predicts:
                continue
            synthetic_gradient = channel.synthetic_gradient
            signal_names = [spec.name for spec in synthetic_gradient.context.signal_specs]
            if synthetic_gradient.target_signal_name is not None:
                signal_names.append(synthetic_gradient.target_signal_name)
            for signal_name in filter(known_after_step, signal_names):
                yield f"the synthetic gradient of {channel.member_names[0]} reads {signal_name}, known after the step"
            if not channel.injects or system.description.endless:
                continue
            if not channel.ledger.timetable.reads_as_sent:
                yield f"an episode's end can void a message of {channel.member_names[0]} before it is read"
