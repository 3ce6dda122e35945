"""Teaching: predictors learn from what has come back, each by one step on all that reached it (semantics 6)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from antiphon.comms.cut import constant
from antiphon.comms.outliers import Outliers
from antiphon.comms.predictors import Example, Predictor
from antiphon.comms.stacked import gradients_all, predict_all
from antiphon.engine.core.ledger import Record
from antiphon.engine.core.parts import Channel
from antiphon.engine.core.signals import mask_and, mask_fill_zero, mask_not
from antiphon.engine.core.system import System
from antiphon.engine.core.tape import Tape
from antiphon.engine.step.contexts import Contexts
from antiphon.nets.optimisers import step_all

__all__ = ["Heard", "PredictorTrainer", "PredictorUpdate"]

Heard = tuple[Tensor, list[Tensor]]
"""The loss of a synthetic input on what came at a step, and the gradients of its parameters."""


@dataclass(slots=True)
class PredictorUpdate:
    """What a predictor learned from at one step."""

    examples: list[Example]
    loss: Tensor
    """Summed over the examples, before the update."""
    gradients: list[Tensor]
    """Of the predictor's trainable parameters."""
    prediction: Tensor | None
    """What it said of the newest example before the update; None unless asked for."""


class PredictorTrainer:
    """Asks and teaches the predictors of a system.

    Args:
        system: The channels.
    """

    def __init__(self, system: System) -> None:
        self.system = system
        self.contexts = Contexts(system)

    def predict_missing(self, asked: list[tuple[Channel, Record]]) -> None:
        """Ask predictors for the synthetic gradients of records, which remember them while they stay true."""
        questions: list[tuple[Predictor, Example]] = []
        records: list[tuple[Channel, Record]] = []
        for channel, record in asked:
            example = self.example(channel, record, answered=False)  # nobody predicts with the answer at hand
            if example is not None and channel.predictor is not None:
                questions.append((channel.predictor, example))
                records.append((channel, record))
        for (channel, record), (predictor, example), said in zip(
            records, questions, predict_all(questions), strict=True
        ):
            if example.target is not None and example.valid is not None:  # no own loss, no injection
                said = mask_fill_zero(example.valid, said)
            record.prediction = (channel.enabled_predictions(constant(said)), predictor.updates)

    def predict(self, channel: Channel, record: Record) -> Tensor | None:
        """Return the synthetic gradient of one record, [B, size] per sample; None where nothing can be said."""
        self.predict_missing([(channel, record)])
        return None if record.prediction is None else record.prediction[0]

    def example(self, channel: Channel, record: Record, *, answered: bool = True) -> Example | None:
        """What a channel's predictor can say or learn of a record; None where its target is absent.

        Args:
            channel: The channel.
            record: One of its records.
            answered: Whether what has come back is in it.
        """
        if channel.target is not None and channel.target not in record.step_signals.signals:
            return None
        if not record.step_signals.signals and channel.context:
            return None
        context = self.contexts.of_gradient(channel, record)
        example = Example(record.message, context, None)
        valid: Tensor | None = None
        if answered and channel.ledger.returns:
            example.delta, example.loss = record.delta, record.loss
            if (
                channel.needs_returned_loss and example.loss is None
            ):  # after an episode's end nothing is lost any more
                example.loss = torch.zeros_like(record.message[:, 0])
            valid = example.valid = record.counted if isinstance(record.counted, Tensor) else None
        if channel.target is not None:
            target = record.step_signals.signals[channel.target]
            present = record.step_signals.signals.get(f"_{channel.target}")
            if present is not None:
                target, present = mask_fill_zero(present, target), channel.spread(present)
                example.valid = present if valid is None else present & valid
            example.target = channel.spread(target)
        return example

    def local_examples(self, tapes: list[Tape]) -> dict[str, list[Example]]:
        """Examples of predictors to which nothing is returned: they learn when their sender does."""
        predictor_updates: dict[str, list[Example]] = {}
        for tape in tapes:
            for name, record in tape.sent:
                channel = self.system.channels[name]
                if channel.predictor is None or channel.ledger.returns or channel.predictor_disabled:
                    continue
                participates = channel.of_sender(self.system.agents[channel.sender].participates(tape.window))
                if participates is False:
                    continue
                example = (
                    None if record.unread or record.no_injection is True else self.example(channel, record)
                )
                if example is not None:
                    heard = mask_and(participates, mask_not(record.no_injection))
                    if isinstance(heard, Tensor):
                        example.valid = heard if example.valid is None else heard & example.valid
                    example.members = channel.heard_of(heard)
                    predictor_updates.setdefault(name, []).append(example)
        return predictor_updates

    def prepare(
        self,
        predictor_updates: dict[str, list[Example]],
        returns: dict[str, list[Record]],
        step: int,
        *,
        watch: bool,
    ) -> dict[str, PredictorUpdate]:
        """Gather what reached each predictor at this step, with the gradients it will follow.

        Args:
            lessons: Of predictors to which nothing is returned, by channel.
            returns: Records of states whose return over several windows is known now, by channel.
            step: The step just taken.
            watch: Whether predictions are kept for telemetry.

        Raises:
            DivergenceError: A predictor's loss is not finite.
        """
        reached: dict[str, tuple[Predictor, list[Example]]] = {}
        for channel in self.system.channels.values():
            predictor = channel.predictor
            records = channel.ledger.take(step)
            if predictor is None or channel.predictor_disabled:
                continue
            examples = predictor_updates.get(channel.name, [])
            if channel.traced:  # what was consumed waits for its return; an episode's last state need not
                records = [record for record in records if record.unread or record.no_injection is True]
                records += returns.get(channel.name, [])
            if channel.ledger.returns:
                examples = [example for record in records if (example := self._lesson(channel, record, step))]
            if examples:
                reached[channel.name] = predictor, examples
        said: list[Tensor | None] = [None] * len(reached)
        if watch:
            newest = [(predictor, examples[-1]) for predictor, examples in reached.values()]
            said = [constant(prediction) for prediction in predict_all(newest)]
        learned = self._learned(list(reached.values()))
        prepared = {
            name: PredictorUpdate(examples, loss, gradients, prediction)
            for (name, (_, examples)), (loss, gradients), prediction in zip(
                reached.items(), learned, said, strict=True
            )
        }
        self._check(prepared, step)
        return prepared

    def _learned(
        self, asked: Sequence[tuple[Predictor, Sequence[Example]]]
    ) -> list[tuple[Tensor, list[Tensor]]]:
        """Each predictor's loss, and the gradients of its parameters, in order."""
        return gradients_all(asked)

    def _check(self, prepared: dict[str, PredictorUpdate], step: int) -> None:
        """Stop at, or mute, what is not finite or longer than the bound.

        Raises:
            DivergenceError: A predictor has diverged, and the scenario says stop.
        """
        diverged = self.system.divergence.of(
            {name: lesson.gradients for name, lesson in prepared.items()},
            {name: [lesson.loss] for name, lesson in prepared.items()},
        )
        for name, what in diverged.items():
            self._mute(self.system.channels[name], what, step)
            del prepared[name]

    def _mute(self, channel: Channel, what: str, step: int) -> None:
        self.system.divergence.report(
            step,
            f"agent '{channel.sender}': the loss of the synthetic gradient of its channel {channel.name} at step {step} "
            f"{what}; lower its learning rate, or that of its synthetic gradients",
        )
        channel.predictor_disabled = True

    def prepare_inputs(self, step: int) -> dict[str, Heard]:
        """Gather what each synthetic input heard at this step, with the gradients it will follow.

        Raises:
            DivergenceError: One has diverged, and the scenario says stop.
        """
        found: dict[str, Heard] = {}
        for name, channel in self.system.channels.items():
            if channel.input is not None and channel.heard and not channel.input_model_disabled:
                found[name] = channel.input.gradients(channel.heard)
            channel.heard = []
        diverged = self.system.divergence.of(
            {name: gradients for name, (_, gradients) in found.items()},
            {name: [loss] for name, (loss, _) in found.items()},
        )
        for name, what in diverged.items():
            self._deafen(self.system.channels[name], what, step)
            del found[name]
        return found

    def _deafen(self, channel: Channel, what: str, step: int) -> None:
        self.system.divergence.report(
            step,
            f"agent '{channel.receiver}': the loss of the synthetic input of its channel {channel.name} at step {step} "
            f"{what}; lower the learning rate of the synthetic input",
        )
        channel.input_model_disabled = True

    def teach_inputs(self, heard: dict[str, Heard], step: int) -> None:
        """Let each synthetic input take its step."""
        plans = []
        for name, (_, gradients) in heard.items():
            model = self.system.channels[name].input
            assert model is not None
            plans.append(model.planned(gradients, step))
        step_all(plans)

    def teach(self, predictor_updates: dict[str, PredictorUpdate], step: int) -> None:
        """Let each predictor take its step."""
        plans = []
        for name, lesson in predictor_updates.items():
            predictor = self.system.channels[name].predictor
            assert predictor is not None
            plans.append(predictor.planned(lesson.gradients, step))
        step_all(plans)

    def _lesson(self, channel: Channel, record: Record, step: int) -> Example | None:
        """What a predictor learns from a record that has come back, with its prediction where still true."""
        if channel.outliers is not None and record.delta is not None:
            self._shorten(channel, channel.outliers, record, step)
        example = self.example(channel, record)
        predictor = channel.predictor
        if example is not None:
            example.members = channel.heard_of(record.counted)
        if example is not None and predictor is not None and record.prediction is not None:
            prediction, updates = record.prediction
            if updates == predictor.updates:
                example.prediction = prediction
        return example

    def _shorten(self, channel: Channel, outliers: Outliers, record: Record, step: int) -> None:
        """Shorten what came back for a state where it is out of all proportion, and say so the first time."""
        assert record.delta is not None
        before = outliers.clip_count
        record.delta = outliers.shortened(record.delta)
        if outliers.clip_count and not before:
            self._say_shortened(channel, step)

    def _say_shortened(self, channel: Channel, step: int) -> None:
        line = (
            f"channel {channel.name}: a gradient came back more than ten times as long as the median; it is "
            "shortened, as all such will be"
        )
        self.system.divergence.note(step, line)
