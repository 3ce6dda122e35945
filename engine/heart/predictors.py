"""Training of synthetic gradients and inputs, one optimiser step each on all that has come back (semantics 6)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from antiphon.comms.backward_requests import constant
from antiphon.comms.stacked import StackedModels, gradients_all, predict_all
from antiphon.comms.synthetic_gradients import Example, Learned, Predictor, newest_returned
from antiphon.engine.heart.channel import Channel
from antiphon.engine.heart.message import Record, Tape
from antiphon.engine.heart.rows import Members, mask_and, mask_fill_zero, mask_not, members_and
from antiphon.engine.heart.system import System
from antiphon.engine.heart.updates import InputUpdate, PredictorUpdate
from antiphon.nets.optimisers import Skip

if TYPE_CHECKING:
    from antiphon.engine.features.contexts import Contexts
    from antiphon.engine.features.outliers import ClippedReturns

__all__ = ["PredictorTrainer"]


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
        self.contexts: Contexts | None = None
        self.outliers: ClippedReturns | None = None

    def predict_missing(self, requested: list[tuple[Channel, Record]]) -> None:
        """Evaluate the synthetic gradients of records, which keep them while they stay true."""
        questions: list[tuple[Predictor, Example]] = []
        records: list[tuple[Channel, Record]] = []
        for channel, record in requested:
            example = self.example(
                channel, record, answered=False
            )  # a prediction must not see what has come back
            if example is not None and channel.predictor is not None:
                questions.append((channel.predictor, example))
                records.append((channel, record))
        for (channel, record), (predictor, example), prediction in zip(
            records, questions, predict_all(questions, learn=not self.frozen), strict=True
        ):
            if example.target is not None and example.valid is not None:  # no own loss, no injection
                prediction = mask_fill_zero(example.valid, prediction)
            prediction = constant(prediction)
            if channel.predictors_disabled is not None:
                prediction = channel.enabled_predictions(prediction)
            channel.ledger.keep_prediction(record, prediction, predictor.updates)
            record.learned = example.learned

    def predict(self, channel: Channel, record: Record) -> Tensor | None:
        """Return the synthetic gradient of one record, [B, size] per sample; None where it cannot be evaluated."""
        self.predict_missing([(channel, record)])
        return None if record.prediction is None else record.prediction[0]

    def example(self, channel: Channel, record: Record, *, answered: bool = True) -> Example | None:
        """The example that a record is for its channel's predictor; None where its target is absent.

        Args:
            channel: The channel.
            record: One of its records.
            answered: Whether what has come back is in it.
        """
        if channel.target is not None and channel.target not in record.step_signals.signals:
            return None
        if any(spec.name not in record.step_signals.signals for spec in channel.context):
            return None  # of an aligned agent: before its first message, or known only after the step of a mixture
        if channel.needs_actions and not record.actions:
            return None
        context = record.step_signals.context(channel.context, self.system.dtype)
        if context is not None:
            context = channel.replicas.to_rows(context)
        if channel.ends and self.contexts is not None:
            context = self.contexts.with_ends(context, channel, record)
        example = Example(record.message, context, None)
        if channel.needs_actions:
            example.actions = tuple(record.actions)
        valid: Tensor | None = None
        if answered and channel.ledger.wants_deltas:
            example.delta, example.loss = record.delta, record.loss
            if (
                channel.needs_returned_loss and example.loss is None
            ):  # after an episode's end there is no loss
                example.loss = torch.zeros_like(record.message[:, 0])
            valid = example.valid = record.counted if isinstance(record.counted, Tensor) else None
            if channel.needs_actions:  # what teaches nothing is no example
                valid = example.valid = torch.stack([one.valid for one in record.actions]).any(0)
        if channel.target is not None:
            target = record.step_signals.signals[channel.target]
            present = record.step_signals.signals.get(f"_{channel.target}")
            if present is not None:
                target, present = mask_fill_zero(present, target), channel.to_rows(present)
                example.valid = present if valid is None else present & valid
            example.target = channel.to_rows(target)
        return example

    def local_examples(self, tapes: list[Tape]) -> dict[str, list[Example]]:
        """Examples of predictors to which nothing is returned: they learn when their sender does."""
        found: dict[str, list[Example]] = {}
        for tape in tapes:
            for name, record in tape.sent:
                channel = self.system.channels[name]
                if channel.predictor is None or channel.ledger.wants_deltas or channel.predictor_disabled:
                    continue
                participates = channel.of_sender(self.system.agents[channel.sender].participates(tape.window))
                if participates is False:
                    continue
                example = (
                    None if record.unread or record.no_injection is True else self.example(channel, record)
                )
                if example is not None:
                    rows = mask_and(participates, mask_not(record.no_injection))
                    if isinstance(rows, Tensor):
                        example.valid = rows if example.valid is None else rows & example.valid
                    if channel.stacked:
                        example.members = channel.examples_for(rows)
                    example.learned = self._learned(record, example, channel.predictor.updates)
                    found.setdefault(name, []).append(example)
        return found

    @staticmethod
    def _learned(record: Record, example: Example, updates: int) -> Learned | None:
        """Take what training on all rows of a record gives, where it has been computed with these parameters."""
        learned, record.learned = record.learned, None
        present = record.prediction is not None and record.prediction[1] == updates
        return learned if present and example.valid is None else None

    def gradients(
        self,
        local: dict[str, list[Example]],
        returns: dict[str, list[Record]],
        step: int,
        *,
        watch: bool,
        known: Mapping[str, PredictorUpdate] | None = None,
    ) -> dict[str, PredictorUpdate]:
        """Gather what reached each synthetic gradient at this step, with the gradients of its parameters.

        Args:
            local: Examples of those to which nothing is returned, by channel.
            returns: Records of states whose return over several windows is known now, by channel.
            step: The step just taken.
            watch: Whether predictions are kept for telemetry.
            known: Of those that have learned at the tick (`local_updates`).
        """
        updates = dict(known or {})
        reached: dict[str, tuple[Predictor, list[Example]]] = {}
        for channel in self.system.channels.values():
            predictor = channel.predictor
            records = channel.ledger.take(step)
            if self.frozen or predictor is None or predictor.frozen or channel.predictor_disabled:
                continue
            examples = local.get(channel.name, [])
            if channel.traced:  # what was consumed waits for its return; an episode's last state need not
                records = [record for record in records if record.unread or record.no_injection is True]
                records += returns.get(channel.name, [])
            if channel.ledger.wants_deltas:
                examples = [e for record in records if (e := self._returned_example(channel, record, step))]
            if examples:
                reached[channel.name] = predictor, examples
        predictions: list[Tensor] = []
        if watch:  # with the running statistics of before
            known_too = [
                (some, update) for name, update in updates.items() if (some := self._predictor(name))
            ]
            newest = [(predictor, newest_returned(update.examples)) for predictor, update in known_too]
            newest += [(predictor, newest_returned(examples)) for predictor, examples in reached.values()]
            predictions = list(map(constant, predict_all(newest)))
        updates |= self._updates(reached)
        for update, prediction in zip(updates.values(), predictions, strict=False):
            update.prediction = prediction
        return {name: updates[name] for name in self.system.channels if name in updates}

    def _predictor(self, channel: str) -> Predictor | None:
        return self.system.channels[channel].predictor

    def local_updates(self, tape: Tape) -> dict[str, PredictorUpdate]:
        """What the predictors of a window's messages to which nothing is returned learn from it, by channel."""
        if self.frozen:
            return {}
        reached = {
            name: (predictor, examples)
            for name, examples in self.local_examples([tape]).items()
            if (predictor := self._predictor(name)) is not None and not predictor.frozen
        }
        return self._updates(reached)

    def _updates(self, reached: Mapping[str, tuple[Predictor, list[Example]]]) -> dict[str, PredictorUpdate]:
        learned = gradients_all(list(reached.values()))
        updates = {
            name: PredictorUpdate(examples, loss, gradients, None)
            for (name, (_, examples)), (loss, gradients) in zip(reached.items(), learned, strict=True)
        }
        for name, update in updates.items():
            if (channel := self.system.channels[name]).stacked:
                members = _union([example.members for example in update.examples], len(channel.members))
                update.members = members_and(members, channel.predictors_enabled)
        return updates

    def input_gradients(self, step: int) -> dict[str, InputUpdate]:
        """Gather what each synthetic input learns from at this step, with the gradients of its parameters."""
        found: dict[str, InputUpdate] = {}
        for name, channel in self.system.channels.items():
            examples, members = channel.input_examples, channel.input_example_members
            channel.input_examples, channel.input_example_members = [], []
            model = channel.input
            if self.frozen or model is None or model.frozen or not examples or channel.input_model_disabled:
                continue
            if isinstance(model, StackedModels):
                of = _union(members, len(channel.members))
                found[name] = InputUpdate(*model.input_gradients(examples, members), of)
            else:
                found[name] = InputUpdate(*model.gradients(examples))
        return found

    def apply(
        self, updates: Mapping[str, PredictorUpdate | InputUpdate], step: int, skip: Skip | None
    ) -> None:
        """Take the optimiser step of each synthetic gradient, or input.

        Args:
            updates: By channel.
            step: The step just taken.
            skip: Whether no step is taken, known on the device alone; None: all are.
        """
        for name, update in updates.items():
            channel, inputs = self.system.channels[name], isinstance(update, InputUpdate)
            model = channel.input if inputs else channel.predictor
            assert model is not None
            if isinstance(model, StackedModels):
                enabled = channel.input_models_enabled if inputs else channel.predictors_enabled
                update.members = members_and(update.members, enabled)
                model.step(update.gradients, step, update.members, skip=skip)
                if not inputs:
                    update.gradients = []  # as large as the predictors, and of no more use
            else:
                model.step(update.gradients, step, skip=skip)

    def _returned_example(self, channel: Channel, record: Record, step: int) -> Example | None:
        """What a predictor learns from a record whose gradient has come back, with its prediction where still true."""
        if self.outliers is not None:
            self.outliers.clip(channel, record, step)
        example = self.example(channel, record)
        predictor = channel.predictor
        counted = record.counted
        if example is not None and channel.needs_actions and example.valid is not None:
            counted = example.valid
            if not bool(counted.any()):
                return None
        if example is not None and channel.stacked:
            example.members = channel.examples_for(counted)
        if example is not None and predictor is not None and record.prediction is not None:
            prediction, updates = record.prediction
            if updates == predictor.updates:
                example.prediction = prediction
        return example


def _union(examples: Sequence[Members], count: int) -> Members:
    """The members that any of the examples is for."""
    found: Members = torch.zeros(count, dtype=torch.bool)
    for members in examples:
        found = None if found is None or members is None else found | members
    return found
