"""Senders in the further passes of their receivers (`gradient.passes`, semantics 42b).

A sender that takes one step a window for the receiver's dozens follows it too slowly. Its window is therefore replayed beside the
receiver's: its messages are made again, the receiver reads them as leaves, and each minibatch has a new prediction, which is
injected, and a new gradient, which its predictor learns from.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from antiphon.base.mask import ALL, NONE, Mask
from antiphon.comms.backward_requests import BackwardRequest, Gradients, as_leaf, constant
from antiphon.comms.examples import Example
from antiphon.engine.heart.backward import coupling_credit, credited_message
from antiphon.engine.heart.channel import Channel
from antiphon.engine.heart.ends import Sent
from antiphon.engine.heart.step import Engine
from antiphon.engine.heart.updates import Update
from antiphon.engine.policies.minibatch_rows import by_member
from antiphon.engine.policies.resent_messages import ResentMessages


@dataclass(slots=True)
class _Sent:
    """The messages of a minibatch, [K * T * b, …], K members, T ticks and b environments."""

    output: Tensor
    """With the sender's graph."""
    read: Tensor
    """As received: the leaf that the receiver reads."""
    examples: list[Example]
    """What the predictor is evaluated on, by tick, [K * b, …] each."""
    injected: Mask
    """Where its prediction is injected."""


