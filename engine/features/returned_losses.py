"""Critics: a window's losses go back to the senders of what it read, for predictors that learn them (semantics 9)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from antiphon.base import indexed
from antiphon.base.mask import NONE, Mask
from antiphon.comms.backward_requests import constant
from antiphon.comms.predictors import Critic
from antiphon.engine.heart.channel import Channel
from antiphon.engine.heart.ends import Received
from antiphon.engine.heart.feature import Feature
from antiphon.engine.heart.predictors import PredictorTrainer
from antiphon.engine.heart.step import Engine
from antiphon.engine.heart.system import System
from antiphon.engine.heart.updates import Update
from antiphon.engine.heart.window import CountedRead
from antiphon.nets.per_member import scaled


class ReturnedLosses(Feature):
    """The losses of windows that go back over channels with a critic."""

    def __init__(self, engine: Engine) -> None:
        self.system, self.predictor_trainer = engine.system, engine.predictor_trainer

    def after_book(self, update: Update) -> None:
        """Enter the losses of a window for what it read, over channels with a critic."""
        with_loss: dict[str, list[CountedRead]] = {}
        for read in update.window.counted_reads.values():
            if self.system.channels[read.channel_name].needs_returned_loss:
                with_loss.setdefault(read.channel_name, []).append(read)
        if with_loss:
            loss = _returned_loss(self.system, self.predictor_trainer, update)
            for name, reads in with_loss.items():
                _book(reads, self.system.channels[name].rows_from_receiver(loss))


def _book(reads: Sequence[CountedRead], loss: Tensor) -> None:
    """Add a window's loss, [rows], to each message that it read: once, in however many ticks that was."""
    used: dict[Received, Mask] = {}
    for read in reads:
        used[read.received] = used.get(read.received, NONE) | read.counted
    for received, mask in used.items():
        received.add_loss(mask.zero_elsewhere(loss))


def _returned_loss(system: System, predictor_trainer: PredictorTrainer, update: Update) -> Tensor:
    """[rows]: the window's losses and, beyond, the values of the critics of what it sent (semantics 9)."""
    losses = list(update.window_loss.loss_by_agent.values())
    if not losses:
        rows = len(system.agents[update.group.agent_names[0]].members) * system.batch
        loss = torch.zeros(rows, dtype=system.dtype, device=system.device)
    else:
        loss = losses[0] if len(losses) == 1 else torch.stack(losses).sum(0)
    for name, sent in update.window.sent:
        channel = system.channels[name]
        if not isinstance(channel.synthetic_gradient.model, Critic):
            continue
        if sent.creditable is NONE:
            continue
        example = predictor_trainer.example(channel, sent, with_returned=False)
        if example is not None:
            value = constant(channel.synthetic_gradient.model.value(example))
            value = scaled(value, channel.synthetic_gradient.injection.discount)
            loss = loss + _to_senders(channel, sent.creditable.zero_elsewhere(value))
    return loss


def _to_senders(channel: Channel, rows: Tensor) -> Tensor:
    index = channel.endpoints.sender_index
    if index is None:
        return rows
    member_rows = rows.view(-1, channel.batch, *rows.shape[1:])
    total = member_rows.new_zeros(channel.endpoints.sender_count, *member_rows.shape[1:])
    return indexed.add(total, index, member_rows).flatten(0, 1)
