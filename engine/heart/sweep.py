"""Sweep order: a learning group is differentiated as soon as it has ticked, so that its graph is gone before the next one's.

Otherwise all windows that end at a step are differentiated after all agents have ticked, and all their graphs exist at once. The
numbers are the same: parameters move at the end of the step in either order (rule 7), and what a window returns is booked there.
"""

from __future__ import annotations

from antiphon.engine.heart.backward import BackwardPass
from antiphon.engine.heart.clock import NetworkCall
from antiphon.engine.heart.system import System
from antiphon.engine.heart.updates import Update
from antiphon.engine.heart.window import LearningGroup, Window


class Sweep:
    """Differentiates the learning groups of a system that are complete as soon as they have ticked."""

    def __init__(self, system: System, backward_pass: BackwardPass) -> None:
        self.system, self.backward_pass = system, backward_pass
        self._swept_groups = frozenset(group for group in system.groups if is_complete(system, group))
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
        updates, self._updates = self._updates, {}
        return updates


def is_complete(system: System, group: LearningGroup) -> bool:
    """Return whether a group's learning signal is complete once it has ticked: nothing of it is known only later."""
    if group.horizons:
        return False
    signal_names = list[str]()
    for name in group.agent_names:
        agent = system.agents[name]
        if agent.policy is not None:
            return False
        if agent.goal is not None:
            signal_names += agent.goal.signal_names
        for channel in agent.connections.send_channels:
            # else the end of an episode can void a message before it is read
            is_read = system.description.endless or channel.wire.timetable.reads_as_sent
            if channel.coupling.gives_credit and not is_read:
                return False
            if channel.predicts:
                synthetic_gradient = channel.synthetic_gradient
                signal_names += [spec.name for spec in synthetic_gradient.context.signal_specs]
                if synthetic_gradient.target_signal_name is not None:
                    signal_names.append(synthetic_gradient.target_signal_name)
    declared_signals = system.description.all_signals
    return all(declared_signals[name].known != "after_step" for name in signal_names)
