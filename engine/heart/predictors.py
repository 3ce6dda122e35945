"""Training of synthetic gradients and inputs: one optimiser step each on what has come back (rule 6)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from antiphon.comms.backward_requests import constant
from antiphon.comms.examples import Example, target_of, united_members
from antiphon.comms.predictors import Predictor, newest_example
from antiphon.engine.heart.channel import Channel
from antiphon.engine.heart.ends import Sent
from antiphon.engine.heart.system import System
from antiphon.engine.heart.updates import GroupWindows, PredictorUpdate
from antiphon.engine.heart.window import Window
from antiphon.nets.mask import ALL, NONE

Watch = bool | AbstractSet[str]
"""Whether predictions are kept: of all channels, or of those with these names, members of stacks by their own."""


class PredictorTrainer:
    def __init__(self, system: System) -> None:
        self.system = system
        self._predicted_examples: dict[Sent, Example] = {}
        """The examples of this step with their predictions, by message; emptied at its end, as predictors move."""
        self._models = {
            name: model
            for name, channel in system.channels.items()
            if channel.sender in system.agents and (model := channel.synthetic_gradient.model) is not None
        }
        """By channel; of a cut channel, the predictor is in its sender's part."""

    def predict(self, channel: Channel, sent: Sent) -> Tensor | None:
        """Return the prediction for a message, [rows, size] per sample, evaluated once a step, before predictors learn.

        None: the channel has no predictor, or there is no `example`.
        """
        if (predicted := self._predicted_examples.get(sent)) is not None:
            return predicted.prediction
        predictor, example = channel.synthetic_gradient.model, self._example_as_sent(channel, sent)
        if predictor is None or example is None:
            return None
        example.prediction = constant(predictor.predict_sent(example))
        self._predicted_examples[sent] = example
        return example.prediction

    def learns(self, channel: Channel) -> bool:
        """Return whether the synthetic gradient of a channel learns."""
        model = self._models.get(channel.name)
        return model is not None and not model.frozen

    def moves_gate(self, channel: Channel) -> bool:
        """Return whether the gate of a channel moves, as it does also where the synthetic gradient is frozen."""
        model = self._models.get(channel.name)
        return model is not None and model.gated

    def clear_step(self) -> None:
        self._predicted_examples.clear()

    # --- examples ------------------------------------------------------------------------------------------

    def example(self, channel: Channel, sent: Sent, *, with_returned: bool = True) -> Example | None:
        """Return a message's example for its channel's predictor, with its prediction if this step has evaluated that.

        None: its target or a signal of its context is absent, as at an aligned agent before its first message.
        """
        predicted = self._predicted_examples.get(sent)
        example = self._example_as_sent(channel, sent) if predicted is None else replace(predicted)
        if example is not None and with_returned and channel.wire.returns_gradients:
            loss = sent.loss
            if loss is None and channel.needs_returned_loss:  # an episode has ended, and no loss follows
                loss = torch.zeros_like(sent.value[:, 0])
            example.returned, example.loss = sent.returned, loss
        return example

    def _example_as_sent(self, channel: Channel, sent: Sent) -> Example | None:
        """The example without a returned gradient; None where `example` returns None."""
        synthetic_gradient, signals = channel.synthetic_gradient, sent.signals.signals
        target_signal_name = synthetic_gradient.target_signal_name
        if target_signal_name is not None and target_signal_name not in signals:
            return None
        for spec in synthetic_gradient.context.signal_specs:
            if spec.name not in signals:
                return None  # a mixture's signal may be known only after the step
        shown = sent.signals, sent.ends.values(), channel.layout
        context = synthetic_gradient.context.features(*shown, self.system.dtype)
        valid, target, sites = ALL, None, None
        if target_signal_name is not None:
            to_rows = channel.layout.to_rows
            criterion = getattr(synthetic_gradient.model, "criterion", None)
            ignored = None if criterion is None else criterion.ignore_index
            target, present, sites = target_of(signals, target_signal_name, ignored)
            valid = present.map(to_rows)
            target, sites = to_rows(target), None if sites is None else to_rows(sites)
        return Example(sent.value, context, None, valid, target, sites, stamp=sent.stamp)

    def examples_with_sender(self, windows: Iterable[Window]) -> dict[str, list[Example]]:
        """Return the examples, by channel, of predictors to which nothing returns: they learn with their sender."""
        examples: dict[str, list[Example]] = {}
        for window in windows:
            for name, sent in window.sent:
                channel = self.system.channels[name]
                if channel.wire.returns_gradients or not self.learns(channel):
                    continue
                credited_rows = window.credited_rows(channel, sent)
                if credited_rows is not NONE and (example := self.example(channel, sent)) is not None:
                    channel.restrict_example(example, credited_rows)
                    examples.setdefault(name, []).append(example)
        return examples

    def _returned_examples(self, channel: Channel, messages: Iterable[Sent]) -> list[Example]:
        """The examples that messages are for a predictor, when their gradients have come back."""
        examples = []
        for sent in messages:
            example = self.example(channel, sent)
            if example is not None and sent.counted is not NONE:
                channel.restrict_example(example, sent.counted)
                examples.append(example)
        return examples

    # --- training ------------------------------------------------------------------------------------------

    def collect_updates(
        self,
        messages_back: Mapping[str, list[Sent]],
        windows_to_learn: GroupWindows,
        step: int,
        *,
        watch: Watch,
    ) -> dict[str, PredictorUpdate]:
        """Return, by channel, what synthetic gradients learn from what has come back, and with their senders.

        Args:
            messages_back: What `pop_messages_back` has returned; gates compare it with what was predicted.
            watch: Whether, or of which channels, predictions are kept for telemetry.
        """
        channels = self.system.channels
        examples_by_channel = self.examples_with_sender(window for _, window in windows_to_learn)
        for name, messages in messages_back.items():
            channel, gated = channels[name], self.moves_gate(channels[name])
            for message in messages if gated else ():
                self.predict(channel, message)
            examples = self._returned_examples(channel, messages)
            if examples and gated:
                self._models[name].see(examples)
            if examples and self.learns(channel):
                examples_by_channel[name] = examples
        # before the update, which changes running statistics
        predictions = self._watched_predictions(examples_by_channel, watch) if watch else {}
        updates = self.differentiate_predictors(examples_by_channel)
        for name, update in updates.items():
            update.prediction = predictions.get(name)
        return {name: updates[name] for name in channels if name in updates}

    def pop_messages_back(self, step: int) -> dict[str, list[Sent]]:
        """Pop the messages whose gradient is back at `step`; return, by channel, those that predictors and gates want."""
        popped = [
            (channel, channel.wire.outbox.pop_returned(step)) for channel in self.system.channels.values()
        ]
        return {
            channel.name: messages
            for channel, messages in popped
            if channel.wire.returns_gradients and (self.learns(channel) or self.moves_gate(channel))
        }

    def _watched_predictions(
        self, examples_by_channel: Mapping[str, list[Example]], watch: Literal[True] | AbstractSet[str]
    ) -> dict[str, Tensor]:
        return {
            name: constant(self._models[name].predict(newest_example(examples)))
            for name, examples in examples_by_channel.items()
            if watch is True or any(member in watch for member in self.system.channels[name].member_names)
        }

    def differentiate_predictors(
        self, examples_by_channel: Mapping[str, list[Example]]
    ) -> dict[str, PredictorUpdate]:
        by_kind: dict[type[Predictor], list[str]] = {}
        for name, examples in examples_by_channel.items():
            if examples:
                by_kind.setdefault(type(self._models[name]), []).append(name)
        updates: dict[str, PredictorUpdate] = {}
        for kind, names in by_kind.items():
            of_channels = [examples_by_channel[name] for name in names]
            results = kind.together([self._models[name] for name in names], of_channels)
            for name, examples, learned in zip(names, of_channels, results, strict=True):
                updates[name] = PredictorUpdate(examples, *learned, moving_members=united_members(examples))
        return updates

    def collect_input_updates(self) -> dict[str, PredictorUpdate]:
        """Take the examples of synthetic inputs, and return what these learn from them, by channel."""
        updates: dict[str, PredictorUpdate] = {}
        for channel in self.system.channels.values():
            examples, model = channel.synthetic_input.pop_examples(), channel.synthetic_input.model
            if model is None or model.frozen or not examples:
                continue
            learned, moving_members = model.loss_and_gradients(examples), united_members(examples)
            updates[channel.name] = PredictorUpdate(
                examples, *learned, moving_members=moving_members, for_input=True
            )
        return updates
