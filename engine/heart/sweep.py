"""Sweep order: a learning group is differentiated as soon as it has ticked, so that its graph is gone before the next one's.

Otherwise all windows that end at a step are differentiated after all agents have ticked, and all their graphs exist at once. The
numbers are the same: parameters move at the end of the step in either order (rule 7), and what a window returns is booked there.
"""

from __future__ import annotations

from collections.abc import Iterator

from antiphon.engine.heart.backward import BackwardPass
from antiphon.engine.heart.clock import NetworkCall
from antiphon.engine.heart.system import System
from antiphon.engine.heart.updates import Update
from antiphon.engine.heart.window import LearningGroup, Window


class Sweep:
    """Differentiates the learning groups of a system that are complete as soon as they have ticked."""

    def __init__(self, system: System, backward_pass: BackwardPass) -> None:
        self.system, self.backward_pass = system, backward_pass
        self._swept_groups = frozenset(
            group for group in system.groups if sweep_obstacle(system, group) is None
        )
        self._step, self._updates = -1, dict[Window, Update]()
        self._group_by_last_call: dict[NetworkCall, LearningGroup] = {}
        """The swept groups whose window ends at this step, by their last network call."""

    def begin(self, step: int) -> None:
        """Prepare a step: what a step that raised has left is dropped, and the calls are found after which groups are swept."""
        self._step, self._updates = step, {}
        group_by_agent, calls = self.system.group_by_agent, self.system.schedule.network_calls(step)
        last_calls = {group_by_agent[call[0]]: call for call in calls}
        self._group_by_last_call = {
            call: group
            for group, call in last_calls.items()
            if group in self._swept_groups and group.grid.number_ending_at(step) is not None
        }

    def after_call(self, call: NetworkCall) -> None:
        """Differentiate the window of a group after its last call."""
        group = self._group_by_last_call.get(call)
        if group is not None:
            (self._updates[group.window],) = self.backward_pass.differentiate_windows(
                [(group, group.window)], self._step
            )
            group.window.free_graph()

    def pop_updates(self) -> dict[Window, Update]:
        """Return what the step has swept, by window, and forget it."""
        updates, self._updates = self._updates, {}
        return updates


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
            timetable = channel.wire.timetable
            if channel.gives_credit and not (system.description.endless or timetable.reads_as_sent):
                yield f"an episode's end can void a message of {channel.member_names[0]} before it is read"
            if not channel.predicts:
                continue
            synthetic_gradient = channel.synthetic_gradient
            signal_names = [spec.name for spec in synthetic_gradient.context.signal_specs]
            if synthetic_gradient.target_signal_name is not None:
                signal_names.append(synthetic_gradient.target_signal_name)
            for signal_name in filter(known_after_step, signal_names):
                yield f"the synthetic gradient of {channel.member_names[0]} reads {signal_name}, known after the step"
