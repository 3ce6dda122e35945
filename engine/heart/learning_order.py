"""The order in which the windows of a step are differentiated after it, and in which they move parameters: decided here alone (rule 13a).

With `training.sweep`, windows are differentiated in `tick`, before all turns: features/sweep.py decides which, and when.
"""

from __future__ import annotations

from graphlib import TopologicalSorter

from antiphon.engine.heart.system import System
from antiphon.engine.heart.updates import GroupWindows
from antiphon.engine.heart.window import LearningGroup


class LearningOrder:
    """Sorts the windows that end at a step into turns.

    All are differentiated with the parameters of before the step, and move them in the same turns. Different groups move different
    parameters: of these, the turns decide only how many graphs exist at once, which returned gradients are there for a sender that
    mixes them into its credit, and in which order the gradients of a message's reads are summed. For a window that was swept they decide
    the last alone: it has been differentiated in the order of ticks, before all turns, and its turn takes up the result.
    """

    def __init__(self, system: System) -> None:
        self.turn_by_group = turns_of_groups(system)
        self._may_need_turns = any(self.turn_by_group.values()) or any(group.waits for group in system.groups)

    def turns(self, windows_to_learn: GroupWindows) -> list[GroupWindows]:
        """Return windows in turns: those of a turn are differentiated together, and their gradients are booked before the next turn.

        A group has its turn by `turns_of_groups`. Two windows of one group share parameters, and are never in one turn: the older one has
        waited for a delayed gradient, and is first, as in `windows_to_learn` (the sort is stable). So it moves them first too: two
        optimiser steps, one after the other, give other numbers in the other order. No turn is empty.
        """
        if not self._may_need_turns:
            return [windows_to_learn] if windows_to_learn else []
        turns: dict[int, GroupWindows] = {}
        newest_turn: dict[LearningGroup, int] = {}
        for group, window in sorted(windows_to_learn, key=lambda pair: self.turn_by_group.get(pair[0], 0)):
            turn = max(newest_turn.get(group, -1) + 1, self.turn_by_group.get(group, 0))
            newest_turn[group] = turn
            turns.setdefault(turn, []).append((group, window))
        return [turns[turn] for turn in sorted(turns)]


def turns_of_groups(system: System) -> dict[LearningGroup, int]:
    """Return the turns of groups, 0 where one is absent. A sender that mixes in returned gradients has a later turn than its receiver.

    Groups must not follow each other in a cycle: `rule_11_cycle` (scenarios/checks.py) refuses such scenarios. Agents whose groups have
    different turns are not stacked together (engine/build/stack_kinds.py).
    """
    earlier_groups: dict[LearningGroup, set[LearningGroup]] = {}
    for channel in system.channels.values():
        if channel.injects_same_step_return:
            earlier_groups.setdefault(system.group_by_agent[channel.sender], set()).add(
                system.group_by_agent[channel.receiver]
            )
    turns: dict[LearningGroup, int] = {}
    for group in TopologicalSorter(earlier_groups).static_order():
        turns[group] = max((turns[earlier] + 1 for earlier in earlier_groups.get(group, ())), default=0)
    return turns