class ReplayedSender:
    """A stack of channels and their senders' windows, which are replayed for some environments.

    Args:
        update: What the senders learned from their windows in the first pass.
    """

    def __init__(self, engine: Engine, channel: Channel, update: Update) -> None:
        self.channel, self._engine, self.first_update = channel, engine, update
        self._sender, window = engine.system.agents[channel.sender], update.window
        self._start = window.statistics_before[channel.sender]
        learner = self._sender.learner
        self._resting = learner.places_of(learner.network.heads.keys() - {channel.content.port_name})
        ticks = [tick for tick in window.ticks() if tick.agent_name == channel.sender]
        messages = [sent for name, sent in window.sent if name == channel.name]
        self._stamps = [message.stamp for message in messages]
        self._credited_by_stamp = {
            message.stamp: window.credited_rows(channel, message) for message in messages
        }
        with torch.no_grad():
            inputs = [engine.forward_pass.joined_input(tick, window, self._start) for tick in ticks]
            self._inputs = torch.stack(inputs)
            self._resent = ResentMessages.of(channel, self._sender, ticks, self._stamps)
            self._read_signals(messages)
        self._sent: _Sent | None = None
        """What was sent in the newest minibatch."""

    def _read_signals(self, messages: Sequence[Sent]) -> None:
        """Keep what the messages' predictions are conditioned on, and where they count."""
        trainer = self._engine.predictor_trainer
        examples = [trainer.example(self.channel, message, with_returned=False) for message in messages]
        contexts = [None if example is None else example.context for example in examples]
        present = next((context for context in contexts if context is not None), None)
        self._context = None
        if present is not None:
            zeros = torch.zeros_like(present)
            self._context = torch.stack([zeros if context is None else context for context in contexts])
        has_example = [NONE if example is None else ALL for example in examples]
        pairs = list(zip(has_example, messages, strict=True))
        self._counted = [mask & message.counted for mask, message in pairs]
        injected, self._injected = (
            [mask & self._credited_by_stamp[message.stamp] for mask, message in pairs],
            ALL,
        )
        if any(mask is not ALL for mask in injected):
            zeros = self.channel.content.zeros
            self._injected = Mask.of(
                torch.stack([mask.tensor(len(zeros), zeros.device) for mask in injected])
            )

    def messages(self, rows: Tensor) -> Tensor:
        """Return the messages of the present parameters as they are received, [K * T * b, size]: a leaf.

        Args:
            rows: Of the channels, [K * b].
        """
        channel, of_rows = self.channel, partial(by_member, members=len(self.channel.members), rows=rows)
        x = by_member(self._inputs, len(self._sender.members), self._sender_rows(rows))
        port = self._sender.learner.evaluate(self._start, x, state=None)[0][channel.content.port_name]
        output = self._resent.outputs(port, rows)
        received = self._resent.received(constant(output), rows)
        examples = [
            Example(
                message,
                None if self._context is None else self._context[tick, rows],
                None,
                self._counted[tick].map(partial(torch.index_select, dim=0, index=rows)),
                stamp=self._stamps[tick],
            )
            for tick, message in enumerate(self._by_tick(constant(output)))
        ]
        self._sent = _Sent(output, as_leaf(received), examples, self._injected.map(of_rows))
        return self._sent.read

    def _by_tick(self, values: Tensor) -> Iterable[Tensor]:
        """Values [K * T * b, size] by tick, [K * b, size] each."""
        shape = len(self.channel.members), len(self._stamps), -1, values.shape[1]
        return values.view(shape).transpose(0, 1).flatten(1, 2)

    def _sender_rows(self, rows: Tensor) -> Tensor:
        """The rows of the senders, [N * b], in the environments of the channels' rows; of a sender without one, any."""
        index, batch = self.channel.endpoints.sender_index, self.channel.batch
        if index is None:
            return rows
        environments = rows.view(len(self.channel.members), -1) % batch
        by_sender = environments[:1].repeat(len(self._sender.members), 1).index_copy(0, index, environments)
        first_rows = torch.arange(len(by_sender), device=rows.device).unsqueeze(1) * batch
        return (by_sender + first_rows).flatten()

    @property
    def read(self) -> Tensor:
        """The leaf that the receiver has read in the newest minibatch."""
        assert self._sent is not None
        return self._sent.read

    def request(self, step: int) -> BackwardRequest | None:
        """Return the backward pass of the credit for the newest minibatch; None: there is none."""
        sent, channel = self._sent, self.channel
        assert sent is not None
        # no gradient of these messages has returned yet
        credited_message_of = partial(
            credited_message, channel, returned=None, counted=NONE, has_returned=False
        )
        messages = [
            credited_message_of(example.message, stamp, example.message, partial(self._predict, example))
            for stamp, example in zip(self._stamps, sent.examples, strict=True)
        ]
        credits = [coupling_credit(channel, message, step) for message in messages]
        credited = [credit for credit in credits if credit is not None]
        if not credited:
            return None
        if len(credited) < len(credits):
            credited = [torch.zeros_like(credited[0]) if credit is None else credit for credit in credits]
        credit = by_member(torch.stack(credited), len(channel.members))
        injection = channel.injection_of(sent.output, credit, sent.injected, step)
        return BackwardRequest(
            injections=[injection], parameters={self._sender.name: self._sender.learner.trainable}
        )

    def _predict(self, example: Example) -> Tensor | None:
        """The present prediction for a message of the newest minibatch, which is evaluated once."""
        model = self.channel.synthetic_gradient.model
        assert model is not None
        if example.prediction is None:
            example.prediction = model.predict(example)
        return example.prediction

    def update(self, gradients: dict[str, Gradients]) -> Update:
        """Return what the senders learn from the newest minibatch."""
        first, model = self.first_update, self.channel.synthetic_gradient.model
        assert model is not None
        is_open = self.channel.layout.rows_of(model.open)
        injected = {
            (self.channel.name, stamp): rows & is_open for stamp, rows in self._credited_by_stamp.items()
        }
        update = Update(
            first.group,
            first.window,
            gradients_by_learner={**gradients},
            injected_rows=injected,
        )
        update.rest_parameters(self._sender.name, self._resting)
        return update

    def examples(self, returned: Tensor | None) -> list[Example]:
        """Return what the predictors learn from in the newest minibatch; none, if nothing counts.

        Args:
            returned: Gradients at the leaf, [K * T * b, size] per sample; None: the loss does not depend on it.
        """
        sent = self._sent
        assert sent is not None
        returned = torch.zeros_like(constant(sent.output)) if returned is None else returned
        for example, gradient in zip(sent.examples, self._by_tick(returned), strict=True):
            example.returned = self.channel.as_returned(gradient, example.valid)
            self.channel.restrict_example(example, example.valid)
        return [example for example in sent.examples if example.valid.anywhere]
