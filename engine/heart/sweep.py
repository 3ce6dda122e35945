"""Sweep order: a learning group is differentiated as soon as it has ticked, so that its graph is gone before the next one's.

Otherwise all windows that end at a step are differentiated after all agents have ticked, and all their graphs exist at once. The
numbers are the same: parameters move at the end of the step in either order (rule 7), and what a window returns is booked there.

What a step has swept is in `SweptUpdates` (updates.py): the turn of the window takes up its update, and `PredictorTrainer` the
others.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from antiphon.engine.heart.backward import BackwardPass
from antiphon.engine.heart.channel import Channel
from antiphon.engine.heart.clock import NetworkCall
from antiphon.engine.heart.ends import Received
from antiphon.engine.heart.predictors import PredictorTrainer
from antiphon.engine.heart.system import System
from antiphon.engine.heart.updates import PredictorUpdate, Update
from antiphon.engine.heart.window import LearningGroup, Window


class Sweep:
    """Differentiates the learning groups of a system that are complete as soon as they have ticked."""

    def __init__(
        self, system: System, backward_pass: BackwardPass, predictor_trainer: PredictorTrainer
    ) -> None:
        self.system, self.swept_updates = system, predictor_trainer.swept_updates
        self.backward_pass, self.predictor_trainer = backward_pass, predictor_trainer
        self._swept_groups = frozenset(
            group for group in system.groups if sweep_obstacle(system, group) is None
        )
        self._group_by_last_call: Mapping[NetworkCall, LearningGroup] = {}
        """The swept groups whose window ends at this step, by their last network call."""

    def begin(self, step: int) -> None:
        """Prepare a step: what a step that raised has left is dropped, and the calls are found after which groups are swept."""
        self.swept_updates.clear()
        group_by_agent, calls = self.system.group_by_agent, self.system.schedule.network_calls(step)
        last_calls = {group_by_agent[call[0]]: call for call in calls}
        self._group_by_last_call = {
            call: group
            for group, call in last_calls.items()
            if group in self._swept_groups and group.grid.number_ending_at(step) is not None
        }

    def after_call(self, call: NetworkCall, *, step: int, keep_messages: bool) -> None:
        """Differentiate the window of a group after its last call; for `keep_messages` see `Steppable.tick`."""
        group = self._group_by_last_call.get(call)
        if group is None:
            return
        window = group.window
        (update,) = self.backward_pass.differentiate_windows([(group, window)], step)
        examples = self.predictor_trainer.examples_with_sender([window])
        predictor_updates = self.predictor_trainer.differentiate_predictors(examples)
        self.swept_updates.predictor_updates |= predictor_updates
        window.free_graph()
        self.swept_updates.window_updates[window] = update
        if not keep_messages:
            self._release(window, update, predictor_updates)

    def _release(
        self, window: Window, update: Update, predictor_updates: Mapping[str, PredictorUpdate]
    ) -> None:
        """Release what only metrics read of a window."""
        update.newest_injected_by_channel.clear()
        for predictor_update in predictor_updates.values():
            predictor_update.examples.clear()
        channels = self.system.channels
        for name, sent in window.sent:
            if not channels[name].returns_gradients:
                self.predictor_trainer.forget_prediction(sent)
        for read in window.counted_reads.values():
            channel = channels[read.channel_name]
            if channel.content.sampler is not None:
                continue  # a sample is sent again where its window is replayed
            if self._is_spent(channel, read.received):
                sent = channel.wire.outbox.sent[read.received.stamp]
                sent.value = read.received.value = read.value = read.value.new_empty(0)

    def _is_spent(self, channel: Channel, received: Received) -> bool:
        """Whether neither a message nor its gradient is read after its reader's window has been differentiated."""
        wire, timetable, groups = channel.wire, channel.wire.timetable, self.system.group_by_agent
        sender = groups[channel.sender]
        is_needed = wire.returns_gradients or wire.holds_all or wire.link.loses
        if is_needed or (channel.name, received.stamp) in sender.window.outputs_with_graph:
            return False
        stamp = received.stamp
        return timetable.back_from(stamp) == stamp and list(timetable.reading_ticks(stamp)) == [stamp]


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
