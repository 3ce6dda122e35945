"""Sweep order: a learning group is differentiated as soon as it has ticked, so that its graph is gone before the next one's.

Otherwise all windows that end at a step are differentiated together, after all agents have ticked, and all their graphs
exist at once. The numbers are the same: parameters move at the end of the step in either order (semantics 7), and what a
window returns is booked there. Which groups these are: `heart.learning_order.LearningOrder.swept_groups`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from antiphon.engine.heart.channel import Channel
from antiphon.engine.heart.feature import Feature
from antiphon.engine.heart.message import Message
from antiphon.engine.heart.schedule import NetworkCall
from antiphon.engine.heart.signals import StepSignals
from antiphon.engine.heart.step import Engine
from antiphon.engine.heart.updates import PredictorUpdate, Update
from antiphon.engine.heart.window import LearningGroup, Window


class SweepOrder(Feature):
    """Differentiates the learning groups of a system that are complete as soon as they have ticked.

    Args:
        engine: Of the groups.
    """

    def __init__(self, engine: Engine) -> None:
        self.system, self.learning_order, self.swept_updates = (
            engine.system,
            engine.learning_order,
            engine.swept_updates,
        )
        self.backward_pass, self.predictor_trainer = engine.backward_pass, engine.predictor_trainer
        agents = engine.system.agents
        self._replayed = frozenset(
            group
            for group in engine.system.groups
            if any(
                (memory := agents[name].connections.state_channel) is not None and memory.has_lambda_returns
                for name in group.agent_names
            )
        )
        """Groups whose windows are kept, and replayed for returns over several: nothing of them is released."""
        self._complete: Mapping[NetworkCall, LearningGroup] = {}
        """Of this step."""
        self.before: Callable[[], None] | None = None
        """Hook after a group's forward pass, before its window is differentiated."""

    def before_ticks(self, step: int, step_signals: StepSignals) -> None:
        """Prepare a step: nothing of it has been differentiated, and what a step that raised has left is dropped."""
        self.swept_updates.clear()
        self._complete = self.learning_order.swept_calls(step)

    def after_send(self, call: NetworkCall, step: int, *, keep_messages: bool) -> None:
        """Differentiate the window of a call's group, where it is complete then; for `keep_messages` see `Steppable.tick`."""
        if call not in self._complete:
            return
        group = self._complete[call]
        window = group.window
        if self.before is not None:
            self.before()
        (update,) = self.backward_pass.differentiate_windows([(group, window)], step)
        examples = self.predictor_trainer.local_examples([window])
        local = self.predictor_trainer.differentiate_predictors(examples)
        self.swept_updates.predictor_updates |= local
        window.free_graph()
        self.swept_updates.window_updates[window] = update
        if not keep_messages:
            self._release(window, update, local)

    def _release(self, window: Window, update: Update, local: Mapping[str, PredictorUpdate]) -> None:
        """Release what nothing but figures reads of a window."""
        update.newest_injected_by_channel.clear()
        for learned in local.values():
            learned.examples.clear()
        channels = self.system.channels
        for name, message in window.sent_messages:
            if not channels[name].ledger.returns_gradients:
                self.predictor_trainer.predicted_examples.pop(message, None)
        for read in window.leaves.values():
            channel = channels[read.channel_name]
            if channel.content.sampler is not None:
                continue  # a sample is sent again where its window is replayed
            if self._spent(channel, read.message):
                read.message.free_values()
                read.free_value()

    def _spent(self, channel: Channel, message: Message) -> bool:
        """Whether neither a message nor its gradient is read after its reader's window has been differentiated."""
        ledger, timetable, groups = channel.ledger, channel.ledger.timetable, self.system.group_by_agent
        sender, receiver = groups[channel.sender], groups[channel.receiver]
        kept = ledger.returns_gradients or ledger.holds_all or ledger.link.loses
        kept |= sender in self._replayed or receiver in self._replayed
        if kept or (channel.name, message.stamp) in sender.window.sent_outputs:
            return False
        # Sent at every step and read at its own, it has one use, and another one is the newest of the next step's figures.
        newer_follows = timetable.send_times.sends_at(message.stamp + 1)
        return timetable.delay + timetable.return_delay == 0 and newer_follows
