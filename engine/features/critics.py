"""Critics: a window's losses go back to the senders of what it read, for predictors that learn them (semantics 9)."""

from __future__ import annotations

from torch import Tensor

from antiphon.comms.backward_requests import constant
from antiphon.engine.heart.ledger import GradientLedger
from antiphon.engine.heart.message import Consumption
from antiphon.engine.heart.predictors import PredictorTrainer
from antiphon.engine.heart.rows import mask_fill_zero, mask_not
from antiphon.engine.heart.system import System
from antiphon.engine.heart.updates import Update

__all__ = ["ReturnedLosses"]


class ReturnedLosses:
    """Losses that go back over channels with a critic.

    Args:
        system: Agents and channels.
        predictor_trainer: Of the critics.
    """

    def __init__(self, system: System, predictor_trainer: PredictorTrainer) -> None:
        self.system, self.agents, self.predictor_trainer = system, system.agents, predictor_trainer

    def book(self, update: Update) -> None:
        """Enter the losses of a window for what it read."""
        with_loss: dict[str, list[Consumption]] = {}
        for one in update.returned:
            if one.channel.needs_returned_loss:
                with_loss.setdefault(one.channel.name, []).append(one.use)
        if with_loss:
            loss = self._returned_loss(update)
            for name, some in with_loss.items():
                GradientLedger.book_loss(some, self.system.channels[name].of_receiver(loss))

    def _returned_loss(self, update: Update) -> Tensor:
        """[rows]: the window's losses and, beyond, the values of the critics of what it sent (semantics 9)."""
        loss = update.window_loss.samples
        if loss is None:
            loss = self.agents[update.group.members[0]].to_rows(self.system.nothing)
        for name, record in update.tape.sent:
            channel = self.system.channels[name]
            if channel.predictor is None or not channel.needs_returned_loss:
                continue
            if record.unread or record.no_injection is True or channel.predictor_disabled:
                continue
            example = self.predictor_trainer.example(channel, record, answered=False)
            if example is not None:
                value = constant(channel.predictor.value(example))
                value = channel.discount * channel.enabled_predictions(value)
                loss = loss + channel.to_sender(mask_fill_zero(mask_not(record.no_injection), value))
        return loss
