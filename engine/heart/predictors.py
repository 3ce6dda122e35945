"""Training of synthetic gradients and inputs, one optimiser step each on all that has come back (semantics 6)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from antiphon.comms.backward_requests import constant
from antiphon.comms.examples import Example, Learned
from antiphon.comms.synthetic_gradients import Predictor, newest_returned
from antiphon.engine.heart.channel import Channel
from antiphon.engine.heart.message import Message, Window
from antiphon.engine.heart.rows import Members, mask_and, mask_fill_zero, mask_not, members_and
from antiphon.engine.heart.system import System
from antiphon.engine.heart.updates import PredictorUpdate
from antiphon.nets.trained_parameters import TrainedParameters, step_all

if TYPE_CHECKING:
    from antiphon.engine.features.contexts import Contexts
    from antiphon.engine.features.outliers import ClippedReturns

__all__ = ["PredictorTrainer", "members_of"]


class PredictorTrainer:
    """Evaluates and trains the predictors of a system.

    Args:
        system: The channels.

    Attributes:
        frozen: Whether nothing is learned: what has come back reaches the senders, and no predictor.
        contexts: Hook on contexts that are not the environment's signals; None: there are none.
        outliers: Hook on what has come back, before anything learns from it; None: nothing is clipped.
    """

    def __init__(self, system: System) -> None:
        self.system = system
        self.frozen = False
        self.predictions: dict[Message, Tensor] = {}
        """What predictors have said of messages since they last moved, [rows, size] per sample."""
        self._learned: dict[Message, Learned] = {}
        """What training on a message gives, where it was computed with its prediction."""
        self.contexts: Contexts | None = None
        self.outliers: ClippedReturns | None = None

    def predict(self, sent: list[tuple[Channel, Message]]) -> None:
        """Evaluate the synthetic gradients of messages; `predictions` has them while they stay true."""
        for channel, message in sent:
            predictor = channel.gradient.predictor
            example = self.example(channel, message, answered=False)  # it must not see what has come back
            if predictor is None or example is None:
                continue
            if self.frozen:
                prediction = predictor.predict(example)
            else:
                prediction, example.learned = predictor.predict_and_learn(example)
            if example.target is not None and example.valid is not None:  # no own loss, no injection
                prediction = mask_fill_zero(example.valid, prediction)
            self.predictions[message] = channel.enabled_predictions(constant(prediction))
            if example.learned is not None:
                self._learned[message] = example.learned

    def prediction_of(self, channel: Channel, message: Message) -> Tensor | None:
        """Return the synthetic gradient of one message, [rows, size] per sample; None where it cannot be evaluated."""
        self.predict([(channel, message)])
        return self.predictions.get(message)

    def forget(self, messages: Iterable[Message] | None = None) -> None:
        """Let predictions go: of some messages; None: of all."""
        for message in list(self.predictions) if messages is None else messages:
            self.predictions.pop(message, None)
            self._learned.pop(message, None)

    def example(self, channel: Channel, message: Message, *, answered: bool = True) -> Example | None:
        """The example that a message is for its channel's predictor; None where its target is absent.

        Args:
            channel: The channel.
            message: One of its messages.
            answered: Whether what has come back is in it.
        """
        own, signals = channel.gradient, message.step_signals.signals
        if own.target is not None and own.target not in signals:
            return None
        if any(spec.name not in signals for spec in own.context):
            return None  # of an aligned agent: before its first message, or known only after the step of a mixture
        if own.needs_actions and not message.actions:
            return None
        context = message.step_signals.context(own.context, self.system.dtype)
        context = None if context is None else channel.to_rows(context)
        if own.ends and self.contexts is not None:
            context = self.contexts.with_ends(context, channel, message)
        example = Example(message.sent, context, None)
        if answered and channel.ledger.wants_gradient:
            example.delta, example.loss = message.gradient, message.loss
            if example.loss is None and channel.needs_returned_loss:  # none after an episode's end
                example.loss = torch.zeros_like(message.sent[:, 0])
            example.valid = message.counted if isinstance(message.counted, Tensor) else None
        if own.needs_actions:  # what teaches nothing is no example
            example.actions = tuple(message.actions)
            example.valid = torch.stack([one.valid for one in message.actions]).any(0)
        if own.target is not None:
            target, present = signals[own.target], signals.get(f"_{own.target}")
            if present is not None:
                target, present = mask_fill_zero(present, target), channel.to_rows(present)
                example.valid = present if example.valid is None else present & example.valid
            example.target = channel.to_rows(target)
        return example

    def local_examples(self, windows: list[Window]) -> dict[str, list[Example]]:
        """Examples of predictors to which nothing is returned: they learn when their sender does."""
        found: dict[str, list[Example]] = {}
        for window in windows:
            for name, message in window.sent:
                channel = self.system.channels[name]
                own, sender = channel.gradient, self.system.agents[channel.sender]
                if (
                    own.predictor is None
                    or channel.ledger.wants_gradient
                    or own.all_disabled
                    or message.unread
                ):
                    continue
                learning = channel.of_sender(sender.participates(window.number))
                rows = mask_and(learning, mask_not(message.no_injection))
                example = None if rows is False else self.example(channel, message)
                if example is None:
                    continue
                if isinstance(rows, Tensor):
                    example.valid = rows if example.valid is None else rows & example.valid
                example.members = channel.examples_for(rows)
                learned = self._learned.pop(message, None)
                example.learned = learned if example.valid is None else None
                found.setdefault(name, []).append(example)
        return found

    def updates(
        self,
        learned: Mapping[str, PredictorUpdate],
        local: dict[str, list[Example]],
        returns: dict[str, list[Message]],
        step: int,
        *,
        watch: bool,
    ) -> dict[str, PredictorUpdate]:
        """Gather what reached each synthetic gradient at this step, with the gradients of its parameters.

        Args:
            learned: What is known of some already, by channel.
            local: Examples of the others to which nothing is returned, by channel.
            returns: Messages of states whose return over several windows is known now, by channel.
            step: The step just taken.
            watch: Whether predictions are kept for telemetry.
        """
        updates = dict(learned)
        reached: dict[str, list[Example]] = {}
        for channel in self.system.channels.values():
            predictor = channel.gradient.predictor
            messages = channel.ledger.take(step)
            if self.frozen or predictor is None or predictor.frozen or channel.gradient.all_disabled:
                continue
            examples = local.get(channel.name, [])
            if channel.traced:  # what was read waits for its return; an episode's last state need not
                messages = [message for message in messages if message.unread or message.no_injection is True]
                messages += returns.get(channel.name, [])
            if channel.ledger.wants_gradient:
                examples = [
                    e for message in messages if (e := self._returned_example(channel, message, step))
                ]
            if examples:
                reached[channel.name] = examples
        predictions: dict[str, Tensor] = {}
        if watch:  # with the running statistics of before
            learning = {name: update.examples for name, update in updates.items()} | reached
            predictions = {
                name: constant(self._predictor(name).predict(newest_returned(some)))
                for name, some in learning.items()
            }
        updates |= self._updates(reached)
        for name, update in updates.items():
            update.prediction = predictions.get(name)
        return {name: updates[name] for name in self.system.channels if name in updates}

    def _predictor(self, channel: str) -> Predictor:
        predictor = self.system.channels[channel].gradient.predictor
        assert predictor is not None
        return predictor

    def local_updates(self, window: Window) -> dict[str, PredictorUpdate]:
        """What the predictors of a window's messages to which nothing is returned learn from it, by channel."""
        if self.frozen:
            return {}
        local = self.local_examples([window])
        return self._updates({name: own for name, own in local.items() if not self._predictor(name).frozen})

    def _updates(self, reached: Mapping[str, list[Example]]) -> dict[str, PredictorUpdate]:
        return {
            name: PredictorUpdate(
                examples, *self._predictor(name).gradients(examples), members=members_of(examples)
            )
            for name, examples in reached.items()
        }

    def apply(self, updates: Iterable[tuple[str, PredictorUpdate]], step: int) -> None:
        """Take the optimiser step of each synthetic gradient, or input, of a channel."""
        steps: list[tuple[TrainedParameters, Sequence[Tensor], Members]] = []
        for name, update in updates:
            channel, inputs = self.system.channels[name], update.of_input
            model = channel.input.model if inputs else channel.gradient.predictor
            assert model is not None
            enabled = channel.input.enabled if inputs else channel.gradient.enabled
            update.members = members_and(update.members, enabled)
            steps.append((model, update.gradients, update.members))
            if not inputs:
                update.gradients = []  # as large as the predictors, and of no more use
        step_all(steps, step)

    def _returned_example(self, channel: Channel, message: Message, step: int) -> Example | None:
        """What a predictor learns from a message whose gradient has come back, with its prediction where still true."""
        if self.outliers is not None:
            self.outliers.clip(channel, message, step)
        example = self.example(channel, message)
        counted = message.counted
        if example is not None and channel.gradient.needs_actions and example.valid is not None:
            counted = example.valid
            if not bool(counted.any()):
                return None
        if example is not None:
            example.members = channel.examples_for(counted)
            example.prediction = self.predictions.get(message)
        return example


def members_of(examples: Sequence[Example]) -> Members:
    """The members that any of the examples is for."""
    masks = [example.members for example in examples if example.members is not None]
    return torch.stack(masks).any(0) if masks and len(masks) == len(examples) else None
