"""Sweep order: a learning group is differentiated as soon as it has ticked, so that its graph is gone before the next one's.

Otherwise all windows that end at a step are differentiated together, after all agents have ticked, and all their graphs
exist at once. The numbers are the same: parameters move at the end of the step in either order (semantics 7), and what a
window returns is booked there. Which groups these are: `heart.order.LearningOrder.swept`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from antiphon.engine.heart.channel import Channel
from antiphon.engine.heart.clock import Call
from antiphon.engine.heart.learn import BackwardPass
from antiphon.engine.heart.message import Message, Window
from antiphon.engine.heart.order import LearningOrder
from antiphon.engine.heart.predictors import PredictorTrainer
from antiphon.engine.heart.system import System
from antiphon.engine.heart.updates import PredictorUpdate, Update


class SweepOrder:
    """Differentiates the learning groups of a system that are complete as soon as they have ticked.

    Args:
        system: Agents, channels and groups.
        order: Its order: which these are.
        backward_pass: Differentiates their windows.
        predictor_trainer: Of the synthetic gradients of their messages.
    """

    def __init__(
        self,
        system: System,
        order: LearningOrder,
        backward_pass: BackwardPass,
        predictor_trainer: PredictorTrainer,
    ) -> None:
        self.system, self.order = system, order
        self.backward_pass, self.predictor_trainer = backward_pass, predictor_trainer
        self.before: Callable[[], None] | None = None
        """Hook after a group's forward pass, before its window is differentiated."""

    def ticked(self, step: int, *, keep: bool) -> Callable[[Call], None]:
        """Return what is done after each call of a step.

        Args:
            step: The step.
            keep: See `Engine.tick`.
        """
        self.backward_pass.differentiated, self.predictor_trainer.differentiated = {}, {}
        complete = self.order.after_ticks(step)

        def ticked(call: Call) -> None:
            if call in complete:
                group = complete[call]
                window = group.window
                if self.before is not None:
                    self.before()
                (update,) = self.backward_pass.differentiate([(group, window)], step)
                examples = self.predictor_trainer.local_examples([window])
                local = self.predictor_trainer.differentiate(examples)
                self.predictor_trainer.differentiated |= local
                window.release()
                self.backward_pass.differentiated[window] = update
                if not keep:
                    self._release(window, update, local)

        return ticked

    def _release(self, window: Window, update: Update, local: Mapping[str, PredictorUpdate]) -> None:
        """Release what nothing but figures reads of a window."""
        update.injected.clear()
        for learned in local.values():
            learned.examples.clear()
        channels = self.system.channels
        for name, message in window.sent:
            if not channels[name].ledger.wants_gradient:
                self.predictor_trainer.predicted.pop(message, None)
        for read in window.leaves.values():
            channel = channels[read.channel]
            if channel.sampler is not None:
                continue  # a sample is sent again where its window is replayed
            if self._spent(channel, read.message):
                channel.ledger.release(read.message)
                read.release()

    def _spent(self, channel: Channel, message: Message) -> bool:
        """Whether neither a message nor its gradient is read after its reader's window has been differentiated."""
        ledger, sent = channel.ledger, self.system.group_of[channel.sender].window
        kept = ledger.wants_gradient or ledger.remembers or ledger.link.loses
        if kept or (channel.name, message.stamp) in sent.live:
            return False
        # Sent at every step and read at its own, it has one use, and another one is the newest of the next step's figures.
        return ledger.link.delay + ledger.back == 0 and ledger.sender.due(message.stamp + 1)
